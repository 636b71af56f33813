//! Replicas that are unevenly spread, since nodes came, move one by one, and that comes to an end.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    Duration, NodeId, Timestamp,
    resource::{Eligibility, Presence, PresenceState},
    spec::{Rebalancing, UpdateOrder, WorkloadSpec},
};
use lattice_planner::{Rebalance, Step, rebalance::uneven};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::*;

const EVERY: Duration = Duration::from_secs(60);
const GENTLE: Rebalance = Rebalance { every: EVERY, moves: 1, after: Duration::from_secs(300) };

fn scene(sizes: &[(u32, u64)]) -> Scene {
    let mut scene = Scene::with_nodes(sizes);
    scene.policy.rebalance = Some(GENTLE);
    scene.now = Timestamp(1_000_000);
    scene
}

fn comes(scene: &mut Scene, n: usize) {
    let since = scene.now;
    scene.node(n, |node| {
        node.presence = Presence { state: PresenceState::Connected, since };
        node.eligibility = Eligibility::Eligible;
    });
}

/// Plans and obeys, and counts what is new: what the server does with the stacks that may be uneven.
fn moves(scene: &mut Scene) -> usize {
    let mut count = 0;
    for _ in 0..20 {
        let (plan, _) = scene.plan();
        count += plan.steps.iter().filter(|step| matches!(step, Step::Create(_))).count();
        scene.obey();
    }
    count
}

fn spread(scene: &Scene, name: &str) -> Vec<usize> {
    let mut counts: BTreeMap<NodeId, usize> = scene.cluster.nodes.keys().map(|node| (*node, 0)).collect();
    for row in scene.active(name).iter().filter(|row| row.superseded.is_none()) {
        *counts.get_mut(&row.node).unwrap() += 1;
    }
    counts.into_values().collect()
}

#[test]
fn a_node_that_comes_gets_its_share_one_by_one_and_says_why() {
    let mut scene = scene(&[(8, 16), (8, 16), (8, 16)]);
    scene.node(2, |node| node.presence.state = PresenceState::Disconnected);
    scene.workload("web", 6, |_| {});
    scene.obey();
    scene.settle();
    assert_eq!(spread(&scene, "web"), [3, 3, 0]);
    comes(&mut scene, 2);
    assert_eq!(moves(&mut scene), 0, "it may go again at once");
    assert!(uneven(&scene.cluster, scene.policy.rebalance, scene.now).is_empty());
    let (_, report) = scene.plan();
    assert_eq!(report.next[&shop()], scene.now + GENTLE.after);
    scene.now = report.next[&shop()];
    assert_eq!(uneven(&scene.cluster, scene.policy.rebalance, scene.now), [shop()]);

    let (plan, report) = scene.plan();
    assert_eq!(plan.steps.iter().filter(|step| matches!(step, Step::Create(_))).count(), 1);
    assert!(report.placed[0].why.contains("it is rebalanced: node-"), "{report:#?}");
    assert_eq!(scene.active("web").len(), 7, "the old one serves until the new one does");
    scene.obey();
    assert_eq!(moves(&mut scene), 0, "one a minute");
    assert_eq!(scene.active("web").len(), 6);
    scene.now = scene.now + EVERY;
    assert_eq!(moves(&mut scene), 1);
    assert_eq!(spread(&scene, "web"), [2, 2, 2]);
    scene.now = scene.now + EVERY;
    assert!(uneven(&scene.cluster, scene.policy.rebalance, scene.now).is_empty());
    assert_eq!(moves(&mut scene), 0, "it is even");
}

#[test]
fn who_does_not_want_it_stays() {
    let off = |s: &mut WorkloadSpec| s.placement.rebalance = Rebalancing::Off;
    let stop_first = |s: &mut WorkloadSpec| {
        s.update.parallelism = 2;
        s.update.order = UpdateOrder::StopFirst;
    };
    for (how, change) in [off as fn(&mut WorkloadSpec), stop_first, mount].into_iter().enumerate() {
        let mut scene = scene(&[(8, 16), (8, 16)]);
        scene.node(1, |node| node.presence.state = PresenceState::Disconnected);
        scene.workload("web", 4, change);
        scene.settle();
        comes(&mut scene, 1);
        scene.now = scene.now + Duration::from_secs(3600);
        assert_eq!((how, moves(&mut scene)), (how, 0));
    }
    // The cluster's policy outranks all.
    let mut scene = scene(&[(8, 16), (8, 16)]);
    scene.policy.rebalance = None;
    scene.node(1, |node| node.presence.state = PresenceState::Disconnected);
    scene.workload("web", 4, |_| {});
    scene.settle();
    comes(&mut scene, 1);
    scene.now = scene.now + Duration::from_secs(3600);
    assert_eq!(moves(&mut scene), 0);
}

