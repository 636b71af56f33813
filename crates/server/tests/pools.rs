//! Pools with rules, previews and quotas, over a real server and the real link.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::{Duration, report::ReportKind};
use serde_json::{Value, json};
use support::*;

fn quick(config: &mut lattice_server::ServerConfig) {
    config.pool_hold = Duration::from_millis(0);
}

fn service(pool: Option<&str>, replicas: u32) -> Value {
    let mut web = json!({
        "image": "img", "replicas": replicas, "networks": { "default": {} },
        "resources": { "reserved_cpu": 500, "reserved_memory": 67108864u64 }
    });
    if let Some(pool) = pool {
        web["pool"] = json!(pool);
    }
    json!({ "spec": { "workloads": { "web": web }, "networks": { "default": {} } } })
}

/// Does as it is told until it has `n` replicas, and none that is to go.
async fn obey(agent: &mut Agent, link: &mut Link, n: usize) {
    loop {
        let goal = agent.goal(link).await;
        let mut said: Vec<ReportKind> = goal.allocations.keys().map(|id| running(*id)).collect();
        said.extend(goal.remove.iter().map(|id| ReportKind::AllocationGone { id: *id }));
        agent.say(link, said).await;
        if goal.allocations.len() == n && goal.remove.is_empty() {
            return;
        }
    }
}

#[tokio::test]
async fn a_labelled_node_enters_its_pool_by_rule_and_goes_home_again() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    let (mut b, mut to_b) = world.node("b").await;
    world.ok("PUT", SHOP, Some(service(None, 2))).await;
    obey(&mut a, &mut to_a, 1).await;
    obey(&mut b, &mut to_b, 1).await;
    world.ok("POST", "/v1/pools", Some(json!({ "name": "eu" }))).await;
    world.ok("PATCH", "/v1/nodes/b", Some(json!({ "labels": { "region": "eu" } }))).await;
    let rule = json!({ "rule": "node.labels.region == eu" });
    // First what it would do, which does nothing.
    let preview = world.ok("POST", "/v1/pools/eu/preview", Some(rule.clone())).await;
    let node = &preview["nodes"][0];
    assert_eq!(
        (&node["node"], &node["matches"], &node["from"], &node["to"]),
        (&json!("b"), &json!(true), &json!("default"), &json!("eu")),
        "{preview:#}"
    );
    let moves = preview["moves"].as_array().unwrap();
    assert_eq!(
        (moves.len(), &moves[0]["from"], &moves[0]["replica"]["to"]),
        (1, &json!("b"), &json!("a")),
        "{preview:#}"
    );
    assert!(world.get("/v1/pools/eu").await.get("rule").is_none());
    // Then for real; what was there moves away by turns, and what is for the pool comes.
    world.ok("PATCH", "/v1/pools/eu", Some(rule)).await;
    obey(&mut a, &mut to_a, 2).await;
    obey(&mut b, &mut to_b, 0).await;
    let shown = world.until("/v1/pools/eu", |pool| pool["nodes"] == 1).await;
    let member = &shown["members"][0];
    assert_eq!(
        (&member["node"], member["why"].as_str()),
        (&json!("b"), Some("the rule of the pool eu holds: node.labels.region == eu")),
        "{shown:#}"
    );
    let event = world.event("node.repooled").await;
    assert_eq!(event["message"], "pool default -> eu", "{event}");
    assert!(event["cause"].as_str().unwrap().contains("node.labels.region == eu"), "{event}");
    let audit = world.get("/v1/audit").await.to_string();
    assert!(
        audit.contains("node.repool") && audit.contains("pool default -> eu: the rule of the pool eu"),
        "{audit}"
    );
    world.ok("PUT", "/v1/projects/default/stacks/there", Some(service(Some("eu"), 1))).await;
    obey(&mut b, &mut to_b, 1).await;
    // By hand it stays whatever the rules say; freed, it goes where it joined, as no rule holds of it.
    let fixed =
        world.ok("PATCH", "/v1/nodes/b", Some(json!({ "pool": "eu", "labels": { "region": null } }))).await;
    assert_eq!((&fixed["pool_fixed"], &fixed["home_pool"]), (&json!(true), &json!("default")), "{fixed:#}");
    assert_eq!(
        world.ask("PATCH", "/v1/nodes/b", Some(json!({ "pool": "eu", "auto_pool": true }))).await.0,
        400
    );
    world.ok("PATCH", "/v1/nodes/b", Some(json!({ "auto_pool": true }))).await;
    let home = world.until("/v1/nodes/b", |node| node["pool"] == "default").await;
    assert_eq!(home["pool_why"], "no pool's rule holds of it, and there it joined");
}

