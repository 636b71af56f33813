//! What a node is told: made on a snapshot, sent only when it differs from what the node has.

use crate::{
    api::pins,
    state::{Core, Snapshot},
};
use lattice_model::{NodeId, SealedGoal};
use lattice_planner::goal::goal_for;

/// The node's goal, or nothing where it may not be told anything; `Err` is the size in bytes of one
/// that no agent takes.
///
/// The same content has the same bytes, since every map in it is ordered: so an unchanged goal is
/// known by its hash, whatever revision it was made at.
pub(crate) fn seal(core: &Core, snapshot: &Snapshot, node: NodeId) -> Option<Result<SealedGoal, usize>> {
    let mut goal = goal_for(&snapshot.cluster, node, &|project, name| core.secret(snapshot, project, name))?;
    // A login reaches the nodes that fetch by it, and no others.
    for allocation in goal.allocations.values_mut() {
        if allocation.spec.uploaded_image().is_none() {
            let project = &allocation.workload.project;
            allocation.registry = pins::login(core, snapshot, project, &allocation.spec.image);
        }
    }
    let sealed = SealedGoal::seal(core.goal_id(snapshot), &goal);
    let bytes = sealed.body().len();
    Some(if bytes > SealedGoal::MAX_BYTES { Err(bytes) } else { Ok(sealed) })
}
