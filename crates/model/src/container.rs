//! A container as an engine is asked for it, and as it is seen: the words between the agent's
//! reconciler, which decides, and the runtime port, which carries out.

use crate::{
    id::{AllocationId, NetworkId, NodeId, VolumeId},
    report::{Health, PublishedPort},
    spec::{GpuRequest, HealthCheck, LogSpec, Names, NamingSpec, ProcessSpec, SandboxSpec},
    time::{Duration, Timestamp},
    unit::{Bytes, Cpu},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// On everything that Lattice makes: the node whose agent made it. What lacks this label, or has
/// another node's, is never touched.
pub const LABEL_NODE: &str = "lattice.node";
/// On containers: the allocation.
pub const LABEL_ALLOCATION: &str = "lattice.allocation";
/// On containers, volumes and networks: the stack, as `project/stack`.
pub const LABEL_STACK: &str = "lattice.stack";
/// On containers, volumes and networks: the project.
pub const LABEL_PROJECT: &str = "lattice.project";
/// On containers: the workload, as `project/stack/service`.
pub const LABEL_WORKLOAD: &str = "lattice.workload";
/// On volumes: its id.
pub const LABEL_VOLUME: &str = "lattice.volume";
/// On networks: its id.
pub const LABEL_NETWORK: &str = "lattice.network";
/// The name of the volume that a container carries in or out as an archive. It never runs.
pub const LABEL_PORTER: &str = "lattice.porter";
/// On everything that comes of an image's build: the node that builds.
pub const LABEL_BUILD: &str = "lattice.build";

/// Everything that decides how a container is made. What is not here is not asked for: no
/// privileges, no host namespaces, no devices but GPUs, the engine's restart policy `no`. `Debug` hides the
/// values of the environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Unique on the node.
    pub name: String,
    /// The image reference.
    pub image: String,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Labels, Lattice's own among them.
    pub labels: BTreeMap<String, String>,
    /// Volumes and files.
    pub mounts: Vec<ContainerMount>,
    /// Networks by the engine's name, with the names that resolve to this container there.
    pub networks: BTreeMap<String, BTreeSet<String>>,
    /// Ports to publish, with the host's port already chosen.
    pub ports: Vec<PublishedPort>,
    /// How its health is found out.
    pub healthcheck: Option<HealthCheck>,
    /// At most so much processor.
    pub cpu_limit: Cpu,
    /// At most so much memory, and no swap beyond.
    pub memory_limit: Bytes,
    /// At most so many processes and threads.
    pub pids_limit: u32,
    /// Capabilities that it keeps; all others are dropped.
    pub capabilities: BTreeSet<String>,
    /// How long it may take to stop before it is killed.
    pub stop_grace_period: Duration,
    /// The platform of the image, where one was named.
    pub platform: Option<String>,
    /// Who its process is.
    pub process: ProcessSpec,
    /// Its walls, with `cap_add` and `cap_drop` already in `capabilities`.
    pub sandbox: SandboxSpec,
    /// How it finds others.
    pub naming: NamingSpec,
    /// How much of its output is kept.
    pub logs: LogSpec,
    /// The GPUs that it gets.
    pub gpus: Option<GpuRequest>,
    /// How it gets them, by the agent's word: no goal can say this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_access: Option<GpuAccess>,
}

/// How a container gets GPUs from its engine, which differs from machine to machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuAccess {
    /// By NVIDIA's runtime, as `docker run --gpus` asks for it.
    Runtime {
        /// Which.
        ids: Vec<String>,
        /// What of them is used: `compute`, `utility` …
        capabilities: BTreeSet<String>,
    },
    /// By names that a description of devices gives them: `nvidia.com/gpu=0`.
    Cdi {
        /// Which.
        names: Vec<String>,
    },
    /// By what the agent found on the host, and nothing of the engine's.
    Direct {
        /// Device nodes, under the same path in the container.
        devices: Vec<String>,
        /// Files of the driver, read-only.
        files: Vec<BoundFile>,
    },
}

/// A file of the host in a container, read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundFile {
    /// On the host.
    pub source: String,
    /// In the container.
    pub target: String,
}

