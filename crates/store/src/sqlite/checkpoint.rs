//! The checkpointer: a thread that folds the write-ahead log into the database file while the
//! writer goes on, so that commits wait neither for its copying nor for its sync.
//!
//! It alone never lets the log begin anew under steady writes, since there are always newer
//! frames; the writer does that at SQLite's own threshold, where little is left to fold.

use rusqlite::{Connection, OpenFlags};
use std::{
    io,
    path::Path,
    sync::mpsc::{self, SyncSender},
    thread::{self, JoinHandle},
    time::Duration,
};

/// Ends when it is stopped or dropped.
pub(super) struct Checkpointer {
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Checkpointer {
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        // One wake-up may wait; more would say the same.
        let (wake, woken) = mpsc::sync_channel(1);
        let path = path.to_owned();
        let run = move || {
            let mut connection = None;
            while woken.recv().is_ok() {
                if let Err(error) = checkpoint(&path, &mut connection) {
                    // The writer's own threshold stands behind it, and tells when that fails, too.
                    tracing::debug!(%error, "the write-ahead log was not folded now");
                    connection = None;
                }
            }
        };
        let thread = thread::Builder::new().name("store-fold".to_owned()).spawn(run)?;
        Ok(Self { wake, thread })
    }

    /// Says that there is something to fold.
    pub(super) fn wake(&self) {
        // Full means that it is woken already.
        let _ = self.wake.try_send(());
    }

    /// Waits for what it is doing, so that the writer's connection is the last to be closed.
    pub(super) fn stop(self) {
        drop(self.wake);
        if self.thread.join().is_err() {
            tracing::error!("the checkpointer of the store panicked");
        }
    }
}

fn checkpoint(path: &Path, kept: &mut Option<Connection>) -> rusqlite::Result<()> {
    let connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            // FULL also syncs the log before the file: nothing is folded that could vanish.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "checkpoint_fullfsync", true)?;
            connection
        }
    };
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    *kept = Some(connection);
    Ok(())
}
