//! How an update fares, and the versions that one can go back to.

use lattice_model::{
    Duration, Timestamp, WorkloadName,
    resource::{RolledBack, Rollout},
    spec::{Promote, UpdateStrategy},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// How a stack's last deployment fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// Of the stack, now.
    pub version: u64,
    /// Its services.
    pub workloads: Vec<RolloutWorkload>,
    /// Versions that are kept, newest first.
    pub revisions: Vec<RevisionView>,
}

/// How one service fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutWorkload {
    /// Its name.
    pub name: WorkloadName,
    /// Of its containers.
    pub generation: u64,
    /// Where it stands.
    pub state: RolloutState,
    /// Replicas of the present version that serve.
    pub updated: u32,
    /// How many there are to be.
    pub replicas: u32,
    /// Replicas of the present version that fail, by slot, with what is wrong.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failing: BTreeMap<u32, String>,
    /// What the others wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// A version that failed was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack>,
    /// By which way versions follow each other.
    #[serde(default)]
    pub strategy: UpdateStrategy,
    /// When it began, who paused it, when it was promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How the new version fares that is tried beside the old one, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialView>,
    /// Until when the former version is kept, stopped, to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<Timestamp>,
}

/// A new version that is tried beside the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialView {
    /// How many replicas of it are to be there.
    pub replicas: u32,
    /// How many of them serve.
    pub serving: u32,
    /// How long all of them have to serve.
    pub bake: Duration,
    /// When they have; absent while not all of them serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked_at: Option<Timestamp>,
    /// Who lets it take over then.
    pub promote: Promote,
}

/// Where an update stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Every replica of the present version has come up.
    Done,
    /// On its way.
    Rolling,
    /// A few replicas, or a whole new set, run beside the old ones, until they are promoted.
    Trial,
    /// More replicas fail than may, or somebody paused it; the others wait.
    Paused,
}

/// Query of [`paths::ROLLOUT_PAUSE`](crate::paths::ROLLOUT_PAUSE), `ROLLOUT_RESUME` and `ROLLOUT_PROMOTE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RolloutQuery {
    /// Of this service alone; of all of the stack where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// A version that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    /// The stack's version that it was.
    pub version: u64,
    /// When it was deployed.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Whether every replica of it served at a time.
    pub came_up: bool,
    /// The image of each service.
    #[schema(value_type = BTreeMap<String, String>)]
    pub images: BTreeMap<WorkloadName, String>,
}

/// Query of [`paths::ROLLOUT_UNDO`](crate::paths::ROLLOUT_UNDO).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UndoQuery {
    /// The version to go back to; the last one before the present one that came up where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}
