//! The port to what Lattice remembers: typed, revisioned rows with a change log, transactions by
//! compare-and-swap under a fencing guard, a gap-free ordered watch, and leases.
//!
//! Enter at [`Store`]. [`SqliteStore`] is the embedded part, [`PostgresStore`] (feature `postgres`)
//! the one for several servers; [`conformance`] (feature `conformance`) is the suite that every part
//! has to pass. The words are in [`Key`], [`Record`],
//! [`Transaction`] and [`Change`]; [`Feed`] and [`ChangeLog`] are for whoever writes another part.
//!
//! Invariants:
//! - Revisions are consecutive: each transaction that changes something takes exactly the next
//!   number, all its rows carry that number, and commit order is revision order.
//! - What [`Store::apply`] acknowledged survives kill -9 and power loss.
//! - The store reads no body: it is JSON text to those who wrote it, and bytes here.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod dump;
mod error;
mod key;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod lease;
#[cfg(feature = "postgres")]
pub mod postgres;
mod record;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod store;
mod transaction;
mod watch;

pub use clock::{Clock, ManualClock, SystemClock};
pub use dump::StoreDump;
pub use error::{ApplyError, ImportError, LeaseError, StoreError, WatchError};
pub use key::{InvalidKind, Key, Kind, Revision};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresError, PostgresOptions, PostgresStore};
pub use record::{Change, ChangeEvent, EventKind, Listing, Page, Prior, Record};
#[cfg(feature = "sqlite")]
pub use sqlite::{OpenError, SqliteOptions, SqliteStore};
pub use store::{ClusterMeta, Lease, Store};
pub use transaction::{
    Applied, Guard, MAX_BODY_BYTES, MAX_NAME_BYTES, MAX_OPS, MAX_TRANSACTION_BYTES, Op, Transaction,
};
pub use watch::{ChangeLog, Feed, WatchStream};
