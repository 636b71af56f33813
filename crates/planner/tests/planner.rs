//! The planner on made-up clusters. Every plan of every test is checked against the invariants.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    Bytes, Cpu, NodeId, Timestamp, WorkloadKey,
    goal::DesiredState,
    report::AllocationState,
    resource::{Approval, Eligibility, Intent, PresenceState, Stack, Volume},
    spec::WorkloadSpec,
};
use lattice_planner::{Step, goal::goal_for, invariants, plan};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc};
use support::*;

#[test]
fn replicas_are_placed_on_the_least_loaded_node_and_say_why() {
    let mut scene = Scene::with_nodes(&[(1, 1), (4, 8)]);
    scene.workload("web", 3, |_| {});
    let (_, report) = scene.plan();
    assert_eq!(report.placed.len(), 3);
    let nodes: Vec<_> = report.placed.iter().map(|p| p.node).collect();
    assert_eq!(nodes, [node_id(1), node_id(0), node_id(1)]);
    assert_eq!(
        report.placed[1].why,
        "node-0 has the fewest replicas of it of 2 nodes that fit, 90 % left there"
    );
    assert_eq!(report.placed[0].why, "node-1 is the least loaded of 2 nodes that fit, 97.5 % left there");
    assert!(scene.plan().0.steps.is_empty(), "planning again changes nothing");
}

#[test]
fn what_shares_a_network_shares_a_node() {
    let mut scene = Scene::with_nodes(&[(2, 4), (2, 4), (2, 4)]);
    for name in ["web", "api", "db"] {
        scene.workload(name, 2, network);
    }
    scene.settle();
    let nodes: BTreeSet<NodeId> = scene.cluster.allocations().values().map(|a| a.node).collect();
    assert_eq!(nodes.len(), 1);
}

#[test]
fn refusals_are_counted_by_reason() {
    let mut scene = Scene::with_nodes(&[(1, 1), (1, 1), (1, 1), (8, 64)]);
    scene.node(2, |n| n.eligibility = Eligibility::Cordoned);
    scene.node(3, |n| n.approval = Approval::Pending);
    scene.workload("big", 1, |s| s.resources.reserved_memory = Some(Bytes(4 << 30)));
    let (plan, report) = scene.plan();
    assert!(plan.steps.is_empty());
    assert_eq!(report.pending[0].why, "none of 4 nodes fits (1: not approved, 1: cordoned, 2: memory)");
}

#[test]
fn data_binds_its_users_also_while_its_node_is_away() {
    let mut scene = Scene::with_nodes(&[(2, 4), (8, 32)]);
    scene.node(1, |n| n.eligibility = Eligibility::Cordoned);
    scene.workload("db", 1, mount);
    scene.settle();
    scene.node(1, |n| n.eligibility = Eligibility::Eligible);
    scene.change("db", |w| w.replicas = 0);
    scene.settle();
    scene.node(0, |n| n.presence.state = PresenceState::Disconnected);
    scene.change("db", |w| w.replicas = 1);
    let (plan, report) = scene.plan();
    assert!(plan.steps.is_empty());
    assert_eq!(
        report.pending[0].why,
        "the data of volume data is on node-0, but that node cannot hold it: not connected"
    );
    scene.node(0, |n| n.presence.state = PresenceState::Connected);
    scene.settle();
    assert_eq!(scene.active("db")[0].node, node_id(0));
}

#[test]
fn a_node_that_left_gives_its_work_to_others_and_keeps_its_data_unreplaced() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.workload("db", 1, mount);
    scene.workload("web", 2, |_| {});
    scene.settle();
    let home = scene.active("db")[0].node;
    let other = if home == node_id(0) { 1 } else { 0 };
    scene.node(1 - other, |n| n.approval = Approval::Revoked);
    let report = scene.settle();
    assert!(scene.active("web").iter().all(|a| a.node == node_id(other)));
    assert!(scene.active("db").is_empty());
    let why = &report.pending[0].why;
    assert!(
        why.starts_with("the data of volume data is on node-") && why.ends_with("which has left the cluster"),
        "{why}"
    );
}

#[test]
fn a_new_version_replaces_one_replica_at_a_time_and_stops_when_it_does_not_come_up() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    scene.workload("web", 3, |_| {});
    scene.settle();
    scene.workload("web", 3, |s| s.image = "new".into());
    let (plan, report) = scene.plan();
    assert_eq!(plan.steps.iter().filter(|s| matches!(s, Step::Create(_))).count(), 1);
    assert_eq!(report.pending[0].slots, [2, 3]);
    let new = scene.active("web").iter().find(|a| a.generation == 2).unwrap().id;
    assert!(scene.cluster.allocations()[&new].replaces.is_some());
    scene.status(new, AllocationState::BackingOff);
    assert!(scene.plan().0.steps.is_empty(), "a version that does not come up takes no second replica");
    scene.obey();
    scene.settle();
    assert!(scene.active("web").iter().all(|a| a.generation == 2) && scene.active("web").len() == 3);
}

