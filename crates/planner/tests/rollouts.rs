//! A new version takes over: by turns, as a canary, or all at once beside the old one; people pause, promote and go
//! back, while nodes are away.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    AllocationId, Duration, Timestamp,
    report::{AllocationState, AllocationStatus, Health},
    resource::{Allocation, Intent, Presence, PresenceState, Rollout, RolloutPause, Superseded, Workload},
    spec::{
        BlueGreen, Canary, Mode, Promote, Share, UpdateFailure, UpdateOrder, UpdatePolicy, UpdateStrategy,
        WorkloadSpec,
    },
};
use lattice_planner::{Cluster, Plan, Row, Step, rollout};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::*;

const MINUTE: Duration = Duration::from_secs(60);

const fn canary(first: Share, promote: Promote) -> UpdateStrategy {
    UpdateStrategy::Canary(Canary { first, bake: MINUTE, promote })
}

const fn blue_green(promote: Promote) -> UpdateStrategy {
    UpdateStrategy::BlueGreen(BlueGreen { bake: MINUTE, promote, keep: Duration::from_secs(300) })
}

fn version(image: &str, strategy: UpdateStrategy) -> impl FnOnce(&mut WorkloadSpec) + use<> {
    let image = image.to_owned();
    move |s| {
        s.image = image;
        s.update.strategy = strategy;
        s.update.on_failure = UpdateFailure::Rollback;
    }
}

trait Rollouts {
    fn web(&self) -> Workload;
    fn own(&self) -> Vec<Row<Allocation>>;
    fn images(&self) -> BTreeMap<String, usize>;
    fn presence(&mut self, n: usize, state: PresenceState);
    fn health(&mut self, id: AllocationId, health: Health);
    fn decide(&mut self, how: impl FnOnce(&mut Rollout));
    fn pause(&mut self);
    fn undo(&mut self, to: u64);
}

impl Rollouts for Scene {
    fn web(&self) -> Workload {
        (*self.cluster.workloads()[&key("web")].value).clone()
    }

    fn own(&self) -> Vec<Row<Allocation>> {
        let rows = self.active("web").into_iter().filter(|row| row.superseded.is_none());
        let mut rows: Vec<_> = rows.cloned().collect();
        rows.sort_by_key(|row| row.slot);
        rows
    }

    /// What runs, by image.
    fn images(&self) -> BTreeMap<String, usize> {
        let mut images = BTreeMap::new();
        for row in self.active("web") {
            *images.entry(row.spec.image.clone()).or_default() += 1;
        }
        images
    }

    fn presence(&mut self, n: usize, state: PresenceState) {
        let since = self.now;
        self.node(n, |node| node.presence = Presence { state, since });
    }

    fn health(&mut self, id: AllocationId, health: Health) {
        let mut allocation = (*self.cluster.allocations()[&id].value).clone();
        allocation.status = AllocationStatus { health, ..AllocationStatus::new(AllocationState::Running) };
        allocation.serving_since = None;
        let row = self.row(allocation);
        self.cluster.put_allocation(row);
    }

    /// As the API does it.
    fn decide(&mut self, how: impl FnOnce(&mut Rollout)) {
        let now = self.now;
        self.change("web", |w| {
            let mut rollout =
                w.present_rollout().cloned().unwrap_or_else(|| Rollout::begin(w.generation, now));
            how(&mut rollout);
            w.rollout = Some(rollout);
        });
    }

    fn pause(&mut self) {
        let at = self.now;
        self.decide(|rollout| rollout.paused = Some(RolloutPause { by: "ann".into(), at }));
    }

    /// Back to a version that came up, as the API does it.
    fn undo(&mut self, to: u64) {
        let (before, now) = (self.web(), self.now);
        let kept = self.cluster.revisions[&(key("web"), to)].clone();
        let replicas = before.replicas;
        let spec = (*kept.spec).clone();
        self.workload("web", replicas, |s| *s = spec);
        self.change("web", |w| {
            w.alike = vec![kept.generation];
            w.rollout = Some(Rollout { undo: true, ..Rollout::begin(w.generation, now) });
        });
    }
}

fn counts<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.into_iter().map(|(image, count)| (image.to_owned(), count)).collect()
}

