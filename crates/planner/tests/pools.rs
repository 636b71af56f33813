//! Pools with rules: where a node belongs, when it goes there, what stays, and what a change would do.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    Bytes, Cpu, Duration, PoolName, Timestamp,
    machine::{GpuFacts, GpuState},
    pool::{Oversubscription, Pool, PoolRule},
    resource::{Node, PresenceState},
    spec::WorkloadSpec,
};
use lattice_planner::{
    forecast::Fate,
    pools::{AT_ONCE, By, Since, admits, belongs, bound, moves, preview, preview_node, stays},
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use support::*;

const HOLD: Duration = Duration::from_secs(60);

fn name(text: &str) -> PoolName {
    text.parse().unwrap()
}

fn pool(scene: &mut Scene, called: &str, rule: Option<(&str, i16)>, change: impl FnOnce(&mut Pool)) {
    let rule =
        rule.map(|(rule, priority)| PoolRule { rule: rule.parse().unwrap(), priority, trusts_claims: false });
    let mut pool =
        Pool { name: name(called), trusted: called == "default", rule, ..Pool::default_pool(Timestamp(0)) };
    change(&mut pool);
    let row = scene.row(pool);
    scene.cluster.pools.insert(name(called), row);
}

fn label(node: &mut Node, key: &str, value: &str) {
    node.labels.insert(key.into(), value.into());
}

fn in_pool(called: &'static str) -> impl FnOnce(&mut WorkloadSpec) {
    move |spec| spec.pool = name(called).into()
}

/// Looks once and carries out what was decided.
fn look(scene: &mut Scene, since: &mut Since) -> Vec<(usize, String)> {
    let decided = moves(&scene.cluster, since, HOLD, scene.now);
    for one in &decided {
        let row = scene.cluster.nodes[&one.node].clone();
        let moved = scene.row(one.of(&row, scene.now));
        scene.cluster.nodes.insert(one.node, moved);
    }
    let number = |one: &lattice_planner::pools::Repool| (0..99).find(|n| node_id(*n) == one.node).unwrap();
    decided.iter().map(|one| (number(one), one.to.to_string())).collect()
}

fn scene(nodes: usize) -> Scene {
    let mut scene = Scene::with_nodes(&vec![(4, 8); nodes]);
    scene.stack();
    pool(&mut scene, "default", None, |_| ());
    scene
}

#[test]
fn a_node_enters_by_a_rule_and_what_is_for_the_pool_follows_by_turns() {
    let mut scene = scene(2);
    pool(&mut scene, "eu", Some(("node.labels.region == eu", 0)), |_| ());
    scene.workload("web", 2, in_pool("eu"));
    scene.workload("old", 2, |_| ());
    scene.settle();
    assert_eq!((scene.active("web").len(), scene.active("old").len()), (0, 2));
    scene.node(1, |node| label(node, "region", "eu"));
    let mut since = Since::default();
    assert_eq!(look(&mut scene, &mut since), [(1, "eu".to_owned())]);
    assert_eq!(look(&mut scene, &mut since), []);
    let node = &scene.cluster.nodes[&node_id(1)];
    assert_eq!(
        belongs(&scene.cluster, node).why(),
        "the rule of the pool eu holds: node.labels.region == eu"
    );
    scene.settle_in_time();
    let on = |scene: &Scene, name: &str| scene.active(name).iter().map(|row| row.node).collect::<Vec<_>>();
    assert_eq!((on(&scene, "web"), on(&scene, "old")), (vec![node_id(1); 2], vec![node_id(0); 2]));
}

#[test]
fn what_a_rule_took_in_stays_until_its_facts_have_said_otherwise_for_a_while() {
    let mut scene = scene(1);
    pool(&mut scene, "eu", Some(("node.labels.region == eu", 0)), |_| ());
    let mut since = Since::default();
    let mut went = 0;
    // Once a second for an hour the label comes and goes.
    for second in 0..3600u64 {
        scene.now = Timestamp(7_000_000) + Duration::from_secs(second);
        scene.node(0, |node| match second % 2 {
            0 => label(node, "region", "eu"),
            _ => drop(node.labels.remove("region")),
        });
        went += look(&mut scene, &mut since).len();
    }
    assert_eq!(went, 1, "it came once, and nothing was otherwise for long enough to let it go");
    scene.node(0, |node| drop(node.labels.remove("region")));
    assert_eq!(look(&mut scene, &mut since), []);
    let node = scene.cluster.nodes[&node_id(0)].clone();
    assert!(stays(&scene.cluster, &node).unwrap().contains("for a while"));
    scene.now = scene.now + Duration::from_secs(59);
    assert_eq!(look(&mut scene, &mut since), []);
    scene.now = scene.now + Duration::from_secs(1);
    assert_eq!(look(&mut scene, &mut since), [(0, "default".to_owned())]);
    // And it does not come back before it has been away as long.
    scene.node(0, |node| label(node, "region", "eu"));
    assert_eq!(look(&mut scene, &mut since), []);
    scene.now = scene.now + HOLD;
    assert_eq!(look(&mut scene, &mut since), [(0, "eu".to_owned())]);
}

#[test]
fn data_keeps_a_node_where_it_is_and_says_so() {
    let mut scene = scene(1);
    scene.workload("db", 1, |spec| {
        network(spec);
        mount(spec);
    });
    scene.settle();
    pool(&mut scene, "eu", Some(("node.labels.region == eu", 0)), |_| ());
    scene.node(0, |node| label(node, "region", "eu"));
    let mut since = Since::default();
    assert_eq!(look(&mut scene, &mut since), []);
    let node = scene.cluster.nodes[&node_id(0)].clone();
    let why = stays(&scene.cluster, &node).unwrap();
    assert!(why.contains("the data of volume data is on it") && why.contains("lattice node set"), "{why}");
}

#[test]
fn a_trusted_pool_takes_nobody_by_rule_whom_no_operator_vouches_for() {
    let mut scene = scene(1);
    scene.node(0, |node| {
        node.facts.machine.region = Some("eu".into());
        node.facts.machine.labels.insert("disk".into(), "ssd".into());
        let gpu =
            GpuFacts { lent: true, state: GpuState::Proven, memory: Bytes(48 << 30), ..GpuFacts::default() };
        node.facts.machine.gpus = vec![gpu];
    });
    let mut takes = |rule: &str, trusted: bool, trusts_claims: bool| {
        pool(&mut scene, "p", Some((rule, 0)), |pool| {
            pool.trusted = trusted;
            pool.rule.as_mut().unwrap().trusts_claims = trusts_claims;
        });
        admits(&scene.cluster.pools[&name("p")], &scene.cluster.nodes[&node_id(0)])
    };
    for rule in ["node.labels.region == eu", "node.labels.disk == ssd", "node.region exists"] {
        assert!(takes(rule, false, false), "{rule}: its owner's word is enough where nothing is entrusted");
        assert!(!takes(rule, true, false) && !takes(rule, true, true), "{rule}: never for a trusted pool");
    }
    let gpu = "node.gpu.memory >= 40g";
    assert!(takes(gpu, false, false) && takes(gpu, true, true) && !takes(gpu, true, false));
    scene.node(0, |node| label(node, "region", "eu"));
    assert!(admits(
        &Pool {
            trusted: true,
            rule: Some(PoolRule {
                rule: "node.region == eu".parse().unwrap(),
                priority: 0,
                trusts_claims: true
            }),
            ..Pool::default_pool(Timestamp(0))
        },
        &scene.cluster.nodes[&node_id(0)]
    ));
}

#[test]
fn the_highest_priority_counts_then_the_name_and_a_hand_outranks_all() {
    let mut scene = scene(1);
    scene.node(0, |node| label(node, "env", "prod"));
    for (called, priority) in [("b", 1), ("a", 1), ("z", 5), ("y", -1)] {
        pool(&mut scene, called, Some(("node.labels.env == prod", priority)), |_| ());
    }
    let now_in = |scene: &Scene| belongs(&scene.cluster, &scene.cluster.nodes[&node_id(0)]).pool.to_string();
    assert_eq!(now_in(&scene), "z");
    scene.cluster.pools.remove(&name("z"));
    assert_eq!(now_in(&scene), "a");
    scene.node(0, |node| node.pool_fixed = true);
    assert_eq!(belongs(&scene.cluster, &scene.cluster.nodes[&node_id(0)]).by, By::Hand);
    assert_eq!(look(&mut scene, &mut Since::default()), []);
}

#[test]
fn few_nodes_whose_work_has_to_go_are_on_their_way_at_a_time() {
    let mut scene = scene(9);
    pool(&mut scene, "eu", Some(("node.labels.region == eu", 0)), |_| ());
    scene.workload("everywhere", 1, |spec| spec.mode = lattice_model::spec::Mode::Global);
    scene.settle();
    for n in 0..8 {
        scene.node(n, |node| label(node, "region", "eu"));
    }
    let mut since = Since::default();
    let mut moved = 0;
    for _ in 0..9 {
        let now = look(&mut scene, &mut since).len();
        assert!(now <= AT_ONCE, "{now}");
        moved += now;
        assert_eq!(look(&mut scene, &mut since), [], "what is on its way is waited for");
        scene.settle_in_time();
    }
    assert_eq!(moved, 8);
}

#[test]
fn a_preview_says_who_matches_who_moves_and_what_has_to_go() {
    let mut scene = scene(3);
    pool(&mut scene, "eu", None, |_| ());
    scene.workload("web", 3, |_| ());
    scene.settle();
    for n in [1, 2] {
        scene.node(n, |node| label(node, "region", "eu"));
    }
    scene.node(2, |node| node.pool_fixed = true);
    let mut wanted = (*scene.cluster.pools[&name("eu")].value).clone();
    wanted.rule =
        Some(PoolRule { rule: "node.region == eu".parse().unwrap(), priority: 0, trusts_claims: false });
    let before = scene.cluster.clone();
    let mut n = 1 << 70;
    let mut random = || {
        n += 1;
        n
    };
    let (changes, moves) = preview(&scene.cluster, wanted, &POLICY, scene.now, &mut random);
    let said: Vec<_> = changes.iter().map(|c| (c.node, c.matches, c.from.as_str(), c.to.as_str())).collect();
    assert_eq!(said, [(node_id(1), true, "default", "eu"), (node_id(2), true, "default", "default")]);
    let on_one = scene.active("web").iter().filter(|row| row.node == node_id(1)).count();
    assert_eq!((moves.len(), on_one), (1, 1));
    assert!(matches!(&moves[0].fate, Fate::Moves { to, .. } if *to != node_id(1)), "{moves:?}");
    assert_eq!(before.nodes, scene.cluster.nodes, "nothing is changed");
}

#[test]
fn a_preview_of_a_node_says_where_it_goes_and_what_has_to_go() {
    let mut scene = scene(3);
    pool(&mut scene, "lab", None, |_| ());
    pool(&mut scene, "eu", Some(("node.labels.region == eu", 0)), |_| ());
    scene.workload("web", 3, |_| ());
    scene.settle();
    let mut n = 1 << 70;
    let mut random = || {
        n += 1;
        n
    };
    let now = scene.now;
    let mut seen = |change: fn(&mut Node)| {
        let mut node = (*scene.cluster.nodes[&node_id(1)].value).clone();
        change(&mut node);
        preview_node(&scene.cluster, node, &POLICY, now, &mut random)
    };
    let (to, stays, moves) = seen(|node| (node.pool, node.pool_fixed) = (name("lab"), true));
    assert_eq!((to, stays, moves.len()), (name("lab"), None, 1));
    assert!(matches!(&moves[0].fate, Fate::Moves { to, .. } if *to != node_id(1)), "{moves:?}");
    let (to, _, moves) = seen(|node| {
        node.pool_fixed = false;
        label(node, "region", "eu");
    });
    assert_eq!((to, moves.len()), (name("eu"), 1), "a label that a rule asks for");
    let (to, _, moves) = seen(|node| {
        node.taints.insert("night:evict".parse().unwrap());
    });
    assert_eq!((to, moves.len()), (name("default"), 1), "a taint that work does not bear");
    let (to, _, moves) = seen(|node| {
        node.taints.insert("night:avoid".parse().unwrap());
    });
    assert_eq!((to, moves), (name("default"), Vec::new()), "one that moves nothing");
}

fn in_pools(called: &str) -> impl FnOnce(&mut WorkloadSpec) {
    let called = called.parse().unwrap();
    move |spec| {
        spec.pool = called;
        spec.resources.reserved_cpu = Some(Cpu::from_cores(1));
    }
}

/// Three nodes of four cores in the pools a, b and c.
fn three_pools() -> Scene {
    let mut scene = scene(3);
    for (n, called) in ["a", "b", "c"].into_iter().enumerate() {
        pool(&mut scene, called, None, |_| ());
        scene.node(n, |node| node.pool = name(called));
    }
    scene
}

fn on(scene: &Scene, service: &str) -> [usize; 3] {
    [0, 1, 2].map(|n| scene.active(service).iter().filter(|row| row.node == node_id(n)).count())
}

#[test]
fn the_first_pool_that_has_room_is_taken() {
    let mut scene = three_pools();
    scene.workload("web", 6, in_pools("b,a"));
    scene.settle();
    assert_eq!(on(&scene, "web"), [2, 4, 0], "the first to the brim, before replicas are spread");
    scene.workload("late", 1, in_pools("b,c,a"));
    scene.settle();
    assert_eq!(on(&scene, "late"), [0, 0, 1]);
    scene.node(1, |node| node.pool = name("c"));
    scene.settle();
    assert_eq!(
        on(&scene, "web"),
        [4, 2, 0],
        "what has no other place in the pools that are named stays for now"
    );
    assert_eq!(scene.active("web").iter().filter(|row| row.node == node_id(2)).count(), 0);
}

#[test]
fn a_pool_that_does_not_take_the_work_is_passed_over() {
    let mut scene = three_pools();
    let secret = |spec: &mut WorkloadSpec| {
        in_pools("a,b")(spec);
        let (secret, target) = ("pw".parse().unwrap(), "/run/secrets/pw".into());
        spec.secrets.push(lattice_model::spec::SecretMount {
            secret,
            target,
            mode: 0o400,
            uid: None,
            gid: None,
        });
    };
    pool(&mut scene, "b", None, |pool| pool.trusted = true);
    scene.workload("web", 2, secret);
    scene.workload("plain", 1, in_pools("a,b"));
    scene.settle();
    assert_eq!((on(&scene, "web"), on(&scene, "plain")), ([0, 2, 0], [1, 0, 0]));
    pool(&mut scene, "a", None, |pool| pool.projects = Some([].into()));
    scene.settle();
    assert_eq!(on(&scene, "plain"), [0, 1, 0], "what may not be there any more moves to the next");
    pool(&mut scene, "b", None, |pool| pool.trusted = false);
    let report = scene.settle();
    assert_eq!(on(&scene, "web"), [0, 2, 0], "where no pool takes it, what runs stays");
    scene.workload("more", 1, secret);
    let why = scene.settle().pending.pop().map(|pending| pending.why);
    assert!(why.unwrap().contains("not for the project"), "{report:?}");
}

#[test]
fn services_of_one_network_share_a_pool_that_both_name() {
    let mut scene = three_pools();
    for (service, pools) in [("web", "a,b"), ("db", "b,c")] {
        scene.workload(service, 1, |spec| {
            in_pools(pools)(spec);
            network(spec);
        });
    }
    scene.settle();
    assert_eq!((on(&scene, "web"), on(&scene, "db")), ([0, 1, 0], [0, 1, 0]));
    scene.workload("cache", 1, |spec| {
        in_pools("a")(spec);
        network(spec);
    });
    let report = scene.settle();
    let why = &report.pending[0].why;
    assert!(why.contains("(a; a, b; b, c)"), "{why}");
}

#[test]
fn what_runs_on_every_node_runs_in_all_pools_that_it_names() {
    let mut scene = three_pools();
    scene.workload("agent", 1, |spec| {
        in_pools("c,a")(spec);
        spec.mode = lattice_model::spec::Mode::Global;
    });
    scene.settle();
    assert_eq!(on(&scene, "agent"), [1, 0, 1]);
}

#[test]
fn what_is_promised_is_what_the_pool_says() {
    let mut scene = scene(1);
    pool(&mut scene, "default", None, |pool| {
        pool.oversubscription = Oversubscription { cpu_percent: 200, memory_percent: 50 };
    });
    scene.workload("cores", 9, |spec| spec.resources.reserved_cpu = Some(Cpu::from_cores(1)));
    scene.settle();
    assert_eq!(scene.active("cores").len(), 8, "twice the four that are lent");
    scene.workload("large", 1, |spec| spec.resources.reserved_memory = Some(Bytes(5 << 30)));
    scene.settle();
    assert_eq!(scene.active("large").len(), 0, "half of the eight that are lent");
}

fn some_rule() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "node.labels.a == x",
        "node.labels.a != x and node.labels.b exists",
        "node.labels.b in (x, y)",
        "node.region == eu",
        "node.battery does not exist",
        "node.cpu >= 2",
    ])
}

