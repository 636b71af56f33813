//! A node of its own for each test. Whatever the test makes carries the node's label, and goes
//! when the test has ended, also by a failed assertion.

use crate::{EngineEvent, EngineEventKind, ExecConfig, LogOptions, LogStream, Result, Runtime};
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use lattice_model::{
    AllocationId, Bytes, Cpu, Duration, NodeId,
    container::{ContainerConfig, ContainerId, ContainerSeen, ContainerState, LABEL_ALLOCATION, LABEL_NODE},
    spec::{DEFAULT_CAPABILITIES, LogSpec, NamingSpec, ProcessSpec, SandboxSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration as StdDuration,
};

/// No test takes longer; generous, since machines that run tests are busy.
const LIMIT: StdDuration = StdDuration::from_secs(180);

/// A runtime, an image and a node that nobody else has.
pub struct Stage {
    /// The runtime under test.
    pub runtime: Arc<dyn Runtime>,
    /// An image with `sh` and `sleep`.
    pub image: String,
    /// This test's node.
    pub node: NodeId,
    /// Somebody else's node, cleared up as well.
    pub other: NodeId,
}

pub(super) fn random() -> u128 {
    let half = || u128::from(getrandom::u64().expect("this machine gives random numbers"));
    half() << 64 | half()
}

impl Stage {
    /// Runs a test and clears up.
    pub async fn run(runtime: Arc<dyn Runtime>, image: &str, test: impl AsyncFnOnce(&Self)) {
        if let Err(error) = runtime.ping().await {
            panic!("{error}\nThese tests need a container engine; `make test` starts one.");
        }
        let stage = Self {
            runtime,
            image: image.to_owned(),
            node: NodeId::from_random(random()),
            other: NodeId::from_random(random()),
        };
        let outcome = AssertUnwindSafe(tokio::time::timeout(LIMIT, test(&stage))).catch_unwind().await;
        for node in [stage.node, stage.other] {
            stage.clear(node).await;
        }
        match outcome {
            Ok(in_time) => in_time.expect("the test ends in time"),
            Err(panic) => resume_unwind(panic),
        }
    }

    async fn clear(&self, node: NodeId) {
        let _ = self.runtime.clear_builds(node).await;
        for container in self.runtime.list(node).await.unwrap_or_default() {
            let _ = self.runtime.remove(&container.id, true).await;
        }
        for network in self.runtime.list_networks(node).await.unwrap_or_default() {
            let _ = self.runtime.remove_network(node, &network.name).await;
        }
        for volume in self.runtime.list_volumes(node).await.unwrap_or_default() {
            let _ = self.runtime.remove_volume(node, &volume.name).await;
        }
    }

    /// A name on the engine that nobody else has.
    pub fn name(&self, what: &str) -> String {
        format!("lattice-test-{}-{what}", self.node.short())
    }

    /// The labels that a thing of `node` has.
    pub fn labels(&self, node: NodeId) -> BTreeMap<String, String> {
        [(LABEL_NODE, node.to_string()), ("lattice.test", "1".to_owned())]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    }

    /// A container of this node that runs `command`.
    pub fn config(&self, what: &str, command: &[&str]) -> ContainerConfig {
        let mut labels = self.labels(self.node);
        labels.insert(LABEL_ALLOCATION.to_owned(), AllocationId::from_random(random()).to_string());
        ContainerConfig {
            platform: None,
            process: ProcessSpec::default(),
            sandbox: SandboxSpec::default(),
            naming: NamingSpec::default(),
            logs: LogSpec::default(),
            gpus: None,
            gpu_access: None,
            name: self.name(what),
            image: self.image.clone(),
            entrypoint: None,
            command: Some(command.iter().map(|&word| word.to_owned()).collect()),
            environment: BTreeMap::new(),
            labels,
            mounts: Vec::new(),
            networks: BTreeMap::new(),
            ports: Vec::new(),
            healthcheck: None,
            cpu_limit: Cpu(500),
            memory_limit: Bytes::from_mib(64),
            pids_limit: 64,
            capabilities: DEFAULT_CAPABILITIES.iter().map(|&name| name.to_owned()).collect(),
            stop_grace_period: Duration::from_secs(10),
        }
    }

    /// Makes it and starts it.
    pub async fn start(&self, config: &ContainerConfig) -> ContainerId {
        let id = self.runtime.create(config).await.expect("it is created");
        self.runtime.start(&id).await.expect("it starts");
        id
    }

    /// A network of this node.
    pub async fn network(&self, what: &str) -> String {
        let name = self.name(what);
        self.runtime.create_network(&name, false, &self.labels(self.node)).await.expect("a network");
        name
    }

    /// The container as a listing shows it.
    pub async fn listed(&self, id: &ContainerId) -> Option<ContainerSeen> {
        self.runtime.list(self.node).await.expect("a list").into_iter().find(|seen| seen.id == *id)
    }

    /// Events until one satisfies `wanted`; those before it are passed over.
    pub async fn event(
        &self,
        events: &mut BoxStream<'static, Result<EngineEvent>>,
        id: &ContainerId,
        wanted: impl Fn(EngineEventKind) -> bool,
    ) -> EngineEvent {
        loop {
            let event = events.next().await.expect("the stream goes on").expect("an event");
            if event.id == *id && wanted(event.kind) {
                return event;
            }
        }
    }

    /// Waits until the container has ended.
    pub async fn ended(&self, id: &ContainerId) -> ContainerSeen {
        let mut events = self.runtime.events(self.node).await.expect("events");
        let seen = self.listed(id).await.expect("it is listed");
        if seen.state != ContainerState::Exited {
            self.event(&mut events, id, |kind| matches!(kind, EngineEventKind::Died { .. })).await;
        }
        let seen = self.listed(id).await.expect("it is listed");
        assert_eq!(seen.state, ContainerState::Exited);
        seen
    }

    /// Reads the container's log until it says `word`.
    pub async fn says(&self, id: &ContainerId, word: &str) {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut logs = self.runtime.logs(id, options).await.expect("logs");
        let mut text = String::new();
        while !text.contains(word) {
            let chunk = logs.next().await.unwrap_or_else(|| panic!("it ended, having said {text:?}"));
            text.push_str(&String::from_utf8_lossy(&chunk.expect("output").bytes));
        }
    }

    /// Runs a command in the container: standard output, standard error, exit code.
    pub async fn exec(&self, id: &ContainerId, argv: &[&str]) -> (String, String, i64) {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let config = ExecConfig { argv, ..ExecConfig::default() };
        let mut session = self.runtime.exec(id, config).await.expect("it runs");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(chunk) = session.output.next().await {
            let chunk = chunk.expect("output");
            if chunk.stream == LogStream::Stdout { &mut out } else { &mut err }
                .extend_from_slice(&chunk.bytes);
        }
        let code = session.control.exit_code().await.expect("an exit code");
        (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned(), code)
    }
}

/// One alias.
pub(super) fn alias(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}
