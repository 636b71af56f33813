//! Runs of jobs: what ended, when, how, and where.

use lattice_model::{
    AllocationId, Duration, ProjectName, StackName, Timestamp, WorkloadKey, WorkloadName,
    resource::MissedRuns,
};
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
    /// When it was due, where a schedule began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// How much later it was placed, where a schedule began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Duration>,
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

/// Times at which a job was due and did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissedRunsView {
    /// The revision of the store at which it was written down.
    pub id: u64,
    /// The project.
    pub project: ProjectName,
    /// The stack.
    pub stack: StackName,
    /// The service.
    pub workload: WorkloadName,
    /// The first of the times.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub count: u32,
    /// Whether there are more than were counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Why none of them ran.
    pub reason: String,
    /// When that was decided, by the server's clock.
    pub at: Timestamp,
}

impl MissedRunsView {
    /// The view of a row with its number.
    pub fn of(id: u64, missed: MissedRuns) -> Self {
        let MissedRuns { workload, first, last, count, more, why, at } = missed;
        let WorkloadKey { project, stack, workload } = workload;
        Self { id, project, stack, workload, first, last, count, more, reason: why, at }
    }
}

/// Query of [`paths::JOB_RUNS`](crate::paths::JOB_RUNS) and [`paths::MISSED_RUNS`](crate::paths::MISSED_RUNS).
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
