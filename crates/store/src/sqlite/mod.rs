//! The embedded part: one SQLite file, for a control plane of one server.
//!
//! Enter at [`SqliteStore::open`]. Who does what:
//! - `writer`: one thread owns the only writing connection; it takes what is queued (at most 512
//!   commands or 16 MiB) into one SQLite commit, publishes the changes, and answers. All
//!   expectations of a transaction are judged before its first write, so a refused one leaves
//!   nothing behind in the batch. When the database itself fails, the batch is rolled back and
//!   each command is tried alone, so that one that finds no room spoils no other.
//! - `apply`, `lease`: what the writer does inside a commit.
//! - `checkpoint`: a thread that folds the write-ahead log into the file beside the writer.
//! - `read`: at most four reading connections, each read one snapshot.
//! - `import`: a dump into an empty file.
//! - `open`, `schema`: lock, permissions, migrations.
//!
//! Rejected: savepoints for each transaction (a pair of statements each, for what judging first
//! gives free); a multi-version layout without a separate log (saves the second copy of a body,
//! but makes compaction a rewrite); relying on SQLite's own locks against a second server (they
//! would let it in between two commits).

mod apply;
mod checkpoint;
mod import;
mod lease;
mod open;
mod read;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use open::{OpenError, SqliteOptions};
pub use schema::SCHEMA;
pub use store::SqliteStore;

use crate::StoreError;
use rusqlite::ErrorCode;
use std::sync::Arc;

/// What a failure of SQLite means to a caller.
fn store_error(doing: &'static str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Backend { doing, source: Arc::new(error) },
    }
}
