//! The cluster in memory.
//!
//! - [`snapshot`]: rows by type, with indices, cheap to clone; one task applies every change of the
//!   store in order and publishes a new [`Snapshot`];
//! - [`live`]: what only the present knows: sessions, load, what the planner could not do;
//! - [`foresight`]: what is expected of nodes, and a ledger for questions;
//! - [`gate`]: how often somebody may try a password, and how many at once;
//! - [`open`]: streams of the API, which end with the right to them;
//! - [`core`]: both together with the store, the keys and the clock, as every part of the server
//!   holds it.

pub(crate) mod core;
pub(crate) mod foresight;
pub(crate) mod gate;
pub(crate) mod live;
pub(crate) mod open;
pub(crate) mod snapshot;

pub(crate) use core::{Core, Refused};
pub(crate) use snapshot::Snapshot;
