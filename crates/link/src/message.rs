//! What travels, as types of this crate: bounded and validated where it enters (`wire`).

use crate::error::Refusal;
use bytes::Bytes;
use lattice_model::{
    AllocationId, ClusterId, Cpu, Duration, GoalId, NodeId, NodeName, ProjectName, SealedGoal, Standing,
    Timestamp, TokenId, VolumeName,
    goal::RegistryLogin,
    health::Condition,
    report::{AllocationStatus, Report},
    resource::{Capacity, NodeFacts},
    spec::{ImageDigest, TreeDigest},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use zeroize::Zeroizing;

/// The protocols that one side speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolRange {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

/// Bytes that nobody may see; `Debug` hides them, and their memory is wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Wraps the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// An agent asks to become a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// What it speaks.
    pub protocol: ProtocolRange,
    /// Its version.
    pub agent_version: String,
    /// The token that somebody gave to it.
    pub token_id: TokenId,
    /// The secret part of the token.
    pub token_secret: Secret,
    /// A certificate signing request by its own key.
    pub csr_der: Vec<u8>,
    /// The key, as SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// What it wants to be called; the server picks a name otherwise.
    pub name: Option<NodeName>,
    /// What it says about its machine: evidence for people, never for authorisation.
    pub facts: NodeFacts,
    /// What it can hold.
    pub capacity: Capacity,
}

/// What becomes of a request to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinUpdate {
    /// A person has to decide.
    Pending {
        /// The id that the node has and keeps.
        node: NodeId,
        /// Of its key, as the person will compare it.
        fingerprint: String,
        /// What the person does to approve.
        hint: String,
    },
    /// It is a node.
    Approved(Approved),
    /// It is not.
    Refused(Refusal),
}

/// Everything that a new node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// Its id.
    pub node: NodeId,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Its first certificate.
    pub certificate: Certificate,
    /// The ratchet to show at the first hello.
    pub ratchet: Secret,
}

/// A node's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The leaf first, then intermediates; each in DER.
    pub chain_der: Vec<Vec<u8>>,
    /// When it ends, by the server's clock.
    pub not_after: Timestamp,
}

/// A node proves its registered key to get a new certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewRequest {
    /// Which node.
    pub node: NodeId,
    /// The server's challenge, as it gave it.
    pub challenge: Vec<u8>,
    /// Over the challenge and the request, by the registered key.
    pub signature: Vec<u8>,
    /// A certificate signing request by the registered key.
    pub csr_der: Vec<u8>,
}

/// What an agent says in a session. A session begins with [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentMessage {
    /// What happened, in the order of `seq`; see [`crate::wire::MAX_REPORTS`].
    Reports(Vec<Reported>),
    /// It lives.
    Heartbeat(Heartbeat),
    /// It has the goal on disk and works towards it.
    GoalAccepted(GoalId),
    /// It has the next ratchet on disk.
    RatchetStored,
}

/// A report, also one of a kind that this version does not know: it is kept, acknowledged and
/// shown as what it is, or an old server would make a new agent repeat it for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    /// One that this version knows.
    Known(Report),
    /// One that it does not.
    Unknown {
        /// As of a report.
        seq: u64,
        /// As of a report.
        at: Timestamp,
        /// Its JSON.
        kind: String,
    },
}

impl Reported {
    /// Its number.
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Known(report) => report.seq,
            Self::Unknown { seq, .. } => *seq,
        }
    }
}

/// The first message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the agent speaks.
    pub protocol: ProtocolRange,
    /// Its version.
    pub agent_version: String,
    /// What it can do beyond its version, by name.
    pub capabilities: Vec<String>,
    /// About its machine.
    pub facts: NodeFacts,
    /// What it lends.
    pub capacity: Capacity,
    /// The highest goal that it ever accepted, with the hash of its bytes.
    pub goal: Option<(GoalId, [u8; 32])>,
    /// The ratchet of the last session; empty before the first.
    pub ratchet: Secret,
    /// Differs after each boot of the machine.
    pub boot_id: String,
    /// What runs now. The first [`crate::wire::MAX_STATUSES`] travel; report the others.
    pub statuses: BTreeMap<AllocationId, AllocationStatus>,
    /// Which reports wait.
    pub outbox: OutboxMark,
    /// What its owner has it do.
    pub standing: Standing,
}

