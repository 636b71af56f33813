//! From the snapshot to what one node is told.

use crate::cluster::{Cluster, Row};
use lattice_model::{
    Goal, GoalAllocation, GoalNetwork, GoalVolume, NodeId, ProjectName, SecretName,
    goal::{DesiredState, SecretValue},
    resource::{Allocation, Approval, Intent, Volume},
};

/// The whole desired state of `node`, or nothing where it may not be told anything: it is not
/// approved, or two machines claim to be it.
///
/// `secret` looks up the present value of a secret; a missing one is left out, and the node
/// reports that the allocation waits for it.
pub fn goal_for(
    cluster: &Cluster,
    node: NodeId,
    secret: &dyn Fn(&ProjectName, &SecretName) -> Option<SecretValue>,
) -> Option<Goal> {
    let approved = cluster.nodes.get(&node).is_some_and(|row| row.approval == Approval::Approved);
    if !approved {
        return None;
    }
    let mut goal = Goal::default();
    for row in cluster.allocations_on(node) {
        let desired = match row.intent {
            Intent::Run => DesiredState::Run,
            Intent::Stop => DesiredState::Stop,
            Intent::Remove => {
                goal.remove.insert(row.id);
                continue;
            }
        };
        let allocation = with_surroundings(cluster, row, desired, secret, &mut goal);
        goal.allocations.insert(row.id, allocation);
    }
    // Also where nothing uses them: somebody waits to hear that they are gone, or here again.
    let awaited = |row: &&Row<Volume>| row.node == Some(node) && (row.deleting || row.missing);
    for row in cluster.volumes.values().filter(awaited) {
        goal.volumes.insert(row.id, goal_volume(row));
    }
    Some(goal)
}

fn goal_volume(volume: &Volume) -> GoalVolume {
    let Volume { id: _, key, node: _, exists, epoch, missing, deleting, created_at: _ } = volume;
    let (exists, epoch, missing, delete) = (*exists, *epoch, *missing, *deleting);
    GoalVolume { key: key.clone(), exists, epoch, delete, missing }
}

fn with_surroundings(
    cluster: &Cluster,
    row: &Allocation,
    desired: DesiredState,
    secret: &dyn Fn(&ProjectName, &SecretName) -> Option<SecretValue>,
    goal: &mut Goal,
) -> GoalAllocation {
    let stack_key = row.workload.stack_key();
    let mut allocation = GoalAllocation {
        workload: row.workload.clone(),
        slot: row.slot,
        desired,
        restart: row.restart,
        replaces: row.replaces,
        spec: row.spec.clone(),
        volumes: Default::default(),
        networks: Default::default(),
        secrets: Default::default(),
    };
    for mount in &row.spec.mounts {
        let Some(volume) = cluster.volumes.get(&stack_key.volume(mount.volume.clone())) else { continue };
        allocation.volumes.insert(mount.volume.clone(), volume.id);
        goal.volumes.insert(volume.id, goal_volume(volume));
    }
    if let Some(stack) = cluster.stacks.get(&stack_key) {
        for name in row.spec.networks.keys() {
            let Some(network) = stack.networks.get(name) else { continue };
            allocation.networks.insert(name.clone(), network.id);
            let (stack, name, spec) = (stack_key.clone(), name.clone(), network.spec.clone());
            goal.networks.insert(network.id, GoalNetwork { stack, name, spec });
        }
    }
    for mount in &row.spec.secrets {
        if let Some(value) = secret(&row.workload.project, &mount.secret) {
            allocation.secrets.insert(mount.secret.clone(), value);
        }
    }
    allocation
}
