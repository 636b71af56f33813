//! What a node is told: made on a snapshot, sent only when it differs from what the node has.

use crate::state::{Core, Snapshot};
use lattice_model::{NodeId, SealedGoal};
use lattice_planner::goal::goal_for;

/// The node's goal, or nothing where it may not be told anything.
///
/// The same content has the same bytes, since every map in it is ordered: so an unchanged goal is
/// known by its hash, whatever revision it was made at.
pub(crate) fn seal(core: &Core, snapshot: &Snapshot, node: NodeId) -> Option<SealedGoal> {
    let goal = goal_for(&snapshot.cluster, node, &|project, name| core.secret(snapshot, project, name))?;
    let sealed = SealedGoal::seal(core.goal_id(snapshot), &goal);
    if sealed.body().len() > SealedGoal::MAX_BYTES {
        // The agent would refuse it; what it has stays.
        tracing::error!(%node, bytes = sealed.body().len(), "the goal of a node is too large to be sent");
        return None;
    }
    Some(sealed)
}
