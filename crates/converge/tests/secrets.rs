//! Values of secrets that change while a container runs.

#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use lattice_model::{
    Duration, GoalAllocation,
    goal::SecretValue,
    report::AllocationState,
    spec::{SecretMount, WorkloadSpec},
};
use world::{World, allocation, goal};

fn with_secret(value: &'static [u8]) -> impl Fn(&mut GoalAllocation) {
    move |a| {
        let mut spec = WorkloadSpec::of_image("img");
        let secret: lattice_model::SecretName = "pw".parse().unwrap();
        let target = "/run/secrets/pw".into();
        spec.secrets.push(SecretMount {
            secret: secret.clone(),
            target,
            mode: 0o400,
            uid: Some(7),
            gid: None,
        });
        a.spec = spec.into();
        a.secrets.insert(secret, SecretValue::new(value.to_vec()));
    }
}

#[test]
fn a_new_value_is_written_once_and_what_runs_runs_on() {
    let mut world = World::new();
    world.list();
    world.give(1, &goal([allocation("a", with_secret(b"one")), allocation("b", |_| {})]));
    world.settle();
    assert_eq!(world.count("write secrets"), 0, "it was started with it");
    world.give(2, &goal([allocation("a", with_secret(b"two")), allocation("b", |_| {})]));
    world.pass(Duration::from_secs(60));
    assert_eq!((world.count("write secrets"), world.count("start"), world.running()), (1, 2, 2));
    // An agent that begins does not know what is written, and writes it again.
    world.crash_agent();
    world.pass(Duration::from_secs(60));
    assert_eq!((world.count("write secrets"), world.count("start"), world.running()), (2, 2, 2));
    world.fail_next = 1;
    world.give(3, &goal([allocation("a", with_secret(b"three")), allocation("b", |_| {})]));
    world.pass(Duration::from_secs(60));
    assert_eq!((world.count("write secrets"), world.running()), (3, 2), "a failure is tried again");
}

#[test]
fn a_value_that_cannot_be_written_is_told_as_long_as_that_lasts() {
    let mut world = World::new();
    world.list();
    world.give(1, &goal([allocation("a", with_secret(b"one"))]));
    world.settle();
    let id = world::id(1);
    assert_eq!(world.status(id).reason, None);
    world.fail_next = 8;
    world.give(2, &goal([allocation("a", with_secret(b"two"))]));
    world.settle();
    let told = world.reports.len();
    world.pass(Duration::from_secs(30));
    let status = world.status(id);
    assert_eq!(status.state, AllocationState::Running);
    let why = status.reason.unwrap();
    assert!(why.contains("former secrets") && why.contains("bad moment"), "{why}");
    assert!(world.reports.len() <= told + 1, "said once, not with each attempt");
    assert_eq!(world.count("write secrets"), 0);
    world.pass(Duration::from_secs(600));
    assert_eq!((world.count("write secrets"), world.count("start"), world.status(id).reason), (1, 1, None));
}
