//! What emptying a node would do: the same plans, carried out on a copy in which every node does as it
//! is told at once.

use crate::{
    cluster::{Cluster, Row},
    invariants,
    plan::{Plan, PlanReport, plan},
    policy::Policy,
    slots::has_ended,
};
use lattice_model::{
    AllocationId, NodeId, StackKey, Timestamp, WorkloadKey,
    report::{AllocationState, AllocationStatus},
    resource::{Allocation, Drain, Eligibility, Intent, Node},
};
use std::{collections::BTreeSet, sync::Arc};

/// What becomes of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It moves.
    Moves {
        /// Where.
        to: NodeId,
        /// Why there.
        why: String,
    },
    /// It goes, and nothing takes its place.
    Goes,
    /// It stays for good.
    Stays {
        /// Why.
        why: String,
    },
    /// It stays as long as nothing else changes.
    Waits {
        /// For what.
        why: String,
    },
}

/// What becomes of one replica on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub allocation: AllocationId,
    /// Its workload.
    pub workload: WorkloadKey,
    /// Which of the replicas.
    pub slot: u32,
    /// What becomes of it.
    pub fate: Fate,
}

/// The most rounds: each replica takes a few.
const ROUNDS: usize = 5000;

/// What emptying `node` would do with each replica that is there.
pub fn drain(
    cluster: &Cluster,
    node: NodeId,
    policy: &Policy,
    now: Timestamp,
    random: &mut dyn FnMut() -> u128,
) -> Vec<Move> {
    let Some(row) = cluster.nodes.get(&node) else { return Vec::new() };
    let mut copy = cluster.clone();
    let drain = Some(Drain { since: now, deadline: None });
    let emptied = Node { eligibility: Eligibility::Draining, drain, ..(*row.value).clone() };
    copy.nodes.insert(node, Row { revision: row.revision, value: Arc::new(emptied) });
    let there: Vec<Row<Allocation>> = cluster
        .allocations_on(node)
        .filter(|row| row.intent != Intent::Remove && row.superseded.is_none())
        .cloned()
        .collect();
    let stacks: BTreeSet<StackKey> = there.iter().map(|row| row.workload.stack_key()).collect();
    let (after, last) = play(cluster, copy, &stacks, policy, now, random);
    there.iter().map(|row| fate(&after, &last, row)).collect()
}

/// What becomes of what is on the nodes that `after` says are in other pools than before, or in pools that have changed,
/// or that have other taints; what stays where it is, and may, is left out.
pub(crate) fn repooled(
    cluster: &Cluster,
    after: Cluster,
    policy: &Policy,
    now: Timestamp,
    random: &mut dyn FnMut() -> u128,
) -> Vec<Move> {
    let touched = |row: &Row<Allocation>| match (cluster.nodes.get(&row.node), after.nodes.get(&row.node)) {
        (Some(before), Some(now)) => {
            (&before.pool, &before.taints) != (&now.pool, &now.taints)
                || cluster.pools.get(&now.pool).map(|row| &row.value)
                    != after.pools.get(&now.pool).map(|row| &row.value)
        }
        _ => false,
    };
    let there: Vec<Row<Allocation>> = cluster
        .allocations()
        .values()
        .filter(|row| row.intent != Intent::Remove && row.superseded.is_none() && touched(row))
        .cloned()
        .collect();
    let stacks: BTreeSet<StackKey> = there.iter().map(|row| row.workload.stack_key()).collect();
    // What is only spread better is no part of what the change does.
    let policy = &Policy { rebalance: None, ..*policy };
    let (after, last) = play(cluster, after, &stacks, policy, now, random);
    let stays_as_it_is = |row: &&Row<Allocation>| {
        let kept = after.allocations().get(&row.id);
        kept.is_some_and(|kept| kept.intent == row.intent && kept.superseded.is_none())
            && !last.stays.iter().any(|stay| stay.allocation == row.id)
    };
    there.iter().filter(|row| !stays_as_it_is(row)).map(|row| fate(&after, &last, row)).collect()
}

/// Plans and obeys until nothing changes any more.
fn play(
    cluster: &Cluster,
    mut copy: Cluster,
    stacks: &BTreeSet<StackKey>,
    policy: &Policy,
    mut now: Timestamp,
    random: &mut dyn FnMut() -> u128,
) -> (Cluster, PlanReport) {
    let mut last = PlanReport::default();
    for _ in 0..ROUNDS {
        let (decided, report): (Plan, PlanReport) = plan(&copy, stacks, policy, now, random);
        last = report;
        if decided.steps.is_empty() {
            match last.next.values().min() {
                Some(next) if *next > now => now = *next,
                _ => break,
            }
            continue;
        }
        copy = invariants::apply(&copy, &decided, u64::MAX);
        obey(&mut copy, cluster, stacks);
    }
    (copy, last)
}

/// What is to go is gone, and what is new serves; on nodes that are away too, as that is what one
/// would wait for.
fn obey(copy: &mut Cluster, before: &Cluster, stacks: &BTreeSet<StackKey>) {
    let all: Vec<Row<Allocation>> = stacks
        .iter()
        .flat_map(|stack| copy.allocations_of_stack(stack).cloned().collect::<Vec<_>>())
        .collect();
    for row in all {
        if row.intent == Intent::Remove {
            copy.remove_allocation(row.id);
        } else if !before.allocations().contains_key(&row.id) && row.status.state == AllocationState::Assigned
        {
            let status = AllocationStatus::new(AllocationState::Running);
            let value = Arc::new(Allocation { status, ..(*row.value).clone() });
            copy.put_allocation(Row { revision: row.revision, value });
        }
    }
}

fn fate(after: &Cluster, report: &PlanReport, row: &Row<Allocation>) -> Move {
    let own = |other: &&Row<Allocation>| {
        other.slot == row.slot && other.intent != Intent::Remove && other.superseded.is_none()
    };
    let now_there = after.allocations_of(&row.workload).find(own);
    let waits = report.pending.iter().find(|p| p.workload == row.workload && p.slots.contains(&row.slot));
    let stays = report.stays.iter().find(|stay| stay.allocation == row.id);
    let fate = match (now_there, stays, waits) {
        (Some(other), ..) if other.node != row.node => {
            Fate::Moves { to: other.node, why: other.explanation.clone() }
        }
        (_, Some(stay), _) if stay.for_good => Fate::Stays { why: stay.why.clone() },
        (_, Some(stay), _) => Fate::Waits { why: stay.why.clone() },
        (_, _, Some(pending)) => Fate::Waits { why: pending.why.clone() },
        (Some(other), ..) if other.intent == Intent::Stop => {
            Fate::Stays { why: "it is stopped, and its container stays where it is".into() }
        }
        (Some(other), ..) if has_ended(other) => Fate::Stays { why: "it has ended".into() },
        (Some(_), ..) => Fate::Waits { why: "its turn has not come".into() },
        (None, ..) => Fate::Goes,
    };
    Move { allocation: row.id, workload: row.workload.clone(), slot: row.slot, fate }
}
