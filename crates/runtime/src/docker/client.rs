//! [`Docker`]: each call of the port as one request to the engine wherever that can be, within a
//! bounded time.

use super::{
    body, build,
    cache::{Cache, Summary},
    census, create,
    exec::DockerExec,
    fault::fault,
    files, image,
    porter::{self, Porters},
    pull, stream,
    wire::{Wire, query_value},
    words,
};
use crate::{
    checks::{checked, foreign, no_volume, node_label},
    error::{Result, RuntimeError},
    port::{
        BuildConfig, BuildLeft, BuildNews, EngineEvent, EngineInfo, ExecConfig, ExecControl as _,
        ExecSession, ImageResolved, ImageSeen, LogChunk, LogOptions, PullProgress, Runtime, Usage,
    },
};
use async_trait::async_trait;
use bollard::{
    API_DEFAULT_VERSION, BollardRequest,
    errors::Error,
    models::{ContainerInspectResponse, ContainerStatsResponse, VolumeCreateRequest},
    query_parameters as query,
};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self as streams, BoxStream},
};
use http::Method;
use hyper_util::rt::TokioIo;
use lattice_model::{
    Bytes, Duration, NodeId, Timestamp,
    container::{
        ContainerConfig, ContainerId, ContainerSeen, LABEL_NODE, LABEL_PORTER, NetworkSeen, VolumeSeen,
    },
    goal::RegistryLogin,
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    future::Future,
    sync::Arc,
    time::Instant,
};
use tokio::sync::{Mutex, watch};
use tokio_util::io::ReaderStream;

/// For what an engine answers from its memory.
pub(super) const QUICK: Duration = Duration::from_secs(30);
/// For what it does on disk and in the kernel; a laptop that has just woken is slow.
pub(super) const SLOW: Duration = Duration::from_secs(120);
/// How many more names a bridge may get.
const BRIDGE_NAMES: u8 = 15;
/// How many containers are inspected at the same time.
const INSPECTS: usize = 8;
/// A Docker engine, or one that speaks its API. Cheap to clone.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    wire: Arc<Wire>,
    api: bollard::Docker,
    cache: Cache,
    /// Engines before API 1.44 check a network's name and create it in two steps.
    networks: Mutex<()>,
    /// How long a registry may say nothing.
    silence: Duration,
    porters: Porters,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Docker").field("socket", &self.inner.wire.socket()).finish_non_exhaustive()
    }
}

impl Docker {
    /// An engine by the path of its socket, with or without `unix://`. Nothing is dialled: the
    /// engine may come and go, each call finds out for itself.
    ///
    /// # Errors
    /// `Refused` for a socket of another kind.
    pub fn new(socket: &str) -> Result<Self> {
        let refused = |message: String| RuntimeError::Refused { what: format!("socket {socket}"), message };
        let wire = Arc::new(Wire::new(socket));
        if wire.socket().is_empty() || wire.socket().contains("://") {
            return Err(refused("only local sockets are spoken to; give the path of one".to_owned()));
        }
        let transport = {
            let wire = Arc::clone(&wire);
            move |request: BollardRequest| {
                let wire = Arc::clone(&wire);
                async move { wire.send(request).await }
            }
        };
        // bollard's own time limit ends with the headers; ours bounds every whole call.
        let api = bollard::Docker::connect_with_custom_transport(
            transport,
            Some("http://engine"),
            24 * 60 * 60,
            API_DEFAULT_VERSION,
        )
        .map_err(|error| refused(error.to_string()))?;
        let (cache, networks, porters) = Default::default();
        let silence = pull::SILENCE;
        Ok(Self { inner: Arc::new(Inner { wire, api, cache, networks, silence, porters }) })
    }

    /// The same with another time that a registry may say nothing during a pull.
    #[must_use]
    pub fn with_pull_silence(self, silence: Duration) -> Self {
        let Self { inner } = self;
        let inner = Arc::try_unwrap(inner).unwrap_or_else(|shared| Inner {
            wire: Arc::clone(&shared.wire),
            api: shared.api.clone(),
            cache: Cache::default(),
            networks: Mutex::new(()),
            silence: shared.silence,
            porters: Porters::default(),
        });
        Self { inner: Arc::new(Inner { silence, ..inner }) }
    }

    pub(super) fn pull_silence(&self) -> Duration {
        self.inner.silence
    }

