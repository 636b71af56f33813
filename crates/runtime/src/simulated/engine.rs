//! [`Simulated`]: each call waits as the settings say, and is then carried out at once and whole.

use super::{
    settings::{Faults, Settings, Span},
    state::State,
    streams,
};
use crate::{
    error::{Result, RuntimeError},
    port::{
        EngineEvent, EngineInfo, ExecConfig, ExecSession, ImageResolved, ImageSeen, LogChunk, LogOptions,
        PullProgress, Runtime, Usage,
    },
    simulated::Program,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use lattice_model::{
    Duration, NodeId,
    container::{ContainerConfig, ContainerId, ContainerSeen, ContainerState, NetworkSeen, VolumeSeen},
    goal::RegistryLogin,
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// As with Docker: the longest that a call takes.
const LIMIT: Duration = Duration::from_secs(120);

/// An engine in memory. Cheap to clone: all clones are one engine.
#[derive(Clone)]
pub struct Simulated {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Something is due earlier than the task knows.
    earlier: Arc<Notify>,
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulated").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Look,
    Change,
    Start,
    Pull,
}

pub(super) fn unreachable() -> RuntimeError {
    RuntimeError::Unreachable {
        socket: "simulated".to_owned(),
        reason: "the simulated engine is switched off".to_owned(),
        hint: "switch it on again",
    }
}

impl Simulated {
    /// An engine.
    pub fn new(settings: Settings) -> Self {
        let state = Mutex::new(State::new(settings, Instant::now()));
        Self { shared: Arc::new(Shared { state, earlier: Arc::default() }) }
    }

    /// Changes what goes wrong. Switching the engine off ends its streams; what runs, runs on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.with(|state, _| {
            change(&mut state.settings.faults);
            if state.faults().unreachable {
                state.hang_up();
            }
        });
    }

    /// Puts an image on the engine.
    pub fn load(&self, image: &str, program: Program) {
        self.with(|state, _| state.image(image, program));
    }

    /// The engine ends and begins again: what ran has ended, and so have all streams.
    pub fn restart_engine(&self) {
        self.with(|state, now| {
            let all: Vec<_> = state.containers.keys().cloned().collect();
            all.iter().for_each(|id| state.force_end(id, 255, now));
            state.hang_up();
        });
    }

    /// A container ends with this code.
    pub fn end(&self, id: &ContainerId, code: i64) {
        self.with(|state, now| state.force_end(id, code, now));
    }

    /// Somebody removes a container by hand.
    pub fn vanish(&self, id: &ContainerId) {
        self.with(|state, now| drop(state.remove(id, true, now)));
    }

    /// Somebody removes a volume by hand; whether it was there.
    pub fn lose_volume(&self, name: &str) -> bool {
        self.with(|state, _| state.lose_volume(name))
    }

    /// Every container, of whatever node, without a delay or a fault.
    pub fn containers(&self) -> Vec<ContainerSeen> {
        self.with(|state, _| state.containers.values().map(|c| c.seen.clone()).collect())
    }

    /// How many containers run.
    pub fn running(&self) -> usize {
        let runs = |state: &State| {
            state.containers.values().filter(|c| c.seen.state == ContainerState::Running).count()
        };
        self.with(|state, _| runs(state))
    }

    /// Looks at the state, or changes it, at this instant.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        state.settle(now);
        let before = state.next_due();
        let result = act(&mut state, now);
        match state.next_due() {
            Some(_) if !state.driven => {
                state.driven = true;
                tokio::spawn(drive(Arc::downgrade(&self.shared)));
            }
            Some(at) if before.is_none_or(|before| at < before) => self.shared.earlier.notify_one(),
            _ => {}
        }
        result
    }

    /// One call: the delay, what goes wrong, and else what it does.
    async fn call<T>(
        &self,
        what: &str,
        kind: Kind,
        act: impl FnOnce(&mut State, Instant) -> Result<T>,
    ) -> Result<T> {
        let (pause, refused, lost) = self.with(|state, _| {
            let delays = state.settings.delays;
            let span: Span = match kind {
                Kind::Look => delays.look,
                Kind::Change => delays.change,
                Kind::Start => delays.start,
                Kind::Pull => delays.pull,
            };
            let Faults { slow, refused, lost, unreachable: off, .. } = *state.faults();
            if off {
                return Err(unreachable());
            }
            let pause = Duration(state.draw(span).0 + slow.0);
            Ok((pause, state.random.happens(refused), state.random.happens(lost)))
        })?;
        if pause > LIMIT {
            sleep(LIMIT.as_std()).await;
            return Err(RuntimeError::Timeout { what: what.to_owned(), after: LIMIT });
        }
        if pause.0 > 0 {
            sleep(pause.as_std()).await;
        }
        let result = self.with(|state, now| {
            if state.faults().unreachable {
                return Err(unreachable());
            }
            if refused {
                let message = "the simulated engine had a bad moment; try again".to_owned();
                return Err(RuntimeError::Refused { what: what.to_owned(), message });
            }
            act(state, now)
        });
        if lost { Err(unreachable()) } else { result }
    }

    /// Asks it to end with its signal, and kills it when `grace` is over.
    async fn end_within(&self, id: &ContainerId, grace: Duration) {
        let begun = self.with(|state, now| {
            let changes = state.changes(id).ok()?;
            let run = state.running(id)?;
            let signal = state.containers.get(id)?.stop_signal.clone();
            state.signal(id, &signal, now);
            Some((changes, run))
        });
        let Some((mut changes, run)) = begun else { return };
        // Engines count whole seconds.
        let deadline = Instant::now() + std::time::Duration::from_secs(grace.0.div_ceil(1000));
        let runs = |this: &Self| this.with(|state, _| state.running(id) == Some(run));
        while runs(self) {
            match timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => self.with(|state, now| {
                    if state.running(id) == Some(run) {
                        state.signal(id, "SIGKILL", now);
                    }
                }),
            }
        }
    }
}

