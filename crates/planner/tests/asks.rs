//! What workloads ask for beyond processor and memory: disk, network, shares of a GPU, places for all of a gang, and
//! nodes that leave at different hours.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::{
    BitRate, Bytes, Cpu,
    machine::{Bandwidth, GpuFacts, GpuState, GpuVendor},
    report::AllocationState,
    resource::{Allocation, Intent},
    spec::{GpuCount, GpuRequest, Rendezvous, RestartPolicy, TaskArray, WorkloadSpec},
};
use lattice_planner::{Outlook, Row, Step, goal::goal_for};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::*;

const GIB: u64 = 1 << 30;

fn where_is(scene: &Scene, name: &str) -> Vec<usize> {
    let at = |row: &&Row<Allocation>| (0..9).find(|n| node_id(*n) == row.node).unwrap();
    let mut nodes: Vec<usize> = scene.active(name).iter().map(at).collect();
    nodes.sort_unstable();
    nodes
}

fn why(scene: &mut Scene, name: &str) -> String {
    let report = scene.settle();
    let of = report.pending.iter().filter(|pending| pending.workload == key(name));
    of.map(|pending| pending.why.clone()).collect::<Vec<_>>().join("; ")
}

fn disk(gib: u64) -> impl FnOnce(&mut WorkloadSpec) {
    move |spec| spec.resources.reserved_disk = Some(Bytes(gib * GIB))
}

fn mbit(mbit: u64) -> impl FnOnce(&mut WorkloadSpec) {
    move |spec| spec.resources.reserved_bandwidth = Some(BitRate(mbit * 1_000_000))
}

fn lends(scene: &mut Scene, n: usize, disk: u64, link: Option<u64>) {
    scene.node(n, |node| {
        node.capacity.disk = Bytes(disk * GIB);
        let link = link.map(|mbit| BitRate(mbit * 1_000_000));
        node.facts.machine.bandwidth = Bandwidth { up: link, down: link };
    });
}

#[test]
fn disk_and_network_are_set_aside_and_who_finds_none_hears_of_it() {
    let mut scene = Scene::with_nodes(&[(8, 32), (8, 32)]);
    scene.stack();
    lends(&mut scene, 0, 100, Some(50));
    lends(&mut scene, 1, 30, None);
    scene.workload("db", 3, disk(40));
    assert_eq!(why(&mut scene, "db"), "none of 2 nodes fits (2: disk)");
    assert_eq!(where_is(&scene, "db"), [0, 0]);
    // Nothing is known of the network of the second node, so none of it is promised.
    scene.workload("feed", 3, mbit(20));
    assert_eq!(why(&mut scene, "feed"), "none of 2 nodes fits (2: bandwidth)");
    assert_eq!(where_is(&scene, "feed"), [0, 0]);
    // Who asks for neither goes anywhere.
    scene.workload("web", 2, |_| {});
    assert_eq!((why(&mut scene, "web").as_str(), where_is(&scene, "web").len()), ("", 2));
    // What goes gives it back.
    scene.change("db", |w| w.replicas = 1);
    scene.workload("cache", 1, disk(60));
    scene.settle();
    assert_eq!(where_is(&scene, "cache"), [0]);
}

#[test]
fn what_was_written_stands_in_no_successors_way() {
    let mut scene = Scene::with_nodes(&[(8, 32)]);
    scene.stack();
    lends(&mut scene, 0, 100, Some(50));
    let version = |n: u32, gib: u64| {
        move |spec: &mut WorkloadSpec| {
            disk(gib)(spec);
            spec.environment.insert("V".into(), n.to_string());
        }
    };
    scene.workload("db", 1, version(1, 60));
    scene.settle();
    // It has written half of it, and the agent says what is free.
    lends(&mut scene, 0, 70, Some(50));
    scene.workload("db", 1, version(2, 60));
    assert_eq!(why(&mut scene, "db"), "");
    lends(&mut scene, 0, 40, Some(50));
    scene.workload("db", 1, version(3, 60));
    assert_eq!(why(&mut scene, "db"), "");
    assert_eq!(scene.active("db")[0].generation, 3);
    // More than that is another matter.
    scene.workload("db", 1, version(4, 80));
    assert!(why(&mut scene, "db").contains("disk"));
}