#[tokio::test]
async fn rules_are_checked_and_take_the_right_over_all_pools() {
    let world = World::new().await;
    for (body, says) in [
        (json!({ "rule": "node.pool == eu" }), "cannot ask for node.pool"),
        (json!({ "rule": "node.speed == fast" }), "is no constraint"),
        (json!({ "rule": "" }), "a rule has 0 constraints"),
        (json!({ "rule": "node.cpu >= 4", "no_rule": true }), "either a rule or none"),
        (json!({ "priority": 3 }), "no rule whose priority"),
        (json!({ "oversubscription": { "cpu_percent": 5, "memory_percent": 100 } }), "cannot be promised"),
        // The default pool is trusted.
        (json!({ "rule": "node.cpu >= 4" }), "is trusted with volumes and secrets"),
    ] {
        let (status, said) = world.ask("PATCH", "/v1/pools/default", Some(body.clone())).await;
        assert!((400..=422).contains(&status) && said.to_string().contains(says), "{body}: {status} {said}");
    }
    assert_eq!(world.ask("POST", "/v1/pools", Some(json!({ "name": "auto" }))).await.0, 400);
    let vouched = json!({ "rule": "node.cpu >= 4", "trusts_claims": true });
    let pool = world.ok("PATCH", "/v1/pools/default", Some(vouched)).await;
    assert_eq!(pool["rule"]["trusts_claims"], true, "{pool:#}");
    // The word is for that rule alone.
    assert_eq!(
        world.ask("PATCH", "/v1/pools/default", Some(json!({ "rule": "node.cpu >= 8" }))).await.0,
        400
    );
    world.ok("PATCH", "/v1/pools/default", Some(json!({ "priority": 3 }))).await;
    world
        .ok("POST", "/v1/pools", Some(json!({ "name": "lab", "rule": { "rule": "node.battery exists" } })))
        .await;
    assert_eq!(world.ask("PATCH", "/v1/pools/lab", Some(json!({ "trusted": true }))).await.0, 400);
    world.ok("PATCH", "/v1/pools/lab", Some(json!({ "trusted": true, "trusts_claims": true }))).await;
    world.ok("PATCH", "/v1/pools/lab", Some(json!({ "no_rule": true, "trusted": false }))).await;
    // Who runs one pool takes no nodes out of the others.
    let chief = world.api_token("operator@pool/lab").await;
    let ask = async |method: &str, path: &str, body: Value| {
        world.as_bearer(&chief, method, path, Some(body)).await.0
    };
    assert_eq!(ask("PATCH", "/v1/pools/lab", json!({ "description": "mine" })).await, 200);
    assert_eq!(ask("PATCH", "/v1/pools/lab", json!({ "rule": "node.cpu >= 1" })).await, 403);
    assert_eq!(ask("POST", "/v1/pools/lab/preview", json!({ "rule": "node.cpu >= 1" })).await, 403);
}

#[tokio::test]
async fn a_pool_bounds_what_each_project_uses_there() {
    let world = World::new().await;
    world
        .ok("POST", "/v1/pools", Some(json!({ "name": "lab", "quotas": { "each": { "allocations": 2 } } })))
        .await;
    let (status, refused) = world.ask("PUT", SHOP, Some(service(Some("lab"), 3))).await;
    assert_eq!((status, &refused["code"]), (409, &json!("quota_exceeded")), "{refused}");
    assert_eq!(refused["message"], "the project default has no room for this in the pool lab", "{refused}");
    let details = refused["details"].to_string();
    assert!(details.contains("replicas: 3 would be used, 0 are used now, the limit is 2"), "{details}");
    world.ok("PUT", SHOP, Some(service(Some("lab"), 2))).await;
    let scale = format!("{WEB}/scale");
    assert_eq!(world.ask("POST", &scale, Some(json!({ "replicas": 3 }))).await.0, 409);
    // Elsewhere there is room, and a project may have a quota of its own.
    world.ok("PUT", "/v1/projects/default/stacks/other", Some(service(None, 9))).await;
    let own = json!({ "quotas": [{ "project": "default", "quota": { "cpu": 2000 } }] });
    world.ok("PATCH", "/v1/pools/lab", Some(own)).await;
    world.ok("POST", &scale, Some(json!({ "replicas": 4 }))).await;
    assert_eq!(world.ask("POST", &scale, Some(json!({ "replicas": 5 }))).await.0, 409);
    let lab = world.get("/v1/pools/lab").await;
    assert_eq!(
        (&lab["used"]["default"]["allocations"], &lab["used"]["default"]["cpu"]),
        (&json!(4), &json!(2000)),
        "{lab:#}"
    );
    world.ok("PATCH", "/v1/pools/lab", Some(json!({ "quotas": [{ "project": "default" }] }))).await;
    assert_eq!(
        world.ask("POST", &scale, Some(json!({ "replicas": 5 }))).await.0,
        409,
        "that of each counts again"
    );
    world.ok("POST", &scale, Some(json!({ "replicas": 3 }))).await;
    // Two deployments at the same time do not share the same room.
    world.ok("PATCH", "/v1/pools/lab", Some(json!({ "quotas": [{ "quota": { "allocations": 5 } }] }))).await;
    let stacks: Vec<String> = (0..6).map(|n| format!("/v1/projects/default/stacks/s{n}")).collect();
    let all = stacks.iter().map(|path| world.ask("PUT", path, Some(service(Some("lab"), 1))));
    let statuses: Vec<u16> =
        futures::future::join_all(all).await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
}
