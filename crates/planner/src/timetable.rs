//! Jobs with a schedule: what became of each time that was due, and the run that goes on.
//!
//! How far a schedule has come is in the workload's row ([`Timetable`]), and a run begins by the same step that moves
//! it on. That step names the revision which it was decided on and is carried out under the leader's guard, so a time
//! is taken once, whoever plans and however often. What is due and cannot begin stays undecided, up to `catch_up`.
//!
//! States of a schedule: *idle* (no run, or the last one has ended), *under way*. Between two runs nothing is placed,
//! replaced or moved, whatever is deployed: a run takes the version that there is when it begins, to its end.
//!
//! Rejected: a list of times to come, which would have to be kept right when the schedule changes; a run for each time
//! that was missed, as nobody wants a night's worth of them in the morning.

use crate::{
    cluster::{Cluster, Row},
    gang::place_together,
    home::{Home, is_connected},
    place::place,
    plan::Step,
    planning::Planning,
    progress::Failing,
    rollout::{former, needs_of, start_tasks},
    slots::{Slot, has_ended, is_current, settle_asides, slots},
    stage::Versions,
};
use lattice_cron::{Due, Times};
use lattice_model::{
    Duration, Timestamp,
    resource::{
        Allocation, Intent, MissedRuns, ScheduledRun, Superseded, Timetable, Workload, WorkloadRevision,
    },
    spec::{Overlap, RestartPolicy, Schedule},
};
use std::collections::BTreeMap;

/// So late is in time: plans take turns.
const IN_TIME: Duration = Duration::from_secs(5);

pub(crate) fn reconcile_scheduled(
    planning: &mut Planning<'_>,
    workload: &Workload,
    schedule: &Schedule,
    home: &Home,
) {
    let next = decide(planning, workload, schedule);
    let under_way = next.timetable.as_ref().and_then(Timetable::under_way).cloned();
    make_way(planning, &next, under_way.is_some());
    if let Some(run) = &under_way {
        let versions = Versions::of(&planning.cluster, &next);
        settle_asides(planning, &next, home, &versions);
        go_on(planning, &next, home, &versions, run);
    }
    if next != *workload {
        planning.write_workload(next);
    }
}

/// When a workload is due next; `None` where nothing comes by itself.
pub fn next_due(workload: &Workload, now: Timestamp) -> Option<Timestamp> {
    let schedule = workload.spec.schedule.as_ref().filter(|schedule| !schedule.suspended)?;
    let table = workload.timetable.as_ref();
    if workload.desired != lattice_model::goal::DesiredState::Run || table.is_some_and(|t| t.paused.is_some())
    {
        return None;
    }
    let until = table.filter(|table| same_times(&table.of, schedule)).map_or(now, |table| table.until);
    Times::read(&schedule.cron, &schedule.zone).ok()?.after(until.max(now))
}

fn same_times(a: &Schedule, b: &Schedule) -> bool {
    (&a.cron, &a.zone, a.suspended) == (&b.cron, &b.zone, b.suspended)
}

/// The slots of a run that there are.
fn slots_of(workload: &Workload, run: &ScheduledRun) -> impl Iterator<Item = u32> + use<> {
    1..=run.replicas.min(workload.replicas)
}

fn is_gone(cluster: &Cluster, row: &Allocation) -> bool {
    cluster.nodes.get(&row.node).is_none_or(|node| node.is_gone())
}

/// What is left of a run: for each replica that has not ended, its own allocation where it has one.
fn left(cluster: &Cluster, workload: &Workload, run: &ScheduledRun) -> Vec<Option<Row<Allocation>>> {
    let mut all = slots(cluster, &workload.key);
    let own = slots_of(workload, run).map(|slot| all.remove(&slot).and_then(|there| there.own));
    own.filter(|own| !own.as_ref().is_some_and(|row| row.restart == workload.restart && has_ended(row)))
        .collect()
}

