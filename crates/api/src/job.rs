//! Runs of jobs: what ended, when, how, and where.

use lattice_model::{AllocationId, ProjectName, StackName, Timestamp, WorkloadName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One run of a job's container, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobRunView {
    /// Rises with each run.
    pub id: u64,
    /// The project.
    pub project: ProjectName,
    /// The stack.
    pub stack: StackName,
    /// The service.
    pub workload: WorkloadName,
    /// Which of the replicas, from 1.
    pub slot: u32,
    /// The instance that ran.
    pub allocation: AllocationId,
    /// The name of its node at that time.
    pub node: String,
    /// The image.
    pub image: String,
    /// When it was started, by the engine's clock.
    pub started_at: Timestamp,
    /// When it ended, by the engine's clock.
    pub ended_at: Timestamp,
    /// Its exit code; absent where the engine did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why it ended so, where that is not obvious.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl JobRunView {
    /// Whether it ended well.
    pub fn is_success(&self) -> bool {
        self.exit_code == Some(0)
    }
}

/// Query of [`paths::JOB_RUNS`](crate::paths::JOB_RUNS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct JobRunQuery {
    /// Only those of a project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those of stacks with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Only those of services with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The last so many: 1 to 1000, 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
