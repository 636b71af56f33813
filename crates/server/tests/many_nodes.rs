//! Nodes that are lost, come back, are emptied and removed, over a real server and the real link.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::{AllocationId, Duration, Goal, report::ReportKind};
use serde_json::{Value, json};
use support::*;

fn quick(config: &mut lattice_server::ServerConfig) {
    config.heartbeat = Duration::from_millis(500);
    config.presence_grace = Duration::from_millis(0);
    config.planning.node_loss_after = Duration::from_secs(1);
}

/// A service without data.
fn stateless(replicas: u32) -> Value {
    json!({ "spec": {
        "workloads": { "web": { "image": "img", "replicas": replicas, "networks": { "default": {} } } },
        "networks": { "default": {} }
    }})
}

/// Does as it is told until `enough` of the goal is there: what is to run runs, what is to go is gone.
async fn obey(agent: &mut Agent, link: &mut Link, enough: impl Fn(&Goal) -> bool) -> Goal {
    loop {
        let goal = agent.goal(link).await;
        let mut said: Vec<ReportKind> = goal.allocations.keys().map(|id| running(*id)).collect();
        said.extend(goal.remove.iter().map(|id| ReportKind::AllocationGone { id: *id }));
        agent.say(link, said).await;
        if enough(&goal) {
            return goal;
        }
    }
}

fn only(goal: &Goal) -> AllocationId {
    *goal.allocations.keys().next().unwrap()
}

#[tokio::test]
async fn a_lost_nodes_work_runs_elsewhere_and_its_surplus_goes_on_return() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    let (mut b, mut to_b) = world.node("b").await;
    world.ok("PUT", SHOP, Some(stateless(2))).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 1).await;
    let there = only(&obey(&mut b, &mut to_b, |goal| goal.allocations.len() == 1).await);
    world.until(WEB, |web| web["state"] == "running").await;

    drop(to_b);
    world.until("/v1/nodes/b", |node| node["presence"]["state"] == "disconnected").await;
    assert_eq!(world.get(WEB).await["allocations"].as_array().unwrap().len(), 2, "away is not lost");
    let lost = world.event("node.lost").await;
    assert_eq!((lost["subject"].as_str(), lost["node"].as_str()), (Some("b"), Some("b")));
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 2).await;
    let web = world.until(WEB, |web| web["serving"] == 2).await;
    assert_eq!(web["state"], "running", "what was lost does not count: {web:#}");
    let old = web["allocations"].as_array().unwrap().iter().find(|a| a["node"] == "b").unwrap();
    assert_eq!((old["superseded"].as_str(), old["node_lost"].as_bool()), (Some("lost"), Some(true)));
    assert_eq!(old["status"]["state"], "unknown");
    assert_eq!(world.get("/v1/status").await["nodes"]["lost"], 1);
    let told = world.event("allocation.lost").await;
    assert_eq!(told["cause"], "b, where it was, is lost");
    assert_eq!((&told["caused_by"]["id"], &told["level"]), (&lost["id"], &json!("error")), "{told:#}");
    what_led_to_it_is_told(&world, &lost).await;

    let mut to_b = b.connect().await.unwrap();
    let goal = obey(&mut b, &mut to_b, |goal| goal.remove.contains(&there)).await;
    assert!(goal.allocations.is_empty());
    let web = world.until(WEB, |web| web["allocations"].as_array().unwrap().len() == 2).await;
    assert_eq!((web["serving"].as_u64(), web["state"].as_str()), (Some(2), Some("running")));
}

