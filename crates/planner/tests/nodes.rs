//! Nodes that are lost, come back, are emptied and leave; replicas that spread; updates by turns.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    Duration, Standing, StandingState, Timestamp,
    health::{Condition, ConditionKind, Level, Reason},
    report::{AllocationState, AllocationStatus},
    resource::{Allocation, Approval, Drain, Eligibility, Intent, Presence, PresenceState, Superseded},
    spec::{Mode, RestartPolicy, UpdateFailure, UpdateOrder},
};
use lattice_planner::{
    Row,
    forecast::{self, Fate},
    presence::losses,
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use support::*;

trait Nodes {
    fn goes(&mut self, n: usize);
    fn is_lost(&mut self, n: usize);
    fn comes(&mut self, n: usize);
    fn drains(&mut self, n: usize, deadline: Option<Timestamp>);
    fn where_is(&self, name: &str) -> Vec<usize>;
    fn own(&self, name: &str) -> Vec<Row<Allocation>>;
}

impl Nodes for Scene {
    fn goes(&mut self, n: usize) {
        let since = self.now;
        self.node(n, |node| node.presence = Presence { state: PresenceState::Disconnected, since });
    }

    fn is_lost(&mut self, n: usize) {
        self.goes(n);
        self.node(n, |node| node.presence.state = PresenceState::Lost);
    }

    fn comes(&mut self, n: usize) {
        let since = self.now;
        self.node(n, |node| node.presence = Presence { state: PresenceState::Connected, since });
    }

    fn drains(&mut self, n: usize, deadline: Option<Timestamp>) {
        let since = self.now;
        self.node(n, |node| {
            node.eligibility = Eligibility::Draining;
            node.drain = Some(Drain { since, deadline });
        });
    }

    /// The nodes of a workload's replicas, those aside and on their way out left out, in order.
    fn where_is(&self, name: &str) -> Vec<usize> {
        let mut nodes: Vec<usize> =
            self.own(name).iter().map(|row| (0..9).find(|n| node_id(*n) == row.node).unwrap()).collect();
        nodes.sort_unstable();
        nodes
    }

    fn own(&self, name: &str) -> Vec<Row<Allocation>> {
        let rows = self.active(name).into_iter().filter(|row| row.superseded.is_none());
        let mut rows: Vec<_> = rows.cloned().collect();
        rows.sort_by_key(|row| row.slot);
        rows
    }
}

#[test]
fn replicas_of_a_service_with_nobody_to_talk_to_spread_over_the_nodes() {
    let mut scene = Scene::with_nodes(&[(4, 8), (2, 4), (2, 4)]);
    scene.workload("web", 6, network);
    scene.settle();
    assert_eq!(scene.where_is("web"), [0, 0, 1, 1, 2, 2]);
    // One more service on its network, and all have to be near each other.
    let mut scene = Scene::with_nodes(&[(4, 8), (2, 4), (2, 4)]);
    scene.workload("web", 2, network);
    scene.workload("api", 2, network);
    scene.settle();
    let nodes: BTreeSet<_> = scene.where_is("web").into_iter().chain(scene.where_is("api")).collect();
    assert_eq!(nodes.len(), 1);
}

#[test]
fn what_ran_on_a_lost_node_runs_elsewhere_and_its_surplus_goes_on_return() {
    let mut scene = Scene::with_nodes(&[(2, 4), (2, 4), (2, 4)]);
    scene.workload("web", 3, network);
    scene.settle();
    assert_eq!(scene.where_is("web"), [0, 1, 2]);
    scene.goes(1);
    assert!(scene.plan().0.steps.is_empty(), "away is not lost");
    scene.is_lost(1);
    let (_, report) = scene.plan();
    assert!(report.placed[0].why.ends_with("; node-1, where it was, is lost"), "{report:#?}");
    scene.obey();
    scene.settle();
    assert_eq!(scene.where_is("web").len(), 3);
    assert!(!scene.where_is("web").contains(&1));
    let aside = scene.cluster.allocations_on(node_id(1)).next().unwrap();
    assert_eq!((aside.superseded, aside.intent), (Some(Superseded::Lost), Intent::Run), "it may still run");
    scene.comes(1);
    scene.settle();
    assert_eq!(scene.where_is("web").len(), 3);
    assert_eq!(scene.cluster.allocations().len(), 3, "exact counts");
}

#[test]
fn who_is_back_before_its_replacement_serves_keeps_its_work() {
    for group in [false, true] {
        let mut scene = Scene::with_nodes(&[(2, 4), (2, 4)]);
        scene.workload("web", 1, network);
        if group {
            scene.workload("api", 1, network);
        }
        scene.settle();
        let home = scene.where_is("web")[0];
        let first = scene.own("web")[0].id;
        scene.is_lost(home);
        scene.plan();
        assert_ne!(scene.where_is("web"), [home]);
        scene.comes(home);
        scene.settle();
        assert_eq!(scene.own("web")[0].id, first);
        assert_eq!(scene.cluster.allocations().len(), if group { 2 } else { 1 });
    }
}

#[test]
fn a_group_without_data_moves_as_one_and_back_only_if_that_serves_more() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8)]);
    scene.workload("web", 2, network);
    scene.workload("api", 1, network);
    scene.settle();
    let home = scene.where_is("api")[0];
    scene.is_lost(home);
    scene.settle();
    let other = scene.where_is("api")[0];
    assert!(other != home && scene.where_is("web") == [other, other]);
    scene.comes(home);
    scene.settle();
    assert_eq!(scene.where_is("web"), [other, other], "what serves stays");
    assert_eq!(scene.cluster.allocations().len(), 3);
}

