//! From the snapshot to what one node is told.

use crate::cluster::{Cluster, Row};
use lattice_model::{
    Goal, GoalAllocation, GoalNetwork, GoalVolume, NodeId, ProjectName, SecretName,
    goal::{DesiredState, SecretValue},
    resource::{Allocation, Approval, Intent, Pool, Volume},
    spec::{GpuCount, GpuRequest, Rendezvous, UpdatePolicy, UpdateStrategy, WorkloadSpec},
};
use std::sync::Arc;

/// Whether a node may be told values of secrets of a project: it is approved, and its pool is trusted
/// and for that project. Nothing is placed elsewhere in the first place; this holds also where a pool
/// changes, or a plan was wrong.
pub fn may_have_secrets(approval: Approval, pool: Option<&Pool>, project: &ProjectName) -> bool {
    approval == Approval::Approved && pool.is_some_and(|pool| pool.trusted && pool.takes(project))
}

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

/// What to run, with what is this replica's own: its GPUs, and how it finds the others. What people set themselves
/// stays.
fn spec_of(row: &Allocation) -> Arc<WorkloadSpec> {
    let WorkloadSpec { rendezvous, array, schedule, placement, update, pool, resources, .. } = &*row.spec;
    let (told, pool_told) = (placement.for_agents(), pool.for_agents());
    let plain = rendezvous.is_none()
        && array.is_none()
        && schedule.is_none()
        && *placement == told
        && *pool == pool_told
        && *resources == resources.for_agents()
        && row.spec.gpus.as_ref().is_none_or(|gpus| gpus.share.is_none())
        && update.strategy.is_rolling()
        && update.deadline.is_none();
    if row.gpus.is_empty() && plain {
        return Arc::clone(&row.spec);
    }
    let mut spec = (*row.spec).clone();
    // How versions follow each other and what moves is the planner's alone; an agent that is older knows no word of it.
    (spec.placement, spec.pool) = (told, pool_told);
    spec.resources = spec.resources.for_agents();
    let share = spec.gpus.as_mut().and_then(|request| request.share.take());
    spec.update = UpdatePolicy { strategy: UpdateStrategy::Rolling, deadline: None, ..spec.update };
    spec.rollback = spec.rollback.map(|back| UpdatePolicy { deadline: None, ..back });
    let array = spec.array.take();
    spec.schedule = None;
    let count = u32::try_from(row.gpus.len()).unwrap_or(u32::MAX);
    if let Some(request) = &mut spec.gpus {
        request.count = GpuCount::Exactly(count);
        request.ids.clone_from(&row.gpus);
        (request.model, request.memory) = (None, None);
    }
    let mut tell = |name: &str, value: String| {
        spec.environment.entry(name.to_owned()).or_insert(value);
    };
    if !row.gpus.is_empty() {
        tell("LATTICE_LOCAL_GPUS", count.to_string());
        if let Some(share) = share {
            tell("LATTICE_GPU_SHARE", (f64::from(share) / f64::from(GpuRequest::WHOLE)).to_string());
        }
    }
    if array.is_some() {
        let (index, all) = (row.slot.saturating_sub(1).to_string(), row.spec.replicas.to_string());
        // The second is Kubernetes' name.
        for name in ["LATTICE_TASK_INDEX", "JOB_COMPLETION_INDEX"] {
            tell(name, index.clone());
        }
        tell("LATTICE_TASK_COUNT", all);
    }
    if let Some(Rendezvous { port }) = row.spec.rendezvous {
        let (rank, world) = (row.slot.saturating_sub(1).to_string(), row.world.to_string());
        // The alias of the first replica on the networks of the workload.
        let first = format!("{}-1", row.workload.workload);
        for name in ["LATTICE_RANK", "RANK", "NODE_RANK", "PET_NODE_RANK"] {
            tell(name, rank.clone());
        }
        for name in ["LATTICE_WORLD_SIZE", "WORLD_SIZE", "PET_NNODES"] {
            tell(name, world.clone());
        }
        for name in ["MASTER_ADDR", "PET_MASTER_ADDR"] {
            tell(name, first.clone());
        }
        for name in ["MASTER_PORT", "PET_MASTER_PORT"] {
            tell(name, port.to_string());
        }
        tell("PET_NPROC_PER_NODE", count.max(1).to_string());
    }
    Arc::new(spec)
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
        spec: spec_of(row),
        volumes: Default::default(),
        networks: Default::default(),
        secrets: Default::default(),
        registry: None,
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
    let trusted = cluster.nodes.get(&row.node).is_some_and(|node| {
        let pool = cluster.pools.get(&node.pool).map(|row| &*row.value);
        may_have_secrets(node.approval, pool, &row.workload.project)
    });
    for mount in row.spec.secrets.iter().filter(|_| trusted) {
        if let Some(value) = secret(&row.workload.project, &mount.secret) {
            allocation.secrets.insert(mount.secret.clone(), value);
        }
    }
    allocation
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lattice_model::Timestamp;

    #[test]
    fn secrets_go_to_approved_nodes_of_trusted_pools_that_take_the_project() {
        let (shop, lab): (ProjectName, ProjectName) = ("shop".parse().unwrap(), "lab".parse().unwrap());
        let trusted = Pool::default_pool(Timestamp(0));
        let narrow = Pool { projects: Some([lab.clone()].into()), ..trusted.clone() };
        let open = Pool { trusted: false, ..trusted.clone() };
        let may = |approval, pool, project| may_have_secrets(approval, pool, project);
        assert!(may(Approval::Approved, Some(&trusted), &shop) && !may(Approval::Approved, None, &shop));
        assert!(
            may(Approval::Approved, Some(&narrow), &lab) && !may(Approval::Approved, Some(&narrow), &shop)
        );
        assert!(!may(Approval::Approved, Some(&open), &shop));
        for approval in [Approval::Pending, Approval::Rejected, Approval::Revoked, Approval::Quarantined] {
            assert!(!may(approval, Some(&trusted), &shop));
        }
    }
}
