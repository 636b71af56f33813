//! One stack at a time: what its workloads want against what is allocated.
//!
//! The gates of a decision, in order:
//! 1. allocations on nodes that left the cluster are forgotten;
//! 2. allocations of workloads that are gone are sent away;
//! 3. replicas too many are sent away, those of stopped workloads stopped, and each group of workloads that must
//!    share a node gets one, bound by data before neighbours ([`home`](crate::home));
//! 4. who stands aside stays or goes ([`slots`](crate::slots)), then slots are filled, moved or replaced by turns
//!    ([`rollout`](crate::rollout)); services that exchange their ports are replaced together, or not at all;
//! 5. volumes and stacks of which nothing is left are forgotten.

use crate::{
    cluster::Row,
    group::groups,
    home::{Home, has_left, home_of},
    place::clear,
    plan::Step,
    planning::{Planning, claims},
    rollout::reconcile_workload,
    slots::has_ended,
};
use lattice_model::{
    AllocationId, StackKey,
    goal::DesiredState,
    resource::{Allocation, Intent, Volume, Workload},
    spec::Mode,
};
use std::{cmp::Reverse, collections::BTreeSet};

pub(crate) fn reconcile_stack(planning: &mut Planning<'_>, stack: &StackKey) {
    planning.begin_stack();
    forget_lost(planning, stack);
    send_away_orphans(planning, stack);
    let base = planning.base;
    let workloads: Vec<&Workload> = base.workloads_of(stack).map(|row| &*row.value).collect();
    for workload in &workloads {
        trim(planning, workload);
    }
    // What is more important chooses first, so that nothing is placed only to make way.
    let mut all = groups(workloads);
    all.sort_by_key(|group| Reverse(group.iter().map(|w| w.spec.placement.priority).max()));
    reconcile_groups(planning, stack, &all);
    forget_leftovers(planning, stack);
}

/// Two services that exchange their ports would each wait for the other for ever. So all that are
/// outdated are first taken to make way; as long as some did not, they are put back into the way
/// and it is planned anew. What is left to make way is replaced by this plan.
fn reconcile_groups(planning: &mut Planning<'_>, stack: &StackKey, groups: &[Vec<&Workload>]) {
    let base = planning.base;
    let outdated = |row: &&Row<Allocation>| {
        row.intent != Intent::Remove
            && claims(&row.spec).next().is_some()
            && base.workloads().get(&row.workload).is_some_and(|w| w.generation != row.generation)
    };
    let cluster = &planning.cluster;
    planning.yielding = cluster.allocations_of_stack(stack).filter(outdated).map(|row| row.id).collect();
    let before = (!planning.yielding.is_empty()).then(|| planning.mark());
    loop {
        for group in groups {
            let home = home_of(planning, group);
            if matches!(home, Home::Full { .. }) && takes_cleared(planning, group) {
                continue;
            }
            for workload in group {
                reconcile_workload(planning, workload, &home);
            }
        }
        let stays = |id: &AllocationId| {
            planning.cluster.allocations().get(id).is_some_and(|row| row.intent != Intent::Remove)
        };
        let staying: Vec<AllocationId> = planning.yielding.iter().filter(|id| stays(id)).copied().collect();
        let (false, Some(before)) = (staying.is_empty(), &before) else { break };
        planning.yielding.retain(|id| !staying.contains(id));
        planning.go_back(before);
    }
    planning.yielding.clear();
}

/// Whether a group takes a place from which others were sent away. Where it takes none after all, they stay.
fn takes_cleared(planning: &mut Planning<'_>, group: &[&Workload]) -> bool {
    let mark = planning.mark();
    let Some(home) = clear(planning, group) else { return false };
    for workload in group {
        reconcile_workload(planning, workload, &home);
    }
    let (base, cluster) = (planning.base, &planning.cluster);
    let is_new = |row: &Row<Allocation>| !base.allocations().contains_key(&row.id);
    let placed = group.iter().any(|workload| cluster.allocations_of(&workload.key).any(is_new));
    if !placed {
        planning.go_back(&mark);
    }
    placed
}

fn forget_lost(planning: &mut Planning<'_>, stack: &StackKey) {
    let base = planning.base;
    for row in base.allocations_of_stack(stack) {
        if !has_left(planning.cluster.nodes.get(&row.node)) {
            continue;
        }
        // A job that has ended is not run again because its machine went later.
        let wanted = base
            .workloads()
            .get(&row.workload)
            .is_some_and(|workload| is_of_present(workload, row) && row.slot <= workload.replicas);
        if row.intent != Intent::Remove && wanted && has_ended(row) {
            continue;
        }
        planning.forget(row, "its node has left the cluster".into());
    }
}

/// Whether it is what the workload is to run, or was the last to run: of a job with a schedule the version may differ.
fn is_of_present(workload: &Workload, row: &Allocation) -> bool {
    let run = workload.spec.schedule.is_some() && workload.restart == row.restart;
    run || workload.generation == row.generation
}

fn send_away_orphans(planning: &mut Planning<'_>, stack: &StackKey) {
    let base = planning.base;
    for row in base.allocations_of_stack(stack) {
        let orphan = !base.workloads().contains_key(&row.workload);
        if orphan && planning.cluster.allocations().contains_key(&row.id) {
            planning.update(row, |a| a.intent = Intent::Remove);
        }
    }
}

/// Gives room before room is looked for: replicas too many go, those of a stopped workload stop.
fn trim(planning: &mut Planning<'_>, workload: &Workload) {
    let base = planning.base;
    let counted = workload.spec.mode == Mode::Replicated;
    let mut filled: BTreeSet<u32> = BTreeSet::new();
    for row in base.allocations_of(&workload.key) {
        let Some(row) = planning.cluster.allocations().get(&row.id).cloned() else { continue };
        if row.intent == Intent::Remove {
            continue;
        }
        let stopped = workload.desired != DesiredState::Run;
        let twice = row.superseded.is_none() && !filled.insert(row.slot);
        if (counted && row.slot > workload.replicas) || twice || (stopped && row.superseded.is_some()) {
            planning.update(&row, |a| a.intent = Intent::Remove);
        } else if stopped {
            planning.update(&row, |a| a.intent = Intent::Stop);
        }
    }
}

fn forget_leftovers(planning: &mut Planning<'_>, stack: &StackKey) {
    let gone: Vec<Row<Volume>> = planning
        .cluster
        .volumes_of(stack)
        .filter(|v| v.deleting && v.node.is_none_or(|node| has_left(planning.cluster.nodes.get(&node))))
        .cloned()
        .collect();
    for row in gone {
        planning.cluster.volumes.remove(&row.key);
        planning.plan.steps.push(Step::ForgetVolume { expected: row.revision, key: row.key.clone() });
    }
    let Some(row) = planning.cluster.stacks.get(stack).cloned() else { return };
    let empty = planning.cluster.allocations_of_stack(stack).next().is_none()
        && planning.cluster.workloads_of(stack).next().is_none()
        && !planning.cluster.volumes_of(stack).any(|volume| volume.deleting);
    if row.deleting && empty {
        planning.plan.steps.push(Step::ForgetStack { expected: row.revision, key: stack.clone() });
    }
}
