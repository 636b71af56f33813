//! Hardware classes, so that a laptop is compared with laptops. They decide about places and never about points.

use lattice_model::{machine::GpuUnit, resource::NodeFacts};
use serde::{Deserialize, Serialize};
use std::fmt;

/// From so many cores on, told or measured, a machine is a server.
const SERVER_CORES: f64 = 16.0;
/// From so much memory on.
const SERVER_MEMORY: u64 = 96 << 30;
/// No laptop or desktop has measured so many; whoever says that it has a battery and does is no laptop.
const NO_LAPTOP: f64 = 24.0;

/// What a machine is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It has a battery.
    Laptop,
    /// It has none, and is small.
    Desktop,
    /// It is large, or a virtual machine.
    Server,
    /// It lends a GPU that containers can use.
    Gpu,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Laptop, Self::Desktop, Self::Server, Self::Gpu];

    /// Of a machine: by what it says, and by how many cores it was measured to have, where it was.
    pub fn of(facts: &NodeFacts, measured_cores: Option<f64>) -> Self {
        let machine = &facts.machine;
        let measured = measured_cores.unwrap_or(0.0);
        if machine.gpu_units().iter().any(GpuUnit::is_usable) {
            Self::Gpu
        } else if machine.battery && measured < NO_LAPTOP {
            Self::Laptop
        } else if measured.max(f64::from(facts.cpus)) >= SERVER_CORES
            || facts.memory.0 >= SERVER_MEMORY
            || !matches!(machine.virtualization.as_str(), "" | "none" | "wsl" | "docker" | "lxc")
        {
            Self::Server
        } else {
            Self::Desktop
        }
    }

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Laptop => "laptop",
            Self::Desktop => "desktop",
            Self::Server => "server",
            Self::Gpu => "gpu",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
