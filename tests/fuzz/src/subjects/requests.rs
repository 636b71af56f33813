//! Requests to a real server that has a node: each is answered within its time and never with a 5xx, and what is
//! refused says why, whatever was asked before it.

use crate::{
    Blob, Draw, Subject, json,
    schema::{OPERATIONS, Operation, value},
    text,
    world::{Answer, WORLD},
};
use hyper::Request;
use lattice_api::ErrorBody;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{fmt::Write as _, time::Duration};

/// Requests, one after the other.
#[derive(Debug, Serialize, Deserialize)]
pub struct Requests(Vec<Ask>);

/// One request.
#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    method: String,
    /// With its query; `$id` stands for the last id that an answer named.
    target: String,
    headers: Vec<(String, Blob)>,
    body: Blob,
}

impl Subject for Requests {
    const NAME: &'static str = "requests";
    /// Of the client alone: the server has threads of its own.
    const MOST: Duration = Duration::from_secs(5);

    fn draw(draw: &mut dyn Draw) -> Self {
        let count = draw.between(1, 5);
        Self((0..count).map(|_| ask(draw)).collect())
    }

    fn check(&self) -> Result<(), String> {
        let mut id = "00000000-0000-7000-8000-000000000000".to_owned();
        for ask in &self.0 {
            let target = ask.target.replace("$id", &id);
            let mut request =
                Request::builder().method(ask.method.as_bytes()).uri(&target).header("host", "lattice");
            for (name, value) in &ask.headers {
                request = request.header(name, value.0.as_slice());
            }
            // What is no HTTP reaches no server.
            let Ok(request) = request.body(ask.body.0.clone()) else { continue };
            let answer = WORLD.ask(request).map_err(|error| format!("{} {target}: {error:#}", ask.method))?;
            sound(&ask.method, &answer).map_err(|problem| {
                format!(
                    "{} {target}: {} {problem}: {}",
                    ask.method,
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                )
            })?;
            if let Ok(body) = serde_json::from_slice::<Value>(&answer.body)
                && let Some(found) = find_id(&body)
            {
                id = found;
            }
        }
        Ok(())
    }
}

fn sound(method: &str, answer: &Answer) -> Result<(), String> {
    let json = answer.content_type.starts_with("application/json") && method != "HEAD";
    match answer.status {
        500.. => Err("the server says that it is its own fault".to_owned()),
        400.. if json => match serde_json::from_slice::<ErrorBody>(&answer.body) {
            Ok(body) if body.message.trim().is_empty() => Err("a refusal without a word".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("a refusal that no client reads ({error})")),
        },
        200..300 if json && answer.body.len() < (1 << 20) => {
            match serde_json::from_slice::<Value>(&answer.body) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("an answer that is no JSON ({error})")),
            }
        }
        _ => Ok(()),
    }
}

/// The first id in an answer, as the next request may want to name it.
fn find_id(body: &Value) -> Option<String> {
    match body {
        Value::Object(map) => match map.get("id").and_then(Value::as_str) {
            Some(id) => Some(id.to_owned()),
            None => map.values().find_map(find_id),
        },
        Value::Array(items) => items.iter().find_map(find_id),
        _ => None,
    }
}

