//! What a project may use at the most, and what it uses.

use crate::unit::{Bytes, Cpu};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a project may use at the most; without a number there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Processors that its replicas ask for together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory that its replicas ask for together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Replicas of all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Named volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<u32>,
    /// Stacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacks: Option<u32>,
}

/// What a project uses, counted as [`Quota`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Processors that its replicas ask for together, whether they run or are stopped.
    pub cpu: Cpu,
    /// Memory that its replicas ask for together.
    pub memory: Bytes,
    /// Replicas of all services.
    pub replicas: u32,
    /// Named volumes.
    pub volumes: u32,
    /// Stacks.
    pub stacks: u32,
}

impl Usage {
    /// Counts so many replicas of a service.
    pub fn add(&mut self, replicas: u32, cpu: Cpu, memory: Bytes) {
        self.replicas = self.replicas.saturating_add(replicas);
        self.cpu = Cpu(self.cpu.0.saturating_add(cpu.0.saturating_mul(replicas)));
        self.memory = Bytes(self.memory.0.saturating_add(memory.0.saturating_mul(u64::from(replicas))));
    }
}

impl Quota {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a change would use beyond the bounds: what it is, how much then, how much now, and the bound.
    /// A change that uses no more of something than before passes, however low the bound has become.
    pub fn exceeded(&self, before: &Usage, after: &Usage) -> Vec<String> {
        let Self { cpu, memory, replicas, volumes, stacks } = *self;
        let found = [
            grown("processors", cpu, before.cpu, after.cpu),
            grown("memory", memory, before.memory, after.memory),
            grown("replicas", replicas, before.replicas, after.replicas),
            grown("volumes", volumes, before.volumes, after.volumes),
            grown("stacks", stacks, before.stacks, after.stacks),
        ];
        found.into_iter().flatten().collect()
    }
}

/// What is said of something that is above its limit and was less before; nothing where it is not, or has no limit.
pub(crate) fn grown<T: Copy + PartialOrd + fmt::Display>(
    what: &str,
    limit: Option<T>,
    now: T,
    then: T,
) -> Option<String> {
    let limit = limit.filter(|limit| then > *limit && then > now)?;
    Some(format!("{what}: {then} would be used, {now} are used now, the limit is {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_what_grows() {
        let quota = Quota { replicas: Some(3), memory: Some(Bytes::from_mib(100)), ..Quota::default() };
        let of = |replicas| {
            let mut usage = Usage::default();
            usage.add(replicas, Cpu::from_cores(1), Bytes::from_mib(30));
            usage
        };
        assert!(quota.exceeded(&of(0), &of(3)).is_empty());
        let over = quota.exceeded(&of(3), &of(4));
        assert_eq!(over.len(), 2, "{over:?}");
        assert!(over[1].starts_with("replicas: 4 would be used, 3 are used now, the limit is 3"), "{over:?}");
        // A quota that was lowered under what is used lets go of things.
        assert!(quota.exceeded(&of(9), &of(8)).is_empty());
        assert!(quota.exceeded(&of(9), &of(9)).is_empty());
        assert!(Quota::default().exceeded(&of(0), &of(u32::MAX)).is_empty());
        assert_eq!(of(u32::MAX).cpu, Cpu(u32::MAX), "it saturates");
    }
}
