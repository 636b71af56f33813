//! What the store keeps about the cluster, one type per kind of row.
//!
//! The planner and the controllers read these; the API shows views of them. A state that only
//! the present knows (heartbeats, load) is not here: it lives in memory and is rebuilt from hello.

pub use crate::{
    pool::Pool,
    taint::{Taint, TaintEffect},
    timetable::{MissedRuns, Paused, ScheduledRun, Timetable},
};

use crate::{
    goal::DesiredState,
    health::{Condition, Level},
    id::{AllocationId, NetworkId, NodeId, StackId, VolumeId},
    machine::MachineFacts,
    name::{
        NetworkName, NodeName, OwnerName, PoolName, StackKey, VolumeKey, VolumeName, WorkloadKey,
        WorkloadName,
    },
    report::AllocationStatus,
    spec::{NetworkSpec, VolumeSpec, WorkloadSpec},
    standing::Standing,
    time::Timestamp,
    unit::{Bytes, Cpu},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A computer, as far as planning goes. Its keys and certificates are kept apart, by identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Tied to its key.
    pub id: NodeId,
    /// What people call it; unique.
    pub name: NodeName,
    /// Who lends it.
    pub owner: OwnerName,
    /// The group that it works in.
    pub pool: PoolName,
    /// Whether somebody put it there, so that no rule of a pool moves it. Rows of former versions do not say, so it
    /// stays until somebody frees it.
    #[serde(default = "yes")]
    pub pool_fixed: bool,
    /// Where it belongs while no rule takes it: the pool in which it joined. `None` is the one that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_pool: Option<PoolName>,
    /// When a rule moved it last, by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_since: Option<Timestamp>,
    /// Whether it belongs to the cluster.
    pub approval: Approval,
    /// Whether it takes new work.
    pub eligibility: Eligibility,
    /// What the owner lends, as the agent measured it.
    pub capacity: Capacity,
    /// Facts about the machine, as the agent found them.
    pub facts: NodeFacts,
    /// Labels by operator and owner.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What the operator has against work there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taints: BTreeSet<Taint>,
    /// Since when and until when it is emptied, while it is [`Eligibility::Draining`].
    #[serde(default)]
    pub drain: Option<Drain>,
    /// Whether the link is up, as of the last transition that was stored.
    pub presence: Presence,
    /// How it is, by its agent's last word; empty before the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What its owner has it do, as it said last; an agent that says nothing works.
    #[serde(default)]
    pub standing: Standing,
    /// When it asked to join, by the server's clock.
    pub joined_at: Timestamp,
}

const fn yes() -> bool {
    true
}

impl Node {
    /// An approved node that is connected, has nothing, and of which nothing is known.
    pub fn blank(id: NodeId) -> Self {
        Self {
            id,
            name: NodeName::of_id(id),
            owner: OwnerName::admin(),
            pool: PoolName::default_pool(),
            pool_fixed: false,
            home_pool: None,
            pool_since: None,
            approval: Approval::Approved,
            eligibility: Eligibility::Eligible,
            capacity: Capacity::default(),
            facts: NodeFacts::default(),
            labels: BTreeMap::new(),
            taints: BTreeSet::new(),
            drain: None,
            presence: Presence { state: PresenceState::Connected, since: Timestamp(0) },
            conditions: Vec::new(),
            standing: Standing::default(),
            joined_at: Timestamp(0),
        }
    }

    /// Where it belongs while no rule takes it.
    pub fn home(&self) -> &PoolName {
        self.home_pool.as_ref().unwrap_or(&self.pool)
    }

    /// Whether new work may be placed here.
    pub fn takes_work(&self) -> bool {
        self.approval == Approval::Approved
            && self.eligibility == Eligibility::Eligible
            && self.presence.state == PresenceState::Connected
            && self.distress().is_none()
            && self.standing.takes_work()
    }

    /// What about the machine keeps new work away, where something does: an engine that does not answer,
    /// or a want of memory or disk. What runs there stays.
    pub fn distress(&self) -> Option<&Condition> {
        self.conditions.iter().find(|one| one.level == Level::Bad && one.kind.keeps_work_away())
    }

    /// The value of a label: an operator's word outranks the owner's.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str).or_else(|| self.facts.machine.label(key))
    }

    /// Whether it does not belong to the cluster, or no longer.
    pub const fn has_left(&self) -> bool {
        matches!(self.approval, Approval::Rejected | Approval::Revoked)
    }

    /// Whether its work is placed elsewhere: it is lost, or said itself that nothing runs there.
    pub fn is_gone(&self) -> bool {
        self.is_lost() || self.standing.stands_still()
    }

    /// Whether its work is placed elsewhere since nobody hears of it: for so long that it is lost, or
    /// somebody empties it and does not want to wait.
    pub fn is_lost(&self) -> bool {
        match self.presence.state {
            PresenceState::Lost => true,
            PresenceState::Disconnected => self.eligibility == Eligibility::Draining,
            PresenceState::New | PresenceState::Connected | PresenceState::Unknown => false,
        }
    }
}

