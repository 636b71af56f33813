//! An engine that is somebody's workshop: ten thousand containers that are not ours, and one that trickles. It is
//! played by a socket, as making so many takes an engine an hour; that real engines filter by label is shown by
//! the conformance suite.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use futures::StreamExt as _;
use lattice_model::{Duration, NodeId};
use lattice_runtime::{EngineEventKind, PullProgress, Runtime as _, RuntimeError, docker::Docker};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration as Span, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::watch,
    time::{sleep, timeout},
};

const FOREIGN: usize = 10_000;
const OURS: usize = 3;

/// What the engine was asked, and how many bytes it said.
#[derive(Default)]
struct Heard {
    asked: Vec<String>,
    said: usize,
}

struct Crowded {
    docker: Docker,
    heard: Arc<Mutex<Heard>>,
    _folder: tempfile::TempDir,
}

fn node() -> NodeId {
    NodeId::from_random(7)
}

impl Crowded {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let its = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&its)));
            }
        });
        let docker = Docker::new(path.to_str().unwrap()).unwrap();
        Self { docker, heard, _folder: folder }
    }
}

/// All that somebody's engine has, or what a filter by label lets through.
fn containers(wanted: Option<&str>) -> Vec<Value> {
    let ours = format!("lattice.node={}", node());
    let one = |n: usize, labels: Value| {
        json!({"Id": format!("{n:064x}"), "Names": [format!("/c{n}")], "Image": "somebody/thing:1", "State": "running",
               "Status": "Up 3 days", "Labels": labels})
    };
    let foreign = (0..FOREIGN).filter(|_| wanted.is_none_or(|label| !ours.starts_with(label)));
    let all = foreign.map(|n| one(n, json!({"com.docker.compose.project": "theirs"})));
    all.chain((0..OURS).map(|n| one(FOREIGN + n, json!({"lattice.node": node().to_string()})))).collect()
}

async fn serve(mut stream: UnixStream, heard: Arc<Mutex<Heard>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let path = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
    heard.lock().asked.push(path.clone());
    let plain = percent(&path);
    let label = plain.split("lattice.node").nth(1).map(|rest| rest.split('"').next().unwrap_or_default());
    let label = label.map(|rest| format!("lattice.node{rest}"));
    let body = if path.contains("/containers/json") {
        json!(containers(label.as_deref()))
    } else if path.contains("/containers/") {
        let id = path.split('/').find(|part| part.len() == 64).unwrap_or_default().to_owned();
        json!({"Id": id, "Name": "/ours", "Image": "sha256:1", "State": {"Status": "running", "Running": true},
               "Config": {"Labels": {"lattice.node": node().to_string()}}})
    } else if path.contains("/networks") {
        json!([])
    } else if path.contains("/volumes") {
        json!({"Volumes": [], "Warnings": []})
    } else if path.contains("/events") {
        return events(stream, label.is_some(), heard).await;
    } else if path.contains("/images/create") {
        return trickle(stream).await;
    } else {
        json!({"SystemTime": "2026-01-01T00:00:00Z"})
    };
    let body = body.to_string();
    heard.lock().said += body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nApi-Version: 1.41\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn percent(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| u8::from_str_radix(&path[at + 1..at + 3], 16).unwrap());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap()
}

async fn piece(stream: &mut UnixStream, line: &str) -> bool {
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    stream.write_all(chunk.as_bytes()).await.is_ok()
}

const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Somebody's containers die and start all the time; who filters hears of ours alone, one.
async fn events(mut stream: UnixStream, filtered: bool, heard: Arc<Mutex<Heard>>) {
    let _ = stream.write_all(STREAM).await;
    let event = |id: usize, node: &str| {
        json!({"Type": "container", "Action": "die", "time": 1, "timeNano": 1_000_000_000,
               "Actor": {"ID": format!("{id:064x}"), "Attributes": {"lattice.node": node, "exitCode": "1"}}})
        .to_string()
            + "\n"
    };
    for n in 0..if filtered { 0 } else { FOREIGN } {
        let line = event(n, "");
        heard.lock().said += line.len();
        if !piece(&mut stream, &line).await {
            return;
        }
    }
    let line = event(FOREIGN, &node().to_string());
    heard.lock().said += line.len();
    piece(&mut stream, &line).await;
    std::future::pending().await
}

/// A layer that comes by the byte, which the engine tells each time.
async fn trickle(mut stream: UnixStream) {
    let _ = stream.write_all(STREAM).await;
    for current in 1.. {
        let line = json!({"id": "0123456789ab", "status": "Downloading",
                          "progressDetail": {"current": current, "total": 8 << 20}});
        if !piece(&mut stream, &format!("{line}\r\n")).await {
            return;
        }
        sleep(Span::from_millis(100)).await;
    }
}

/// What a listing costs does not grow with what is not ours, and events of it never come here.
#[tokio::test]
async fn what_others_run_costs_nothing() {
    let engine = Crowded::start();
    assert_eq!(containers(None).len(), FOREIGN + OURS);
    let found = engine.docker.list(node()).await.unwrap();
    assert_eq!(found.len(), OURS, "{found:?}");
    assert!(engine.docker.list_networks(node()).await.unwrap().is_empty());
    assert!(engine.docker.list_volumes(node()).await.unwrap().is_empty());
    let mut events = engine.docker.events(node()).await.unwrap();
    let first = timeout(Span::from_secs(30), events.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(first.kind, EngineEventKind::Died { .. }), "{first:?}");
    assert_eq!(first.id.0, format!("{FOREIGN:064x}"), "the first that comes is ours");
    let heard = engine.heard.lock();
    assert!(heard.said < 8 << 10, "{} bytes for {OURS} containers", heard.said);
    let listings = ["/containers/json", "/networks", "/volumes", "/events"];
    for asked in heard.asked.iter().filter(|path| listings.iter().any(|list| path.contains(list))) {
        let filter = format!("lattice.node={}", node());
        assert!(percent(asked).contains(&filter), "unfiltered: {asked}");
    }
    assert!(heard.asked.len() < 15, "{:#?}", heard.asked);
}

#[tokio::test]
async fn a_registry_that_trickles_is_given_up() {
    let engine = Crowded::start();
    let begun = Instant::now();
    let docker = engine.docker.clone().with_pull_silence(Duration::from_secs(2));
    let pull = docker.pull("r.example/a:1", None, None, watch::channel(PullProgress::default()).0).await;
    match pull.unwrap_err() {
        RuntimeError::RegistryUnreachable { image, message } => {
            assert_eq!(image, "r.example/a:1");
            assert!(message.contains("its registry gave"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Span::from_secs(30));
}