/// Waits for what is due, and ends when nothing is any more, or nobody has the engine.
async fn drive(engine: Weak<Shared>) {
    loop {
        let Some(shared) = engine.upgrade() else { return };
        let next = {
            let mut state = shared.state.lock();
            state.settle(Instant::now());
            let next = state.next_due();
            state.driven = next.is_some();
            next
        };
        let Some(next) = next else { return };
        let earlier = Arc::clone(&shared.earlier);
        drop(shared);
        tokio::select! {
            () = sleep_until(next) => {}
            () = earlier.notified() => {}
        }
    }
}

#[async_trait]
impl Runtime for Simulated {
    async fn info(&self) -> Result<EngineInfo> {
        self.call("info", Kind::Look, |state, _| Ok(state.settings.info.clone())).await
    }

    async fn ping(&self) -> Result<()> {
        self.call("ping", Kind::Look, |_, _| Ok(())).await
    }

    async fn list(&self, node: NodeId) -> Result<Vec<ContainerSeen>> {
        self.call("list of containers", Kind::Look, |state, _| Ok(state.list(node))).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerSeen>> {
        let find = |state: &mut State, _| Ok(state.containers.get(id).map(|c| c.seen.clone()));
        self.call("container", Kind::Look, find).await
    }

    async fn has_image(&self, image: &str) -> Result<bool> {
        self.call("image", Kind::Look, |state, _| state.has_image(image)).await
    }

    async fn pull(
        &self,
        image: &str,
        _platform: Option<&str>,
        _login: Option<&RegistryLogin>,
        progress: watch::Sender<PullProgress>,
    ) -> Result<()> {
        let size = self.with(|state, _| 1 + state.random.next() % (64 << 20));
        progress.send_replace(PullProgress { layers: 1, layers_done: 0, current: 0, total: size });
        self.call(&format!("pulling {image}"), Kind::Pull, |state, _| state.pull(image)).await?;
        progress.send_replace(PullProgress { layers: 1, layers_done: 1, current: size, total: size });
        Ok(())
    }

    async fn image(&self, image: &str) -> Result<Option<ImageSeen>> {
        self.call("image", Kind::Look, |state, _| state.image_seen(image)).await
    }

    async fn images(&self) -> Result<Vec<ImageSeen>> {
        self.call("list of images", Kind::Look, |state, _| Ok(state.images_seen())).await
    }

    async fn load(&self, mut archive: BoxStream<'static, std::io::Result<Bytes>>) -> Result<()> {
        while let Some(bytes) = archive.next().await {
            if let Err(error) = bytes {
                let (what, message) = ("an image's archive".to_owned(), error.to_string());
                return Err(RuntimeError::Refused { what, message });
            }
        }
        // What an image does is not in its archive.
        let (what, message) = ("an image's archive".to_owned(), "this engine runs no archives".to_owned());
        self.call("an image's archive", Kind::Pull, |_, _| Err(RuntimeError::Refused { what, message })).await
    }

    async fn remove_image(&self, image: &str) -> Result<bool> {
        self.call("image", Kind::Change, |state, _| state.remove_image(image)).await
    }

    async fn resolve(&self, image: &str, _login: Option<&RegistryLogin>) -> Result<ImageResolved> {
        self.call("image", Kind::Look, |state, _| state.resolve(image)).await
    }

    async fn create(&self, config: &ContainerConfig) -> Result<ContainerId> {
        let what = format!("container {}", config.name);
        self.call(&what, Kind::Change, |state, _| state.create(config)).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.call("container", Kind::Start, |state, now| state.start(id, now)).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        self.call("stopping a container", Kind::Change, |_, _| Ok(())).await?;
        self.end_within(id, grace).await;
        Ok(())
    }

    async fn kill(&self, id: &ContainerId, signal: &str) -> Result<()> {
        let act = |state: &mut State, now| {
            state.signal(id, signal, now);
            Ok(())
        };
        self.call("container", Kind::Change, act).await
    }

    async fn restart(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        self.call("restarting a container", Kind::Change, |state, _| state.changes(id).map(drop)).await?;
        self.end_within(id, grace).await;
        self.call("restarting a container", Kind::Start, |state, now| state.start(id, now)).await
    }

    async fn remove(&self, id: &ContainerId, force: bool) -> Result<()> {
        self.call("container", Kind::Change, |state, now| state.remove(id, force, now)).await
    }

    async fn list_networks(&self, node: NodeId) -> Result<Vec<NetworkSeen>> {
        self.call("list of networks", Kind::Look, |state, _| Ok(state.networks(node))).await
    }

    async fn create_network(
        &self,
        name: &str,
        _internal: bool,
        labels: &BTreeMap<String, String>,
    ) -> Result<()> {
        let what = format!("network {name}");
        self.call(&what, Kind::Change, |state, _| state.create_network(name, labels)).await
    }

    async fn remove_network(&self, node: NodeId, name: &str) -> Result<()> {
        let what = format!("network {name}");
        self.call(&what, Kind::Change, |state, _| state.remove_network(node, name)).await
    }

    async fn list_volumes(&self, node: NodeId) -> Result<Vec<VolumeSeen>> {
        self.call("list of volumes", Kind::Look, |state, _| Ok(state.volumes(node))).await
    }

    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let what = format!("volume {name}");
        self.call(&what, Kind::Change, |state, _| state.create_volume(name, labels)).await
    }