#[test]
fn what_is_bound_to_data_on_a_lost_node_waits_and_says_so() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.workload("db", 1, |s| {
        mount(s);
        network(s);
    });
    scene.workload("web", 2, network);
    scene.settle();
    let home = scene.where_is("db")[0];
    scene.is_lost(home);
    let (plan, report) = scene.plan();
    assert!(plan.steps.is_empty(), "{plan:#?}");
    let why = format!("the data of volume data is on node-{home}, and node-{home} is lost");
    let waits: Vec<_> =
        report.pending.iter().map(|p| (p.workload.workload.as_str(), p.slots.len(), p.why.clone())).collect();
    assert_eq!(waits, [("db", 1, why.clone()), ("web", 2, why)]);
    scene.comes(home);
    let report = scene.settle();
    assert!(report.pending.is_empty() && scene.cluster.allocations().len() == 3);
}

#[test]
fn what_changed_while_a_node_was_lost_is_so_when_it_is_back() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.workload("web", 2, network);
    scene.settle();
    scene.is_lost(0);
    scene.settle();
    scene.workload("web", 1, |s| {
        network(s);
        s.image = "new".into();
    });
    scene.settle();
    scene.comes(0);
    scene.settle();
    let left: Vec<_> = scene.cluster.allocations().values().map(|a| a.generation).collect();
    assert_eq!(left, [2]);
}

#[test]
fn a_job_that_ended_is_not_run_again_because_its_node_went() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.workload("job", 1, |s| s.restart = RestartPolicy::OnFailure { max_retries: None });
    scene.settle();
    let home = scene.where_is("job")[0];
    let id = scene.own("job")[0].id;
    scene.status(id, AllocationState::Completed);
    for change in [PresenceState::Lost, PresenceState::Connected] {
        scene.node(home, |node| node.presence.state = change);
        assert!(scene.plan().0.steps.iter().all(|s| !matches!(s, lattice_planner::Step::Create(_))));
    }
    scene.drains(home, None);
    assert!(scene.plan().0.steps.is_empty());
    scene.node(home, |node| node.approval = Approval::Revoked);
    assert!(scene.plan().0.steps.is_empty());
}

