//! Every kind of row that the server keeps, and the one place where rows become JSON and back.
//!
//! The model's resources are stored as they are; what is the server's own (a node's keys, tokens,
//! secrets, events, audit) has its type here. Events and audit entries are written in the
//! transaction that they tell of. Their number, by which people page, is made of the revision
//! and the place within the transaction, so that writers need not agree on a counter.

use crate::{causes::Cause, clock, error::ServerError};
use base64::{Engine, prelude::BASE64_STANDARD};
use lattice_api::{AuditOutcome, AuditView, EventLevel, EventView, JobRunView};
use lattice_availability::{Population, Track};
use lattice_identity::{
    ApiTokenRecord, DeviceRecord, ExportedAuthority, InviteRecord, LinkRecord, PasswordHash, ServerRatchet,
    SessionRecord, TokenRecord,
};
use lattice_link::Dedup;
use lattice_model::{
    AllocationId, Binding, Duration, NodeId, NodeName, OwnerName, ProjectName, Quota, SecretName, StackKey,
    Timestamp, TokenId, UserName, WorkloadKey,
    report::EndedRun,
    resource::{
        Allocation, MissedRuns, Node, Pool, Stack, StackRevision, Volume, Workload, WorkloadRevision,
    },
    spec::{ImageDigest, TreeDigest},
};
use lattice_ranking::{History, Runs};
use lattice_store::{Key, Kind, Op, Record, Revision};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// A type of row.
pub(crate) trait Stored: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: Kind;

    /// Its id among its kind.
    fn id(&self) -> String;

    /// The project that it belongs to.
    fn project(&self) -> Option<Arc<str>> {
        None
    }

    /// The person that it belongs to; the operator's own where nobody else is said.
    fn owner(&self) -> Option<Arc<str>> {
        Some(Arc::from(OwnerName::admin().as_str()))
    }
}

macro_rules! stored {
    ($($type:ty, $kind:literal, |$row:ident| $id:expr $(, project $project:expr)? $(, owner $owner:expr)?;)+) => {$(
        impl Stored for $type {
            const KIND: Kind = Kind::new($kind);

            fn id(&self) -> String {
                let $row = self;
                $id.to_string()
            }

            $(fn project(&self) -> Option<Arc<str>> {
                let $row = self;
                Some(Arc::from($project.as_str()))
            })?

            $(fn owner(&self) -> Option<Arc<str>> {
                let $row = self;
                Some(Arc::from($owner.as_str()))
            })?
        }
    )+};
}

stored! {
    Node, "node", |row| row.id, owner row.owner;
    NodeIdentity, "node_identity", |row| row.node;
    NodeOutbox, "node_outbox", |row| row.node;
    NodeSession, "node_session", |row| row.node;
    AvailabilityRow, "availability", |row| row.node;
    PopulationRow, "population", |_row| "nodes";
    RankingRow, "ranking", |row| row.key;
    MeasuredRow, "measured", |row| row.key;
    Stack, "stack", |row| row.key, project row.key.project, owner row.owner;
    StackSource, "stack_source", |row| row.stack, project row.stack.project;
    Workload, "workload", |row| row.key, project row.key.project;
    Pool, "pool", |row| row.name;
    StackRevision, "stack_revision", |row| stack_revision_id(&row.stack, row.version), project row.stack.project;
    WorkloadRevision, "workload_revision", |row| workload_revision_id(&row.key, row.generation), project row.key.project;
    Volume, "volume", |row| row.id, project row.key.project;
    Allocation, "allocation", |row| row.id, project row.workload.project;
    JoinTokenRow, "join_token", |row| row.record.id;
    ApiTokenRow, "api_token", |row| row.record.id;
    UserRow, "user", |row| row.name;
    SessionRow, "session", |row| row.0.id;
    InviteRow, "invite", |row| row.0.id;
    LinkRow, "console_link", |row| row.0.id;
    DeviceRow, "device_code", |row| row.0.id;
    FormerSecret, "former_secret", |row| former_secret_id(&row.0.project, &row.0.name, row.0.version), project row.0.project;
    ProjectRow, "project", |row| row.name, project row.name;
    Secret, "secret", |row| secret_id(&row.project, &row.name), project row.project;
    TreeRow, "tree", |row| tree_id(&row.project, row.digest), project row.project;
    LayerRow, "layer", |row| image_id(&row.project, row.digest), project row.project;
    ImageRow, "image", |row| image_id(&row.project, row.id), project row.project;
    Event, "event", |row| row.key;
    Audit, "audit", |row| row.key;
    JobRun, "job_run", |row| row.key, project row.workload.project;
    MissedRuns, "missed_runs", |row| missed_runs_id(row), project row.workload.project;
    AuthorityRow, "authority", |_row| "ca";
    Settings, "settings", |_row| "cluster";
    BackupRow, "backup", |_row| "last";
    MovedRow, "moved", |_row| "store";
    AlertRow, "alert", |row| alert_id(&row.0);
}

