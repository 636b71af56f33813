//! What workloads wish: neighbours, preferences, even shares, nodes that stay; and who makes way for whom.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::{
    Cpu, Duration, WorkloadKey,
    machine::{GpuFacts, GpuState},
    report::AllocationState,
    resource::Intent,
    spec::{Affinity, GpuCount, GpuRequest, Preference, RestartPolicy, WorkloadSpec},
};
use lattice_planner::{Ledger, Outlook};
use std::{collections::BTreeMap, sync::Arc};
use support::*;

/// A stack of its own with one workload of this priority.
fn elsewhere(
    scene: &mut Scene,
    stack: &str,
    replicas: u32,
    priority: i16,
    change: impl FnOnce(&mut WorkloadSpec),
) {
    let key: WorkloadKey = format!("default/{stack}/it").parse().unwrap();
    let mut spec = WorkloadSpec::of_image("img");
    spec.placement.priority = priority;
    change(&mut spec);
    let row = scene.row(workload_of(key, Arc::new(spec), 1, replicas));
    scene.cluster.put_workload(row);
}

fn where_is(scene: &Scene, name: &str) -> Vec<usize> {
    let mut nodes: Vec<usize> =
        scene.active(name).iter().map(|row| (0..9).find(|n| node_id(*n) == row.node).unwrap()).collect();
    nodes.sort_unstable();
    nodes
}

fn pending(scene: &mut Scene) -> usize {
    scene.plan().1.pending.iter().map(|pending| pending.slots.len()).sum()
}

fn to(who: &str) -> Affinity {
    Affinity { to: who.parse().unwrap(), over: None, weight: None }
}

fn label(scene: &mut Scene, node: usize, key: &str, value: &str) {
    scene.node(node, |node| drop(node.labels.insert(key.into(), value.into())));
}

#[test]
fn neighbours_are_near_or_apart_and_who_comes_later_heeds_those_who_are_there() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8)]);
    scene.stack();
    scene.workload("db", 1, |_| {});
    scene.settle();
    let db = where_is(&scene, "db")[0];
    scene.workload("web", 1, |s| s.placement.near = vec![to("db")]);
    scene.workload("noisy", 2, |s| s.placement.apart = vec![to("db")]);
    scene.settle();
    assert_eq!(where_is(&scene, "web"), [db]);
    assert!(!where_is(&scene, "noisy").contains(&db) && where_is(&scene, "noisy").len() == 2);
    // Quiet work that says nothing itself is kept away by the noisy one's wish.
    scene.workload("shy", 2, |s| {
        s.labels.insert("tier".into(), "quiet".into());
        s.placement.apart = vec![to("tier=loud")];
    });
    scene.settle();
    let shy = where_is(&scene, "shy");
    scene.workload("loud", 1, |s| drop(s.labels.insert("tier".into(), "loud".into())));
    scene.settle();
    assert!(!shy.contains(&where_is(&scene, "loud")[0]));
    // Nobody is near whom it has to be near: it waits and says so.
    scene.workload("lost", 1, |s| s.placement.near = vec![to("other/thing")]);
    let report = scene.settle();
    let why = &report.pending.iter().find(|p| p.workload.workload.as_str() == "lost").unwrap().why;
    assert!(why.contains("no default/other/thing near"), "{why}");
}

#[test]
fn what_is_preferred_decides_between_nodes_that_are_as_good() {
    let mut scene = Scene::with_nodes(&[(4, 8), (8, 16), (4, 8)]);
    scene.stack();
    label(&mut scene, 2, "disk", "ssd");
    let prefer = Preference { node: "node.labels.disk == ssd".parse().unwrap(), weight: 20 };
    scene.workload("cache", 1, |s| s.placement.prefers = vec![prefer.clone()]);
    scene.settle();
    assert_eq!(where_is(&scene, "cache"), [2]);
    let row = &scene.active("cache")[0];
    assert!(row.explanation.contains("is preferred"), "{}", row.explanation);
}

#[test]
fn no_value_is_further_ahead_than_allowed() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (1, 1)]);
    scene.stack();
    for (node, rack) in [(0, "a"), (1, "a"), (2, "b")] {
        label(&mut scene, node, "rack", rack);
    }
    scene.workload("web", 6, |s| {
        s.placement.spread = vec!["node.labels.rack".parse().unwrap()];
        s.placement.max_skew = Some(1);
        s.resources.reserved_cpu = Some(Cpu(500));
    });
    let report = scene.settle();
    let mut racks: BTreeMap<&str, u32> = BTreeMap::new();
    for node in where_is(&scene, "web") {
        *racks.entry(if node == 2 { "b" } else { "a" }).or_default() += 1;
    }
    assert_eq!(racks, [("a", 3), ("b", 2)].into());
    let why = &report.pending[0].why;
    assert!(why.contains("its node.labels.rack has its share already"), "{why}");
}

