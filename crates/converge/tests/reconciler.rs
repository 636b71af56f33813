//! The reconciler against an engine in memory.

#![allow(clippy::unwrap_used, missing_docs)]

mod world;

use lattice_converge::{Effect, Input, Operation};
use lattice_model::{
    Duration, Goal, Timestamp,
    container::{ContainerSeen, ContainerState, LABEL_ALLOCATION, LABEL_NODE, LABEL_VOLUME, VolumeSeen},
    goal::DesiredState,
    report::{AllocationState, Health, ReportKind},
    spec::{Dependency, DependencyCondition, PortSpec, RestartPolicy, WorkloadSpec},
};
use proptest::prelude::*;
use world::{World, allocation, goal, id, node, policy, with_network, with_volume};

fn spec(change: impl FnOnce(&mut WorkloadSpec)) -> std::sync::Arc<WorkloadSpec> {
    let mut spec = WorkloadSpec::of_image("img");
    change(&mut spec);
    spec.into()
}

fn depends(on: &str, condition: DependencyCondition) -> std::sync::Arc<WorkloadSpec> {
    spec(|s| {
        s.depends_on.insert(on.parse().unwrap(), Dependency { condition, required: true, restart: false });
    })
}

fn port(target: u16, published: Option<u16>) -> PortSpec {
    let target = lattice_model::spec::ContainerPort { port: target, protocol: Default::default() };
    PortSpec { target, published, published_to: None, host_ip: None }
}

/// A world that has met `goal`.
fn met(goal: &Goal) -> World {
    let mut world = World::new();
    world.list();
    world.give(1, goal);
    world.settle();
    world
}

#[test]
fn a_goal_is_met_with_as_few_operations_as_there_are_things() {
    let mut goal = goal([allocation("web", |_| {})]);
    with_network(&mut goal);
    with_volume(&mut goal, id(1), false);
    let world = met(&goal);
    assert_eq!(world.log, ["create network", "create volume", "create lattice_shop_web_1", "start"]);
    assert_eq!(world.status(id(1)).state, AllocationState::Running);
    assert!(world.reports.contains(&ReportKind::VolumeCreated { id: *goal.volumes.keys().next().unwrap() }));
}

#[test]
fn nothing_happens_before_the_engine_was_listed() {
    let mut world = World::new();
    world.give(1, &goal([allocation("web", |_| {})]));
    assert!(world.pending.is_empty(), "what runs already is not known yet");
}

#[test]
fn a_missing_image_is_fetched_once_for_all() {
    let image = |a: &mut lattice_model::GoalAllocation| a.spec = WorkloadSpec::of_image("other").into();
    let world = met(&goal([allocation("a", image), allocation("b", image)]));
    assert_eq!(world.log.iter().filter(|l| *l == "pull other").count(), 1);
    assert_eq!(world.running(), 2);
}

#[test]
fn an_older_goal_is_refused_and_says_why() {
    let mut world = met(&goal([allocation("web", |_| {})]));
    world.give(5, &goal([allocation("web", |_| {})]));
    world.give(4, &Goal::default());
    world.settle();
    assert_eq!(world.running(), 1);
    assert!(
        world.reports.iter().any(
            |r| matches!(r, ReportKind::GoalRefused { reason, .. } if reason.contains("newer goal 1.5"))
        )
    );
}

#[test]
fn what_ended_is_started_again_at_once_then_ever_later() {
    let mut world = met(&goal([allocation("web", |_| {})]));
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let died = world.now;
        world.die(id(1), 1);
        world.settle();
        while world.running() == 0 {
            let at = world.wake.take().unwrap();
            world.now = at;
            world.input(Input::Tick);
            world.settle();
        }
        pauses.push(world.now.since(died).0);
    }
    assert_eq!(pauses, [0, 500, 1000, 2000, 4000]);
    assert_eq!(world.status(id(1)).restarts, 5);
    // A long good run ends the row.
    world.now = world.now + Duration::from_secs(61);
    world.die(id(1), 1);
    world.settle();
    assert_eq!(world.running(), 1);
}