#[test]
fn nodes_are_lost_in_time_unless_many_vanish_at_once() {
    let at =
        |scene: &Scene, secs: i64| losses(&scene.cluster, &POLICY, Timestamp(0), Timestamp(secs * 1000), 100);
    let mut scene = Scene::with_nodes(&[(1, 1); 5]);
    scene.now = Timestamp(100_000);
    scene.goes(0);
    let early = at(&scene, 109);
    assert_eq!((early.lost.len(), early.next), (0, Some(Timestamp(110_000))));
    let due = at(&scene, 110);
    assert_eq!(
        (due.lost[0].presence.state, due.lost[0].presence.since),
        (PresenceState::Lost, Timestamp(100_000))
    );
    // Two more: three of five are more than half.
    scene.now = Timestamp(105_000);
    scene.goes(1);
    scene.goes(2);
    let many = at(&scene, 120);
    assert!(many.lost.is_empty(), "{many:?}");
    let held = many.held.unwrap();
    assert_eq!((held.nodes.len(), held.together, held.present), (3, 3, 2));
    // One comes back: two are few.
    scene.comes(1);
    assert_eq!(at(&scene, 120).lost.len(), 2);
    // A person gives one up.
    scene.goes(1);
    scene.drains(1, None);
    assert_eq!(at(&scene, 130).lost.len(), 3);
    // One after the other is no wave, however many are gone in the end.
    let mut scene = Scene::with_nodes(&[(1, 1); 5]);
    for n in 0..4 {
        scene.now = Timestamp(100_000 * (n as i64 + 1));
        scene.goes(n);
        assert_eq!(at(&scene, 100 * (n as i64 + 1) + 10).lost.len(), 1);
        scene.is_lost(n);
    }
    // A server that has just started knows nothing yet.
    let mut scene = Scene::with_nodes(&[(1, 1); 2]);
    scene.goes(0);
    let started = losses(&scene.cluster, &POLICY, Timestamp(60_000), Timestamp(50_000), 100);
    assert_eq!((started.lost.len(), started.next), (0, Some(Timestamp(60_000))));
}

#[test]
fn a_node_is_emptied_one_by_one_and_the_successor_serves_first() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.node(1, |n| n.eligibility = Eligibility::Cordoned);
    scene.workload("web", 3, network);
    scene.workload("db", 1, mount);
    scene.settle();
    scene.node(1, |n| n.eligibility = Eligibility::Eligible);
    let mut n = 1000;
    let mut random = || {
        n += 1;
        n
    };
    let fates = forecast::drain(&scene.cluster, node_id(0), &POLICY, scene.now, &mut random);
    let fate = |name: &str| {
        let of = fates.iter().filter(|f| f.workload.workload.as_str() == name);
        of.map(|f| f.fate.clone()).collect::<Vec<_>>()
    };
    assert!(
        fate("web").iter().all(|f| matches!(f, Fate::Moves { to, .. } if *to == node_id(1))),
        "{fates:#?}"
    );
    let why = "node-0 is being emptied, but the data of volume data is on node-0".to_owned();
    assert_eq!(fate("db"), [Fate::Stays { why }]);

    scene.drains(0, None);
    let (plan, report) = scene.plan();
    assert_eq!(plan.steps.iter().filter(|s| matches!(s, lattice_planner::Step::Create(_))).count(), 1);
    assert_eq!(report.stays.len(), 3, "two wait their turn, the data stays: {report:#?}");
    let aside = scene.cluster.allocations_of(&key("web")).find(|a| a.superseded.is_some()).unwrap();
    assert_eq!((aside.superseded, aside.intent), (Some(Superseded::Handover), Intent::Run));
    assert!(scene.plan().0.steps.is_empty(), "the old one serves until the new one does");
    scene.obey();
    scene.settle();
    assert_eq!(scene.where_is("web"), [1, 1, 1]);
    assert_eq!(scene.where_is("db"), [0]);
}

#[test]
fn a_drain_past_its_deadline_waits_for_nobody() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.node(1, |n| n.eligibility = Eligibility::Cordoned);
    scene.workload("web", 3, network);
    scene.settle();
    scene.node(1, |n| n.eligibility = Eligibility::Eligible);
    scene.drains(0, Some(Timestamp(1000)));
    let (_, report) = scene.plan();
    assert_eq!(report.next[&shop()], Timestamp(1000));
    scene.now = Timestamp(1000);
    scene.plan();
    assert_eq!(scene.where_is("web"), [1, 1, 1]);
}