prop_compose! {
    fn some_node()(
        labels in prop::collection::btree_map(prop::sample::select(vec!["a", "b"]), prop::sample::select(vec!["x", "y"]), 0..3),
        own in prop::option::of(Just("eu")),
        (fixed, busy, data, away) in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        (is_in, home) in (0usize..4, 0usize..5),
        moved in prop::option::of(0u64..200),
        cores in 1u32..4,
    ) -> (BTreeMap<&'static str, &'static str>, Option<&'static str>, [bool; 4], usize, usize, Option<u64>, u32) {
        (labels, own, [fixed, busy, data, away], is_in, home, moved, cores)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Of every cluster: each node belongs somewhere that is there; who is fixed, holds data or is away is not moved;
    /// nobody enters a trusted pool by rule without a word; and when it comes to rest, looking again changes nothing.
    #[test]
    fn assignment_is_total_stable_and_leaves_alone_whom_it_must(
        nodes in prop::collection::vec(some_node(), 1..9),
        rules in prop::collection::vec((prop::option::of((some_rule(), -2i16..3)), any::<bool>(), any::<bool>()), 3),
    ) {
        let pools = ["default", "p0", "p1", "p2", "gone"];
        let mut scene = scene(nodes.len());
        scene.now = Timestamp(1_000_000);
        for (called, (rule, trusted, vouched)) in pools[1..].iter().zip(&rules) {
            pool(&mut scene, called, *rule, |pool| {
                pool.trusted = *trusted;
                if let Some(rule) = &mut pool.rule {
                    rule.trusts_claims = *vouched;
                }
            });
        }
        for (n, (labels, own, [fixed, busy, data, away], is_in, home, moved, cores)) in nodes.iter().enumerate() {
            scene.node(n, |node| {
                for (key, value) in labels {
                    label(node, key, value);
                }
                node.facts.machine.region = own.map(Into::into);
                node.pool_fixed = *fixed;
                (node.pool, node.home_pool) = (name(pools[*is_in]), Some(name(pools[*home])));
                node.pool_since = moved.map(|at| Timestamp(1_000_000 - 200_000) + Duration::from_secs(at));
                node.capacity.cpu = Cpu::from_cores(*cores);
                if *away {
                    node.presence.state = PresenceState::Disconnected;
                }
            });
            let service = format!("w{n}");
            if *busy || *data {
                scene.workload(&service, 1, |spec| {
                    spec.pool = name(pools[*is_in]).into();
                    spec.placement.constraints = vec![format!("node.id == {}", node_id(n)).parse().unwrap()];
                    if *data {
                        let volume = format!("v{n}").parse().unwrap();
                        spec.mounts.push(lattice_model::spec::MountSpec { volume, target: "/d".into(), read_only: false });
                    }
                });
            }
        }
        scene.settle();
        let before = scene.cluster.nodes.clone();
        let mut since = Since::default();
        let mut idle = 0;
        for _ in 0..200 {
            idle = if look(&mut scene, &mut since).is_empty() { idle + 1 } else { 0 };
            scene.settle();
            scene.now = scene.now + Duration::from_secs(20);
        }
        prop_assert!(idle > 30, "it comes to rest");
        let rest = scene.cluster.nodes.clone();
        for (id, node) in &rest {
            let place = belongs(&scene.cluster, node);
            prop_assert!(scene.cluster.pools.contains_key(place.pool));
            let was = &before[id];
            let left_alone = was.pool_fixed || bound(&scene.cluster, node).is_some() || was.presence.state != PresenceState::Connected;
            if left_alone {
                prop_assert_eq!(&node.pool, &was.pool);
            } else {
                prop_assert_eq!(&node.pool, place.pool);
            }
            if node.pool != was.pool && node.pool != *node.home() {
                let pool = &scene.cluster.pools[&node.pool];
                prop_assert!(!pool.trusted || pool.rule.as_ref().unwrap().trusts_claims);
            }
        }
        // Whoever plans next, and remembers nothing, finds nothing to do either.
        let mut fresh = Since::default();
        for _ in 0..5 {
            prop_assert!(look(&mut scene, &mut fresh).is_empty());
            scene.now = scene.now + HOLD;
        }
    }
}
