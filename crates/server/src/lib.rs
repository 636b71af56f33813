//! The control plane: the REST and SSE API for people, the gateway for agents, and the controllers
//! in between.
//!
//! Enter at [`Server::start`]. A shell: it performs effects and decides little by itself; what runs
//! where is the planner's decision, who is who is identity's.
//!
//! - `state`: the cluster in memory, fed by the store's watch; every part reads snapshots of it;
//! - `rows`: the kinds of rows, and the one place where they become JSON;
//! - [`api`]: REST, SSE, WebSocket, on loopback and on the Unix socket;
//! - `gateway`: joining, renewal, sessions, reports, streams;
//! - `backups`: dumps, scheduled backups, restore, moves between stores;
//! - `controllers`: leader's lease, planning, presence, housekeeping.
//!
//! A change flows one way: a request or a report becomes a transaction; the watch brings it to
//! memory; the planner and the sessions concerned wake up. Nothing else writes to memory, so what a
//! restart reads from the store is all there is, but for sessions and load.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
mod authority;
mod backups;
mod blobs;
mod causes;
mod clock;
mod config;
mod controllers;
mod error;
mod gateway;
mod keys;
mod rows;
mod server;
mod state;
mod storage;

pub use backups::{
    BackupConfig, MoveSide, Moved, RestoreTo, Restored, dump_stopped, migrate, reopen, restore,
};
pub use config::{DEFAULT_AGENTS, DEFAULT_API, KeySource, ServerConfig, StoreConfig, TlsFiles};
pub use error::{ConfigError, ServerError};
pub use server::{RunningServer, Server};