#[test]
fn a_drain_that_is_taken_back_moves_nothing_more() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.node(1, |n| n.eligibility = Eligibility::Cordoned);
    scene.workload("web", 3, network);
    scene.settle();
    scene.node(1, |n| n.eligibility = Eligibility::Eligible);
    scene.drains(0, None);
    scene.plan();
    scene.node(0, |n| (n.eligibility, n.drain) = (Eligibility::Eligible, None));
    scene.settle();
    assert_eq!(scene.where_is("web"), [0, 0, 1]);
}

#[test]
fn a_service_whose_updates_stop_first_is_stopped_before_it_starts_elsewhere() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.workload("web", 1, |s| {
        network(s);
        s.update.parallelism = 2;
    });
    scene.settle();
    let home = scene.where_is("web")[0];
    scene.drains(home, None);
    let (_, report) = scene.plan();
    assert!(report.placed.is_empty() && report.pending[0].why.contains("has stopped"), "{report:#?}");
    assert!(scene.plan().0.steps.is_empty());
    scene.obey();
    scene.settle();
    assert_eq!(scene.where_is("web"), [1 - home]);
}

#[test]
fn a_node_in_another_pool_gives_its_work_away() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.workload("web", 2, network);
    scene.workload("a", 1, |s| {
        network(s);
        s.networks = [("own".parse().unwrap(), Default::default())].into();
    });
    scene.workload("b", 1, |s| {
        s.networks = [("own".parse().unwrap(), Default::default())].into();
    });
    scene.settle();
    let home = scene.where_is("a")[0];
    scene.node(home, |n| n.pool = "attic".parse().unwrap());
    scene.settle();
    for name in ["web", "a", "b"] {
        assert!(!scene.where_is(name).contains(&home), "{name}");
    }
}

#[test]
fn an_image_goes_where_it_can_run_and_a_pool_without_such_a_machine_is_named() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8)]);
    for n in 0..3 {
        scene.node(n, |node| node.facts.arch = if n == 2 { "aarch64".into() } else { "x86_64".into() });
    }
    let made_for = |platforms: &'static [&'static str]| {
        // Without a network in common they are no neighbours.
        move |s: &mut lattice_model::spec::WorkloadSpec| {
            s.pin = Some(lattice_model::spec::ImagePin {
                from: lattice_model::spec::ImageSource::Server,
                digest: lattice_model::spec::ImageDigest::of(b"image"),
                platforms: platforms.iter().map(|platform| (*platform).to_owned()).collect(),
            });
        }
    };
    scene.workload("arm", 2, made_for(&["linux/arm64/v8"]));
    scene.workload("both", 3, |s| {
        made_for(&["linux/amd64", "linux/arm64"])(s);
        s.placement.max_per_node = Some(1);
    });
    scene.workload("other", 1, made_for(&["linux/riscv64", "linux/s390x"]));
    let report = scene.settle();
    assert_eq!(scene.where_is("arm"), [2, 2]);
    assert_eq!(scene.where_is("both"), [0, 1, 2]);
    let pending = &report.pending[0];
    assert_eq!(
        pending.why,
        "no machine of the pool default runs it: none of 3 nodes fits (3: its image is for linux/riscv64, linux/s390x)"
    );
    assert!(pending.hint.contains("`platform:` of the service"), "{}", pending.hint);
}

