//! How far the schedule of a job has come. It is part of the workload's row, so that a run and the time that it was due
//! are written down together: no time is taken twice, whoever plans.

use crate::{name::WorkloadKey, spec::Schedule, time::Timestamp};
use serde::{Deserialize, Serialize};

/// How far the schedule of a job has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timetable {
    /// The schedule that it is of; with another one it begins anew.
    pub of: Schedule,
    /// Up to when, inclusively, it is decided what became of each time that was due. Never goes back.
    pub until: Timestamp,
    /// Somebody holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The run that began last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<ScheduledRun>,
}

impl Timetable {
    /// One of which nothing was due before `now`.
    pub const fn begin(of: Schedule, now: Timestamp) -> Self {
        Self { of, until: now, paused: None, run: None }
    }

    /// The run that goes on.
    pub fn under_way(&self) -> Option<&ScheduledRun> {
        self.run.as_ref().filter(|run| run.ended.is_none())
    }

    /// Nothing that was due before `now` is made up for.
    pub fn go_on_from(&mut self, now: Timestamp) {
        // Where the clock was ahead of time, it counts from now again: somebody says so.
        self.until = now;
    }
}

/// That somebody holds a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Paused {
    /// Who.
    pub by: String,
    /// Since when, by the server's clock.
    pub at: Timestamp,
}

/// One run of a job with a schedule, all of its replicas together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ScheduledRun {
    /// When it was due; absent where somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// When it was decided to begin, by the server's clock.
    pub begun: Timestamp,
    /// When the last of its replicas was seen to have ended, by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How many replicas it has.
    pub replicas: u32,
}

/// Times at which a job was due and did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedRuns {
    /// The job.
    pub workload: WorkloadKey,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many.
    pub count: u32,
    /// Whether there are more than could be counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Why none of them ran.
    pub why: String,
    /// When that was decided, by the server's clock.
    pub at: Timestamp,
}
