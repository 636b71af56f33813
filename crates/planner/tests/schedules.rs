//! Jobs with a schedule: each time that is due is run once or said to be missed, whatever happens in between.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    AllocationId, Duration, Timestamp,
    report::{AllocationState, AllocationStatus, EndedRun},
    resource::{Allocation, Intent, MissedRuns, Paused, PresenceState, ScheduledRun, Timetable, Workload},
    spec::{Overlap, RestartPolicy, Schedule, TaskArray, WorkloadSpec},
};
use lattice_planner::{Plan, Row, Step, goal::goal_for, next_due};
use proptest::prelude::*;
use std::sync::Arc;
use support::*;

const MINUTE: i64 = 60_000;
/// 2026-11-23T20:00:00Z.
const START: Timestamp = Timestamp(1_795_464_000_000);

fn minute(n: i64) -> Timestamp {
    Timestamp(START.0 + n * MINUTE)
}

fn scene(cron: &str, change: impl FnOnce(&mut WorkloadSpec)) -> Scene {
    let mut scene = Scene::with_nodes(&[(8, 16), (8, 16)]);
    scene.now = Timestamp(START.0 + 1000);
    scene.stack();
    scene.workload("job", 1, |spec| {
        spec.restart = RestartPolicy::Never;
        spec.schedule = Some(Schedule::of(cron));
        change(spec);
    });
    scene
}

fn schedule(spec: &mut WorkloadSpec) -> &mut Schedule {
    spec.schedule.as_mut().unwrap()
}

fn own(scene: &Scene) -> Vec<Row<Allocation>> {
    scene.filling("job")
}

fn job(scene: &Scene) -> Arc<Workload> {
    Arc::clone(&scene.cluster.workloads()[&key("job")].value)
}

fn table(scene: &Scene) -> Timetable {
    job(scene).timetable.clone().unwrap()
}

fn run(scene: &Scene) -> ScheduledRun {
    table(scene).run.unwrap()
}

fn ends(scene: &mut Scene, id: AllocationId, code: i64) {
    let mut row = (*scene.cluster.allocations()[&id].value).clone();
    let state = if code == 0 { AllocationState::Completed } else { AllocationState::Failed };
    let ended = EndedRun { started_at: row.placed_at, finished_at: scene.now };
    row.status =
        AllocationStatus { exit_code: Some(code), ended_run: Some(ended), ..AllocationStatus::new(state) };
    let row = scene.row(row);
    scene.cluster.put_allocation(row);
}

fn all_end(scene: &mut Scene) {
    tidy(scene);
    for row in own(scene) {
        ends(scene, row.id, 0);
    }
}

/// Nodes that are there remove what is to go.
fn tidy(scene: &mut Scene) {
    let rows: Vec<_> = scene.cluster.allocations().values().cloned().collect();
    for row in rows.into_iter().filter(|row| row.intent == Intent::Remove) {
        if scene.cluster.nodes[&row.node].presence.state == PresenceState::Connected {
            scene.cluster.remove_allocation(row.id);
        }
    }
}

fn missed(plan: &Plan) -> Vec<MissedRuns> {
    let one = |step: &Step| if let Step::Missed(missed) = step { Some((**missed).clone()) } else { None };
    plan.steps.iter().filter_map(one).collect()
}

fn created(plan: &Plan) -> usize {
    plan.steps.iter().filter(|step| matches!(step, Step::Create(_))).count()
}

/// Plans until nothing changes; what was missed on the way.
fn plan_all(scene: &mut Scene) -> Vec<MissedRuns> {
    let mut all = Vec::new();
    for _ in 0..20 {
        let (plan, _) = scene.plan();
        tidy(scene);
        if plan.steps.is_empty() {
            return all;
        }
        all.extend(missed(&plan));
    }
    panic!("it never settles");
}