#[test]
fn constraints_platform_and_bound_per_node_hold_and_are_counted() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8), (4, 8), (1, 1)]);
    for n in 0..4 {
        scene.node(n, |node| {
            node.facts.arch = if n == 3 { "aarch64".into() } else { "x86_64".into() };
            node.labels.insert("disk".into(), if n == 0 { "hdd".into() } else { "ssd".into() });
        });
    }
    scene.node(4, |node| {
        node.facts.arch = "x86_64".into();
        node.labels.insert("disk".into(), "ssd".into());
    });
    let wish = |s: &mut lattice_model::spec::WorkloadSpec| {
        network(s);
        s.platform = Some("linux/amd64".into());
        s.placement.constraints = vec!["node.labels.disk == ssd".parse().unwrap()];
        s.placement.max_per_node = Some(1);
        s.resources.reserved_memory = Some(lattice_model::Bytes(2 << 30));
    };
    scene.workload("web", 3, wish);
    let report = scene.settle();
    assert_eq!(scene.where_is("web"), [1, 2]);
    assert_eq!(
        report.pending[0].why,
        "none of 5 nodes fits (1: constraint node.labels.disk == ssd, 1: not for linux/amd64, 2: has 1 replicas of it already, 1: memory)"
    );
    // A label that changes moves what is there.
    scene.change("web", |w| w.replicas = 2);
    scene.settle();
    scene.node(0, |node| drop(node.labels.insert("disk".into(), "ssd".into())));
    scene.node(1, |node| drop(node.labels.insert("disk".into(), "hdd".into())));
    scene.settle();
    assert_eq!(scene.where_is("web"), [0, 2]);
    scene.workload("train", 1, |s| {
        s.gpus = Some(lattice_model::spec::GpuRequest::any(lattice_model::spec::GpuCount::All));
    });
    let report = scene.settle();
    assert!(
        report
            .pending
            .iter()
            .any(|p| p.why == "none of 5 nodes fits (5: gpu: it needs all GPUs, and it has none)"),
        "{report:#?}"
    );
}

#[test]
fn replicas_spread_over_what_they_are_told_to() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8)]);
    for n in 0..3 {
        scene.node(n, |node| {
            drop(node.labels.insert("room".into(), if n == 2 { "b".into() } else { "a".into() }))
        });
    }
    scene.workload("web", 4, |s| {
        network(s);
        s.placement.spread = vec!["node.labels.room".parse().unwrap()];
    });
    let (_, report) = scene.plan();
    assert_eq!(scene.where_is("web"), [0, 1, 2, 2]);
    assert!(report.placed[1].why.contains("spreads the replicas over node.labels.room best"), "{report:#?}");
}

#[test]
fn one_on_each_node_follows_the_nodes() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8)]);
    scene.node(2, |n| n.presence.state = PresenceState::Disconnected);
    scene.workload("probe", 1, |s| {
        network(s);
        s.mode = Mode::Global;
    });
    scene.settle();
    assert_eq!(scene.where_is("probe"), [0, 1]);
    scene.comes(2);
    scene.settle();
    assert_eq!(scene.where_is("probe"), [0, 1, 2]);
    scene.is_lost(0);
    scene.settle();
    assert_eq!(scene.where_is("probe"), [1, 2]);
    scene.comes(0);
    scene.settle();
    assert_eq!(scene.where_is("probe"), [0, 1, 2]);
    assert_eq!(scene.cluster.allocations().len(), 3);
    scene.drains(1, None);
    scene.settle();
    assert_eq!(scene.where_is("probe"), [0, 2]);
    scene.node(2, |n| n.eligibility = Eligibility::Cordoned);
    scene.workload("probe", 1, |s| {
        network(s);
        s.mode = Mode::Global;
        s.image = "new".into();
    });
    scene.settle();
    assert_eq!(scene.where_is("probe"), [0, 2], "what runs on a cordoned node stays");
    assert_eq!(scene.own("probe").iter().filter(|a| a.generation == 3 - 1).count(), 1);
}

