//! Why the store refuses or fails. What a caller has to tell apart is a variant of its own; what
//! only a person can mend (disk, database) is a [`StoreError`] inside.
//!
//! Rejected: one enum for the crate. A watch cannot conflict and an apply cannot be too old, and
//! callers match exhaustively.

use crate::{Key, Revision};
use lattice_model::Duration;
use std::{error::Error, fmt, sync::Arc};

/// The store as a whole could not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk, or the size limit of the store is reached. Nothing was written, and
    /// the store goes on when room returns.
    #[error(
        "the store has no room left, so nothing was written: free space on its disk or raise its size limit; \
         compacting the change log also gives room back"
    )]
    Full,
    /// The store was closed. A write that was under way may or may not have happened: settle it
    /// by its request id.
    #[error("the store is closed, because its server stops: ask again when the server is back")]
    Closed,
    /// The database failed. A write that was under way may or may not have happened.
    #[error("the store failed while {doing}: look at the cause, the disk and the log of the server")]
    Backend {
        /// What was being done.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
}

/// Why a transaction was not applied; none of it happened, except as [`StoreError`] says.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApplyError {
    /// A row is not as expected. The first one in the order of the operations.
    #[error("{key} {}, but {} was expected, so nothing was written: read it again and decide anew",
        is(*actual), At(*expected))]
    Conflict {
        /// The row.
        key: Key,
        /// What the operation expected; `None`: absent.
        expected: Option<Revision>,
        /// What is there; `None`: absent.
        actual: Option<Revision>,
    },
    /// The lease of the guard is not held at that epoch any more.
    #[error("epoch {epoch} of the lease {lease:?} is over ({}), so nothing was written: acquire the lease again \
        and decide anew", held(*actual))]
    Fenced {
        /// The lease.
        lease: String,
        /// The epoch of the guard.
        epoch: u64,
        /// The epoch at which it is held now; `None`: nobody holds it (expired, released, never held).
        actual: Option<u64>,
    },
    /// Beyond a bound of the store.
    #[error("{what} is {size}, and the store takes at most {limit}: make it smaller or split it")]
    TooLarge {
        /// Which bound.
        what: &'static str,
        /// How large it is, in bytes or pieces.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Not a transaction that makes sense; the fault is in the caller.
    #[error("the transaction is refused because {what}: this is a fault in the program that wrote it")]
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
    /// The store as a whole.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a watch cannot begin or go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WatchError {
    /// The changes after `from` were compacted.
    #[error(
        "revision {from} is too old to watch from, because the change log begins at {oldest}: list again, and \
        watch from the listing's revision"
    )]
    TooOld {
        /// What was asked for.
        from: Revision,
        /// The smallest revision that can be watched from.
        oldest: Revision,
    },
    /// The store is behind the watcher: it was restored, or is another store.
    #[error(
        "revision {from} is ahead of the store, which is at {head}: the store was restored from a backup or is \
        another one; list again and compare the incarnation"
    )]
    Ahead {
        /// What was asked for.
        from: Revision,
        /// Where the store is.
        head: Revision,
    },
    /// The store as a whole.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a lease was not given or kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else holds it.
    #[error("{by:?} holds the lease {name:?} for another {remaining}: ask again when it is over")]
    Held {
        /// The lease.
        name: String,
        /// Who holds it.
        by: String,
        /// For how long, unless it is renewed or released.
        remaining: Duration,
    },
    /// The holding that was to be renewed or released is over.
    #[error("epoch {epoch} of the lease {name:?} is over ({}): stop what it allowed, and acquire it again",
        held(*actual))]
    Lost {
        /// The lease.
        name: String,
        /// The epoch of the holding.
        epoch: u64,
        /// The epoch at which it is held now; `None`: nobody holds it.
        actual: Option<u64>,
    },
    /// Not a lease that makes sense; the fault is in the caller.
    #[error("the lease is refused because {what}: this is a fault in the program that asked for it")]
    Invalid {
        /// What is wrong.
        what: &'static str,
    },
    /// The store as a whole.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a dump was not taken in; nothing was written, except as [`StoreError`] says.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImportError {
    /// There is something in the store already, or was.
    #[error(
        "the store is at revision {revision} and not empty, so nothing was imported: name an empty store, or move \
         this one away first"
    )]
    NotEmpty {
        /// Where the store is.
        revision: Revision,
    },
    /// Somebody works on the store.
    #[error(
        "the store is in use, as {holder:?} holds the lease {lease:?}, so nothing was imported: stop its servers first"
    )]
    InUse {
        /// A lease that is held.
        lease: String,
        /// Who holds it.
        holder: String,
    },
    /// No store has written this.
    #[error(
        "the row {row} of the dump is refused ({why}), so nothing was imported: the dump is damaged; take another"
    )]
    Invalid {
        /// Its kind and id.
        row: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store as a whole.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct At(Option<Revision>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(revision) => write!(f, "revision {revision}"),
            None => f.write_str("no such row"),
        }
    }
}

fn is(actual: Option<Revision>) -> String {
    actual.map_or_else(|| "does not exist".to_owned(), |revision| format!("is at revision {revision}"))
}

fn held(actual: Option<u64>) -> String {
    actual.map_or_else(|| "nobody holds it now".to_owned(), |epoch| format!("it is held at epoch {epoch}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn messages_say_what_happened_and_what_to_do() {
        let key = Key::new(Kind::new("node"), "a");
        let text = |expected, actual| ApplyError::Conflict { key: key.clone(), expected, actual }.to_string();
        assert_eq!(
            text(Some(Revision(3)), Some(Revision(5))),
            "node/a is at revision 5, but revision 3 was expected, so nothing was written: read it again and decide \
             anew"
        );
        assert!(text(None, Some(Revision(5))).contains("no such row was expected"));
        assert!(text(Some(Revision(3)), None).contains("does not exist"));
    }
}
