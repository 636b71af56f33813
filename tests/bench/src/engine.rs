//! Docker's API over its socket, as JSON goes over it: what the references do, and how a benchmark sees what happened.
//!
//! One connection per request, as the docker command and Lattice's own runtime do, so that both sides pay the same.
//! Bodies stay JSON: a reference makes its container from what the engine says about Lattice's, and typed models
//! would drop what they do not know.

use anyhow::{Context as _, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{net::UnixStream, sync::mpsc};

/// The engine's socket where nothing else is said.
const SOCKET: &str = "/var/run/docker.sock";
/// How long one call may take.
const CALL: Duration = Duration::from_secs(120);
/// Events that wait to be read; a benchmark has a few dozen in the air.
const EVENTS: usize = 4096;

/// A Docker engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
}

/// Nanoseconds since 1970, by the clock that dockerd on this machine also reads.
pub(crate) fn now() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_nanos() as i128)
}

/// Milliseconds from one instant of [`now`] to another.
pub(crate) fn millis(from: i128, to: i128) -> f64 {
    (to - from) as f64 / 1e6
}

/// Something that happened in the engine.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    /// `container`, `network`, …
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    /// `create`, `start`, …
    #[serde(rename = "Action")]
    pub(crate) action: String,
    /// What it happened to.
    #[serde(rename = "Actor")]
    pub(crate) actor: Actor,
    /// When, as in [`now`].
    #[serde(rename = "timeNano")]
    pub(crate) at: i128,
}

/// What an event happened to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Actor {
    /// The container's or network's id.
    #[serde(rename = "ID")]
    pub(crate) id: String,
    /// Labels, name and more.
    #[serde(rename = "Attributes", default)]
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Event {
    /// Whether it is this.
    pub(crate) fn is(&self, kind: &str, action: &str) -> bool {
        self.kind == kind && self.action == action
    }

    /// A label or another attribute.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.actor.attributes.get(name).map(String::as_str)
    }
}

/// Events as they come.
#[derive(Debug)]
pub(crate) struct Events {
    queue: mpsc::Receiver<Event>,
}

