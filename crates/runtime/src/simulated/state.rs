//! The engine without waiting: what is there, what is due when, and what becomes of it. Whoever
//! asks brings the time, and what was due until then has happened at its own instant.

use super::{
    program::{Pause, Program, Progress, Well},
    settings::{Faults, Random, RegistryFault, Settings, Span, full},
};
use crate::{
    checks::{checked, foreign, limited, no_volume, node_label},
    error::{Result, RuntimeError},
    port::{EngineEvent, EngineEventKind, LogStream, Usage},
};
use lattice_model::{
    Bytes, Duration, NodeId, Timestamp,
    container::{
        ContainerConfig, ContainerId, ContainerSeen, ContainerState, LABEL_NODE, MountSource, NetworkSeen,
        VolumeSeen, labelled_bridge,
    },
    report::{Health, PublishedPort},
    spec::HealthCheck,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// The lines that are kept of each container; then the oldest go.
const MAX_LINES: usize = 1000;
/// Events that wait for one reader; it misses what comes beyond.
pub(super) const MAX_EVENTS: usize = 1024;

pub(super) type Labels = BTreeMap<String, String>;

/// One container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) seen: ContainerSeen,
    pub(super) image: String,
    program: Program,
    check: Option<HealthCheck>,
    networks: Vec<String>,
    volumes: Vec<String>,
    memory_limit: Bytes,
    pub(super) stop_signal: String,
    /// Counts starts, so that what was due in an earlier run is not carried out in a later one.
    run: u32,
    began: Option<Instant>,
    progress: Progress,
    pub(super) files: BTreeSet<String>,
    failures: u32,
    pub(super) lines: VecDeque<Line>,
    /// The number of the first line that is kept.
    pub(super) first_line: u64,
    /// Somebody waits for a change of state or a line.
    changed: Option<watch::Sender<()>>,
}

/// A line of output.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) stream: LogStream,
    pub(super) text: String,
}

#[derive(Clone, Debug)]
struct Due {
    container: ContainerId,
    run: u32,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Step,
    Check,
}

struct Reader {
    node: String,
    events: mpsc::Sender<EngineEvent>,
}

/// Everything that an engine has.
pub(super) struct State {
    origin: Instant,
    epoch: Timestamp,
    pub(super) random: Random,
    pub(super) settings: Settings,
    pub(super) containers: HashMap<ContainerId, Container>,
    names: HashMap<String, ContainerId>,
    networks: BTreeMap<String, Labels>,
    volumes: BTreeMap<String, Labels>,
    due: BTreeMap<(Instant, u64), Due>,
    counter: u64,
    readers: Vec<Reader>,
    /// Whether a task waits for what is due.
    pub(super) driven: bool,
}

fn no_container(id: &ContainerId) -> RuntimeError {
    RuntimeError::NotFound { what: format!("container {}", id.0), message: "no such container".to_owned() }
}