/// What was seen of a node's comings and goings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AvailabilityRow {
    /// The node.
    pub(crate) node: NodeId,
    /// What was seen.
    pub(crate) track: Track,
}

/// The same of all nodes together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PopulationRow(pub(crate) Population);

/// How good whoever holds a key was, as it was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RankingRow {
    /// SHA-256 of the key, in hexadecimal.
    pub(crate) key: String,
    /// The node that it is, or was.
    pub(crate) node: NodeId,
    /// What was seen.
    pub(crate) history: History,
    /// What placement gets, from 0 to 100.
    pub(crate) weight: u8,
    /// What it gets for work that asks for GPUs.
    #[serde(default)]
    pub(crate) weight_gpu: u8,
    /// When it was written.
    pub(crate) seen: Timestamp,
}

/// What was measured of whoever holds a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MeasuredRow {
    /// SHA-256 of the key, in hexadecimal.
    pub(crate) key: String,
    /// What was measured.
    pub(crate) runs: Runs,
    /// When it was written.
    pub(crate) seen: Timestamp,
}

/// A row as it is stored.
pub(crate) fn body<T: Stored>(row: &T) -> Arc<str> {
    // Only maps with keys that are no strings fail, and no row has one.
    serde_json::to_string(row).unwrap_or_default().into()
}

/// Makes a row.
pub(crate) fn create<T: Stored>(row: &T) -> Op {
    Op::Create {
        key: Key::of(T::KIND, row.id()),
        project: row.project(),
        owner: row.owner(),
        body: body(row),
    }
}

/// Replaces a row that is at `expected`.
pub(crate) fn update<T: Stored>(row: &T, expected: u64) -> Op {
    Op::Update { key: Key::of(T::KIND, row.id()), expected: Revision(expected), body: body(row) }
}

/// Makes or replaces a row.
pub(crate) fn put<T: Stored>(row: &T) -> Op {
    Op::Put { key: Key::of(T::KIND, row.id()), project: row.project(), owner: row.owner(), body: body(row) }
}

/// Removes a row that is at `expected`.
pub(crate) fn delete<T: Stored>(id: impl std::fmt::Display, expected: Option<u64>) -> Op {
    Op::Delete { key: Key::of(T::KIND, id), expected: expected.map(Revision) }
}

/// Asserts that a row is at `expected`.
pub(crate) fn check<T: Stored>(id: impl std::fmt::Display, expected: Option<u64>) -> Op {
    Op::Check { key: Key::of(T::KIND, id), expected: expected.map(Revision) }
}

/// Reads a row.
pub(crate) fn read<T: Stored>(record: &Record) -> Result<T, ServerError> {
    serde_json::from_str(&record.body)
        .map_err(|source| ServerError::Row { row: record.key.to_string(), source })
}

/// The id of a stack revision's row.
pub(crate) fn stack_revision_id(stack: &StackKey, version: u64) -> String {
    format!("{stack}@{version}")
}

/// The id of a workload revision's row.
pub(crate) fn workload_revision_id(key: &WorkloadKey, generation: u64) -> String {
    format!("{key}@{generation}")
}

/// The id of a secret's row, also the place for which its value is sealed.
pub(crate) fn secret_id(project: &ProjectName, name: &SecretName) -> String {
    format!("{project}/{name}")
}

/// The id of the row of an image or of a layer.
pub(crate) fn image_id(project: &ProjectName, digest: ImageDigest) -> String {
    format!("{project}/{}", digest.hex())
}

/// The id of a tree's row.
pub(crate) fn tree_id(project: &ProjectName, digest: TreeDigest) -> String {
    format!("{project}/{digest}")
}