impl fmt::Debug for ContainerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            image,
            entrypoint,
            command,
            environment,
            labels,
            mounts,
            networks,
            ports,
            healthcheck,
            cpu_limit,
            memory_limit,
            pids_limit,
            capabilities,
            stop_grace_period,
            platform,
            process,
            sandbox,
            naming,
            logs,
            gpus,
            gpu_access,
        } = self;
        f.debug_struct("ContainerConfig")
            .field("name", name)
            .field("image", image)
            .field("entrypoint", entrypoint)
            .field("command", command)
            .field("environment", &Names(environment))
            .field("labels", labels)
            .field("mounts", mounts)
            .field("networks", networks)
            .field("ports", ports)
            .field("healthcheck", healthcheck)
            .field("cpu_limit", cpu_limit)
            .field("memory_limit", memory_limit)
            .field("pids_limit", pids_limit)
            .field("capabilities", capabilities)
            .field("stop_grace_period", stop_grace_period)
            .field("platform", platform)
            .field("process", process)
            .field("sandbox", sandbox)
            .field("naming", naming)
            .field("logs", logs)
            .field("gpus", gpus)
            .field("gpu_access", gpu_access)
            .finish()
    }
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMount {
    /// What.
    pub source: MountSource,
    /// The absolute path inside the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A volume that exists, by the engine's name. The engine never creates one here by itself.
    Volume(String),
    /// A file of the agent's in memory (a secret), by its absolute path on the host.
    SecretFile(String),
    /// Files that travelled with the deployment, by the absolute path where the agent unpacked them.
    Tree(String),
}

/// A container as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSeen {
    /// The engine's id.
    pub id: ContainerId,
    /// Its name without a leading slash.
    pub name: String,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub state: ContainerState,
    /// What its health check says.
    pub health: Health,
    /// When it was started last, by the engine's clock.
    pub started_at: Option<Timestamp>,
    /// When it ended last, by the engine's clock.
    pub finished_at: Option<Timestamp>,
    /// The exit code of its last run, once it has ended.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// What the engine said when it could not be started.
    pub error: Option<String>,
    /// The ports that it was made with.
    pub ports: Vec<PublishedPort>,
    /// What it wrote last before it failed, cut to a line; nothing where that is not known.
    pub last_words: Option<String>,
}

impl ContainerSeen {
    /// A container as it is right after it was made, without asking the engine.
    pub fn just_created(id: ContainerId, config: ContainerConfig) -> Self {
        Self {
            id,
            name: config.name,
            labels: config.labels,
            state: ContainerState::Created,
            health: Health::None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            out_of_memory: false,
            error: None,
            ports: config.ports,
            last_words: None,
        }
    }

    /// The allocation that its label names.
    pub fn allocation(&self) -> Option<AllocationId> {
        self.labels.get(LABEL_ALLOCATION)?.parse().ok()
    }

    /// The node that its label names.
    pub fn node(&self) -> Option<NodeId> {
        self.labels.get(LABEL_NODE)?.parse().ok()
    }
}

/// The engine's id of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Made and never started.
    Created,
    /// Runs.
    Running,
    /// Frozen by somebody.
    Paused,
    /// Ended.
    Exited,
    /// Being removed, or half removed.
    Dead,
}

/// A volume as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSeen {
    /// The engine's name.
    pub name: String,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
}

impl VolumeSeen {
    /// The volume that its label names.
    pub fn volume(&self) -> Option<VolumeId> {
        self.labels.get(LABEL_VOLUME)?.parse().ok()
    }
}

/// A network as the engine shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSeen {
    /// The engine's name.
    pub name: String,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// The interface of the host by which its containers' packets come, where the engine says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
}

/// Letters and digits that cannot be taken for each other, five bits each.
const BRIDGE_DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn digits(bits: u128, count: u32) -> String {
    let digit = |n: u32| char::from(BRIDGE_DIGITS[usize::try_from(bits >> (5 * n) & 31).unwrap_or(0)]);
    (0..count).rev().map(digit).collect()
}

/// How the names of all bridges of a node begin. Rules of a firewall that match it hold for each network from its
/// first moment on.
pub fn bridge_prefix(node: NodeId) -> String {
    format!("lt{}", digits(node.uuid().as_u128(), 5))
}

/// What the bridge of a node's network is called on its host: as long as the kernel allows, 15 characters.
pub fn bridge_name(node: NodeId, network: NetworkId) -> String {
    format!("{}{}", bridge_prefix(node), digits(network.uuid().as_u128(), 8))
}

/// The same, of a network with these labels; nothing where they do not say whose it is. Each `attempt` is another
/// name: an engine may hold one fast for a network that it does not have.
pub fn labelled_bridge(labels: &BTreeMap<String, String>, attempt: u8) -> Option<String> {
    let (node, network) =
        (labels.get(LABEL_NODE)?.parse().ok()?, labels.get(LABEL_NETWORK)?.parse::<NetworkId>().ok()?);
    // The name has the last 40 bits of the id; the others are as random.
    let other = network.uuid().as_u128().rotate_right(u32::from(attempt) * 7);
    Some(bridge_name(node, NetworkId::from_random(other)))
}

impl NetworkSeen {
    /// The network that its label names.
    pub fn network(&self) -> Option<NetworkId> {
        self.labels.get(LABEL_NETWORK)?.parse().ok()
    }
}