#[test]
fn a_canary_runs_beside_the_old_ones_is_watched_and_followed() {
    let mut scene = Scene::with_nodes(&[(8, 16), (8, 16)]);
    scene.workload("web", 4, version("old", canary(Share::Count(1), Promote::Auto)));
    scene.settle();
    scene.workload("web", 4, version("new", canary(Share::Count(1), Promote::Auto)));
    scene.plan();
    assert_eq!(scene.images(), counts([("old", 4), ("new", 1)]), "all of the old ones go on");
    scene.obey();
    scene.settle();
    assert_eq!(scene.images(), counts([("old", 4), ("new", 1)]), "also when the canary serves");
    let (_, report) = scene.plan();
    assert_eq!(report.pending[0].why, "1 of the new version are watched for 1m");
    assert_eq!((report.pending[0].slots.clone(), report.pending[0].turn), (vec![2, 3, 4], true));
    assert_eq!(report.next[&shop()], scene.now + MINUTE);
    scene.now = scene.now + MINUTE;
    scene.plan();
    assert!(scene.web().rollout.unwrap().promoted.is_some());
    scene.plan();
    assert_eq!(scene.images(), counts([("old", 2), ("new", 2)]), "the others follow by turns");
    scene.settle_in_time();
    assert_eq!(scene.images(), counts([("new", 4)]));
    assert_eq!((scene.web().settled, scene.cluster.allocations().len()), (2, 4));
}

#[test]
fn a_canary_that_a_person_promotes_waits_for_that() {
    let mut scene = Scene::with_nodes(&[(8, 16)]);
    let some = canary(Share::Percent(50), Promote::Manual);
    scene.workload("web", 4, version("old", some));
    scene.settle();
    scene.workload("web", 4, version("new", some));
    let report = scene.settle_in_time();
    assert_eq!(scene.images(), counts([("old", 4), ("new", 2)]), "half of it, beside the others");
    assert_eq!(
        report.pending[0].why,
        "2 of the new version have served for 1m; `lattice rollout promote shop` lets them take over"
    );
    let at = scene.now;
    scene.decide(|rollout| rollout.promoted = Some(at));
    scene.settle_in_time();
    assert_eq!(scene.images(), counts([("new", 4)]));
}

#[test]
fn a_canary_that_fails_is_taken_back_and_no_old_one_stopped() {
    for late in [false, true] {
        let mut scene = Scene::with_nodes(&[(8, 16)]);
        scene.stack();
        let some = canary(Share::Count(2), Promote::Auto);
        scene.workload("web", 3, version("old", some));
        scene.settle();
        let old: BTreeSet<_> = scene.own().iter().map(|row| row.id).collect();
        scene.workload("web", 3, version("new", some));
        scene.plan();
        let new = scene.own().iter().find(|row| row.generation == 2).unwrap().id;
        if late {
            // It never gets well: the deadline says that it failed.
            scene.health(new, Health::Starting);
            let (_, report) = scene.plan();
            assert_eq!(report.next[&shop()], Timestamp(7) + UpdatePolicy::DEFAULT_DEADLINE);
            scene.now = report.next[&shop()];
        } else {
            scene.status(new, AllocationState::BackingOff);
        }
        scene.plan();
        let back = scene.web().rolled_back.unwrap();
        assert_eq!((back.to, late), (1, back.why.contains("it has not come up within 10m")), "{back:?}");
        scene.settle_in_time();
        let now: BTreeSet<_> = scene.own().iter().map(|row| row.id).collect();
        assert_eq!((now, scene.cluster.allocations().len()), (old, 3), "who ran before runs on");
        assert_eq!(scene.web().settled, 3);
    }
}

