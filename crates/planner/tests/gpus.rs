//! GPUs: who gets which, that nobody gets another's, and what replicas that meet are told.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    Bytes,
    goal::DesiredState,
    machine::{GpuFacts, GpuInstance, GpuState, GpuVendor},
    report::AllocationState,
    resource::{Allocation, Intent},
    spec::{GpuCount, GpuRequest, Rendezvous, RestartPolicy, UpdateOrder, WorkloadSpec},
};
use lattice_planner::{Row, goal::goal_for};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::*;

const GIB: u64 = 1 << 30;

fn card(node: usize, index: u32, model: &str, gib: u64) -> GpuFacts {
    GpuFacts {
        id: format!("GPU-{node}{index}"),
        index,
        vendor: GpuVendor::Nvidia,
        model: model.into(),
        memory: Bytes(gib * GIB),
        lent: true,
        state: GpuState::Proven,
        ..GpuFacts::default()
    }
}

/// Each reaches the other.
fn link(gpus: &mut [GpuFacts], a: usize, b: usize) {
    let (one, other) = (gpus[a].id.clone(), gpus[b].id.clone());
    gpus[a].links.insert(other);
    gpus[b].links.insert(one);
}

fn gives(scene: &mut Scene, n: usize, gpus: Vec<GpuFacts>) {
    scene.node(n, |node| node.facts.machine.gpus = gpus);
}

fn asks(n: u32) -> impl FnOnce(&mut WorkloadSpec) {
    move |spec| spec.gpus = Some(GpuRequest::any(GpuCount::Exactly(n)))
}

/// The GPUs of a workload's replicas, by slot.
fn of(scene: &Scene, name: &str) -> BTreeMap<u32, Vec<String>> {
    let there = |row: &&Row<Allocation>| row.intent != Intent::Remove;
    scene.cluster.allocations_of(&key(name)).filter(there).map(|row| (row.slot, row.gpus.clone())).collect()
}

fn why(scene: &mut Scene) -> String {
    let report = scene.settle();
    report.pending.iter().map(|pending| pending.why.clone()).collect::<Vec<_>>().join("; ")
}

#[test]
fn each_gets_its_own_and_the_rest_waits_and_hears_why() {
    let mut scene = Scene::with_nodes(&[(8, 32)]);
    scene.stack();
    gives(&mut scene, 0, vec![card(0, 0, "NVIDIA L4", 24), card(0, 1, "NVIDIA L4", 24)]);
    scene.workload("train", 3, asks(1));
    assert_eq!(
        why(&mut scene),
        "the only node does not fit (1: gpu: it needs 1 GPU, and it lends 2 NVIDIA L4 (24 GiB), 2 in use)"
    );
    let given = of(&scene, "train");
    assert_eq!(given.len(), 2);
    assert_ne!(given[&1], given[&2]);
    // One goes, and its GPU is the next one's only when its container is gone.
    scene.change("train", |w| w.replicas = 1);
    scene.workload("other", 1, asks(1));
    scene.plan();
    assert!(of(&scene, "other").is_empty(), "its container is still there");
    scene.obey();
    scene.settle();
    assert_eq!(of(&scene, "other")[&1], given[&2]);
}

#[test]
fn several_are_linked_and_one_leaves_the_pairs_alone() {
    let mut scene = Scene::with_nodes(&[(8, 32)]);
    scene.stack();
    let mut gpus: Vec<GpuFacts> = (0..5).map(|n| card(0, n, "NVIDIA A100", 40)).collect();
    link(&mut gpus, 0, 3);
    link(&mut gpus, 1, 4);
    gives(&mut scene, 0, gpus);
    scene.workload("small", 1, asks(1));
    scene.settle();
    assert_eq!(of(&scene, "small")[&1], ["GPU-02"], "it breaks no pair");
    scene.workload("pair", 2, asks(2));
    scene.settle();
    assert_eq!(
        of(&scene, "pair"),
        [(1, vec!["GPU-00".into(), "GPU-03".into()]), (2, vec!["GPU-01".into(), "GPU-04".into()])].into()
    );
}

