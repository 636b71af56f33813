//! Images that are built by the engine itself, and what is left of builds.
//!
//! The engine's own builder (`version=1`) is used, which every engine from 20.10 on has and drives by one call.
//! Rejected: BuildKit over this API, which wants a session with the caller and gives its steps a network of its own,
//! outside of the networks that are closed to the owner's; BuildKit in a container, which needs privileges that
//! nothing here may have, and an image that would have to be fetched.
//!
//! A build takes no limit on processes, so each step's container gets one as soon as it is seen; it is made by the
//! engine a moment before it runs.

use super::{
    client::{Docker, QUICK, SLOW},
    fault::{fault, unreachable},
    files::complaint,
    stream::body_bytes,
    wire::query_value,
};
use crate::{
    checks::checked,
    error::{Result, RuntimeError},
    port::{BuildConfig, BuildLeft, BuildNews, Runtime as _},
};
use bollard::{body_try_stream, errors::Error};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream::BoxStream};
use http::{Method, Request, header};
use lattice_model::{
    NodeId,
    container::{ContainerId, LABEL_BUILD, LABEL_NODE},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    time::Duration,
};
use tokio::task::JoinHandle;

/// Between two looks for new steps.
const LOOK: Duration = Duration::from_millis(100);
/// The processor's period, in microseconds.
const PERIOD: u64 = 100_000;
/// The longest line of the engine's.
const MAX_LINE: usize = 1 << 20;
/// How often the images that builds left are gone through: a parent goes when its children have gone.
const PASSES: usize = 150;

/// Ends a task when it is dropped.
struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn path_of(config: &BuildConfig) -> Result<String> {
    let BuildConfig {
        node: _,
        dockerfile,
        target,
        args,
        labels,
        platform,
        network,
        extra_hosts,
        cpu,
        memory,
        pids: _,
        shm,
        no_cache,
    } = config;
    let network = network.as_deref().map_or(Ok("none"), |name| checked("network", name))?;
    let quota = (u64::from(cpu.0) * PERIOD / 1000).max(1000);
    let mut path = format!(
        "/build?version=1&rm=1&forcerm=1&networkmode={network}&memory={memory}&memswap={memory}&cpuperiod={PERIOD}\
         &cpuquota={quota}&nocache={}&dockerfile={}&buildargs={}&labels={}",
        u8::from(*no_cache),
        query_value(dockerfile),
        query_value(&json!(args).to_string()),
        query_value(&json!(labels).to_string()),
        memory = memory.0,
    );
    for (name, value) in [("target", target), ("platform", platform)] {
        if let Some(value) = value {
            path += &format!("&{name}={}", query_value(value));
        }
    }
    if let Some(shm) = shm {
        path += &format!("&shmsize={}", shm.0);
    }
    for host in extra_hosts {
        path += &format!("&extrahosts={}", query_value(host));
    }
    Ok(path)
}

struct State {
    body: BoxStream<'static, io::Result<Bytes>>,
    buffer: BytesMut,
    ready: VecDeque<BuildNews>,
    socket: String,
    _watch: Watch,
}

pub(super) async fn build(
    engine: &Docker,
    config: &BuildConfig,
    context: BoxStream<'static, io::Result<Bytes>>,
) -> Result<BoxStream<'static, Result<BuildNews>>> {
    let path = path_of(config)?;
    let request = Request::builder().method(Method::POST).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/x-tar");
    let socket = engine.wire().socket().to_owned();
    let watch = Watch(tokio::spawn(hold(engine.clone(), config.node, config.network.clone(), config.pids)));
    let call = async { engine.wire().send(request.body(body_try_stream(context))?).await };
    let response = match call.await {
        Ok(response) => response,
        Err(error) => return Err(fault(error, &socket, "a build")),
    };
    if !response.status().is_success() {
        return match complaint(response).await {
            // The Dockerfile is none.
            Error::DockerResponseServerError { status_code: 400, message } => {
                Ok(futures::stream::iter([Ok(BuildNews::Failed { code: None, message })]).boxed())
            }
            error => Err(fault(error, &socket, "a build")),
        };
    }
    let body = body_bytes(response.into_body());
    let state = State { body, buffer: BytesMut::new(), ready: VecDeque::new(), socket, _watch: watch };
    let news = futures::stream::unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            if let Some(news) = state.ready.pop_front() {
                return Some((Ok(news), Some(state)));
            }
            match state.body.next().await {
                Some(Ok(bytes)) => state.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Some((Err(unreachable(&error, &state.socket)), None)),
                None => return None,
            }
            while let Some(end) = state.buffer.iter().position(|byte| *byte == b'\n') {
                let line = state.buffer.split_to(end + 1);
                state.ready.extend(news(&line));
            }
            if state.buffer.len() > MAX_LINE {
                let message = "the engine says more in one line than is read".to_owned();
                return Some((Err(RuntimeError::Refused { what: "a build".to_owned(), message }), None));
            }
        }
    });
    Ok(news.boxed())
}

