//! A new version is tried beside the old one, paused, promoted and taken back, over a real server and the real link.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::{AllocationId, Goal, GoalAllocation, goal::DesiredState, report::ReportKind};
use serde_json::{Value, json};
use support::*;

const ROLLOUT: &str = "/v1/projects/default/stacks/shop/rollout";

fn version(image: &str, update: Value, more: Value) -> Value {
    let mut web = json!({ "image": image, "replicas": 3, "networks": { "default": {} }, "update": update });
    for (key, value) in more.as_object().unwrap() {
        web[key] = value.clone();
    }
    json!({ "spec": {
        "workloads": { "web": web }, "networks": { "default": {} }, "volumes": { "data": {} }
    }})
}

fn canary(promote: &str) -> Value {
    json!({ "on_failure": "rollback",
        "strategy": { "canary": { "first": { "count": 1 }, "bake": 0, "promote": promote } } })
}

/// Does as it is told until `enough` of the goal is there.
async fn obey(agent: &mut Agent, link: &mut Link, enough: impl Fn(&Goal) -> bool) -> Goal {
    loop {
        let goal = agent.goal(link).await;
        let does = |(id, one): (&AllocationId, &GoalAllocation)| match one.desired {
            DesiredState::Run => running(*id),
            _ => stopped(*id),
        };
        let mut said: Vec<ReportKind> = goal.allocations.iter().map(does).collect();
        said.extend(goal.remove.iter().map(|id| ReportKind::AllocationGone { id: *id }));
        agent.say(link, said).await;
        if enough(&goal) {
            return goal;
        }
    }
}

/// How many of the goal run, by image.
fn runs(goal: &Goal, image: &str) -> usize {
    goal.allocations
        .values()
        .filter(|one| one.spec.image == image && one.desired == DesiredState::Run)
        .count()
}

fn web(view: &Value) -> &Value {
    &view["workloads"][0]
}

#[tokio::test]
async fn a_canary_is_paused_resumed_promoted_and_gone_back_from() {
    let world = World::new().await;
    let (mut a, mut to_a) = world.node("a").await;
    world.ok("PUT", SHOP, Some(version("one", canary("manual"), json!({})))).await;
    obey(&mut a, &mut to_a, |goal| runs(goal, "one") == 3).await;
    world.until(ROLLOUT, |view| web(view)["state"] == "done").await;
    for verb in ["pause", "resume", "promote"] {
        let (status, body) = world.ask("POST", &format!("{ROLLOUT}/{verb}"), None).await;
        assert_eq!(status, 409, "{verb}: {body:#}");
    }

    world.ok("PUT", SHOP, Some(version("two", canary("manual"), json!({})))).await;
    obey(&mut a, &mut to_a, |goal| runs(goal, "two") == 1 && runs(goal, "one") == 3).await;
    let view = world.until(ROLLOUT, |view| web(view)["trial"]["serving"] == 1).await;
    assert_eq!((web(&view)["state"].as_str(), web(&view)["updated"].as_u64()), (Some("trial"), Some(1)));
    let held = world.until(WEB, |view| view["held"].is_string()).await;
    assert!(held["held"].as_str().unwrap().contains("lattice rollout promote shop"), "{held:#}");

    let paused = world.ok("POST", &format!("{ROLLOUT}/pause"), None).await;
    assert_eq!(web(&paused)["state"], "paused");
    assert!(web(&paused)["rollout"]["paused"]["by"].is_string(), "{paused:#}");
    let (status, body) = world.ask("POST", &format!("{ROLLOUT}/promote"), None).await;
    assert_eq!((status, body["hint"].as_str()), (409, Some("`lattice rollout resume shop` first")));
    let (status, _) = world.ask("POST", &format!("{ROLLOUT}/resume?service=other"), None).await;
    assert_eq!(status, 409);
    let resumed = world.ok("POST", &format!("{ROLLOUT}/resume?service=web"), None).await;
    assert_eq!(web(&resumed)["state"], "trial");
    world.ok("POST", &format!("{ROLLOUT}/promote"), None).await;
    obey(&mut a, &mut to_a, |goal| runs(goal, "two") == 3 && goal.remove.is_empty()).await;
    world.until(ROLLOUT, |view| web(view)["state"] == "done").await;
    for action in ["rollout.pause", "rollout.resume", "rollout.promote"] {
        world.event(action).await;
    }
    let audit = world.get("/v1/audit?limit=100").await;
    for action in ["rollout.pause", "rollout.resume", "rollout.promote"] {
        let said = audit["items"].as_array().unwrap().iter().any(|entry| entry["action"] == action);
        assert!(said, "{action}: {audit:#}");
    }
    // The way back needs no trial.
    world.ok("POST", &format!("{ROLLOUT}/undo"), None).await;
    obey(&mut a, &mut to_a, |goal| runs(goal, "one") == 3 && goal.remove.is_empty()).await;
    world.until(ROLLOUT, |view| web(view)["state"] == "done").await;
}

