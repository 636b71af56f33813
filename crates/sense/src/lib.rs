//! What a machine feels: mains and battery, heat and fans, whether somebody uses it, what it sends.
//! Read for the owner's rules and for the node's health; every answer is a [`Reading`], and what cannot be
//! measured is unknown and says why.
//!
//! Where to enter: [`Sensors`] is the port, [`System`] the machine that this runs on. [`data`] counts what
//! the machine sends and receives in a month. [`Sleep`] is the other port: the session manager, which knows who is
//! there, announces sleep and can be asked to wait.
//!
//! What belongs to one operating system is in a folder of its own. On Linux all is read below a root folder, so that
//! a test can make a machine of files. On Windows and macOS what the system says is turned into readings by pure
//! functions, which are tested everywhere. Elsewhere nothing is measured, and so is said.
//!
//! Rejected: UPower and lm-sensors, which read the same files and may not be installed; reading
//! `/dev/input`, by which an agent could follow what people type.
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(any(windows, target_os = "macos"))]
mod awake;
pub mod data;
#[cfg(any(test, windows))]
mod gate;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, target_os = "macos"))]
mod macos;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod other;
mod sensors;
mod sleep;
#[cfg(any(test, windows, target_os = "macos"))]
mod traffic;
#[cfg(any(test, windows))]
mod windows;

pub use lattice_rules::{PowerSource, Reading};
#[cfg(target_os = "linux")]
pub use linux::login::Login;
pub use sensors::{Counters, Heat, Power, Sensor, Sensors, System};
pub use sleep::{Departure, Hold, Sleep, session_manager};