impl State {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            origin: now,
            epoch: settings.epoch,
            random: Random::new(settings.seed),
            settings,
            containers: HashMap::new(),
            names: HashMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            due: BTreeMap::new(),
            counter: 0,
            readers: Vec::new(),
            driven: false,
        }
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.settings.faults
    }

    pub(super) fn draw(&mut self, span: Span) -> Duration {
        self.random.within(span)
    }

    fn stamp(&self, at: Instant) -> Timestamp {
        let span = at.saturating_duration_since(self.origin).as_millis();
        self.epoch + Duration(u64::try_from(span).unwrap_or(u64::MAX))
    }

    /// When something happens next by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Carries out what was due until `now`.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), due) = entry.remove_entry();
            let current = self.containers.get(&due.container).is_some_and(|c| c.run == due.run);
            match due.what {
                What::Step if current => self.go_on(&due.container, at),
                What::Check if current => self.check(&due.container, at),
                What::Step | What::Check => {}
            }
        }
    }

    fn schedule(&mut self, container: &ContainerId, at: Instant, what: What) {
        let Some(run) = self.containers.get(container).map(|c| c.run) else { return };
        self.counter += 1;
        self.due.insert((at, self.counter), Due { container: container.clone(), run, what });
    }

    fn go_on(&mut self, id: &ContainerId, at: Instant) {
        let stamp = self.stamp(at);
        let Some(c) = self.containers.get_mut(id).filter(|c| c.seen.state == ContainerState::Running) else {
            return;
        };
        let lines = &mut c.lines;
        let say = |stream, text: &str| lines.push_back(Line { at: stamp, stream, text: text.to_owned() });
        let pause = c.progress.go(&c.program.steps, &mut c.files, c.memory_limit, say);
        let extra = c.lines.len().saturating_sub(MAX_LINES);
        c.lines.drain(..extra);
        c.first_line += extra as u64;
        c.poke();
        match pause {
            Pause::Until(span) => self.schedule(id, at + span.as_std(), What::Step),
            Pause::Forever => {}
            // A container has no input: `cat` ends at once.
            Pause::Input => self.schedule(id, at, What::Step),
            Pause::Ended(code) => self.end(id, code, at),
            Pause::OutOfMemory => {
                c.seen.out_of_memory = true;
                self.tell(id, EngineEventKind::OutOfMemory, at);
                self.end(id, 137, at);
            }
        }
    }

    /// One health check.
    fn check(&mut self, id: &ContainerId, at: Instant) {
        let Some(c) = self.containers.get_mut(id).filter(|c| c.seen.state == ContainerState::Running) else {
            return;
        };
        let Some(check) = c.check.clone() else { return };
        let ran = at.saturating_duration_since(c.began.unwrap_or(at));
        let passes = match c.program.well {
            Well::After(span) => ran >= span.as_std(),
            Well::Flaps { well, unwell } => {
                let circle = (well.0 + unwell.0).max(1);
                u64::try_from(ran.as_millis()).unwrap_or(u64::MAX) % circle < well.0
            }
            Well::Asked => {
                let argv: Vec<String> = match &check.test[..] {
                    [kind, text] if kind == "CMD-SHELL" => ["sh", "-c", text].map(str::to_owned).into(),
                    [_, argv @ ..] => argv.to_vec(),
                    [] => Vec::new(),
                };
                Program::command(&argv).is_some_and(|steps| {
                    let mut progress = Progress::default();
                    progress.go(&steps, &mut c.files, c.memory_limit, |_, _| {}) == Pause::Ended(0)
                })
            }
        };
        let starting = check.start_period.is_some_and(|period| ran < period.as_std());
        let before = c.seen.health;
        if passes {
            (c.failures, c.seen.health) = (0, Health::Healthy);
        } else if !starting || before == Health::Healthy {
            c.failures += 1;
            if c.failures >= check.retries.unwrap_or(3).max(1) {
                c.seen.health = Health::Unhealthy;
            }
        }
        let (after, began) = (c.seen.health, c.began);
        if before != after {
            c.poke();
            self.tell(id, EngineEventKind::Health(after), at);
        }
        self.schedule(id, at + interval(&check, began, at).as_std(), What::Check);
    }

    fn end(&mut self, id: &ContainerId, code: i64, at: Instant) {
        let stamp = self.stamp(at);
        let Some(c) = self.containers.get_mut(id).filter(|c| c.seen.state == ContainerState::Running) else {
            return;
        };
        c.run += 1;
        c.seen.state = ContainerState::Exited;
        (c.seen.finished_at, c.seen.exit_code) = (Some(stamp), Some(code));
        c.poke();
        self.tell(id, EngineEventKind::Died { exit_code: code }, at);
    }

    fn tell(&mut self, id: &ContainerId, kind: EngineEventKind, at: Instant) {
        let stamp = self.stamp(at);
        let Some(seen) = self.containers.get(id).map(|c| &c.seen) else { return };
        let Some(node) = seen.labels.get(LABEL_NODE) else { return };
        let event = EngineEvent { id: id.clone(), allocation: seen.allocation(), at: stamp, kind };
        let deaf = self.settings.faults.deaf;
        let random = &mut self.random;
        self.readers.retain(|reader| {
            if reader.node != *node || random.happens(deaf) {
                return !reader.events.is_closed();
            }
            !matches!(reader.events.try_send(event.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        });
    }

    /// Events of this node's containers from now on.
    pub(super) fn read(&mut self, node: NodeId) -> mpsc::Receiver<EngineEvent> {
        let (events, reader) = mpsc::channel(MAX_EVENTS);
        self.readers.push(Reader { node: node.to_string(), events });
        reader
    }

    /// Ends all streams: of events by ending them, of output by letting them look.
    pub(super) fn hang_up(&mut self) {
        self.readers.clear();
        self.containers.values_mut().for_each(Container::poke);
    }

    pub(super) fn list(&self, node: NodeId) -> Vec<ContainerSeen> {
        let node = node.to_string();
        let ours = |c: &&Container| c.seen.labels.get(LABEL_NODE) == Some(&node);
        let mut all: Vec<_> = self.containers.values().filter(ours).map(|c| c.seen.clone()).collect();
        all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        all
    }

    pub(super) fn has_image(&self, image: &str) -> Result<bool> {
        Ok(self.settings.images.contains_key(&full(checked("image", image)?)))
    }

    pub(super) fn pull(&mut self, image: &str) -> Result<()> {
        let name = full(checked("image", image)?);
        let (image, message) = (image.to_owned(), String::new());
        match self.faults().registry {
            Some(RegistryFault::Unreachable) => {
                return Err(RuntimeError::RegistryUnreachable { image, message: message + "no route to it" });
            }
            Some(RegistryFault::Unauthorised) => {
                return Err(RuntimeError::Unauthorised { image, message: message + "access denied" });
            }
            None => {}
        }
        let settings = &mut self.settings;
        let found = settings.registry.get(&name).or(settings.any_image.as_ref()).cloned();
        let Some(program) = found.or_else(|| settings.images.get(&name).cloned()) else {
            return Err(RuntimeError::ImageMissing { image, message: message + "manifest unknown" });
        };
        self.room()?;
        self.settings.images.insert(name, program);
        Ok(())
    }

    fn room(&self) -> Result<()> {
        if self.faults().disk_full {
            return Err(RuntimeError::DiskFull { message: "no space left on device".to_owned() });
        }
        Ok(())
    }

    pub(super) fn create(&mut self, config: &ContainerConfig) -> Result<ContainerId> {
        let ContainerConfig { name, image, labels, mounts, healthcheck, .. } = config;
        limited(config)?;
        let node = node_label("container", checked("container", name)?, labels)?;
        let mut volumes = Vec::new();
        for mount in mounts {
            let MountSource::Volume(volume) = &mount.source else { continue };
            match self.volumes.get(checked("volume", volume)?) {
                None => return Err(no_volume(volume)),
                Some(labels) if labels.get(LABEL_NODE).is_none_or(|label| label != node) => {
                    return Err(foreign("volume", volume));
                }
                Some(_) => volumes.push(volume.clone()),
            }
        }
        if self.names.contains_key(name) {
            return Err(RuntimeError::Conflict {
                what: format!("container {name}"),
                message: "the name is already in use".to_owned(),
            });
        }
        let Some(program) = self.settings.images.get(&full(checked("image", image)?)).cloned() else {
            let message = format!("no such image: {image}");
            return Err(RuntimeError::ImageMissing { image: image.clone(), message });
        };
        self.room()?;
        let mut argv = config.entrypoint.clone().unwrap_or_default();
        argv.extend(config.command.clone().unwrap_or_default());
        let program = program.with_command(&argv);
        let check = match healthcheck.clone() {
            // The image's own, with other times.
            Some(own) if own.test.is_empty() => {
                program.healthcheck.clone().map(|image| HealthCheck { test: image.test, ..own })
            }
            Some(own) => Some(own),
            None => program.healthcheck.clone(),
        };
        let check = check.filter(|check| check.test.first().is_some_and(|kind| kind != "NONE"));
        self.counter += 1;
        let id = ContainerId(format!("{:048x}{:016x}", self.random.next(), self.counter));
        let container = Container {
            image: image.clone(),
            seen: ContainerSeen::just_created(id.clone(), config.clone()),
            program,
            check,
            networks: config.networks.keys().cloned().collect(),
            volumes,
            memory_limit: config.memory_limit,
            stop_signal: config.process.stop_signal.clone().unwrap_or_else(|| "SIGTERM".to_owned()),
            run: 0,
            began: None,
            progress: Progress::default(),
            files: BTreeSet::new(),
            failures: 0,
            lines: VecDeque::new(),
            first_line: 0,
            changed: None,
        };
        self.names.insert(name.clone(), id.clone());
        self.containers.insert(id.clone(), container);
        Ok(id)
    }

    pub(super) fn start(&mut self, id: &ContainerId, now: Instant) -> Result<()> {
        let Some(c) = self.containers.get(id) else { return Err(no_container(id)) };
        if matches!(c.seen.state, ContainerState::Running | ContainerState::Paused) {
            return Ok(());
        }
        if let Some(network) = c.networks.iter().find(|name| !self.networks.contains_key(*name)) {
            return Err(RuntimeError::NotFound {
                what: format!("container {}", id.0),
                message: format!("network {network} not found"),
            });
        }
        let taken = c.seen.ports.iter().find(|port| self.is_taken(port)).map(|port| port.host_port);
        let stamp = self.stamp(now);
        let Some(c) = self.containers.get_mut(id) else { return Err(no_container(id)) };
        if let Some(port) = taken {
            let message = format!("Bind for port {port} failed: port is already allocated");
            c.seen.error = Some(message.clone());
            return Err(RuntimeError::PortInUse { port: Some(port), message });
        }
        c.run += 1;
        (c.progress, c.failures, c.began) = (Progress::default(), 0, Some(now));
        // Two starts are told apart by their times, also within a millisecond.
        let stamp = c.seen.started_at.map_or(stamp, |last| stamp.max(last + Duration(1)));
        c.seen = ContainerSeen {
            state: ContainerState::Running,
            health: if c.check.is_some() { Health::Starting } else { Health::None },
            started_at: Some(stamp),
            finished_at: None,
            exit_code: None,
            out_of_memory: false,
            error: None,
            ..c.seen.clone()
        };
        let first = c.check.as_ref().map(|check| now + interval(check, Some(now), now).as_std());
        self.tell(id, EngineEventKind::Started, now);
        if let Some(at) = first {
            self.schedule(id, at, What::Check);
        }
        self.go_on(id, now);
        Ok(())
    }

    fn is_taken(&self, port: &PublishedPort) -> bool {
        let clash = |other: &PublishedPort| {
            other.host_port == port.host_port
                && other.target.protocol == port.target.protocol
                && (other.host_ip == port.host_ip
                    || other.host_ip.is_unspecified()
                    || port.host_ip.is_unspecified())
        };
        let running = self.containers.values().filter(|c| c.seen.state == ContainerState::Running);
        self.faults().ports_in_use.contains(&port.host_port) || running.flat_map(|c| &c.seen.ports).any(clash)
    }

    /// A signal to process 1; `SIGKILL` is never unheard.
    pub(super) fn signal(&mut self, id: &ContainerId, signal: &str, now: Instant) {
        let Some(c) = self.containers.get(id) else { return };
        match c.progress.traps.get(signal).copied() {
            _ if signal == "SIGKILL" => self.end(id, 137, now),
            Some(code) => self.end(id, code, now),
            None => {}
        }
    }

    /// Ends a container, whatever it does.
    pub(super) fn force_end(&mut self, id: &ContainerId, code: i64, now: Instant) {
        self.end(id, code, now);
    }

    pub(super) fn remove(&mut self, id: &ContainerId, force: bool, now: Instant) -> Result<()> {
        let Some(c) = self.containers.get(id) else { return Ok(()) };
        if matches!(c.seen.state, ContainerState::Running | ContainerState::Paused) {
            if !force {
                return Err(RuntimeError::Conflict {
                    what: format!("container {}", id.0),
                    message: "it runs; stop it first".to_owned(),
                });
            }
            self.end(id, 137, now);
        }
        self.tell(id, EngineEventKind::Destroyed, now);
        if let Some(c) = self.containers.remove(id) {
            self.names.remove(&c.seen.name);
        }
        Ok(())
    }

    pub(super) fn nodes(&self) -> BTreeSet<NodeId> {
        let containers = self.containers.values().map(|c| &c.seen.labels);
        let labels = containers.chain(self.networks.values()).chain(self.volumes.values());
        labels.filter_map(|labels| labels.get(LABEL_NODE)?.parse().ok()).collect()
    }

    pub(super) fn networks(&self, node: NodeId) -> Vec<NetworkSeen> {
        let ours = ours(&self.networks, node);
        ours.map(|(name, labels)| NetworkSeen { name, bridge: labelled_bridge(&labels, 0), labels }).collect()
    }

    pub(super) fn volumes(&self, node: NodeId) -> Vec<VolumeSeen> {
        let ours = ours(&self.volumes, node);
        ours.map(|(name, labels)| VolumeSeen { name, labels }).collect()
    }

    pub(super) fn create_network(&mut self, name: &str, labels: &Labels) -> Result<()> {
        make("network", &mut self.networks, name, labels)
    }

    pub(super) fn create_volume(&mut self, name: &str, labels: &Labels) -> Result<()> {
        if !self.volumes.contains_key(name) {
            self.room()?;
        }
        make("volume", &mut self.volumes, name, labels)
    }

    pub(super) fn volume_exists(&self, node: NodeId, name: &str) -> Result<bool> {
        owned("volume", &self.volumes, name, node)
    }

    pub(super) fn remove_network(&mut self, node: NodeId, name: &str) -> Result<()> {
        if owned("network", &self.networks, name, node)? {
            // As with Docker: only who runs is in the way.
            let on = |c: &&Container| {
                c.seen.state == ContainerState::Running && c.networks.iter().any(|other| other == name)
            };
            unused("network", name, self.containers.values().find(on))?;
            self.networks.remove(name);
        }
        Ok(())
    }

    pub(super) fn remove_volume(&mut self, node: NodeId, name: &str) -> Result<()> {
        if owned("volume", &self.volumes, name, node)? {
            let mounts = |c: &&Container| c.volumes.iter().any(|other| other == name);
            unused("volume", name, self.containers.values().find(mounts))?;
            self.volumes.remove(name);
        }
        Ok(())
    }

    /// Somebody deletes it behind the agent's back.
    pub(super) fn lose_volume(&mut self, name: &str) -> bool {
        self.volumes.remove(name).is_some()
    }

    pub(super) fn usage(&self, id: &ContainerId, now: Instant) -> Result<Usage> {
        let Some(c) = self.containers.get(id) else { return Err(no_container(id)) };
        let began = c.began.filter(|_| c.seen.state == ContainerState::Running);
        let ran = began.map_or(0, |began| now.saturating_duration_since(began).as_nanos());
        let nanos = ran * u128::from(c.program.cpu.0) / 1000;
        Ok(Usage {
            cpu_nanos: u64::try_from(nanos).unwrap_or(u64::MAX),
            memory: if began.is_some() { c.progress.memory } else { Bytes(0) },
            memory_limit: c.memory_limit,
            pids: u64::from(began.is_some()),
        })
    }

    /// Whether it runs in the run that began last; the number names that run.
    pub(super) fn running(&self, id: &ContainerId) -> Option<u32> {
        self.containers.get(id).filter(|c| c.seen.state == ContainerState::Running).map(|c| c.run)
    }

    /// Told of changes of one container.
    pub(super) fn changes(&mut self, id: &ContainerId) -> Result<watch::Receiver<()>> {
        let Some(c) = self.containers.get_mut(id) else { return Err(no_container(id)) };
        Ok(c.changed.get_or_insert_with(|| watch::channel(()).0).subscribe())
    }

    pub(super) fn image(&mut self, image: &str, program: Program) {
        self.settings.images.insert(full(image), Arc::new(program));
    }
}

impl Container {
    fn poke(&mut self) {
        if let Some(changed) = &self.changed
            && changed.send(()).is_err()
        {
            self.changed = None;
        }
    }
}

/// Between two checks.
fn interval(check: &HealthCheck, began: Option<Instant>, at: Instant) -> Duration {
    let ran = began.map_or(std::time::Duration::ZERO, |began| at.saturating_duration_since(began));
    let starting = check.start_period.is_some_and(|period| ran < period.as_std());
    let usual = check.interval.unwrap_or(Duration::from_secs(30));
    let span = if starting { check.start_interval.unwrap_or(usual) } else { usual };
    span.max(Duration(1))
}

fn ours(all: &BTreeMap<String, Labels>, node: NodeId) -> impl Iterator<Item = (String, Labels)> {
    let node = node.to_string();
    let ours = all.iter().filter(move |(_, labels)| labels.get(LABEL_NODE) == Some(&node));
    ours.map(|(name, labels)| (name.clone(), labels.clone()))
}

fn make(kind: &str, all: &mut BTreeMap<String, Labels>, name: &str, labels: &Labels) -> Result<()> {
    let node = node_label(kind, checked(kind, name)?, labels)?;
    match all.get(name) {
        Some(labels) if labels.get(LABEL_NODE).is_some_and(|label| label == node) => Ok(()),
        Some(_) => Err(foreign(kind, name)),
        None => {
            all.insert(name.to_owned(), labels.clone());
            Ok(())
        }
    }
}

fn owned(kind: &str, all: &BTreeMap<String, Labels>, name: &str, node: NodeId) -> Result<bool> {
    match all.get(checked(kind, name)?) {
        None => Ok(false),
        Some(labels) if labels.get(LABEL_NODE) == Some(&node.to_string()) => Ok(true),
        Some(_) => Err(foreign(kind, name)),
    }
}

fn unused(kind: &str, name: &str, user: Option<&Container>) -> Result<()> {
    match user {
        None => Ok(()),
        Some(user) => Err(RuntimeError::Conflict {
            what: format!("{kind} {name}"),
            message: format!("container {} uses it", user.seen.name),
        }),
    }
}
