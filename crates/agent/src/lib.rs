//! The agent's shell: it performs effects and decides nothing. What should run comes from the
//! server as a goal; what to do about it comes from [`lattice_converge`]; what is allowed here is
//! the owner's word in [`AgentConfig`].
//!
//! Where to enter:
//! - [`join()`] makes this machine a node, [`run`] is the agent;
//! - [`Home`] is its folder, [`HomePaths`] the way to look at it without holding it;
//! - [`ask_status`], [`doctor()`], [`belongings`] and [`remove_belongings`] serve the command line;
//! - [`survey`] and [`reset()`] take everything away again.
//!
//! For Unix alone at present: secrets live on a tmpfs, and trees are unpacked with their rights.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
mod builds;
mod census;
mod certificate;
mod clock;
mod config;
mod disk;
mod doctor;
mod door;
mod engine;
mod enrol;
mod error;
mod event;
mod executor;
mod facts;
mod gpu;
mod health;
mod home;
mod images;
mod lan;
mod last_words;
mod leave;
mod local_api;
mod log;
mod log_file;
mod machine;
mod measure;
mod owner;
mod power;
mod rank;
mod reset;
mod secrets;
mod session;
mod sockets;
mod streams;
mod trees;
mod way;
#[cfg(test)]
mod world;

pub use agent::{AgentParts, Ended, run};
pub use config::{AgentConfig, DOCKER_SOCKET};
pub use doctor::{Check, CheckResult, doctor};
pub use engine::EngineStatus;
pub use enrol::{JoinOptions, JoinProgress, join};
pub use error::{AgentError, Result, chain};
pub use facts::{Machine, measure};
pub use gpu::{GpuReport, gpu_prove, gpu_report, gpu_setup};
pub use health::Health;
pub use home::{Hold, Home, HomePaths, Identity, PendingJoin, default_home};
#[cfg(target_os = "linux")]
pub use lan::Nftables;
pub use lan::{Firewall, LanStatus, NoFirewall, SpeedStatus, lan_table_present, remove_lan_table};
pub use lattice_compute;
pub use lattice_gpu;
pub use lattice_identity::{JoinToken, ServerAddress};
pub use lattice_model::{Duration, Timestamp};
pub use lattice_model::{NodeId, NodeName};
pub use lattice_rules::{PauseKind, Preset, Reading, Rules, RulesError, Span, Verdict};
pub use lattice_runtime::{Runtime, docker::Docker};
pub use lattice_sense::{Sensors, Sleep, System, session_manager};
pub use leave::{Belongings, belongings, remove_belongings};
pub use local_api::{AgentStatus, AllocationLine, Reply, Request, ask, ask_status};
pub use log::LogRing;
pub use log_file::LogFile;
pub use owner::{
    OwnerStatus, PauseStatus, RulesFile, Stopped, pause_offline, resume_offline, rules_of, save_rules,
    text_of,
};
pub use rank::OwnRank;
pub use reset::{
    Engine, Item, ItemKind, Left, Outcome, Problem, ResetOptions, Survey, Tell, engines, note_elsewhere,
    reset, survey,
};
pub use session::{LinkState, LinkStatus};

/// This build's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