#[test]
fn the_new_set_comes_up_whole_takes_over_and_the_old_one_is_kept_a_while() {
    let mut scene = Scene::with_nodes(&[(8, 16), (8, 16)]);
    scene.workload("web", 3, version("old", blue_green(Promote::Auto)));
    scene.settle();
    let old: BTreeSet<_> = scene.own().iter().map(|row| row.id).collect();
    scene.workload("web", 3, version("new", blue_green(Promote::Auto)));
    scene.plan();
    assert_eq!(scene.images(), counts([("old", 3), ("new", 3)]));
    let ids: Vec<_> = scene.own().iter().map(|row| row.id).collect();
    for id in &ids[..2] {
        scene.status(*id, AllocationState::Running);
    }
    scene.now = scene.now + MINUTE;
    assert!(scene.plan().0.steps.is_empty(), "two of three are not the whole set");
    scene.status(ids[2], AllocationState::Running);
    let (_, report) = scene.plan();
    assert_eq!(report.next[&shop()], scene.now + MINUTE);
    scene.now = scene.now + MINUTE;
    scene.settle();
    assert_eq!(scene.images(), counts([("new", 3)]));
    let kept: Vec<_> = scene
        .cluster
        .allocations()
        .values()
        .filter(|row| row.superseded == Some(Superseded::Retired))
        .collect();
    assert!(kept.iter().all(|row| row.intent == Intent::Stop && old.contains(&row.id)) && kept.len() == 3);
    assert_eq!(scene.web().settled, 2, "it has come up");

    // Back at once: who was kept serves again, and the new ones go when that is so.
    scene.undo(1);
    scene.plan();
    assert_eq!(scene.images(), counts([("old", 3), ("new", 3)]));
    scene.settle_in_time();
    let now: BTreeSet<_> = scene.own().iter().map(|row| row.id).collect();
    assert_eq!((now, scene.cluster.allocations().len()), (old, 3));
}

#[test]
fn the_old_set_goes_when_its_time_is_over() {
    let mut scene = Scene::with_nodes(&[(8, 16)]);
    scene.workload("web", 2, version("old", blue_green(Promote::Manual)));
    scene.settle();
    scene.workload("web", 2, version("new", blue_green(Promote::Manual)));
    scene.settle_in_time();
    assert_eq!(scene.images(), counts([("old", 2), ("new", 2)]), "nobody promoted it");
    let trial = rollout::trial(&scene.cluster, &scene.web()).unwrap();
    assert_eq!((trial.serving, trial.slots.len()), (2, 2));
    let at = scene.now;
    scene.decide(|rollout| rollout.promoted = Some(at));
    scene.settle();
    assert_eq!((scene.images(), scene.cluster.allocations().len()), (counts([("new", 2)]), 4));
    scene.settle_in_time();
    assert_eq!(scene.now, at + Duration::from_secs(300));
    assert_eq!(scene.cluster.allocations().len(), 2);
}

#[test]
fn a_set_that_finds_no_place_is_taken_back() {
    let mut scene = Scene::with_nodes(&[(1, 2)]);
    scene.stack();
    let large = |image: &str| {
        let more = version(image, blue_green(Promote::Auto));
        move |s: &mut WorkloadSpec| {
            more(s);
            s.resources.reserved_memory = Some(lattice_model::Bytes(700 << 20));
        }
    };
    scene.workload("web", 2, large("old"));
    scene.settle();
    scene.workload("web", 2, large("new"));
    let report = scene.settle();
    assert!(report.pending[0].why.contains("memory"), "{report:#?}");
    assert_eq!(scene.images(), counts([("old", 2)]));
    scene.settle_in_time();
    assert_eq!(scene.images(), counts([("old", 2)]));
    let why = scene.web().rolled_back.unwrap().why;
    assert!(why.contains("nothing has taken the new version for 10m"), "{why}");
}

#[test]
fn a_pause_holds_everything_and_what_is_lost_comes_back_as_it_was() {
    let mut scene = Scene::with_nodes(&[(8, 16), (8, 16), (8, 16)]);
    scene.stack();
    scene.workload("web", 3, version("old", UpdateStrategy::Rolling));
    scene.settle();
    scene.workload("web", 3, version("new", UpdateStrategy::Rolling));
    scene.plan();
    scene.obey();
    scene.pause();
    for _ in 0..3 {
        scene.now = scene.now + Duration::from_secs(3600);
        scene.obey();
        let (plan, report) = scene.plan();
        assert!(plan.steps.is_empty(), "{}", brief(&plan));
        assert_eq!(report.pending[0].why, "ann paused the rollout; `lattice rollout resume shop` goes on");
        assert_eq!((report.pending[0].slots.clone(), report.pending[0].turn), (vec![2, 3], true));
    }
    assert_eq!(scene.images(), counts([("old", 2), ("new", 1)]));
    // The node of an old one is lost: it is placed anew, as it was.
    let row = scene.own().into_iter().find(|row| row.spec.image == "old").unwrap();
    let n = (0..3).find(|n| node_id(*n) == row.node).unwrap();
    scene.presence(n, PresenceState::Lost);
    scene.settle();
    let again = scene.own().into_iter().find(|other| other.slot == row.slot).unwrap();
    assert_eq!((again.spec.image.as_str(), again.generation), ("old", 1));
    assert_ne!(again.node, row.node);
    scene.presence(n, PresenceState::Connected);
    scene.settle();
    assert_eq!(scene.images(), counts([("old", 2), ("new", 1)]));
    let now = scene.now;
    scene.decide(|rollout| (rollout.paused, rollout.counted_from) = (None, now));
    scene.settle_in_time();
    assert_eq!((scene.images(), scene.web().settled), (counts([("new", 3)]), 2));
}

