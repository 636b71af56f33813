//! Projects: what exists, what it may use, and its end.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::*;

fn plain(replicas: u32) -> serde_json::Value {
    json!({ "spec": { "workloads": { "web": { "image": "nginx", "replicas": replicas, "resources": { "reserved_memory": 67108864u64 } } } } })
}

#[tokio::test]
async fn a_quota_holds_at_deploy_and_scale() {
    let world = World::new().await;
    let quota = json!({ "replicas": 3, "stacks": 1, "memory": 1u64 << 30 });
    world.ok("POST", "/v1/projects", Some(json!({ "name": "lab", "quota": quota }))).await;
    let stack = "/v1/projects/lab/stacks/shop";
    let (status, refused) = world.ask("PUT", stack, Some(plain(4))).await;
    assert_eq!((status, &refused["code"]), (409, &json!("quota_exceeded")), "{refused}");
    let details = refused["details"].to_string();
    assert!(details.contains("replicas: 4 would be used, 0 are used now, the limit is 3"), "{details}");
    world.ok("PUT", stack, Some(plain(2))).await;
    let scale = "/v1/projects/lab/stacks/shop/workloads/web/scale";
    assert_eq!(world.ask("POST", scale, Some(json!({ "replicas": 4 }))).await.0, 409);
    world.ok("POST", scale, Some(json!({ "replicas": 3 }))).await;
    let (status, refused) = world.ask("PUT", "/v1/projects/lab/stacks/blog", Some(plain(0))).await;
    assert_eq!(status, 409, "{refused}");
    assert!(refused["details"].to_string().contains("stacks"), "{refused}");
    let lab = world.get("/v1/projects/lab").await;
    assert_eq!((&lab["used"]["replicas"], &lab["used"]["stacks"]), (&json!(3), &json!(1)), "{lab}");
    assert_eq!(lab["used"]["memory"], 3 * 67108864u64);
    // Lowered under what is used: less is always allowed, more never.
    world.ok("PUT", "/v1/projects/lab/quota", Some(json!({ "quota": { "replicas": 1 } }))).await;
    assert_eq!(world.ask("POST", scale, Some(json!({ "replicas": 4 }))).await.0, 409);
    world.ok("POST", scale, Some(json!({ "replicas": 2 }))).await;
}

#[tokio::test]
async fn two_deployments_do_not_share_the_same_room() {
    let world = World::new().await;
    world.ok("POST", "/v1/projects", Some(json!({ "name": "lab", "quota": { "replicas": 3 } }))).await;
    let stacks: Vec<String> = (0..6).map(|n| format!("/v1/projects/lab/stacks/s{n}")).collect();
    let all = stacks.iter().map(|path| world.ask("PUT", path, Some(plain(1))));
    let statuses: Vec<u16> =
        futures::future::join_all(all).await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    assert_eq!(world.get("/v1/projects/lab").await["used"]["replicas"], 3);
}

#[tokio::test]
async fn a_project_is_made_before_it_is_used_and_empty_before_it_goes() {
    let world = World::new().await;
    let (status, refused) = world.ask("PUT", "/v1/projects/lab/stacks/shop", Some(plain(1))).await;
    assert_eq!((status, &refused["code"]), (404, &json!("not_found")), "{refused}");
    assert!(refused["hint"].as_str().unwrap().contains("lattice project create lab"), "{refused}");
    assert_eq!(world.ask("PUT", "/v1/projects/lab/secrets/x", Some(json!("v"))).await.0, 404);
    world.ok("POST", "/v1/projects", Some(json!({ "name": "lab" }))).await;
    assert_eq!(world.ask("POST", "/v1/projects", Some(json!({ "name": "lab" }))).await.0, 409);
    world.ok("PUT", "/v1/projects/lab/stacks/shop", Some(plain(1))).await;
    world.ok("PUT", "/v1/projects/lab/secrets/x", Some(json!("v"))).await;
    let token = world.api_token("developer@project/lab").await;
    let ada = world.session("ada", "developer@project/lab viewer").await;
    let (status, refused) = world.ask("DELETE", "/v1/projects/lab", None).await;
    assert_eq!(status, 409);
    assert!(refused["message"].as_str().unwrap().contains("1 stacks, 1 secrets"), "{refused}");
    world.ok("DELETE", "/v1/projects/lab/stacks/shop", None).await;
    world.ok("DELETE", "/v1/projects/lab/secrets/x", None).await;
    world.until("/v1/stacks", |list| list["items"] == json!([])).await;
    world.ok("DELETE", "/v1/projects/lab", None).await;
    // What was for it ends with it, so that its next namesake is nobody's.
    assert_eq!(world.as_bearer(&token, "GET", "/v1/status", None).await.0, 401);
    let (_, who) = world.as_bearer(&ada, "GET", "/v1/whoami", None).await;
    assert_eq!(who["roles"], json!(["viewer"]));
    assert_eq!(world.ask("DELETE", "/v1/projects/default", None).await.0, 409);
    assert_eq!(world.get("/v1/projects").await["items"].as_array().unwrap().len(), 1);
}