#[test]
fn rooms_are_evened_out_before_nodes() {
    let mut scene = scene(&[(8, 16), (8, 16), (8, 16)]);
    for n in 0..3 {
        scene.node(n, |node| drop(node.labels.insert("room".into(), ["a", "a", "b"][n].into())));
    }
    scene.node(2, |node| node.presence.state = PresenceState::Disconnected);
    scene.workload("web", 4, |s| s.placement.spread = vec!["node.labels.room".parse().unwrap()]);
    scene.settle();
    comes(&mut scene, 2);
    scene.now = scene.now + GENTLE.after;
    scene.plan();
    let moved = scene.active("web").into_iter().find(|row| row.node == node_id(2)).unwrap();
    assert!(moved.explanation.contains("node.labels.room a had 4 replicas"), "{}", moved.explanation);
    scene.obey();
    scene.settle_in_time();
    assert_eq!(spread(&scene, "web"), [1, 1, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever runs where when nodes come, whichever rules it has: it moves no more than one a minute, each move makes
    /// the spread better, and after a bounded number of them nothing moves any more.
    #[test]
    fn it_ends_and_is_never_faster_than_it_may(
        replicas in proptest::collection::vec((1u32..9, 0u8..8), 1..4),
        away in proptest::collection::vec(any::<bool>(), 5),
    ) {
        let mut scene = scene(&[(2, 4), (4, 8), (8, 16), (2, 2), (4, 4)]);
        for (n, gone) in away.iter().enumerate() {
            scene.node(n, |node| {
                drop(node.labels.insert("room".into(), ["a", "b"][n % 2].into()));
                if *gone && n > 0 { node.presence.state = PresenceState::Disconnected; }
            });
        }
        let names = ["a", "b", "c"];
        for ((count, features), name) in replicas.iter().zip(names) {
            scene.workload(name, *count, |s| {
                if features & 1 != 0 { s.placement.spread = vec!["node.labels.room".parse().unwrap()]; }
                if features & 2 != 0 { s.placement.max_per_node = Some(3); }
                if features & 4 != 0 { s.placement.constraints = vec!["node.labels.room == a".parse().unwrap()]; }
            });
        }
        scene.obey();
        scene.settle();
        for n in 0..5 { comes(&mut scene, n); }
        // Those that found no place before are placed now.
        scene.settle();
        scene.obey();
        scene.settle();
        scene.now = scene.now + GENTLE.after;
        let squares = |scene: &Scene| -> usize {
            names.iter().flat_map(|name| spread(scene, name)).map(|count| count * count).sum()
        };
        let rooms = |scene: &Scene| -> usize {
            let of = |name: &str, room: usize| spread(scene, name).iter().enumerate().filter(|(n, _)| n % 2 == room).map(|(_, c)| c).sum::<usize>();
            names.iter().flat_map(|name| [of(name, 0), of(name, 1)]).map(|count| count * count).sum()
        };
        let mut still = 0;
        for minute in 0..200 {
            let before = (rooms(&scene), squares(&scene));
            let moved = moves(&mut scene);
            prop_assert!(moved <= 1, "{moved} in minute {minute}");
            let after = (rooms(&scene), squares(&scene));
            if moved == 0 {
                prop_assert_eq!(before, after);
                still += 1;
                if still == 3 { return Ok(()); }
            } else {
                prop_assert!(after.0 < before.0 || after.1 < before.1, "{before:?} to {after:?}");
                still = 0;
            }
            scene.now = scene.now + EVERY;
        }
        prop_assert!(false, "it never ends");
    }
}
