//! What a person asks for: the declared documents, resolved (no variables, no file references),
//! as `lattice deploy` sends them, the store keeps them and a goal carries them.
//!
//! What must never run cannot be written down here: there is no field for privileged mode, the
//! host's namespaces, host paths or devices other than GPUs that an owner lends. An unknown field is refused and not ignored, since
//! an agent that ignored `read_only` would run something laxer than was asked for.

mod attach;
mod confine;
mod image;
mod lifecycle;
mod placement;
mod pools;
mod schedule;

pub use crate::taint::Toleration;
pub use attach::{
    Attachment, ContainerPort, InvalidDigest, MountSpec, NetworkSpec, PortSpec, Protocol, SecretMount,
    TreeDigest, TreeMount, VolumeSpec,
};
pub use confine::{
    CAPABILITIES, GpuCount, GpuRequest, HostEntry, LogSpec, NamingSpec, ProcessSpec, PullPolicy, Rendezvous,
    Resources, SandboxSpec, TaskArray, TmpfsSpec, ULIMITS, Ulimit,
};
pub use image::{
    ImageDigest, ImagePin, ImageSource, image_registry, image_repository, registry_of_secret, registry_secret,
};
pub use lifecycle::{
    BlueGreen, Canary, Dependency, DependencyCondition, HealthCheck, Mode, Promote, RestartPolicy,
    RestartTiming, Share, UpdateFailure, UpdateOrder, UpdatePolicy, UpdateStrategy,
};
pub use placement::{
    Affinity, Constraint, InvalidConstraint, InvalidNeighbour, MAX_WISHES, Neighbour, NodeAttribute,
    PlacementSpec, Preference, Quantity, Rebalancing, Test, Than,
};
pub use pools::{InvalidPools, Pools};
pub use schedule::{Overlap, Schedule};

use crate::{
    name::{NetworkName, VolumeName, WorkloadName},
    time::Duration,
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
    /// Which image exactly that is, where it is known; `None` leaves it to each node's engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<ImagePin>,
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
    /// The pools whose nodes may run it, the best first: the first that has room.
    #[serde(default, skip_serializing_if = "Pools::is_unsaid")]
    pub pool: Pools,
    /// How long a container may take to stop before it is killed.
    #[serde(default = "ten_seconds", skip_serializing_if = "is_ten_seconds")]
    pub stop_grace_period: Duration,
    /// The platform that the image is for, as `os/arch` or `os/arch/variant`; `None` is the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When the image is fetched.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pull: PullPolicy,
    /// Files that travel with the deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trees: Vec<TreeMount>,
    /// Who its process is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub process: ProcessSpec,
    /// Its walls.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sandbox: SandboxSpec,
    /// How it finds others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub naming: NamingSpec,
    /// How much of its output is kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub logs: LogSpec,
    /// The GPUs that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuRequest>,
    /// How its replicas find each other, for jobs that run as one on several GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendezvous: Option<Rendezvous>,
    /// That its replicas are the tasks of one job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array: Option<TaskArray>,
    /// When it runs by itself, being a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// When it is started again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart_timing: RestartTiming,
    /// Whether its containers are replaced, as at an update, when a secret that it mounts gets
    /// another value; the files change in any case.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart_on_secret: bool,
    /// Whether it runs in replicas or once on each node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Which nodes it may run on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub placement: PlacementSpec,
    /// How a new version takes over.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: UpdatePolicy,
    /// How a former version comes back; `None` is as `update`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<UpdatePolicy>,
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl WorkloadSpec {
    /// Whether its replicas get their places together or not at all: by its own word, or since they have to meet.
    pub const fn is_gang(&self) -> bool {
        self.placement.gang || self.rendezvous.is_some()
    }

    /// A workload that runs `image` once with every default; the caller fills in the rest.
    pub fn of_image(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            pin: None,
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
            pool: Pools::default(),
            stop_grace_period: ten_seconds(),
            platform: None,
            pull: PullPolicy::default(),
            trees: Vec::new(),
            process: ProcessSpec::default(),
            sandbox: SandboxSpec::default(),
            naming: NamingSpec::default(),
            logs: LogSpec::default(),
            gpus: None,
            rendezvous: None,
            array: None,
            schedule: None,
            restart_timing: RestartTiming::default(),
            restart_on_secret: false,
            mode: Mode::default(),
            placement: PlacementSpec::default(),
            update: UpdatePolicy::default(),
            rollback: None,
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
            pin,
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
            platform,
            pull,
            trees,
            process,
            sandbox,
            naming,
            logs,
            gpus,
            rendezvous,
            array,
            schedule,
            restart_timing,
            restart_on_secret,
            mode,
            placement,
            update,
            rollback,
        } = self;
        f.debug_struct("WorkloadSpec")
            .field("image", image)
            .field("pin", pin)
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
            .field("platform", platform)
            .field("pull", pull)
            .field("trees", trees)
            .field("process", process)
            .field("sandbox", sandbox)
            .field("naming", naming)
            .field("logs", logs)
            .field("gpus", gpus)
            .field("rendezvous", rendezvous)
            .field("array", array)
            .field("schedule", schedule)
            .field("restart_timing", restart_timing)
            .field("restart_on_secret", restart_on_secret)
            .field("mode", mode)
            .field("placement", placement)
            .field("update", update)
            .field("rollback", rollback)
            .finish()
    }
}
