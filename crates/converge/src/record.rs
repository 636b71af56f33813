//! What the agent remembers of an allocation across its own restarts.

use lattice_model::{
    Duration, Timestamp, VolumeId,
    report::{AllocationStatus, PublishedPort},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Kept on disk beside the goal; losing it costs restart counts and the choice of free ports,
/// never a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationRecord {
    /// How often it was started again after it had ended.
    pub restarts: u32,
    /// How many of these came in a row, without a good run between them.
    pub in_a_row: u32,
    /// The restart count of the goal that has been honoured.
    pub honoured_restart: u64,
    /// Whether its container was stopped on purpose or is owed a start, and was not started since.
    pub stopped: bool,
    /// The ports on the node, chosen once and kept.
    pub ports: Vec<PublishedPort>,
    /// The volumes that its container was made with: they were here, whatever the server knows yet.
    #[serde(default)]
    pub volumes: BTreeSet<VolumeId>,
    /// How long its container may take to stop, for when the goal no longer says.
    pub grace: Option<Duration>,
    /// The status that was reported last.
    pub reported: Option<AllocationStatus>,
}

impl AllocationRecord {
    /// When a container that ended at `ended_at` is started again: at once the first time, then
    /// after 0.5 s, 1 s, 2 s … at most a minute.
    pub(crate) fn restart_at(&self, ended_at: Timestamp) -> Timestamp {
        match self.in_a_row {
            0 => ended_at,
            n => ended_at + Duration::from_millis((250 << n.min(10)).min(60_000)),
        }
    }
}