impl Events {
    /// All events up to and including the first that fits.
    ///
    /// # Errors
    /// When none comes within `limit`; `what` says what was waited for.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        fits: impl Fn(&Event) -> bool,
    ) -> anyhow::Result<Vec<Event>> {
        let mut seen = Vec::new();
        let wait = async {
            while let Some(event) = self.queue.recv().await {
                let found = fits(&event);
                seen.push(event);
                if found {
                    return Ok(());
                }
            }
            bail!("Docker's events ended while waiting for {what}")
        };
        match tokio::time::timeout(limit, wait).await {
            Ok(result) => result.map(|()| seen),
            Err(_) => bail!("{what} did not happen within {} s", limit.as_secs()),
        }
    }

    /// Forgets what has come so far.
    pub(crate) fn drain(&mut self) {
        while self.queue.try_recv().is_ok() {}
    }
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, where that is a local socket, else the usual one. Nothing is dialled.
    pub(crate) fn local() -> Self {
        let host = std::env::var("DOCKER_HOST").ok();
        let socket = host.as_deref().and_then(|host| host.strip_prefix("unix://")).unwrap_or(SOCKET);
        Self { socket: socket.into() }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!("Docker does not answer at {}; run: scripts/engine.sh", self.socket.display())
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(&method).uri(path).header("host", "engine");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let response = sender.send_request(request.body(Full::new(Bytes::from(bytes)))?).await?;
        let status = response.status();
        if status.is_success() || status == hyper::StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await?.to_bytes();
        let message = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|value| value["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
        bail!("Docker refused {method} {path}: {status}: {message}")
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let whole = async {
            let response = self.send(method, path, body).await?;
            let bytes = response.into_body().collect().await?.to_bytes();
            anyhow::Ok(if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? })
        };
        match tokio::time::timeout(CALL, whole).await {
            Ok(result) => result,
            Err(_) => bail!("Docker did not answer {path} within {} s", CALL.as_secs()),
        }
    }

    /// `GET`, so for every call here: its JSON answer, or what Docker said against it.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::DELETE, path, None).await
    }

    /// The image's id.
    pub(crate) async fn image(&self, name: &str) -> anyhow::Result<String> {
        let found = self.get(&format!("/images/{name}/json")).await;
        let found = found.with_context(|| format!("the image {name} is missing; run: scripts/images.sh"))?;
        text(&found, &["Id"])
    }

    /// Makes a container and answers its id.
    pub(crate) async fn create(&self, name: &str, body: &Value) -> anyhow::Result<String> {
        text(&self.post(&format!("/containers/create?name={name}"), Some(body)).await?, &["Id"])
    }

    pub(crate) async fn inspect(&self, id: &str) -> anyhow::Result<Value> {
        self.get(&format!("/containers/{id}/json")).await
    }

    /// When a container was started last, as in [`now`].
    pub(crate) async fn started_at(&self, id: &str) -> anyhow::Result<i128> {
        let found = self.inspect(id).await?;
        let started: jiff::Timestamp = text(&found, &["State", "StartedAt"])?.parse()?;
        Ok(started.as_nanosecond())
    }

    /// Removes a container as fast as Docker can.
    pub(crate) async fn remove(&self, id: &str) -> anyhow::Result<()> {
        self.delete(&format!("/containers/{id}?force=1&v=1")).await.map(drop)
    }

    /// Ids of the containers, or names of the networks or volumes (`kind`), that have this label (`key=value`).
    pub(crate) async fn labelled(&self, kind: &str, label: &str) -> anyhow::Result<Vec<String>> {
        let filters = query_value(&serde_json::json!({ "label": [label] }).to_string());
        let (path, key) = match kind {
            "containers" => ("containers/json?all=1&", "Id"),
            "networks" => ("networks?", "Id"),
            _ => ("volumes?", "Name"),
        };
        let found = self.get(&format!("/{path}filters={filters}")).await?;
        let items = found.get("Volumes").unwrap_or(&found).as_array().cloned().unwrap_or_default();
        Ok(items.iter().filter_map(|item| item[key].as_str().map(str::to_owned)).collect())
    }

    /// Removes all that has this label; what cannot be removed is said and left.
    pub(crate) async fn remove_labelled(&self, label: &str) {
        for kind in ["containers", "networks", "volumes"] {
            let found = match self.labelled(kind, label).await {
                Ok(found) => found,
                Err(error) => {
                    eprintln!("    cleaning: {error:#}");
                    return;
                }
            };
            for name in found {
                let query = if kind == "containers" { "?force=1&v=1" } else { "" };
                if let Err(error) = self.delete(&format!("/{kind}/{name}{query}")).await {
                    eprintln!("    cleaning: {error:#}");
                }
            }
        }
    }

    /// Everything that happens to containers and networks from now on.
    pub(crate) async fn events(&self) -> anyhow::Result<Events> {
        let filters = serde_json::json!({
            "type": ["container", "network"],
            "event": ["create", "connect", "start", "die", "destroy"],
        });
        // The engine answers before it subscribes; what happened since is asked for and comes too.
        let since = now() / 1_000_000_000;
        let path = format!("/events?since={since}&filters={}", query_value(&filters.to_string()));
        let mut body = self.send(Method::GET, &path, None).await?.into_body();
        let (sender, queue) = mpsc::channel(EVENTS);
        tokio::spawn(async move {
            let mut left = BytesMut::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                left.extend_from_slice(&data);
                while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
                    let line = left.split_to(end);
                    left.advance(1);
                    if let Ok(event) = serde_json::from_slice(&line)
                        && sender.send(event).await.is_err()
                    {
                        return;
                    }
                }
            }
        });
        Ok(Events { queue })
    }
}

/// A string somewhere in an answer.
pub(crate) fn text(value: &Value, path: &[&str]) -> anyhow::Result<String> {
    let found = path.iter().fold(value, |value, key| &value[*key]);
    found.as_str().map(str::to_owned).with_context(|| format!("Docker's answer lacks {}", path.join(".")))
}

fn query_value(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    let encode = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}