/// Names one outbox: an agent that lost its outbox begins another, whose numbers start anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutboxId(pub u128);

/// Which reports wait in an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxMark {
    /// Which outbox.
    pub id: OutboxId,
    /// The oldest number that waits; `next` when none does.
    pub first: u64,
    /// The number that the next report will get.
    pub next: u64,
}

/// That an agent lives, and how busy its machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// By the agent's clock.
    pub at: Timestamp,
    /// Processors in use, in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// Disk space free where the engine keeps its data, in bytes.
    pub disk_free_bytes: u64,
    /// Allocations that run.
    pub running: u32,
    /// To be said back in [`ServerMessage::Pong`]; 0 wants no answer.
    pub ping: u64,
    /// How the machine is, while its disk takes no reports; else empty.
    pub conditions: Vec<Condition>,
}

/// What a server says in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    /// The first one.
    Welcome(Welcome),
    /// What should be.
    Goal(SealedGoal),
    /// The reports up to this number took effect and may be forgotten.
    Ack(u64),
    /// Answer a request over the bulk connection.
    OpenStream(OpenStream),
    /// Something for the log of the agent and its owner.
    Notice(Notice),
    /// To a heartbeat with this [`Heartbeat::ping`].
    Pong(u64),
    /// How the node stands among the others. Only to an agent that says [`HEARS_RANK`].
    Rank(Rank),
    /// The last one.
    Goodbye(Refusal),
}

/// The server takes the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The negotiated protocol.
    pub protocol: u32,
    /// The server's version.
    pub server_version: String,
    /// How often it wants to hear of the agent.
    pub heartbeat: Duration,
    /// Store it, then say [`AgentMessage::RatchetStored`].
    pub ratchet_next: Option<Secret>,
    /// The reports up to this number, of the outbox in Hello, took effect.
    pub ack_up_to: u64,
    /// E.g. that the agent is below the enforced minimum version.
    pub notice: Option<Notice>,
    /// What time it is there. An older server does not say.
    pub server_time: Option<Timestamp>,
}

/// Something worth to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// For programs; as [`Refusal::code`].
    pub code: String,
    /// What is the case.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The capability to be told [`ServerMessage::Rank`].
pub const HEARS_RANK: &str = "rank";

/// How a node stands among the others, for its owner: what is ranked and why is the server's affair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rank {
    /// From 0 to [`most`](Self::most).
    pub points: u16,
    /// The most that there are.
    pub most: u16,
    /// With what it is compared: `laptop`, `desktop`, `server`, `gpu`.
    pub class: String,
    /// Its place in its class, from 1.
    pub class_place: u32,
    /// How many are in its class.
    pub class_size: u32,
    /// Its place among all, from 1.
    pub place: u32,
    /// How many there are.
    pub size: u32,
    /// Days in a row on which it kept what it promised.
    pub streak_days: u32,
    /// The most of them that it ever had.
    pub best_streak_days: u32,
    /// What it has earned, by name.
    pub badges: Vec<String>,
    /// What a newcomer still lacks; absent where nothing is lacking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation: Option<String>,
    /// What is held against it, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
}

/// Names a stream between one server and one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// The server asks for a stream; the agent dials the bulk connection and answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    /// To be said in the first frame.
    pub stream: StreamId,
    /// What is asked.
    pub request: StreamRequest,
}

