//! GPUs of a machine: what they are, how containers of its engine get them, and the program that proves it from
//! inside one. Nothing here starts a container or runs a command; the agent does, by what it reads here.
//!
//! | file | what |
//! |---|---|
//! | `reading` | what a driver tells at one moment, and [`GpuDriver`], which tells it: [`Nvml`], or [`Recorded`] for tests |
//! | `nvml` | NVIDIA's library, loaded where it is there |
//! | `watched` | [`Watched`]: a driver on a thread of its own, so that one that hangs hangs nothing else |
//! | `direct` | device nodes and files of the driver that a container needs where the engine has no toolkit |
//! | `cdi` | descriptions of devices that a toolkit has written |
//! | `plan` | [`GpuPlan`]: what is missing, and the commands that bring it |
//! | `probe` | [`probe`]: uses each GPU that is there, inside a container |
//! | `apple` | what macOS says of its GPU |
//!
//! Enter at [`GpuPlan::new`] and [`Watched`].
//!
//! NVML is asked in the agent's own process: a process of its own each five seconds costs more than the library
//! does, and one that hangs in the driver cannot be killed either. CUDA is loaded in the probe alone.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod apple;
mod cdi;
mod direct;
mod error;
mod nvml;
mod plan;
mod probe;
mod reading;
mod watched;

pub use cdi::{CDI_DIRS, cdi_devices};
pub use direct::{DirectAccess, DriverFile, direct};
pub use error::{GpuError, Result};
pub use nvml::Nvml;
pub use plan::{EngineWays, GpuPlan, Method, PackageManager, SetupFacts, Step, ToolkitPackage};
pub use probe::{PROBE_VARIABLE, ProbeReport, Probed, probe};
pub use reading::{Card, GpuDriver, GpuReading, OLDEST_DRIVER, Recorded};
pub use watched::Watched;
