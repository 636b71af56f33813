//! Who may use which route. The list names every route of the table: without credential it is 401, and
//! for a viewer of everything and for the developer of another project what stands here.

#![allow(clippy::unwrap_used)]

mod support;

use lattice_server::api::openapi;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::*;

/// What somebody gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// Through the guard: whatever the handler says, it is none of the others.
    In,
    /// 403: they may see it, and may not do this.
    Forbidden,
    /// 404: for them it does not exist.
    Nothing,
    /// Open to everybody, also without credential.
    Open,
}
use Gets::{Forbidden, In, Nothing, Open};

/// Every route: id, viewer of everything, developer of another project.
const GOLDEN: &[(&str, Gets, Gets)] = &[
    ("status", In, In),
    ("whoami", In, In),
    ("openapi", In, In),
    ("list_join_tokens", In, In),
    ("create_join_token", Forbidden, Forbidden),
    ("delete_join_token", Forbidden, Nothing),
    ("list_api_tokens", In, In),
    ("create_api_token", Forbidden, Forbidden),
    ("delete_api_token", Nothing, Nothing),
    ("login", Open, Open),
    ("logout", In, In),
    ("start_device_login", Open, Open),
    ("poll_device_login", Open, Open),
    ("decide_device_login", Forbidden, Forbidden),
    ("device_page", Open, Open),
    ("device_form", Open, Open),
    ("create_console_link", Forbidden, Forbidden),
    ("use_console_link", Open, Open),
    ("create_invite", Forbidden, Forbidden),
    ("accept_invite", Open, Open),
    ("invite_page", Open, Open),
    ("invite_form", Open, Open),
    ("list_users", In, In),
    ("create_user", Forbidden, Forbidden),
    ("get_user", Nothing, Nothing),
    ("delete_user", Forbidden, Forbidden),
    ("disable_user", Forbidden, Forbidden),
    ("enable_user", Forbidden, Forbidden),
    ("set_password", Nothing, Nothing),
    ("grant_roles", Forbidden, Forbidden),
    ("revoke_roles", Forbidden, Forbidden),
    ("end_sessions", Nothing, Nothing),
    ("list_projects", In, In),
    ("create_project", Forbidden, Forbidden),
    ("get_project", In, Nothing),
    ("delete_project", Forbidden, Nothing),
    ("set_quota", Forbidden, Nothing),
    ("list_nodes", In, In),
    ("list_ranking", In, In),
    ("get_node", In, Nothing),
    ("delete_node", Forbidden, Nothing),
    ("approve_node", Forbidden, Nothing),
    ("reject_node", Forbidden, Nothing),
    ("revoke_node", Forbidden, Nothing),
    ("cordon_node", Forbidden, Nothing),
    ("uncordon_node", Forbidden, Nothing),
    ("drain_node", Forbidden, Nothing),
    ("change_node", Forbidden, Nothing),
    ("preview_node", Forbidden, Nothing),
    ("list_pools", In, In),
    ("create_pool", Forbidden, Forbidden),
    ("get_pool", In, Nothing),
    ("change_pool", Forbidden, Nothing),
    ("preview_pool", Forbidden, Nothing),
    ("delete_pool", Forbidden, Nothing),
    ("get_rollout", In, Nothing),
    ("undo_rollout", Forbidden, Nothing),
    ("pause_rollout", Forbidden, Nothing),
    ("resume_rollout", Forbidden, Nothing),
    ("promote_rollout", Forbidden, Nothing),
    ("list_stacks", In, In),
    ("get_stack", In, Nothing),
    ("deploy_stack", Forbidden, Nothing),
    ("delete_stack", Forbidden, Nothing),
    ("list_workloads", In, In),
    ("get_workload", In, Nothing),
    ("explain_workload", In, Nothing),
    ("start_workload", Forbidden, Nothing),
    ("stop_workload", Forbidden, Nothing),
    ("read_compose", Forbidden, Nothing),
    ("restart_workload", Forbidden, Nothing),
    ("scale_workload", Forbidden, Nothing),
    ("list_alerts", In, In),
    ("list_job_runs", In, In),
    ("list_missed_runs", In, In),
    ("pause_schedule", Forbidden, Nothing),
    ("resume_schedule", Forbidden, Nothing),
    ("list_allocations", In, In),
    ("get_allocation", In, Nothing),
    ("logs", In, Nothing),
    ("exec", Forbidden, Nothing),
    ("run", Forbidden, Nothing),
    ("list_volumes", In, In),
    ("list_secrets", In, Nothing),
    ("set_secret", Forbidden, Nothing),
    ("delete_secret", Forbidden, Nothing),
    ("list_secret_versions", In, Nothing),
    ("rollback_secret", Forbidden, Nothing),
    ("rotate_key", Forbidden, Forbidden),
    ("has_tree", Forbidden, Nothing),
    ("put_tree", Forbidden, Nothing),
    ("has_layer", Forbidden, Nothing),
    ("put_layer", Forbidden, Nothing),
    ("list_images", In, Nothing),
    ("get_image", Forbidden, Nothing),
    ("put_image", Forbidden, Nothing),
    ("build_image", Forbidden, Nothing),
    ("list_events", In, In),
    ("get_event_chain", In, Nothing),
    ("list_audit", In, Forbidden),
    ("backup_status", In, Forbidden),
    ("create_backup", Forbidden, Forbidden),
    ("dump", Forbidden, Forbidden),
    ("watch", In, In),
];

