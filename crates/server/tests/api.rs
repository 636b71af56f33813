//! The API as strangers see it: credentials, hosts, bad input, watches, the document.

#![allow(clippy::unwrap_used)]

mod support;

use http_body_util::BodyExt;
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use lattice_server::{Server, ServerError, api::openapi};
use serde_json::{Value, json};
use std::path::Path;
use support::*;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn only_own_hosts_and_origins_come_in() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.api_token("admin").await);
    let port = world.server().api_addr().port();
    let auth = ("authorization", token.as_str());
    for host in [
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        format!("127.0.0.1:{port}"),
        "localhost".into(),
    ] {
        assert_eq!(world.tcp("GET", "/v1/status", &[("host", &host), auth]).await.0, 200, "{host}");
    }
    for host in ["evil.example", "localhost:1", "127.0.0.1.evil.example", "localhost.evil.example:80"] {
        let (status, body) = world.tcp("GET", "/v1/status", &[("host", host), auth]).await;
        assert_eq!((status, &body["code"]), (403, &json!("forbidden")), "{host}");
        assert!(!body["hint"].as_str().unwrap().is_empty());
    }
    let own = format!("http://127.0.0.1:{port}");
    assert_eq!(world.tcp("GET", "/v1/status", &[("origin", &own), auth]).await.0, 200);
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        assert_eq!(world.tcp("GET", "/v1/status", &[("origin", origin), auth]).await.0, 403, "{origin}");
    }
}

#[tokio::test]
async fn bad_input_is_answered_with_what_to_do() {
    let world = World::new().await;
    for (method, path, body, status, code) in [
        ("GET", "/v1/nowhere", None, 404, "not_found"),
        ("POST", "/v1/status", None, 405, "method_not_allowed"),
        ("GET", "/v1/nodes/nobody", None, 404, "not_found"),
        ("GET", "/v1/events?limit=many", None, 400, "invalid_request"),
        ("GET", "/v1/events?colour=red", None, 400, "invalid_request"),
        ("GET", "/v1/watch?kinds=car", None, 400, "invalid_request"),
        ("GET", "/v1/status?min_revision=x", None, 400, "invalid_request"),
        ("PUT", "/v1/projects/default/stacks/-bad", Some(web("nginx")), 400, "invalid_request"),
        (
            "PUT",
            SHOP,
            Some(json!({ "spec": { "workloads": {}, "privileged": true } })),
            400,
            "invalid_request",
        ),
        ("PUT", SHOP, Some(json!({ "spec": { "workloads": {} } })), 422, "invalid_spec"),
        (
            "PUT",
            SHOP,
            Some(json!({ "spec": { "workloads": { "web": { "image": "x", "privileged": true } } } })),
            400,
            "invalid_request",
        ),
        ("POST", "/v1/join-tokens", Some(json!({ "uses": 0 })), 400, "invalid_request"),
        ("POST", "/v1/join-tokens", Some(json!({ "description": "x".repeat(300_000) })), 413, "too_large"),
        ("POST", "/v1/projects/default/stacks/shop/workloads/web/stop", None, 404, "not_found"),
        ("GET", "/v1/allocations/00000000/logs", None, 404, "not_found"),
        ("DELETE", "/v1/join-tokens/nonsense", None, 400, "invalid_request"),
    ] {
        let (got, answer) = world.ask(method, path, body).await;
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{method} {path}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        assert!(answer["hint"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {answer}");
    }
    assert_eq!(world.get("/v1/stacks").await["items"], json!([]));
}

/// Reads server-sent events until one has this name; gives its data.
async fn next_event(
    body: &mut (impl hyper::body::Body<Data = Bytes, Error = hyper::Error> + Unpin),
    text: &mut String,
    name: &str,
) -> Value {
    loop {
        while let Some((event, rest)) = text.clone().split_once("\n\n") {
            *text = rest.to_owned();
            let field = |name: &str| {
                event
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::trim)
                    .unwrap_or_default()
                    .to_owned()
            };
            if field("event:") == name {
                return serde_json::from_str(&field("data:")).unwrap();
            }
        }
        let frame = soon("an event", body.frame()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
}

#[tokio::test]
async fn a_watch_goes_on_where_it_was() {
    let world = World::new().await;
    let from = world.get("/v1/stacks").await["revision"].as_u64().unwrap();
    world.ok("PUT", SHOP, Some(web("nginx:1"))).await;
    world.ok("PUT", SHOP, Some(web("nginx:2"))).await;
    let watch = async |from: u64| {
        let stream = tokio::net::UnixStream::connect(world.server().socket()).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request =
            Request::builder().uri(format!("/v1/watch?kinds=stack&from={from}")).header("host", "x");
        let response =
            sender.send_request(request.body(http_body_util::Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body()
    };
    let (mut body, mut text) = (watch(from).await, String::new());
    let first = next_event(&mut body, &mut text, "change").await;
    let second = next_event(&mut body, &mut text, "change").await;
    assert_eq!(
        (&first["kind"], &first["id"], &first["op"]),
        (&json!("stack"), &json!("default/shop"), &json!("put"))
    );
    assert!(first["revision"].as_u64() < second["revision"].as_u64());
    let (mut body, mut text) = (watch(first["revision"].as_u64().unwrap()).await, String::new());
    // Nothing of before comes again, and nothing is left out; what only hangs on the stack may come in between.
    loop {
        let change = next_event(&mut body, &mut text, "change").await;
        assert!(change["revision"].as_u64() > first["revision"].as_u64(), "{change:#}");
        if change["revision"] == second["revision"] {
            break;
        }
        assert!(change["revision"].as_u64() < second["revision"].as_u64(), "{change:#}");
    }
    // Without a node the stack has nothing to remove, and goes.
    world.ok("DELETE", SHOP, None).await;
    loop {
        let change = next_event(&mut body, &mut text, "change").await;
        if change["op"] == "delete" {
            break;
        }
    }
    let (status, answer) = world.ask("GET", "/v1/watch?from=999999", None).await;
    assert_eq!((status, &answer["code"]), (410, &json!("too_old")));
}

#[tokio::test]
async fn two_servers_and_taken_ports_are_told() {
    let mut world = World::new().await;
    let start = |config| async { Server::start(config, CancellationToken::new()).await.map(drop) };
    let error = start(config(world.home.path())).await.unwrap_err();
    assert!(matches!(error, ServerError::Open(_)), "{error}");
    let other = tempfile::tempdir().unwrap();
    let taken =
        lattice_server::ServerConfig { agent_listen: world.server().agent_addr(), ..config(other.path()) };
    let error = start(taken).await.unwrap_err();
    assert!(matches!(error, ServerError::Listen { .. }), "{error}");
    let file = other.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = start(config(&file.join("home"))).await.unwrap_err();
    assert!(matches!(error, ServerError::Home { .. }), "{error}");
    // The first one is unharmed, and its home is free when it is down.
    assert_eq!(world.get("/v1/status").await["ready"], true);
    world.stop().await;
    let began = std::time::Instant::now();
    let again = Server::start(config(world.home.path()), CancellationToken::new()).await.unwrap();
    println!("ready after {:?}", began.elapsed());
    again.shutdown();
    soon("the end", again.wait()).await;
}

#[test]
fn the_document_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, openapi::DOCUMENT.as_str()).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == *openapi::DOCUMENT,
        "api/openapi.json is not what the server says; if that is meant, run: UPDATE_OPENAPI=1 cargo nextest run -p lattice-server document"
    );
}
