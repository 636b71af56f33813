//! Reports wait here until the server has acknowledged them: durable and bounded.
//!
//! SQLite in WAL with `synchronous=FULL`: NORMAL would survive kill -9, but after a power loss it
//! could forget the last reports *and their numbers*; if those were sent already, the next
//! reports would get numbers that the server takes for duplicates, and vanish silently. One
//! [`Outbox::push_all`] is one commit and so one flush, which is the group commit. Forgetting an
//! acknowledgement is harmless (the report is sent again and recognised), so [`Outbox::ack`] does
//! not wait for the disk.
//!
//! At the [`Bound`], [`evict`] decides what goes: states that a later report of the same
//! allocation replaces, then the oldest. What went is counted in one
//! [`ReportKind::OutboxOverflowed`] per episode; an episode ends when that report is handed out
//! for sending, since from then on its count must not change. All calls block for the disk; an
//! async caller keeps the outbox on a thread of its own.

mod evict;

pub use evict::{Bound, Entry, Subject, evict};

use crate::{
    message::{OutboxId, OutboxMark, Reported},
    wire::{self, MAX_KIND, MAX_REPORTS_BYTES, clip},
};
use lattice_model::{
    Timestamp,
    report::{Report, ReportKind},
};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::{fmt, path::Path};

/// The newest layout that this version knows.
const SCHEMA: i64 = 1;
/// What texts inside a report are cut to, in bytes, so that each fits [`MAX_KIND`].
const MAX_REASON: usize = 4096;
/// How many ports a state may list.
const MAX_PORTS: usize = 256;

/// Why the outbox does not work.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The disk or the file.
    #[error(
        "the outbox of reports cannot be used; check the free disk space, and remove its file when it is damaged"
    )]
    Storage(#[from] rusqlite::Error),
    /// Written by a newer agent.
    #[error("the outbox was written by a newer agent (layout {0}, known: {SCHEMA}); update the agent again")]
    TooNew(i64),
    /// Longer than a report may be even after its texts were cut.
    #[error("a report has {0} bytes, more than {MAX_KIND}; this is a defect, please report it")]
    TooLong(usize),
    /// The server acknowledged what was never sent.
    #[error(
        "the server acknowledged report {acked}, and the last one is {last}; nothing was removed, this is a defect of the server"
    )]
    NeverSent {
        /// What it said.
        acked: u64,
        /// The highest number that was given.
        last: u64,
    },
}

type Result<T> = std::result::Result<T, OutboxError>;

/// What became of pushed reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The number of the last one.
    pub seq: u64,
    /// How many older reports had to go. When it is not 0, push the present state of everything.
    pub dropped: u64,
}