#[test]
fn it_runs_when_it_is_due_and_not_when_it_is_deployed() {
    let mut scene = scene("*/5 * * * *", |_| {});
    let (plan, report) = scene.plan();
    assert_eq!(created(&plan), 0, "{plan:#?}");
    assert_eq!(report.next[&shop()], minute(5));
    assert_eq!(job(&scene).settled, 1, "there is nothing to wait for");
    assert_eq!(next_due(&job(&scene), scene.now), Some(minute(5)));
    assert!(scene.plan().0.steps.is_empty());
    for round in 1..4u64 {
        scene.now = Timestamp(minute(5 * round as i64).0 + 3);
        let (plan, report) = scene.plan();
        assert_eq!((created(&plan), missed(&plan).len()), (1, 0), "{report:#?}");
        assert_eq!(report.next[&shop()], minute(5 * round as i64 + 5));
        tidy(&mut scene);
        let rows = own(&scene);
        assert_eq!((rows.len(), rows[0].restart, rows[0].due), (1, round, Some(minute(5 * round as i64))));
        let goal = goal_for(&scene.cluster, rows[0].node, &|_, _| None).unwrap();
        assert_eq!(goal.allocations[&rows[0].id].spec.schedule, None, "agents know no schedules");
        assert!(scene.plan().0.steps.is_empty());
        scene.now = Timestamp(scene.now.0 + 100);
        ends(&mut scene, rows[0].id, i64::from(round == 2));
        plan_all(&mut scene);
        assert_eq!(run(&scene).ended, Some(scene.now));
        assert_eq!(own(&scene)[0].id, rows[0].id, "it stays, for its logs");
    }
}

#[test]
fn a_run_is_of_one_version_and_the_next_one_of_the_next() {
    let mut scene = scene("*/5 * * * *", |_| {});
    plan_all(&mut scene);
    let deploy = |scene: &mut Scene, image: &str| {
        scene.change("job", |w| {
            w.spec = Arc::new(WorkloadSpec { image: image.into(), ..(*w.spec).clone() });
            w.generation += 1;
        });
    };
    scene.now = minute(5);
    plan_all(&mut scene);
    deploy(&mut scene, "two");
    plan_all(&mut scene);
    assert_eq!((own(&scene).len(), own(&scene)[0].spec.image.as_str()), (1, "img"), "it goes on");
    assert_eq!(job(&scene).settled, 2);
    all_end(&mut scene);
    plan_all(&mut scene);
    deploy(&mut scene, "three");
    scene.now = minute(9);
    assert_eq!(created(&scene.plan().0), 0, "a deployment runs nothing");
    scene.change("job", |w| w.replicas = 3);
    assert_eq!(created(&scene.plan().0), 0);
    scene.now = minute(10);
    plan_all(&mut scene);
    assert!(own(&scene).iter().all(|row| row.spec.image == "three" && row.generation == 3));
    assert_eq!(own(&scene).len(), 3);
    // Another time takes effect from now: what the old one had due is nobody's.
    all_end(&mut scene);
    plan_all(&mut scene);
    scene.now = minute(17);
    scene.change("job", |w| {
        let mut spec = (*w.spec).clone();
        spec.schedule = Some(Schedule::of("*/4 * * * *"));
        w.spec = Arc::new(spec);
    });
    assert_eq!(plan_all(&mut scene), []);
    assert_eq!((run(&scene).due, next_due(&job(&scene), scene.now)), (Some(minute(10)), Some(minute(20))));
}

#[test]
fn what_is_due_while_it_runs_begins_afterwards_unless_it_is_too_late() {
    let mut scene = scene("*/5 * * * *", |spec| schedule(spec).catch_up = Duration::from_secs(120));
    plan_all(&mut scene);
    scene.now = minute(5);
    plan_all(&mut scene);
    scene.now = minute(10);
    let (plan, report) = scene.plan();
    assert!(plan.steps.is_empty(), "{plan:#?}");
    assert_eq!(report.pending[0].why, "a run is due, and the run before it had not ended");
    assert_eq!(report.next[&shop()], Timestamp(minute(12).0 + 1));
    // In time: late, and once.
    scene.now = minute(11);
    all_end(&mut scene);
    assert_eq!(plan_all(&mut scene), []);
    let late = run(&scene);
    assert_eq!((late.due, late.begun), (Some(minute(10)), minute(11)));
    // Too late: missed, and the reason.
    scene.now = Timestamp(minute(17).0 + 1);
    let missed = plan_all(&mut scene);
    assert_eq!((missed[0].first, missed[0].last, missed[0].count), (minute(15), minute(15), 1));
    assert_eq!(missed[0].why, "the run before it had not ended, and that was more than 2m too late");
    assert_eq!(run(&scene).due, Some(minute(10)));
    // Several in one: the last is made up for.
    scene.now = minute(26);
    all_end(&mut scene);
    let missed = plan_all(&mut scene);
    assert_eq!((missed[0].first, missed[0].last, missed[0].count), (minute(20), minute(20), 1));
    assert_eq!(missed[0].why, "the run before it had not ended; one run makes up for all");
    assert_eq!(run(&scene).due, Some(minute(25)));
}

