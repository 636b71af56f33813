//! How a node is, beyond whether it answers: one condition for each thing that can go wrong with a
//! machine, each with a level, a reason for programs, and a sentence for people.
//!
//! A node tells all of its conditions whenever one changes. What is not in the list was never
//! measured there, which is not the same as [`Level::Unknown`]: that was measured once and is not now.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How one thing about a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Condition {
    /// What it is about.
    pub kind: ConditionKind,
    /// How it is.
    pub level: Level,
    /// Since when it is so: by the node's clock, and never later than the server heard of it.
    pub since: Timestamp,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, in a sentence for people, with the numbers of the moment when it became so.
    pub message: String,
}

/// What a condition is about. The order is that in which people see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// The container engine.
    Docker,
    /// Processors.
    Cpu,
    /// Memory.
    Memory,
    /// Disk space where the engine keeps its data.
    Disk,
    /// Whether disks read and write what they are told.
    DiskErrors,
    /// The network, short of the link itself, which the server knows.
    Network,
    /// The clock against the server's.
    Clock,
    /// GPUs.
    Gpu,
    /// Heat.
    Temperature,
}

impl ConditionKind {
    /// All, in order.
    pub const ALL: [Self; 9] = [
        Self::Docker,
        Self::Cpu,
        Self::Memory,
        Self::Disk,
        Self::DiskErrors,
        Self::Network,
        Self::Clock,
        Self::Gpu,
        Self::Temperature,
    ];

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::DiskErrors => "disk_errors",
            Self::Network => "network",
            Self::Clock => "clock",
            Self::Gpu => "gpu",
            Self::Temperature => "temperature",
        }
    }

    /// Whether nothing new is placed on a node where this is [`Level::Bad`].
    pub const fn keeps_work_away(self) -> bool {
        matches!(self, Self::Docker | Self::Memory | Self::Disk | Self::DiskErrors)
    }
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// It was measured once, and is not now.
    Unknown,
    /// It works, and somebody should look.
    Warning,
    /// It does not work, or will soon not.
    Bad,
}

impl Level {
    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is as it should be.
    Fine,
    /// It could not be measured for a while.
    NotMeasured,
    /// Processors have more to do than they can.
    Busy,
    /// Memory is short.
    LowMemory,
    /// Programs wait for memory.
    MemoryStalls,
    /// Disk space is short.
    LowSpace,
    /// The file system can hold few files more.
    FewInodes,
    /// The file system takes no writes.
    ReadOnly,
    /// The kernel counted errors of a disk or file system.
    IoErrors,
    /// Nothing leads out of this machine.
    NoRoute,
    /// The server answers slowly.
    SlowLink,
    /// Packets are lost on this machine's own ports.
    PacketErrors,
    /// The engine's socket takes calls, and none is answered.
    Hung,
    /// The engine cannot be reached.
    Down,
    /// The engine answers late.
    Slow,
    /// The engine answers that it cannot.
    Failing,
    /// The clock is wrong.
    Skewed,
    /// A GPU that was there is gone.
    GpuLost,
    /// A GPU that is lent cannot be used by a container.
    GpuUnproven,
    /// A GPU's memory had errors that were not corrected.
    GpuErrors,
    /// It is hot.
    Hot,
}

impl Reason {
    /// All, in order.
    pub const ALL: [Self; 21] = [
        Self::Fine,
        Self::NotMeasured,
        Self::Busy,
        Self::LowMemory,
        Self::MemoryStalls,
        Self::LowSpace,
        Self::FewInodes,
        Self::ReadOnly,
        Self::IoErrors,
        Self::NoRoute,
        Self::SlowLink,
        Self::PacketErrors,
        Self::Hung,
        Self::Down,
        Self::Slow,
        Self::Failing,
        Self::Skewed,
        Self::GpuLost,
        Self::GpuUnproven,
        Self::GpuErrors,
        Self::Hot,
    ];

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::NotMeasured => "not_measured",
            Self::Busy => "busy",
            Self::LowMemory => "low_memory",
            Self::MemoryStalls => "memory_stalls",
            Self::LowSpace => "low_space",
            Self::FewInodes => "few_inodes",
            Self::ReadOnly => "read_only",
            Self::IoErrors => "io_errors",
            Self::NoRoute => "no_route",
            Self::SlowLink => "slow_link",
            Self::PacketErrors => "packet_errors",
            Self::Hung => "hung",
            Self::Down => "down",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Skewed => "skewed",
            Self::GpuLost => "gpu_lost",
            Self::GpuUnproven => "gpu_unproven",
            Self::GpuErrors => "gpu_errors",
            Self::Hot => "hot",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Condition {
    /// `docker: hung (bad): its socket takes calls, and none was answered within 10s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}): {}", self.kind, self.reason, self.level, self.message)
    }
}

/// The most conditions that a node may tell.
pub const MAX_CONDITIONS: usize = ConditionKind::ALL.len();
/// The most characters of a condition's sentence.
const MAX_MESSAGE: usize = 400;

/// The conditions of a report, as they may be kept: one of each kind, in order, bounded.
pub fn bounded(conditions: &[Condition]) -> Vec<Condition> {
    let mut kept: Vec<Condition> = Vec::with_capacity(MAX_CONDITIONS);
    for kind in ConditionKind::ALL {
        let Some(condition) = conditions.iter().find(|condition| condition.kind == kind) else { continue };
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let message = condition.message.chars().take(MAX_MESSAGE).map(plain).collect();
        kept.push(Condition { message, ..condition.clone() });
    }
    kept
}

/// The worst of several conditions, the first of equals.
pub fn worst(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().rev().max_by_key(|condition| condition.level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(kind: ConditionKind, level: Level) -> Condition {
        Condition { kind, level, since: Timestamp(1), reason: Reason::Fine, message: "m\n".repeat(999) }
    }

    #[test]
    fn words_are_those_of_the_wire() {
        for kind in ConditionKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for level in [Level::Good, Level::Unknown, Level::Warning, Level::Bad] {
            assert_eq!(serde_json::to_value(level).unwrap(), level.as_str());
        }
    }

    #[test]
    fn a_report_is_bounded_and_ordered() {
        let (disk, cpu) = (ConditionKind::Disk, ConditionKind::Cpu);
        let all = [condition(disk, Level::Good), condition(cpu, Level::Bad), condition(disk, Level::Bad)];
        let kept = bounded(&all);
        assert_eq!(
            kept.iter().map(|c| (c.kind, c.level)).collect::<Vec<_>>(),
            [(cpu, Level::Bad), (disk, Level::Good)]
        );
        assert!(kept.iter().all(|c| c.message.chars().count() <= 400 && !c.message.contains('\n')));
        assert_eq!(worst(&kept).map(|c| c.kind), Some(cpu));
        assert_eq!(worst(&[]), None);
    }
}
