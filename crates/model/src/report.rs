//! What a node answers: the state of its allocations and volumes, and what happened in between.
//!
//! Reports are events with a sequence number; the agent keeps each until the server has
//! acknowledged it, so that each arrives once and in order, also after hours offline.

use crate::{
    goal::GoalId,
    health::Condition,
    id::{AllocationId, VolumeId},
    resource::{Capacity, NodeFacts},
    spec::ContainerPort,
    standing::Standing,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

/// Something that happened on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Rises by one with each report of this node, for ever.
    pub seq: u64,
    /// When, by the node's clock.
    pub at: Timestamp,
    /// What.
    pub kind: ReportKind,
}

/// What happened on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportKind {
    /// An allocation is in another state than before.
    Allocation {
        /// Which.
        id: AllocationId,
        /// Its state now.
        status: AllocationStatus,
    },
    /// An allocation that was to go is gone, its container removed.
    AllocationGone {
        /// Which.
        id: AllocationId,
    },
    /// A volume was created, empty.
    VolumeCreated {
        /// Which.
        id: VolumeId,
    },
    /// A volume that somebody had asked to delete is gone.
    VolumeDeleted {
        /// Which.
        id: VolumeId,
    },
    /// A volume that should be here is not: data may be lost.
    VolumeMissing {
        /// Which.
        id: VolumeId,
    },
    /// A volume that was told to be missing is here again.
    VolumeFound {
        /// Which.
        id: VolumeId,
    },
    /// The container engine stopped answering.
    RuntimeLost {
        /// What it said.
        reason: String,
    },
    /// The container engine answers again.
    RuntimeBack,
    /// A goal was not taken.
    GoalRefused {
        /// Which.
        goal: GoalId,
        /// Why, and what to do.
        reason: String,
    },
    /// So many reports waited that older ones had to go; states were sent anew instead.
    OutboxOverflowed {
        /// How many went.
        dropped: u64,
    },
    /// The agent started.
    AgentStarted {
        /// Its version.
        version: String,
    },
    /// The machine is in another condition than before.
    Health {
        /// All of its conditions.
        conditions: Vec<Condition>,
    },
    /// The machine is another than the last hello said: a disk came, the engine is a newer one.
    Facts {
        /// What it is now.
        facts: Box<NodeFacts>,
        /// What is lent of it now.
        capacity: Capacity,
    },
    /// What its owner has it do is something else than before.
    Standing {
        /// What now.
        standing: Standing,
    },
}

/// The state of one allocation, as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AllocationStatus {
    /// Where it stands.
    pub state: AllocationState,
    /// Why, in a sentence for people, wherever that is not obvious.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What its health check says.
    pub health: Health,
    /// When the container that runs now was started, by the engine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The exit code of the container that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// From when to when the container ran that ended last, unless it runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_run: Option<EndedRun>,
    /// How often the agent started it again after it had ended.
    pub restarts: u32,
    /// Where its published ports can be reached on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// Whether its node gives it up for want of memory or disk: it had better run elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub displaced: bool,
}

impl AllocationStatus {
    /// The status before anything is known.
    pub const fn new(state: AllocationState) -> Self {
        Self {
            state,
            reason: None,
            health: Health::None,
            started_at: None,
            exit_code: None,
            ended_run: None,
            restarts: 0,
            ports: Vec::new(),
            displaced: false,
        }
    }

    /// The same with a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Whether it serves: it runs and no health check says otherwise.
    pub fn is_serving(&self) -> bool {
        self.state == AllocationState::Running && matches!(self.health, Health::None | Health::Healthy)
    }
}

/// A run of a container that is over, by the engine's clock. No two of one container are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EndedRun {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// Where an allocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AllocationState {
    /// Planned, and the node has not said anything yet.
    Assigned,
    /// Waits for something on the node: a dependency, a predecessor, a volume.
    Waiting,
    /// Its image is fetched.
    Pulling,
    /// Its container is created or started.
    Starting,
    /// Its container runs.
    Running,
    /// Its container ended and is started again after a pause.
    BackingOff,
    /// Its container is being stopped.
    Stopping,
    /// Its container is stopped, because somebody wanted it so.
    Stopped,
    /// Its container ended with 0 and is not to be started again.
    Completed,
    /// It cannot run, or ended with another code and is not to be started again.
    Failed,
    /// The node has not been heard of, so nobody knows.
    Unknown,
}

impl AllocationState {
    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Waiting => "waiting",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::BackingOff => "backing_off",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for AllocationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a health check says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// There is no check.
    #[default]
    None,
    /// Not yet known.
    Starting,
    /// Passes.
    Healthy,
    /// Fails.
    Unhealthy,
}

/// A published port as it is bound on the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PublishedPort {
    /// The port inside the container.
    pub target: ContainerPort,
    /// The address on the node.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub host_ip: IpAddr,
    /// The port on the node.
    pub host_port: u16,
}