#[test]
fn what_is_asked_for_is_what_is_given() {
    let mut scene = Scene::with_nodes(&[(8, 32), (8, 32), (8, 32)]);
    scene.stack();
    gives(&mut scene, 0, vec![card(0, 0, "NVIDIA L4", 23), card(0, 1, "NVIDIA H100 80GB HBM3", 79)]);
    let mut cut = card(1, 0, "NVIDIA A100", 40);
    cut.mig = true;
    cut.instances = (0..2)
        .map(|n| GpuInstance {
            id: format!("MIG-{n}"),
            profile: "MIG 1g.5gb".into(),
            memory: Bytes(5 * GIB),
            lent: n == 0,
            state: GpuState::Proven,
        })
        .collect();
    gives(&mut scene, 1, vec![cut]);
    let wish = |request: GpuRequest| move |spec: &mut WorkloadSpec| spec.gpus = Some(request);
    let any = || GpuRequest::any(GpuCount::Exactly(1));
    let mut given = |request: GpuRequest, constraints: &[&str]| {
        scene.workload("one", 1, |spec| {
            wish(request)(spec);
            spec.placement.constraints = constraints.iter().map(|text| text.parse().unwrap()).collect();
        });
        let why = why(&mut scene);
        let given = of(&scene, "one").remove(&1).map(|ids| ids.join(" ")).unwrap_or(why);
        scene.change("one", |w| w.replicas = 0);
        scene.settle();
        given
    };
    assert_eq!(given(GpuRequest { model: Some("H100".into()), ..any() }, &[]), "GPU-01");
    // 80 GB of a name are 79 GiB of memory.
    assert_eq!(given(GpuRequest { memory: Some(Bytes(80 * GIB)), ..any() }, &[]), "GPU-01");
    assert_eq!(given(any(), &["node.gpu.memory >= 24g"]), "GPU-00", "the smallest that will do");
    assert_eq!(given(any(), &["node.gpu.model == A100"]), "MIG-0");
    assert_eq!(given(any(), &["node.gpu.count >= 2", "node.gpu.model != L4"]), "GPU-01");
    assert_eq!(given(GpuRequest { ids: vec!["1".into()], ..any() }, &[]), "GPU-01");
    assert_eq!(given(GpuRequest { ids: vec!["GPU-00".into()], ..any() }, &[]), "GPU-00");
    assert_eq!(given(GpuRequest::any(GpuCount::All), &["node.hostname == node-0"]), "GPU-00 GPU-01");
    assert_eq!(
        given(GpuRequest { memory: Some(Bytes(90 * GIB)), ..any() }, &[]),
        "none of 3 nodes fits (1: gpu: it needs 1 GPU (at least 90 GiB), and it has none, \
         1: gpu: it needs 1 GPU (at least 90 GiB), and it lends 1 NVIDIA A100 (5 GiB), \
         1: gpu: it needs 1 GPU (at least 90 GiB), and it lends 1 NVIDIA L4 (23 GiB) and 1 NVIDIA H100 80GB HBM3 (79 GiB))"
    );
}

#[test]
fn an_update_gets_the_same_gpu_when_the_old_one_has_gone() {
    for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
        let mut scene = Scene::with_nodes(&[(8, 32)]);
        scene.stack();
        gives(&mut scene, 0, vec![card(0, 0, "NVIDIA L4", 24)]);
        let version = |n: u32| {
            move |spec: &mut WorkloadSpec| {
                asks(1)(spec);
                spec.update.order = order;
                spec.environment.insert("V".into(), n.to_string());
            }
        };
        scene.workload("web", 1, version(1));
        scene.settle();
        scene.workload("web", 1, version(2));
        scene.settle();
        let rows: Vec<_> = scene.cluster.allocations_of(&key("web")).cloned().collect();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].gpus, ["GPU-00"]);
        // Both cannot have it at the same time, so without a gap there is no update.
        let expected = if order == UpdateOrder::StopFirst { 2 } else { 1 };
        assert_eq!(rows[0].generation, expected, "{order:?}");
    }
}

#[test]
fn a_gpu_that_is_not_offered_any_more_is_left() {
    let mut scene = Scene::with_nodes(&[(8, 32), (8, 32)]);
    scene.stack();
    gives(&mut scene, 0, vec![card(0, 0, "NVIDIA L4", 24)]);
    scene.workload("web", 1, asks(1));
    scene.settle();
    assert_eq!(of(&scene, "web")[&1], ["GPU-00"]);
    // That its proof is made anew moves nothing.
    scene.node(0, |node| node.facts.machine.gpus[0].state = GpuState::Configured);
    scene.settle();
    assert_eq!(of(&scene, "web")[&1], ["GPU-00"]);
    gives(&mut scene, 1, vec![card(1, 0, "NVIDIA L4", 24)]);
    scene.node(0, |node| node.facts.machine.gpus[0].state = GpuState::Lost);
    scene.settle();
    assert_eq!(of(&scene, "web")[&1], ["GPU-10"]);
    scene.node(1, |node| node.facts.machine.gpus[0].lent = false);
    let report = scene.settle();
    assert!(report.stays.iter().any(|stay| stay.why.contains("GPU")), "{report:#?}");
}

