//! The slots of a workload: which allocation is a slot's own, which ones stand aside, and who of
//! them stays.
//!
//! Two allocations share a slot only for a while: a successor that is to serve before the old one
//! stops, one that was placed since the old one's node was lost, or one that is kept stopped after a
//! blue-green update. At rest a slot has one, not counting those on nodes that are away.

use crate::{
    cluster::{Cluster, Row},
    home::{Home, fits, is_connected},
    planning::Planning,
    stage::{Versions, kept_until},
};
use lattice_model::{
    WorkloadKey,
    report::{AllocationState, Health},
    resource::{Allocation, Intent, Superseded, Workload},
    spec::{RestartPolicy, UpdateOrder, UpdatePolicy, UpdateStrategy},
};
use std::collections::BTreeMap;

/// Who has to do with one slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// The slot's own.
    pub(crate) own: Option<Row<Allocation>>,
    /// Still meant to run, while another one has the slot.
    pub(crate) aside: Vec<Row<Allocation>>,
    /// On their way out.
    pub(crate) leaving: Vec<Row<Allocation>>,
}

/// The slots of a workload.
pub(crate) fn slots(cluster: &Cluster, key: &WorkloadKey) -> BTreeMap<u32, Slot> {
    let mut slots: BTreeMap<u32, Slot> = BTreeMap::new();
    for row in cluster.allocations_of(key) {
        let slot = slots.entry(row.slot).or_default();
        match (row.intent, row.superseded) {
            (Intent::Remove, _) => slot.leaving.push(row.clone()),
            (_, Some(_)) => slot.aside.push(row.clone()),
            (_, None) => slot.own = Some(row.clone()),
        }
    }
    slots
}

/// Whether a replica is known to be there: it serves or has done its work, and its node answers.
pub(crate) fn is_available(cluster: &Cluster, row: &Allocation) -> bool {
    row.status.state == AllocationState::Completed
        || (row.status.is_serving() && is_connected(cluster, row.node))
}

/// Whether it is a job that has ended and is not started again, wherever.
pub(crate) fn has_ended(row: &Allocation) -> bool {
    let state = row.status.state;
    row.spec.restart != RestartPolicy::Always
        && (state == AllocationState::Completed
            || (state == AllocationState::Failed && row.status.exit_code.is_some()))
}

/// Whether an allocation runs what the workload is to run.
pub(crate) fn is_current(workload: &Workload, row: &Allocation) -> bool {
    (row.generation == workload.generation || workload.alike.contains(&row.generation))
        && (workload.spec.rendezvous.is_none() || row.world == world_of(workload))
}

/// How many replicas each of them is told that there are; 0 where they need not know.
pub(crate) fn world_of(workload: &Workload) -> u32 {
    if workload.spec.rendezvous.is_some() { workload.replicas } else { 0 }
}

/// Whether a successor may serve before the old one stops. A service that says nothing about its
/// updates may be moved so; one that does has its order. A job never runs twice.
pub(crate) fn moves_start_first(workload: &Workload) -> bool {
    let spec = &workload.spec;
    // What is tried beside the old one may serve beside it; how long it may take says nothing here.
    let said = UpdatePolicy { deadline: None, ..spec.update };
    spec.restart == RestartPolicy::Always
        && (said == UpdatePolicy::default()
            || said.order == UpdateOrder::StartFirst
            || said.strategy != UpdateStrategy::Rolling)
}

