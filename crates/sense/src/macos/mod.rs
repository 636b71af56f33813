//! macOS. The battery is read from IOKit by a crate; sleep, shutdown and idle time are asked of programs that belong to
//! the system, whose output [`output`] reads. Frameworks called by ourselves would need unsafe code.
//!
//! Heat is not measured: its sensors have no public interface. Whether the network is metered is known to
//! `NWPath.isExpensive` of a framework alone.

pub(crate) mod output;
#[cfg(target_os = "macos")]
mod sensors;
#[cfg(target_os = "macos")]
pub(crate) mod session;