#[test]
fn a_job_that_ended_gives_its_gpu_back_and_gets_another_when_it_is_run_again() {
    let mut scene = Scene::with_nodes(&[(8, 32)]);
    scene.stack();
    gives(&mut scene, 0, vec![card(0, 0, "NVIDIA L4", 24)]);
    let job = |spec: &mut WorkloadSpec| {
        asks(1)(spec);
        spec.restart = RestartPolicy::Never;
    };
    scene.workload("job", 1, job);
    scene.settle();
    let row = scene.cluster.allocations_of(&key("job")).next().unwrap().clone();
    scene.status(row.id, AllocationState::Completed);
    scene.workload("web", 1, asks(1));
    scene.plan();
    assert_eq!(of(&scene, "web")[&1], ["GPU-00"]);
    scene.change("job", |w| w.restart += 1);
    let (_, report) = scene.plan();
    assert!(
        report.pending.iter().any(|p| p.workload == key("job") && p.why.contains("1 in use")),
        "{report:#?}"
    );
}

#[test]
fn replicas_that_meet_are_on_one_node_and_are_told_of_each_other() {
    let mut scene = Scene::with_nodes(&[(8, 32), (8, 32)]);
    scene.stack();
    for n in 0..2 {
        gives(&mut scene, n, vec![card(n, 0, "NVIDIA L4", 24), card(n, 1, "NVIDIA L4", 24)]);
    }
    let meet = |spec: &mut WorkloadSpec| {
        network(spec);
        asks(1)(spec);
        spec.rendezvous = Some(Rendezvous { port: 4000 });
        spec.environment.insert("MASTER_PORT".into(), "5000".into());
    };
    scene.workload("train", 2, meet);
    scene.settle();
    let rows: Vec<_> = scene.cluster.allocations_of(&key("train")).cloned().collect();
    assert_eq!(rows.iter().map(|row| row.node).collect::<BTreeSet<_>>().len(), 1, "they share a network");
    let told = |scene: &Scene| {
        let node = scene.cluster.allocations_of(&key("train")).next().unwrap().node;
        let goal = goal_for(&scene.cluster, node, &|_, _| None).unwrap();
        let mut told: Vec<_> = goal.allocations.into_values().map(|a| (a.slot, a.spec)).collect();
        told.sort_by_key(|(slot, _)| *slot);
        told
    };
    let before = told(&scene);
    assert_eq!(before.len(), 2);
    for (slot, spec) in &before {
        let request = spec.gpus.clone().unwrap();
        assert_eq!((request.count, request.ids.len()), (GpuCount::Exactly(1), 1));
        for (name, value) in [
            ("LATTICE_RANK", (slot - 1).to_string()),
            ("RANK", (slot - 1).to_string()),
            ("NODE_RANK", (slot - 1).to_string()),
            ("LATTICE_WORLD_SIZE", "2".into()),
            ("WORLD_SIZE", "2".into()),
            ("LATTICE_LOCAL_GPUS", "1".into()),
            ("MASTER_ADDR", "train-1".into()),
            ("PET_MASTER_PORT", "4000".into()),
            ("MASTER_PORT", "5000".into()),
        ] {
            assert_eq!(spec.environment.get(name), Some(&value), "{name}");
        }
    }
    // Another number of them is another job: all hear of it.
    scene.change("train", |w| w.replicas = 1);
    scene.settle_in_time();
    let after = told(&scene);
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].1.environment["WORLD_SIZE"], "1");
}

#[derive(Clone, Debug)]
enum Act {
    Deploy(usize, u32, GpuRequest, u8),
    Stop(usize, bool),
    Again(usize),
    Ends(usize),
    Gpu(usize, usize, bool, u8),
    Obey,
}

