//! The link is cut: nothing changes on the node by that, and what happened meanwhile is told once and in order.

use super::{sleepers, web};
use lattice_api::{AllocationView, EventView};
use lattice_e2e::{Cluster, How, PATIENCE, http, until};
use lattice_model::resource::PresenceState;
use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

fn cut_for(span: Duration, how: How) {
    let cluster = Cluster::start();
    let agent = cluster.join("a");
    let text = web("") + &sleepers(&[("steady", ""), ("dies", "")])["services:\n".len()..];
    let _ = cluster.deploy("s", &text, &[]).ok();
    cluster.serving("s", 3);
    let before = cluster.starts("s");
    let address = cluster.published("s", "web", 8080);
    let told = cluster.events("s").len();
    let begun = Instant::now();
    cluster.link.cut(how);

    // Two deaths, which the agent answers alone.
    let dying = cluster.allocations("s").into_iter().find(|a| a.workload.as_str() == "dies").unwrap();
    let label = format!("lattice.allocation={}", dying.id);
    let mut at = cluster.engine.started_at(&cluster.container(&dying));
    for _ in 0..2 {
        cluster.engine.kill_container(&cluster.engine.labelled(&label)[0]);
        at = until("the agent starts it again by itself", PATIENCE, || {
            let Some(container) = cluster.engine.labelled(&label).into_iter().next() else {
                return Err(String::new());
            };
            let state = cluster.engine.inspect("container", &container)["State"].clone();
            let now = state["StartedAt"].as_str().unwrap_or_default().to_owned();
            if state["Running"] == true && now != at { Ok(now) } else { Err(state.to_string()) }
        });
    }
    // While it is cut, the server knows that it does not know, and takes orders all the same.
    cluster.node_is(agent.name(), "disconnected", |node| node.presence.state == PresenceState::Disconnected);
    let _ = cluster.deploy("meanwhile", &sleepers(&[("one", "")]), &["--no-wait"]).ok();
    // The length of the cut is what is tested here.
    sleep(span.saturating_sub(begun.elapsed()));
    assert_eq!(http(address).expect("workloads run on").0, 200);
    assert_eq!(cluster.events("s").len(), told, "nothing of the meantime can be known yet");
    cluster.link.restore();

    cluster.connected(agent.name());
    cluster.serving("meanwhile", 1);
    let dies = until("the deaths are told", PATIENCE, || {
        let now = cluster.serving("s", 3).into_iter().find(|a| a.id == dying.id).unwrap();
        if now.status.restarts == dying.status.restarts + 2 { Ok(now) } else { Err(now) }
    });
    assert!(dies.is_serving());
    let after = cluster.starts("s");
    for (before, after) in before.iter().zip(&after).filter(|(before, _)| before.0 != "dies#1") {
        assert_eq!(before, after, "nothing is started again that was right");
    }
    assert!(
        after.contains(&("dies#1".to_owned(), cluster.container(&dies), at)),
        "and no third start: {after:#?}"
    );
    once_and_in_order(&cluster.events("s")[told..], &dies);
}

fn once_and_in_order(events: &[EventView], dies: &AllocationView) {
    let subject = format!("default/s/dies#{}", dies.slot);
    let others: Vec<_> = events.iter().filter(|event| event.subject != subject).collect();
    assert!(others.is_empty(), "nothing happened to the others: {others:#?}");
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{events:#?}");
    assert!(
        events.windows(2).all(|pair| pair[0].at <= pair[1].at),
        "in the order in which they happened: {events:#?}"
    );
    let distinct: BTreeSet<_> =
        events.iter().map(|event| (event.at.0, &event.kind, &event.message)).collect();
    assert_eq!(distinct.len(), events.len(), "each once: {events:#?}");
    let runs = events.iter().filter(|event| event.kind == "allocation.running").count();
    assert_eq!(runs, 2, "it died twice and runs twice: {events:#?}");
    assert_eq!(events.last().map(|event| event.kind.as_str()), Some("allocation.running"), "{events:#?}");
}

#[test]
fn for_a_while() {
    cut_for(Duration::from_secs(15), How::Silent);
}

#[test]
fn refused_for_a_moment() {
    cut_for(Duration::from_secs(5), How::Refused);
}

#[test]
#[ignore = "a minute long; `make test-full` runs it"]
fn for_a_minute() {
    cut_for(Duration::from_secs(60), How::Silent);
}

/// Cut, and the agent is killed and started again within: it goes on by the goal that it has on disk.
#[test]
fn and_the_agent_starts_without_a_server() {
    let cluster = Cluster::start();
    let mut agent = cluster.join("a");
    let _ = cluster.deploy("s", &sleepers(&[("one", ""), ("two", "")]), &[]).ok();
    let before = cluster.starts("s");
    let one = cluster.allocations("s").into_iter().find(|a| a.workload.as_str() == "one").unwrap();
    let container = cluster.container(&one);
    cluster.link.cut(How::Refused);
    agent.kill();
    cluster.engine.kill_container(&container);
    agent.start();
    until("it is started again, by the goal on disk", PATIENCE, || {
        let found = cluster.engine.labelled(&format!("lattice.allocation={}", one.id));
        let Some(found) = found.first() else { return Err("gone".to_owned()) };
        let state = cluster.engine.inspect("container", found)["State"].to_string();
        if state.contains("\"Running\":true") { Ok(()) } else { Err(state) }
    });
    cluster.link.restore();
    cluster.connected(agent.name());
    cluster.serving("s", 2);
    let after = cluster.starts("s");
    assert_eq!(
        after.iter().find(|(name, ..)| name == "two#1"),
        before.iter().find(|(name, ..)| name == "two#1")
    );
}