#[test]
fn an_update_keeps_its_order_its_number_and_its_times() {
    let mut scene = Scene::with_nodes(&[(8, 16)]);
    let spec = |image: &str| {
        let image = image.to_owned();
        move |s: &mut lattice_model::spec::WorkloadSpec| {
            network(s);
            s.image = image;
            s.update.parallelism = 2;
            s.update.delay = Duration::from_secs(5);
            s.update.monitor = Duration::from_secs(3);
            s.update.order = UpdateOrder::StartFirst;
        }
    };
    scene.workload("web", 5, spec("old"));
    scene.settle_in_time();
    scene.workload("web", 5, spec("new"));
    let new = |scene: &Scene| scene.own("web").iter().filter(|a| a.generation == 2).count();
    scene.plan();
    assert_eq!(
        (new(&scene), scene.active("web").len()),
        (2, 7),
        "the old ones go on until the new ones serve"
    );
    scene.obey();
    let (_, report) = scene.plan();
    assert_eq!((new(&scene), scene.active("web").len()), (2, 5));
    assert_eq!(report.next[&shop()], scene.now + Duration::from_secs(3), "they are watched");
    scene.obey();
    scene.now = scene.now + Duration::from_secs(3);
    let (_, report) = scene.plan();
    assert_eq!((new(&scene), report.next[&shop()]), (2, scene.now + Duration::from_secs(5)));
    assert_eq!(report.pending[0].why, "the update waits 5s between two batches");
    scene.now = scene.now + Duration::from_secs(5);
    scene.plan();
    assert_eq!(new(&scene), 4);
    scene.settle_in_time();
    assert_eq!((new(&scene), scene.cluster.allocations().len()), (5, 5));
    assert_eq!(scene.cluster.workloads()[&key("web")].settled, 2);
}

#[test]
fn an_update_that_fails_goes_back_and_replaces_only_what_was_new() {
    let mut scene = Scene::with_nodes(&[(8, 16)]);
    scene.stack();
    let spec = |image: &str| {
        let image = image.to_owned();
        move |s: &mut lattice_model::spec::WorkloadSpec| {
            s.image = image;
            s.update.on_failure = UpdateFailure::Rollback;
        }
    };
    scene.workload("web", 3, spec("old"));
    scene.settle();
    let old: BTreeSet<_> = scene.own("web").iter().map(|a| a.id).collect();
    scene.workload("web", 3, spec("new"));
    scene.plan();
    scene.obey();
    scene.plan();
    let newest = scene.own("web").iter().filter(|a| a.generation == 2).max_by_key(|a| a.slot).unwrap().id;
    scene.status(newest, AllocationState::BackingOff);
    scene.plan();
    let row = scene.cluster.workloads()[&key("web")].clone();
    assert_eq!(
        (row.generation, row.spec.image.as_str(), row.rolled_back.as_ref().unwrap().to),
        (3, "old", 1)
    );
    scene.settle();
    let after: BTreeSet<_> = scene.own("web").iter().map(|a| a.id).collect();
    assert_eq!(old.intersection(&after).count(), 1, "what was not replaced yet runs on");
    assert!(scene.own("web").iter().all(|a| a.generation == 3 && a.spec.image == "old"));
}

#[test]
fn an_update_pauses_as_long_as_it_fails_and_tolerates_what_it_may() {
    let mut scene = Scene::with_nodes(&[(8, 16)]);
    let spec = |image: &str, permille: u16| {
        let image = image.to_owned();
        move |s: &mut lattice_model::spec::WorkloadSpec| {
            s.image = image;
            s.update.max_failure_permille = permille;
        }
    };
    for (permille, replaced) in [(0, 1), (400, 2)] {
        scene.workload("web", 3, spec("old", permille));
        scene.settle();
        let generation = scene.cluster.workloads()[&key("web")].generation + 1;
        scene.workload("web", 3, spec("new", permille));
        scene.plan();
        scene.obey();
        let first = scene.own("web").iter().find(|a| a.generation == generation).unwrap().id;
        scene.status(first, AllocationState::BackingOff);
        let (_, report) = scene.plan();
        assert_eq!(scene.own("web").iter().filter(|a| a.generation == generation).count(), replaced);
        let paused =
            report.pending[0].why.starts_with("the update is paused since #1 of the new version fails");
        assert_eq!(paused, permille == 0, "{report:#?}");
        scene.obey();
        scene.settle();
        assert!(scene.own("web").iter().all(|a| a.generation == generation));
    }
}

