//! What a node's owner has it do, as the server takes it in and shows it.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::{Standing, StandingState, Timestamp, report::ReportKind};
use serde_json::json;
use support::*;

fn stands(state: StandingState, reason: Option<&str>) -> ReportKind {
    let standing = Standing {
        state,
        reason: reason.map(Into::into),
        why: Some("so".into()),
        since: Timestamp(now()),
        until: None,
    };
    ReportKind::Standing { standing }
}

#[tokio::test]
async fn a_suspension_is_shown_and_an_absence_that_was_announced_alarms_nobody() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("desk").await;
    agent.say(&mut link, vec![stands(StandingState::Suspended, Some("outside_hours"))]).await;
    let node = world.until("/v1/nodes/desk", |node| node["standing"]["state"] == "suspended").await;
    assert_eq!(
        (&node["standing"]["reason"], &node["presence"]["state"]),
        (&json!("outside_hours"), &json!("connected"))
    );
    let event = world.event("node.suspended").await;
    assert_eq!(event["cause"], "so", "{event}");
    let nodes = world.get("/v1/status").await["nodes"].clone();
    assert_eq!((&nodes["suspended"], &nodes["connected"]), (&json!(1), &json!(0)));
    agent.say(&mut link, vec![stands(StandingState::Asleep, None)]).await;
    world.event("node.asleep").await;
    drop(link);
    world.until("/v1/nodes/desk", |node| node["presence"]["state"] == "disconnected").await;
    let event = world.event("node.away").await;
    assert!(event.to_string().contains("it is asleep, as it said"), "{event}");
    assert_eq!(world.get("/v1/status").await["nodes"]["away"], 1);
    // Its next hello says what is so now.
    let _link = agent.connect().await.unwrap();
    let node = world.until("/v1/nodes/desk", |node| node["presence"]["state"] == "connected").await;
    assert_eq!(node["standing"]["state"], "working");
}

#[tokio::test]
async fn whether_a_node_stays_is_learned_and_outlives_the_server() {
    let mut world = World::new().await;
    let (mut agent, mut link) = world.node("desk").await;
    let node = world.until("/v1/nodes/desk", |node| node["outlook"].is_object()).await;
    let outlook = node["outlook"].clone();
    let chance = |name: &str| outlook[name].as_u64().unwrap();
    assert!(chance("hour") <= 99 && chance("hour") >= chance("eight_hours"), "{outlook}");
    assert!(chance("eight_hours") >= chance("day") && chance("day") > 0, "{outlook}");
    assert_eq!((&outlook["departures"], &outlook["seen_hours"]), (&json!(0), &json!(0)));
    // Its hours end in half an hour: so much is known.
    let ends = Standing { until: Some(Timestamp(now() + 30 * 60_000)), ..Standing::default() };
    agent.say(&mut link, vec![ReportKind::Standing { standing: ends }]).await;
    world.until("/v1/nodes/desk", |node| node["outlook"]["hour"] == 0).await;
    // One that sleeps has left, and nothing is foretold of it.
    agent.say(&mut link, vec![stands(StandingState::Asleep, None)]).await;
    let left = |node: &serde_json::Value| node["outlook"]["departures"] == 1;
    let node = world.until("/v1/nodes/desk", left).await;
    assert_eq!((&node["outlook"]["since"], &node["outlook"]["hour"]), (&json!(null), &json!(0)));
    agent.say(&mut link, vec![stands(StandingState::Working, None)]).await;
    drop(link);
    world.restart(|_| {}).await;
    let _link = agent.connect().await.unwrap();
    world.until("/v1/nodes/desk", |node| left(node) && node["outlook"]["since"].is_number()).await;
}
