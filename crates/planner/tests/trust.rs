//! Who may have volumes and secrets: pools that an operator trusts, and the projects that they are for.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    PoolName, SecretName, Timestamp,
    goal::SecretValue,
    resource::Pool,
    spec::{SecretMount, WorkloadSpec},
};
use lattice_planner::goal::goal_for;
use support::*;

fn lab() -> PoolName {
    "lab".parse().unwrap()
}

fn in_lab(spec: &mut WorkloadSpec) {
    spec.pool = lab().into();
    network(spec);
}

fn with_secret(spec: &mut WorkloadSpec) {
    in_lab(spec);
    let (secret, target) = ("pw".parse().unwrap(), "/run/secrets/pw".into());
    spec.secrets.push(SecretMount { secret, target, mode: 0o400, uid: None, gid: None });
}

fn pool(scene: &mut Scene, change: impl FnOnce(&mut Pool)) {
    let mut pool = Pool { name: lab(), ..Pool::default_pool(Timestamp(0)) };
    change(&mut pool);
    let row = scene.row(pool);
    scene.cluster.pools.insert(lab(), row);
}

/// One node of the pool, and one of the default pool.
fn scene() -> Scene {
    let mut scene = Scene::with_nodes(&[(4, 8), (4, 8)]);
    let row = scene.row(Pool::default_pool(Timestamp(0)));
    scene.cluster.pools.insert(PoolName::default_pool(), row);
    scene.node(0, |node| node.pool = lab());
    scene.stack();
    scene
}

/// How many allocations a node is told to run, and how many values of secrets it gets.
fn told(scene: &Scene, node: usize) -> (usize, usize) {
    let value = |_: &_, _: &SecretName| Some(SecretValue::new(b"value".to_vec()));
    let goal = goal_for(&scene.cluster, node_id(node), &value).unwrap();
    (goal.allocations.len(), goal.allocations.values().map(|a| a.secrets.len()).sum())
}

#[test]
fn what_has_secrets_waits_for_a_pool_that_is_trusted_and_says_what_to_do() {
    let mut scene = scene();
    pool(&mut scene, |pool| pool.trusted = false);
    scene.workload("plain", 1, |spec| {
        in_lab(spec);
        spec.networks = [("own".parse().unwrap(), Default::default())].into();
    });
    scene.workload("with", 2, with_secret);
    let report = scene.settle();
    assert_eq!((scene.active("plain").len(), scene.active("with").len()), (1, 0));
    let pending = &report.pending[0];
    assert_eq!(pending.workload, key("with"));
    assert_eq!(pending.why, "the pool lab is not trusted with volumes and secrets, and with has some");
    assert!(
        pending.hint.contains("lattice pool set") && pending.hint.contains("--trusted"),
        "{}",
        pending.hint
    );
    // A person decides, and it runs; nothing else was needed.
    pool(&mut scene, |_| {});
    scene.settle();
    assert_eq!((scene.active("with").len(), told(&scene, 0), told(&scene, 1)), (2, (3, 2), (0, 0)));
}

#[test]
fn a_pool_that_is_no_longer_trusted_gets_no_values_and_nothing_more() {
    let mut scene = scene();
    pool(&mut scene, |_| {});
    scene.workload("with", 1, with_secret);
    scene.settle();
    assert_eq!(told(&scene, 0), (1, 1));
    type Change = fn(&mut Pool);
    let ways: [Change; 2] =
        [|pool| pool.trusted = false, |pool| pool.projects = Some(["other".parse().unwrap()].into())];
    for change in ways {
        pool(&mut scene, change);
        assert_eq!(told(&scene, 0), (1, 0), "what runs stays, and learns nothing new");
        scene.change("with", |workload| workload.replicas = 2);
        let report = scene.settle();
        assert_eq!((scene.active("with").len(), report.pending.len()), (1, 1));
        scene.change("with", |workload| workload.replicas = 1);
        scene.settle();
        pool(&mut scene, |_| {});
        assert_eq!(told(&scene, 0), (1, 1));
    }
    // Nobody vouches for a pool that is not there.
    scene.cluster.pools.remove(&lab());
    assert_eq!(told(&scene, 0), (1, 0));
}