/// What a stream is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamRequest {
    /// The output of a container: [`channel::STDOUT`] and [`channel::STDERR`] up.
    Logs(LogsRequest),
    /// A command in a container: [`channel::STDIN`] down, output up.
    Exec(ExecRequest),
    /// Files of a container as a tar archive: by [`channel::STDIN`] down, or by [`channel::STDOUT`] up.
    Files(FilesRequest),
    /// All of a volume, in the same way.
    Volume(VolumeRequest),
    /// What an image's name stands for in its registry: an [`ImageFound`] up as JSON, or the exit code
    /// [`LOCAL_IMAGE`]. Only of an agent that says [`RESOLVES`].
    Resolve(ResolveRequest),
    /// An image to be built: the archive of its context by [`channel::STDIN`] down, output by
    /// [`channel::STDOUT`] up. Then [`BuildSaid::Built`] by [`channel::CONTROL`] up, [`BuildWants`] down, and
    /// for each layer that is wanted [`BuildSaid::Layer`] and its frame of zstd by [`channel::LAYER`] up; at last
    /// the configuration by [`channel::CONFIG`], and the exit code 0. Only of an agent that says [`BUILDS`].
    Build(BuildRequest),
    /// The machine is to be measured: words of the crate `lattice-measure` as JSON on [`channel::CONTROL`], one down
    /// and one up in turn, until this side ends the channel. Only of an agent that says so.
    Measure,
}

/// The capability to answer [`StreamRequest::Build`].
pub const BUILDS: &str = "build";
/// How long an agent builds at the most, fetching of what it begins from and handing over included.
pub const BUILD_TIME: std::time::Duration = std::time::Duration::from_secs(30 * 60);

/// An image to be built.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// Whose it is.
    pub project: ProjectName,
    /// The archive that comes.
    pub context: TreeDigest,
    /// Its bytes.
    pub bytes: u64,
    /// The Dockerfile's name in it.
    pub dockerfile: String,
    /// The stage that is wanted; the last one unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Variables of the build. They may be confidential.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Labels of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it is made for, as `os/arch`; the node's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Whether its steps have a network.
    pub network: bool,
    /// Further names for its steps, as `name:address`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    /// The size of `/dev/shm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm: Option<lattice_model::Bytes>,
    /// Whether what it begins from is fetched anew where a registry has it.
    #[serde(default)]
    pub pull: bool,
    /// Processor that a step may have; the node gives no more than it lends.
    pub cpu: Cpu,
    /// Memory that a step may have.
    pub memory: lattice_model::Bytes,
    /// Who fetches what it begins from, by registry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logins: BTreeMap<String, RegistryLogin>,
}

impl fmt::Debug for BuildRequest {
    /// Without arguments and logins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildRequest")
            .field("project", &self.project)
            .field("context", &self.context)
            .field("dockerfile", &self.dockerfile)
            .field("target", &self.target)
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// What an agent says of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildSaid {
    /// The image is there.
    Built {
        /// Its layers, the lowest first.
        layers: Vec<ImageDigest>,
    },
    /// The frame of this layer follows.
    Layer {
        /// Which.
        digest: ImageDigest,
    },
}

/// What the server lacks of an image that was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildWants {
    /// Its layers.
    pub layers: BTreeSet<ImageDigest>,
}

/// A whole volume to fill or to read, also of an allocation that never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRequest {
    /// An allocation that mounts it.
    pub allocation: AllocationId,
    /// What its specification calls it.
    pub volume: VolumeName,
    /// [`Copying::In`] or [`Copying::Out`]; the names in the archive begin with `volume/`.
    pub copy: Copying,
}

/// The capability to answer [`StreamRequest::Resolve`].
pub const RESOLVES: &str = "resolve";

/// The exit code for an image that the node has and that came from no registry.
pub const LOCAL_IMAGE: i64 = 2;

/// An image's name to be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveRequest {
    /// As it is written.
    pub image: String,
    /// Who asks, where the registry wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<RegistryLogin>,
}

