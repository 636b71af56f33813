//! The part for several servers: one PostgreSQL database, in whatever highly available form the
//! operator runs it.
//!
//! Enter at [`PostgresStore::open`]. Who does what:
//! - `batcher`: one task on one connection takes what is queued (at most 512 commands) into one
//!   transaction of the database, in two round trips: the first locks the only row of `meta` and
//!   reads what the commands are about, the second writes and commits. Since every server holds
//!   that row until its commit, commit order is revision order, and whatever is judged stays so.
//! - `command`: what it is asked. `sql`: what it says. `upkeep`: compaction and imports.
//! - `batch`: judging, without the database: conflicts are results and not SQL errors.
//! - `settle`, in the batcher: when a connection dies under a commit, the next one locks the row
//!   (so what the dead one left is over) and looks at the number of this server's last batch, which
//!   each batch writes: there, it is answered; not there, it is done again.
//! - `follow`: other servers' commits. `LISTEN` is the hint, reading `meta` each second the truth,
//!   and the change log the only source; [`crate::Feed`] gets each revision once and in order.
//! - `read`: at most four reading connections; each read is one statement, so one snapshot.
//! - `session`: connections: hosts, TLS, settings, backoff. `options`: what a person decides.
//! - `schema`: migrations, under an advisory lock.
//!
//! Leases end by the database's clock, since all servers have that one in common; a backward step
//! of it makes them longer, by no more than their length at a time.
//!
//! Rejected: a function in the database (rules in two languages, and a migration for each change of
//! them); `SERIALIZABLE` (failures as errors to be repeated, and no order of commits); a sequence
//! for revisions (gaps, and numbers that commit out of order); logical replication for the watch
//! (rights and slots that fill disks); `xid` and `pg_xact_status` to settle commits (a promoted
//! replica that lacks the commit may have given the number again).

mod batch;
mod batcher;
mod command;
mod follow;
mod options;
mod read;
mod schema;
mod session;
mod sql;
mod store;
mod upkeep;

pub use options::{PostgresError, PostgresOptions};
pub use schema::SCHEMA;
pub use store::PostgresStore;

use crate::StoreError;
use std::{error::Error, sync::Arc};
use tokio_postgres::error::SqlState;

/// What went wrong with a statement or its connection.
#[derive(Debug)]
enum Fault {
    /// The connection is gone, or of no use: nothing that was not committed happened.
    Lost(Box<dyn Error + Send + Sync>),
    /// The database refused; the connection is good.
    Refused(tokio_postgres::Error),
    /// Nothing helps but a person.
    Final(StoreError),
}

impl Fault {
    fn of(error: tokio_postgres::Error) -> Self {
        // Shutting down, starting up, demoted, too many connections: another moment or host helps.
        let passing = error.code().is_none_or(|code| {
            let class = &code.code()[..2];
            ["08", "57", "53"].contains(&class) && *code != SqlState::DISK_FULL
                || *code == SqlState::READ_ONLY_SQL_TRANSACTION
                || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        });
        if passing && !distrusted(&error) { Self::Lost(Box::new(error)) } else { Self::Refused(error) }
    }

    fn into_store(self, doing: &'static str) -> StoreError {
        match self {
            Self::Final(error) => error,
            Self::Refused(error) if error.code() == Some(&SqlState::DISK_FULL) => StoreError::Full,
            Self::Refused(error) => StoreError::Backend { doing, source: Arc::new(error) },
            Self::Lost(source) => StoreError::Backend { doing, source: Arc::from(source) },
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::of(error)
    }
}

/// Whether TLS failed for a reason that another attempt does not mend: whoever answers is not whom
/// the certificates vouch for.
fn distrusted(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(found) = cause {
        // An I/O error hides what it is made of from `source`.
        let inner = found.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        cause = found.source();
    }
    false
}

/// A fault that this crate has found itself.
fn trouble(text: impl Into<String>) -> Box<dyn Error + Send + Sync> {
    text.into().into()
}
