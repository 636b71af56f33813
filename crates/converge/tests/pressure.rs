//! The machine is short of memory or disk: who makes way, who is not fetched, and how it comes back.

#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use lattice_converge::{Input, Pressure};
use lattice_model::{
    AllocationId, Bytes, Duration, GoalAllocation,
    report::{AllocationState, AllocationStatus},
    spec::RestartPolicy,
};
use std::{collections::BTreeMap, sync::Arc};
use world::{World, allocation, goal, id, with_network};

fn service(name: &str, priority: i16, reserved: u64, restart: RestartPolicy) -> GoalAllocation {
    allocation(name, |a| {
        let spec = Arc::make_mut(&mut a.spec);
        spec.placement.priority = priority;
        spec.resources.reserved_memory = Some(Bytes(reserved));
        spec.restart = restart;
    })
}

/// Runs these; the first is `id(1)`.
fn runs(services: impl IntoIterator<Item = GoalAllocation>) -> World {
    let mut world = World::new();
    world.list();
    world.give(1, &goal(services));
    world.settle();
    world
}

fn short(used: &[(u128, u64)]) -> Input {
    let used: BTreeMap<AllocationId, Bytes> = used.iter().map(|(n, used)| (id(*n), Bytes(*used))).collect();
    Input::Pressure(Pressure {
        memory: Some("memory is nearly used up".into()),
        evict: true,
        used,
        disk: None,
    })
}

fn evicted(world: &World, all: u128) -> Vec<u128> {
    (1..=all).filter(|n| world.status(id(*n)).displaced).collect()
}

#[test]
fn the_lowest_priority_goes_first_then_who_is_furthest_over() {
    let always = RestartPolicy::Always;
    let mut world = runs([
        service("a", 5, 100, always),
        service("b", 0, 100, always),
        service("c", 0, 100, always),
        service("job", -9, 0, RestartPolicy::Never),
    ]);
    assert_eq!(world.running(), 4);
    let used = [(1, 9000), (2, 150), (3, 120), (4, 9000)];
    for (n, gone) in [vec![2], vec![2, 3], vec![1, 2, 3], vec![1, 2, 3]].into_iter().enumerate() {
        world.input(short(&used));
        world.settle();
        assert_eq!(evicted(&world, 4), gone, "round {n}");
    }
    assert_eq!(world.running(), 1, "a job that may not be started again is left alone");
    let AllocationStatus { state, reason, .. } = world.status(id(2));
    assert_eq!(state, AllocationState::BackingOff);
    let reason = reason.unwrap();
    assert!(
        reason.contains("needs its memory: memory is nearly used up") && reason.contains("50 B more"),
        "{reason}"
    );
}

#[test]
fn one_at_a_time() {
    let mut world =
        runs([service("a", 0, 0, RestartPolicy::Always), service("b", 0, 0, RestartPolicy::Always)]);
    // The engine has not stopped the first yet.
    world.input(short(&[]));
    world.input(short(&[]));
    world.input(short(&[]));
    world.settle();
    assert_eq!(world.running(), 1);
}

#[test]
fn it_comes_back_when_there_is_memory_and_later_each_time() {
    let mut world = runs([service("a", 0, 0, RestartPolicy::Always)]);
    for minutes in [1, 2, 4] {
        world.input(short(&[]));
        world.settle();
        world.pass(Duration::from_secs(7200));
        assert_eq!(world.running(), 0, "not while there is none");
        world.input(Input::Pressure(Pressure::default()));
        world.settle();
        assert_eq!((world.running(), evicted(&world, 1)), (1, vec![]));
        // Shorter than the eviction lasts.
        world.input(short(&[]));
        world.settle();
        world.input(Input::Pressure(Pressure::default()));
        world.pass(Duration::from_secs(minutes * 60 * 2 - 5));
        assert_eq!(world.running(), 0, "{minutes}");
        world.pass(Duration::from_secs(10 + minutes * 60 * 6));
        assert_eq!(world.running(), 1, "{minutes}");
    }
    assert_eq!(world.status(id(1)).restarts, 0, "it did not end by itself");
}

#[test]
fn who_made_way_still_does_after_a_crash_of_the_agent() {
    let mut world = runs([service("a", 0, 0, RestartPolicy::Always)]);
    world.input(short(&[]));
    world.settle();
    world.crash_agent();
    world.settle();
    assert_eq!(world.running(), 0);
    world.pass(Duration::from_secs(120));
    assert_eq!(world.running(), 1);
}

#[test]
fn a_full_disk_fetches_nothing_and_leaves_what_runs() {
    let mut world = runs([service("a", 0, 0, RestartPolicy::Always)]);
    let full = Pressure { disk: Some("the disk is nearly full".into()), ..Pressure::default() };
    world.input(Input::Pressure(full));
    let always = |a: &mut GoalAllocation| {
        Arc::make_mut(&mut a.spec).pull = lattice_model::spec::PullPolicy::Always;
    };
    let more = [service("a", 0, 0, RestartPolicy::Always), allocation("b", always)];
    world.give(2, &goal(more));
    world.settle();
    assert_eq!((world.running(), world.count("pull")), (1, 0));
    let status = world.status(id(2));
    assert_eq!((status.state, status.displaced), (AllocationState::Waiting, true));
    assert!(status.reason.unwrap().contains("is not fetched while this machine is short of disk space"));
    world.input(Input::Pressure(Pressure::default()));
    world.settle();
    assert_eq!((world.running(), world.count("pull"), world.status(id(2)).displaced), (2, 1, false));
}

#[test]
fn a_full_disk_makes_no_network() {
    let mut world = runs([]);
    let full = Pressure { disk: Some("the disk is nearly full".into()), ..Pressure::default() };
    world.input(Input::Pressure(full));
    let mut wanted = goal([service("a", 0, 0, RestartPolicy::Always)]);
    with_network(&mut wanted);
    world.give(2, &wanted);
    world.settle();
    assert_eq!((world.running(), world.count("create network")), (0, 0));
    let reason = world.status(id(1)).reason.unwrap();
    assert!(reason.contains("nothing is while this machine is short of disk space"), "{reason}");
    world.input(Input::Pressure(Pressure::default()));
    world.settle();
    assert_eq!((world.running(), world.count("create network")), (1, 1));
}