#[test]
fn agents_hear_nothing_of_what_is_only_planned_for() {
    let mut scene = Scene::with_nodes(&[(8, 32)]);
    scene.stack();
    lends(&mut scene, 0, 100, Some(50));
    let plain = |scene: &Scene| {
        let goal = goal_for(&scene.cluster, node_id(0), &|_, _| None).unwrap();
        goal.allocations.into_values().next().unwrap().spec
    };
    scene.workload("db", 1, |_| {});
    scene.settle();
    let before = plain(&scene);
    scene.workload("db", 1, |s| {
        disk(1)(s);
        mbit(1)(s);
        s.placement.gang = true;
    });
    scene.settle();
    assert_eq!(plain(&scene), before);
}

fn card(node: usize, index: u32) -> GpuFacts {
    GpuFacts {
        id: format!("GPU-{node}{index}"),
        index,
        vendor: GpuVendor::Nvidia,
        model: "NVIDIA L4".into(),
        memory: Bytes(24 * GIB),
        lent: true,
        state: GpuState::Proven,
        ..GpuFacts::default()
    }
}

fn gives(scene: &mut Scene, n: usize, gpus: u32) {
    scene.node(n, |node| node.facts.machine.gpus = (0..gpus).map(|index| card(n, index)).collect());
}

fn share(thousandths: u16) -> GpuRequest {
    GpuRequest { share: Some(thousandths), ..GpuRequest::any(GpuCount::Exactly(1)) }
}

fn shares(thousandths: u16) -> impl FnOnce(&mut WorkloadSpec) {
    move |spec| spec.gpus = Some(share(thousandths))
}

fn gpus_of(scene: &Scene, name: &str) -> Vec<String> {
    scene.active(name).iter().map(|row| row.gpus.join(" ")).collect()
}

#[test]
fn one_gpu_is_shared_up_to_the_whole_of_it() {
    let mut scene = Scene::with_nodes(&[(8, 32)]);
    scene.stack();
    gives(&mut scene, 0, 2);
    scene.workload("small", 3, shares(250));
    scene.settle();
    let first = gpus_of(&scene, "small")[0].clone();
    assert_eq!(gpus_of(&scene, "small"), vec![first.clone(); 3], "what is shared already is shared on");
    scene.workload("whole", 1, |s| s.gpus = Some(GpuRequest::any(GpuCount::Exactly(1))));
    scene.settle();
    assert_ne!(gpus_of(&scene, "whole")[0], first);
    scene.workload("more", 2, shares(250));
    assert_eq!(
        why(&mut scene, "more"),
        "the only node does not fit (1: gpu: it needs 0.25 of 1 GPU, and it lends 2 NVIDIA L4 (24 GiB), 2 in use)"
    );
    assert_eq!(gpus_of(&scene, "more"), vec![first.clone()]);
    let goal = goal_for(&scene.cluster, node_id(0), &|_, _| None).unwrap();
    let told = goal.allocations.values().find(|one| one.workload == key("small")).unwrap();
    let request = told.spec.gpus.clone().unwrap();
    assert_eq!((request.share, request.ids.as_slice()), (None, [first].as_slice()));
    assert_eq!(told.spec.environment["LATTICE_GPU_SHARE"], "0.25");
    // What is not enough says so: nobody gets a whole one that is shared.
    scene.change("whole", |w| w.replicas = 2);
    assert!(why(&mut scene, "whole").contains("2 in use"));
}