/// From the link that went down to the replica that runs elsewhere, and back.
async fn what_led_to_it_is_told(world: &World, lost: &Value) {
    let events = world.get("/v1/events?limit=1000").await["items"].as_array().unwrap().clone();
    let is = |event: &Value, kind: &str| event["kind"] == kind;
    let placed = events.iter().rfind(|event| is(event, "allocation.placed") && event["node"] == "a").unwrap();
    assert_eq!(placed["caused_by"]["id"], lost["id"], "{placed:#}");
    let runs = events.iter().rfind(|event| is(event, "allocation.running") && event["node"] == "a").unwrap();
    let chain = world.get(&format!("/v1/events/{}/chain", runs["id"])).await;
    let kinds: Vec<&Value> =
        chain["because"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["allocation.placed", "node.lost", "node.disconnected"], "{chain:#}");
    let came = world.get(&format!("/v1/events/{}/chain", lost["id"])).await;
    let came: Vec<&Value> = came["led_to"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    assert!(
        came.contains(&&json!("allocation.lost")) && came.contains(&&json!("allocation.running")),
        "{came:?}"
    );

    // The first placements are because somebody asked.
    let first = events.iter().find(|event| is(event, "allocation.placed")).unwrap();
    let chain = world.get(&format!("/v1/events/{}/chain", first["id"])).await;
    assert_eq!(
        (&chain["because"][0]["kind"], &chain["audit"]["action"]),
        (&json!("stack.deployed"), &json!("stack.deploy")),
        "{chain:#}"
    );
    // From the newest back, and nothing twice.
    let page = world.get("/v1/events?limit=2").await["items"].as_array().unwrap().clone();
    let path = format!("/v1/events?limit=1000&before={}", page[0]["id"]);
    let older = world.get(&path).await["items"].as_array().unwrap().clone();
    assert!(older.last().unwrap()["id"].as_u64() < page[0]["id"].as_u64() && older.len() >= events.len() - 2);
    let audit = world.get("/v1/audit").await["items"].as_array().unwrap().clone();
    let path = format!("/v1/audit?before={}", audit[1]["id"]);
    assert_eq!(world.get(&path).await["items"].as_array().unwrap()[..], audit[..1]);
    let (status, _) = world.ask("GET", "/v1/events?before=9&after=3", None).await;
    assert_eq!(status, 400);
    let of_other = world.get("/v1/allocations?workload=other").await;
    assert_eq!(of_other["items"], json!([]));
}

#[tokio::test]
async fn a_service_is_explained_by_what_every_node_is_to_it() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    let (_b, _to_b) = world.node("b").await;
    let spec = json!({ "spec": { "workloads": { "web": {
        "image": "img", "replicas": 1, "placement": { "prefers": [{ "node": "node.hostname == a", "weight": 20 }] }
    } } } });
    world.ok("PUT", SHOP, Some(spec)).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 1).await;
    let said = world.get(&format!("{WEB}/explain")).await;
    let web = &said["allocations"][0];
    assert_eq!((web["node"].as_str(), web["slot"].as_u64()), (Some("a"), Some(1)));
    assert!(web["why"].as_str().unwrap().contains("a is preferred, of 2 nodes that fit"), "{said:#}");
    let ranked = web["now"]["ranked"].as_array().unwrap();
    assert_eq!((ranked[0]["node"].as_str(), ranked[0]["prefers"].as_i64()), (Some("a"), Some(200)));
    assert_eq!((ranked[1]["node"].as_str(), ranked[1]["prefers"].as_i64()), (Some("b"), Some(0)));
    // Nothing fits any more: what would have to change is said.
    let much = json!({ "spec": { "workloads": { "web": {
        "image": "img", "replicas": 3, "resources": { "reserved_memory": 3u64 << 30 }
    } } } });
    world.ok("PUT", "/v1/projects/default/stacks/huge", Some(much)).await;
    let huge = "/v1/projects/default/stacks/huge/workloads/web";
    // What waits is known a moment before what was placed by the same plan.
    let many = |web: &Value, what: &str| web[what].as_array().unwrap().len();
    world.until(huge, |web| many(web, "pending") == 1 && many(web, "allocations") == 2).await;
    let said = world.get(&format!("{huge}/explain")).await;
    assert_eq!(said["another"]["would_do"]["less memory"], 2, "{said:#}");
    assert_eq!(said["another"]["refused"]["memory"], 2);
}

