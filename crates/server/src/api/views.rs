//! Rows and what only the present knows, as the API shows them.

use crate::{
    clock,
    controllers::ranking,
    state::{Core, Snapshot},
};
use lattice_api::{
    AccountView, AllocationView, Evidence, NodeLive, NodeView, OutlookView, PendingSlot, RankedView,
    Reserved, StackView, StayView, VolumeView, WorkloadState, WorkloadView,
};
use lattice_model::{
    Duration, NodeId, NodeName, StackKey, WorkloadKey,
    health::{Condition, ConditionKind, Level},
    report::{AllocationState, AllocationStatus, Health},
    resource::{Allocation, Approval, Intent, Node, PresenceState, Stack, Volume, Workload},
    spec::Promote,
    unit::{BitRate, Bytes, Cpu},
};
use lattice_planner::pools;

/// A node.
pub(crate) fn node(core: &Core, snapshot: &Snapshot, node: &Node) -> NodeView {
    let mut reserved = Reserved::default();
    let (mut allocations, mut moving) = (0, 0u32);
    for allocation in snapshot.cluster.allocations_on(node.id) {
        allocations += 1;
        let runs = allocation.intent == Intent::Run && allocation.superseded.is_none();
        moving += u32::from(
            runs && !matches!(allocation.status.state, AllocationState::Completed | AllocationState::Failed),
        );
        if allocation.intent != Intent::Remove {
            let (cpu, memory) = allocation.spec.resources.reserved();
            reserved.cpu = Cpu(reserved.cpu.0.saturating_add(cpu.0));
            reserved.memory = Bytes(reserved.memory.0.saturating_add(memory.0));
            let (disk, bandwidth) = allocation.spec.resources.reserved_besides();
            reserved.disk = Bytes(reserved.disk.0.saturating_add(disk.0));
            reserved.bandwidth = BitRate(reserved.bandwidth.0.saturating_add(bandwidth.0));
        }
    }
    let staying = if node.drain.is_some() { staying(core, node.id) } else { Vec::new() };
    let for_good = staying.iter().filter(|stay| stay.for_good).count();
    let identity = snapshot.identities.get(&node.id);
    let live = NodeLive {
        presence: None,
        pool_why: pools::belongs(&snapshot.cluster, node).why(),
        pool_stays: pools::stays(&snapshot.cluster, node),
        reserved,
        load: core.live.loads.lock().get(&node.id).copied(),
        outlook: outlook(snapshot, node),
        rank: super::ranking::of(snapshot, &ranking::board(core, snapshot), node),
        allocations,
        moving: moving.saturating_sub(u32::try_from(for_good).unwrap_or(u32::MAX)),
        staying,
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

/// Whether a node stays, by what was seen of it and by what it said itself.
fn outlook(snapshot: &Snapshot, node: &Node) -> Option<OutlookView> {
    let (track, now) = (&snapshot.availability.get(&node.id)?.track, clock::now());
    let there = node.presence.state == PresenceState::Connected && !node.standing.stands_still();
    let found = track.outlook(&snapshot.population, now).filter(|_| there);
    let found = found.map(|outlook| outlook.leaving(node.standing.until));
    // Rounded down: 100 would promise what nobody can.
    let chance = |hours: u64| {
        found.as_ref().map_or(0, |found| (found.stays(Duration::from_secs(hours * 3600)) * 100.0) as u8)
    };
    Some(OutlookView {
        since: found.as_ref().map(lattice_availability::Outlook::began),
        hour: chance(1),
        eight_hours: chance(8),
        day: chance(24),
        seen_hours: u32::try_from(track.history().seen().0 / 3_600_000).unwrap_or(u32::MAX),
        departures: track.history().departures().round() as u32,
    })
}

/// What stays on a node that is emptied, as the planner said last.
pub(crate) fn staying(core: &Core, node: NodeId) -> Vec<StayView> {
    let memory = core.live.planner.lock();
    let there = memory.stays.values().flatten().filter(|stay| stay.node == node);
    let view = |stay: &lattice_planner::Stay| {
        let lattice_planner::Stay { allocation: _, workload, slot, node: _, why, for_good } = stay.clone();
        let WorkloadKey { project, stack, workload } = workload;
        StayView { project, stack, workload, slot, why, for_good }
    };
    there.map(view).collect()
}

/// An allocation. What its node reported last is shown as long as the node is heard of.
pub(crate) fn allocation(snapshot: &Snapshot, allocation: &Allocation) -> AllocationView {
    let row = snapshot.cluster.nodes.get(&allocation.node);
    let name = row.map(|row| row.name.clone()).or_else(|| NodeName::new(allocation.node.short()).ok());
    let name = name.unwrap_or_else(|| unreachable!("hexadecimal digits are a name"));
    let mut view = AllocationView::of(allocation, name.clone());
    view.node_lost = row.is_some_and(|row| row.is_lost());
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
            reason: Some(match view.node_lost {
                true => format!("{name} is lost; the last that it said was {last}"),
                false => format!("{name} is not connected; the last that it said was {last}"),
            }),
            ..allocation.status.clone()
        };
    }
    let planned = allocation.status.state == AllocationState::Assigned;
    if let Some(row) = row.filter(|_| planned && allocation.status.reason.is_none()) {
        view.status.reason = not_taken(&row.name, &row.conditions, heard);
    }
    view
}