#[test]
fn who_is_away_keeps_nobody_waiting_and_gets_the_version_on_return() {
    for global in [false, true] {
        let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8)]);
        let spec = |image: &str| {
            let more = version(image, UpdateStrategy::Rolling);
            move |s: &mut WorkloadSpec| {
                more(s);
                s.mode = if global { Mode::Global } else { Mode::Replicated };
            }
        };
        scene.workload("web", 3, spec("old"));
        scene.settle();
        scene.presence(0, PresenceState::Disconnected);
        scene.workload("web", 3, spec("new"));
        let report = scene.settle_in_time();
        assert_eq!(scene.images(), counts([("old", 1), ("new", 2)]));
        assert_eq!(report.pending[0].why, "node-0 is away; they get the new version there when it is back");
        assert!(report.pending[0].turn);
        assert_eq!(scene.web().settled, 2, "it has come up as far as anybody can say");
        scene.presence(0, PresenceState::Connected);
        scene.settle_in_time();
        assert_eq!(scene.images(), counts([("new", 3)]));
        assert_eq!(scene.cluster.allocations().len(), 3);
    }
}

#[test]
fn a_lost_one_that_fits_nowhere_keeps_nobody_waiting() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8)]);
    let spec = |image: &str| {
        let more = version(image, UpdateStrategy::Rolling);
        move |s: &mut WorkloadSpec| {
            more(s);
            s.placement.max_per_node = Some(1);
        }
    };
    scene.workload("web", 3, spec("old"));
    scene.settle();
    scene.presence(0, PresenceState::Lost);
    scene.settle();
    scene.workload("web", 3, spec("new"));
    scene.settle_in_time();
    assert_eq!(scene.images(), counts([("old", 1), ("new", 2)]));
    assert_eq!(scene.web().settled, 2);
    scene.presence(0, PresenceState::Connected);
    scene.settle_in_time();
    assert_eq!((scene.images(), scene.cluster.allocations().len()), (counts([("new", 3)]), 3));
}

#[test]
fn a_server_that_has_just_started_decides_nothing_about_who_it_has_not_heard_of() {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    scene.workload("web", 2, version("old", UpdateStrategy::Rolling));
    scene.settle();
    scene.workload("web", 2, version("new", UpdateStrategy::Rolling));
    scene.plan();
    scene.obey();
    for n in 0..2 {
        scene.presence(n, PresenceState::Unknown);
    }
    scene.plan();
    let (plan, _) = scene.plan();
    assert!(plan.steps.is_empty() && scene.web().settled == 1, "{}", brief(&plan));
}

/// What people and machines do.
#[derive(Clone, Debug)]
enum Act {
    Deploy(u8, u32),
    Goes(usize),
    Lost(usize),
    Comes(usize),
    Obey,
    ObeyOne(usize),
    Fail(usize),
    Wait(u64),
    Pause,
    Resume,
    Promote,
    Undo,
    Scale(u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (any::<u8>(), 1u32..5).prop_map(|(f, r)| Act::Deploy(f, r)),
        2 => (0usize..3).prop_map(Act::Goes),
        1 => (0usize..3).prop_map(Act::Lost),
        3 => (0usize..3).prop_map(Act::Comes),
        5 => Just(Act::Obey),
        3 => (0usize..12).prop_map(Act::ObeyOne),
        1 => (0usize..12).prop_map(Act::Fail),
        3 => prop_oneof![Just(5u64), Just(60), Just(700)].prop_map(Act::Wait),
        1 => Just(Act::Pause),
        1 => Just(Act::Resume),
        1 => Just(Act::Promote),
        1 => Just(Act::Undo),
        1 => (0u32..5).prop_map(Act::Scale),
    ]
}

