//! Windows 10 and later. Power, battery and the network's cost come from WinRT, idle time, sleep and shutdown from
//! Win32, all by crates whose calls are safe. What the figures mean is in [`facts`].
//!
//! Heat is not measured: Windows tells it to administrators alone, and on few machines.

pub(crate) mod facts;
#[cfg(windows)]
mod sensors;
#[cfg(windows)]
pub(crate) mod session;
