//! Taints: what they keep away, what they only make worse, and what they send away by turns.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    PoolName, Timestamp,
    resource::{Pool, Taint},
    spec::{Mode, Toleration, WorkloadSpec},
    taint::not_borne,
};
use lattice_planner::goal::goal_for;
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::*;

fn taint(text: &str) -> Taint {
    text.parse().unwrap()
}

fn bears(texts: &'static [&str]) -> impl FnOnce(&mut WorkloadSpec) {
    move |spec| spec.placement.tolerations = texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// How many replicas of its own a workload has on each node.
fn spread(scene: &Scene, name: &str) -> BTreeMap<usize, usize> {
    let mut spread = BTreeMap::new();
    for row in scene.active(name).iter().filter(|row| row.superseded.is_none()) {
        *spread.entry((0..9).find(|n| node_id(*n) == row.node).unwrap()).or_default() += 1;
    }
    spread
}

#[test]
fn a_taint_that_refuses_keeps_new_work_away_and_lets_stay_what_runs() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    scene.stack();
    scene.workload("old", 1, |_| ());
    scene.settle();
    scene.node(0, |node| node.taints = [taint("gpu=train:refuse")].into());
    scene.workload("new", 1, |_| ());
    scene.workload("other", 1, bears(&["gpu=show"]));
    scene.workload("train", 1, bears(&["gpu=train"]));
    let report = scene.settle();
    assert_eq!((scene.active("old").len(), scene.active("train").len()), (1, 1));
    assert!(scene.active("new").is_empty() && scene.active("other").is_empty());
    let why: Vec<&str> = report.pending.iter().map(|pending| pending.why.as_str()).collect();
    assert!(why.iter().all(|why| why.contains("taint gpu=train:refuse")), "{why:?}");
    // Agents of earlier versions refuse words that they do not know.
    let goal = goal_for(&scene.cluster, node_id(0), &|_, _| None).unwrap();
    assert!(goal.allocations.values().all(|one| one.spec.placement.tolerations.is_empty()));
}

#[test]
fn a_taint_that_evicts_sends_away_by_turns_what_does_not_bear_it() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.stack();
    scene.node(1, |node| node.taints = [taint("cold:refuse")].into());
    scene.workload("web", 4, |_| ());
    scene.workload("bears", 1, bears(&["leaving"]));
    scene.settle();
    assert_eq!(spread(&scene, "web"), [(0, 4)].into());
    scene.node(1, |node| node.taints.clear());
    scene.node(0, |node| node.taints = [taint("leaving:evict")].into());
    let (mut least, mut rounds) = (4, 0);
    loop {
        scene.obey();
        let (plan, report) = scene.plan();
        least = least.min(scene.active("web").iter().filter(|row| row.status.is_serving()).count());
        rounds += 1;
        assert!(rounds < 200, "it never settles");
        if plan.steps.is_empty() {
            match report.next.values().min() {
                Some(next) => scene.now = *next,
                None => break,
            }
        }
    }
    assert_eq!((spread(&scene, "web"), spread(&scene, "bears")), ([(1, 4)].into(), [(0, 1)].into()));
    assert!(least >= 4, "one starts elsewhere before one stops here: {least}");
}

#[test]
fn what_a_taint_makes_worse_is_used_where_nothing_else_is_left() {
    let mut scene = Scene::with_nodes(&[(1, 8), (8, 8)]);
    scene.stack();
    scene.node(1, |node| node.taints = [taint("slow:avoid")].into());
    scene.workload("web", 2, |spec| spec.resources.reserved_cpu = Some(lattice_model::Cpu::from_cores(1)));
    scene.settle();
    assert_eq!(spread(&scene, "web"), [(0, 1), (1, 1)].into());
    let last = scene.active("web").into_iter().find(|row| row.node == node_id(1)).unwrap();
    assert!(last.explanation.contains("though it has the taint slow:avoid"), "{}", last.explanation);
}