/// A node's key and what hangs on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeIdentity {
    pub(crate) node: NodeId,
    /// SubjectPublicKeyInfo, base64.
    pub(crate) public_key: String,
    /// SHA-256 of it, in hexadecimal.
    pub(crate) fingerprint: String,
    /// The token that it came with.
    pub(crate) token: Option<TokenId>,
    /// The address that it asked from.
    pub(crate) address: String,
    pub(crate) ratchet: ServerRatchet,
    /// A person chose: whichever copy connects next goes on.
    #[serde(default)]
    pub(crate) resume_next: bool,
    /// Of the certificate signed last.
    #[serde(default)]
    pub(crate) certificate_serial: Option<String>,
    #[serde(default)]
    pub(crate) certificate_expires_at: Option<Timestamp>,
    /// Why it was rejected, revoked or set apart.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// What was seen of a clone.
    #[serde(default)]
    pub(crate) clone_warning: Option<String>,
}

impl NodeIdentity {
    /// The registered key.
    pub(crate) fn key_der(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.public_key).unwrap_or_default()
    }
}

/// How far a node's reports have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeOutbox {
    pub(crate) node: NodeId,
    pub(crate) dedup: Dedup,
}

/// Which connection of a node came last, over all servers, and which server has its session. Whoever
/// judges a Hello, or writes what a session says, does so only while this row says what it saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeSession {
    pub(crate) node: NodeId,
    /// The number of the connection that came last.
    pub(crate) arrivals: u64,
    /// Whose session it is; nobody's when it has ended.
    pub(crate) server: Option<String>,
    /// The number of the connection that has the session, or had it last.
    pub(crate) number: u64,
}

/// What was deployed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StackSource {
    pub(crate) stack: StackKey,
    pub(crate) source: String,
}

/// A join token and what people say about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinTokenRow {
    pub(crate) record: TokenRecord,
    #[serde(default)]
    pub(crate) description: String,
    /// Who lends the computers that join with it.
    #[serde(default = "OwnerName::admin")]
    pub(crate) owner: OwnerName,
    /// Somebody named its pool, so that no rule moves who joins with it.
    #[serde(default = "yes")]
    pub(crate) fixes_pool: bool,
}

const fn yes() -> bool {
    true
}

/// An API token and who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiTokenRow {
    pub(crate) record: ApiTokenRecord,
    pub(crate) created_by: String,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRow {
    pub(crate) name: UserName,
    /// None: only an invitation lets them in.
    pub(crate) password: Option<PasswordHash>,
    #[serde(default)]
    pub(crate) disabled: bool,
    #[serde(default)]
    pub(crate) roles: Vec<Binding>,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
}

/// A session of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SessionRow(pub(crate) SessionRecord);

/// An invitation of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct InviteRow(pub(crate) InviteRecord);

/// A link to the console that nobody has opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LinkRow(pub(crate) LinkRecord);

/// A login by code that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct DeviceRow(pub(crate) DeviceRecord);

/// A project, and what it may use at the most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProjectRow {
    pub(crate) name: ProjectName,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) quota: Quota,
    /// Rises with each change that counts against the quota, so that two cannot pass on the same room.
    #[serde(default)]
    pub(crate) turn: u64,
    /// Somebody asked for its removal: nothing new comes into it.
    #[serde(default)]
    pub(crate) deleting: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
}

/// A secret as it is now, sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret {
    pub(crate) project: ProjectName,
    pub(crate) name: SecretName,
    pub(crate) version: u64,
    pub(crate) updated_at: Timestamp,
    pub(crate) updated_by: String,
    /// Base64 of the value, sealed by its data key for `secret/<project>/<name>/<version>`. Without
    /// a data key, as older servers wrote it: by the master key, for `secret/<project>/<name>`.
    pub(crate) sealed: String,
    /// Base64 of the data key, wrapped by a key of the ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({}/{} version {})", self.project, self.name, self.version)
    }
}

/// A value that a secret had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct FormerSecret(pub(crate) Secret);

/// The id of a former value's row.
pub(crate) fn former_secret_id(project: &ProjectName, name: &SecretName, version: u64) -> String {
    format!("{project}/{name}/{version:010}")
}

/// A tree of files that a project uploaded; the archive is a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TreeRow {
    pub(crate) project: ProjectName,
    pub(crate) digest: TreeDigest,
    /// Of the archive.
    pub(crate) bytes: u64,
    pub(crate) uploaded_at: Timestamp,
    pub(crate) uploaded_by: String,
    /// Since when nothing of the project names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unused_since: Option<Timestamp>,
}