/// Why a node has not taken up yet what is planned for it, where that is known.
fn not_taken(name: &NodeName, conditions: &[Condition], heard: bool) -> Option<String> {
    if !heard {
        return Some(format!("{name} is not connected; it hears of it when it is back"));
    }
    let full = |one: &&Condition| {
        one.level == Level::Bad && matches!(one.kind, ConditionKind::Disk | ConditionKind::DiskErrors)
    };
    let condition = conditions.iter().find(full)?;
    Some(format!(
        "{name} cannot take it up, as its disk is in trouble; it does once that is mended ({condition})"
    ))
}

/// A workload with its instances.
pub(crate) fn workload(core: &Core, snapshot: &Snapshot, workload: &Workload) -> WorkloadView {
    let mut allocations: Vec<_> =
        snapshot.cluster.allocations_of(&workload.key).map(|row| allocation(snapshot, row)).collect();
    allocations.sort_by_key(|view| (view.slot, view.placed_at, view.id));
    let wanted = lattice_planner::rollout::wanted_replicas(&snapshot.cluster, workload);
    let held = held(snapshot, workload);
    let mut view = WorkloadView::of(workload, wanted, allocations, pending(core, &workload.key));
    if let Some(table) = &mut view.timetable {
        table.next = lattice_planner::next_due(workload, clock::now());
    }
    WorkloadView { held, ..view }
}

/// What a person has to do before the rollout of a workload goes on.
fn held(snapshot: &Snapshot, workload: &Workload) -> Option<String> {
    let stack = &workload.key.stack;
    if let Some(pause) = workload.present_rollout().and_then(|one| one.paused.as_ref())
        && workload.is_under_way()
    {
        return Some(format!("{} paused the rollout; `lattice rollout resume {stack}` goes on", pause.by));
    }
    let trial = lattice_planner::rollout::trial(&snapshot.cluster, workload)?;
    let baked = trial.baked_at.is_some_and(|at| at <= clock::now()) && trial.promote == Promote::Manual;
    baked.then(|| {
        format!(
            "{} replicas of the new version serve beside the old ones; `lattice rollout promote {stack}` lets them \
             take over, `lattice rollout undo {stack}` takes them back",
            trial.serving
        )
    })
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
        turn: pending.turn,
    })
}

/// What was found out about the nodes for a replica.
pub(crate) fn account(account: &lattice_planner::Account) -> AccountView {
    let ranked = |one: &lattice_planner::Ranked| {
        let lattice_planner::Parts { prefers, near, spread, crowd, stays, rank, room } = one.parts;
        RankedView { node: one.name.clone(), prefers, near, spread, crowd, stays, rank, room }
    };
    AccountView {
        summary: account.to_string(),
        considered: account.considered,
        refused: account.refused.iter().map(|(why, n)| (why.to_string(), *n)).collect(),
        ranked: account.ranked.iter().map(ranked).collect(),
        would_do: account.changes.clone(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::{Timestamp, health::Reason};

    #[test]
    fn what_is_planned_and_not_taken_up_says_why() {
        let name = NodeName::new("n1").unwrap();
        let condition = |kind, level| Condition {
            kind,
            level,
            since: Timestamp(1),
            reason: Reason::LowSpace,
            message: "0 B are free".into(),
        };
        let fine =
            [condition(ConditionKind::Disk, Level::Warning), condition(ConditionKind::Cpu, Level::Bad)];
        assert_eq!(not_taken(&name, &fine, true), None, "it is about to");
        let full = [condition(ConditionKind::Disk, Level::Bad)];
        let why = not_taken(&name, &full, true).unwrap();
        assert!(why.contains("n1 cannot take it up") && why.contains("0 B are free"), "{why}");
        assert!(not_taken(&name, &full, false).unwrap().contains("not connected"));
    }
}
