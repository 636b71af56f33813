//! What a machine feels: mains and battery, heat and fans, whether somebody uses it, what it sends.
//! Read for the owner's rules and for the node's health; every answer is a [`Reading`], and what cannot be
//! measured is unknown and says why.
//!
//! Where to enter: [`Sensors`] is the port, [`System`] the machine that this runs on. [`data`] counts what
//! the machine sends and receives in a month. [`Sleep`] is the other port: the session manager, which knows who is
//! there, announces sleep and can be asked to wait.
//!
//! What belongs to one operating system is in a file of its own. On Linux all is read below a root
//! folder, so that a test can make a machine of files. Elsewhere nothing is measured yet, and so is said.
//!
//! Rejected: UPower and lm-sensors, which read the same files and may not be installed; reading
//! `/dev/input`, by which an agent could follow what people type.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod data;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
mod sensors;
mod sleep;

pub use lattice_rules::{PowerSource, Reading};
#[cfg(target_os = "linux")]
pub use linux::login::Login;
pub use sensors::{Counters, Heat, Power, Sensor, Sensors, System};
pub use sleep::{Departure, Hold, Sleep};