/// The workload as it is to be: how far its schedule has come, and whether a run begins.
fn decide(planning: &mut Planning<'_>, workload: &Workload, schedule: &Schedule) -> Workload {
    let now = planning.now;
    let mut next = workload.clone();
    let mut table = match workload.timetable.clone() {
        Some(mut table) => {
            if !same_times(&table.of, schedule) {
                table.until = now;
            }
            if table.of != *schedule {
                table.of = schedule.clone();
            }
            table
        }
        None => {
            // What ran before it had a schedule is its first run, and nobody's time.
            let runs = |row: &Row<Allocation>| {
                row.intent == Intent::Run && row.superseded.is_none() && !has_ended(row)
            };
            let goes_on = planning.cluster.allocations_of(&workload.key).any(runs);
            let replicas = workload.replicas;
            let run = goes_on.then_some(ScheduledRun { due: None, begun: now, ended: None, replicas });
            Timetable { run, ..Timetable::begin(schedule.clone(), now) }
        }
    };
    if let Some(run) = table.run.as_mut().filter(|run| run.ended.is_none())
        && left(&planning.cluster, workload, run).is_empty()
    {
        run.ended = Some(now);
    }
    if !schedule.suspended && table.paused.is_none() {
        take_due(planning, &mut next, &mut table, schedule);
    }
    next.timetable = Some(table);
    // There is nothing to take over by turns: the next run is the new version.
    if next.settled != next.generation {
        next.settled = next.generation;
        if let Some(kept) = former(&planning.cluster, &next.key, next.generation) {
            let kept = WorkloadRevision { came_up: true, ..kept };
            planning.plan.steps.push(Step::Keep(Box::new(kept)));
        }
    }
    next
}

/// Decides about what was due and is not decided yet.
fn take_due(planning: &mut Planning<'_>, next: &mut Workload, table: &mut Timetable, schedule: &Schedule) {
    let (now, stack) = (planning.now, next.key.stack_key());
    // It was found good when it was deployed.
    let Ok(times) = Times::read(&schedule.cron, &schedule.zone) else { return };
    let wake = |planning: &mut Planning<'_>, after: Timestamp| {
        if let Some(at) = times.after(after) {
            planning.wake(stack.clone(), at);
        }
    };
    let Some(due) = times.due(table.until, now) else { return wake(planning, table.until.max(now)) };
    wake(planning, now);
    let late = now.since(due.last);
    let blocked = blocked(planning, next, table, schedule.overlap);
    let most = if blocked.is_some() { schedule.catch_up } else { schedule.catch_up.max(IN_TIME) };
    if late > most {
        let why = match blocked.or_else(|| overlapped(&planning.cluster, next, table, &due)) {
            Some(why) => format!("{why}, and that was more than {} too late", schedule.catch_up),
            None => format!(
                "nothing was begun at that time, as the control plane was down or its clock stood wrong, and later than \
                 {} is too late",
                schedule.catch_up
            ),
        };
        let Due { first, last, count, more, before_last: _ } = due;
        table.until = last;
        return miss(
            planning,
            next,
            MissedRuns { workload: next.key.clone(), first, last, count, more, why, at: now },
        );
    }
    if let Some(why) = blocked {
        planning.wake(stack, due.last + most + Duration::from_millis(1));
        let slots = (1..=next.replicas).collect();
        return planning.waits_its_turn(&next.key, slots, format!("a run is due, and {why}"));
    }
    if let Some(last) = due.before_last {
        let why = overlapped(&planning.cluster, next, table, &due)
            .map(|why| format!("{why}; one run makes up for all"))
            .unwrap_or_else(|| "they were found out together, and one run makes up for all".into());
        let (workload, first, count, more) = (next.key.clone(), due.first, due.count - 1, due.more);
        miss(planning, next, MissedRuns { workload, first, last, count, more, why, at: now });
    }
    table.until = due.last;
    next.restart += 1;
    let ended = (next.replicas == 0).then_some(now);
    table.run = Some(ScheduledRun { due: Some(due.last), begun: now, ended, replicas: next.replicas });
}

fn miss(planning: &mut Planning<'_>, next: &Workload, missed: MissedRuns) {
    debug_assert_eq!(next.key, missed.workload);
    planning.plan.steps.push(Step::Missed(Box::new(missed)));
}

/// Why no run can begin now, where that is so: the one before goes on.
fn blocked(
    planning: &Planning<'_>,
    workload: &Workload,
    table: &Timetable,
    overlap: Overlap,
) -> Option<String> {
    let run = table.under_way()?;
    let rows = left(&planning.cluster, workload, run);
    // What was on a machine that is lost, and may not be started again, has come to its end.
    let given_up =
        |row: &Row<Allocation>| row.spec.restart == RestartPolicy::Never && is_gone(&planning.cluster, row);
    if rows.iter().all(|own| own.as_ref().is_some_and(given_up)) {
        return None;
    }
    if overlap == Overlap::Skip {
        return Some("the run before it had not ended".into());
    }
    let unknown = rows
        .iter()
        .flatten()
        .find(|row| !is_connected(&planning.cluster, row.node) && !is_gone(&planning.cluster, row))?;
    Some(format!(
        "{}, where the run before it is, is away, so nobody can stop that",
        planning.name(unknown.node)
    ))
}