#[tokio::test]
async fn a_node_is_emptied_and_removed() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    world.ok("PUT", SHOP, Some(stateless(2))).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 2).await;
    world.until(WEB, |web| web["serving"] == 2).await;
    let (mut b, mut to_b) = world.node("b").await;

    let (status, refused) = world.ask("DELETE", "/v1/nodes/a", None).await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("conflict")), "{refused:#}");
    let preview = world.ok("POST", "/v1/nodes/a/drain", Some(json!({ "dry_run": true }))).await;
    let moves = preview["moves"].as_array().unwrap();
    assert!(moves.len() == 2 && moves.iter().all(|m| m["fate"] == "moves" && m["to"] == "b"), "{preview:#}");
    assert_eq!(world.get("/v1/nodes/a").await["eligibility"], "eligible", "a preview changes nothing");

    let begun = world.ok("POST", "/v1/nodes/a/drain", Some(json!({}))).await;
    assert_eq!(begun["node"]["drain"]["moving"], 2);
    obey(&mut b, &mut to_b, |goal| goal.allocations.len() == 1).await;
    // The old one went when the new one served, and only then the next one came.
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 1).await;
    obey(&mut b, &mut to_b, |goal| goal.allocations.len() == 2).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.is_empty()).await;
    let node = world.until("/v1/nodes/a", |node| node["drain"]["moving"] == 0).await;
    assert_eq!(node["eligibility"], "draining");
    assert_eq!(world.until(WEB, |web| web["state"] == "running").await["serving"], 2);

    assert_eq!(world.ask("DELETE", "/v1/nodes/a", None).await.0, 204);
    goodbye(&mut to_a).await;
    assert_eq!(world.get("/v1/nodes").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn data_stays_until_somebody_gives_it_up_by_name() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    world.ok("PUT", SHOP, Some(web("db"))).await;
    let goal = obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 1).await;
    let volume = *goal.volumes.keys().next().unwrap();
    a.say(&mut to_a, vec![ReportKind::VolumeCreated { id: volume }]).await;
    let (mut b, mut to_b) = world.node("b").await;

    let drain = world.ok("POST", "/v1/nodes/a/drain", Some(json!({}))).await;
    assert_eq!(drain["moves"][0]["fate"], "stays", "{drain:#}");
    let node = world.until("/v1/nodes/a", |node| node["drain"]["moving"] == 0).await;
    let why = node["drain"]["staying"][0]["why"].as_str().unwrap();
    assert_eq!(why, "a is being emptied, but the data of volume data is on a");

    drop(to_a);
    world.until("/v1/nodes/a", |node| node["presence"]["state"] == "lost").await;
    let waits = world.until(WEB, |web| web["state"] == "pending").await;
    assert_eq!(waits["pending"][0]["why"], "the data of volume data is on a, and a is lost");

    let (status, refused) = world.ask("DELETE", "/v1/nodes/a", None).await;
    assert_eq!(
        (status, refused["details"][0]["message"].as_str()),
        (409, Some("default/shop/data")),
        "{refused:#}"
    );
    assert_eq!(world.ask("DELETE", "/v1/nodes/a?lose_volumes=b", None).await.0, 412);
    assert_eq!(world.ask("DELETE", "/v1/nodes/a?lose_volumes=a", None).await.0, 204);
    let goal = obey(&mut b, &mut to_b, |goal| goal.allocations.len() == 1).await;
    assert_ne!(*goal.volumes.keys().next().unwrap(), volume, "another, empty volume");
    world.event("volume.lost").await;
}

#[tokio::test]
async fn many_nodes_that_vanish_at_once_are_not_called_lost() {
    let world = World::with(quick).await;
    let mut links = Vec::new();
    for name in ["a", "b", "c", "d"] {
        links.push(world.node(name).await);
    }
    world.ok("PUT", SHOP, Some(stateless(4))).await;
    for (agent, link) in &mut links {
        obey(agent, link, |goal| goal.allocations.len() == 1).await;
    }
    let (mut back, link) = links.remove(0);
    drop(link);
    for _ in 0..2 {
        drop(links.remove(0));
    }
    let held = world.event("nodes.held").await;
    assert_eq!(held["message"], "3 nodes vanished at once, so nothing is placed elsewhere");
    let status = world.until("/v1/status", |status| status["warnings"][0].is_string()).await;
    assert!(
        status["warnings"][0].as_str().unwrap().starts_with("3 nodes vanished at once and 1 are left"),
        "{status:#}"
    );
    assert_eq!(status["nodes"]["lost"], 0);
    // One is back: two are few, and their work goes to who is there.
    let _link = back.connect().await.unwrap();
    world.until("/v1/status", |status| status["nodes"]["lost"] == 2 && status["warnings"] == json!([])).await;
}

