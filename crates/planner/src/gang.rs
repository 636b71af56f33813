//! Replicas that come together: all of a gang find their places, or none takes one.
//!
//! They are placed one after the other as any other replica, with all that goes with it (who makes way, who is waited
//! for, which ports are taken), and all of it is taken back where one finds none. Rejected: the scheduler's own
//! [`place_all`](lattice_scheduler::fleet::Fleet::place_all), which knows of room and rules alone.

use crate::{
    home::Home,
    place::{How, Vacancy, place},
    plan::Pending,
    planning::Planning,
    slots::{has_ended, slots},
    stage::Versions,
};
use lattice_model::{NodeId, resource::Workload};
use std::collections::BTreeMap;

/// Places all of them or none: who finds a place does not hold it while others wait. `target` is what a slot is to run.
/// Whether they were placed.
pub(crate) fn place_together<'w>(
    planning: &mut Planning<'_>,
    target: &dyn Fn(u32) -> &'w Workload,
    vacancies: Vec<Vacancy>,
    home: &Home,
) -> bool {
    if vacancies.is_empty() {
        return true;
    }
    let slots: Vec<u32> = vacancies.iter().map(|vacancy| vacancy.slot).collect();
    let mark = planning.mark();
    let known = planning.report.pending.len();
    for vacancy in vacancies {
        place(planning, target(vacancy.slot), vec![vacancy], home);
    }
    let wait: Vec<Pending> = planning.report.pending.split_off(known);
    let Some(first) = wait.first() else { return true };
    planning.go_back(&mark);
    let missing: usize = wait.iter().map(|pending| pending.slots.len()).sum();
    let why = match slots.len() - missing {
        0 => first.why.clone(),
        found => format!(
            "{found} of {} replicas would find a place, and they get theirs together or not at all: {}",
            slots.len(),
            first.why
        ),
    };
    planning.report.pending.push(Pending { slots, why, ..first.clone() });
    false
}

/// Those of a gang that have no place and come together. As long as they find none, those that run are not replaced only
/// to be told how many there are.
pub(crate) fn gang(
    planning: &mut Planning<'_>,
    workload: &Workload,
    home: &Home,
    versions: &Versions,
    now: &mut Vec<Vacancy>,
    turns: &mut Vec<Vacancy>,
) -> Vec<Vacancy> {
    let comes = |vacancy: &mut Vacancy| match vacancy.how {
        How::Fill | How::Lost => true,
        How::Now => vacancy.old.as_ref().is_some_and(|old| has_ended(old)),
        How::StopFirst | How::StartFirst => false,
    };
    let fresh: Vec<Vacancy> = now.extract_if(.., comes).collect();
    let mark = planning.mark();
    let found = place_together(planning, &|slot| versions.target(workload, slot), fresh.clone(), home);
    planning.go_back(&mark);
    if !found {
        let told = |vacancy: &mut Vacancy| {
            let old = vacancy.old.as_ref().filter(|_| vacancy.moves.is_none());
            old.is_some_and(|old| old.generation == workload.generation)
        };
        let held = now.extract_if(.., told).chain(turns.extract_if(.., told));
        let held: Vec<u32> = held.map(|vacancy| vacancy.slot).collect();
        if !held.is_empty() {
            let why = "those that come to it wait for their places, and all hear of them at once".to_owned();
            planning.waits_its_turn(&workload.key, held, why);
        }
    }
    fresh
}

/// Gives those of a gang that have no place theirs, all or none, when the others have theirs.
pub(crate) fn place_gang<'w>(
    planning: &mut Planning<'_>,
    workload: &Workload,
    target: &dyn Fn(u32) -> &'w Workload,
    home: &Home,
    fresh: Vec<Vacancy>,
    wanted: &BTreeMap<u32, Option<NodeId>>,
) {
    let there = slots(&planning.cluster, &workload.key);
    let empty = |slot: &&u32| {
        let own = there.get(*slot).is_some_and(|there| there.own.is_some());
        !own && !fresh.iter().any(|vacancy| vacancy.slot == **slot)
    };
    let first = wanted.keys().find(empty).copied();
    match first.filter(|_| !fresh.is_empty()) {
        Some(slot) => {
            let slots = fresh.iter().map(|vacancy| vacancy.slot).collect();
            planning.waits_its_turn(
                &workload.key,
                slots,
                format!("#{slot} has no place, and they come together"),
            );
        }
        None => drop(place_together(planning, target, fresh, home)),
    }
}