fn ask(draw: &mut dyn Draw) -> Ask {
    // Every fourth deploys something, so that the others find it.
    let deploy = || {
        OPERATIONS
            .iter()
            .find(|operation| operation.method == "PUT" && operation.path.ends_with("/stacks/{stack}"))
    };
    let chosen = draw.of(&OPERATIONS);
    let operation = if draw.one_in(4) { deploy().unwrap_or(chosen) } else { chosen };
    let (kind, body) = body(draw, operation);
    let mut headers = Vec::new();
    if !body.is_empty() || draw.one_in(4) {
        let others = [
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=latin1",
            "",
        ];
        let kind = if draw.one_in(12) { *draw.of(&others) } else { kind.as_str() };
        headers.push(("content-type".to_owned(), Blob::from(kind)));
    }
    if operation.path.ends_with("/exec") && draw.one_in(2) {
        for (name, value) in [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.push((name.to_owned(), Blob::from(value)));
        }
    }
    if draw.one_in(8) {
        let names = [
            "authorization",
            "origin",
            "cookie",
            "accept",
            "x-request-id",
            "idempotency-key",
            "if-match",
            "last-event-id",
            "range",
            "x-forwarded-for",
        ];
        let mut value = (*draw.of(&[
            "Bearer lap1_AAAA",
            "http://evil.example",
            "lattice_session=x",
            "1",
            "*",
            "bytes=0-",
        ]))
        .as_bytes()
        .to_vec();
        text::alter(draw, &mut value, &[]);
        headers.push(((*draw.of(&names)).to_owned(), Blob(value)));
    }
    let target = target(draw, operation, &body);
    let method = if draw.one_in(40) {
        (*draw.of(&["GET", "POST", "PATCH", "OPTIONS", "HEAD", "TRACE", "x"])).to_owned()
    } else {
        operation.method.clone()
    };
    Ask { method, target, headers, body: Blob(body) }
}

fn body(draw: &mut dyn Draw, operation: &Operation) -> (String, Vec<u8>) {
    let Some((kind, schema)) = &operation.body else {
        let body = if draw.one_in(20) { b"{}".to_vec() } else { Vec::new() };
        return ("application/json".to_owned(), body);
    };
    let mut body = match schema {
        Some(schema) => {
            let mut document = value(draw, schema, 0);
            if draw.one_in(2) {
                json::alter(draw, &mut document, &[]);
            }
            document.to_string().into_bytes()
        }
        None if kind.ends_with("urlencoded") => {
            b"code=BCDF-GHJK&token=lai1_AAAA&password=correct+horse+battery&name=ada&decision=approve"
                .to_vec()
        }
        None if kind.ends_with("x-tar") => vec![0; *draw.of(&[0, 512, 1024, 1536])],
        None => draw.bytes(40),
    };
    if draw.one_in(8) {
        text::alter(draw, &mut body, &[]);
    }
    (kind.clone(), body)
}

fn target(draw: &mut dyn Draw, operation: &Operation, body: &[u8]) -> String {
    let mut target = String::new();
    for part in operation.path.split('/').skip(1) {
        target.push('/');
        match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            None => target.push_str(part),
            Some(_) if draw.one_in(10) => escape(&mut target, &odd(draw)),
            Some("digest") => drop(write!(target, "{}", hex(&Sha256::digest(body)))),
            Some("id") => target.push_str("$id"),
            Some(name) => {
                let words: &[&str] = match name {
                    "project" => &["default", "default", "other"],
                    "stack" => &["shop", "blog"],
                    "workload" => &["web", "app", "db"],
                    "node" => &["fuzz-node", "fuzz-node", "other"],
                    "user" => &["ada", "bob", "admin"],
                    _ => &["data", "password", "gpu", "default", "1"],
                };
                target.push_str(draw.of::<&str>(words));
            }
        }
    }
    let mut separator = '?';
    for (name, kind) in &operation.query {
        if draw.one_in(2) {
            let value = match kind.as_str() {
                "integer" if draw.below(2) == 0 => draw.below(20).to_string(),
                "integer" => (*draw.of(text::NUMBERS)).to_owned(),
                "boolean" => draw.below(2).eq(&1).to_string(),
                _ => odd(draw),
            };
            let _ = write!(target, "{separator}{name}=");
            escape(&mut target, &value);
            separator = '&';
        }
    }
    if draw.one_in(16) {
        let _ = write!(target, "{separator}");
        escape(&mut target, &odd(draw));
        target.push_str("=%zz&=&&a=b");
    }
    target
}

fn odd(draw: &mut dyn Draw) -> String {
    let mut word = json::word(draw).into_bytes();
    if draw.one_in(2) {
        text::alter(draw, &mut word, &[]);
    }
    word.truncate(2000);
    String::from_utf8_lossy(&word).into_owned()
}

/// As it stands in a URL.
fn escape(target: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                target.push(char::from(byte))
            }
            other => drop(write!(target, "%{other:02X}")),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