#[tokio::test]
async fn pools_hold_what_they_are_told_to() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    assert_eq!(world.get("/v1/pools").await["items"][0]["name"], "default");
    let in_lab = |spec: Value| {
        let mut spec = spec;
        spec["spec"]["workloads"]["web"]["pool"] = json!("lab");
        spec
    };
    let (status, refused) = world.ask("PUT", SHOP, Some(in_lab(stateless(1)))).await;
    assert_eq!(status, 422, "{refused:#}");
    assert_eq!(refused["details"][0]["message"], "there is no pool lab");
    world.ok("POST", "/v1/pools", Some(json!({ "name": "lab", "projects": ["default"] }))).await;
    let (status, refused) = world.ask("PUT", SHOP, Some(in_lab(web("db")))).await;
    assert_eq!(
        (status, refused["details"][0]["message"].as_str()),
        (422, Some("the pool lab is not trusted with volumes and secrets"))
    );
    world.ok("PUT", SHOP, Some(in_lab(stateless(1)))).await;
    world.until(WEB, |web| web["state"] == "pending").await;
    let node =
        world.ok("PATCH", "/v1/nodes/a", Some(json!({ "pool": "lab", "labels": { "disk": "ssd" } }))).await;
    assert_eq!((node["pool"].as_str(), node["labels"]["disk"].as_str()), (Some("lab"), Some("ssd")));
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 1).await;
    assert_eq!(world.ask("PATCH", "/v1/nodes/a", Some(json!({ "pool": "attic" }))).await.0, 404);
    assert_eq!(world.ask("DELETE", "/v1/pools/lab", None).await.0, 409);
    assert_eq!(world.ask("DELETE", "/v1/pools/default", None).await.0, 409);
    assert_eq!(world.ask("POST", "/v1/join-tokens", Some(json!({ "pool": "attic" }))).await.0, 404);
}

#[tokio::test]
async fn taints_keep_away_send_away_and_are_written_down() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    world
        .ok(
            "PATCH",
            "/v1/nodes/a",
            Some(json!({ "taint": [{ "key": "gpu", "value": "train", "effect": "refuse" }] })),
        )
        .await;
    world.ok("PUT", SHOP, Some(stateless(1))).await;
    let waits = world
        .until(WEB, |web| web["state"] == "pending" && !web["pending"].as_array().unwrap().is_empty())
        .await;
    assert!(waits["pending"].to_string().contains("taint gpu=train:refuse"), "{waits:#}");
    let node = world.ok("PATCH", "/v1/nodes/a", Some(json!({ "untaint": [{ "key": "gpu" }] }))).await;
    assert!(node.get("taints").is_none(), "{node:#}");
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 1).await;
    // A pool's are its nodes' too, and one that evicts sends away what runs as soon as there is another place.
    let (mut b, mut to_b) = world.node("b").await;
    world
        .ok(
            "POST",
            "/v1/pools",
            Some(json!({ "name": "lab", "taint": [{ "key": "lab", "effect": "refuse" }] })),
        )
        .await;
    world
        .ok(
            "PATCH",
            "/v1/pools/lab",
            Some(json!({ "taint": [{ "key": "lab", "effect": "evict" }], "untaint": [{ "key": "lab" }] })),
        )
        .await;
    assert_eq!(world.get("/v1/pools/lab").await["taints"], json!([{ "key": "lab", "effect": "evict" }]));
    world
        .ok("PATCH", "/v1/nodes/a", Some(json!({ "taint": [{ "key": "leaving", "effect": "evict" }] })))
        .await;
    obey(&mut b, &mut to_b, |goal| goal.allocations.len() == 1).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.is_empty() && goal.remove.is_empty()).await;
    let audit = world.get("/v1/audit").await.to_string();
    assert!(audit.contains("taint gpu=train:refuse") && audit.contains("taint leaving:evict"), "{audit}");
    for wrong in [
        json!({ "key": "a b", "effect": "refuse" }),
        json!({ "key": "a", "effect": "keep" }),
        json!({ "key": "a" }),
    ] {
        let (status, said) = world.ask("PATCH", "/v1/nodes/a", Some(json!({ "taint": [wrong] }))).await;
        assert!((400..=422).contains(&status), "{status} {said}");
    }
}