#[test]
fn jobs_end() {
    for (policy, code, state) in [
        (RestartPolicy::Never, 0, AllocationState::Completed),
        (RestartPolicy::Never, 3, AllocationState::Failed),
        (RestartPolicy::OnFailure { max_retries: None }, 0, AllocationState::Completed),
        (RestartPolicy::OnFailure { max_retries: Some(0) }, 2, AllocationState::Failed),
        (RestartPolicy::OnFailure { max_retries: None }, 2, AllocationState::Running),
    ] {
        let mut world = met(&goal([allocation("job", |a| a.spec = spec(|s| s.restart = policy))]));
        world.die(id(1), code);
        world.settle();
        assert_eq!(world.status(id(1)).state, state, "{policy:?} {code}");
    }
}

/// What a container wrote last is part of the reason, and what the kernel could not run is said in words that help.
#[test]
fn what_failed_says_its_last_words() {
    let why = |words: Option<&str>| {
        let mut world =
            met(&goal([allocation("job", |a| a.spec = spec(|s| s.restart = RestartPolicy::Never))]));
        world.die(id(1), 1);
        let mut seen = world.container(id(1)).unwrap().clone();
        seen.last_words = words.map(str::to_owned);
        world.containers.insert(seen.id.clone(), seen.clone());
        world.input(Input::Container(Box::new(seen)));
        world.settle();
        world.status(id(1)).reason.unwrap()
    };
    assert_eq!(why(None), "it ended with exit code 1");
    assert_eq!(why(Some("no database | bye")), "it ended with exit code 1; it wrote last: no database | bye");
    let foreign = why(Some("exec /program: exec format error"));
    assert!(foreign.contains("another kind of machine") && foreign.contains("platform:"), "{foreign}");
}

#[test]
fn dependencies_are_waited_for() {
    let mut world = met(&goal([
        allocation("app", |a| a.spec = depends("db", DependencyCondition::ServiceHealthy)),
        allocation("db", |_| {}),
    ]));
    let waiting = world.status(id(1));
    assert_eq!(waiting.state, AllocationState::Waiting);
    assert!(waiting.reason.unwrap().contains("has no health check"));
    world.health(id(2), Health::Starting);
    assert_eq!(world.status(id(1)).reason.unwrap(), "waits for db to be healthy");
    world.health(id(2), Health::Healthy);
    world.settle();
    assert_eq!(world.status(id(1)).state, AllocationState::Running);
    // Later ill health of the dependency restarts nothing.
    world.health(id(2), Health::Unhealthy);
    world.settle();
    assert_eq!(world.running(), 2);
}

#[test]
fn stop_keeps_the_container_and_start_uses_it() {
    let run = goal([allocation("web", |_| {})]);
    let mut world = met(&run);
    let container = world.container(id(1)).unwrap().id.clone();
    world.give(2, &goal([allocation("web", |a| a.desired = DesiredState::Stop)]));
    world.settle();
    assert_eq!(world.status(id(1)).state, AllocationState::Stopped);
    world.give(3, &run);
    world.settle();
    let status = world.status(id(1));
    assert_eq!((status.state, status.restarts), (AllocationState::Running, 0));
    assert_eq!(world.container(id(1)).unwrap().id, container);
}

#[test]
fn a_restart_happens_once_also_when_the_agent_crashes() {
    let mut world = met(&goal([allocation("web", |_| {})]));
    world.now = world.now + Duration::from_secs(5);
    world.give(2, &goal([allocation("web", |a| a.restart = 1)]));
    world.crash_agent();
    world.settle();
    world.crash_agent();
    world.settle();
    assert_eq!(world.log.iter().filter(|l| *l == "stop").count(), 1);
    assert_eq!(world.running(), 1);
}

#[test]
fn a_successor_waits_until_its_predecessor_is_gone() {
    let mut world = met(&goal([allocation("web", |_| {})]));
    let mut next = Goal::default();
    next.remove.insert(id(1));
    next.allocations.insert(id(9), allocation("web", |a| a.replaces = Some(id(1))));
    world.give(2, &next);
    assert_eq!(world.status(id(9)).state, AllocationState::Waiting);
    world.settle();
    assert_eq!(world.log[2..], ["stop", "remove", "create lattice_shop_web_1", "start"]);
    assert!(world.reports.contains(&ReportKind::AllocationGone { id: id(1) }));
}

