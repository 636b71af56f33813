//! How a workload begins, goes on, is replaced and ends.

use super::WorkloadSpec;
use crate::time::Duration;
use serde::{Deserialize, Serialize};

/// What must have happened to a service before another starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// What must have happened.
    pub condition: DependencyCondition,
    /// Whether its absence is an error rather than a warning.
    #[serde(default = "yes")]
    pub required: bool,
    /// Whether this one is restarted when somebody restarts or replaces the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
}

const fn yes() -> bool {
    true
}

/// The conditions of Compose's `depends_on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// It has been started.
    #[default]
    ServiceStarted,
    /// Its health check passes.
    ServiceHealthy,
    /// It has ended with exit code 0.
    ServiceCompletedSuccessfully,
}

/// How a container's health is found out (Compose's and Docker's semantics).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// `["CMD", …]`, `["CMD-SHELL", …]` or `["NONE"]`, which switches the image's own check off;
    /// empty keeps the image's own, with the times below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long one check may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// A time at the start in which failures do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Duration>,
    /// Time between two checks within the start period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Duration>,
}

/// What happens when a container ends. The agent does it: Docker's own policy is always `no`,
/// or dockerd would revive what was fenced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// It stays ended: a job, whatever its exit code.
    Never,
    /// It is started again unless it ended with 0, at most `max_retries` times in a row.
    OnFailure {
        /// `None` is without limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_retries: Option<u32>,
    },
    /// It is started again, always. A workload without a policy is a service, so this is the default.
    #[default]
    Always,
}

/// When a container that ended is started again: refines [`RestartPolicy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RestartTiming {
    /// The first wait; it grows with each failure in a row. `None` is the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// How long it has to run for a start to count as good. `None` is the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
}

/// How many run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As many as `replicas` says.
    #[default]
    Replicated,
    /// One on each node that takes it; `replicas` says nothing.
    Global,
}

/// How replicas are replaced by those of a new version (Compose's `update_config`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdatePolicy {
    /// How many are replaced at a time; 0 is all at once.
    #[serde(default = "one_at_a_time")]
    pub parallelism: u32,
    /// The wait between two batches.
    #[serde(default)]
    pub delay: Duration,
    /// What happens when new ones fail.
    #[serde(default)]
    pub on_failure: UpdateFailure,
    /// How long a new one is watched for failure after it serves.
    #[serde(default)]
    pub monitor: Duration,
    /// How many may fail, in thousandths of the replicas, before the update has failed.
    #[serde(default)]
    pub max_failure_permille: u16,
    /// Whether the old one goes before the new one comes.
    #[serde(default)]
    pub order: UpdateOrder,
    /// Whether a new version is tried beside the old one first.
    #[serde(default, skip_serializing_if = "UpdateStrategy::is_rolling")]
    pub strategy: UpdateStrategy,
    /// How long a replica of a new version may take until it serves; `None` takes
    /// [`UpdatePolicy::DEFAULT_DEADLINE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
}

const fn one_at_a_time() -> u32 {
    1
}

impl Default for UpdatePolicy {
    /// Compose's: one at a time, the old one first, and a failure stops it.
    fn default() -> Self {
        Self {
            parallelism: one_at_a_time(),
            delay: Duration::default(),
            on_failure: UpdateFailure::default(),
            monitor: Duration::default(),
            max_failure_permille: 0,
            order: UpdateOrder::default(),
            strategy: UpdateStrategy::Rolling,
            deadline: None,
        }
    }
}

impl UpdatePolicy {
    /// How long a new replica may take where nothing is said, as Kubernetes has it.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);

    /// How long a replica of a new version may take until it serves.
    pub fn deadline(&self) -> Duration {
        self.deadline.unwrap_or(Self::DEFAULT_DEADLINE)
    }
}

/// Whether a new version is tried beside the old one before it takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpdateStrategy {
    /// It is not: replicas are replaced by turns.
    #[default]
    Rolling,
    /// A few replicas of it run beside all of the old ones; when they have proved themselves, the others follow by
    /// turns.
    Canary(Canary),
    /// All of it comes up beside the old one, and then takes over at once.
    BlueGreen(BlueGreen),
}

impl UpdateStrategy {
    /// Whether it is by turns alone.
    pub const fn is_rolling(&self) -> bool {
        matches!(self, Self::Rolling)
    }

    /// As people write it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Canary(_) => "canary",
            Self::BlueGreen(_) => "blue-green",
        }
    }
}

impl WorkloadSpec {
    /// Why no new version of it can run beside the old one, where that is so: what a trial needs.
    pub fn cannot_run_beside(&self) -> Option<String> {
        if self.restart != RestartPolicy::Always {
            return Some("it is a job: its versions do not serve beside each other".into());
        }
        if self.rendezvous.is_some() {
            return Some("its replicas find each other, so there is one set of them at a time".into());
        }
        let fixed = |port: &&super::PortSpec| port.published.is_some() && port.published_to.is_none();
        if let Some(port) = self.ports.iter().find(fixed).and_then(|port| port.published) {
            return Some(format!("it publishes port {port} of its node, which one version alone can have"));
        }
        let mount = self.mounts.iter().find(|mount| !mount.read_only)?;
        Some(format!("it writes to the volume {}, which has one writer at a time", mount.volume))
    }
}

/// A few replicas first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// How many.
    pub first: Share,
    /// How long they have to serve, all of them and without a break.
    pub bake: Duration,
    /// Who decides that the others follow.
    pub promote: Promote,
}

/// The whole set beside the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BlueGreen {
    /// How long the new set has to serve, all of it and without a break.
    pub bake: Duration,
    /// Who decides that it takes over.
    pub promote: Promote,
    /// How long the old set is kept afterwards, stopped, to go back to.
    pub keep: Duration,
}

/// So many of the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// A number.
    Count(u32),
    /// Of hundred, rounded up.
    Percent(u8),
}

impl Share {
    /// How many of `all` that is: at least one, where there is one.
    pub fn of(self, all: u32) -> u32 {
        let some = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                u32::try_from((u64::from(all) * u64::from(percent)).div_ceil(100)).unwrap_or(all)
            }
        };
        some.max(1).min(all)
    }
}

/// Who decides that a version which is being tried takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Promote {
    /// It does when its time is over.
    #[default]
    Auto,
    /// A person does.
    Manual,
}

/// What happens when an update fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpdateFailure {
    /// It stops, and what was not replaced yet runs on.
    #[default]
    Pause,
    /// It goes on.
    Continue,
    /// The former version comes back.
    Rollback,
}

/// The order of an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UpdateOrder {
    /// The old one is stopped before the new one starts.
    #[default]
    StopFirst,
    /// The new one serves before the old one is stopped.
    StartFirst,
}