#[test]
fn nobody_wants_a_night_of_runs_in_the_morning() {
    let mut scene = scene("*/5 * * * *", |_| {});
    plan_all(&mut scene);
    scene.now = minute(600);
    let missed = plan_all(&mut scene);
    assert_eq!((missed.len(), missed[0].count, missed[0].last), (1, 119, minute(595)));
    assert_eq!((run(&scene).due, job(&scene).restart), (Some(minute(600)), 1), "one makes up for all");
    all_end(&mut scene);
    plan_all(&mut scene);
    // With another time that is longer ago than may be.
    scene.change("job", |w| {
        let mut spec = (*w.spec).clone();
        spec.schedule = Some(Schedule::of("@daily"));
        w.spec = Arc::new(spec);
    });
    plan_all(&mut scene);
    scene.now = minute(600 + 30 * 1440);
    let missed = plan_all(&mut scene);
    assert_eq!((missed.len(), missed[0].count, job(&scene).restart), (1, 30, 1));
    assert!(missed[0].why.contains("the control plane was down"), "{missed:?}");
    // A clock that was ahead of time runs nothing twice, until somebody says that it was wrong.
    scene.now = minute(700);
    assert_eq!((plan_all(&mut scene), job(&scene).restart), (vec![], 1));
    scene.change("job", |w| w.timetable.as_mut().unwrap().go_on_from(minute(700)));
    assert_eq!(next_due(&job(&scene), scene.now), Some(minute(1680)));
}

#[test]
fn replace_stops_what_runs() {
    let mut scene = scene("*/5 * * * *", |spec| schedule(spec).overlap = Overlap::Replace);
    plan_all(&mut scene);
    scene.now = minute(5);
    plan_all(&mut scene);
    let first = own(&scene)[0].clone();
    scene.status(first.id, AllocationState::Running);
    scene.now = minute(10);
    plan_all(&mut scene);
    let second = own(&scene)[0].clone();
    assert_ne!(second.id, first.id);
    assert_eq!((own(&scene).len(), second.due), (1, Some(minute(10))));
    assert!(!scene.cluster.allocations().contains_key(&first.id));
    // Nobody can stop what is on a node that is away.
    scene.status(second.id, AllocationState::Running);
    let place = usize::from(second.node != node_id(0));
    let since = Timestamp(minute(12).0);
    scene.node(place, |node| {
        node.presence.state = PresenceState::Disconnected;
        node.presence.since = since;
    });
    scene.now = minute(15);
    let (plan, report) = scene.plan();
    assert!(plan.steps.is_empty(), "{plan:#?}");
    assert!(report.pending[0].why.contains("is away, so nobody can stop that"), "{report:#?}");
    // Lost for good, it is over; and what comes back goes.
    scene.node(place, |node| node.presence.state = PresenceState::Lost);
    plan_all(&mut scene);
    assert_eq!((own(&scene).len(), own(&scene)[0].due), (1, Some(minute(15))));
    assert_ne!(own(&scene)[0].node, second.node);
    scene.node(place, |node| node.presence.state = PresenceState::Connected);
    plan_all(&mut scene);
    assert!(!scene.cluster.allocations().contains_key(&second.id));
}