/// What people and machines do.
#[derive(Clone, Debug)]
enum Act {
    Deploy(usize, u32, u8),
    Goes(usize),
    Lost(usize),
    Comes(usize),
    Drain(usize, bool),
    Undrain(usize),
    Pool(usize, bool),
    Label(usize, bool),
    Obey,
    Fail(usize),
    Wait,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0usize..3, 0u32..5, any::<u8>()).prop_map(|(w, r, f)| Act::Deploy(w, r, f)),
        2 => (0usize..4).prop_map(Act::Goes),
        2 => (0usize..4).prop_map(Act::Lost),
        3 => (0usize..4).prop_map(Act::Comes),
        1 => (0usize..4, any::<bool>()).prop_map(|(n, d)| Act::Drain(n, d)),
        1 => (0usize..4).prop_map(Act::Undrain),
        1 => (0usize..4, any::<bool>()).prop_map(|(n, p)| Act::Pool(n, p)),
        1 => (0usize..4, any::<bool>()).prop_map(|(n, p)| Act::Label(n, p)),
        4 => Just(Act::Obey),
        1 => (0usize..12).prop_map(Act::Fail),
        1 => Just(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nodes come and go, are emptied and change their pool while people deploy. Every plan keeps the
    /// invariants and planning again changes nothing; once all is quiet and every node is there, each slot has
    /// exactly one replica of the present version, or says why not.
    #[test]
    fn counts_are_exact_at_rest(acts in proptest::collection::vec(act(), 1..40)) {
        let names = ["a", "b", "c"];
        let mut scene = Scene::with_nodes(&[(2, 2), (1, 1), (4, 8), (2, 4)]);
        scene.stack();
        for act in acts {
            match act {
                Act::Deploy(w, replicas, features) => scene.workload(names[w], replicas, |s| {
                    if features & 1 != 0 { network(s); }
                    if features & 2 != 0 { s.networks = [(format!("own-{w}").parse().unwrap(), Default::default())].into(); }
                    if features & 4 != 0 && w == 0 { mount(s); }
                    if features & 8 != 0 { s.update.order = UpdateOrder::StartFirst; }
                    if features & 16 != 0 { s.update.on_failure = UpdateFailure::Rollback; }
                    if features & 32 != 0 { s.placement.constraints = vec!["node.labels.disk != hdd".parse().unwrap()]; }
                    if features & 64 != 0 { s.update.parallelism = 2; }
                    if features & 128 != 0 { s.mode = Mode::Global; }
                }),
                Act::Goes(n) => scene.goes(n),
                Act::Lost(n) => scene.is_lost(n),
                Act::Comes(n) => scene.comes(n),
                Act::Drain(n, hurry) => { let at = hurry.then_some(scene.now); scene.drains(n, at); }
                Act::Undrain(n) => scene.node(n, |n| (n.eligibility, n.drain) = (Eligibility::Eligible, None)),
                Act::Pool(n, other) => scene.node(n, |n| n.pool = if other { "attic" } else { "default" }.parse().unwrap()),
                Act::Label(n, hdd) => scene.node(n, |n| drop(n.labels.insert("disk".into(), if hdd { "hdd" } else { "ssd" }.into()))),
                Act::Obey => scene.obey(),
                Act::Fail(n) => {
                    let ids: Vec<_> = scene.cluster.allocations().keys().copied().collect();
                    if let Some(id) = ids.get(n) { scene.status(*id, AllocationState::BackingOff); }
                }
                Act::Wait => scene.now = scene.now + Duration::from_secs(30),
            }
            scene.plan();
            for _ in 0..4 { scene.plan(); }
            let (again, _) = scene.plan();
            prop_assert!(again.steps.is_empty(), "planning again changes nothing: {again:#?}");
        }
        for n in 0..4 { scene.comes(n); }
        let report = scene.settle_in_time();
        for workload in scene.cluster.workloads().values() {
            let mut seen = BTreeSet::new();
            for row in scene.cluster.allocations_of(&workload.key) {
                prop_assert!(row.superseded.is_none(), "nobody stands aside at rest: {row:#?}\n{report:#?}");
                prop_assert!(row.intent == Intent::Run && seen.insert(row.slot), "{row:#?}");
            }
            if workload.spec.mode == Mode::Global { continue; }
            let current = |row: &&Row<Allocation>| row.generation == workload.generation;
            let mut slots: BTreeSet<u32> =
                scene.cluster.allocations_of(&workload.key).filter(current).map(|row| row.slot).collect();
            slots.extend(report.pending.iter().filter(|p| p.workload == workload.key).flat_map(|p| p.slots.clone()));
            prop_assert_eq!(slots, (1..=workload.replicas).collect::<BTreeSet<u32>>(), "{}: {:#?}", workload.key, report);
        }
    }
}