/// How long a node is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Drain {
    /// Since when, by the server's clock.
    pub since: Timestamp,
    /// From then on its work moves without waiting for its turn or for successors; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// Whether a node belongs to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// It asked and waits for a decision.
    Pending,
    /// It belongs.
    Approved,
    /// It asked and was turned away.
    Rejected,
    /// It belonged and was thrown out.
    Revoked,
    /// Two machines use its key: nothing is given to either until a person decides.
    Quarantined,
}

/// Whether a node takes new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Eligibility {
    /// It does.
    Eligible,
    /// What runs stays, nothing new comes.
    Cordoned,
    /// Nothing new comes, and what can run elsewhere moves there.
    Draining,
    /// Its agent is older than the enforced minimum: what runs stays, nothing new comes.
    Outdated,
}

/// Whether the link to a node is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Presence {
    /// Whether it is up.
    pub state: PresenceState,
    /// Since when, by the server's clock.
    pub since: Timestamp,
}

/// Whether the link to a node is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// It never connected after approval.
    New,
    /// A session is open and answers.
    Connected,
    /// No session; what runs there goes on.
    Disconnected,
    /// No session for so long that its work is placed elsewhere where its data allows.
    Lost,
    /// The server has just started and has not waited long enough to know.
    Unknown,
}

/// What a node can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Capacity {
    /// Processors lent.
    pub cpu: Cpu,
    /// Memory lent.
    pub memory: Bytes,
    /// Disk space lent, where the engine keeps its data.
    pub disk: Bytes,
}

/// Facts about a machine, measured by the agent and never trusted for authorisation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NodeFacts {
    /// Its host name.
    pub hostname: String,
    /// `linux`, `windows` or `macos`.
    pub os: String,
    /// Name and version of the system for people.
    pub os_version: String,
    /// Kernel version.
    pub kernel: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// Model of the processor.
    pub cpu_model: String,
    /// Number of logical processors.
    pub cpus: u32,
    /// Installed memory.
    pub memory: Bytes,
    /// Version of the container engine, empty when there is none.
    pub engine_version: String,
    /// Version of the agent.
    pub agent_version: String,
    /// What it can do.
    #[serde(default)]
    pub machine: MachineFacts,
}

/// A deployed stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// A stack deleted and deployed again has another one.
    pub id: StackId,
    /// Its name within the cluster.
    pub key: StackKey,
    /// Who deployed it last.
    pub owner: OwnerName,
    /// Rises with each deployment.
    pub version: u64,
    /// The networks by name.
    pub networks: BTreeMap<NetworkName, StackNetwork>,
    /// When it was deployed last, by the server's clock.
    pub deployed_at: Timestamp,
    /// Being removed: its workloads are gone and its allocations are on their way out.
    #[serde(default)]
    pub deleting: bool,
}

/// A network of a deployed stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackNetwork {
    /// Its id.
    pub id: NetworkId,
    /// How it is made.
    pub spec: NetworkSpec,
}

/// One service of a deployed stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its name within the cluster.
    pub key: WorkloadKey,
    /// What to run.
    pub spec: Arc<WorkloadSpec>,
    /// Rises whenever `spec` changes in a way that needs new containers.
    pub generation: u64,
    /// How many should run; begins as the spec's, changed by `scale`.
    pub replicas: u32,
    /// Whether it should run or be stopped with its containers kept.
    pub desired: DesiredState,
    /// Counts the restarts that people asked for.
    pub restart: u64,
    /// Former generations whose containers are the same as those of this one, so that they stay:
    /// after a way back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alike: Vec<u64>,
    /// The last generation of which every replica came up; 0 before the first one has.
    #[serde(default)]
    pub settled: u64,
    /// The planner took a version back that failed; `spec` is a former one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// How the present generation takes over from the one before; `None` before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// When a replica of it was moved last only because they were unevenly spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<Timestamp>,
    /// How far its schedule has come, where it has one; the planner begins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timetable: Option<Timetable>,
}

impl Workload {
    /// Whether a former version is being replaced.
    pub const fn is_under_way(&self) -> bool {
        self.settled > 0 && self.settled != self.generation
    }

    /// Has it run again, or now where it has a schedule.
    pub fn run_now(&mut self, now: Timestamp) {
        self.restart += 1;
        let Some(schedule) = &self.spec.schedule else { return };
        let table = self.timetable.get_or_insert_with(|| Timetable::begin(schedule.clone(), now));
        let ended = (self.replicas == 0).then_some(now);
        table.run = Some(ScheduledRun { due: None, begun: now, ended, replicas: self.replicas });
    }

    /// Nothing that its schedule had due before `now` is made up for.
    pub fn go_on_from(&mut self, now: Timestamp) {
        if let Some(table) = &mut self.timetable {
            table.go_on_from(now);
        }
    }