#[test]
fn what_is_to_go_and_never_was_is_answered_too() {
    let mut goal = Goal::default();
    goal.remove.insert(id(5));
    let world = met(&goal);
    let mut world = world;
    let answer = ReportKind::AllocationGone { id: id(5) };
    assert_eq!(world.reports, std::slice::from_ref(&answer));
    world.list();
    assert_eq!(world.reports.len(), 1);
    world.reconciler.tell_again();
    world.list();
    assert_eq!(world.reports, [answer.clone(), answer]);
}

#[test]
fn a_volume_that_is_gone_is_never_replaced_by_an_empty_one() {
    let mut goal = goal([allocation("db", |_| {})]);
    let volume = with_volume(&mut goal, id(1), true);
    let world = met(&goal);
    assert!(world.log.is_empty(), "{:?}", world.log);
    assert!(world.reports.contains(&ReportKind::VolumeMissing { id: volume }));
    assert!(world.status(id(1)).reason.unwrap().contains("an empty one is not put in its place"));
}

#[test]
fn a_volume_that_comes_back_is_told_each_time_and_also_when_nothing_uses_it() {
    let mut goal = goal([allocation("db", |_| {})]);
    let volume = with_volume(&mut goal, id(1), true);
    let mut world = met(&goal);
    let (missing, found) = (ReportKind::VolumeMissing { id: volume }, ReportKind::VolumeFound { id: volume });
    let told = |world: &World| -> Vec<ReportKind> {
        world.reports.iter().filter(|r| **r == missing || **r == found).cloned().collect()
    };
    let name = goal.volumes[&volume].engine_name(volume);
    let labels = [(LABEL_NODE.to_owned(), node().to_string()), (LABEL_VOLUME.to_owned(), volume.to_string())];
    let seen = VolumeSeen { name: name.clone(), labels: labels.into() };
    world.volumes.insert(name.clone(), seen.clone());
    world.list();
    world.list();
    assert_eq!(told(&world), [missing.clone(), found.clone()]);
    world.volumes.clear();
    world.list();
    assert_eq!(told(&world), [missing.clone(), found.clone(), missing.clone()]);

    // Its workload was scaled to nothing, and the agent died and remembers nothing of it.
    world.volumes.insert(name, seen);
    world.crash_agent();
    world.settle();
    let mut bare = Goal { volumes: goal.volumes.clone(), ..Goal::default() };
    bare.volumes.get_mut(&volume).unwrap().missing = true;
    world.reports.clear();
    world.give(2, &bare);
    world.settle();
    world.list();
    assert_eq!((told(&world), world.volumes.len()), (vec![found.clone()], 1));
    bare.volumes.get_mut(&volume).unwrap().missing = false;
    world.give(3, &bare);
    world.settle();
    assert_eq!(told(&world), std::slice::from_ref(&found));
}

#[test]
fn a_volume_outside_of_the_goal_stays_and_one_to_delete_goes_last() {
    let mut with = goal([allocation("db", |_| {})]);
    let volume = with_volume(&mut with, id(1), false);
    let mut world = met(&with);
    world.give(2, &Goal::default());
    world.settle();
    assert_eq!((world.containers.len(), world.volumes.len()), (0, 1));
    let mut delete = Goal { volumes: with.volumes.clone(), ..Goal::default() };
    delete.volumes.get_mut(&volume).unwrap().delete = true;
    world.give(3, &delete);
    world.settle();
    assert_eq!(world.volumes.len(), 0);
    assert!(world.reports.contains(&ReportKind::VolumeDeleted { id: volume }));
}

#[test]
fn a_taken_dynamic_port_is_chosen_anew_and_a_fixed_one_is_waited_for() {
    let port = |published| port(80, published);
    let mut world = World::new();
    world.list();
    let goal_of =
        |published| goal([allocation("web", |a| a.spec = spec(|s| s.ports = vec![port(published)]))]);
    world.give(1, &goal_of(None));
    world.carry_out();
    let first = world.container(id(1)).unwrap().ports[0].host_port;
    world.ports_in_use.push(first);
    world.pass(Duration::from_secs(10));
    let second = world.container(id(1)).unwrap().ports[0].host_port;
    assert_ne!(first, second);
    assert_eq!(world.status(id(1)).state, AllocationState::Running);

    let mut world = World::new();
    world.ports_in_use.push(8080);
    world.list();
    world.give(1, &goal_of(Some(8080)));
    world.settle();
    assert_eq!(world.status(id(1)).reason.unwrap(), "port 8080 is in use");
    world.ports_in_use.clear();
    world.pass(Duration::from_secs(600));
    assert_eq!(world.running(), 1);
}

