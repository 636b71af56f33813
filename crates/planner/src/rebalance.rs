//! Replicas that are unevenly spread, since nodes came or came back, move one by one: gently, and only where the gain
//! is clear.
//!
//! A service may be moved so when its replicas are free, may serve beside their successors, and are at rest: every one
//! serves, nothing is being replaced, nobody is away. The scheduler is asked where a replica of the fullest place would
//! go if it were placed now; it moves there only if that place has at least two fewer of them, by the first attribute
//! to spread over in which both differ, else by node. So each move makes the spread better by itself, and a row of
//! moves ends: the sum of the squares of the counts falls with every one.
//!
//! No more than [`Rebalance::moves`] begin in the cluster in each [`Rebalance::every`], and none onto a node that has
//! been there for less than [`Rebalance::after`]. Rejected: moving towards emptier nodes; what is full changes with
//! every deployment, and a container that runs well is worth more than a few percent.

use crate::{
    cluster::{Cluster, Row},
    group::groups,
    home::{Home, is_connected, is_free},
    place::{How, Vacancy, place},
    planning::Planning,
    policy::Rebalance,
    slots::moves_start_first,
};
use lattice_model::{
    NodeId, StackKey, Timestamp,
    goal::DesiredState,
    resource::{Allocation, Intent, Node, Workload},
    spec::{Mode, NodeAttribute, Rebalancing},
};
use lattice_scheduler::{Refusal, value_of};
use std::collections::BTreeMap;

/// By how many replicas a place has to be the fuller one.
const CLEAR: u32 = 2;

/// Whether replicas of it are moved for the sake of the spread at all.
fn may_move(workload: &Workload) -> bool {
    workload.spec.mode == Mode::Replicated
        && workload.replicas >= CLEAR
        && workload.desired == DesiredState::Run
        && workload.settled == workload.generation
        && workload.spec.placement.rebalance == Rebalancing::Gentle
        && workload.spec.gpus.is_none()
        && is_free(&[workload])
        && moves_start_first(workload)
}

/// The stacks in which something may be uneven: those that are worth a plan. They are looked for now and then, as a
/// node that comes changes no stack by itself.
pub fn uneven(cluster: &Cluster, policy: Option<Rebalance>, now: Timestamp) -> Vec<StackKey> {
    let Some(policy) = policy.filter(|policy| wait(cluster, *policy, now).is_none()) else {
        return Vec::new();
    };
    let ready = |node: &&Row<Node>| node.takes_work() && node.presence.since + policy.after <= now;
    let nodes: Vec<NodeId> = cluster.nodes.values().filter(ready).map(|node| node.id).collect();
    let mut stacks = Vec::new();
    for row in cluster.workloads().values().filter(|row| may_move(row)) {
        let counts = per_node(cluster, row);
        let most = counts.values().copied().max().unwrap_or(0);
        let spread = !row.spec.placement.spread.is_empty() && counts.len() > 1;
        let least = nodes.iter().map(|node| counts.get(node).copied().unwrap_or(0)).min();
        let uneven = least.is_some_and(|least| most >= least + CLEAR) || spread;
        let stack = row.key.stack_key();
        if uneven && stacks.last() != Some(&stack) {
            stacks.push(stack);
        }
    }
    // Those that share a node are not moved apart.
    stacks.retain(|stack| {
        let all: Vec<&Workload> = cluster.workloads_of(stack).map(|row| &*row.value).collect();
        groups(all).iter().any(|group| is_free(group) && group.iter().all(|one| may_move(one)))
    });
    stacks
}

/// Who is a slot's own, by node.
fn per_node(cluster: &Cluster, workload: &Workload) -> BTreeMap<NodeId, u32> {
    let mut counts = BTreeMap::new();
    for row in own(cluster, workload) {
        *counts.entry(row.node).or_default() += 1;
    }
    counts
}

fn own<'a>(cluster: &'a Cluster, workload: &Workload) -> impl Iterator<Item = &'a Row<Allocation>> {
    cluster.allocations_of(&workload.key).filter(|row| row.intent == Intent::Run && row.superseded.is_none())
}

/// Until when nothing more may begin, where that is later than now.
fn wait(cluster: &Cluster, policy: Rebalance, now: Timestamp) -> Option<Timestamp> {
    let begun = cluster.workloads().values().filter_map(|row| row.moved_at);
    let mut recent: Vec<Timestamp> = begun.map(|at| at + policy.every).filter(|at| *at > now).collect();
    recent.sort_unstable();
    // The last of those that take a place away.
    let over = recent.len().checked_sub(policy.moves.max(1) as usize)?;
    recent.get(over).copied()
}