#[test]
fn scale_stop_start_restart_and_removal() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    scene.stack();
    scene.workload("web", 3, |_| {});
    scene.settle();
    let first = scene.active("web")[0].id;
    scene.change("web", |w| w.replicas = 1);
    scene.settle();
    assert_eq!(scene.active("web").len(), 1);
    scene.change("web", |w| w.desired = DesiredState::Stop);
    scene.settle();
    assert_eq!(scene.cluster.allocations().len(), 1);
    assert!(scene.active("web").is_empty());
    scene.change("web", |w| {
        w.desired = DesiredState::Run;
        w.restart = 4;
    });
    scene.settle();
    assert_eq!(scene.active("web")[0].restart, 4);
    assert!(scene.cluster.allocations().contains_key(&first) || scene.active("web").len() == 1);
    scene.cluster.remove_workload(&key("web"));
    let stack = Stack { deleting: true, ..(*scene.cluster.stacks[&shop()].value).clone() };
    let row = scene.row(stack);
    scene.cluster.stacks.insert(shop(), row);
    scene.settle();
    assert!(scene.cluster.allocations().is_empty() && scene.cluster.stacks.is_empty());
}

#[test]
fn a_port_is_given_once() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    scene.workload("a", 1, publish(8080));
    scene.workload("b", 1, publish(8080));
    let report = scene.settle();
    assert_eq!(report.pending[0].why, "the only node does not fit (1: port 8080 taken)");
    scene.workload("a", 1, publish(8081));
    scene.settle();
    assert_eq!((scene.active("a").len(), scene.active("b").len()), (1, 1));
}

#[test]
fn services_of_a_stack_exchange_their_ports() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    let ports = |scene: &mut Scene, ports: [u16; 3]| {
        for (name, port) in ["a", "b", "c"].into_iter().zip(ports) {
            scene.workload(name, 1, publish(port));
        }
    };
    ports(&mut scene, [80, 81, 82]);
    scene.settle();
    ports(&mut scene, [81, 80, 82]);
    let (exchange, report) = scene.plan();
    assert!(report.pending.is_empty(), "{report:#?}");
    let created = exchange.steps.iter().filter(|step| matches!(step, Step::Create(_))).count();
    assert_eq!(created, 3);
    scene.obey();
    scene.settle();
    ports(&mut scene, [80, 82, 81]);
    assert!(scene.plan().1.pending.is_empty());
    scene.obey();
    scene.settle();

    // Another stack waits: what goes holds its ports until it is gone.
    ports(&mut scene, [83, 82, 81]);
    let key = "default/zoo/d".parse::<WorkloadKey>().unwrap();
    let mut spec = WorkloadSpec::of_image("img");
    publish(80)(&mut spec);
    let spec = Arc::new(spec);
    let row = scene.row(workload_of(key.clone(), spec, 1, 1));
    scene.cluster.put_workload(row);
    let stacks = BTreeSet::from([shop(), key.stack_key()]);
    let (plan, report) = plan(&scene.cluster, &stacks, &scene.policy, Timestamp(7), &mut || 9);
    assert!(invariants::broken(&scene.cluster, &plan).is_empty());
    assert_eq!(report.pending[0].why, "the only node does not fit (1: port 80 taken)");
}

#[test]
fn services_that_cannot_all_be_replaced_keep_their_ports() {
    let mut scene = Scene::with_nodes(&[(4, 2)]);
    scene.workload("a", 1, publish(80));
    scene.workload("b", 1, publish(81));
    scene.workload("c", 1, publish(82));
    scene.settle();
    scene.workload("a", 1, publish(81));
    scene.workload("b", 1, |s| {
        publish(82)(s);
        s.resources.reserved_memory = Some(Bytes(8 << 30));
    });
    scene.workload("c", 1, publish(83));
    let report = scene.settle();
    let why: Vec<_> = report.pending.iter().map(|p| (p.workload.workload.as_str(), p.why.as_str())).collect();
    assert_eq!(why.len(), 2, "{why:?}");
    assert!(why[0].0 == "a" && why[0].1.contains("port 81 taken"), "{why:?}");
    assert!(why[1].0 == "b" && why[1].1.contains("memory"), "{why:?}");
    assert_eq!(scene.active("c")[0].generation, 2);
    // Once it fits, all follow.
    scene.workload("b", 1, publish(82));
    assert!(scene.settle().pending.is_empty());
}