#[test]
fn services_of_one_network_share_one_gpu() {
    let mut scene = Scene::with_nodes(&[(8, 32), (8, 32)]);
    scene.stack();
    gives(&mut scene, 1, 1);
    for (name, part) in [("a", 500), ("b", 250), ("c", 250)] {
        scene.workload(name, 1, |s| {
            network(s);
            shares(part)(s);
        });
    }
    assert_eq!(why(&mut scene, "c"), "");
    let all: BTreeSet<String> = ["a", "b", "c"].iter().flat_map(|name| gpus_of(&scene, name)).collect();
    assert_eq!(all, ["GPU-10".to_owned()].into());
    // An update of one takes its own part again.
    scene.workload("a", 1, |s| {
        network(s);
        shares(500)(s);
        s.environment.insert("V".into(), "2".into());
    });
    assert_eq!(why(&mut scene, "a"), "");
    assert_eq!((gpus_of(&scene, "a"), scene.active("a")[0].generation), (vec!["GPU-10".into()], 2));
}

fn gang(cores: u32) -> impl FnOnce(&mut WorkloadSpec) {
    move |spec| {
        spec.placement.gang = true;
        spec.resources.reserved_cpu = Some(Cpu::from_cores(cores));
    }
}

#[test]
fn a_gang_waits_for_all_of_its_places_and_holds_none() {
    let mut scene = Scene::with_nodes(&[(2, 8), (2, 8)]);
    scene.stack();
    scene.workload("train", 3, gang(2));
    assert_eq!(
        why(&mut scene, "train"),
        "2 of 3 replicas would find a place, and they get theirs together or not at all: none of 2 nodes fits (2: cpu)"
    );
    assert!(scene.active("train").is_empty());
    // Others take the room meanwhile.
    scene.workload("web", 1, |s| s.resources.reserved_cpu = Some(Cpu::from_cores(2)));
    scene.settle();
    assert_eq!(where_is(&scene, "web").len(), 1);
    let mut larger = Scene::with_nodes(&[(2, 8), (2, 8), (2, 8), (2, 8)]);
    larger.stack();
    larger.workload("web", 1, |s| s.resources.reserved_cpu = Some(Cpu::from_cores(2)));
    larger.settle();
    larger.workload("train", 3, gang(2));
    larger.settle();
    assert_eq!(where_is(&larger, "train").into_iter().collect::<BTreeSet<_>>().len(), 3);
    // Two more come together or not at all.
    larger.change("web", |w| w.replicas = 0);
    larger.change("train", |w| w.replicas = 5);
    assert!(why(&mut larger, "train").starts_with("1 of 2 replicas would find a place"));
    assert_eq!(larger.active("train").len(), 3);
    larger.change("train", |w| w.replicas = 4);
    larger.settle();
    assert_eq!(larger.active("train").len(), 4);
}

#[test]
fn replicas_that_meet_are_not_left_alone_where_not_all_have_room() {
    let mut scene = Scene::with_nodes(&[(8, 32), (8, 32)]);
    scene.stack();
    gives(&mut scene, 0, 2);
    gives(&mut scene, 1, 1);
    let meet = |spec: &mut WorkloadSpec| {
        network(spec);
        spec.gpus = Some(GpuRequest::any(GpuCount::Exactly(1)));
        spec.rendezvous = Some(Rendezvous { port: 4000 });
    };
    scene.workload("train", 3, meet);
    assert!(why(&mut scene, "train").contains("none of 2 nodes fits"));
    assert!(scene.active("train").is_empty(), "two of three cannot begin");
    scene.change("train", |w| w.replicas = 2);
    scene.settle();
    assert_eq!(where_is(&scene, "train"), [0, 0]);
    // A third finds no place beside them: those that are there go on as they are, two of two.
    scene.change("train", |w| w.replicas = 3);
    scene.settle();
    let worlds: Vec<u32> = scene.active("train").iter().map(|row| row.world).collect();
    assert_eq!(worlds, [2, 2]);
    gives(&mut scene, 0, 3);
    scene.settle_in_time();
    let worlds: Vec<u32> = scene.active("train").iter().map(|row| row.world).collect();
    assert_eq!(worlds, [3, 3, 3]);
}