/// A layer that a project uploaded; its frame is a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRow {
    pub(crate) project: ProjectName,
    pub(crate) digest: ImageDigest,
    /// Unpacked.
    pub(crate) bytes: u64,
    /// On the server's disk.
    pub(crate) stored: u64,
    pub(crate) uploaded_at: Timestamp,
    pub(crate) uploaded_by: String,
    /// Since when no image of the project has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unused_since: Option<Timestamp>,
}

/// An image that a project uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRow {
    pub(crate) project: ProjectName,
    pub(crate) id: ImageDigest,
    /// As `os/arch` or `os/arch/variant`.
    pub(crate) platform: String,
    /// The lowest first.
    pub(crate) layers: Vec<ImageDigest>,
    /// The configuration, byte for byte: the id is its digest.
    pub(crate) config: String,
    pub(crate) uploaded_at: Timestamp,
    pub(crate) uploaded_by: String,
    /// Since when nothing of the project names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unused_since: Option<Timestamp>,
    /// The digest of what it was built of on a node, where it was: the same again is not built again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) built_of: Option<String>,
}

/// The cluster's authority, keys sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AuthorityRow(pub(crate) ExportedAuthority);

/// What holds for the cluster as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
}

/// The last backup that a server made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BackupRow(pub(crate) lattice_api::BackupMade);

/// The store is out of date: it was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MovedRow {
    /// Where to, without credentials.
    pub(crate) to: String,
    pub(crate) at: Timestamp,
}

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AlertRow(pub(crate) lattice_alert::Alert);

/// The id of an alert, and of its row.
pub(crate) fn alert_id(alert: &lattice_alert::Alert) -> String {
    format!("{}/{}/{}", alert.rule, alert.subject.kind, alert.subject.id)
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Random, and the row's id.
    pub(crate) key: String,
    /// Its place among the events of its transaction.
    pub(crate) n: u16,
    pub(crate) at: Timestamp,
    pub(crate) kind: String,
    pub(crate) subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node_name: Option<NodeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workload: Option<WorkloadKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stack: Option<StackKey>,
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) caused_by: Option<Cause>,
}

/// How many events of one transaction have a number of their own.
const PER_REVISION: u64 = 1024;
/// The longest sentence of an event that came from outside, in characters.
const MAX_TEXT: usize = 1000;

impl Event {
    /// An event of now about the cluster.
    pub(crate) fn new(kind: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: format!("{:032x}", clock::random_bits()),
            n: 0,
            at: clock::now(),
            kind: kind.to_owned(),
            subject: cut(subject.into()),
            node: None,
            node_name: None,
            workload: None,
            stack: None,
            message: cut(message.into()),
            cause: None,
            caused_by: None,
        }
    }

    /// The same about a node.
    #[must_use]
    pub(crate) fn on(mut self, node: &Node) -> Self {
        (self.node, self.node_name) = (Some(node.id), Some(node.name.clone()));
        self
    }

    /// The same about a workload.
    #[must_use]
    pub(crate) fn of(mut self, workload: &WorkloadKey) -> Self {
        (self.stack, self.workload) = (Some(workload.stack_key()), Some(workload.clone()));
        self
    }

    /// The same about a stack.
    #[must_use]
    pub(crate) fn of_stack(mut self, stack: &StackKey) -> Self {
        self.stack = Some(stack.clone());
        self
    }

    /// The same with a cause.
    #[must_use]
    pub(crate) fn because(mut self, cause: Option<String>) -> Self {
        self.cause = cause.map(cut);
        self
    }

    /// The same, led to by something that is written down.
    #[must_use]
    pub(crate) fn caused_by(mut self, cause: Option<Cause>) -> Self {
        self.caused_by = cause;
        self
    }

    /// The same at another instant.
    #[must_use]
    pub(crate) fn at(mut self, at: Timestamp) -> Self {
        self.at = at;
        self
    }

    /// Its number, given the revision that created it.
    pub(crate) fn number(&self, created: Revision) -> u64 {
        created.0 * PER_REVISION + u64::from(self.n).min(PER_REVISION - 1)
    }

    /// The numbers that events of a revision may have.
    pub(crate) fn numbers(created: Revision) -> std::ops::Range<u64> {
        created.0 * PER_REVISION..(created.0 + 1) * PER_REVISION
    }

    pub(crate) fn view(&self, id: u64) -> EventView {
        let Self {
            key: _,
            n: _,
            at,
            kind,
            subject,
            node: _,
            node_name: node,
            workload: _,
            stack,
            message,
            cause,
            caused_by,
        } = self.clone();
        let level = EventLevel::of(&kind);
        let caused_by = caused_by.map(|cause| cause.view(id / PER_REVISION));
        EventView { id, at, kind, subject, node, stack, message, level, cause, caused_by }
    }
}

