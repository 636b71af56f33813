//! How a node is: told, kept, shown, and heeded when something is placed.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_model::{
    Bytes, Timestamp,
    health::{Condition, ConditionKind, Level, Reason},
    machine::{DiskFacts, DiskKind, MachineFacts},
    report::ReportKind,
    resource::{Capacity, NodeFacts},
};
use serde_json::{Value, json};
use support::*;

const NODE: &str = "/v1/nodes/attic";

fn disk(level: Level, since: i64) -> ReportKind {
    let reason = if level == Level::Good { Reason::Fine } else { Reason::LowSpace };
    let message = format!("{level}\u{1b}[31m");
    let condition = Condition { kind: ConditionKind::Disk, level, since: Timestamp(since), reason, message };
    ReportKind::Health { conditions: vec![condition] }
}

async fn kinds(world: &World) -> Vec<String> {
    let all = world.get("/v1/events?limit=1000").await;
    let kinds =
        all["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned());
    kinds.filter(|kind| kind.starts_with("node.condition")).collect()
}

#[tokio::test]
async fn a_node_in_distress_keeps_what_it_has_and_gets_nothing_new() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    world.ok("PUT", SHOP, Some(web("nginx:1"))).await;
    while agent.goal(&mut link).await.allocations.is_empty() {}
    let far = now() + 86_400_000;
    agent.say(&mut link, vec![disk(Level::Bad, far)]).await;
    let view = world.get(NODE).await;
    let told = &view["conditions"][0];
    assert_eq!(
        (&told["kind"], &told["level"], &told["reason"]),
        (&json!("disk"), &json!("bad"), &json!("low_space"))
    );
    assert!(told["since"].as_i64().unwrap() <= now(), "nothing is so since tomorrow: {told:#}");
    assert!(!told["message"].as_str().unwrap().contains('\u{1b}'));

    let waits = world.ok("PUT", "/v1/projects/default/stacks/other", Some(web("nginx:1"))).await;
    let why = waits["pending"].to_string();
    assert!(why.contains("disk low_space"), "{waits:#}");
    assert_eq!(world.get("/v1/nodes/attic").await["allocations"], 1, "what was there stays");
    // The same again is no news; nor is it after a new beginning of the agent.
    agent.say(&mut link, vec![disk(Level::Bad, 7), disk(Level::Bad, 8)]).await;
    assert_eq!(kinds(&world).await, ["node.condition_bad"]);

    agent.say(&mut link, vec![disk(Level::Good, 9)]).await;
    // What waited is placed by itself.
    while agent.goal(&mut link).await.allocations.len() < 2 {}
    let mut kinds = kinds(&world).await;
    kinds.sort();
    assert_eq!(kinds, ["node.condition_bad", "node.condition_good"]);
}

#[tokio::test]
async fn a_machine_that_changed_is_another_in_the_list() {
    let world = World::new().await;
    let (mut agent, mut link) = world.node("attic").await;
    let disk =
        DiskFacts { name: "sdb".into(), kind: DiskKind::Hdd, size: Bytes(8 << 40), ..DiskFacts::default() };
    let machine =
        MachineFacts { disks: vec![disk; 500], region: Some("eu".into()), ..MachineFacts::default() };
    let facts = NodeFacts { hostname: "attic".into(), machine, ..NodeFacts::default() };
    let capacity = Capacity { memory: Bytes(7), ..Capacity::default() };
    agent.say(&mut link, vec![ReportKind::Facts { facts: Box::new(facts), capacity }]).await;
    let view: Value = world.get(NODE).await;
    assert_eq!(view["facts"]["machine"]["disks"][0]["kind"], "hdd", "{view:#}");
    assert_eq!(view["facts"]["machine"]["disks"].as_array().unwrap().len(), 64, "and not a list without end");
    assert_eq!((&view["facts"]["machine"]["region"], &view["capacity"]["memory"]), (&json!("eu"), &json!(7)));
}
