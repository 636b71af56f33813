//! What a driver tells of its GPUs at one moment.

use crate::error::{GpuError, Result};
use lattice_model::machine::GpuFacts;
use serde::{Deserialize, Serialize};

/// The oldest major version of NVIDIA's driver with which a GPU is handed out: it can do CUDA 11.4, which the probe
/// and any image of these years ask for.
pub const OLDEST_DRIVER: u32 = 470;

/// Tells of the GPUs of one maker.
pub trait GpuDriver: Send + 'static {
    /// What it sees now. May hang, as drivers do: ask through [`crate::Watched`].
    ///
    /// # Errors
    /// Why it tells nothing.
    fn read(&mut self) -> Result<GpuReading>;
}

/// What a driver tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuReading {
    /// Its version.
    pub driver: String,
    /// The newest CUDA that it can do: `13.0`.
    pub cuda: String,
    /// The GPUs, in its order.
    pub cards: Vec<Card>,
}

/// A GPU, with what changes all the time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Card {
    /// What it is.
    pub facts: GpuFacts,
    /// Its address on the bus, in lower case: `0000:00:06.0`.
    pub address: String,
    /// The number of its device node: `/dev/nvidia0`.
    pub minor: Option<u32>,
    /// Whether it fell off the bus.
    pub lost: bool,
    /// Its temperature, in degrees Celsius.
    pub celsius: Option<i32>,
    /// Errors of its memory since the driver was loaded that were not corrected.
    pub memory_errors: Option<u64>,
    /// How busy it was lately, in percent.
    pub busy_percent: Option<u32>,
}

impl GpuReading {
    /// Why the driver is too old to hand its GPUs out, where it is.
    pub fn too_old(&self) -> Option<String> {
        let major: u32 = self.driver.split('.').next()?.parse().ok()?;
        (major < OLDEST_DRIVER).then(|| {
            format!(
                "NVIDIA's driver {} is too old; install {OLDEST_DRIVER} or a newer one, and restart the machine",
                self.driver
            )
        })
    }
}

/// Readings that were written down, one after the other; the last one stays.
#[derive(Clone, Debug)]
pub struct Recorded {
    readings: Vec<Result<GpuReading>>,
    next: usize,
}

impl Recorded {
    /// Tells these in their order.
    pub fn new(readings: impl IntoIterator<Item = Result<GpuReading>>) -> Self {
        Self { readings: readings.into_iter().collect(), next: 0 }
    }
}

impl GpuDriver for Recorded {
    fn read(&mut self) -> Result<GpuReading> {
        let last = self.readings.len().saturating_sub(1);
        let reading = self.readings.get(self.next.min(last)).cloned();
        self.next += 1;
        reading.unwrap_or(Err(GpuError::NoLibrary))
    }
}