#[tokio::test]
async fn a_pause_outlives_the_server() {
    let mut world = World::new().await;
    let (mut a, mut to_a) = world.node("a").await;
    world.ok("PUT", SHOP, Some(version("one", canary("auto"), json!({})))).await;
    obey(&mut a, &mut to_a, |goal| runs(goal, "one") == 3).await;
    world.until(ROLLOUT, |view| web(view)["state"] == "done").await;
    world.ok("PUT", SHOP, Some(version("two", canary("auto"), json!({})))).await;
    world.ok("POST", &format!("{ROLLOUT}/pause"), None).await;
    drop(to_a);
    world.restart(|_| {}).await;
    let mut to_a = a.connect().await.unwrap();
    let view = world.get(ROLLOUT).await;
    assert_eq!(web(&view)["state"], "paused", "{view:#}");
    world.ok("POST", &format!("{ROLLOUT}/resume"), None).await;
    obey(&mut a, &mut to_a, |goal| runs(goal, "two") == 3 && goal.remove.is_empty()).await;
    world.event("rollout.promoted").await;
}

#[tokio::test]
async fn the_old_set_is_kept_stopped_and_comes_back() {
    let world = World::new().await;
    let (mut a, mut to_a) = world.node("a").await;
    let update = json!({ "on_failure": "rollback",
        "strategy": { "blue_green": { "bake": 0, "promote": "auto", "keep": 600_000 } } });
    world.ok("PUT", SHOP, Some(version("one", update.clone(), json!({})))).await;
    let first = obey(&mut a, &mut to_a, |goal| runs(goal, "one") == 3).await;
    world.until(ROLLOUT, |view| web(view)["state"] == "done").await;
    world.ok("PUT", SHOP, Some(version("two", update, json!({})))).await;
    let kept = obey(&mut a, &mut to_a, |goal| runs(goal, "two") == 3 && runs(goal, "one") == 0).await;
    assert_eq!(kept.allocations.len(), 6, "the old ones are stopped, and there");
    world.event("allocation.retired").await;
    let view = world.until(ROLLOUT, |view| web(view)["state"] == "done").await;
    assert!(web(&view)["kept_until"].is_i64(), "{view:#}");
    world.until(WEB, |view| view["state"] == "running").await;
    world.ok("POST", &format!("{ROLLOUT}/undo"), None).await;
    let back = obey(&mut a, &mut to_a, |goal| runs(goal, "two") == 0 && goal.remove.is_empty()).await;
    assert!(back.allocations.keys().eq(first.allocations.keys()), "the same containers serve again");
}

#[tokio::test]
async fn what_cannot_be_beside_the_old_one_is_refused_with_the_reason() {
    let world = World::new().await;
    let (mut a, mut to_a) = world.node("a").await;
    let refused = async |more: Value, update: Value, why: &str| {
        let (status, body) = world.ask("PUT", SHOP, Some(version("one", update, more))).await;
        assert!(status == 422 && body.to_string().contains(why), "{why}: {body:#}");
    };
    let port = json!({ "replicas": 1, "ports": [{ "target": { "port": 80 }, "published": 8080 }] });
    refused(port, canary("auto"), "publishes port 8080").await;
    let data = json!({ "mounts": [{ "volume": "data", "target": "/data" }] });
    refused(data, canary("auto"), "one writer at a time").await;
    refused(json!({ "restart": "never" }), canary("auto"), "it is a job").await;
    let mut goes_on = canary("auto");
    goes_on["on_failure"] = json!("continue");
    refused(json!({}), goes_on, "whatever comes of it").await;
    refused(json!({}), json!({ "deadline": 1000 }), "from ten seconds to a day").await;

    // Room for three and not for six: nothing is begun.
    let node = world.get("/v1/nodes/a").await;
    let memory = node["capacity"]["memory"].as_u64().unwrap();
    let large = json!({ "resources": { "reserved_memory": memory / 4 } });
    let update = json!({ "strategy": { "blue_green": { "bake": 0, "promote": "auto", "keep": 0 } } });
    world.ok("PUT", SHOP, Some(version("one", update.clone(), large.clone()))).await;
    obey(&mut a, &mut to_a, |goal| runs(goal, "one") == 3).await;
    world.until(ROLLOUT, |view| web(view)["state"] == "done").await;
    let (status, body) = world.ask("PUT", SHOP, Some(version("two", update, large))).await;
    let message = body["message"].as_str().unwrap();
    assert!(status == 409 && message.contains("there is no room") && message.contains("memory"), "{body:#}");
    assert_eq!(world.get(ROLLOUT).await["version"], 1);
}
