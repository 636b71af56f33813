//! What is counted: [`Room`], of a node or of an ask.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Amounts of what a node has and asks take. What is not limited is [`u64::MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Room {
    /// Thousandths of a processor core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
    /// Bits a second.
    pub bandwidth: u64,
    /// Allocations, as a node holds only so many; process ids where somebody counts these.
    pub slots: u64,
}

/// One kind of [`Room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Processor.
    Cpu,
    /// Memory.
    Memory,
    /// Disk.
    Disk,
    /// Network bandwidth.
    Bandwidth,
    /// Allocations.
    Slots,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Bandwidth => "bandwidth",
            Self::Slots => "slots",
        })
    }
}

impl Kind {
    /// All of them, in the order of the checks.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Memory, Self::Disk, Self::Bandwidth, Self::Slots];
}

impl Room {
    /// Room without any limit.
    pub const UNLIMITED: Self =
        Self { cpu: u64::MAX, memory: u64::MAX, disk: u64::MAX, bandwidth: u64::MAX, slots: u64::MAX };

    /// How much of a kind.
    pub const fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Cpu => self.cpu,
            Kind::Memory => self.memory,
            Kind::Disk => self.disk,
            Kind::Bandwidth => self.bandwidth,
            Kind::Slots => self.slots,
        }
    }

    /// The first kind of which `ask` wants more than is here.
    pub fn lacks(&self, ask: &Self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| ask.of(*kind) > self.of(*kind))
    }

    fn with(&self, other: &Self, how: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            cpu: how(self.cpu, other.cpu),
            memory: how(self.memory, other.memory),
            disk: how(self.disk, other.disk),
            bandwidth: how(self.bandwidth, other.bandwidth),
            slots: how(self.slots, other.slots),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What is left of it; never less than nothing.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_sub)
    }
}
