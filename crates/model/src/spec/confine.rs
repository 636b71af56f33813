//! What a container is, gets and may: processors and memory, its process, its walls, its names.

use crate::unit::{BitRate, Bytes, Cpu};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

/// The names of capabilities(7), without `CAP_`.
pub const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// The limits of getrlimit(2), without `RLIMIT_`, in small letters.
pub const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Processors, memory, disk and network of one replica.
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
    /// Disk space set aside on the node by the planner, for what the container writes; `None` is none. Nothing keeps
    /// the container to it, and agents are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_disk: Option<Bytes>,
    /// What of the node's network the planner sets aside, each way; `None` is none. Nothing keeps the container to it,
    /// and agents are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_bandwidth: Option<BitRate>,
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

    /// What the planner sets aside of disk and network besides.
    pub fn reserved_besides(&self) -> (Bytes, BitRate) {
        (self.reserved_disk.unwrap_or_default(), self.reserved_bandwidth.unwrap_or_default())
    }

    /// What agents are told: the rest is the planner's alone, and agents of earlier versions refuse words that they do
    /// not know.
    #[must_use]
    pub const fn for_agents(self) -> Self {
        Self { reserved_disk: None, reserved_bandwidth: None, ..self }
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

/// Who a container's process is, and how it is told to end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// `user`, `user:group` or ids; `None` is the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Groups besides, by name or id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Where it begins; `None` is the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What it takes for its host's name; `None` is the engine's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The domain of its host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Whether a small init reaps processes and passes signals on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// Whether it has a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
    /// Whether its standard input stays open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_open: bool,
    /// The signal that asks it to end; `None` is the image's, else SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How gladly the kernel kills it when memory is short: -1000 to 1000, never below the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i16>,
}

/// The walls of a container. What it may do more than usual, the node's owner has to allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SandboxSpec {
    /// Whether its root file system is read-only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// File systems in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<TmpfsSpec>,
    /// The size of `/dev/shm`; `None` is the engine's (64 MiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<Bytes>,
    /// Limits of the kernel by name without `RLIMIT_`, in small letters: `nofile`, `core` …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Settings of the kernel that belong to the container's own namespaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities besides [`DEFAULT_CAPABILITIES`](super::DEFAULT_CAPABILITIES), without `CAP_`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_add: BTreeSet<String>,
    /// Capabilities that it does without; `ALL` is all but those added.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_drop: BTreeSet<String>,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TmpfsSpec {
    /// An absolute path inside the container.
    pub target: String,
    /// The most that it holds; `None` is up to the memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Permission bits of its root, e.g. 0o1777.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The owner of its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group of its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Whether programs may be run from it; they may not unless this says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exec: bool,
}

/// A limit of the kernel; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// What counts.
    pub soft: i64,
    /// Up to where the process may raise it.
    pub hard: i64,
}

/// How a container finds others by name, besides its networks' own service names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NamingSpec {
    /// Lines of `/etc/hosts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostEntry>,
    /// DNS servers instead of the node's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub servers: Vec<IpAddr>,
    /// Domains to look in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver, as in `resolv.conf`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub address: IpAddr,
}

/// How much of its output the node keeps. There always is a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// The size of a file at which the next one begins; `None` takes [`LogSpec::DEFAULT_SIZE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Bytes>,
    /// How many files are kept; `None` takes [`LogSpec::DEFAULT_FILES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u32>,
}

impl LogSpec {
    /// The size of a file where nothing is said.
    pub const DEFAULT_SIZE: Bytes = Bytes::from_mib(10);
    /// How many files are kept where nothing is said.
    pub const DEFAULT_FILES: u32 = 3;

    /// The bound that holds: size of a file, number of files.
    pub fn bound(&self) -> (Bytes, u32) {
        (self.max_size.unwrap_or(Self::DEFAULT_SIZE), self.max_files.unwrap_or(Self::DEFAULT_FILES))
    }
}

/// When an image is fetched although it may be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When it is not on the node.
    #[default]
    Missing,
    /// Before each new container.
    Always,
    /// Never: it has to be on the node.
    Never,
}

/// Replicas of a job that are its tasks: each is told its number, counted from 0, and how many there are. They are
/// independent of each other, and may be on any node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskArray {
    /// How many run at the same time, at the most; 0 is all.
    #[serde(default)]
    pub parallel: u32,
}

/// Replicas that are one job: each is told its number, how many there are, and where the first one listens. Since
/// all have to know each other, they are on one node, and all are replaced when their number changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Rendezvous {
    /// The port of the first one, inside its container.
    pub port: u16,
}

impl Rendezvous {
    /// PyTorch's own.
    pub const PORT: u16 = 29_500;
}

/// GPUs of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GpuRequest {
    /// How many.
    pub count: GpuCount,
    /// Whose: `nvidia`, `amd`; `None` is anybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Which, as the node names them; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// What of them is used, as the driver names it (`compute`, `utility` …).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub capabilities: BTreeSet<String>,
    /// Of this model: the name, or words of it (`H100`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Each with at least so much memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Thousandths of the one that it asks for, 1 to 1000; others may have the rest. `None` is the whole of each. It is
    /// room that is planned for: nothing keeps the container to it, and agents are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u16>,
}

impl GpuRequest {
    /// A whole GPU, in thousandths.
    pub const WHOLE: u16 = 1000;

    /// What it takes of each GPU that it gets, in thousandths.
    pub fn each(&self) -> u16 {
        match (self.count, self.share) {
            (GpuCount::Exactly(1), Some(share)) => share.clamp(1, Self::WHOLE),
            _ => Self::WHOLE,
        }
    }

    /// So many, whichever they are.
    pub const fn any(count: GpuCount) -> Self {
        Self {
            count,
            driver: None,
            ids: Vec::new(),
            capabilities: BTreeSet::new(),
            model: None,
            memory: None,
            share: None,
        }
    }
}

impl fmt::Display for GpuRequest {
    /// `2 GPUs (nvidia, H100, at least 40 GiB)`, `0.25 of 1 GPU`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, driver, ids, capabilities: _, model, memory, share: _ } = self;
        if self.each() < Self::WHOLE {
            write!(f, "{} of ", f64::from(self.each()) / f64::from(Self::WHOLE))?;
        }
        match count {
            _ if !ids.is_empty() => write!(f, "the GPUs {}", ids.join(" "))?,
            GpuCount::All => f.write_str("all GPUs")?,
            GpuCount::Exactly(1) => f.write_str("1 GPU")?,
            GpuCount::Exactly(n) => write!(f, "{n} GPUs")?,
        }
        let memory = memory.map(|memory| format!("at least {memory}"));
        let words: Vec<&str> =
            [driver.as_deref(), model.as_deref(), memory.as_deref()].into_iter().flatten().collect();
        if words.is_empty() { Ok(()) } else { write!(f, " ({})", words.join(", ")) }
    }
}

/// A number of GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GpuCount {
    /// All that the node lends, at least one.
    All,
    /// So many.
    Exactly(u32),
}
