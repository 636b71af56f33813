//! From the snapshot to what one node is told.

use crate::cluster::Cluster;
use lattice_model::{
    Goal, GoalAllocation, GoalNetwork, GoalVolume, NodeId, ProjectName, SecretName,
    goal::{DesiredState, SecretValue},
    resource::{Allocation, Approval, Intent},
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
    for row in cluster.volumes.values().filter(|row| row.deleting && row.node == Some(node)) {
        let (exists, epoch) = (row.exists, row.epoch);
        goal.volumes.insert(row.id, GoalVolume { key: row.key.clone(), exists, epoch, delete: true });
    }
    Some(goal)
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
        let (key, exists, epoch) = (volume.key.clone(), volume.exists, volume.epoch);
        goal.volumes.insert(volume.id, GoalVolume { key, exists, epoch, delete: volume.deleting });
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