#[test]
fn the_tasks_of_a_gang_run_again_together() {
    let mut scene = Scene::with_nodes(&[(2, 8), (2, 8)]);
    scene.stack();
    scene.workload("job", 2, |s| {
        gang(2)(s);
        s.restart = RestartPolicy::Never;
        s.replicas = 2;
        s.array = Some(TaskArray { parallel: 0 });
    });
    scene.settle();
    let ids: Vec<_> = scene.active("job").iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), 2);
    ids.into_iter().for_each(|id| scene.status(id, AllocationState::Completed));
    scene.workload("web", 1, |s| s.resources.reserved_cpu = Some(Cpu::from_cores(2)));
    scene.plan();
    scene.change("job", |w| w.restart += 1);
    let (_, report) = scene.plan();
    let pending = report.pending.iter().find(|pending| pending.workload == key("job")).unwrap();
    assert_eq!(pending.slots, [1, 2]);
    assert!(pending.why.starts_with("1 of 2 replicas would find a place"), "{}", pending.why);
}

#[test]
fn replicas_do_not_leave_in_the_same_hour() {
    let mut scene = Scene::with_nodes(&[(8, 32), (8, 32), (4, 16), (4, 16)]);
    scene.stack();
    let leaves = |scene: &mut Scene, n: usize, hour: Option<u8>| {
        scene.cluster.outlooks.insert(node_id(n), Outlook { leaves: hour, ..Outlook::default() });
    };
    leaves(&mut scene, 0, Some(8));
    leaves(&mut scene, 1, Some(8));
    leaves(&mut scene, 2, Some(18));
    leaves(&mut scene, 3, Some(8));
    scene.workload("web", 2, |_| {});
    scene.settle();
    assert_eq!(where_is(&scene, "web"), [0, 2], "the second is emptier and leaves with the first");
    let why: Vec<&str> = scene.active("web").iter().map(|row| row.explanation.as_str()).collect();
    assert!(why.iter().any(|why| why.contains("over hour of leaving")), "{why:?}");
    // Those that nobody expects to leave do not leave together.
    let mut scene = Scene::with_nodes(&[(8, 32), (8, 32), (4, 16)]);
    scene.stack();
    leaves(&mut scene, 2, Some(8));
    scene.workload("web", 2, |_| {});
    scene.settle();
    assert_eq!(where_is(&scene, "web"), [0, 1]);
    // More of them are spread over nodes first, as a node may break at any time.
    scene.workload("web", 6, |_| {});
    scene.settle_in_time();
    assert_eq!(where_is(&scene, "web"), [0, 0, 1, 1, 2, 2]);
}