/// The queue of one agent; at most one process may have it open.
pub struct Outbox {
    db: Connection,
    bound: Bound,
    id: OutboxId,
    next: u64,
    entries: usize,
    bytes: usize,
    /// The overflow report whose count still grows.
    episode: Option<u64>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("mark", &self.next).field("len", &self.entries).finish_non_exhaustive()
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Outbox {
    /// Opens or creates it. `fresh` names a new one: draw it at random.
    ///
    /// # Errors
    /// [`OutboxError::Storage`] when the file cannot be used, [`OutboxError::TooNew`] after a downgrade.
    pub fn open(path: &Path, fresh: OutboxId, bound: Bound) -> Result<Self> {
        Self::with_connection(Connection::open(path)?, fresh, bound)
    }

    /// The same over a connection.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_connection(mut db: Connection, fresh: OutboxId, bound: Bound) -> Result<Self> {
        db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-256; PRAGMA journal_size_limit=1048576;")?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match tx.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            0 => {
                tx.execute_batch(
                    "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), outbox BLOB NOT NULL, next INTEGER NOT NULL) STRICT;
                     CREATE TABLE report (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind BLOB NOT NULL, subject BLOB, gone INTEGER NOT NULL, dropped INTEGER) STRICT;
                     PRAGMA user_version = 1;",
                )?;
                tx.execute("INSERT INTO meta VALUES (1, ?1, 1)", [&fresh.0.to_be_bytes()[..]])?;
            }
            SCHEMA => {}
            newer => return Err(OutboxError::TooNew(newer)),
        }
        let (id, next): ([u8; 16], u64) =
            tx.query_row("SELECT outbox, next FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (entries, bytes) =
            tx.query_row("SELECT count(*), coalesce(sum(length(kind)), 0) FROM report", [], |row| {
                Ok((row.get::<_, usize>(0)?, row.get::<_, usize>(1)?))
            })?;
        tx.commit()?;
        let bytes = bytes + entries * Entry::OVERHEAD;
        Ok(Self { db, bound, id: OutboxId(u128::from_be_bytes(id)), next, entries, bytes, episode: None })
    }

    /// Keeps one report; [`Self::push_all`] for several.
    ///
    /// # Errors
    /// As [`Self::push_all`].
    pub fn push(&mut self, kind: ReportKind, at: Timestamp) -> Result<Pushed> {
        self.push_all([kind], at)
    }

    /// Keeps reports, all or none, and returns when they are on disk. `at` is by the node's clock.
    ///
    /// # Errors
    /// [`OutboxError::Storage`] when the disk does not take them; nothing is kept then.
    pub fn push_all(&mut self, kinds: impl IntoIterator<Item = ReportKind>, at: Timestamp) -> Result<Pushed> {
        let mut rows = Vec::new();
        for mut kind in kinds {
            fit(&mut kind);
            let json = serde_json::to_vec(&kind).unwrap_or_default();
            if json.len() > MAX_KIND {
                return Err(OutboxError::TooLong(json.len()));
            }
            rows.push((Subject::of(&kind), json));
        }
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut next, mut entries, mut bytes, mut episode) =
            (self.next, self.entries, self.bytes, self.episode);
        let mut dropped = 0;
        for (subject, json) in rows {
            let size = json.len() + Entry::OVERHEAD;
            if self.bound.is_hit(entries + 1, bytes + size) {
                let queue = load(&tx)?;
                let gone = evict(&queue, self.bound, size);
                let mut delete = tx.prepare_cached("DELETE FROM report WHERE seq = ?1")?;
                let mut count = 0;
                for entry in &gone {
                    delete.execute([signed(entry.seq)])?;
                    bytes -= entry.bytes;
                    // An overflow report that goes hands its count on.
                    count += entry.dropped.unwrap_or(1);
                }
                entries -= gone.len();
                dropped += gone.len() as u64;
                if count > 0 {
                    let before: Option<u64> = match episode {
                        Some(seq) => tx
                            .query_row("SELECT dropped FROM report WHERE seq = ?1", [signed(seq)], |row| {
                                row.get(0)
                            })
                            .optional()?,
                        None => None,
                    };
                    let total = before.unwrap_or(0) + count;
                    let overflow = serde_json::to_vec(&ReportKind::OutboxOverflowed { dropped: total })
                        .unwrap_or_default();
                    let seq = match (before, episode) {
                        (Some(_), Some(seq)) => {
                            let old: usize = tx.query_row(
                                "SELECT length(kind) FROM report WHERE seq = ?1",
                                [signed(seq)],
                                |row| row.get(0),
                            )?;
                            bytes -= old + Entry::OVERHEAD;
                            seq
                        }
                        _ => {
                            entries += 1;
                            next += 1;
                            next - 1
                        }
                    };
                    bytes += overflow.len() + Entry::OVERHEAD;
                    tx.prepare_cached(
                        "INSERT OR REPLACE INTO report (seq, at, kind, subject, gone, dropped) VALUES (?1, ?2, ?3, NULL, 0, ?4)",
                    )?
                    .execute(params![signed(seq), at.0, overflow, signed(total)])?;
                    episode = Some(seq);
                }
            }
            let (id, gone) = match subject {
                Subject::State(id) => (Some(id.uuid().into_bytes()), false),
                Subject::Gone(id) => (Some(id.uuid().into_bytes()), true),
                Subject::Other => (None, false),
            };
            tx.prepare_cached(
                "INSERT INTO report (seq, at, kind, subject, gone, dropped) VALUES (?1, ?2, ?3, ?4, ?5, NULL)",
            )?
            .execute(params![signed(next), at.0, json, id, gone])?;
            next += 1;
            entries += 1;
            bytes += size;
        }
        tx.execute("UPDATE meta SET next = ?1", [signed(next)])?;
        tx.commit()?;
        (self.next, self.entries, self.bytes, self.episode) = (next, entries, bytes, episode);
        Ok(Pushed { seq: next - 1, dropped })
    }

    /// The oldest reports after number `after`, in order: at most `limit`, and no more bytes than
    /// one message takes.
    ///
    /// # Errors
    /// [`OutboxError::Storage`] when the file cannot be read.
    pub fn unacked(&mut self, after: u64, limit: usize) -> Result<Vec<Reported>> {
        let mut query = self
            .db
            .prepare_cached("SELECT seq, at, kind FROM report WHERE seq > ?1 ORDER BY seq LIMIT ?2")?;
        let mut rows = query.query(params![signed(after), limit])?;
        let (mut reports, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let (seq, at, kind): (u64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            bytes += kind.len() + Entry::OVERHEAD;
            if bytes > MAX_REPORTS_BYTES && !reports.is_empty() {
                break;
            }
            if self.episode == Some(seq) {
                self.episode = None;
            }
            reports.push(wire::reported(seq, Timestamp(at), &kind));
        }
        Ok(reports)
    }

    /// Forgets what the server has taken. Returns how many.
    ///
    /// # Errors
    /// [`OutboxError::NeverSent`] when the number was never given; [`OutboxError::Storage`].
    pub fn ack(&mut self, up_to: u64) -> Result<usize> {
        if up_to >= self.next {
            return Err(OutboxError::NeverSent { acked: up_to, last: self.next - 1 });
        }
        self.db.execute_batch("PRAGMA synchronous=NORMAL")?;
        let removed = self.remove(up_to);
        self.db.execute_batch("PRAGMA synchronous=FULL")?;
        removed
    }

    fn remove(&mut self, up_to: u64) -> Result<usize> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let bytes: usize = tx
            .prepare_cached("SELECT coalesce(sum(length(kind)), 0) FROM report WHERE seq <= ?1")?
            .query_row([signed(up_to)], |row| row.get(0))?;
        let removed = tx.prepare_cached("DELETE FROM report WHERE seq <= ?1")?.execute([signed(up_to)])?;
        tx.commit()?;
        self.entries -= removed;
        self.bytes -= bytes + removed * Entry::OVERHEAD;
        if self.episode.is_some_and(|seq| seq <= up_to) {
            self.episode = None;
        }
        Ok(removed)
    }

    /// Which reports wait, for Hello.
    ///
    /// # Errors
    /// [`OutboxError::Storage`] when the file cannot be read.
    pub fn mark(&self) -> Result<OutboxMark> {
        let first: Option<u64> = self.db.query_row("SELECT min(seq) FROM report", [], |row| row.get(0))?;
        Ok(OutboxMark { id: self.id, first: first.unwrap_or(self.next), next: self.next })
    }

    /// How many reports wait.
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Whether none waits.
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How much the reports count against [`Bound::bytes`].
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