#[test]
fn the_engine_restarts_and_everything_runs_again() {
    let mut world = met(&goal((0..5).map(|_| allocation("web", |_| {}))));
    world.input(Input::RuntimeLost("connection refused".into()));
    let all: Vec<_> = world.containers.keys().cloned().collect();
    all.iter().for_each(|c| world.end(c, 255));
    world.list();
    world.settle();
    assert_eq!(world.running(), 5);
    assert_eq!(world.containers.len(), 5);
    let events: Vec<_> = world
        .reports
        .iter()
        .filter(|r| matches!(r, ReportKind::RuntimeLost { .. } | ReportKind::RuntimeBack))
        .collect();
    assert_eq!(events.len(), 2);
}

#[test]
fn the_owner_forbids() {
    let world = met(&goal([allocation("big", |a| {
        a.spec = spec(|s| s.resources.memory_limit = Some(lattice_model::Bytes(64 << 30)));
    })]));
    let status = world.status(id(1));
    assert_eq!((status.state, world.running()), (AllocationState::Failed, 0));
    assert!(status.reason.unwrap().contains("the owner lends"));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let mut world = World::new();
    let foreign = |name: &str, labels: &[(&str, &str)]| ContainerSeen {
        id: lattice_model::container::ContainerId(name.into()),
        name: name.into(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        state: ContainerState::Running,
        health: Health::None,
        started_at: Some(Timestamp(0)),
        finished_at: None,
        exit_code: None,
        out_of_memory: false,
        error: None,
        ports: vec![],
        last_words: None,
    };
    let other = lattice_model::NodeId::from_random(2).to_string();
    let theirs = id(3).to_string();
    for c in
        [foreign("mine", &[]), foreign("theirs", &[("lattice.node", &other), (LABEL_ALLOCATION, &theirs)])]
    {
        world.input(Input::Container(Box::new(c.clone())));
        world.containers.insert(c.id.clone(), c);
    }
    world.list();
    world.give(1, &Goal::default());
    world.settle();
    assert_eq!(world.running(), 2);
    assert!(world.log.is_empty());
}

#[test]
fn what_ends_before_it_is_seen_running_slows_down_like_anything_else() {
    let run = goal([allocation("web", |_| {})]);
    let mut world = World::new();
    world.ends_at_once = Some(1);
    world.list();
    world.give(1, &run);
    world.pass(Duration::from_secs(3600));
    assert!((60..=75).contains(&world.count("start")), "{} starts in an hour", world.count("start"));
    // Nor does a stop and a start, or a restart, let it spin.
    world.give(2, &goal([allocation("web", |a| a.desired = DesiredState::Stop)]));
    world.settle();
    world.give(3, &goal([allocation("web", |a| a.restart = 1)]));
    world.settle();
    assert_eq!(world.status(id(1)).state, AllocationState::BackingOff);
}

#[test]
fn a_circle_of_failures_slows_down() {
    let mut world = World::new();
    world.ports_in_use.push(8080);
    world.list();
    let ports = vec![port(80, Some(8080)), port(81, None)];
    world.give(1, &goal([allocation("web", |a| a.spec = spec(|s| s.ports = ports))]));
    world.pass(Duration::from_secs(3600));
    assert!((10..=25).contains(&world.count("create")), "made {} times", world.count("create"));
}

#[test]
fn what_waits_for_its_turn_keeps_its_ports_and_tells_once() {
    let one = || allocation("web", |a| a.spec = spec(|s| s.ports = vec![port(80, None)]));
    let world = met(&goal((0..60).map(|_| one())));
    assert_eq!(world.running(), 60);
    assert!(world.reports.len() <= 4 * 60, "{} reports", world.reports.len());
}

#[test]
fn retries_are_counted_in_a_row_and_anew_after_a_restart_that_was_asked_for() {
    let job = |restart| {
        goal([allocation("job", |a| {
            a.restart = restart;
            a.spec = spec(|s| s.restart = RestartPolicy::OnFailure { max_retries: Some(2) });
        })])
    };
    let mut world = World::new();
    world.ends_at_once = Some(1);
    world.list();
    world.give(1, &job(0));
    world.pass(Duration::from_secs(60));
    assert_eq!((world.count("start"), world.status(id(1)).state), (3, AllocationState::Failed));
    world.give(2, &job(1));
    world.pass(Duration::from_secs(60));
    assert_eq!((world.count("start"), world.status(id(1)).state), (6, AllocationState::Failed));
}

#[test]
fn what_the_owner_stopped_goes_on_when_it_may_again() {
    let mut world = met(&goal([allocation("job", |a| a.spec = spec(|s| s.restart = RestartPolicy::Never))]));
    world.input(Input::Policy(lattice_converge::NodePolicy {
        projects: Some(Default::default()),
        ..policy()
    }));
    world.settle();
    assert_eq!((world.running(), world.status(id(1)).state), (0, AllocationState::Failed));
    world.crash_agent();
    world.input(Input::Policy(policy()));
    world.settle();
    assert_eq!(world.running(), 1);
}

#[test]
fn a_job_that_is_done_is_not_run_again_because_its_container_was_pruned() {
    let job = |restart| {
        goal([allocation("job", |a| {
            a.restart = restart;
            a.spec = spec(|s| s.restart = RestartPolicy::Never);
        })])
    };
    let mut world = met(&job(0));
    world.die(id(1), 0);
    world.containers.clear();
    world.list();
    world.settle();
    world.crash_agent();
    world.settle();
    assert_eq!((world.count("create"), world.status(id(1)).state), (1, AllocationState::Completed));
    world.give(2, &job(1));
    world.settle();
    assert_eq!((world.count("create"), world.running()), (2, 1));
}

#[test]
fn a_restart_that_fails_is_still_owed() {
    let job = |restart| {
        goal([allocation("job", |a| {
            a.restart = restart;
            a.spec = spec(|s| s.restart = RestartPolicy::Never);
        })])
    };
    let mut world = met(&job(0));
    world.die(id(1), 0);
    world.settle();
    world.fail_next = 1;
    world.give(2, &job(1));
    world.settle();
    world.crash_agent();
    world.pass(Duration::from_secs(10));
    assert_eq!(world.running(), 1);
}

#[test]
fn an_image_that_comes_by_other_means_is_found() {
    let mut world = World::new();
    world.no_registry = true;
    world.list();
    world.give(1, &goal([allocation("web", |a| a.spec = WorkloadSpec::of_image("mine").into())]));
    world.pass(Duration::from_secs(3600));
    assert!(world.count("pull") <= 25 && world.count("create") <= 25, "{:?}", world.log);
    assert_eq!(world.status(id(1)).reason.unwrap(), "the registry lacks it");
    world.images.push("mine".into());
    world.pass(Duration::from_secs(300));
    assert_eq!(world.running(), 1);
}

#[test]
fn another_wish_and_an_engine_that_is_back_do_not_wait_for_a_pause() {
    let stuck = || {
        let mut world = World::new();
        world.ports_in_use.push(8080);
        world.list();
        world
            .give(1, &goal([allocation("web", |a| a.spec = spec(|s| s.ports = vec![port(80, Some(8080))]))]));
        world.pass(Duration::from_secs(3600));
        assert_eq!(world.status(id(1)).state, AllocationState::BackingOff);
        world
    };
    let mut world = stuck();
    world.give(2, &Goal::default());
    world.settle();
    assert!(world.containers.is_empty());
    let mut world = stuck();
    world.ports_in_use.clear();
    world.input(Input::RuntimeLost("gone".into()));
    world.list();
    world.settle();
    assert_eq!(world.running(), 1);
}

#[test]
fn a_dynamic_port_that_was_taken_over_a_pause_is_chosen_anew() {
    let one = |_| spec(|s| s.ports = vec![port(80, None)]);
    let mut world = met(&goal([allocation("web", |a| a.spec = one(()))]));
    let first = world.status(id(1)).ports;
    world.ports_in_use.push(first[0].host_port);
    world.die(id(1), 1);
    world.pass(Duration::from_secs(10));
    let status = world.status(id(1));
    assert_eq!((world.running(), status.state), (1, AllocationState::Running));
    assert_ne!(status.ports, first);
    assert_eq!(status.ports, world.container(id(1)).unwrap().ports);
}

#[test]
fn data_that_the_server_has_not_heard_of_is_not_replaced_either() {
    let mut goal = goal([allocation("db", |_| {})]);
    let volume = with_volume(&mut goal, id(1), false);
    let mut world = met(&goal);
    world.volumes.clear();
    world.containers.clear();
    world.crash_agent();
    world.settle();
    assert_eq!(world.count("create volume"), 1);
    assert!(world.reports.contains(&ReportKind::VolumeMissing { id: volume }));
}

#[test]
fn a_listing_that_began_before_a_volume_was_made_raises_no_alarm() {
    let mut goal = goal([allocation("db", |_| {})]);
    with_network(&mut goal);
    let volume = with_volume(&mut goal, id(1), false);
    let mut world = World::new();
    world.list();
    let old = world.listing();
    world.give(1, &goal);
    world.settle();
    let listing = lattice_converge::Listing { containers: world.listing().containers, ..old };
    world.input(Input::Listed(listing.clone()));
    world.settle();
    assert_eq!(world.log.len(), 4, "{:?}", world.log);
    assert!(!world.reports.contains(&ReportKind::VolumeMissing { id: volume }));
    // The next one began later, so it is believed.
    world.input(Input::Listed(listing));
    assert!(world.reports.contains(&ReportKind::VolumeMissing { id: volume }));
}

#[test]
fn services_that_exchange_their_ports_wait_for_each_other_and_meet_no_taken_one() {
    let publishes = |service: &str, number, replaces| {
        allocation(service, |a| {
            a.spec = spec(|s| s.ports.push(port(80, Some(number))));
            a.replaces = replaces;
        })
    };
    let mut world = met(&goal([publishes("a", 8080, None), publishes("b", 8081, None)]));
    assert_eq!(world.running(), 2);
    let after = [(id(3), publishes("a", 8081, Some(id(1)))), (id(4), publishes("b", 8080, Some(id(2))))];
    world.give(2, &Goal { allocations: after.into(), remove: [id(1), id(2)].into(), ..Goal::default() });
    world.settle();
    assert_eq!(world.running(), 2);
    let ports = [3, 4].map(|n| world.status(id(n)).ports[0].host_port);
    assert_eq!(ports, [8081, 8080]);
    assert!(!world.reports.iter().any(|r| format!("{r:?}").contains("in use")), "{:#?}", world.reports);

    // Nobody that it replaces, and yet somebody has its port.
    let next = [(id(5), publishes("c", 8081, None))];
    world.give(3, &Goal { allocations: next.into(), remove: [id(3), id(4)].into(), ..Goal::default() });
    assert!(world.status(id(5)).reason.unwrap().starts_with("waits for port 8081 until "));
    world.settle();
    assert_eq!((world.running(), world.status(id(5)).state), (1, AllocationState::Running));
}

#[test]
fn whoever_leaves_the_same_slot_is_waited_for_named_or_not() {
    let mut world = met(&goal([allocation("web", |_| {})]));
    let mut next = Goal::default();
    next.remove.extend([id(1), id(5)]);
    next.allocations.insert(id(9), allocation("web", |a| a.replaces = Some(id(5))));
    world.give(2, &next);
    world.settle();
    assert_eq!(world.log[2..], ["stop", "remove", "create lattice_shop_web_1", "start"]);
}

#[test]
fn networks_of_another_node_are_left_alone() {
    let mut world = met(&Goal::default());
    let labels = [
        ("lattice.node", lattice_model::NodeId::from_random(2).to_string()),
        ("lattice.network", lattice_model::NetworkId::from_random(3).to_string()),
    ];
    let labels = labels.map(|(k, v)| (k.to_owned(), v)).into();
    let network = lattice_model::container::NetworkSeen { name: "theirs".into(), labels, bridge: None };
    let listing = lattice_converge::Listing { networks: vec![network], ..world.listing() };
    world.input(Input::Listed(listing));
    assert!(world.pending.is_empty(), "{:?}", world.pending);
}

/// What may happen to a node.
#[derive(Clone, Debug)]
enum Mishap {
    AgentCrash,
    EngineRestart,
    Fail(usize),
    CarryOut(usize),
    Die(usize),
    Pass(u64),
    NextGoal,
    Relist,
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        Just(Mishap::AgentCrash),
        Just(Mishap::EngineRestart),
        (1usize..4).prop_map(Mishap::Fail),
        (1usize..6).prop_map(Mishap::CarryOut),
        (0usize..4).prop_map(Mishap::Die),
        (1u64..5000).prop_map(Mishap::Pass),
        Just(Mishap::NextGoal),
        Just(Mishap::Relist),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, once it stops happening the last goal is met exactly: one running
    /// container for each allocation, none besides, every removed one answered for, and nothing
    /// more to do.
    #[test]
    fn it_converges(mishaps in proptest::collection::vec(mishap(), 0..40)) {
        let goals: Vec<Goal> = (0..6u128).map(|n| {
            let mut goal = Goal::default();
            for slot in 0..3u128 {
                goal.allocations.insert(id(10 * (n / 2) + slot), allocation("web", |a| a.restart = u64::try_from(n % 2).unwrap()));
            }
            for old in 0..n / 2 {
                goal.remove.extend((0..3u128).map(|slot| id(10 * old + slot)));
            }
            with_network(&mut goal);
            with_volume(&mut goal, id(10 * (n / 2)), false);
            goal
        }).collect();
        let mut world = World::new();
        world.list();
        let mut current = 0;
        world.give(1, &goals[0]);
        for mishap in mishaps {
            match mishap {
                Mishap::AgentCrash => world.crash_agent(),
                Mishap::EngineRestart => {
                    world.input(Input::RuntimeLost("gone".into()));
                    let all: Vec<_> = world.containers.keys().cloned().collect();
                    all.iter().for_each(|c| world.end(c, 255));
                    world.list();
                }
                Mishap::Fail(n) => world.fail_next = n,
                Mishap::CarryOut(n) => (0..n).for_each(|_| {
                    world.carry_out();
                }),
                Mishap::Die(n) => {
                    let running: Vec<_> = world.containers.values().filter(|c| c.state == ContainerState::Running).filter_map(ContainerSeen::allocation).collect();
                    if let Some(id) = running.get(n) {
                        world.die(*id, 1);
                    }
                }
                Mishap::Pass(ms) => world.pass(Duration(ms)),
                Mishap::NextGoal => {
                    current = (current + 1).min(goals.len() - 1);
                    world.give(current as u64 + 1, &goals[current]);
                }
                Mishap::Relist => world.list(),
            }
        }
        world.fail_next = 0;
        world.pass(Duration::from_secs(900));
        let wanted = &goals[current];
        prop_assert_eq!(world.running(), wanted.allocations.len(), "{:?}", world.log);
        prop_assert_eq!(world.containers.len(), wanted.allocations.len());
        prop_assert_eq!((world.networks.len(), world.volumes.len()), (1, 1));
        for id in wanted.allocations.keys() {
            prop_assert_eq!(world.status(*id).state, AllocationState::Running);
        }
        for id in &wanted.remove {
            let gone = ReportKind::AllocationGone { id: *id };
            prop_assert!(world.reports.contains(&gone));
        }
        let done = world.log.len();
        world.list();
        world.pass(Duration::from_secs(3600));
        prop_assert_eq!(world.log.len(), done, "a met goal needs nothing: {:?}", &world.log[done..]);
    }
}

#[test]
fn no_debug_output_shows_what_an_environment_holds() {
    let secret = |s: &mut WorkloadSpec| drop(s.environment.insert("PGPASSWORD".into(), "hunter2".into()));
    let goal = goal([allocation("db", |a| a.spec = spec(secret))]);
    let mut reconciler =
        lattice_converge::Reconciler::new(node(), policy(), world::folders(), Default::default());
    let input = Input::Goal(lattice_model::GoalId { incarnation: 1, revision: 1 }, goal.clone());
    let mut shown = vec![format!("{:?}", goal.allocations[&id(1)].spec), format!("{goal:#?} {input:?}")];
    let mut made = None;
    for input in [input, Input::Listed(Default::default())] {
        let effects = reconciler.step(input, Timestamp(0), &mut || 5);
        let value = effects.iter().find_map(|effect| match effect {
            Effect::Run(_, Operation::Create { config, .. }) => {
                Some(config.environment["PGPASSWORD"].clone())
            }
            _ => None,
        });
        made = made.or(value);
        shown.push(format!("{effects:?}"));
    }
    assert_eq!(made.as_deref(), Some("hunter2"));
    shown.push(format!("{reconciler:?}"));
    for text in shown {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
