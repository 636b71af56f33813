//! What the agent remembers of an allocation across its own restarts.

use crate::pressure::Eviction;
use lattice_model::{
    AllocationId, Duration, Timestamp, VolumeId, WorkloadName,
    report::{AllocationStatus, PublishedPort},
    spec::RestartTiming,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Of each service that it follows (`depends_on` with `restart`), the replicas by slot as they were
    /// when it was started: which allocation, and how often that was restarted.
    #[serde(default)]
    pub followed: BTreeMap<WorkloadName, BTreeMap<u32, (AllocationId, u64)>>,
    /// How often it was restarted because of one that it follows.
    #[serde(default)]
    pub following: u64,
    /// How long its container may take to stop, for when the goal no longer says.
    pub grace: Option<Duration>,
    /// That it had to make way, while that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicted: Option<Eviction>,
    /// How often it had to.
    #[serde(default)]
    pub evictions: u32,
    /// The status that was reported last.
    pub reported: Option<AllocationStatus>,
}

impl AllocationRecord {
    /// When a container that ended at `ended_at` is started again: at once the first time, then
    /// after 0.5 s, 1 s, 2 s … at most a minute. A delay of its own is the first wait, doubles with each
    /// failure, and is never shortened.
    pub(crate) fn restart_at(&self, ended_at: Timestamp, timing: RestartTiming) -> Timestamp {
        let steps = self.in_a_row.min(10);
        let usual = if steps == 0 { 0 } else { (250 << steps).min(60_000) };
        let delay = timing.delay.unwrap_or_default().0;
        let own = delay.saturating_mul(1 << steps).min(delay.max(60_000));
        ended_at + Duration::from_millis(usual.max(own))
    }
}
