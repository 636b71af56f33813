//! Which values of secrets an allocation has.

use crate::{
    reconciler::Reconciler,
    words::{Operation, SecretFile},
};

impl Reconciler {
    /// What an operation wrote is what the allocation has, if it is still what is wanted.
    pub(crate) fn note_secrets(&mut self, operation: &Operation) {
        let (id, files) = match operation {
            Operation::Create { allocation, files, .. }
            | Operation::Start { allocation, files, .. }
            | Operation::WriteSecrets { allocation, files } => (*allocation, files),
            _ => return,
        };
        let Some(wanted) = self.goal.as_ref().and_then(|(_, goal)| goal.allocations.get(&id)) else { return };
        let has = |(mount, file): (&lattice_model::spec::SecretMount, &SecretFile)| {
            wanted.secrets.get(&mount.secret) == Some(&file.value)
        };
        let all = wanted.spec.secrets.len() == files.len() && wanted.spec.secrets.iter().zip(files).all(has);
        if let Some(tracked) = self.tracked.get_mut(&id) {
            tracked.written = all.then(|| wanted.secrets.clone());
        }
    }
}
