//! What each key of a specification does to the reconciler: what the owner forbids, how images are
//! fetched, when containers are started again, and who follows whom.

#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use lattice_converge::{GpuOffer, Input, NodePolicy};
use lattice_model::{
    Bytes, Duration, Goal, GoalAllocation,
    report::AllocationState,
    spec::{
        ContainerPort, Dependency, DependencyCondition, GpuCount, GpuRequest, LogSpec, PortSpec, PullPolicy,
        RestartPolicy, RestartTiming, Ulimit, WorkloadSpec,
    },
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use world::{World, allocation, goal, id, policy};

fn with(service: &str, change: impl FnOnce(&mut WorkloadSpec)) -> GoalAllocation {
    let mut spec = WorkloadSpec::of_image("img");
    change(&mut spec);
    allocation(service, |a| a.spec = spec.into())
}

fn met(goal: &Goal) -> World {
    let mut world = World::new();
    world.list();
    world.give(1, goal);
    world.settle();
    world
}

/// What the node says to a specification under a policy.
fn judged(policy: NodePolicy, change: impl FnOnce(&mut WorkloadSpec)) -> Result<(), String> {
    let mut world = World::new();
    world.input(Input::Policy(policy));
    world.list();
    world.give(1, &goal([with("web", change)]));
    world.settle();
    let status = world.status(id(1));
    match status.state {
        AllocationState::Running => Ok(()),
        AllocationState::Failed => {
            assert!(world.log.is_empty(), "nothing is made of what is forbidden: {:?}", world.log);
            Err(status.reason.unwrap())
        }
        other => panic!("{other:?} {status:?}"),
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn what_the_owner_does_not_allow_is_refused_with_the_reason() {
    let refused = |word: &str, change: &dyn Fn(&mut WorkloadSpec)| {
        let why = judged(policy(), |spec| change(spec)).unwrap_err();
        assert!(why.contains(word), "{word}: {why}");
    };
    refused("NET_ADMIN", &|s| s.sandbox.cap_add = names(&["NET_ADMIN"]));
    refused("ALL", &|s| s.sandbox.cap_add = names(&["ALL"]));
    refused("kernel.core_pattern", &|s| {
        s.sandbox.sysctls.insert("kernel.core_pattern".into(), "|/x".into());
    });
    let limit = |s: &mut WorkloadSpec, name: &str, soft, hard| {
        s.sandbox.ulimits.insert(name.into(), Ulimit { soft, hard });
    };
    refused("nofile", &|s| limit(s, "nofile", 1024, 1 << 21));
    refused("nofile", &|s| limit(s, "nofile", 1024, -1));
    refused("soft limit", &|s| limit(s, "core", 5, 4));
    refused("rtprio", &|s| limit(s, "rtprio", 1, 1));
    refused("none of the kernel's", &|s| limit(s, "files", 1, 1));
    refused("oom_score_adj", &|s| s.process.oom_score_adj = Some(-1));
    refused("max_log", &|s| s.logs = LogSpec { max_size: Some(Bytes::GIB), max_files: Some(2) });
    let gpu = |ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        Some(GpuRequest { ids: ids.clone(), ..GpuRequest::any(GpuCount::Exactly(ids.len() as u32)) })
    };
    refused("no such GPU", &|s| s.gpus = gpu(&["GPU-1"]));

    let allowed = NodePolicy {
        capabilities: names(&["NET_ADMIN"]),
        ulimits: [("nofile".to_owned(), -1)].into(),
        gpus: [
            ("GPU-1".to_owned(), GpuOffer::Given),
            ("GPU-2".to_owned(), GpuOffer::Kept("its owner does not lend it".into())),
        ]
        .into(),
        oom_score_adj: -500,
        logs: Bytes(4 << 30),
        ..policy()
    };
    let check = |change: &dyn Fn(&mut WorkloadSpec)| judged(allowed.clone(), |spec| change(spec));
    check(&|s| s.sandbox.cap_add = names(&["NET_ADMIN"])).unwrap();
    check(&|s| limit(s, "nofile", -1, -1)).unwrap();
    check(&|s| s.process.oom_score_adj = Some(-500)).unwrap();
    check(&|s| s.logs = LogSpec { max_size: Some(Bytes::GIB), max_files: Some(2) }).unwrap();
    check(&|s| drop(s.sandbox.sysctls.insert("net.core.somaxconn".into(), "1024".into()))).unwrap();
    check(&|s| s.gpus = gpu(&["GPU-1"])).unwrap();
    for (ids, why) in [
        (&["GPU-2"][..], "does not lend"),
        (&["GPU-1", "GPU-2"], "does not lend"),
        (&["GPU-3"], "no such GPU"),
        (&["0"], "no such GPU"),
        (&[], "names none"),
    ] {
        let refusal = check(&|s| s.gpus = gpu(ids)).unwrap_err();
        assert!(refusal.contains(why), "{refusal}");
    }
    // What the owner takes back stops what has it.
    let mut world = World::new();
    world.input(Input::Policy(allowed));
    world.list();
    world.give(1, &goal([with("web", |s| s.sandbox.cap_add = names(&["NET_ADMIN"]))]));
    world.settle();
    assert_eq!(world.running(), 1);
    world.input(Input::Policy(policy()));
    world.settle();
    assert_eq!((world.running(), world.status(id(1)).state), (0, AllocationState::Failed));
}

#[test]
fn an_image_is_fetched_when_its_policy_says_so() {
    let pulls = |policy, image: &str| {
        let mut world = World::new();
        world.list();
        world.give(1, &goal([with("web", |s| (s.image, s.pull) = (image.into(), policy))]));
        world.pass(Duration::from_secs(20));
        let running = world.running();
        // A start of the same container fetches nothing, a new container may.
        if running == 1 {
            world.die(id(1), 1);
            world.pass(Duration::from_secs(20));
            let first = world.count("pull");
            world.containers.clear();
            world.list();
            world.pass(Duration::from_secs(20));
            return (running, first, world.count("pull"));
        }
        (running, world.count("pull"), world.count("pull"))
    };
    assert_eq!(pulls(PullPolicy::Missing, "img"), (1, 0, 0));
    assert_eq!(pulls(PullPolicy::Missing, "new"), (1, 1, 1));
    assert_eq!(pulls(PullPolicy::Always, "img"), (1, 1, 2));
    assert_eq!(pulls(PullPolicy::Never, "img"), (1, 0, 0));
    assert_eq!(pulls(PullPolicy::Never, "new"), (0, 0, 0));

    let mut world = World::new();
    world.list();
    world.give(1, &goal([with("web", |s| (s.image, s.pull) = ("mine".into(), PullPolicy::Never))]));
    world.settle();
    assert!(world.status(id(1)).reason.unwrap().contains("pull policy is never"));
    world.images.push("mine".into());
    world.pass(Duration::from_secs(300));
    assert_eq!(world.running(), 1);

    // A registry that is away does not stop what runs, and is not asked without a pause.
    let mut world = World::new();
    world.no_registry = true;
    world.list();
    world.give(1, &goal([with("web", |s| s.pull = PullPolicy::Always)]));
    world.pass(Duration::from_secs(3600));
    assert!((10..=25).contains(&world.count("pull")), "{} pulls", world.count("pull"));
    assert_eq!(world.running(), 0);
}

#[test]
fn replicas_fetch_together_and_a_platform_is_another_image() {
    let web = |platform: Option<&str>| {
        with("web", |s| {
            s.pull = PullPolicy::Always;
            s.platform = platform.map(str::to_owned);
        })
    };
    let world = met(&goal([web(None), web(None), web(Some("linux/arm64")), web(None)]));
    assert_eq!((world.running(), world.count("pull")), (4, 2));
}

#[test]
fn restarts_wait_as_they_are_told() {
    let timed = |delay: u64, window: u64| {
        with("web", |s| {
            s.restart_timing = RestartTiming {
                delay: Some(Duration::from_secs(delay)),
                window: Some(Duration::from_secs(window)),
            };
        })
    };
    let mut world = met(&goal([timed(20, 5)]));
    world.die(id(1), 1);
    world.pass(Duration::from_secs(19));
    assert_eq!(world.running(), 0);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.running(), 1);
    // Four seconds are no good run here, five are.
    world.pass(Duration::from_secs(4));
    world.die(id(1), 1);
    world.pass(Duration::from_secs(39));
    assert_eq!(world.running(), 0, "the wait has doubled");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.running(), 1);
    world.pass(Duration::from_secs(5));
    world.die(id(1), 1);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.running(), 1, "the wait begins anew after a good run");

    let tries = |window| {
        let mut world = World::new();
        world.list();
        let give_up = with("job", |s| {
            s.restart = RestartPolicy::OnFailure { max_retries: Some(2) };
            s.restart_timing.window = Some(Duration::from_secs(window));
        });
        world.give(1, &goal([give_up]));
        for _ in 0..8 {
            world.settle();
            world.pass(Duration::from_secs(30));
            if world.running() == 1 {
                world.die(id(1), 1);
            }
            world.pass(Duration::from_secs(60));
        }
        world.count("start")
    };
    assert_eq!(tries(100), 3, "each run counts as a failure in a row");
    assert!(tries(10) >= 8, "each run was good");
}