/// Says of each allocation of a goal how it is, until the workload is as it should be.
async fn answer(agent: &mut Agent, link: &mut Link, bad: &str, enough: impl Fn(&Goal) -> bool) -> Goal {
    use lattice_model::report::{AllocationState, AllocationStatus};
    loop {
        let goal = agent.goal(link).await;
        let status = |(id, wanted): (&AllocationId, &lattice_model::GoalAllocation)| match wanted.spec.image
            == bad
        {
            true => {
                ReportKind::Allocation { id: *id, status: AllocationStatus::new(AllocationState::BackingOff) }
            }
            false => running(*id),
        };
        let mut said: Vec<ReportKind> = goal.allocations.iter().map(status).collect();
        said.extend(goal.remove.iter().map(|id| ReportKind::AllocationGone { id: *id }));
        agent.say(link, said).await;
        if enough(&goal) {
            return goal;
        }
    }
}

#[tokio::test]
async fn a_version_that_fails_is_taken_back_and_one_can_go_back_by_hand() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    let version = |image: &str| {
        let mut spec = stateless(3);
        spec["spec"]["workloads"]["web"]["image"] = json!(image);
        spec["spec"]["workloads"]["web"]["update"] = json!({ "on_failure": "rollback" });
        spec
    };
    let all = |image: &'static str| {
        move |goal: &Goal| {
            goal.remove.is_empty()
                && goal.allocations.len() == 3
                && goal.allocations.values().all(|a| a.spec.image == image)
        }
    };
    let rollout = format!("{SHOP}/rollout");
    world.ok("PUT", SHOP, Some(version("one"))).await;
    let first = answer(&mut a, &mut to_a, "", all("one")).await;
    world.until(&rollout, |view| view["workloads"][0]["state"] == "done").await;
    world.ok("PUT", SHOP, Some(version("bad"))).await;
    let back = answer(&mut a, &mut to_a, "bad", all("one")).await;
    let same = first.allocations.keys().filter(|id| back.allocations.contains_key(id)).count();
    assert_eq!(same, 2, "what was not replaced runs on");
    let view = world.until(&rollout, |view| view["workloads"][0]["state"] == "done").await;
    assert_eq!(view["workloads"][0]["rolled_back"]["to"], 1, "{view:#}");
    world.event("workload.rolled_back").await;

    world.ok("PUT", SHOP, Some(version("two"))).await;
    answer(&mut a, &mut to_a, "", all("two")).await;
    let view = world.until(&rollout, |view| view["workloads"][0]["state"] == "done").await;
    assert_eq!(view["revisions"].as_array().unwrap().len(), 3);
    let undone = world.ok("POST", &format!("{rollout}/undo?to=1"), None).await;
    assert_eq!(undone["version"], 4);
    answer(&mut a, &mut to_a, "", all("one")).await;
    assert_eq!(world.ask("POST", &format!("{rollout}/undo?to=9"), None).await.0, 409);
}

#[tokio::test]
async fn what_runs_on_every_node_needs_a_network_of_its_own() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    let mut spec = stateless(1);
    spec["spec"]["workloads"]["probe"] =
        json!({ "image": "probe", "mode": "global", "networks": { "default": {} } });
    let (status, refused) = world.ask("PUT", SHOP, Some(spec.clone())).await;
    assert_eq!(
        (status, refused["details"][0]["path"].as_str()),
        (422, Some("workloads.probe.mode")),
        "{refused:#}"
    );
    spec["spec"]["workloads"]["probe"]["networks"] = json!({});
    world.ok("PUT", SHOP, Some(spec)).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 2).await;
    let (mut b, mut to_b) = world.node("b").await;
    obey(&mut b, &mut to_b, |goal| goal.allocations.len() == 1).await;
    let probe = "/v1/projects/default/stacks/shop/workloads/probe";
    world.until(probe, |probe| probe["replicas"] == 2 && probe["state"] == "running").await;
    assert_eq!(world.ask("POST", &format!("{probe}/scale"), Some(json!({ "replicas": 3 }))).await.0, 409);
}