#[test]
fn a_missing_volume_stays_in_the_goal_when_nothing_uses_it() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    scene.workload("db", 1, mount);
    scene.settle();
    scene.volume(|v| v.exists = true);
    scene.change("db", |w| w.replicas = 0);
    scene.settle();
    let goal = |scene: &Scene| goal_for(&scene.cluster, node_id(0), &|_, _| None).unwrap();
    assert!(goal(&scene).volumes.is_empty());
    scene.volume(|v| v.missing = true);
    let told = goal(&scene);
    let volume = told.volumes.values().next().unwrap();
    assert!(told.allocations.is_empty() && volume.missing && volume.exists && !volume.delete, "{told:#?}");
}

#[test]
fn a_volume_to_delete_goes_and_another_stays() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    scene.workload("db", 1, mount);
    scene.settle();
    scene.cluster.remove_workload(&key("db"));
    scene.settle();
    assert_eq!(scene.cluster.volumes.len(), 1, "data outlives its users");
    let volume = shop().volume("data".parse().unwrap());
    let row = Volume { deleting: true, ..(*scene.cluster.volumes[&volume].value).clone() };
    let row = scene.row(row);
    scene.cluster.volumes.insert(volume, row);
    scene.workload("db", 1, mount);
    let (_, report) = scene.plan();
    assert_eq!(report.pending[0].why, "volume data is being deleted");
}

#[test]
fn a_node_that_lends_less_than_before_refuses_and_blocks_nothing() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    let reserve = |gib: u64| {
        move |s: &mut WorkloadSpec| {
            s.resources.reserved_memory = Some(Bytes(gib << 30));
            s.resources.reserved_cpu = Some(Cpu(0));
        }
    };
    scene.workload("a", 1, reserve(3));
    scene.workload("b", 1, reserve(3));
    scene.settle();
    scene.node(0, |node| node.capacity.memory = Bytes(4 << 30));
    scene.workload("a", 1, reserve(3));
    let report = scene.settle();
    assert!(report.pending[0].why.contains("memory"), "{report:?}");
    assert_eq!(scene.active("a")[0].generation, 1, "what runs stays");
    scene.workload("free", 1, reserve(0));
    scene.settle();
    assert_eq!(scene.active("free").len(), 1);
}

#[test]
fn a_successor_names_the_one_that_it_replaces() {
    let mut scene = Scene::with_nodes(&[(4, 8)]);
    scene.workload("web", 1, |_| {});
    scene.settle();
    scene.workload("web", 1, |s| s.image = "second".into());
    scene.plan();
    let second = scene.active("web")[0].id;
    scene.workload("web", 1, |s| s.image = "third".into());
    scene.plan();
    assert_eq!(scene.active("web")[0].replaces, Some(second));
}

#[test]
fn a_server_that_starts_knows_nothing_until_nodes_speak_or_the_grace_is_over() {
    use lattice_planner::presence::{Moment, settle};
    let mut scene = Scene::with_nodes(&[(1, 1), (1, 1), (1, 1)]);
    scene.node(2, |n| n.presence.state = PresenceState::New);
    let take = |scene: &mut Scene, moment, back: &dyn Fn(NodeId) -> bool| {
        for row in settle(&scene.cluster, moment, back, Timestamp(9), 10) {
            scene.cluster.nodes.insert(row.id, row);
        }
        scene.cluster.nodes.values().map(|n| n.presence.state).collect::<Vec<_>>()
    };
    use PresenceState::{Disconnected, New, Unknown};
    assert_eq!(take(&mut scene, Moment::Started, &|_| false), [Unknown, Unknown, New]);
    assert_eq!(take(&mut scene, Moment::GraceOver, &|id| id == node_id(1)), [Disconnected, Unknown, New]);
    assert_eq!(settle(&scene.cluster, Moment::Started, &|_| false, Timestamp(9), 10).len(), 0);
}