fn follows(service: &str, of: &str) -> GoalAllocation {
    with(service, |s| {
        let condition = DependencyCondition::ServiceStarted;
        s.depends_on.insert(of.parse().unwrap(), Dependency { condition, required: true, restart: true });
    })
}

/// When its container was started last.
fn started(world: &World, n: u128) -> Option<lattice_model::Timestamp> {
    world.container(id(n)).and_then(|c| c.started_at)
}

#[test]
fn whoever_follows_is_restarted_after_the_other() {
    let stack = |restart| {
        goal([
            allocation("db", |a| a.restart = restart),
            follows("api", "db"),
            follows("web", "api"),
            with("idle", |s| {
                let condition = DependencyCondition::ServiceStarted;
                s.depends_on
                    .insert("db".parse().unwrap(), Dependency { condition, required: true, restart: false });
            }),
        ])
    };
    let mut world = met(&stack(0));
    world.crash_agent();
    world.pass(Duration::from_secs(60));
    let before = world.log.len();
    assert_eq!(world.count("start"), 4, "taking over is no restart");
    // What ends by itself is restarted alone.
    world.die(id(1), 1);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.log[before..], ["start"]);

    let (idle, before) = (started(&world, 4), world.log.len());
    world.give(2, &stack(1));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.log[before..], ["stop", "start", "stop", "start", "stop", "start"]);
    assert_eq!((started(&world, 4), world.running()), (idle, 4));
    let [db, api, web] = [1, 2, 3].map(|n| started(&world, n).unwrap());
    assert!(db <= api && api <= web);
    let before = world.log.len();
    world.crash_agent();
    world.list();
    world.pass(Duration::from_secs(600));
    assert_eq!(world.log.len(), before, "once is enough");
}