/// Whether times were due while the run before went on, which has ended since.
fn overlapped(cluster: &Cluster, workload: &Workload, table: &Timetable, due: &Due) -> Option<String> {
    let run = table.run.as_ref()?;
    let finished = |row: &Row<Allocation>| row.status.ended_run.map(|ended| ended.finished_at);
    let rows = cluster.allocations_of(&workload.key).filter(|row| row.restart == workload.restart);
    let ended = rows.filter_map(finished).max().or(run.ended)?;
    (run.begun <= due.first && ended >= due.first).then(|| "the run before it had not ended".to_owned())
}

/// Sends away what is left of former runs and goes on: one that is of no run that goes on and has ended stays until its
/// slot is needed, for its logs.
fn make_way(planning: &mut Planning<'_>, workload: &Workload, under_way: bool) {
    let heard = |planning: &Planning<'_>, row: &Row<Allocation>| {
        is_connected(&planning.cluster, row.node) || is_gone(&planning.cluster, row)
    };
    for Slot { own, aside, leaving: _ } in slots(&planning.cluster, &workload.key).into_values() {
        for row in aside {
            let over = !under_way || row.restart != workload.restart;
            if over && heard(planning, &row) {
                let why = "the run that it is of is over".to_owned();
                planning.update_because(&row, Some(why), |a| a.intent = Intent::Remove);
            }
        }
        let Some(row) = own.filter(|row| under_way && row.restart != workload.restart && !has_ended(row))
        else {
            continue;
        };
        if is_gone(&planning.cluster, &row) {
            let why = format!("{}, and another run has begun", planning.gone(row.node));
            planning.update_because(&row, Some(why), |a| a.superseded = Some(Superseded::Lost));
        } else if heard(planning, &row) {
            let why = "another run takes its place".to_owned();
            planning.update_because(&row, Some(why), |a| a.intent = Intent::Remove);
        }
    }
}

/// Fills the slots of a run, and tries again what failed with its node.
fn go_on(
    planning: &mut Planning<'_>,
    workload: &Workload,
    home: &Home,
    versions: &Versions,
    run: &ScheduledRun,
) {
    let mut all = slots(&planning.cluster, &workload.key);
    let mut wanted = BTreeMap::new();
    let mut away: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for slot in slots_of(workload, run) {
        let own = all.remove(&slot).and_then(|there| there.own);
        match own {
            Some(row) if row.restart != workload.restart && !has_ended(&row) => {
                away.entry(planning.name(row.node)).or_default().push(slot);
            }
            Some(row) if row.restart == workload.restart && has_ended(&row) => {}
            // It began as a former version, and goes on as that.
            Some(row)
                if row.restart == workload.restart
                    && !is_current(workload, &row)
                    && !is_gone(&planning.cluster, &row) =>
            {
                planning.update(&row, |a| a.intent = Intent::Run);
            }
            _ => drop(wanted.insert(slot, None)),
        }
    }
    let waits: Vec<u32> = away.values().flatten().copied().collect();
    for (node, slots) in away {
        let why = format!("{node}, where the run before it is, is away, so nobody can stop that");
        planning.waits_its_turn(&workload.key, slots, why);
    }
    let mut needs = needs_of(planning, workload, home, &wanted, &Failing::default(), versions);
    start_tasks(planning, workload, &mut needs);
    if let Home::Away { why, hint } = home
        && !needs.away.is_empty()
    {
        planning.pending(&workload.key, needs.away, why.clone(), hint);
    }
    let mut now = needs.now;
    now.extend(needs.turns);
    if !workload.spec.is_gang() {
        place(planning, workload, now, home);
    } else if waits.is_empty() {
        place_together(planning, &|_| workload, now, home);
    } else if !now.is_empty() {
        let slots = now.iter().map(|vacancy| vacancy.slot).collect();
        let why = format!("#{} has no place, and they come together", waits[0]);
        planning.waits_its_turn(&workload.key, slots, why);
    }
}