/// What people and nodes do.
#[derive(Clone, Debug)]
enum Act {
    Deploy(usize, u32, u8),
    Exchange(usize, usize),
    Scale(usize, u32),
    Stop(usize),
    Hold(usize),
    Remove(usize),
    Presence(usize, bool),
    Approval(usize, Approval),
    Cordon(usize, bool),
    Obey,
    Fail(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let approval =
        prop_oneof![Just(Approval::Approved), Just(Approval::Revoked), Just(Approval::Quarantined)];
    prop_oneof![
        (0usize..4, 0u32..5, 0u8..16).prop_map(|(w, r, f)| Act::Deploy(w, r, f)),
        (0usize..4, 0usize..4).prop_map(|(a, b)| Act::Exchange(a, b)),
        (0usize..4, 0u32..6).prop_map(|(w, r)| Act::Scale(w, r)),
        (0usize..4).prop_map(Act::Stop),
        (0usize..4).prop_map(Act::Hold),
        (0usize..4).prop_map(Act::Remove),
        (0usize..3, any::<bool>()).prop_map(|(n, up)| Act::Presence(n, up)),
        (0usize..3, approval).prop_map(|(n, a)| Act::Approval(n, a)),
        (0usize..3, any::<bool>()).prop_map(|(n, c)| Act::Cordon(n, c)),
        Just(Act::Obey),
        (0usize..8).prop_map(Act::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every plan keeps the invariants, planning again changes nothing, and once people and nodes
    /// are quiet, every slot is filled or said to be pending.
    #[test]
    fn it_plans_well(acts in proptest::collection::vec(act(), 1..40)) {
        let names = ["a", "b", "c", "d"];
        let mut scene = Scene::with_nodes(&[(2, 2), (1, 1), (4, 8)]);
        scene.stack();
        for act in acts {
            match act {
                Act::Deploy(w, replicas, features) => scene.workload(names[w], replicas, |s| {
                    if features & 1 != 0 { network(s); }
                    if features & 2 != 0 { mount(s); }
                    if features & 4 != 0 { s.resources.reserved_memory = Some(Bytes::from_mib(700)); }
                    if features & 8 != 0 { publish(8080 + u16::from(features & 1))(s); }
                }),
                Act::Exchange(a, b) => {
                    let rows = [a, b].map(|w| scene.cluster.workloads().get(&key(names[w])).cloned());
                    if let [Some(a), Some(b)] = rows {
                        let [(a_spec, n), (b_spec, m)] = [&a, &b].map(|row| ((*row.spec).clone(), row.replicas));
                        scene.workload(a.key.workload.as_str(), n, |s| s.ports = b_spec.ports);
                        scene.workload(b.key.workload.as_str(), m, |s| s.ports = a_spec.ports);
                    }
                }
                Act::Scale(w, r) if scene.cluster.workloads().contains_key(&key(names[w])) => scene.change(names[w], |w| w.replicas = r),
                Act::Stop(w) if scene.cluster.workloads().contains_key(&key(names[w])) => scene.change(names[w], |w| w.desired = match w.desired {
                    DesiredState::Run => DesiredState::Stop,
                    DesiredState::Stop | DesiredState::Hold => DesiredState::Run,
                }),
                Act::Hold(w) if scene.cluster.workloads().contains_key(&key(names[w])) => {
                    scene.change(names[w], |w| w.desired = DesiredState::Hold);
                }
                Act::Scale(..) | Act::Stop(_) | Act::Hold(_) => {}
                Act::Remove(w) => scene.cluster.remove_workload(&key(names[w])),
                Act::Presence(n, up) => scene.node(n, |n| n.presence.state = if up { PresenceState::Connected } else { PresenceState::Disconnected }),
                Act::Approval(n, approval) => scene.node(n, |n| n.approval = approval),
                Act::Cordon(n, cordon) => scene.node(n, |n| n.eligibility = if cordon { Eligibility::Cordoned } else { Eligibility::Eligible }),
                Act::Obey => scene.obey(),
                Act::Fail(n) => {
                    let ids: Vec<_> = scene.cluster.allocations().keys().copied().collect();
                    if let Some(id) = ids.get(n) {
                        scene.status(*id, AllocationState::Failed);
                    }
                }
            }
            scene.plan();
            // What a plan frees (a replica replaced by a smaller one) the next may use; then it is over.
            let _ = (scene.plan(), scene.plan());
            let (again, _) = scene.plan();
            prop_assert!(again.steps.is_empty(), "planning again changes nothing: {again:#?}");
        }
        let report = scene.settle();
        for row in scene.cluster.workloads().values().filter(|w| w.desired == DesiredState::Run) {
            // A replica that serves where it is, while the node it should move to has no room, is both.
            let mut slots: BTreeSet<u32> =
                report.pending.iter().filter(|p| p.workload == row.key).flat_map(|p| p.slots.clone()).collect();
            let filled = scene.cluster.allocations_of(&row.key);
            slots.extend(filled.filter(|a| a.intent == Intent::Run && a.generation == row.generation).map(|a| a.slot));
            prop_assert_eq!(slots, (1..=row.replicas).collect::<BTreeSet<u32>>(), "{}: {:#?}", row.key, report);
        }
        // What is held has its places, and nothing of it runs.
        for row in scene.cluster.workloads().values().filter(|w| w.desired == DesiredState::Hold) {
            let mut slots: BTreeSet<u32> =
                report.pending.iter().filter(|p| p.workload == row.key).flat_map(|p| p.slots.clone()).collect();
            for allocation in scene.cluster.allocations_of(&row.key) {
                prop_assert!(allocation.intent != Intent::Run, "{allocation:#?}");
                if allocation.intent == Intent::Stop {
                    slots.insert(allocation.slot);
                }
            }
            prop_assert_eq!(slots, (1..=row.replicas).collect::<BTreeSet<u32>>(), "{}: {:#?}", row.key, report);
        }
    }
}