fn stands(state: StandingState) -> Standing {
    Standing { state, reason: Some("outside_hours".into()), ..Standing::default() }
}

#[test]
fn a_suspended_node_gets_nothing_and_its_work_runs_elsewhere() {
    let mut scene = Scene::with_nodes(&[(2, 4), (2, 4)]);
    scene.workload("web", 2, network);
    scene.settle();
    assert_eq!(scene.where_is("web"), [0, 1]);
    scene.node(1, |node| node.standing = stands(StandingState::Suspended));
    let (_, report) = scene.plan();
    let why = &report.placed[0].why;
    assert!(why.ends_with("node-1, where it was, is suspended by its owner (outside_hours)"), "{why}");
    scene.settle();
    assert_eq!(scene.where_is("web"), [0, 0]);
    scene.node(0, |node| node.standing = stands(StandingState::Finishing));
    assert!(scene.plan().0.steps.is_empty(), "what runs stays");
    scene.node(1, |node| node.standing = Standing::default());
    scene.settle();
    assert_eq!((scene.where_is("web").len(), scene.cluster.allocations().len()), (2, 2), "exact counts");
}

#[test]
fn a_service_that_is_scaled_to_nothing_moves_nobody() {
    let mut scene = Scene::with_nodes(&[(2, 2), (4, 8)]);
    scene.stack();
    scene.workload("a", 0, |s| {
        network(s);
        s.placement.constraints = vec!["node.labels.disk != hdd".parse().unwrap()];
    });
    for node in [0, 1] {
        scene.node(node, |n| drop(n.labels.insert("disk".into(), "hdd".into())));
    }
    scene.workload("b", 1, network);
    scene.settle();
    assert_eq!(scene.where_is("b").len(), 1);
    assert!(scene.plan().0.steps.is_empty(), "planning again changes nothing");
}

#[test]
fn what_a_node_gives_up_runs_elsewhere_or_waits_for_it() {
    let mut scene = Scene::with_nodes(&[(2, 4), (2, 4)]);
    scene.workload("web", 2, network);
    scene.settle();
    assert_eq!(scene.where_is("web"), [0, 1]);
    let distress = |scene: &mut Scene, n: usize, level: Level| {
        let condition = Condition {
            kind: ConditionKind::Memory,
            level,
            since: Timestamp(1),
            reason: Reason::LowMemory,
            message: String::new(),
        };
        scene.node(n, |node| node.conditions = vec![condition]);
    };
    let gives_up = |scene: &mut Scene, n: usize| {
        let row = scene.cluster.allocations_on(node_id(n)).next().unwrap().clone();
        let mut allocation = (*row.value).clone();
        allocation.status = AllocationStatus {
            displaced: true,
            ..AllocationStatus::new(AllocationState::BackingOff).because("it made way")
        };
        let row = scene.row(allocation);
        scene.cluster.put_allocation(row);
    };
    distress(&mut scene, 0, Level::Bad);
    assert!(scene.plan().0.steps.is_empty(), "what runs there stays");
    gives_up(&mut scene, 0);
    let (_, report) = scene.plan();
    assert!(report.placed[0].why.contains("node-0 gives it up: it made way"), "{report:#?}");
    scene.obey();
    scene.settle();
    assert_eq!(scene.where_is("web"), [1, 1]);
    // Nobody else has room: it waits for its node, which starts it again by itself.
    gives_up(&mut scene, 1);
    let (plan, report) = scene.plan();
    assert!(plan.steps.is_empty(), "{plan:#?}");
    assert!(report.stays[0].why.contains("memory low_memory"), "{report:#?}");
}
