//! How an update fares, and the versions that one can go back to.

use lattice_model::{Timestamp, WorkloadName, resource::RolledBack};
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
}

/// Where an update stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Every replica of the present version has come up.
    Done,
    /// On its way.
    Rolling,
    /// More replicas fail than may; the others wait.
    Paused,
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
