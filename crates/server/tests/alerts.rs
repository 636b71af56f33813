//! Alerts over a real server: they fire, survive a restart without firing again, and are over.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::Duration;
use serde_json::Value;
use support::*;

fn quick(config: &mut lattice_server::ServerConfig) {
    config.heartbeat = Duration::from_millis(500);
    config.presence_grace = Duration::from_millis(0);
    config.planning.node_loss_after = Duration::from_secs(1);
}

fn of<'a>(list: &'a Value, rule: &str, node: &str) -> Option<&'a Value> {
    let mut items = list["items"].as_array().unwrap().iter();
    items.find(|alert| alert["rule"] == rule && alert["subject"]["name"] == node)
}

#[tokio::test]
async fn a_lost_node_fires_once_whatever_the_server_does_and_is_over_when_it_is_removed() {
    let mut world = World::with(quick).await;
    let (_a, _to_a) = world.node("a").await;
    let (_b, to_b) = world.node("b").await;
    assert_eq!(world.get("/v1/alerts").await["items"], serde_json::json!([]));
    drop(to_b);
    let list = world.until("/v1/alerts", |list| of(list, "node_lost", "b").is_some()).await;
    let alert = of(&list, "node_lost", "b").unwrap().clone();
    assert_eq!((alert["severity"].as_str(), alert["state"].as_str()), (Some("critical"), Some("firing")));
    assert_eq!(alert["doc"], "docs/alerts.md#node_lost");
    assert_eq!(alert["subject"]["node"], "b");
    let told = world.event("alert.firing").await;
    assert_eq!((told["subject"].as_str(), told["node"].as_str()), (Some("b"), Some("b")));

    // Who may see no node sees none of it.
    let stranger = world.api_token("developer@project/elsewhere").await;
    let bearer = format!("Bearer {stranger}");
    let (status, seen) = world.tcp("GET", "/v1/alerts", &[("authorization", &bearer)]).await;
    assert_eq!((status, seen["items"].as_array().map(Vec::len)), (200, Some(0)), "{seen:#}");

    world.restart(quick).await;
    let list = world.get("/v1/alerts").await;
    assert_eq!(of(&list, "node_lost", "b").unwrap()["fired_at"], alert["fired_at"]);
    // By the time that something else fires, everything was looked at again.
    let (_c, to_c) = world.node("c").await;
    drop(to_c);
    world.until("/v1/alerts", |list| of(list, "node_lost", "c").is_some()).await;
    let events = world.get("/v1/events?limit=1000").await;
    let fired = events["items"].as_array().unwrap().iter();
    let fired = fired.filter(|event| event["kind"] == "alert.firing" && event["subject"] == "b").count();
    assert_eq!(fired, 1, "{events:#}");

    world.ok("DELETE", "/v1/nodes/b", None).await;
    world.until("/v1/alerts", |list| of(list, "node_lost", "b").is_none()).await;
    assert_eq!(world.event("alert.resolved").await["subject"], "b");
}
