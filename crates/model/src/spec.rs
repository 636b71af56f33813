//! What a person asks for: the declared documents, resolved (no variables, no file references),
//! as `lattice deploy` sends them, the store keeps them and a goal carries them.
//!
//! What must never run cannot be written down here: there is no field for privileged mode, the
//! host's namespaces, host paths or devices. An unknown field is refused and not ignored, since
//! an agent that ignored `read_only` would run something laxer than was asked for.

use crate::{
    name::{NetworkName, PoolName, SecretName, VolumeName, WorkloadName},
    time::Duration,
    unit::{Bytes, Cpu},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Capabilities that a container may keep when it asks for nothing special (as in design law 7).
pub const DEFAULT_CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "SETPCAP", "NET_BIND_SERVICE", "KILL"];

/// The most replicas that one workload may ask for.
pub const MAX_REPLICAS: u32 = 1000;

/// The most workloads in one stack.
pub const MAX_WORKLOADS: usize = 200;

/// A stack: a Compose project, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StackSpec {
    /// The services by name.
    pub workloads: BTreeMap<WorkloadName, WorkloadSpec>,
    /// The named volumes that services of this stack mount.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<VolumeName, VolumeSpec>,
    /// The networks that services of this stack attach to, `default` included where it is used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<NetworkName, NetworkSpec>,
}

/// A service of a stack, or a job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// The image reference as written: `postgres:15`, `registry.example/app@sha256:…`.
    pub image: String,
    /// Replaces the image's entrypoint; an empty list clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; an empty list clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Ports published on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
    /// Ports that only the stack's networks reach; documentation for people and for the mesh.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub expose: BTreeSet<ContainerPort>,
    /// Named volumes mounted into the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountSpec>,
    /// Secrets mounted as files in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretMount>,
    /// The stack networks that it attaches to; empty means no network at all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<NetworkName, Attachment>,
    /// What must have happened to other services before this one starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<WorkloadName, Dependency>,
    /// How the container's health is found out; `None` leaves it to the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthCheck>,
    /// What happens when the container ends.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How many run at the same time.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Processors and memory, reserved and at the most.
    #[serde(default)]
    pub resources: Resources,
    /// Labels on the container; the prefix `lattice.` is reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The pool whose nodes may run it; `None` is the default pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// How long a container may take to stop before it is killed.
    #[serde(default = "ten_seconds", skip_serializing_if = "is_ten_seconds")]
    pub stop_grace_period: Duration,
}

const fn one() -> u32 {
    1
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn is_ten_seconds(span: &Duration) -> bool {
    *span == ten_seconds()
}

impl WorkloadSpec {
    /// A workload that runs `image` once with every default; the caller fills in the rest.
    pub fn of_image(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            ports: Vec::new(),
            expose: BTreeSet::new(),
            mounts: Vec::new(),
            secrets: Vec::new(),
            networks: BTreeMap::new(),
            depends_on: BTreeMap::new(),
            healthcheck: None,
            restart: RestartPolicy::default(),
            replicas: 1,
            resources: Resources::default(),
            labels: BTreeMap::new(),
            pool: None,
            stop_grace_period: ten_seconds(),
        }
    }
}