/// Fit for a terminal: what a node or a client says must not steer it.
pub(crate) fn plain(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn cut(text: String) -> String {
    let text = plain(text);
    if text.chars().count() <= MAX_TEXT { text } else { text.chars().take(MAX_TEXT).chain(['…']).collect() }
}

/// Numbers the events of one transaction and makes them operations.
pub(crate) fn events(events: impl IntoIterator<Item = Event>) -> Vec<Op> {
    let number =
        |(n, event): (usize, Event)| create(&Event { n: u16::try_from(n).unwrap_or(u16::MAX), ..event });
    events.into_iter().enumerate().map(number).collect()
}

/// A run of a job that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobRun {
    /// Random, and the row's id.
    pub(crate) key: String,
    /// Its place among the rows of its transaction.
    pub(crate) n: u16,
    pub(crate) workload: WorkloadKey,
    pub(crate) slot: u32,
    pub(crate) allocation: AllocationId,
    pub(crate) node_name: NodeName,
    pub(crate) image: String,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    pub(crate) exit_code: Option<i64>,
    /// When it was due, and how much later it was placed, where a schedule began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) due: Option<(Timestamp, Duration)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// The same for the same times, so that what is written again is written once.
pub(crate) fn missed_runs_id(row: &MissedRuns) -> String {
    format!("{}@{}", row.workload, row.last.0)
}

impl JobRun {
    /// How a run of a job's allocation on `node` ended.
    pub(crate) fn of(allocation: &Allocation, node: &Node, ended: EndedRun) -> Self {
        let status = &allocation.status;
        Self {
            key: format!("{:032x}", clock::random_bits()),
            n: 0,
            workload: allocation.workload.clone(),
            slot: allocation.slot,
            allocation: allocation.id,
            node_name: node.name.clone(),
            image: allocation.spec.image.clone(),
            started_at: ended.started_at,
            ended_at: ended.finished_at,
            exit_code: status.exit_code,
            due: allocation.due.map(|due| (due, allocation.placed_at.since(due))),
            reason: status.reason.clone(),
        }
    }

    /// The view, given the revision that created it.
    pub(crate) fn view(self, created: Revision) -> JobRunView {
        let Self {
            key: _,
            n,
            workload,
            slot,
            allocation,
            node_name,
            image,
            started_at,
            ended_at,
            exit_code,
            due,
            reason,
        } = self;
        JobRunView {
            id: created.0 * PER_REVISION + u64::from(n).min(PER_REVISION - 1),
            project: workload.project,
            stack: workload.stack,
            workload: workload.workload,
            slot,
            allocation,
            node: node_name.to_string(),
            image,
            started_at,
            ended_at,
            exit_code,
            due: due.map(|(due, _)| due),
            late: due.map(|(_, late)| late),
            reason,
        }
    }
}

/// Who did what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Audit {
    /// Random, and the row's id.
    pub(crate) key: String,
    pub(crate) at: Timestamp,
    pub(crate) who: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) outcome: AuditOutcome,
    pub(crate) details: String,
}

impl Audit {
    /// An entry of now.
    pub(crate) fn new(
        who: &str,
        action: &str,
        subject: impl Into<String>,
        details: impl Into<String>,
    ) -> Self {
        Self {
            key: format!("{:032x}", clock::random_bits()),
            at: clock::now(),
            who: who.to_owned(),
            action: action.to_owned(),
            subject: cut(subject.into()),
            outcome: AuditOutcome::Done,
            details: cut(details.into()),
        }
    }

    /// The view; a transaction has one entry, so its revision is the number.
    pub(crate) fn view(&self, created: Revision) -> AuditView {
        let Self { key: _, at, who, action, subject, outcome, details } = self.clone();
        AuditView { id: created.0, at, who, action, subject, outcome, details }
    }
}
