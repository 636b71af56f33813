//! What an event weighs, and what led to it.

use crate::cluster::{AuditView, EventView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much an event weighs, by its kind.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EventLevel {
    /// As things go.
    #[default]
    Info,
    /// Something is not as it should be, and mends itself or may.
    Warning,
    /// Something failed or is lost.
    Error,
}

impl EventLevel {
    /// Of a kind of event. What is not known is as things go.
    pub fn of(kind: &str) -> Self {
        match kind {
            "node.lost"
            | "node.quarantined"
            | "node.condition_bad"
            | "node.measurement_made_up"
            | "allocation.lost"
            | "allocation.failed"
            | "workload.rolled_back"
            | "volume.lost"
            | "volume.missing"
            | "backup.failed"
            | "store.behind" => Self::Error,
            "node.disconnected"
            | "node.condition_warning"
            | "node.goal_too_large"
            | "nodes.held"
            | "allocation.backing_off"
            | "allocation.unknown"
            | "workload.pending"
            | "backup.overdue"
            | "planner.refused"
            | "report.refused"
            | "job.missed"
            | "alert.firing" => Self::Warning,
            _ => Self::Info,
        }
    }

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What led to an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CauseRef {
    /// Where to look it up.
    pub kind: CauseKind,
    /// Its id there.
    pub id: u64,
    /// What it was, in short: `node.lost tower`, `ada: stack.deploy default/shop`. It stays when what it names is no
    /// longer kept.
    pub what: String,
}

/// Where a cause is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// Among the events.
    Event,
    /// Among the audit entries: somebody asked for it.
    Audit,
}

/// What `GET /v1/events/{id}/chain` answers: why an event came about, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventChain {
    /// The event that was asked about.
    pub event: EventView,
    /// The events that led to it, the nearest first.
    pub because: Vec<EventView>,
    /// Who asked for the first of them, where somebody did and the reader may see audit entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditView>,
    /// What came of it, directly or not, oldest first; at most 500. Each says by `caused_by` of what.
    pub led_to: Vec<EventView>,
    /// Whether more came of it.
    #[serde(default)]
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_weighs_more_than_what_waits() {
        assert!(EventLevel::of("node.lost") > EventLevel::of("workload.pending"));
        assert!(EventLevel::of("workload.pending") > EventLevel::of("a.newer_kind"));
        assert_eq!(serde_json::to_value(EventLevel::Warning).unwrap(), EventLevel::Warning.as_str());
    }
}