fn load(db: &Connection) -> Result<Vec<Entry>> {
    let mut query =
        db.prepare_cached("SELECT seq, length(kind), subject, gone, dropped FROM report ORDER BY seq")?;
    let rows = query.query_map([], |row| {
        let id = row
            .get::<_, Option<[u8; 16]>>(2)?
            .map(|id| lattice_model::AllocationId::new(uuid::Uuid::from_bytes(id)));
        Ok(Entry {
            seq: row.get(0)?,
            bytes: row.get::<_, usize>(1)? + Entry::OVERHEAD,
            subject: match (id, row.get(3)?) {
                (Some(id), false) => Subject::State(id),
                (Some(id), true) => Subject::Gone(id),
                (None, _) => Subject::Other,
            },
            dropped: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Cuts what has no bound of its own.
fn fit(kind: &mut ReportKind) {
    match kind {
        ReportKind::Allocation { id: _, status } => {
            if let Some(reason) = &mut status.reason {
                clip(reason, MAX_REASON);
            }
            status.ports.truncate(MAX_PORTS);
        }
        ReportKind::RuntimeLost { reason } | ReportKind::GoalRefused { goal: _, reason } => {
            clip(reason, MAX_REASON);
        }
        ReportKind::AgentStarted { version } => clip(version, MAX_REASON),
        ReportKind::Health { conditions } => *conditions = lattice_model::health::bounded(conditions),
        ReportKind::Facts { facts, capacity: _ } => {
            facts.machine = std::mem::take(&mut facts.machine).bounded();
        }
        ReportKind::AllocationGone { .. }
        | ReportKind::VolumeCreated { .. }
        | ReportKind::VolumeDeleted { .. }
        | ReportKind::VolumeMissing { .. }
        | ReportKind::VolumeFound { .. }
        | ReportKind::RuntimeBack
        | ReportKind::OutboxOverflowed { .. } => {}
        ReportKind::Standing { standing } => *standing = std::mem::take(standing).bounded(),
    }
}

impl From<Report> for Reported {
    fn from(report: Report) -> Self {
        Self::Known(report)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
