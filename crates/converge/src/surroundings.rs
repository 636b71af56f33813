//! What allocations need around them: networks and volumes.

use crate::{
    reconciler::Reconciler,
    words::{Admission, Effect, Operation},
};
use lattice_model::{
    Goal, Timestamp, VolumeId,
    container::{LABEL_NETWORK, LABEL_NODE, LABEL_PROJECT, LABEL_STACK, LABEL_VOLUME},
    report::ReportKind,
};

impl Reconciler {
    /// Networks and volumes that the goal names.
    pub(crate) fn surroundings(&mut self, goal: &Goal, now: Timestamp, effects: &mut Vec<Effect>) {
        // While the owner lets nothing begin, nothing is made for it either.
        let begins = self.admission == Admission::Open;
        // An engine whose disk is full forgets half of what it was making, and keeps the other half for good.
        let room = self.pressure.disk.is_none();
        for (id, network) in &goal.networks {
            if self.view.as_ref().is_some_and(|view| view.networks.contains_key(id)) || !begins || !room {
                continue;
            }
            let mut labels = network.spec.labels.clone();
            labels.extend(self.labels(LABEL_NETWORK, id.to_string(), &network.stack));
            let (name, internal) = (network.engine_name(*id), network.spec.internal);
            self.launch(Operation::CreateNetwork { name, internal, labels }, now, effects);
        }
        for (id, volume) in &goal.volumes {
            let here = self.view.as_ref().is_some_and(|view| view.volumes.contains_key(id));
            match (volume.delete, here, volume.exists) {
                (true, true, _) => {
                    if !self.leftovers(goal) {
                        self.launch(Operation::RemoveVolume { name: volume.engine_name(*id) }, now, effects);
                    }
                }
                (true, false, _) => self.tell_volume(*id, ReportKind::VolumeDeleted { id: *id }, effects),
                // The server takes it in before it can take it for missing.
                (false, true, false) => {
                    self.tell_volume(*id, ReportKind::VolumeCreated { id: *id }, effects);
                }
                (false, false, exists) if exists || self.was_here(*id) => {
                    self.tell_volume(*id, ReportKind::VolumeMissing { id: *id }, effects)
                }
                (false, false, _) if !begins || !room => {}
                (false, false, _) => {
                    let labels = self.labels(LABEL_VOLUME, id.to_string(), &volume.key.stack_key()).into();
                    self.launch(
                        Operation::CreateVolume { name: volume.engine_name(*id), labels },
                        now,
                        effects,
                    );
                }
                (false, true, true) => {
                    let missed = ReportKind::VolumeMissing { id: *id };
                    if volume.missing || self.told_volumes.get(id) == Some(&missed) {
                        self.tell_volume(*id, ReportKind::VolumeFound { id: *id }, effects);
                    }
                }
            }
        }
    }

    fn labels(&self, label: &str, id: String, stack: &lattice_model::StackKey) -> [(String, String); 4] {
        [
            (label.to_owned(), id),
            (LABEL_NODE.to_owned(), self.node.to_string()),
            (LABEL_STACK.to_owned(), stack.to_string()),
            (LABEL_PROJECT.to_owned(), stack.project.to_string()),
        ]
    }

    fn tell_volume(&mut self, id: VolumeId, kind: ReportKind, effects: &mut Vec<Effect>) {
        if self.told_volumes.get(&id) != Some(&kind) {
            self.told_volumes.insert(id, kind.clone());
            effects.push(Effect::Report(kind));
        }
    }

    /// Whether containers are still here that the goal no longer has.
    fn leftovers(&self, goal: &Goal) -> bool {
        self.view
            .as_ref()
            .is_some_and(|view| view.containers.keys().any(|id| !goal.allocations.contains_key(id)))
            || self
                .under_way
                .values()
                .filter_map(Operation::allocation)
                .any(|id| !goal.allocations.contains_key(&id))
    }
}
