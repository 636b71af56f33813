//! The client against a small real server on a Unix socket: what is sent, what is understood,
//! and what is refused.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use lattice_api::{
    ApproveNode, CHANNEL_STDERR, CHANNEL_STDIN, CHANNEL_STDOUT, DeleteNodeQuery, ErrorBody, ErrorCode,
    ExecClientMessage, ExecServerMessage, ExecStart, LogLine, LogQuery, LogRecord, LogStream as Stream,
    ObjectKind, TerminalSize, WatchEvent, WatchItem, WatchOp, WatchQuery, exec_frame,
};
use lattice_client::{ApiToken, Client, ClientError, Endpoint, ExecOutput};
use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_tungstenite::tungstenite::Message;

type Body = BoxBody<Bytes, Infallible>;

/// A server that answers every request with what `answer` makes of "METHOD path?query" and the body.
fn serve<F>(answer: F) -> (TempDir, Client)
where
    F: Fn(&Request<Incoming>, &str) -> Response<Body> + Send + Sync + 'static,
{
    let (dir, client, listener) = socket();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let mut request = Request::from_parts(parts, body);
                        let body = request.body_mut().collect().await.unwrap().to_bytes();
                        Ok::<_, Infallible>(answer(&request, std::str::from_utf8(&body).unwrap()))
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (dir, client)
}

fn socket() -> (TempDir, Client, UnixListener) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("lattice.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (dir, client_of(&path), listener)
}

fn client_of(path: &Path) -> Client {
    Client::new(Endpoint::Unix(path.to_owned()), Some(ApiToken::new("sesame").unwrap()))
}

fn full(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder().status(status).body(Full::new(body.into()).boxed()).unwrap()
}

/// An answer in chunks of `size` bytes.
fn chunked(text: String, size: usize) -> Response<Body> {
    let chunks: Vec<_> = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
    let frames = stream::iter(chunks.into_iter().map(|chunk| Ok(Frame::data(chunk))));
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

const STATUS: &str = r#"{
    "cluster_id": "6f9619ff-8b86-4011-b42d-00c04fc964ff", "name": "home", "version": "0.1.0",
    "incarnation": 1, "revision": 42, "ready": true, "started_at": 1000, "agent_addresses": ["10.0.0.1:7443"],
    "nodes": {"connected": 1, "disconnected": 0, "unknown": 0, "pending": 2, "rejected": 0, "quarantined": 0},
    "planner": {"behind": 0, "pending": 0}, "news_from_a_newer_server": true
}"#;

#[tokio::test]
async fn requests_carry_what_they_should() {
    let (_dir, client) = serve(|request, body| {
        assert_eq!(request.headers()["host"], "localhost");
        assert_eq!(request.headers()["authorization"], "Bearer sesame");
        match (request.method().as_str(), request.uri().to_string().as_str()) {
            ("GET", "/v1/status") => full(200, STATUS),
            ("POST", "/v1/nodes/my%20laptop/approve") => {
                assert_eq!(request.headers()["content-type"], "application/json");
                assert_eq!(body, r#"{"fingerprint":"ab"}"#);
                full(412, r#"{"code":"mismatch","message":"the key is another one","hint":"ask the owner"}"#)
            }
            ("DELETE", "/v1/nodes/old") => full(204, ""),
            ("GET", "/v1/events?after=7&limit=3&stack=default%2Fshop") => {
                full(200, r#"{"items":[],"revision":9}"#)
            }
            _ => full(404, r#"{"code":"not_found","message":"no such path"}"#),
        }
    });
    let status = client.status().await.unwrap();
    assert_eq!((status.name.as_str(), status.revision, status.nodes.pending), ("home", 42, 2));
    let approve = ApproveNode { fingerprint: Some("ab".into()), ..ApproveNode::default() };
    let error = client.approve_node("my laptop", &approve).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Mismatch));
    assert_eq!(error.to_string(), "the key is another one\nask the owner");
    client.delete_node("old", &DeleteNodeQuery::default()).await.unwrap();
    let query = lattice_api::EventQuery {
        after: Some(7),
        limit: Some(3),
        stack: Some("default/shop".into()),
        ..lattice_api::EventQuery::default()
    };
    assert_eq!(client.events(&query).await.unwrap().revision, 9);
    assert_eq!(client.whoami().await.unwrap_err().code(), Some(ErrorCode::NotFound));
}

#[tokio::test]
async fn what_is_not_an_answer_is_told() {
    let (dir, client) = serve(|request, _| match request.uri().path() {
        "/v1/status" => full(200, "<html>"),
        _ => full(502, "Bad Gateway"),
    });
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    let error = client.nodes().await.unwrap_err();
    assert!(error.to_string().contains("502"), "{error}");

    let gone = client_of(&dir.path().join("nobody.sock"));
    let error = gone.status().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert!(error.to_string().contains("nobody.sock; is `lattice up` running?"), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    let (_dir, client, _listener) = socket();
    let error = client.with_timeout(Duration::from_millis(50)).status().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn logs_are_read_whatever_the_chunks() {
    let lines = [
        LogLine::new(Stream::Stdout, None, "grün\n".as_bytes()),
        LogLine::new(Stream::Stderr, None, b"\xff\n"),
    ];
    let failed = LogRecord::Failed { error: ErrorBody::new(ErrorCode::NodeOffline, "the node left", "wait") };
    let mut text = String::new();
    for record in lines.clone().map(LogRecord::Line).into_iter().chain([failed]) {
        text.push_str(&serde_json::to_string(&record).unwrap());
        text.push('\n');
    }
    let (_dir, client) = serve(move |request, _| {
        let query = request.uri().query().unwrap();
        assert!(query.starts_with("follow=true&tail="), "{query}");
        let size = query.split(['=', '&']).nth(3).unwrap().parse().unwrap();
        chunked(text.clone(), size)
    });
    for size in [1, 2, 3, 7, 64, 4096] {
        let query = LogQuery { follow: true, tail: Some(size), ..LogQuery::default() };
        let mut logs = client.logs("abcd", &query).await.unwrap();
        for line in &lines {
            assert_eq!(&logs.next().await.unwrap().unwrap(), line);
        }
        let error = logs.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::NodeOffline));
        assert!(logs.next().await.is_none(), "an error is the last");
    }
}

#[tokio::test]
async fn a_watch_is_read_whatever_the_chunks() {
    let event = WatchEvent {
        revision: 8,
        kind: ObjectKind::Node,
        id: "n".into(),
        op: WatchOp::Put,
        object: Some(serde_json::json!({"name": "größer"})),
    };
    let text = format!(
        ": alive\n\nevent: change\nid: 8\ndata: {}\n\nevent: novelty\ndata: x\n\nevent: bookmark\ndata: {{\"revision\":9}}\n\n\
         event: error\ndata: {{\"code\":\"too_old\",\"message\":\"list again\"}}\n\n",
        serde_json::to_string(&event).unwrap()
    );
    let (_dir, client) = serve(move |request, _| {
        let query = request.uri().query().unwrap();
        let size = query.strip_prefix("from=").unwrap().split('&').next().unwrap().parse().unwrap();
        assert!(query.ends_with("&kinds=node%2Cevent"), "{query}");
        chunked(text.clone(), size)
    });
    for size in [1, 2, 5, 17, 4096] {
        let query = WatchQuery::of(Some(size), &[ObjectKind::Node, ObjectKind::Event]);
        let mut watch = client.watch(&query).await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap(), WatchItem::Change(event.clone()));
        assert!(matches!(watch.next().await, Some(Ok(WatchItem::Bookmark(b))) if b.revision == 9));
        let error = watch.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::TooOld));
        assert!(watch.next().await.is_none());
    }
}