fn request() -> impl Strategy<Value = GpuRequest> {
    let count = prop_oneof![
        4 => (1u32..4).prop_map(GpuCount::Exactly),
        1 => Just(GpuCount::All),
    ];
    (
        count,
        prop::option::weighted(0.2, Just("H100".to_owned())),
        prop::option::weighted(0.2, 1u64..60),
        prop::option::weighted(0.2, 0usize..3),
    )
        .prop_map(|(count, model, gib, id)| GpuRequest {
            count: if id.is_some() { GpuCount::Exactly(1) } else { count },
            model,
            memory: gib.map(|gib| Bytes(gib * GIB)),
            ids: id.map(|n| n.to_string()).into_iter().collect(),
            ..GpuRequest::any(GpuCount::All)
        })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0usize..3, 0u32..4, request(), any::<u8>()).prop_map(|(w, n, r, f)| Act::Deploy(w, n, r, f)),
        1 => (0usize..3, any::<bool>()).prop_map(|(w, stop)| Act::Stop(w, stop)),
        1 => (0usize..3).prop_map(Act::Again),
        2 => (0usize..8).prop_map(Act::Ends),
        2 => (0usize..2, 0usize..4, any::<bool>(), 0u8..4).prop_map(|(n, g, lent, state)| Act::Gpu(n, g, lent, state)),
        4 => Just(Act::Obey),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// People deploy, stop and start again, jobs end, owners lend and take back, cards break. Every plan keeps the
    /// invariants (`Scene::plan` checks them), planning again changes nothing, and of those that run at any moment
    /// no two have the same GPU.
    #[test]
    fn no_gpu_is_two_containers(acts in proptest::collection::vec(act(), 1..30)) {
        let names = ["a", "b", "c"];
        let mut scene = Scene::with_nodes(&[(64, 256), (64, 256)]);
        scene.stack();
        for n in 0..2 {
            let mut gpus: Vec<GpuFacts> = (0..4).map(|i| card(n, i, if i < 2 { "NVIDIA H100" } else { "NVIDIA L4" }, 20 * (u64::from(i) + 1))).collect();
            link(&mut gpus, 0, 1);
            link(&mut gpus, 2, 3);
            gives(&mut scene, n, gpus);
        }
        for act in acts {
            match act {
                Act::Deploy(w, replicas, request, features) => scene.workload(names[w], replicas, |s| {
                    if features & 1 != 0 { network(s); }
                    if features & 2 != 0 { s.restart = RestartPolicy::Never; }
                    if features & 4 != 0 { s.update.order = UpdateOrder::StartFirst; }
                    if features & 8 != 0 { s.rendezvous = Some(Rendezvous { port: 1 }); }
                    s.gpus = Some(request);
                }),
                Act::Stop(w, stop) => if scene.cluster.workloads().contains_key(&key(names[w])) {
                    scene.change(names[w], |w| w.desired = if stop { DesiredState::Stop } else { DesiredState::Run });
                },
                Act::Again(w) => if scene.cluster.workloads().contains_key(&key(names[w])) {
                    scene.change(names[w], |w| w.restart += 1);
                },
                Act::Ends(n) => {
                    let ids: Vec<_> = scene.cluster.allocations().keys().copied().collect();
                    if let Some(id) = ids.get(n) { scene.status(*id, AllocationState::Completed); }
                }
                Act::Gpu(n, g, lent, state) => scene.node(n, |node| {
                    let gpu = &mut node.facts.machine.gpus[g];
                    gpu.lent = lent;
                    gpu.state = [GpuState::Proven, GpuState::Lost, GpuState::Configured, GpuState::Proven][usize::from(state)];
                }),
                Act::Obey => scene.obey_and_leave_what_ended(),
            }
            scene.plan();
            for _ in 0..4 { scene.plan(); }
            let (again, _) = scene.plan();
            prop_assert!(again.steps.is_empty(), "planning again changes nothing: {again:#?}");
            let mut had: BTreeMap<(lattice_model::NodeId, String), String> = BTreeMap::new();
            for row in scene.cluster.allocations().values() {
                if row.status.state != AllocationState::Running { continue; }
                for id in &row.gpus {
                    let who = format!("{}.{}", row.workload, row.slot);
                    let other = had.insert((row.node, id.clone()), who.clone());
                    prop_assert!(other.is_none(), "{id} is {other:?}'s and {who}'s");
                }
            }
        }
    }
}
