//! What the owner's rules let run: nothing, nothing new, or everything again.

#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use lattice_converge::{Admission, Input};
use lattice_model::{
    GoalAllocation,
    goal::DesiredState,
    report::AllocationState,
    spec::{RestartPolicy, WorkloadSpec},
};
use world::{World, allocation, goal, id, with_volume};

fn job() -> GoalAllocation {
    let mut spec = WorkloadSpec::of_image("img");
    spec.restart = RestartPolicy::Never;
    allocation("job", |a| a.spec = spec.into())
}

fn closed() -> Input {
    Input::Admission(Admission::Closed("outside of the hours".into()))
}

fn finishing() -> Input {
    Input::Admission(Admission::NothingNew("it finishes".into()))
}

#[test]
fn a_suspension_stops_all_and_its_end_starts_the_same_containers() {
    let mut world = World::new();
    world.list();
    world.give(
        1,
        &goal([allocation("web", |_| {}), job(), allocation("db", |a| a.desired = DesiredState::Stop)]),
    );
    world.settle();
    let before = (world.container(id(1)).unwrap().id.clone(), world.container(id(2)).unwrap().id.clone());
    world.input(closed());
    assert_eq!(world.status(id(1)).state, AllocationState::Stopping);
    world.settle();
    assert_eq!(world.running(), 0);
    for n in [1, 2] {
        let status = world.status(id(n));
        assert_eq!(
            (status.state, status.reason.as_deref()),
            (AllocationState::Waiting, Some("outside of the hours"))
        );
    }
    assert_eq!(world.status(id(3)).state, AllocationState::Stopped);
    // Neither a crash of the agent nor a new goal gets around it.
    world.crash_agent();
    world.input(closed());
    world.list();
    world.give(2, &goal([allocation("web", |a| a.restart = 1), job(), allocation("new", |_| {})]));
    world.settle();
    assert_eq!(world.running(), 0);
    assert_eq!(world.count("create"), 2, "{:?}", world.log);
    world.input(Input::Admission(Admission::Open));
    world.settle();
    assert_eq!(world.running(), 3);
    assert_eq!(world.container(id(1)).unwrap().id, before.0);
    assert_eq!(world.container(id(2)).unwrap().id, before.1, "a job goes on where it was");
    assert_eq!(world.status(id(1)).restarts, 0);
}

#[test]
fn nothing_is_made_while_suspended_and_what_is_to_go_goes() {
    let mut world = World::new();
    world.input(closed());
    world.list();
    let mut wanted = goal([allocation("web", |_| {})]);
    with_volume(&mut wanted, id(1), false);
    world.give(1, &wanted);
    world.settle();
    assert!(world.log.is_empty(), "{:?}", world.log);
    world.input(Input::Admission(Admission::Open));
    world.settle();
    assert_eq!(world.running(), 1);
    world.input(closed());
    world.give(2, &goal([]));
    world.settle();
    assert!(world.containers.is_empty(), "it still clears away");
}

#[test]
fn a_job_that_has_ended_stays_ended() {
    let mut world = World::new();
    world.list();
    world.give(1, &goal([job(), job()]));
    world.settle();
    world.die(id(1), 0);
    world.die(id(2), 3);
    world.settle();
    world.input(closed());
    world.settle();
    assert_eq!(world.status(id(1)).state, AllocationState::Completed);
    assert_eq!(world.status(id(2)).state, AllocationState::Failed);
    world.input(Input::Admission(Admission::Open));
    world.settle();
    assert_eq!((world.running(), world.status(id(1)).state), (0, AllocationState::Completed));
}

#[test]
fn finishing_lets_jobs_end_and_begins_nothing() {
    let mut world = World::new();
    world.list();
    world.give(1, &goal([job(), allocation("web", |_| {})]));
    world.settle();
    world.input(finishing());
    world.give(2, &goal([job(), allocation("web", |_| {}), allocation("new", |_| {})]));
    world.settle();
    assert_eq!(world.running(), 2);
    let new = world.status(id(3));
    assert_eq!((new.state, new.reason.as_deref()), (AllocationState::Waiting, Some("it finishes")));
    assert!(world.reconciler.jobs_under_way());
    // What has begun goes on, a service that fails too.
    world.die(id(2), 1);
    world.settle();
    assert_eq!(world.running(), 2);
    world.die(id(1), 0);
    world.settle();
    assert!(!world.reconciler.jobs_under_way());
    assert_eq!(world.running(), 1);
    world.input(Input::RuntimeLost("no answer".into()));
    assert!(world.reconciler.jobs_under_way(), "while the engine is not known, one may run");
}