#[tokio::test]
async fn a_command_runs_over_a_websocket() {
    let (_dir, client, listener) = socket();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let first = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let start: ExecStart = serde_json::from_str(&first).unwrap();
        assert_eq!(start.argv, ["cat"]);
        let mut echoed = 0;
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(data) => {
                    assert_eq!(data[0], CHANNEL_STDIN);
                    echoed += data.len() - 1;
                    socket
                        .send(Message::Binary(exec_frame(CHANNEL_STDOUT, &data[1..]).into()))
                        .await
                        .unwrap();
                }
                Message::Text(json) => match serde_json::from_str(&json).unwrap() {
                    ExecClientMessage::Resize { size } => assert_eq!(size, TerminalSize { cols: 9, rows: 8 }),
                    ExecClientMessage::StdinClosed => break,
                },
                other => panic!("{other:?}"),
            }
        }
        socket.send(Message::Binary(exec_frame(CHANNEL_STDERR, b"bye").into())).await.unwrap();
        let exit = serde_json::to_string(&ExecServerMessage::Exit { code: 3 }).unwrap();
        socket.send(Message::Text(exit.into())).await.unwrap();
        let _ = socket.close(None).await;
        echoed
    });
    let start = ExecStart { argv: vec!["cat".into()], stdin: true, ..ExecStart::default() };
    let (mut sender, mut receiver) = client.exec("abcd", &start).await.unwrap().split();
    let input = vec![7u8; 200_000];
    let expected = input.clone();
    let sending = tokio::spawn(async move {
        sender.resize(TerminalSize { cols: 9, rows: 8 }).await.unwrap();
        sender.stdin(&input).await.unwrap();
        sender.close_stdin().await.unwrap();
        sender
    });
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = loop {
        match receiver.next().await.unwrap() {
            ExecOutput::Stdout(data) => out.extend_from_slice(&data),
            ExecOutput::Stderr(data) => err.extend_from_slice(&data),
            ExecOutput::Exit(code) => break code,
        }
    };
    assert_eq!((code, out == expected, err.as_slice()), (3, true, &b"bye"[..]));
    sending.await.unwrap();
    assert_eq!(server.await.unwrap(), 200_000);
}

#[tokio::test]
async fn a_refused_command_says_why() {
    let (_dir, client) = serve(|_, _| full(503, r#"{"code":"node_offline","message":"laptop is asleep"}"#));
    let error = client.exec("abcd", &ExecStart::default()).await.err().unwrap();
    assert_eq!(error.code(), Some(ErrorCode::NodeOffline), "{error:?}");
}
