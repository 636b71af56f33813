//! The port, and the machine behind it.

use lattice_model::{Duration, Timestamp};
use lattice_rules::{PowerSource, Reading};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What feeds the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Power {
    /// The mains, or a battery.
    pub source: Reading<PowerSource>,
    /// Percent of what the battery holds; unknown where there is none.
    pub charge: Reading<u8>,
    /// Whether it has a battery of its own, not counting those of mice and keyboards.
    pub has_battery: Reading<bool>,
}

/// One thermometer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sensor {
    /// What it measures, as its driver names it.
    pub name: String,
    /// Degrees Celsius.
    pub celsius: i32,
}

/// How hot the machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Heat {
    /// The hottest part, in degrees Celsius.
    pub hottest: Reading<Sensor>,
    /// The fastest fan, in turns a minute.
    pub fan: Reading<u32>,
}

/// Bytes sent and received by each interface that leads out, since the machine started.
pub type Counters = BTreeMap<String, u64>;

/// What can be measured. Each call looks anew, waits for nothing but the kernel, and takes well under a
/// millisecond.
pub trait Sensors: Send + Sync {
    /// What feeds the machine.
    fn power(&self) -> Power;
    /// How hot it is.
    fn heat(&self) -> Heat;
    /// How long nobody has touched it. `now` is the wall clock's.
    fn idle(&self, now: Timestamp) -> Reading<Duration>;
    /// Whether the way out is paid by volume.
    fn metered(&self) -> Reading<bool>;
    /// What it sent and received.
    fn traffic(&self) -> Reading<Counters>;
}

/// The machine that this runs on.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

impl System {
    /// This machine.
    pub fn new() -> Self {
        Self { root: "/".into() }
    }

    /// A machine whose kernel files are below this folder: for tests.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where its kernel files are.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_os = "linux")]
impl Sensors for System {
    fn power(&self) -> Power {
        crate::linux::power::read(&self.root)
    }

    fn heat(&self) -> Heat {
        crate::linux::heat::read(&self.root)
    }

    fn idle(&self, now: Timestamp) -> Reading<Duration> {
        crate::linux::terminals::idle(&self.root, now)
    }

    fn metered(&self) -> Reading<bool> {
        Reading::unknown("nothing on this machine says whether its network is metered")
    }

    fn traffic(&self) -> Reading<Counters> {
        crate::linux::traffic::read(&self.root)
    }
}