    /// What was decided about the way of the present generation.
    pub fn present_rollout(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| rollout.generation == self.generation)
    }
}

/// How a generation takes over from the one before, as far as somebody decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Rollout {
    /// The generation that it brings; of another one nothing here holds.
    pub generation: u64,
    /// When it began, by the server's clock.
    pub since: Timestamp,
    /// From when on its deadline counts: later than `since` once it was paused or promoted.
    pub counted_from: Timestamp,
    /// When the version that was tried beside the old one was let take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Timestamp>,
    /// Somebody holds it where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<RolloutPause>,
    /// Somebody goes back to a former version, which needs no trial.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
}

impl Rollout {
    /// One that begins.
    pub const fn begin(generation: u64, now: Timestamp) -> Self {
        Self { generation, since: now, counted_from: now, promoted: None, paused: None, undo: false }
    }
}

/// That somebody holds a rollout where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RolloutPause {
    /// Who.
    pub by: String,
    /// Since when, by the server's clock.
    pub at: Timestamp,
}

/// That a version failed, and the former one came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RolledBack {
    /// The generation that failed.
    pub from: u64,
    /// The generation whose specification came back.
    pub to: u64,
    /// What failed, in a sentence.
    pub why: String,
    /// When, by the server's clock.
    pub at: Timestamp,
}

/// A named volume: data, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// What people call it.
    pub key: VolumeKey,
    /// The node that has the data; `None` before the first use.
    pub node: Option<NodeId>,
    /// Whether the node reported it as created. From then on it is never replaced by an empty one.
    pub exists: bool,
    /// The number of the present writer's right.
    pub epoch: u64,
    /// The node reported that it is not there although it should be.
    #[serde(default)]
    pub missing: bool,
    /// Somebody asked for its deletion.
    #[serde(default)]
    pub deleting: bool,
    /// When it was first asked for, by the server's clock.
    pub created_at: Timestamp,
}

/// One placed instance of a workload on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Its id.
    pub id: AllocationId,
    /// The workload that it is an instance of.
    pub workload: WorkloadKey,
    /// Which of the replicas, from 1.
    pub slot: u32,
    /// The node that it was placed on.
    pub node: NodeId,
    /// The workload's generation that `spec` belongs to.
    pub generation: u64,
    /// What to run, as it was when the allocation was placed.
    pub spec: Arc<WorkloadSpec>,
    /// Whether it should run, be stopped, or go.
    pub intent: Intent,
    /// Counts the restarts that people asked for.
    pub restart: u64,
    /// When the run that it is of was due, where that was by a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The GPUs that are its own, by their ids, instances of GPUs among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// How many replicas it was told that there are, where they are to find each other; else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub world: u32,
    /// An allocation that must be gone before this one is created.
    #[serde(default)]
    pub replaces: Option<AllocationId>,
    /// The state that the node reported last.
    pub status: AllocationStatus,
    /// Another one has its slot; `None` where it is the slot's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Superseded>,
    /// Since when it serves without a break, by the server's clock; `None` while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_since: Option<Timestamp>,
    /// When it was placed, by the server's clock.
    pub placed_at: Timestamp,
    /// Why it was placed there.
    #[serde(default)]
    pub explanation: String,
}

const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Why another allocation has the slot of one that is still meant to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Superseded {
    /// Its node is lost. When that is back, the one that serves stays and the other goes.
    Lost,
    /// It serves until its successor does.
    Handover,
    /// Its successor has taken over; it is kept, stopped, to go back to.
    Retired,
}

/// What an allocation should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Run.
    Run,
    /// Stop and keep the container.
    Stop,
    /// Stop, remove the container, and be forgotten once the node has said so.
    Remove,
}

/// A deployment of a stack, kept to come back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRevision {
    /// The stack.
    pub stack: StackKey,
    /// The stack's version that it was.
    pub version: u64,
    /// Which generation of each service it had; their specifications are [`WorkloadRevision`]s.
    pub workloads: BTreeMap<WorkloadName, u64>,
    /// How many replicas it said.
    pub replicas: BTreeMap<WorkloadName, u32>,
    /// Its networks.
    pub networks: BTreeMap<NetworkName, NetworkSpec>,
    /// Its volumes.
    pub volumes: BTreeMap<VolumeName, VolumeSpec>,
    /// Who deployed it.
    pub by: String,
    /// When, by the server's clock.
    pub at: Timestamp,
}

/// What a generation of a service was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadRevision {
    /// The service.
    pub key: WorkloadKey,
    /// Of the service.
    pub generation: u64,
    /// What it ran.
    pub spec: Arc<WorkloadSpec>,
    /// The networks that its containers were attached to.
    #[serde(default)]
    pub networks: BTreeMap<NetworkName, NetworkId>,
    /// Whether every replica of it served at a time: what can be gone back to.
    #[serde(default)]
    pub came_up: bool,
}
