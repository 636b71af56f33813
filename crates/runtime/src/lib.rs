//! The container runtime behind a port: [`Runtime`] carries out what the agent's reconciler
//! decided, and decides nothing itself. [`docker::Docker`] is the real part, for a Docker engine
//! and, by its compatible socket, for Podman; `simulated` (a feature) is an engine in memory, for
//! tests at scale. Whatever stands behind the port runs the suite in `conformance` (a feature).
//!
//! Invariants: nothing is listed, and no volume or network touched, that lacks the label of the
//! node asked for; every container is hardened, with limits; every call ends in bounded time.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checks;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod docker;
mod error;
mod port;
#[cfg(feature = "simulated")]
pub mod simulated;

pub use error::{Result, RuntimeError};
pub use port::{
    BuildConfig, BuildLeft, BuildNews, EngineEvent, EngineEventKind, EngineInfo, ExecConfig, ExecControl,
    ExecSession, ImageResolved, ImageSeen, LogChunk, LogOptions, LogStream, MAX_IMAGES, PullProgress,
    Runtime, TerminalSize, Usage,
};
