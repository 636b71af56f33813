//! What every plan keeps. Tests check it on each plan that they make; the server checks it on
//! each plan before it commits one, and refuses to commit a plan that breaks it.

use crate::{
    ask::{capacity_of, room_of},
    cluster::{Cluster, Row},
    group::groups,
    home::{is_free, no_place},
    ledger::{gpu_share, holds_gpus, holds_room},
    plan::{Plan, Step},
    planning::claims,
};
use lattice_model::{
    NodeId, WorkloadKey,
    resource::{Allocation, Intent, Superseded},
    spec::{GpuCount, GpuRequest, Mode},
    taint::{TaintEffect, not_borne},
};
use lattice_scheduler::{
    PortClaim, Refusal,
    fleet::{Kind, Room},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The cluster as it will be once the plan is carried out, all at `revision`.
#[must_use]
pub fn apply(cluster: &Cluster, plan: &Plan, revision: u64) -> Cluster {
    let mut after = cluster.clone();
    for step in &plan.steps {
        match step {
            Step::Create(allocation) | Step::Update { allocation, .. } => {
                after.put_allocation(Row { revision, value: Arc::new((**allocation).clone()) });
            }
            Step::Workload { workload, .. } => {
                after.put_workload(Row { revision, value: Arc::new((**workload).clone()) });
            }
            Step::Keep(kept) => {
                let key = (kept.key.clone(), kept.generation);
                after.revisions.insert(key, Row { revision, value: Arc::new((**kept).clone()) });
            }
            Step::Missed(_) => {}
            Step::Forget { id, .. } => after.remove_allocation(*id),
            Step::Claim { volume, .. } => {
                after
                    .volumes
                    .insert(volume.key.clone(), Row { revision, value: Arc::new((**volume).clone()) });
            }
            Step::ForgetVolume { key, .. } => {
                after.volumes.remove(key);
            }
            Step::ForgetStack { key, .. } => {
                after.stacks.remove(key);
            }
        }
    }
    after
}

/// Every sentence that `plan` breaks on `before`; empty when it keeps them all.
pub fn broken(before: &Cluster, plan: &Plan) -> Vec<String> {
    let after = apply(before, plan, u64::MAX);
    let mut broken = Vec::new();
    created_where_allowed(plan, &after, &mut broken);
    created_where_suitable(plan, &after, &mut broken);
    gpus_are_not_given_twice(plan, &after, &mut broken);
    one_per_slot(&after, &mut broken);
    successors_are_there(plan, &after, &mut broken);
    data_stays(before, plan, &after, &mut broken);
    groups_share_a_node(plan, &after, &mut broken);
    gangs_come_together(before, plan, &after, &mut broken);
    no_time_is_taken_twice(before, plan, &mut broken);
    broken
}

/// A time that was decided about is not decided about again: a run is of a later one, and so is what is missed.
fn no_time_is_taken_twice(before: &Cluster, plan: &Plan, broken: &mut Vec<String>) {
    let until = |key: &WorkloadKey| {
        before.workloads().get(key).and_then(|row| row.timetable.as_ref()).map(|table| table.until)
    };
    for step in &plan.steps {
        match step {
            Step::Workload { workload, .. } => {
                let Some(table) = &workload.timetable else { continue };
                let Some(old) = before.workloads().get(&workload.key) else { continue };
                let same = old.timetable.as_ref().filter(|before| before.of == table.of);
                let begun =
                    table.run.as_ref().and_then(|run| run.due).filter(|_| workload.restart != old.restart);
                let again = same.is_some_and(|before| begun.is_some_and(|due| due <= before.until));
                if again || workload.restart > old.restart + 1 {
                    broken.push(format!("{} runs twice for one time", workload.key));
                }
                if same.is_some_and(|before| table.until < before.until) {
                    broken.push(format!("the schedule of {} goes back", workload.key));
                }
            }
            Step::Missed(missed) => {
                let known = until(&missed.workload).is_some_and(|until| missed.first <= until);
                if known || missed.last < missed.first || missed.count == 0 {
                    broken.push(format!("{} misses a time that was decided about", missed.workload));
                }
            }
            _ => {}
        }
    }
}

/// Whatever is created belongs to a workload, on an approved, connected, eligible node with room.
fn created_where_allowed(plan: &Plan, after: &Cluster, broken: &mut Vec<String>) {
    let mut nodes: BTreeSet<NodeId> = BTreeSet::new();
    for step in &plan.steps {
        let Step::Create(allocation) = step else { continue };
        nodes.insert(allocation.node);
        if !after.workloads().contains_key(&allocation.workload) {
            broken.push(format!("{} is created without its workload", name(allocation)));
        }
        match after.nodes.get(&allocation.node) {
            Some(node) if node.takes_work() => {}
            _ => broken.push(format!("{} is created on a node that takes no work", name(allocation))),
        }
    }
    for node in nodes {
        let Some(row) = after.nodes.get(&node) else { continue };
        let mut given = Room::default();
        let mut ports: Vec<(PortClaim, &Allocation)> = Vec::new();
        for allocation in after.allocations_on(node).filter(|a| a.intent != Intent::Remove) {
            if holds_room(allocation) {
                given = given.plus(&room_of(&allocation.spec, 1));
            }
            for claim in claims(&allocation.spec) {
                if let Some((_, other)) = ports.iter().find(|(taken, _)| taken.collides(&claim)) {
                    broken.push(format!(
                        "{} and {} publish port {}",
                        name(allocation),
                        name(other),
                        claim.port
                    ));
                }
                ports.push((claim, allocation));
            }
        }
        // A node may have less than before; then nothing that asks for more is added to it.
        let created = plan.steps.iter().filter_map(|step| match step {
            Step::Create(allocation) if allocation.node == node => Some(more_of(after, allocation)),
            _ => None,
        });
        let more = created.fold(Room::default(), |more, one| more.plus(&one));
        let has = capacity_of(after, row);
        let over = |kind: &Kind| more.of(*kind) > 0 && given.of(*kind) > has.of(*kind);
        if let Some(kind) = Kind::ALL.into_iter().find(over) {
            broken.push(format!("{} is given more {kind} than it has", row.name));
        }
    }
}

/// What one that is created asks for, without the disk and the network that it takes over from one of its slot there.
fn more_of(after: &Cluster, created: &Allocation) -> Room {
    let asks = room_of(&created.spec, 1);
    let same = |row: &&Row<Allocation>| {
        row.id != created.id && row.workload == created.workload && row.slot == created.slot
    };
    let takes_over = after.allocations_on(created.node).filter(same).any(|row| {
        let had = room_of(&row.spec, 1);
        had.disk >= asks.disk && had.bandwidth >= asks.bandwidth
    });
    if takes_over { Room { disk: 0, bandwidth: 0, ..asks } } else { asks }
}

/// Whatever is created is where its constraints, its platform and its pool allow, and no node has more
/// replicas of it than one may have.
fn created_where_suitable(plan: &Plan, after: &Cluster, broken: &mut Vec<String>) {
    for step in &plan.steps {
        let Step::Create(allocation) = step else { continue };
        let Some(node) = after.nodes.get(&allocation.node) else { continue };
        let tolerates = &allocation.spec.placement.tolerations;
        let refused = not_borne(after.taints_of(node), tolerates, &[TaintEffect::Refuse]);
        let refused = refused.cloned().map(Refusal::Taint);
        if let Some(refusal) =
            no_place(after, &allocation.workload.project, &allocation.spec, node).or(refused)
        {
            broken.push(format!(
                "{} is created on {}, which is no place for it: {refusal}",
                name(allocation),
                node.name
            ));
        }
        let counts = |a: &&Row<Allocation>| {
            a.workload == allocation.workload && a.intent != Intent::Remove && a.superseded.is_none()
        };
        let there = after.allocations_on(node.id).filter(counts).count();
        if allocation.spec.placement.max_per_node.is_some_and(|most| there > most as usize) {
            broken.push(format!("{} has {there} replicas of {}", node.name, allocation.workload));
        }
    }
}

/// Whatever is created has the GPUs that it asks for, which its node lends and a container has seen, and of which no more
/// than all is given: of whoever has them besides and would make it more, the new one waits for its end.
fn gpus_are_not_given_twice(plan: &Plan, after: &Cluster, broken: &mut Vec<String>) {
    for step in &plan.steps {
        let Step::Create(allocation) = step else { continue };
        let asked = allocation.spec.gpus.as_ref().map(|request| request.count);
        let enough = match asked {
            None => allocation.gpus.is_empty(),
            Some(GpuCount::All) => !allocation.gpus.is_empty(),
            Some(GpuCount::Exactly(n)) => allocation.gpus.len() == n as usize,
        };
        if !enough {
            let (name, has) = (name(allocation), allocation.gpus.len());
            broken.push(format!("{name} asks for {asked:?} GPUs and is given {has}"));
        }
        let node = after.nodes.get(&allocation.node);
        let units = node.map(|node| node.facts.machine.gpu_units()).unwrap_or_default();
        let usable: BTreeSet<&str> =
            units.iter().filter(|unit| unit.is_usable()).map(|unit| unit.id).collect();
        for (at, id) in allocation.gpus.iter().enumerate() {
            if !usable.contains(id.as_str()) || allocation.gpus[..at].contains(id) {
                broken.push(format!(
                    "{} is given the GPU {id}, which is not there to be given",
                    name(allocation)
                ));
            }
        }
        for id in &allocation.gpus {
            let has = |other: &&Row<Allocation>| holds_gpus(other) && other.gpus.contains(id);
            let sharing: Vec<_> = after.allocations_on(allocation.node).filter(has).collect();
            let given = at_most(&sharing);
            if given > u32::from(GpuRequest::WHOLE) {
                let who = sharing.iter().map(|other| name(other)).collect::<Vec<_>>().join(", ");
                broken.push(format!("{who} have {given} thousandths of the GPU {id}"));
            }
        }
    }
}

/// What makes way keeps running until its successor is there, so there is one.
fn successors_are_there(plan: &Plan, after: &Cluster, broken: &mut Vec<String>) {
    for step in &plan.steps {
        let Step::Update { allocation, .. } = step else { continue };
        if allocation.superseded != Some(Superseded::Handover) || allocation.intent == Intent::Remove {
            continue;
        }
        let own = |a: &Row<Allocation>| {
            a.slot == allocation.slot && a.intent != Intent::Remove && a.superseded.is_none()
        };
        if !after.allocations_of(&allocation.workload).any(own) {
            broken.push(format!("{} makes way for nobody", name(allocation)));
        }
    }
}

/// A slot of a workload has at most one of its own; who makes way, or was on a node that was lost,
/// stands aside.
fn one_per_slot(after: &Cluster, broken: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let own = |a: &&Row<Allocation>| a.intent != Intent::Remove && a.superseded.is_none();
    for allocation in after.allocations().values().filter(own) {
        if !seen.insert((&allocation.workload, allocation.slot)) {
            broken.push(format!("slot {} of {} is filled twice", allocation.slot, allocation.workload));
        }
    }
}

/// A volume that exists stays where it is, and what is created runs where its data is.
fn data_stays(before: &Cluster, plan: &Plan, after: &Cluster, broken: &mut Vec<String>) {
    for (key, volume) in before.volumes.iter().filter(|(_, volume)| volume.exists) {
        match after.volumes.get(key) {
            Some(row) if row.node == volume.node => {}
            Some(_) => broken.push(format!("volume {key} moves without its data")),
            None if volume.deleting => {}
            None => broken.push(format!("volume {key} is forgotten though nobody asked")),
        }
    }
    for step in &plan.steps {
        let Step::Create(allocation) = step else { continue };
        for mount in &allocation.spec.mounts {
            let key = allocation.workload.stack_key().volume(mount.volume.clone());
            if after.volumes.get(&key).is_some_and(|volume| volume.node != Some(allocation.node)) {
                broken.push(format!("{} is not where volume {key} is", name(allocation)));
            }
        }
    }
}

/// What a plan creates of services that share a network is created on one node.
fn groups_share_a_node(plan: &Plan, after: &Cluster, broken: &mut Vec<String>) {
    let created: Vec<&Allocation> = plan
        .steps
        .iter()
        .filter_map(|step| if let Step::Create(allocation) = step { Some(&**allocation) } else { None })
        .collect();
    let stacks: BTreeSet<_> = created.iter().map(|a| a.workload.stack_key()).collect();
    for stack in &stacks {
        for group in groups(after.workloads_of(stack).map(|row| &*row.value)) {
            if is_free(&group) {
                continue;
            }
            let members: BTreeSet<_> = group.iter().map(|w| &w.key).collect();
            let nodes: BTreeMap<NodeId, String> =
                created.iter().filter(|a| members.contains(&a.workload)).map(|a| (a.node, name(a))).collect();
            if nodes.len() > 1 {
                let who = nodes.values().cloned().collect::<Vec<_>>().join(" and ");
                broken.push(format!("{who} share a network and are put on different nodes"));
            }
        }
    }
}

/// Where a replica of a gang is created that was not there, none is left that was not there either. One that goes in the
/// same plan, since somebody more important comes, is another matter.
fn gangs_come_together(before: &Cluster, plan: &Plan, after: &Cluster, broken: &mut Vec<String>) {
    let filled = |cluster: &Cluster, key: &WorkloadKey, slot: u32| {
        let own =
            |a: &Row<Allocation>| a.slot == slot && a.intent != Intent::Remove && a.superseded.is_none();
        cluster.allocations_of(key).any(own)
    };
    for step in &plan.steps {
        let Step::Create(allocation) = step else { continue };
        let Some(workload) = after.workloads().get(&allocation.workload) else { continue };
        if !workload.spec.is_gang()
            || workload.spec.mode == Mode::Global
            || filled(before, &workload.key, allocation.slot)
        {
            continue;
        }
        // A run by a schedule has as many as when it began.
        let table = workload.timetable.as_ref().filter(|_| workload.spec.schedule.is_some());
        let run = table.and_then(|table| table.under_way());
        let all = run.map_or(workload.replicas, |run| run.replicas.min(workload.replicas));
        let left = |slot: &u32| [before, after].iter().all(|cluster| !filled(cluster, &workload.key, *slot));
        if let Some(slot) = (1..=all).find(left) {
            broken.push(format!("{} is created and slot {slot} of its gang is not", name(allocation)));
        }
    }
}

fn name(allocation: &Allocation) -> String {
    format!("{}.{}", allocation.workload, allocation.slot)
}

/// How much of a GPU these have at the same time: who waits for the end of another has its share when that one is gone.
fn at_most(sharing: &[&Row<Allocation>]) -> u32 {
    fn with_those_that_wait(row: &Row<Allocation>, sharing: &[&Row<Allocation>]) -> u32 {
        let waiting = sharing.iter().filter(|other| other.replaces == Some(row.id));
        let then: u32 = waiting.map(|other| with_those_that_wait(other, sharing)).sum();
        u32::from(gpu_share(row)).max(then)
    }
    let waits = |row: &&&Row<Allocation>| sharing.iter().any(|other| row.replaces == Some(other.id));
    let now = sharing.iter().filter(|row| !waits(row));
    now.map(|row| with_those_that_wait(row, sharing)).sum()
}
