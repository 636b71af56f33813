//! Files that travel with a deployment, against an engine in memory.

#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use lattice_converge::Input;
use lattice_model::{
    Duration, Goal, GoalAllocation,
    report::AllocationState,
    spec::{TreeDigest, TreeMount, WorkloadSpec},
};
use world::{World, allocation, goal, id};

fn with_tree(contents: &'static [u8]) -> impl Fn(&mut GoalAllocation) {
    move |a| {
        let mut spec = WorkloadSpec::of_image("img");
        let tree = TreeDigest::of(contents);
        spec.trees.push(TreeMount { tree, path: String::new(), target: "/etc/app".into() });
        a.spec = spec.into();
    }
}

fn began(goal: &Goal) -> World {
    let mut world = World::new();
    world.list();
    world.give(1, goal);
    world
}

#[test]
fn files_are_fetched_once_for_all_before_anything_is_made() {
    let mut world = began(&goal([
        allocation("a", with_tree(b"x")),
        allocation("b", with_tree(b"x")),
        allocation("c", |_| {}),
    ]));
    let status = world.status(id(1));
    assert_eq!(status.state, AllocationState::Pulling);
    assert!(status.reason.unwrap().contains("fetches its files"));
    world.settle();
    assert_eq!((world.running(), world.count("fetch tree")), (3, 1));
    // Listed again, nothing is fetched again.
    world.list();
    world.settle();
    assert_eq!(world.count("fetch tree"), 1);
}

#[test]
fn what_cannot_be_fetched_is_told_and_tried_again_at_once_when_the_link_is_back() {
    let mut world = World::new();
    world.no_link = true;
    world.list();
    world.give(1, &goal([allocation("a", with_tree(b"x")), allocation("b", |_| {})]));
    world.pass(Duration::from_secs(600));
    let status = world.status(id(1));
    assert_eq!(status.state, AllocationState::BackingOff);
    assert!(status.reason.unwrap().contains("no link to the server"));
    assert_eq!(world.running(), 1, "nobody else waits for it");
    assert!((4..15).contains(&world.count("fetch tree")), "it is tried ever later");
    world.no_link = false;
    world.input(Input::Linked);
    world.settle();
    assert_eq!(world.running(), 2);
}

#[test]
fn files_that_were_taken_away_are_fetched_before_the_next_start() {
    let mut world = began(&goal([allocation("a", with_tree(b"x"))]));
    world.settle();
    world.trees.clear();
    // The first listing may have begun before it was unpacked.
    world.list();
    world.list();
    world.settle();
    assert_eq!(world.count("fetch tree"), 1, "what runs has them mounted");
    world.die(id(1), 1);
    world.pass(Duration::from_secs(2));
    assert_eq!((world.running(), world.count("fetch tree")), (1, 2));
}

#[test]
fn files_that_nothing_mounts_stay_for_an_hour() {
    let mut world = began(&goal([allocation("a", with_tree(b"x"))]));
    world.settle();
    let mut next = goal([]);
    next.allocations = [(id(2), allocation("a", with_tree(b"y")))].into();
    world.give(2, &next);
    world.pass(Duration::from_secs(3500));
    assert_eq!(world.trees.len(), 2);
    world.pass(Duration::from_secs(200));
    assert_eq!(world.trees.iter().copied().collect::<Vec<_>>(), [TreeDigest::of(b"y")]);
    assert_eq!(world.running(), 1);
    // Whoever goes back within the hour finds it.
    world.give(3, &Goal::default());
    world.pass(Duration::from_secs(1800));
    next.allocations = [(id(3), allocation("a", with_tree(b"y")))].into();
    world.give(4, &next);
    world.pass(Duration::from_secs(7200));
    assert_eq!((world.trees.len(), world.count("fetch tree"), world.running()), (1, 2, 1));
}