/// Moves one replica of a workload that is at rest, where that makes its spread clearly better. Whether it did.
pub(crate) fn rebalance(planning: &mut Planning<'_>, workload: &Workload, home: &Home) -> bool {
    let Some(policy) = planning.policy.rebalance else { return false };
    if !matches!(home, Home::Free) || !may_move(workload) {
        return false;
    }
    let counts = per_node(&planning.cluster, workload);
    let Some((row, target, why)) = better(planning, workload, policy, &counts) else { return false };
    if let Some(at) = wait(&planning.cluster, policy, planning.now) {
        planning.wake(workload.key.stack_key(), at);
        return false;
    }
    let vacancy = Vacancy {
        slot: row.slot,
        old: Some(row),
        how: How::StartFirst,
        moves: Some(why.clone()),
        node: None,
        leaving: Vec::new(),
    };
    place(planning, workload, vec![vacancy], &Home::Pinned(target, "spreads the replicas evenly".into()));
    true
}

/// A replica that is better elsewhere, where, and why.
fn better(
    planning: &mut Planning<'_>,
    workload: &Workload,
    policy: Rebalance,
    counts: &BTreeMap<NodeId, u32>,
) -> Option<(Row<Allocation>, NodeId, String)> {
    // One for each node is enough: they are alike.
    let mut rows: BTreeMap<NodeId, Row<Allocation>> = BTreeMap::new();
    for row in own(&planning.cluster, workload).filter(|row| is_connected(&planning.cluster, row.node)) {
        let known = rows.entry(row.node).or_insert_with(|| row.clone());
        if known.slot < row.slot {
            *known = row.clone();
        }
    }
    let mut rows: Vec<Row<Allocation>> = rows.into_values().collect();
    rows.sort_by_key(|row| (std::cmp::Reverse(counts.get(&row.node).copied()), std::cmp::Reverse(row.slot)));
    let ask = planning.ledger().ask(workload);
    let mut soon: Option<Timestamp> = None;
    for row in rows {
        let Ok(found) = planning.find(&ask, Some(row.id), &|_| Ok::<(), Refusal>(())) else { continue };
        let target = found.placed.node;
        if target == row.node {
            continue;
        }
        let Some((place, here, there)) = gain(planning, workload, counts, row.node, target) else { continue };
        let ready = planning.cluster.nodes.get(&target).map(|node| node.presence.since + policy.after)?;
        if ready > planning.now {
            soon = soon.into_iter().chain([ready]).min();
            continue;
        }
        // Beside the old one it has to fit as well.
        if planning.admit(&ask, None, target).is_err() {
            continue;
        }
        let why =
            format!("it is rebalanced: {place} had {here} replicas of it, and there were {there} there");
        return Some((row, target, why));
    }
    if let Some(at) = soon {
        planning.wake(workload.key.stack_key(), at);
    }
    None
}

/// Where a move from one node to another makes the spread clearly better: the place that is too full, how many it has,
/// and how many the other one has.
fn gain(
    planning: &Planning<'_>,
    workload: &Workload,
    counts: &BTreeMap<NodeId, u32>,
    from: NodeId,
    to: NodeId,
) -> Option<(String, u32, u32)> {
    let nodes = &planning.cluster.nodes;
    let (from_node, to_node) = (nodes.get(&from)?, nodes.get(&to)?);
    for attribute in &workload.spec.placement.spread {
        let value = |node: &Node| value_of(node, attribute).map(|value| value.into_owned());
        let (here, there) = (value(from_node), value(to_node));
        if here == there {
            continue;
        }
        let of = |wanted: &Option<String>| -> u32 {
            let there =
                |(node, _): &(&NodeId, &u32)| nodes.get(*node).is_some_and(|row| value(row) == *wanted);
            counts.iter().filter(there).map(|(_, count)| *count).sum()
        };
        let (full, other) = (of(&here), of(&there));
        let name = |attribute: &NodeAttribute, value: &Option<String>| {
            format!("{attribute} {}", value.as_deref().unwrap_or("(none)"))
        };
        return (full >= other + CLEAR).then(|| (name(attribute, &here), full, other));
    }
    let count = |node: &NodeId| counts.get(node).copied().unwrap_or(0);
    let (full, other) = (count(&from), count(&to));
    (full >= other + CLEAR).then(|| (from_node.name.to_string(), full, other))
}
