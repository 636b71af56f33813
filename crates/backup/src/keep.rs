//! Which backups are kept: a decision over labels.

use crate::Label;
use lattice_model::ClusterId;

/// The names of those that go when the newest `keep` of a cluster stay, oldest first. Other clusters'
/// are nobody's business here.
pub fn surplus(labels: &[Label], cluster: ClusterId, keep: usize) -> Vec<String> {
    let mut own: Vec<&Label> = labels.iter().filter(|label| label.header.cluster_id == cluster).collect();
    own.sort_by_key(|label| (label.header.created_at, &label.name));
    let go = own.len().saturating_sub(keep.max(1));
    own.into_iter().take(go).map(|label| label.name.clone()).collect()
}