/// One line of the engine's.
fn news(line: &[u8]) -> Option<BuildNews> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        stream: Option<String>,
        status: Option<String>,
        id: Option<String>,
        error: Option<String>,
        error_detail: Option<Detail>,
        aux: Option<Aux>,
    }
    #[derive(Deserialize)]
    struct Detail {
        code: Option<i64>,
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Aux {
        #[serde(rename = "ID")]
        id: Option<String>,
    }
    let Line { stream, status, id, error, error_detail, aux } = serde_json::from_slice(line).ok()?;
    if let Some(message) = error {
        let (code, said) = error_detail.map_or((None, None), |detail| (detail.code, detail.message));
        return Some(BuildNews::Failed { code, message: said.unwrap_or(message) });
    }
    if let Some(id) = aux.and_then(|aux| aux.id) {
        return Some(BuildNews::Built(id));
    }
    // Progress bars of layers are for terminals.
    let text = stream.or_else(|| status.filter(|_| id.is_none()).map(|status| status + "\n"))?;
    Some(BuildNews::Said(text.into()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    size: i64,
}

/// The containers of a node's builds: by the label that each has from its image, and by the network.
async fn steps(engine: &Docker, node: NodeId, network: Option<&str>) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let label = json!({ "label": [format!("{LABEL_BUILD}={node}")] });
    let filters = [Some(label), network.map(|name| json!({ "network": [name] }))];
    for filter in filters.into_iter().flatten() {
        let path = format!("/containers/json?all=1&filters={}", query_value(&filter.to_string()));
        let call = engine.wire().call::<Vec<Listed>, ()>(Method::GET, &path, None);
        let listed = engine.within(QUICK, || "list of a build's containers".to_owned(), call).await?;
        // What runs a workload may have any label of its image.
        let own = |c: &Listed| c.labels.as_ref().is_none_or(|labels| !labels.contains_key(LABEL_NODE));
        found.extend(listed.into_iter().filter(own).map(|container| container.id));
    }
    Ok(found)
}

/// Gives each step its limit of processes, as long as the build runs.
async fn hold(engine: Docker, node: NodeId, network: Option<String>, pids: u32) {
    let mut held = BTreeSet::new();
    loop {
        let seen = steps(&engine, node, network.as_deref()).await.unwrap_or_default();
        for id in &seen {
            if held.contains(id) {
                continue;
            }
            let (path, body) = (format!("/containers/{id}/update"), json!({ "PidsLimit": pids }));
            let call = engine.wire().request(Method::POST, &path, Some(&body), false);
            // A step that is over is gone.
            if engine.within(QUICK, || format!("container {id}"), call).await.is_ok() {
                held.insert(id.clone());
            }
        }
        held.retain(|id| seen.contains(id));
        tokio::time::sleep(LOOK).await;
    }
}

/// Images without a name that carry the node's label, the last one first.
async fn images(engine: &Docker, node: NodeId) -> Result<Vec<Listed>> {
    let filters = json!({ "label": [format!("{LABEL_BUILD}={node}")] }).to_string();
    let path = format!("/images/json?all=1&filters={}", query_value(&filters));
    let call = engine.wire().call::<Vec<Listed>, ()>(Method::GET, &path, None);
    let mut listed = engine.within(SLOW, || "list of a build's images".to_owned(), call).await?;
    let named = |tag: &String| tag != "<none>:<none>";
    listed.retain(|image| !image.repo_tags.iter().flatten().any(named));
    Ok(listed)
}

/// The networks of a node's builds.
async fn networks(engine: &Docker, node: NodeId) -> Result<Vec<String>> {
    let all = engine.list_networks(node).await?;
    Ok(all.into_iter().filter(|n| n.labels.contains_key(LABEL_BUILD)).map(|n| n.name).collect())
}

pub(super) async fn left(engine: &Docker, node: NodeId) -> Result<BuildLeft> {
    let mut containers = steps(engine, node, None).await?;
    for network in networks(engine, node).await? {
        containers.extend(steps(engine, node, Some(&network)).await?);
    }
    let size = |image: &Listed| lattice_model::Bytes(u64::try_from(image.size).unwrap_or(0));
    let images = images(engine, node).await?;
    Ok(BuildLeft {
        containers: containers.into_iter().map(ContainerId).collect(),
        images: images.iter().map(|image| (image.id.clone(), size(image))).collect(),
    })
}

pub(super) async fn clear(engine: &Docker, node: NodeId) -> Result<()> {
    for container in left(engine, node).await?.containers {
        engine.remove(&container, true).await?;
    }
    for network in networks(engine, node).await? {
        engine.remove_network(node, &network).await?;
    }
    for _ in 0..PASSES {
        let left = images(engine, node).await?;
        let mut gone = false;
        for image in &left {
            let path = format!("/images/{}", checked("image", &image.id)?);
            let call = engine.wire().request::<()>(Method::DELETE, &path, None, false);
            match engine.within(SLOW, || format!("image {}", image.id), call).await {
                Ok(_) => gone = true,
                // Another one is made of it, or its removal took this one along.
                Err(
                    RuntimeError::Conflict { .. }
                    | RuntimeError::ImageMissing { .. }
                    | RuntimeError::NotFound { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        if !gone {
            break;
        }
    }
    Ok(())
}

pub(super) async fn save(engine: &Docker, image: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
    let path = format!("/images/{}/get", checked("image", image)?);
    let call = engine.wire().request::<()>(Method::GET, &path, None, false);
    let response = engine.within(SLOW, || format!("image {image}"), call).await?;
    let socket = engine.wire().socket().to_owned();
    let bytes = body_bytes(response.into_body());
    Ok(bytes.map(move |read| read.map_err(|error| unreachable(&error, &socket))).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_engine_are_understood() {
        for (line, wanted) in [
            (r#"{"stream":"Step 1/2 : FROM a\n"}"#, Some(BuildNews::Said("Step 1/2 : FROM a\n".into()))),
            (r#"{"status":"Pulling from a","id":"1"}"#, None),
            (r#"{"aux":{"ID":"sha256:ab"}}"#, Some(BuildNews::Built("sha256:ab".to_owned()))),
            (
                r#"{"errorDetail":{"code":3,"message":"it returned 3"},"error":"x"}"#,
                Some(BuildNews::Failed { code: Some(3), message: "it returned 3".to_owned() }),
            ),
            (r#"{"error":"x"}"#, Some(BuildNews::Failed { code: None, message: "x".to_owned() })),
            ("x", None),
        ] {
            assert_eq!(news(line.as_bytes()), wanted, "{line}");
        }
    }

    #[test]
    fn what_is_asked_for_is_bounded_and_quoted() {
        let config = BuildConfig {
            target: Some("a&networkmode=host".to_owned()),
            args: [("A".to_owned(), "1 2".to_owned())].into(),
            ..BuildConfig::of(NodeId::from_random(1), "Dockerfile")
        };
        let path = path_of(&config).unwrap();
        for part in [
            "networkmode=none&",
            "&memswap=1073741824&",
            "target=a%26networkmode%3Dhost",
            "%7B%22A%22%3A%221%202%22%7D",
        ] {
            assert!(path.contains(part), "{path}");
        }
        let host = BuildConfig { network: Some("container:x".to_owned()), ..config };
        assert!(path_of(&host).is_err());
    }
}