/// Decides about those that stand aside, as far as that can be decided now.
pub(crate) fn settle_asides(
    planning: &mut Planning<'_>,
    workload: &Workload,
    home: &Home,
    versions: &Versions,
) {
    let kept = kept_until(workload);
    for (slot, Slot { own, mut aside, .. }) in slots(&planning.cluster, &workload.key) {
        let target = versions.target(workload, slot);
        let Some(mut own) = own else {
            take_back(planning, target, home, &aside);
            continue;
        };
        // Who serves is asked first.
        aside.sort_by_key(|row| !is_available(&planning.cluster, row));
        for row in aside {
            // While its node is away nobody knows.
            if !is_connected(&planning.cluster, row.node) {
                continue;
            }
            let own_there = is_available(&planning.cluster, &own);
            let right = is_current(target, &row) && fits(planning, target, home, &row).is_ok();
            let own_right = own_is_right(planning, target, home, &own);
            // What only moves is no question of versions.
            let other = !is_current(target, &row) && row.generation != own.generation;
            let verdict = match row.superseded {
                Some(Superseded::Lost) if right && !own_there => when_back(planning, &row),
                Some(Superseded::Lost) if own_there || !moves_start_first(workload) => Verdict::Go,
                Some(Superseded::Handover)
                    if right && !own_right && (is_available(&planning.cluster, &row) || !own_there) =>
                {
                    Verdict::Stay
                }
                Some(Superseded::Handover) if right && !own_right => Verdict::Return,
                Some(Superseded::Handover) if other && versions.keeps_both() => Verdict::Wait,
                Some(Superseded::Handover)
                    if own_there && other && kept.is_some_and(|at| at > planning.now) =>
                {
                    Verdict::Retire
                }
                Some(Superseded::Retired) if right && !own_right => Verdict::Return,
                Some(Superseded::Retired)
                    if versions.is_paused() || kept.is_some_and(|at| at > planning.now) =>
                {
                    Verdict::Wait
                }
                Some(Superseded::Retired) => Verdict::Go,
                _ if own_there => Verdict::Go,
                _ => Verdict::Wait,
            };
            match verdict {
                Verdict::Wait => {}
                Verdict::Go => {
                    let why = match row.superseded {
                        Some(Superseded::Retired) => "its time to be gone back to is over".to_owned(),
                        _ => format!("its successor serves on {}", planning.name(own.node)),
                    };
                    planning.update_because(&row, Some(why), |a| a.intent = Intent::Remove);
                }
                Verdict::Retire => {
                    let why = format!(
                        "its successor serves on {}; it is kept, stopped, to go back to",
                        planning.name(own.node)
                    );
                    planning.update_because(&row, Some(why), |a| {
                        a.superseded = Some(Superseded::Retired);
                        a.intent = Intent::Stop;
                    });
                }
                Verdict::Return => {
                    let why = "its version is wanted again, and it is still there".to_owned();
                    let (gone, handover) = match own_there {
                        true => (format!("{why}; this one serves until that one does"), true),
                        false => (format!("it is not needed: {why}"), false),
                    };
                    planning.update_because(&own, Some(gone), |a| match handover {
                        true => a.superseded = Some(Superseded::Handover),
                        false => a.intent = Intent::Remove,
                    });
                    planning.update_because(&row, Some(why), |a| {
                        a.superseded = None;
                        a.intent = Intent::Run;
                    });
                    own = planning.cluster.allocations().get(&row.id).cloned().unwrap_or(row);
                }
                Verdict::Stay => {
                    let why = match row.superseded {
                        Some(Superseded::Lost) => {
                            format!("{} is back, and it still runs there", planning.name(row.node))
                        }
                        _ => "the one that it made way for is not wanted any more".into(),
                    };
                    let gone = format!("it is not needed: {why}");
                    planning.update_because(&own, Some(gone), |a| a.intent = Intent::Remove);
                    planning.update_because(&row, Some(why), |a| a.superseded = None);
                    own = planning.cluster.allocations().get(&row.id).cloned().unwrap_or(row);
                }
            }
        }
    }
    if let Some(at) = kept.filter(|_| {
        planning.cluster.allocations_of(&workload.key).any(|row| row.superseded == Some(Superseded::Retired))
    }) {
        planning.wake(workload.key.stack_key(), at);
    }
}

enum Verdict {
    /// It is the slot's own again.
    Stay,
    /// It is sent away.
    Go,
    /// Nothing changes.
    Wait,
    /// It is stopped, and kept.
    Retire,
    /// It was kept, or had not served yet, and is wanted again: the other one serves until it does.
    Return,
}

/// One that is back from a lost node, while its replacement does not serve.
fn when_back(planning: &Planning<'_>, row: &Allocation) -> Verdict {
    let status = &row.status;
    match status.state {
        _ if is_available(&planning.cluster, row) => Verdict::Stay,
        AllocationState::Assigned | AllocationState::Pulling | AllocationState::Starting => Verdict::Wait,
        AllocationState::Running if status.health == Health::Starting => Verdict::Wait,
        _ => Verdict::Go,
    }
}

fn own_is_right(planning: &Planning<'_>, workload: &Workload, home: &Home, own: &Allocation) -> bool {
    let lost = planning.cluster.nodes.get(&own.node).is_some_and(|node| node.is_gone());
    !lost && is_current(workload, own) && fits(planning, workload, home, own).is_ok()
}

/// A slot without an own one gets the best of those aside, unless its node is lost.
fn take_back(planning: &mut Planning<'_>, workload: &Workload, home: &Home, aside: &[Row<Allocation>]) {
    let heard = |row: &&Row<Allocation>| {
        let kept = row.superseded == Some(Superseded::Retired) && !is_current(workload, row);
        !kept && planning.cluster.nodes.get(&row.node).is_some_and(|node| !node.is_gone())
    };
    let rank = |row: &&Row<Allocation>| {
        (
            is_available(&planning.cluster, row),
            is_current(workload, row),
            fits(planning, workload, home, row).is_ok(),
            std::cmp::Reverse(row.id),
        )
    };
    if let Some(best) = aside.iter().filter(heard).max_by_key(rank).cloned() {
        planning.update_because(&best, Some("it has its slot again".into()), |a| {
            if a.superseded.take() == Some(Superseded::Retired) {
                a.intent = Intent::Run;
            }
        });
    }
}