    /// The same, and sees whether the engine answers.
    ///
    /// # Errors
    /// As [`Docker::new`], and `Unreachable` or `Timeout`.
    pub async fn connect(socket: &str) -> Result<Self> {
        let docker = Self::new(socket)?;
        docker.ping().await?;
        Ok(docker)
    }

    pub(super) fn api(&self) -> &bollard::Docker {
        &self.inner.api
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.inner.wire
    }

    pub(super) fn porters(&self) -> &Porters {
        &self.inner.porters
    }

    /// The labels of what is made for a volume of this node, which has to be there.
    async fn for_volume(&self, node: NodeId, name: &str) -> Result<BTreeMap<String, String>> {
        if !self.volume_exists(node, name).await? {
            return Err(no_volume(name));
        }
        Ok([(LABEL_NODE.to_owned(), node.to_string())].into())
    }

    /// The call's result within `limit`; `what` is for people.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        what: impl FnOnce() -> String,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T> {
        match tokio::time::timeout(limit.as_std(), call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(fault(error, self.wire().socket(), &what())),
            Err(_) => Err(RuntimeError::Timeout { what: what(), after: limit }),
        }
    }

    async fn labels(
        &self,
        path: String,
        what: impl FnOnce() -> String,
    ) -> Result<Option<BTreeMap<String, String>>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Labelled {
            labels: Option<BTreeMap<String, String>>,
        }
        let call = self.wire().call::<Labelled, ()>(Method::GET, &path, None);
        match self.within(QUICK, what, call).await {
            Ok(found) => Ok(Some(found.labels.unwrap_or_default())),
            Err(RuntimeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Engines before API 1.44 check a network's name and make it in two steps. When an agent is killed and the next
    /// one asks for the same network while the first request is still carried out, there are two of one name, and no
    /// container of either can be started any more. Those that nothing uses go, until one is left.
    async fn leave_one_network(&self, name: &str, ids: &[String]) {
        let mut surplus = ids.len().saturating_sub(1);
        for id in ids {
            if surplus == 0 {
                return;
            }
            let call = self.api().remove_network(id);
            // One that is used is kept: then another one goes.
            if gone_is_fine(self.within(SLOW, || format!("network {name}"), call).await).is_ok() {
                surplus -= 1;
            }
        }
    }

    /// `/networks/x` or `/volumes/x`: whether it is there; an error when it is not the node's.
    pub(super) async fn owned(&self, kind: &str, name: &str, node: &str) -> Result<bool> {
        let what = || format!("{kind} {name}");
        match self.labels(format!("/{kind}s/{name}"), what).await? {
            None => Ok(false),
            Some(labels) if labels.get(LABEL_NODE).is_some_and(|label| label == node) => Ok(true),
            Some(_) => Err(foreign(kind, name)),
        }
    }

    /// Whether its output comes as from a terminal, without frames. Engines say so from API 1.42 on.
    async fn is_plain(&self, id: &ContainerId, headers: &http::HeaderMap) -> Result<bool> {
        let kind = headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        match kind {
            Some("application/vnd.docker.multiplexed-stream") => return Ok(false),
            Some("application/vnd.docker.raw-stream") if self.wire().api_at_least(42) == Some(true) => {
                return Ok(true);
            }
            _ => {}
        }
        let path = format!("/containers/{}/json", checked("container", &id.0)?);
        let call = self.wire().call::<ContainerInspectResponse, ()>(Method::GET, &path, None);
        let found = self.within(QUICK, || format!("container {}", id.0), call).await?;
        Ok(found.config.and_then(|config| config.tty).unwrap_or(false))
    }

    /// Waits until a removal that is under way is over.
    async fn removed(&self, id: &ContainerId) -> Result<()> {
        let options = query::WaitContainerOptionsBuilder::default().condition("removed").build();
        let wait = async {
            match self.api().wait_container(&id.0, Some(options)).try_for_each(async |_| Ok(())).await {
                Err(Error::DockerContainerWaitError { .. }) => Ok(()),
                other => other,
            }
        };
        gone_is_fine(self.within(SLOW, || format!("removing container {}", id.0), wait).await)
    }
}

fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(RuntimeError::NotFound { .. }) => Ok(()),
        other => other,
    }
}