/// The names of an environment without the values, which are often passwords: for `Debug`.
pub(crate) struct Names<'a>(pub(crate) &'a BTreeMap<String, String>);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for WorkloadSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            image,
            entrypoint,
            command,
            environment,
            ports,
            expose,
            mounts,
            secrets,
            networks,
            depends_on,
            healthcheck,
            restart,
            replicas,
            resources,
            labels,
            pool,
            stop_grace_period,
        } = self;
        f.debug_struct("WorkloadSpec")
            .field("image", image)
            .field("entrypoint", entrypoint)
            .field("command", command)
            .field("environment", &Names(environment))
            .field("ports", ports)
            .field("expose", expose)
            .field("mounts", mounts)
            .field("secrets", secrets)
            .field("networks", networks)
            .field("depends_on", depends_on)
            .field("healthcheck", healthcheck)
            .field("restart", restart)
            .field("replicas", replicas)
            .field("resources", resources)
            .field("labels", labels)
            .field("pool", pool)
            .field("stop_grace_period", stop_grace_period)
            .finish()
    }
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`, as Docker writes them.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port inside the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainerPort {
    /// 1 to 65535.
    pub port: u16,
    /// TCP unless said.
    #[serde(default)]
    pub protocol: Protocol,
}

/// A port published on the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// The port inside the container.
    pub target: ContainerPort,
    /// The port on the node; `None` lets the node choose a free one and keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u16>,
    /// The address on the node to bind. `None` is loopback, unless the node's owner allows more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub host_ip: Option<std::net::IpAddr>,
}

/// A named volume inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    /// The volume of the stack.
    pub volume: VolumeName,
    /// An absolute path inside the container.
    pub target: String,
    /// Whether the container may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// A secret as a file in memory inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretMount {
    /// The secret of the project.
    pub secret: SecretName,
    /// An absolute path inside the container, `/run/secrets/<name>` by custom.
    pub target: String,
    /// Permission bits of the file, e.g. 0o444.
    #[serde(default = "read_all")]
    pub mode: u32,
}

const fn read_all() -> u32 {
    0o444
}

/// A workload on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Names besides the service's own that resolve to it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
}

/// What must have happened to a service before another starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// What must have happened.
    pub condition: DependencyCondition,
    /// Whether its absence is an error rather than a warning.
    #[serde(default = "yes")]
    pub required: bool,
}

const fn yes() -> bool {
    true
}

/// The conditions of Compose's `depends_on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// It has been started.
    #[default]
    ServiceStarted,
    /// Its health check passes.
    ServiceHealthy,
    /// It has ended with exit code 0.
    ServiceCompletedSuccessfully,
}

/// How a container's health is found out (Compose's and Docker's semantics).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// `["CMD", …]`, `["CMD-SHELL", …]` or `["NONE"]`, which switches the image's own check off.
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long one check may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// A time at the start in which failures do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Duration>,
    /// Time between two checks within the start period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Duration>,
}

/// What happens when a container ends. The agent does it: Docker's own policy is always `no`,
/// or dockerd would revive what was fenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It stays ended: a job, whatever its exit code.
    Never,
    /// It is started again unless it ended with 0, at most `max_retries` times in a row.
    OnFailure {
        /// `None` is without limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_retries: Option<u32>,
    },
    /// It is started again, always. A workload without a policy is a service, so this is the default.
    #[default]
    Always,
}

/// Processors and memory of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Set aside on the node by the planner; `None` takes [`Resources::DEFAULT_RESERVED_CPU`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_cpu: Option<Cpu>,
    /// Set aside on the node by the planner; `None` takes [`Resources::DEFAULT_RESERVED_MEMORY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_memory: Option<Bytes>,
    /// The most that the container may use; `None` is all that the owner lends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<Cpu>,
    /// The most that the container may use; `None` takes [`Resources::memory_limit`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Bytes>,
    /// The most processes and threads; `None` takes [`Resources::DEFAULT_PIDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u32>,
}

impl Resources {
    /// Reserved where nothing is said: a tenth of a core.
    pub const DEFAULT_RESERVED_CPU: Cpu = Cpu(100);
    /// Reserved where nothing is said.
    pub const DEFAULT_RESERVED_MEMORY: Bytes = Bytes::from_mib(64);
    /// The limit where nothing is said, unless more is reserved.
    pub const DEFAULT_MEMORY_LIMIT: Bytes = Bytes::from_mib(1024);
    /// The limit of processes and threads where nothing is said.
    pub const DEFAULT_PIDS: u32 = 2048;

    /// What the planner sets aside.
    pub fn reserved(&self) -> (Cpu, Bytes) {
        (
            self.reserved_cpu.unwrap_or(Self::DEFAULT_RESERVED_CPU),
            self.reserved_memory.unwrap_or_else(|| {
                Self::DEFAULT_RESERVED_MEMORY.min(self.memory_limit.unwrap_or(Bytes(u64::MAX)))
            }),
        )
    }

    /// The limit that the container gets; there always is one.
    pub fn memory_limit(&self) -> Bytes {
        self.memory_limit.unwrap_or_else(|| Self::DEFAULT_MEMORY_LIMIT.max(self.reserved().1))
    }

    /// The limit of processes and threads that the container gets; there always is one.
    pub fn pids_limit(&self) -> u32 {
        self.pids_limit.unwrap_or(Self::DEFAULT_PIDS)
    }
}

/// A named volume of a stack. Holders, snapshots and failover will be policies here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Labels that people put on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A network of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Whether containers on it reach nothing outside of it.
    #[serde(default)]
    pub internal: bool,
    /// Labels that people put on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