#[tokio::test]
async fn a_node_that_comes_gets_its_share_by_and_by() {
    let world = World::with(|config| {
        quick(config);
        config.planning.rebalance = Some(lattice_planner::Rebalance {
            every: Duration::from_secs(1),
            moves: 1,
            after: Duration::from_millis(0),
        });
    })
    .await;
    let (mut a, mut to_a) = world.node("a").await;
    world.ok("PUT", SHOP, Some(stateless(4))).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 4).await;
    let (mut b, mut to_b) = world.node("b").await;
    // What is to move is told to the new node first; the old one goes when that serves.
    obey(&mut b, &mut to_b, |goal| !goal.allocations.is_empty()).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 3 && goal.remove.is_empty()).await;
    obey(&mut b, &mut to_b, |goal| goal.allocations.len() == 2).await;
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 2 && goal.remove.is_empty()).await;
    let web = world.until(WEB, |web| web["state"] == "running").await;
    assert!(web["allocations"].to_string().contains("it is rebalanced: a had 4 replicas of it"), "{web:#}");
}

#[tokio::test]
async fn a_watch_tells_what_hangs_on_a_change() {
    let world = World::with(quick).await;
    let (mut a, mut to_a) = world.node("a").await;
    world.ok("PUT", SHOP, Some(stateless(1))).await;
    let from = world.get("/v1/stacks").await["revision"].clone();
    let token = world.api_token("admin").await;
    let watch = format!("/v1/watch?from={from}&kinds=stack,allocation");
    obey(&mut a, &mut to_a, |goal| goal.allocations.len() == 1).await;
    // No row of the stack changes when its service comes up, and none of the instance when its node is away.
    let settled = |text: &str| text.contains(r#""kind":"stack""#) && text.contains(r#""settled":1"#);
    let (status, text) = stream_as(&world, &token, &watch, settled).await;
    assert_eq!(status, 200, "{text}");
    drop(to_a);
    let away = |text: &str| text.contains("a is not connected; the last that it said was running");
    stream_as(&world, &token, &watch, away).await;

    let who = world.as_bearer(&token, "GET", "/v1/whoami", None).await.1;
    assert!(who["rights"]["cluster"].as_array().unwrap().contains(&json!("stack.change")), "{who:#}");
    let own = world.api_token("developer@project/other owner@pool/lab").await;
    let rights = world.as_bearer(&own, "GET", "/v1/whoami", None).await.1["rights"].clone();
    let has = |list: &Value, right: &str| list.as_array().unwrap().contains(&json!(right));
    assert!(has(&rights["projects"]["other"], "stack.change") && !has(&rights["cluster"], "stack.change"));
    assert!(has(&rights["own_nodes_in"]["lab"], "node.pause") && !has(&rights["pools"]["lab"], "node.pause"));
    assert!(!has(&rights["own_nodes"], "node.pause"), "{rights:#}");
}

#[tokio::test]
async fn a_watch_tells_what_nodes_use_to_whoever_asks_and_sees_them() {
    let world = World::with(quick).await;
    let (_a, to_a) = world.node("a").await;
    let beat = lattice_link::message::Heartbeat {
        at: lattice_model::Timestamp(now()),
        cpu_millis: 1234,
        memory_bytes: 5,
        disk_free_bytes: 6,
        running: 0,
        ping: 0,
        conditions: Vec::new(),
    };
    to_a.io.send.send(lattice_link::message::AgentMessage::Heartbeat(beat)).await.unwrap();
    let node = world.until("/v1/nodes/a", |node| node["load"]["cpu"] == 1234).await;
    let (id, token) = (node["id"].as_str().unwrap().to_owned(), world.api_token("viewer").await);
    let told = |text: &str| text.contains("event: load") && text.contains(&id) && text.contains("1234");
    let (status, text) = stream_as(&world, &token, "/v1/watch?kinds=stack&loads=true", told).await;
    assert_eq!(status, 200, "{text}");
}