#[async_trait]
impl Runtime for Docker {
    async fn info(&self) -> Result<EngineInfo> {
        let version = self.within(QUICK, || "version".to_owned(), self.api().version()).await?;
        let info = self.within(QUICK, || "info".to_owned(), self.api().info()).await?;
        Ok(words::engine_info(info, version))
    }

    async fn ping(&self) -> Result<()> {
        self.within(QUICK, || "ping".to_owned(), self.api().ping()).await.map(drop)
    }

    async fn list(&self, node: NodeId) -> Result<Vec<ContainerSeen>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
            #[serde(default)]
            state: String,
            #[serde(default)]
            status: String,
            #[serde(default)]
            labels: Option<HashMap<String, String>>,
        }
        let cache = &self.inner.cache;
        let (generation, now) = (cache.generation(), Instant::now());
        let filters = json!(words::label_filter(LABEL_NODE, &node.to_string())).to_string();
        let path = format!("/containers/json?all=1&filters={}", query_value(&filters));
        let call = self.wire().call::<Vec<Listed>, ()>(Method::GET, &path, None);
        let listed = self.within(QUICK, || "list of containers".to_owned(), call).await?;
        // What carries a volume is no workload, and does not answer before it has done so.
        let listed = listed
            .into_iter()
            .filter(|c| c.labels.as_ref().is_none_or(|all| !all.contains_key(LABEL_PORTER)));
        let summaries: Vec<_> =
            listed.map(|c| Summary { id: c.id, state: c.state, text: c.status }).collect();

        let (mut all, mut changed) = (Vec::with_capacity(summaries.len()), Vec::new());
        for summary in &summaries {
            match cache.get(summary, now) {
                Some(seen) => all.push(seen),
                None => changed.push(summary),
            }
        }
        let inspected: Vec<(Summary, Option<ContainerSeen>)> = streams::iter(changed.into_iter().cloned())
            .map(|summary| async move {
                let seen = self.inspect(&ContainerId(summary.id.clone())).await?;
                Ok::<_, RuntimeError>((summary, seen))
            })
            .buffer_unordered(INSPECTS)
            .try_collect()
            .await?;
        let inspected: Vec<_> =
            inspected.into_iter().filter_map(|(summary, seen)| Some((summary, seen?))).collect();
        all.extend(inspected.iter().map(|(_, seen)| seen.clone()));
        let ids: HashSet<_> = summaries.iter().map(|summary| summary.id.as_str()).collect();
        cache.keep(node, generation, now, &ids, inspected);
        // The engine's filter is not the only thing between us and somebody else's containers.
        all.retain(|seen| seen.node() == Some(node));
        all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(all)
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerSeen>> {
        let path = format!("/containers/{}/json", checked("container", &id.0)?);
        let what = || format!("container {}", id.0);
        let call = self.wire().call::<ContainerInspectResponse, ()>(Method::GET, &path, None);
        match self.within(QUICK, what, call).await {
            Ok(found) => words::seen(found).map(Some).ok_or_else(|| RuntimeError::Refused {
                what: what(),
                message: "the engine told neither its id nor its state".to_owned(),
            }),
            Err(RuntimeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn has_image(&self, image: &str) -> Result<bool> {
        checked("image", image)?;
        match self.within(QUICK, || format!("image {image}"), self.api().inspect_image(image)).await {
            Ok(_) => Ok(true),
            Err(RuntimeError::ImageMissing { .. } | RuntimeError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn pull(
        &self,
        image: &str,
        platform: Option<&str>,
        login: Option<&RegistryLogin>,
        progress: watch::Sender<PullProgress>,
    ) -> Result<()> {
        pull::pull(self, image, platform, login, &progress).await
    }

    async fn image(&self, image: &str) -> Result<Option<ImageSeen>> {
        image::look(self, image).await
    }

    async fn images(&self) -> Result<Vec<ImageSeen>> {
        image::list(self).await
    }

    async fn load(&self, archive: BoxStream<'static, std::io::Result<bytes::Bytes>>) -> Result<()> {
        image::load(self, archive).await
    }

    async fn remove_image(&self, image: &str) -> Result<bool> {
        image::remove(self, image).await
    }

    async fn build(
        &self,
        config: &BuildConfig,
        context: BoxStream<'static, std::io::Result<bytes::Bytes>>,
    ) -> Result<BoxStream<'static, Result<BuildNews>>> {
        build::build(self, config, context).await
    }

    async fn save(&self, image: &str) -> Result<BoxStream<'static, Result<bytes::Bytes>>> {
        build::save(self, image).await
    }

    async fn builds_left(&self, node: NodeId) -> Result<BuildLeft> {
        build::left(self, node).await
    }

    async fn clear_builds(&self, node: NodeId) -> Result<()> {
        build::clear(self, node).await
    }

    async fn resolve(&self, image: &str, login: Option<&RegistryLogin>) -> Result<ImageResolved> {
        image::resolve(self, image, login).await
    }

    async fn create(&self, config: &ContainerConfig) -> Result<ContainerId> {
        create::create(self, config).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        let name = checked("container", &id.0)?;
        let call = self.api().start_container(name, None);
        let result = self.within(SLOW, || format!("container {name}"), call).await;
        self.inner.cache.forget(id);
        result
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let name = checked("container", &id.0)?;
        let options = query::StopContainerOptionsBuilder::default().t(body::whole_seconds(grace)).build();
        let call = self.api().stop_container(name, Some(options));
        let limit = Duration(SLOW.0.saturating_add(grace.0));
        let result = self.within(limit, || format!("stopping container {name}"), call).await;
        self.inner.cache.forget(id);
        gone_is_fine(result)
    }

    async fn kill(&self, id: &ContainerId, signal: &str) -> Result<()> {
        let name = checked("container", &id.0)?;
        let options = query::KillContainerOptionsBuilder::default().signal(signal).build();
        let call = self.api().kill_container(name, Some(options));
        let result = self.within(SLOW, || format!("container {name}"), call).await;
        self.inner.cache.forget(id);
        match result {
            // "Container x is not running".
            Err(RuntimeError::Conflict { .. } | RuntimeError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn restart(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let name = checked("container", &id.0)?;
        let options = query::RestartContainerOptionsBuilder::default().t(body::whole_seconds(grace)).build();
        let call = self.api().restart_container(name, Some(options));
        let limit = Duration(SLOW.0.saturating_add(grace.0));
        let result = self.within(limit, || format!("restarting container {name}"), call).await;
        self.inner.cache.forget(id);
        result
    }

    async fn remove(&self, id: &ContainerId, force: bool) -> Result<()> {
        let name = checked("container", &id.0)?;
        let options = query::RemoveContainerOptionsBuilder::default().v(true).force(force).build();
        let call = self.api().remove_container(name, Some(options));
        let result = self.within(SLOW, || format!("container {name}"), call).await;
        self.inner.cache.forget(id);
        match result {
            Err(RuntimeError::Conflict { message, .. }) if message.contains("already in progress") => {
                self.removed(id).await
            }
            other => gone_is_fine(other),
        }
    }

    async fn list_networks(&self, node: NodeId) -> Result<Vec<NetworkSeen>> {
        let filters = words::label_filter(LABEL_NODE, &node.to_string());
        let options = query::ListNetworksOptionsBuilder::default().filters(&filters).build();
        let found = self
            .within(QUICK, || "list of networks".to_owned(), self.api().list_networks(Some(options)))
            .await?;
        let mut networks: BTreeMap<String, (NetworkSeen, Vec<String>)> = BTreeMap::new();
        for network in found {
            let (Some(name), Some(id)) = (network.name, network.id) else { continue };
            let labels = network.labels.unwrap_or_default().into_iter().collect();
            let bridge =
                words::bridge_of(network.driver.as_deref(), &network.options.unwrap_or_default(), &id);
            let seen = || (NetworkSeen { name: name.clone(), labels, bridge }, Vec::new());
            networks.entry(name.clone()).or_insert_with(seen).1.push(id);
        }
        for (name, (_, ids)) in &networks {
            self.leave_one_network(name, ids).await;
        }
        Ok(networks.into_values().map(|(seen, _)| seen).collect())
    }

    async fn create_network(
        &self,
        name: &str,
        internal: bool,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        let node = node_label("network", name, labels)?;
        let _one_at_a_time = self.inner.networks.lock().await;
        let mut attempt = 0;
        loop {
            let body = json!({
                "Name": checked("network", name)?,
                "Driver": "bridge",
                "Internal": internal,
                "Options": words::bridge_options(labels, attempt),
                "Labels": labels,
                // Engines before API 1.44 would otherwise make a second network of the same name.
                "CheckDuplicate": true,
            });
            let call =
                self.wire().call::<serde::de::IgnoredAny, _>(Method::POST, "/networks/create", Some(&body));
            match self.within(SLOW, || format!("network {name}"), call).await {
                Ok(_) => return Ok(()),
                Err(RuntimeError::Conflict { .. }) if self.owned("network", name, node).await? => {
                    return Ok(());
                }
                Err(error) if words::is_bridge_taken(&error) && attempt < BRIDGE_NAMES => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn remove_network(&self, node: NodeId, name: &str) -> Result<()> {
        if !self.owned("network", checked("network", name)?, &node.to_string()).await? {
            return Ok(());
        }
        let call = self.api().remove_network(name);
        gone_is_fine(self.within(SLOW, || format!("network {name}"), call).await)
    }

    async fn list_volumes(&self, node: NodeId) -> Result<Vec<VolumeSeen>> {
        let filters = words::label_filter(LABEL_NODE, &node.to_string());
        let options = query::ListVolumesOptionsBuilder::default().filters(&filters).build();
        let found = self
            .within(QUICK, || "list of volumes".to_owned(), self.api().list_volumes(Some(options)))
            .await?;
        let mut volumes: Vec<_> = found
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|volume| VolumeSeen { name: volume.name, labels: volume.labels.into_iter().collect() })
            .collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let node = node_label("volume", name, labels)?;
        let request = VolumeCreateRequest {
            name: Some(checked("volume", name)?.to_owned()),
            driver: Some("local".to_owned()),
            labels: Some(body::hash_map(labels)),
            ..Default::default()
        };
        // One that exists is answered as it is, with its own labels.
        let call = self.api().create_volume(request);
        let volume = self.within(SLOW, || format!("volume {name}"), call).await?;
        if volume.labels.get(LABEL_NODE).is_some_and(|label| label == node) {
            return Ok(());
        }
        Err(foreign("volume", name))
    }

    async fn volume_exists(&self, node: NodeId, name: &str) -> Result<bool> {
        self.owned("volume", checked("volume", name)?, &node.to_string()).await
    }

    async fn remove_volume(&self, node: NodeId, name: &str) -> Result<()> {
        if !self.volume_exists(node, name).await? {
            return Ok(());
        }
        // One that was left would hold it.
        porter::forget_idle(self, name).await?;
        let call = self.api().remove_volume(name, None::<query::RemoveVolumeOptions>);
        gone_is_fine(self.within(SLOW, || format!("volume {name}"), call).await)
    }

    async fn nodes(&self) -> Result<BTreeSet<NodeId>> {
        census::nodes(self).await
    }

    async fn volume_sizes(&self, node: NodeId) -> Result<BTreeMap<String, lattice_model::Bytes>> {
        census::volume_sizes(self, node).await
    }

    async fn events(&self, node: NodeId) -> Result<BoxStream<'static, Result<EngineEvent>>> {
        // The engine answers before it subscribes us; asking for what happened since this instant,
        // by its own clock, closes that gap. It keeps the last 256 events for that.
        let info = self.within(QUICK, || "info".to_owned(), self.api().info()).await?;
        let since = info.system_time.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let filters = json!({
            "type": ["container"],
            "label": [format!("{LABEL_NODE}={node}")],
            "event": ["start", "die", "destroy", "oom", "pause", "unpause", "health_status"],
        });
        let mut path = format!("/events?filters={}", query_value(&filters.to_string()));
        if let Some(since) = since {
            path.push_str(&format!("&since={}.{:09}", since.as_second(), since.subsec_nanosecond()));
        }
        let call = self.wire().request::<()>(Method::GET, &path, None, false);
        let response = self.within(QUICK, || "events".to_owned(), call).await?;
        let body = stream::body_bytes(response.into_body());
        let inner = Arc::clone(&self.inner);
        Ok(stream::events(body, self.wire().socket().to_owned())
            .inspect_ok(move |event| inner.cache.forget(&event.id))
            .boxed())
    }

    async fn logs(
        &self,
        id: &ContainerId,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let LogOptions { follow, tail, since, timestamps } = options;
        let mut path = format!(
            "/containers/{}/logs?stdout=1&stderr=1&follow={}&timestamps={}&tail={}",
            checked("container", &id.0)?,
            u8::from(follow),
            u8::from(timestamps),
            tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
        );
        if let Some(Timestamp(since)) = since {
            path.push_str(&format!("&since={}.{:03}", since.div_euclid(1000), since.rem_euclid(1000)));
        }
        let call = self.wire().request::<()>(Method::GET, &path, None, false);
        let response = self.within(QUICK, || format!("logs of container {}", id.0), call).await?;
        let plain = self.is_plain(id, response.headers()).await?;
        let (bytes, socket) = (stream::body_bytes(response.into_body()), self.wire().socket().to_owned());
        Ok(if plain { stream::plain(bytes, socket) } else { stream::frames(bytes, socket) })
    }

    async fn is_folder(&self, id: &ContainerId, path: &str) -> Result<Option<bool>> {
        files::is_folder(self, id, path).await
    }

    async fn read_files(
        &self,
        id: &ContainerId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<bytes::Bytes>>> {
        files::read(self, id, path).await
    }

    async fn write_files(
        &self,
        id: &ContainerId,
        folder: &str,
        archive: BoxStream<'static, bytes::Bytes>,
    ) -> Result<()> {
        files::write(self, id, folder, archive).await
    }

    async fn read_volume(
        &self,
        node: NodeId,
        name: &str,
    ) -> Result<BoxStream<'static, Result<bytes::Bytes>>> {
        porter::read(self, name, &self.for_volume(node, name).await?).await
    }

    async fn write_volume(
        &self,
        node: NodeId,
        name: &str,
        archive: BoxStream<'static, bytes::Bytes>,
    ) -> Result<()> {
        porter::write(self, name, &self.for_volume(node, name).await?, archive).await
    }

    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecSession> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Created {
            id: String,
        }
        let ExecConfig { argv, tty, stdin, env, user, workdir, size } = config;
        let name = checked("container", &id.0)?;
        let what = || format!("command in container {name}");
        let body = json!({
            "AttachStdin": stdin, "AttachStdout": true, "AttachStderr": true, "Tty": tty, "Cmd": argv, "User": user, "WorkingDir": workdir,
            "Env": env.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
            "Privileged": false,
        });
        let path = format!("/containers/{name}/exec");
        let exec = self
            .within(QUICK, what, self.wire().call::<Created, _>(Method::POST, &path, Some(&body)))
            .await?
            .id;
        let path = format!("/exec/{exec}/start");
        let body = json!({ "Detach": false, "Tty": tty });
        let call = async {
            let response = self.wire().request(Method::POST, &path, Some(&body), true).await?;
            Ok(hyper::upgrade::on(response).await?)
        };
        let (read, write) = tokio::io::split(TokioIo::new(self.within(SLOW, what, call).await?));
        let bytes = ReaderStream::with_capacity(read, 16 << 10).boxed();
        let socket = self.wire().socket().to_owned();
        let output = if tty { stream::plain(bytes, socket) } else { stream::frames(bytes, socket) };
        let control = DockerExec::new(self.clone(), exec);
        if let Some(size) = size.filter(|_| tty) {
            control.resize(size).await?;
        }
        Ok(ExecSession { input: Box::pin(write), output, control: Box::new(control) })
    }

    async fn usage(&self, id: &ContainerId) -> Result<Usage> {
        let name = checked("container", &id.0)?;
        let path = format!("/containers/{name}/stats?stream=false&one-shot=true");
        let call = self.wire().call::<ContainerStatsResponse, ()>(Method::GET, &path, None);
        let stats = self.within(QUICK, || format!("usage of container {name}"), call).await?;
        let memory = stats.memory_stats.unwrap_or_default();
        let details = memory.stats.unwrap_or_default();
        // cgroup 2 and 1 name the page cache that can be dropped differently.
        let cache = details.get("total_inactive_file").or_else(|| details.get("inactive_file")).copied();
        Ok(Usage {
            cpu_nanos: stats.cpu_stats.and_then(|cpu| cpu.cpu_usage?.total_usage).unwrap_or(0),
            memory: Bytes(memory.usage.unwrap_or(0).saturating_sub(cache.unwrap_or(0))),
            memory_limit: Bytes(memory.limit.unwrap_or(0)),
            pids: stats.pids_stats.and_then(|pids| pids.current).unwrap_or(0),
        })
    }
}