/// What an image's name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFound {
    /// The digest of its manifest or index.
    pub digest: ImageDigest,
    /// What it is made for, as `os/arch` or `os/arch/variant`; empty where nobody says.
    #[serde(default)]
    pub platforms: BTreeSet<String>,
}

/// Files to copy into or out of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesRequest {
    /// Of which allocation.
    pub allocation: AllocationId,
    /// An absolute path inside the container.
    pub path: String,
    /// What to do there.
    pub copy: Copying,
}

/// What to do with files of a container. Each ends with an exit code: 0, or 1 when nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Copying {
    /// Unpack what comes in this folder.
    In,
    /// Send what is there.
    Out,
    /// Say what is there: `folder` or `file`.
    Look,
}

/// What to read of a container's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsRequest {
    /// Of which allocation.
    pub allocation: AllocationId,
    /// Go on with what is written from now on.
    #[serde(default)]
    pub follow: bool,
    /// Only the last lines; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Only what was written since, by the node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Each line begins with its instant.
    #[serde(default)]
    pub timestamps: bool,
}

/// What to run in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// In which allocation.
    pub allocation: AllocationId,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Give it a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Give it what comes on [`channel::STDIN`].
    #[serde(default)]
    pub stdin: bool,
    /// The terminal's columns and rows at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<(u16, u16)>,
    /// The user to run it as; the container's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where to run it; the container's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Additional environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// The most bytes that a probe of the link sends in each direction.
pub const PROBE_BYTES: u64 = 4 << 20;
/// How long a probe of the link sends in each direction, at the most.
pub const PROBE_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// What came of a probe's data, after its first piece: so many bytes in so many microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Bytes after the first piece.
    pub bytes: u64,
    /// Microseconds from the first piece to the last.
    pub micros: u64,
}

impl Counted {
    /// Bytes a second; `None` where too little came to say.
    pub fn per_second(self) -> Option<u64> {
        if self.bytes < 16 << 10 {
            return None;
        }
        let rate = u128::from(self.bytes) * 1_000_000 / u128::from(self.micros.max(1000));
        Some(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// The channels of a stream.
pub mod channel {
    /// To the container.
    pub const STDIN: u8 = 0;
    /// From the container.
    pub const STDOUT: u8 = 1;
    /// From the container.
    pub const STDERR: u8 = 2;
    /// To the agent: a JSON [`super::TerminalSize`]; of a build, words of both sides.
    pub const CONTROL: u8 = 3;
    /// Of a build: the layer that was named last.
    pub const LAYER: u8 = 4;
    /// Of a build: the image's configuration.
    pub const CONFIG: u8 = 5;
}

/// The terminal was resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// Asks for the archive of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeRequest {
    /// Which.
    pub digest: TreeDigest,
    /// How many bytes of it are there already.
    pub offset: u64,
}

/// Asks for a part of an uploaded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePartRequest {
    /// Of which image.
    pub image: ImageDigest,
    /// Which layer; `None` is the configuration.
    pub layer: Option<ImageDigest>,
    /// How many bytes of it are there already.
    pub offset: u64,
}

/// One piece of the answer to a [`TreeRequest`] or an [`ImagePartRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreePart {
    /// The first one: the bytes of the whole archive.
    Size(u64),
    /// At most [`crate::wire::MAX_BULK`] bytes.
    Data(Bytes),
    /// The last one: it is not given, or not any more.
    Refused(Refusal),
}

/// One piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkFrame {
    /// The first one.
    Open(StreamId),
    /// At most [`crate::wire::MAX_BULK`] bytes.
    Data {
        /// Which of [`channel`].
        channel: u8,
        /// What.
        bytes: Bytes,
    },
    /// No more data on this channel in this direction.
    End(u8),
    /// The last one.
    Close(BulkEnd),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkEnd {
    /// All was said.
    Done,
    /// The command ended with this code.
    Exit(i64),
    /// It could not be done.
    Failed(Refusal),
}