#[test]
fn a_run_whose_node_is_lost_is_over_when_the_next_one_is_due() {
    let mut scene = scene("*/5 * * * *", |_| {});
    plan_all(&mut scene);
    scene.now = minute(5);
    plan_all(&mut scene);
    let first = own(&scene)[0].clone();
    scene.status(first.id, AllocationState::Running);
    let place = usize::from(first.node != node_id(0));
    scene.node(place, |node| node.presence.state = PresenceState::Lost);
    let (plan, report) = scene.plan();
    assert!(plan.steps.is_empty() && report.stays[0].for_good, "{report:#?}");
    scene.now = minute(10);
    plan_all(&mut scene);
    assert_eq!((own(&scene).len(), own(&scene)[0].due), (1, Some(minute(10))));
    assert_ne!(own(&scene)[0].node, first.node);
}

#[test]
fn what_is_held_is_not_due_and_somebody_may_run_it_all_the_same() {
    let mut scene = scene("*/5 * * * *", |_| {});
    plan_all(&mut scene);
    scene.change("job", |w| {
        w.timetable.as_mut().unwrap().paused = Some(Paused { by: "ada".into(), at: START });
    });
    scene.now = minute(60);
    let (plan, report) = scene.plan();
    assert!(plan.steps.is_empty() && report.next.is_empty());
    assert_eq!(next_due(&job(&scene), scene.now), None);
    let now = scene.now;
    scene.change("job", |w| w.run_now(now));
    plan_all(&mut scene);
    assert_eq!((own(&scene).len(), own(&scene)[0].due), (1, None));
    all_end(&mut scene);
    plan_all(&mut scene);
    assert_eq!(run(&scene).ended, Some(now));
    scene.change("job", |w| {
        let table = w.timetable.as_mut().unwrap();
        table.paused = None;
        table.go_on_from(now);
    });
    assert_eq!(plan_all(&mut scene), []);
    assert_eq!(next_due(&job(&scene), scene.now), Some(minute(65)));
    // What its file holds is held as well.
    scene.change("job", |w| {
        let mut spec = (*w.spec).clone();
        schedule(&mut spec).suspended = true;
        w.spec = Arc::new(spec);
    });
    plan_all(&mut scene);
    scene.now = minute(90);
    assert!(scene.plan().0.steps.is_empty());
}

#[test]
fn the_tasks_of_a_run_are_as_many_at_a_time() {
    let mut scene = scene("*/5 * * * *", |spec| {
        spec.replicas = 3;
        spec.array = Some(TaskArray { parallel: 2 });
    });
    scene.change("job", |w| w.replicas = 3);
    plan_all(&mut scene);
    for round in 1..3 {
        scene.now = minute(5 * round);
        plan_all(&mut scene);
        let running = |scene: &Scene| {
            let ended = |row: &Row<Allocation>| row.status.ended_run.is_some();
            own(scene).into_iter().filter(|row| !ended(row)).collect::<Vec<_>>()
        };
        assert_eq!(running(&scene).len(), 2);
        for id in running(&scene).iter().map(|row| row.id).collect::<Vec<_>>() {
            ends(&mut scene, id, 1);
        }
        plan_all(&mut scene);
        assert_eq!((running(&scene).len(), run(&scene).ended), (1, None));
        all_end(&mut scene);
        plan_all(&mut scene);
        assert_eq!(run(&scene).ended, Some(scene.now));
        assert!(own(&scene).iter().all(|row| row.due == Some(minute(5 * round))));
    }
}

#[test]
fn a_gang_begins_together_when_it_is_due() {
    let mut scene = scene("*/5 * * * *", |spec| {
        spec.replicas = 2;
        spec.placement.gang = true;
        spec.placement.max_per_node = Some(1);
    });
    scene.change("job", |w| w.replicas = 2);
    plan_all(&mut scene);
    scene.node(1, |node| node.eligibility = lattice_model::resource::Eligibility::Cordoned);
    scene.now = minute(5);
    let (plan, report) = scene.plan();
    assert_eq!((created(&plan), report.pending[0].slots.len()), (0, 2), "{report:#?}");
    scene.node(1, |node| node.eligibility = lattice_model::resource::Eligibility::Eligible);
    scene.now = minute(6);
    plan_all(&mut scene);
    assert_eq!(own(&scene).iter().filter(|row| row.due == Some(minute(5))).count(), 2);
}