#[test]
fn the_nodes_of_a_pool_have_its_taints_and_what_runs_on_each_heeds_them() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.stack();
    let lab: PoolName = "lab".parse().unwrap();
    let pool =
        Pool { name: lab.clone(), taints: [taint("lab:evict")].into(), ..Pool::default_pool(Timestamp(0)) };
    let row = scene.row(pool);
    scene.cluster.pools.insert(lab.clone(), row);
    scene.node(1, |node| node.pool = lab.clone());
    scene.workload("plain", 1, |spec| {
        (spec.pool, spec.mode) = ("lab".parse().unwrap(), Mode::Global);
    });
    scene.workload("bears", 1, |spec| {
        (spec.pool, spec.mode) = ("lab".parse().unwrap(), Mode::Global);
        bears(&["lab"])(spec);
    });
    scene.settle();
    assert_eq!((spread(&scene, "plain"), spread(&scene, "bears")), (BTreeMap::new(), [(1, 1)].into()));
}

#[test]
fn a_group_bears_what_all_of_it_bears() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    scene.stack();
    scene.node(0, |node| node.taints = [taint("gpu=train:refuse")].into());
    for (name, tolerations) in [("app", &["gpu"][..]), ("db", &["gpu=train"])] {
        scene.workload(name, 1, |spec| {
            network(spec);
            spec.placement.tolerations = tolerations.iter().map(|text| text.parse().unwrap()).collect();
        });
    }
    scene.settle();
    assert_eq!((scene.active("app").len(), scene.active("db").len()), (1, 1));
    scene.workload("cache", 1, network);
    let report = scene.settle();
    assert!(
        scene.active("cache").is_empty() && report.pending.iter().any(|p| p.why.contains("taint gpu=train"))
    );
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b"])
}

prop_compose! {
    fn some_taint()(key in word(), value in word(), effect in prop::sample::select(vec!["refuse", "avoid", "evict"])) -> Taint {
        taint(&format!("{key}={value}:{effect}"))
    }
}

prop_compose! {
    fn toleration()(key in word(), value in prop::option::of(word())) -> Toleration {
        Toleration { key: key.into(), value: value.map(Into::into) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever taints come and go: at rest nothing runs where a taint evicts it, nothing was newly placed where one
    /// refuses it, and planning again changes nothing.
    #[test]
    fn at_rest_nothing_is_where_a_taint_evicts_it(
        changes in prop::collection::vec((0usize..3, prop::collection::btree_set(some_taint(), 0..3)), 1..6),
        tolerations in prop::collection::vec(prop::collection::vec(toleration(), 0..3), 2),
    ) {
        use lattice_model::resource::TaintEffect::{Evict, Refuse};
        let mut scene = Scene::with_nodes(&[(8, 8), (8, 8), (8, 8)]);
        scene.stack();
        for (name, tolerations) in ["one", "two"].into_iter().zip(&tolerations) {
            scene.workload(name, 2, |spec| spec.placement.tolerations = tolerations.clone());
        }
        scene.settle_in_time();
        for (node, taints) in changes {
            let before: Vec<_> = scene.cluster.allocations().keys().copied().collect();
            scene.node(node, |row| row.taints = taints);
            let report = scene.settle_in_time();
            for row in scene.cluster.allocations().values() {
                let node = &scene.cluster.nodes[&row.node];
                let bears = &row.spec.placement.tolerations;
                let stays = report.stays.iter().any(|stay| stay.allocation == row.id);
                prop_assert!(stays || not_borne(&node.taints, bears, &[Evict]).is_none(), "{row:?} on {node:?}");
                let new = !before.contains(&row.id);
                prop_assert!(!new || not_borne(&node.taints, bears, &[Evict, Refuse]).is_none(), "{row:?} on {node:?}");
            }
            prop_assert!(scene.plan().0.steps.is_empty());
        }
    }
}