/// Bodies of routes that learn from them what they are about.
fn body(id: &str) -> Option<Value> {
    Some(match id {
        "create_api_token" => json!({ "name": "more", "roles": ["admin"] }),
        "run" => json!({ "name": "x", "spec": { "image": "nginx" } }),
        "create_join_token" => json!({}),
        "decide_device_login" => json!({ "user_code": "BCDF-GHJK" }),
        "create_invite" => json!({ "user": "eve", "roles": ["admin"] }),
        "create_user" => json!({ "name": "eve", "roles": ["admin"], "password": "correct horse battery" }),
        "set_password" => json!({ "password": "correct horse battery" }),
        "grant_roles" | "revoke_roles" => json!({ "roles": ["admin"] }),
        "create_project" => json!({ "name": "more" }),
        "set_quota" => json!({ "quota": {} }),
        _ => return None,
    })
}

async fn allocation(world: &World) -> String {
    let list = world.until("/v1/allocations", |list| list["items"][0]["id"].is_string()).await;
    list["items"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_route_asks_who_and_whether() {
    let world = World::new().await;
    let (_agent, link) = world.node("n").await;
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    world.bytes("PUT", "/v1/projects/default/secrets/x", "value").await;
    let allocation = allocation(&world).await;
    // So that logs are asked of a node that is known to be away.
    drop(link);
    world.until("/v1/nodes/n", |node| node["presence"]["state"] == "disconnected").await;
    let join_token = world.get("/v1/join-tokens").await["items"][0]["id"].as_str().unwrap().to_owned();
    world.ok("POST", "/v1/users", Some(json!({ "name": "ada" }))).await;
    let viewer = world.api_token("viewer").await;
    let stranger = world.api_token("developer@project/other").await;
    let api_tokens = world.get("/v1/api-tokens").await;
    let joined = world.event("node.joined").await;
    let filled = |path: &str, user: &str| {
        let id = match path {
            _ if path.contains("/join-tokens/") => join_token.clone(),
            // The other one's.
            _ if path.contains("/api-tokens/") => {
                let other = api_tokens["items"].as_array().unwrap().iter();
                let other = other.filter(|token| token["roles"][0] != user).map(|token| &token["id"]);
                other.map(|id| id.as_str().unwrap().to_owned()).next().unwrap()
            }
            _ if path.contains("/events/") => joined["id"].to_string(),
            _ => allocation.clone(),
        };
        path.replace("{node}", "n")
            .replace("{pool}", "default")
            .replace("{id}", &id)
            .replace("{project}", "default")
            .replace("{user}", "ada")
            .replace("{stack}", "shop")
            .replace("{workload}", "web")
            .replace("{name}", "x")
            .replace("{digest}", &"00".repeat(32))
    };
    let mut golden: BTreeMap<&str, (Gets, Gets)> =
        GOLDEN.iter().map(|(id, viewer, stranger)| (*id, (*viewer, *stranger))).collect();
    assert_eq!(golden.len(), GOLDEN.len(), "a route stands twice in the list");
    for (method, path, id) in openapi::routes() {
        let (of_viewer, of_stranger) =
            golden.remove(id).unwrap_or_else(|| panic!("{id} ({method} {path}) has no line in GOLDEN"));
        let target = filled(path, "");
        let (status, answer) = world.tcp(&method, &target, &[]).await;
        if of_viewer == Open {
            assert_eq!(of_stranger, Open);
            // Through to the handler, which misses its body; and nobody becomes known that way.
            assert!([200, 400, 415, 422].contains(&status), "{method} {path}: {status} {answer}");
            continue;
        }
        // An answer to HEAD has no body.
        let code = if method == "HEAD" { Value::Null } else { json!("unauthenticated") };
        assert_eq!((status, &answer["code"]), (401, &code), "{method} {path}");
        let (status, _) = world.tcp(&method, &target, &[("authorization", "Bearer lap1_forged")]).await;
        assert_eq!(status, 401, "{method} {path}");
        for (who, role, token, expected) in [
            ("viewer", "viewer", &viewer, of_viewer),
            ("developer of another project", "developer@project/other", &stranger, of_stranger),
        ] {
            let target = filled(path, role);
            let (status, answer) = if id == "watch" {
                let (status, text) = stream_as(&world, token, &target, |_| true).await;
                (status, Value::String(text))
            } else {
                world.as_bearer(token, &method, &target, body(id)).await
            };
            let got = match status {
                401 => panic!("{who} is not known: {method} {path}: {answer}"),
                403 => Forbidden,
                404 => Nothing,
                _ => In,
            };
            assert_eq!(got, expected, "{who}: {method} {path}: {status} {answer}");
        }
    }
    assert!(golden.is_empty(), "no such routes: {golden:?}");
    let audit = world.get("/v1/audit?limit=1000").await.to_string();
    assert!(audit.contains("denied"), "{audit}");
}

#[tokio::test]
async fn the_document_names_every_route() {
    let document: Value = serde_json::from_str(&openapi::DOCUMENT).unwrap();
    let mut documented = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        documented += item.as_object().unwrap().len();
        assert!(lattice_api::paths::ALL.contains(&path.as_str()), "{path}");
    }
    let routes = openapi::routes();
    assert_eq!(routes.len(), documented);
    for path in lattice_api::paths::ALL {
        assert!(routes.iter().any(|(_, known, _)| known == path), "{path} is promised and not there");
    }
}

#[tokio::test]
async fn a_listing_has_what_its_reader_may_see() {
    let world = World::new().await;
    let (_agent, _link) = world.node("n").await;
    let from = world.get("/v1/stacks").await["revision"].as_u64().unwrap();
    world.ok("PUT", SHOP, Some(web("nginx"))).await;
    world.ok("PUT", "/v1/projects/default/stacks/blog", Some(web("nginx"))).await;
    allocation(&world).await;
    let own = world.api_token("developer@project/default").await;
    let other = world.api_token("developer@project/other viewer@pool/default").await;
    for (path, seen) in [
        ("/v1/stacks", 2),
        ("/v1/workloads", 2),
        ("/v1/volumes", 2),
        ("/v1/allocations", 2),
        ("/v1/nodes", 0),
    ] {
        world.until(path, |list| list["items"].as_array().unwrap().len() >= seen).await;
        let (status, list) = world.as_bearer(&own, "GET", path, None).await;
        assert_eq!((status, list["items"].as_array().unwrap().len()), (200, seen), "{path}: {list}");
        let (status, list) = world.as_bearer(&other, "GET", path, None).await;
        let nodes = usize::from(path == "/v1/nodes");
        assert_eq!((status, list["items"].as_array().unwrap().len()), (200, nodes), "{path}: {list}");
    }
    let (_, events) = world.as_bearer(&other, "GET", "/v1/events", None).await;
    assert!(!events.to_string().contains("shop") && events.to_string().contains("node.joined"), "{events}");
    // A watch from before it all: of the node they hear, of the stacks not a word.
    world.ok("POST", "/v1/nodes/n/cordon", None).await;
    let path = format!("/v1/watch?from={from}");
    let (_, text) = stream_as(&world, &other, &path, |text| text.contains("node.cordoned")).await;
    assert!(!text.contains("shop") && !text.contains("nginx"), "{text}");
    let (_, text) = stream_as(&world, &own, &path, |text| text.contains("\"kind\":\"allocation\"")).await;
    assert!(text.contains("shop") && !text.contains("\"kind\":\"node\""), "{text}");
}

#[tokio::test]
async fn a_deleted_token_ends_its_streams_at_once() {
    let world = World::new().await;
    let token = world.api_token("viewer").await;
    let id = world.get("/v1/api-tokens").await["items"][0]["id"].as_str().unwrap().to_owned();
    let (mut asked, path) = (false, format!("/v1/api-tokens/{id}"));
    let watching = stream_as(&world, &token, "/v1/watch?from=0", |text| {
        asked |= !text.is_empty();
        text.contains("event: error") || text.contains("event:error")
    });
    let (deleted, (status, text)) = tokio::join!(world.ok("DELETE", &path, None), watching);
    assert_eq!(deleted, Value::String(String::new()));
    // Either the watch was cut, or it came too late to begin.
    assert!(status == 401 || (status == 200 && text.contains("unauthenticated")), "{status} {text}");
    assert_eq!(world.as_bearer(&token, "GET", "/v1/status", None).await.0, 401);
}

#[tokio::test]
async fn streams_of_one_credential_are_bounded() {
    let world = World::new().await;
    let token = world.api_token("viewer").await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let address = world.server().api_addr();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head =
            format!("GET /v1/watch HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
        let mut answer = [0; 15];
        soon("an answer", tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        open.push(stream);
    }
    let (status, answer) = world.as_bearer(&token, "GET", "/v1/watch", None).await;
    assert_eq!((status, &answer["code"]), (429, &json!("too_many_requests")), "{answer}");
    assert!(answer["retry_after_ms"].is_number());
    // Others, and requests that end, are not in their way.
    assert_eq!(world.as_bearer(&token, "GET", "/v1/status", None).await.0, 200);
    let another = world.api_token("viewer").await;
    assert_eq!(stream_as(&world, &another, "/v1/watch", |_| true).await.0, 200);
    open.pop();
    loop {
        if stream_as(&world, &token, "/v1/watch", |_| true).await.0 == 200 {
            break;
        }
    }
}