#[test]
fn what_ran_before_it_had_a_schedule_goes_on() {
    let mut scene = scene("*/5 * * * *", |spec| spec.schedule = None);
    plan_all(&mut scene);
    let first = own(&scene)[0].clone();
    scene.status(first.id, AllocationState::Running);
    scene.change("job", |w| {
        let mut spec = (*w.spec).clone();
        spec.schedule = Some(Schedule { catch_up: Duration(0), ..Schedule::of("*/5 * * * *") });
        w.spec = Arc::new(spec);
    });
    plan_all(&mut scene);
    scene.now = minute(5);
    let missed = plan_all(&mut scene);
    assert_eq!(missed.len(), 0, "to the millisecond it is in time");
    scene.now = Timestamp(minute(5).0 + 1);
    assert_eq!(plan_all(&mut scene)[0].count, 1);
    all_end(&mut scene);
    plan_all(&mut scene);
    scene.now = Timestamp(minute(10).0 + 2000);
    plan_all(&mut scene);
    assert_eq!(own(&scene)[0].due, Some(minute(10)), "plans take turns: two seconds are in time");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

    /// Time goes on, stands still, jumps forward by up to a year and back; runs end or do not; nodes come and go; it is
    /// deployed, held and run by hand: no time is run twice, times rise, planning again changes nothing, and whatever
    /// was due by the end was run or is said to be missed.
    #[test]
    fn each_time_is_run_once_or_missed(
        replace in any::<bool>(),
        catch_up in 0u64..1200,
        acts in proptest::collection::vec((0usize..12, 0i64..40), 1..40),
    ) {
        let mut scene = scene("*/5 * * * *", |spec| {
            schedule(spec).overlap = if replace { Overlap::Replace } else { Overlap::Skip };
            schedule(spec).catch_up = Duration::from_secs(catch_up);
        });
        plan_all(&mut scene);
        let mut runs: Vec<Timestamp> = Vec::new();
        let mut decided = table(&scene).until;
        let mut counted = 0u64;
        for (act, n) in acts {
            let before = job(&scene).restart;
            match act {
                0..=3 => scene.now = Timestamp(scene.now.0 + n * 20_000),
                4 => scene.now = Timestamp(scene.now.0 - n * MINUTE),
                5 => scene.now = Timestamp(scene.now.0 + n * n * 330 * MINUTE),
                6 | 7 => all_end(&mut scene),
                8 => scene.node((n % 2) as usize, |node| node.presence.state = PresenceState::Lost),
                9 => scene.node((n % 2) as usize, |node| node.presence.state = PresenceState::Connected),
                10 => scene.node((n % 2) as usize, |node| {
                    node.presence.state = PresenceState::Disconnected;
                }),
                _ => scene.change("job", |w| w.generation += 1),
            }
            let missed = plan_all(&mut scene);
            let table = table(&scene);
            let began = job(&scene).restart - before;
            prop_assert!(began <= 1, "one jump begins at most one run");
            if began == 1 {
                let due = table.run.unwrap().due.unwrap();
                prop_assert!(runs.last().is_none_or(|last| *last < due), "{runs:?} {due:?}");
                let most = Duration::from_secs(catch_up.max(5));
                prop_assert!(due <= scene.now && scene.now.since(due) <= most);
                runs.push(due);
                counted += 1;
            }
            let said: u64 = missed.iter().map(|one| u64::from(one.count)).sum();
            counted += said;
            prop_assert!(table.until >= decided);
            prop_assert!(own(&scene).len() <= 1);
            if missed.iter().any(|one| one.more) {
                counted = ((table.until.0 - START.0) / (5 * MINUTE)) as u64;
            }
            prop_assert_eq!(counted, ((table.until.0 - START.0) / (5 * MINUTE)) as u64, "each is accounted for");
            decided = table.until;
        }
    }
}
