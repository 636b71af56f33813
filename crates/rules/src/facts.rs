//! What is so now, as a shell measured it.

use lattice_model::{Bytes, Duration, Timestamp, machine::LanState};
use serde::{Deserialize, Serialize};

/// One measured fact. That it is not known is said, with why, and nothing is put in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    /// So it is.
    Known(T),
    /// Nobody could tell; why not.
    Unknown(String),
}

impl<T> Reading<T> {
    /// Not known, because of this.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown(why.into())
    }

    /// What is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// The same with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Known(value) => Reading::Known(change(value)),
            Self::Unknown(why) => Reading::Unknown(why),
        }
    }
}

/// What feeds the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerSource {
    /// The mains, or there is no battery.
    Mains,
    /// A battery.
    Battery,
}

/// Whether the owner's network is closed to containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanFact {
    /// Whether.
    pub state: LanState,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Everything that rules may rest on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What feeds the machine.
    pub power: Reading<PowerSource>,
    /// Charge of the battery, in percent; of a machine without one it is not known.
    pub charge: Reading<u8>,
    /// Since when nobody has touched keyboard or mouse.
    pub idle: Reading<Duration>,
    /// The hottest part, in degrees Celsius.
    pub temperature: Reading<i32>,
    /// The fastest fan, in turns a minute.
    pub fan: Reading<u32>,
    /// Whether the way out is paid by volume.
    pub metered: Reading<bool>,
    /// What this machine sent and received in the present month of the data plan.
    pub data: Reading<Bytes>,
    /// Whether the owner's network is closed to containers.
    pub lan: Reading<LanFact>,
}

impl Facts {
    /// Nothing is known, because of this.
    pub fn unknown(why: &str) -> Self {
        Self {
            power: Reading::unknown(why),
            charge: Reading::unknown(why),
            idle: Reading::unknown(why),
            temperature: Reading::unknown(why),
            fan: Reading::unknown(why),
            metered: Reading::unknown(why),
            data: Reading::unknown(why),
            lan: Reading::unknown(why),
        }
    }
}

/// An instant by two clocks: people mean the wall's; it jumps, and the other one does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock on the wall.
    pub wall: Timestamp,
    /// Since the machine started, time asleep included.
    pub boot: Duration,
    /// Differs after each start of the machine.
    pub boot_id: String,
}