#[test]
fn whoever_follows_is_restarted_when_the_other_is_replaced_and_not_when_it_grows() {
    let db = |slot| allocation("db", |a| a.slot = slot);
    let first = goal([db(1), follows("web", "db")]);
    let mut world = met(&first);
    let mut grown = first.clone();
    grown.allocations.insert(id(3), db(2));
    world.give(2, &grown);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.count("stop"), 0);
    // Removed first and placed again by a later goal, as an update may do it.
    let mut gap = grown.clone();
    gap.allocations.remove(&id(3));
    gap.remove.insert(id(3));
    world.give(3, &gap);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.count("stop"), 1);
    let mut replaced = gap.clone();
    replaced.allocations.insert(id(4), allocation("db", |a| (a.slot, a.replaces) = (2, Some(id(3)))));
    world.give(4, &replaced);
    world.pass(Duration::from_secs(60));
    assert_eq!((world.count("stop"), world.running()), (2, 3), "{:?}", world.log);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Ports of a range are chosen within it, no two the same, and kept.
    #[test]
    fn a_port_of_a_range_is_of_the_range(first in 1024u16..60_000, width in 3u16..50, replicas in 1usize..4) {
        let port = PortSpec {
            target: ContainerPort { port: 80, protocol: Default::default() },
            published: Some(first),
            published_to: Some(first + width),
            host_ip: None,
        };
        let one = || with("web", |s| s.ports = vec![port.clone()]);
        let mut world = met(&goal((0..replicas).map(|_| one())));
        prop_assert_eq!(world.running(), replicas);
        let chosen: BTreeSet<u16> = (1..=replicas as u128).map(|n| world.status(id(n)).ports[0].host_port).collect();
        prop_assert_eq!(chosen.len(), replicas);
        prop_assert!(chosen.iter().all(|port| (first..=first + width).contains(port)));
        // Somebody takes one while its container is down.
        let lost = world.status(id(1)).ports[0].host_port;
        world.ports_in_use.push(lost);
        world.die(id(1), 1);
        world.pass(Duration::from_secs(600));
        prop_assert_eq!(world.running(), replicas);
        prop_assert!(world.status(id(1)).ports[0].host_port != lost);
    }

    /// However few of a range are free: one that was refused is not tried again while others are left.
    #[test]
    fn the_last_free_port_of_a_range_is_found(first in 1024u16..60_000, width in 0u16..6, free in 0u16..6) {
        let free = first + free % (width + 1);
        let mut world = World::new();
        world.ports_in_use = (first..=first + width).filter(|port| *port != free).collect();
        let port = PortSpec {
            target: ContainerPort { port: 80, protocol: Default::default() },
            published: Some(first),
            published_to: Some(first + width),
            host_ip: None,
        };
        world.list();
        world.give(1, &goal([with("web", |s| s.ports = vec![port])]));
        world.settle();
        // 1 s, 2 s, 4 s … after each refusal: 31 s after the fifth.
        world.pass(Duration::from_secs(60));
        prop_assert_eq!(world.running(), 1);
        prop_assert_eq!(world.status(id(1)).ports[0].host_port, free);
    }
}