    async fn volume_exists(&self, node: NodeId, name: &str) -> Result<bool> {
        self.call("volume", Kind::Look, |state, _| state.volume_exists(node, name)).await
    }

    async fn remove_volume(&self, node: NodeId, name: &str) -> Result<()> {
        let what = format!("volume {name}");
        self.call(&what, Kind::Change, |state, _| state.remove_volume(node, name)).await
    }

    async fn nodes(&self) -> Result<BTreeSet<NodeId>> {
        self.call("list of nodes", Kind::Look, |state, _| Ok(state.nodes())).await
    }

    async fn volume_sizes(&self, node: NodeId) -> Result<BTreeMap<String, lattice_model::Bytes>> {
        let sized = |volume: VolumeSeen| (volume.name, lattice_model::Bytes::from_mib(1));
        self.call("sizes of volumes", Kind::Look, |state, _| {
            Ok(state.volumes(node).into_iter().map(sized).collect())
        })
        .await
    }

    async fn events(&self, node: NodeId) -> Result<BoxStream<'static, Result<EngineEvent>>> {
        let reader = self.call("events", Kind::Look, |state, _| Ok(state.read(node))).await?;
        Ok(streams::events(reader))
    }

    async fn logs(
        &self,
        id: &ContainerId,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let changes = self.call("logs", Kind::Look, |state, _| state.changes(id)).await?;
        Ok(streams::logs(self.clone(), id.clone(), options, changes))
    }

    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecSession> {
        let changes = self
            .call("command in a container", Kind::Change, |state, _| {
                let changes = state.changes(id)?;
                let run = state.running(id).ok_or_else(|| RuntimeError::Conflict {
                    what: format!("command in container {}", id.0),
                    message: "the container does not run".to_owned(),
                })?;
                Ok((changes, run))
            })
            .await?;
        Ok(streams::exec(self.clone(), id.clone(), config, changes.0, changes.1))
    }

    async fn usage(&self, id: &ContainerId) -> Result<Usage> {
        self.call("usage", Kind::Look, |state, now| state.usage(id, now)).await
    }
}