#[test]
fn work_goes_where_the_node_stays_as_long_as_it_lasts() {
    let mut scene = Scene::with_nodes(&[(8, 16), (4, 8)]);
    scene.stack();
    // The larger one leaves within the hour.
    let leaves = Outlook { stays: [95, 20, 0, 0], ..Outlook::default() };
    let stays = Outlook { stays: [90, 90, 85, 60], ..Outlook::default() };
    scene.cluster.outlooks.insert(node_id(0), leaves);
    scene.cluster.outlooks.insert(node_id(1), stays);
    scene.workload("web", 1, |_| {});
    let job = |minutes: u64| {
        move |s: &mut WorkloadSpec| {
            s.restart = RestartPolicy::Never;
            s.placement.lasts = Some(Duration::from_secs(60 * minutes));
        }
    };
    scene.workload("short", 1, job(20));
    scene.workload("long", 1, job(300));
    scene.settle();
    assert_eq!(where_is(&scene, "web"), [1]);
    assert_eq!((where_is(&scene, "short"), where_is(&scene, "long")), (vec![0], vec![1]));
    assert!(scene.active("web")[0].explanation.contains("stays most likely"));
}

#[test]
fn those_of_lower_priority_make_way_and_as_few_as_will_do() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.stack();
    for (stack, cpu) in [("small", 1000), ("large", 3000)] {
        elsewhere(&mut scene, stack, 2, 0, |s| s.resources.reserved_cpu = Some(Cpu(cpu)));
    }
    scene.settle();
    assert_eq!(pending(&mut scene), 0);
    elsewhere(&mut scene, "urgent", 1, 10, |s| s.resources.reserved_cpu = Some(Cpu(2000)));
    let (plan, report) = scene.plan();
    let gone: Vec<_> = scene
        .cluster
        .allocations()
        .values()
        .filter(|row| row.intent == Intent::Remove)
        .map(|row| row.workload.stack.to_string())
        .collect();
    assert_eq!(gone, ["large"], "{plan:#?}");
    assert!(report.placed.iter().any(|p| p.why.contains("of lower priority made way for it")));
    scene.settle();
    // Whoever went waits, and takes nobody's place of the same priority.
    assert_eq!(pending(&mut scene), 1);
    elsewhere(&mut scene, "also", 1, 0, |s| s.resources.reserved_cpu = Some(Cpu(2000)));
    scene.settle();
    assert_eq!(pending(&mut scene), 2);
}

#[test]
fn what_is_more_important_chooses_first() {
    let mut scene = Scene::with_nodes(&[(2, 4)]);
    scene.stack();
    for (stack, priority) in [("a", -1), ("b", 3), ("c", 0)] {
        elsewhere(&mut scene, stack, 1, priority, |s| s.resources.reserved_cpu = Some(Cpu(2000)));
    }
    scene.workload("low", 1, |s| s.placement.priority = -9);
    scene.workload("high", 1, |s| {
        s.placement.priority = 2;
        s.resources.reserved_cpu = Some(Cpu(2000));
    });
    let (plan, report) = scene.plan();
    let placed: Vec<String> = report.placed.iter().map(|p| p.workload.to_string()).collect();
    assert_eq!(placed, ["default/b/it"]);
    assert_eq!(plan.steps.len(), 1, "nobody is placed only to make way: {plan:#?}");
}

#[test]
fn a_gpu_is_handed_over_to_work_of_higher_priority() {
    let mut scene = Scene::with_nodes(&[(8, 16)]);
    scene.stack();
    let gpu = GpuFacts { id: "GPU-1".into(), lent: true, state: GpuState::Proven, ..GpuFacts::default() };
    scene.node(0, |node| node.facts.machine.gpus = vec![gpu]);
    let one = |s: &mut WorkloadSpec| s.gpus = Some(GpuRequest::any(GpuCount::Exactly(1)));
    elsewhere(&mut scene, "batch", 1, 0, one);
    scene.settle();
    elsewhere(&mut scene, "serve", 1, 5, one);
    scene.plan();
    let serve = scene
        .cluster
        .allocations()
        .values()
        .find(|row| row.workload.stack.as_str() == "serve")
        .cloned()
        .unwrap();
    let batch = scene.cluster.allocations().get(&serve.replaces.unwrap()).cloned().unwrap();
    assert_eq!((batch.workload.stack.as_str(), batch.intent), ("batch", Intent::Remove));
    assert_eq!(serve.gpus, batch.gpus);
    scene.obey();
    scene.settle();
    let running =
        scene.cluster.allocations().values().filter(|row| row.status.state == AllocationState::Running);
    assert_eq!(running.map(|row| row.workload.stack.to_string()).collect::<Vec<_>>(), ["serve"]);
    assert_eq!(pending(&mut scene), 1);
}

/// A ledger that has seen a whole story decides as one that is made for the last chapter.
#[test]
fn a_kept_ledger_decides_as_a_new_one() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (2, 4)]);
    scene.stack();
    let mut kept = Ledger::default();
    for round in 0..12u32 {
        scene.workload("web", round % 5, |s| s.resources.reserved_cpu = Some(Cpu(300 + 100 * (round % 3))));
        scene.workload("batch", (round * 7) % 4, |s| s.placement.max_per_node = Some(2));
        scene.node((round % 3) as usize, |node| {
            node.capacity.cpu = Cpu::from_cores(1 + round % 4);
        });
        let changed = [shop()].into();
        let mut dice = 1u128 << 90;
        let mut random = || {
            dice += 1 << 80;
            dice
        };
        let one = kept.plan(&scene.cluster, &changed, &scene.policy, scene.now, &mut random);
        dice = 1u128 << 90;
        let mut random = || {
            dice += 1 << 80;
            dice
        };
        let other = lattice_planner::plan(&scene.cluster, &changed, &scene.policy, scene.now, &mut random);
        assert_eq!(one, other, "round {round}");
        scene.plan();
        scene.obey();
    }
}