fn policy(features: u8) -> UpdatePolicy {
    let promote = if features & 4 == 0 { Promote::Auto } else { Promote::Manual };
    UpdatePolicy {
        parallelism: u32::from(features >> 6 & 1) + 1,
        on_failure: if features & 8 == 0 { UpdateFailure::Rollback } else { UpdateFailure::Pause },
        order: if features & 16 == 0 { UpdateOrder::StopFirst } else { UpdateOrder::StartFirst },
        monitor: if features & 32 == 0 { Duration(0) } else { Duration::from_secs(5) },
        strategy: match features & 3 {
            0 => UpdateStrategy::Rolling,
            1 => canary(Share::Count(1), promote),
            2 => canary(Share::Percent(50), promote),
            _ => blue_green(promote),
        },
        ..UpdatePolicy::default()
    }
}

/// A plan in a line for each step.
fn brief(plan: &Plan) -> String {
    let line = |step: &Step| match step {
        Step::Create(row) => format!("create #{} g{} on {}", row.slot, row.generation, row.node.short()),
        Step::Update { allocation: row, why, .. } => format!(
            "update #{} g{} {:?} {:?}: {}",
            row.slot,
            row.generation,
            row.intent,
            row.superseded,
            why.as_deref().unwrap_or_default()
        ),
        Step::Workload { workload, .. } => format!(
            "workload g{} settled {} {:?} {:?}",
            workload.generation, workload.settled, workload.rollout, workload.rolled_back
        ),
        other => format!("{other:?}").chars().take(80).collect(),
    };
    plan.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether a replica serves where it is heard of, and is to go on.
fn available(cluster: &Cluster, row: &Allocation) -> bool {
    let heard =
        cluster.nodes.get(&row.node).is_some_and(|node| node.presence.state == PresenceState::Connected);
    heard && row.intent == Intent::Run && row.status.is_serving()
}

/// The slots of which something serves; only of former versions where asked. One that is back from a lost node is
/// not counted: while its successor starts it goes at once where two may not run together.
fn serving(cluster: &Cluster, web: &Workload, former: bool) -> BTreeSet<u32> {
    let right =
        |row: &&Row<Allocation>| row.generation == web.generation || web.alike.contains(&row.generation);
    let rows = cluster.allocations_of(&web.key).filter(|row| row.slot <= web.replicas);
    let counts = |row: &&Row<Allocation>| {
        available(cluster, row) && row.superseded != Some(Superseded::Lost) && !(former && right(row))
    };
    rows.filter(counts).map(|row| row.slot).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Versions come by every way while nodes come and go and people pause, promote and go back. No plan takes more
    /// out of service than the policy allows; what is tried takes nothing away before it is promoted; nothing new
    /// comes while it is paused; planning again changes nothing; and once all is quiet, it comes to an end.
    #[test]
    fn no_plan_of_a_rollout_takes_more_than_it_may(acts in proptest::collection::vec(act(), 1..50)) {
        let mut scene = Scene::with_nodes(&[(4, 8), (4, 8), (4, 8)]);
        scene.stack();
        scene.workload("web", 3, |s| s.image = "v0".into());
        scene.settle();
        for (n, act) in acts.into_iter().enumerate() {
            let running: Vec<AllocationId> = scene.active("web").iter().map(|row| row.id).collect();
            match act {
                Act::Deploy(features, replicas) => scene.workload("web", replicas, |s| {
                    s.image = format!("v{n}");
                    s.update = policy(features);
                }),
                Act::Goes(n) => scene.presence(n, PresenceState::Disconnected),
                Act::Lost(n) => scene.presence(n, PresenceState::Lost),
                Act::Comes(n) => scene.presence(n, PresenceState::Connected),
                Act::Obey => scene.obey(),
                Act::ObeyOne(n) => if let Some(id) = running.get(n) { scene.status(*id, AllocationState::Running) },
                Act::Fail(n) => if let Some(id) = running.get(n) { scene.status(*id, AllocationState::BackingOff) },
                Act::Wait(secs) => scene.now = scene.now + Duration::from_secs(secs),
                Act::Pause => if scene.web().is_under_way() { scene.pause() },
                Act::Resume => if scene.web().rollout.is_some() {
                    let now = scene.now;
                    scene.decide(|one| (one.paused, one.counted_from) = (None, now));
                },
                Act::Promote => if rollout::trial(&scene.cluster, &scene.web()).is_some() {
                    let now = scene.now;
                    scene.decide(|one| (one.promoted, one.counted_from) = (Some(now), now));
                },
                Act::Undo => if scene.web().is_under_way() { scene.undo(scene.web().settled) },
                Act::Scale(replicas) => scene.change("web", |w| w.replicas = replicas),
            }
            for _ in 0..6 {
                let (before, web) = (scene.cluster.clone(), scene.web());
                let (plan, _) = scene.plan();
                let after = scene.web();
                let policy = web.spec.update;
                let (had, has) = (serving(&before, &web, false), serving(&scene.cluster, &web, false));
                let gone: Vec<_> = had.difference(&has).collect();
                prop_assert!(policy.parallelism == 0 || gone.len() <= policy.parallelism as usize, "{gone:?} {}", brief(&plan));
                if !gone.is_empty() {
                    prop_assert!(policy.order == UpdateOrder::StopFirst && after.rollout.as_ref().is_none_or(|one| one.paused.is_none()), "{gone:?} {}", brief(&plan));
                    let not_ours = |row: &&Row<Allocation>| row.superseded.is_none() && row.intent == Intent::Run
                        && (row.status.state == AllocationState::BackingOff
                            || before.nodes[&row.node].presence.state != PresenceState::Connected);
                    let empty = (1..=web.replicas).filter(|slot| !before.allocations_of(&web.key).any(|row| row.slot == *slot));
                    let excused = before.allocations_of(&web.key).filter(not_ours).count() + empty.count();
                    let out = web.replicas as usize - has.len();
                    prop_assert!(out <= policy.parallelism as usize + excused, "{out} are out of service: {}", brief(&plan));
                }
                let tried = rollout::trial(&before, &web).is_some();
                let promoted = after.rollout.as_ref().is_some_and(|one| one.promoted.is_some());
                if tried && !promoted && after.generation == web.generation {
                    let (had, has) = (serving(&before, &web, true), serving(&scene.cluster, &web, true));
                    prop_assert!(has.is_superset(&had), "a trial takes {had:?} to {has:?}: {}", brief(&plan));
                }
                if web.present_rollout().is_some_and(|one| one.paused.is_some()) && web.is_under_way() {
                    prop_assert_eq!(after.generation, web.generation);
                    for step in &plan.steps {
                        if let Step::Create(new) = step && new.generation == web.generation {
                            let was = before.allocations_of(&web.key).any(|row| row.slot == new.slot && row.generation == web.generation);
                            prop_assert!(was, "a paused rollout goes on: {}", brief(&plan));
                        }
                    }
                }
                let retired = scene.cluster.allocations_of(&web.key).any(|row| row.superseded == Some(Superseded::Retired) && row.intent == Intent::Run);
                prop_assert!(!retired);
            }
            let (again, _) = scene.plan();
            prop_assert!(again.steps.is_empty(), "planning again changes nothing: {}", brief(&again));
        }
        for n in 0..3 { scene.presence(n, PresenceState::Connected); }
        let now = scene.now;
        if scene.web().is_under_way() {
            scene.decide(|one| (one.paused, one.promoted, one.counted_from) = (None, Some(now), now));
        }
        let report = scene.settle_in_time();
        let web = scene.web();
        let mut seen = BTreeSet::new();
        for row in scene.cluster.allocations_of(&web.key) {
            prop_assert!(row.superseded.is_none() && row.intent == Intent::Run && seen.insert(row.slot), "{row:#?}\n{report:#?}");
            prop_assert_eq!(row.generation, web.generation);
        }
        prop_assert_eq!(seen.len(), web.replicas as usize, "{:#?}", report);
        prop_assert!(web.settled == web.generation || web.replicas == 0);
    }
}