/// Plans; where one of a gang comes that was not there, all of it is there afterwards.
fn plan_whole(scene: &mut Scene) {
    let has = |scene: &Scene, row: &Allocation, slot: u32| {
        let own =
            |a: &Row<Allocation>| a.slot == slot && a.intent != Intent::Remove && a.superseded.is_none();
        scene.cluster.allocations_of(&row.workload).any(own)
    };
    let before: Vec<_> = scene.cluster.allocations().values().map(|row| row.value.clone()).collect();
    let (plan, _) = scene.plan();
    for step in &plan.steps {
        let Step::Create(row) = step else { continue };
        let own = |a: &&std::sync::Arc<Allocation>| {
            (&a.workload, a.slot) == (&row.workload, row.slot)
                && a.intent != Intent::Remove
                && a.superseded.is_none()
        };
        let workload = scene.cluster.workloads()[&row.workload].value.clone();
        if workload.spec.is_gang() && !before.iter().any(|a| own(&a)) {
            let missing: Vec<u32> = (1..=workload.replicas).filter(|slot| !has(scene, row, *slot)).collect();
            assert!(missing.is_empty(), "{}.{} comes without {missing:?}", row.workload, row.slot);
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Deploy(usize, u32, u32, u16, u64, u8),
    Scale(usize, u32),
    Node(usize, u64, bool),
    Ends(usize),
    Obey,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0usize..4, 0u32..5, 0u32..4, 0u16..5, 0u64..3, any::<u8>())
            .prop_map(|(w, n, cores, quarters, gib, features)| Act::Deploy(w, n, cores, quarters, gib, features)),
        2 => (0usize..4, 0u32..6).prop_map(|(w, n)| Act::Scale(w, n)),
        2 => (0usize..3, 0u64..6, any::<bool>()).prop_map(|(n, gib, lost)| Act::Node(n, gib, lost)),
        2 => (0usize..8).prop_map(Act::Ends),
        4 => Just(Act::Obey),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    /// Gangs and others ask for shares of GPUs, disk and network, nodes go and come back. Every plan keeps the
    /// invariants (`Scene::plan` checks them: no room, disk, network or GPU is given beyond what there is, and no gang
    /// is begun in part), planning again changes nothing, and those that run never have more of a GPU than all of it.
    #[test]
    fn nothing_is_given_twice_and_gangs_come_together(acts in proptest::collection::vec(act(), 1..25)) {
        let names = ["a", "b", "c", "d"];
        let mut scene = Scene::with_nodes(&[(6, 32), (4, 32), (4, 32)]);
        scene.stack();
        for n in 0..3 {
            lends(&mut scene, n, 4, Some(10));
            gives(&mut scene, n, n as u32);
        }
        for act in acts {
            match act {
                Act::Deploy(w, replicas, cores, quarters, gib, features) => scene.workload(names[w], replicas, |s| {
                    s.placement.gang = features & 1 != 0;
                    if features & 2 != 0 { s.restart = RestartPolicy::Never; }
                    if features & 4 != 0 { mbit(4)(s); }
                    if features & 24 == 24 {
                        network(s);
                        s.rendezvous = (features & 32 != 0).then_some(Rendezvous { port: 1 });
                    }
                    s.placement.priority = i16::from(features >> 6);
                    s.resources.reserved_cpu = Some(Cpu::from_cores(cores));
                    disk(gib)(s);
                    s.gpus = (quarters > 0).then(|| share(quarters * 250));
                }),
                Act::Scale(w, n) => if scene.cluster.workloads().contains_key(&key(names[w])) {
                    scene.change(names[w], |w| w.replicas = n);
                },
                Act::Node(n, gib, lost) => scene.node(n, |node| {
                    use lattice_model::resource::PresenceState::{Connected, Lost};
                    node.capacity.disk = Bytes(gib * GIB);
                    node.presence.state = if lost { Lost } else { Connected };
                }),
                Act::Ends(n) => {
                    let ids: Vec<_> = scene.cluster.allocations().keys().copied().collect();
                    if let Some(id) = ids.get(n) { scene.status(*id, AllocationState::Completed); }
                }
                Act::Obey => scene.obey_and_leave_what_ended(),
            }
            for _ in 0..6 { plan_whole(&mut scene); }
            let (again, _) = scene.plan();
            prop_assert!(again.steps.is_empty(), "planning again changes nothing: {again:#?}");
            let mut given: BTreeMap<(lattice_model::NodeId, &str), u32> = BTreeMap::new();
            for row in scene.cluster.allocations().values().filter(|row| row.status.state == AllocationState::Running) {
                for id in &row.gpus {
                    let part = row.spec.gpus.as_ref().map_or(1000, GpuRequest::each);
                    let all = given.entry((row.node, id)).or_default();
                    *all += u32::from(part);
                    prop_assert!(*all <= 1000, "{all} thousandths of {id} are given");
                }
            }
        }
    }
}
