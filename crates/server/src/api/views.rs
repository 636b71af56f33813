//! Rows and what only the present knows, as the API shows them.

use crate::state::{Core, Snapshot};
use lattice_api::{
    AllocationView, Evidence, NodeLive, NodeView, PendingSlot, Reserved, StackView, VolumeView,
    WorkloadState, WorkloadView,
};
use lattice_model::{
    NodeName, StackKey, WorkloadKey,
    report::{AllocationState, AllocationStatus, Health},
    resource::{Allocation, Approval, Intent, Node, PresenceState, Stack, Volume, Workload},
    unit::{Bytes, Cpu},
};

/// A node.
pub(crate) fn node(core: &Core, snapshot: &Snapshot, node: &Node) -> NodeView {
    let mut reserved = Reserved::default();
    let mut allocations = 0;
    for allocation in snapshot.cluster.allocations_on(node.id) {
        allocations += 1;
        if allocation.intent != Intent::Remove {
            let (cpu, memory) = allocation.spec.resources.reserved();
            reserved.cpu = Cpu(reserved.cpu.0.saturating_add(cpu.0));
            reserved.memory = Bytes(reserved.memory.0.saturating_add(memory.0));
        }
    }
    let identity = snapshot.identities.get(&node.id);
    let live = NodeLive {
        presence: None,
        reserved,
        load: core.live.loads.lock().get(&node.id).copied(),
        allocations,
        evidence: identity.map_or_else(Evidence::default, |row| Evidence {
            key_fingerprint: row.fingerprint.clone(),
            address: row.address.clone(),
            token_id: row.token,
        }),
        certificate_expires_at: identity.and_then(|row| row.certificate_expires_at),
        reason: identity.and_then(|row| row.reason.clone()),
        clone_warning: identity.and_then(|row| row.clone_warning.clone()),
    };
    NodeView::of(node, live)
}

/// An allocation. What its node reported last is shown as long as the node is heard of.
pub(crate) fn allocation(snapshot: &Snapshot, allocation: &Allocation) -> AllocationView {
    let row = snapshot.cluster.nodes.get(&allocation.node);
    let name = row.map(|row| row.name.clone()).or_else(|| NodeName::new(allocation.node.short()).ok());
    let name = name.unwrap_or_else(|| unreachable!("hexadecimal digits are a name"));
    let mut view = AllocationView::of(allocation, name.clone());
    let heard = row.is_some_and(|row| {
        row.approval == Approval::Approved && row.presence.state == PresenceState::Connected
    });
    // What has ended stays ended, whoever is away.
    let ended = matches!(
        allocation.status.state,
        AllocationState::Stopped
            | AllocationState::Completed
            | AllocationState::Failed
            | AllocationState::Assigned
    );
    if !heard && !ended {
        let last = allocation.status.state;
        view.status = AllocationStatus {
            state: AllocationState::Unknown,
            health: Health::None,
            reason: Some(format!("{name} is not connected; the last that it said was {last}")),
            ..allocation.status.clone()
        };
    }
    view
}

/// A workload with its instances.
pub(crate) fn workload(core: &Core, snapshot: &Snapshot, workload: &Workload) -> WorkloadView {
    let mut allocations: Vec<_> =
        snapshot.cluster.allocations_of(&workload.key).map(|row| allocation(snapshot, row)).collect();
    allocations.sort_by_key(|view| (view.slot, view.placed_at, view.id));
    WorkloadView::of(workload, allocations, pending(core, &workload.key))
}

/// The replicas of a workload that wait, one by one.
pub(crate) fn pending(core: &Core, key: &WorkloadKey) -> Vec<PendingSlot> {
    let memory = core.live.planner.lock();
    let of_stack = memory.pending.get(&key.stack_key());
    of_stack.into_iter().flatten().filter(|pending| pending.workload == *key).flat_map(slots).collect()
}

/// One entry for each slot.
pub(crate) fn slots(pending: &lattice_planner::Pending) -> impl Iterator<Item = PendingSlot> {
    pending.slots.iter().map(|slot| PendingSlot {
        workload: pending.workload.workload.clone(),
        slot: *slot,
        why: pending.why.clone(),
        hint: pending.hint.clone(),
    })
}

/// A stack.
pub(crate) fn stack(core: &Core, snapshot: &Snapshot, stack: &Stack) -> StackView {
    StackView::of(stack, states(core, snapshot, &stack.key))
}

fn states(core: &Core, snapshot: &Snapshot, key: &StackKey) -> Vec<WorkloadState> {
    snapshot.cluster.workloads_of(key).map(|row| workload(core, snapshot, row).state).collect()
}

/// A volume.
pub(crate) fn volume(snapshot: &Snapshot, volume: &Volume) -> VolumeView {
    let node = volume.node.and_then(|id| snapshot.cluster.nodes.get(&id)).map(|row| row.name.clone());
    let users = snapshot
        .cluster
        .workloads_of(&volume.key.stack_key())
        .filter(|row| row.spec.mounts.iter().any(|mount| mount.volume == volume.key.volume))
        .map(|row| row.key.workload.clone())
        .collect();
    VolumeView::of(volume, node, users)
}
