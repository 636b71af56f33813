//! What the agent remembers: the goal (sealed, since it carries secrets), its notes on each
//! allocation, and the queue of reports.
//!
//! `agent.db` is SQLite in WAL with `synchronous=FULL`; one step of the reconciler is one
//! transaction. The calls block for the disk and run on a thread of their own ([`Disk::run`]).
//! The home's lock is held as long as anything of this is in use.

use crate::{
    AgentError, clock,
    error::{Result, chain},
    home::{Home, remove_database},
};
use lattice_converge::AllocationRecord;
use lattice_link::{
    message::{OutboxId, OutboxMark, Reported},
    outbox::{Bound, Outbox, OutboxError, Pushed},
};
use lattice_model::{AllocationId, GoalId, SealedGoal, Timestamp, report::ReportKind};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::{collections::BTreeMap, fmt, io::ErrorKind, path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

/// The newest layout that this version knows.
const SCHEMA: i64 = 1;
const GOAL_CONTEXT: &str = "agent/goal";

/// What has to fit for a beginning.
const ROOM: usize = 256 << 10;
/// Between two looks whether there is room.
const LOOK: Duration = Duration::from_secs(2);

/// Changes to the notes on allocations; `None` forgets one.
pub(crate) type Saves = BTreeMap<AllocationId, Option<Box<AllocationRecord>>>;

/// The agent's databases.
pub(crate) struct Disk {
    home: Home,
    db: Mutex<Connection>,
    outbox: Mutex<Outbox>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("home", &self.home).finish_non_exhaustive()
    }
}

const fn signed(n: u64) -> i64 {
    n.cast_signed()
}

impl Disk {
    pub(crate) fn open(home: Home) -> Result<Arc<Self>> {
        let mut db = Connection::open(home.database())?;
        db.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA locking_mode=EXCLUSIVE;
             PRAGMA cache_size=-256; PRAGMA journal_size_limit=1048576;",
        )?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match tx.query_row("PRAGMA user_version", [], |row| row.get(0))? {
            0 => tx.execute_batch(
                "CREATE TABLE goal (one INTEGER PRIMARY KEY CHECK (one = 1), incarnation INTEGER NOT NULL,
                   revision INTEGER NOT NULL, hash BLOB NOT NULL, sealed BLOB NOT NULL) STRICT;
                 CREATE TABLE record (allocation BLOB PRIMARY KEY, json BLOB NOT NULL) STRICT, WITHOUT ROWID;
                 PRAGMA user_version = 1;",
            )?,
            SCHEMA => {}
            found => return Err(AgentError::TooNew { found, known: SCHEMA }),
        }
        tx.commit()?;
        let outbox = Outbox::open(&home.outbox(), OutboxId(clock::random_wide()), Bound::default())?;
        Ok(Arc::new(Self { home, db: Mutex::new(db), outbox: Mutex::new(outbox) }))
    }

    /// Runs something that waits for the disk, on a thread that may wait.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let disk = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&disk)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(AgentError::Misfit { problem: "the program is ending" }),
            },
        }
    }

    pub(crate) const fn home(&self) -> &Home {
        &self.home
    }

    /// The goal that was kept, and whether there was one that cannot be read: the server sends it again then.
    pub(crate) fn goal(&self) -> Result<Option<SealedGoal>> {
        let db = self.db.lock();
        let row: Option<(i64, i64, [u8; 32], Vec<u8>)> = db
            .query_row("SELECT incarnation, revision, hash, sealed FROM goal", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        drop(db);
        let Some((incarnation, revision, hash, sealed)) = row else { return Ok(None) };
        let id = GoalId { incarnation: incarnation.cast_unsigned(), revision: revision.cast_unsigned() };
        let body = match self.home.seal().open(GOAL_CONTEXT, &sealed) {
            Ok(body) => body,
            Err(error) => {
                warn!(goal = %id, error = chain(&error), "the kept goal cannot be opened; waiting for the server's");
                return Ok(None);
            }
        };
        match SealedGoal::from_parts(id, hash, body.as_slice().into()) {
            Ok(goal) => Ok(Some(goal)),
            Err(error) => {
                warn!(goal = %id, error = chain(&error), "the kept goal is damaged; waiting for the server's");
                Ok(None)
            }
        }
    }

    /// The notes on all allocations; one that cannot be read is left out, as it costs a restart
    /// count and never a container.
    pub(crate) fn records(&self) -> Result<BTreeMap<AllocationId, AllocationRecord>> {
        let db = self.db.lock();
        let mut query = db.prepare("SELECT allocation, json FROM record")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut records = BTreeMap::new();
        for row in rows {
            let (id, json) = row?;
            let id = AllocationId::new(Uuid::from_bytes(id));
            match serde_json::from_slice(&json) {
                Ok(record) => drop(records.insert(id, record)),
                Err(error) => warn!(allocation = %id, %error, "a note on an allocation cannot be read"),
            }
        }
        Ok(records)
    }

    /// Keeps what one step decided, all or nothing, durably.
    pub(crate) fn keep(&self, goal: Option<&SealedGoal>, saves: &Saves) -> Result<()> {
        let sealed = goal.map(|goal| self.home.seal().seal(GOAL_CONTEXT, goal.body())).transpose()?;
        let mut db = self.db.lock();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let (Some(goal), Some(sealed)) = (goal, sealed) {
            let GoalId { incarnation, revision } = goal.id();
            tx.prepare_cached("INSERT OR REPLACE INTO goal VALUES (1, ?1, ?2, ?3, ?4)")?.execute(params![
                signed(incarnation),
                signed(revision),
                &goal.hash()[..],
                sealed
            ])?;
        }
        for (id, record) in saves {
            let key = id.uuid().into_bytes();
            match record {
                Some(record) => {
                    let json = serde_json::to_vec(record).unwrap_or_default();
                    tx.prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2)")?
                        .execute(params![key, json])?;
                }
                None => {
                    tx.prepare_cached("DELETE FROM record WHERE allocation = ?1")?.execute([key])?;
                }
            }
        }
        Ok(tx.commit()?)
    }

    pub(crate) fn push(&self, reports: Vec<ReportKind>, at: Timestamp) -> Result<Pushed> {
        Ok(self.outbox.lock().push_all(reports, at)?)
    }

    pub(crate) fn unacked(&self, after: u64, limit: usize) -> Result<Vec<Reported>> {
        Ok(self.outbox.lock().unacked(after, limit)?)
    }

    pub(crate) fn mark(&self) -> Result<OutboxMark> {
        Ok(self.outbox.lock().mark()?)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.outbox.lock().len()
    }

    /// Begins another outbox with the reports that wait: the server remembers higher numbers of this
    /// one than it ever gave, as after a restored image, and would take new reports for old ones.
    pub(crate) fn renew_outbox(&self) -> Result<()> {
        let (path, beside) = (self.home.outbox(), self.home.outbox().with_extension("new"));
        let mut outbox = self.outbox.lock();
        remove_database(&beside)?;
        let mut fresh = Outbox::open(&beside, OutboxId(clock::random_wide()), Bound::default())?;
        let mut after = 0;
        loop {
            let waiting = outbox.unacked(after, 256)?;
            let Some(last) = waiting.last() else { break };
            after = last.seq();
            for report in waiting {
                if let Reported::Known(report) = report {
                    fresh.push(report.kind, report.at)?;
                }
            }
        }
        // Closed, so that each is one file without a log beside it.
        drop(fresh);
        let nothing = Connection::open_in_memory()?;
        *outbox = Outbox::with_connection(nothing, OutboxId(0), Bound::default())?;
        std::fs::rename(&beside, &path).map_err(AgentError::file("replace", &path))?;
        *outbox = Outbox::open(&path, OutboxId(clock::random_wide()), Bound::default())?;
        Ok(())
    }

    /// Forgets what the server has taken. `false` when it took what this outbox never gave: the
    /// outbox is older than the server's memory of it.
    pub(crate) fn ack(&self, up_to: u64) -> Result<bool> {
        match self.outbox.lock().ack(up_to) {
            Ok(_) => Ok(true),
            Err(OutboxError::NeverSent { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits until the disk takes something: databases cannot even be opened before. `false` at shutdown. Tried and not
/// read from the file system, which keeps a reserve for some users.
pub(crate) async fn has_room(folder: &Path, shutdown: &CancellationToken) -> bool {
    let file = folder.join(".room");
    let mut told = false;
    loop {
        let written = tokio::fs::write(&file, &[1; ROOM][..]).await;
        let _ = tokio::fs::remove_file(&file).await;
        match written {
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {}
            // What else is wrong is said by whoever needs it.
            _ => return true,
        }
        if !std::mem::replace(&mut told, true) {
            warn!(folder = %folder.display(), "the disk is full; the agent begins when there is room, and what runs, runs on");
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::Goal;

    #[test]
    fn goal_and_notes_come_back_and_the_goal_is_unreadable_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let id = AllocationId::from_random(4);
        let mut goal = Goal::default();
        goal.remove.insert(id);
        let sealed = SealedGoal::seal(GoalId { incarnation: u64::MAX, revision: 3 }, &goal);
        let record = AllocationRecord { restarts: 7, ..AllocationRecord::default() };
        {
            let disk = Disk::open(Home::open(folder.path()).unwrap()).unwrap();
            assert_eq!(disk.goal().unwrap(), None);
            disk.keep(Some(&sealed), &Saves::from([(id, Some(Box::new(record.clone())))])).unwrap();
            disk.push(vec![ReportKind::RuntimeBack], Timestamp(5)).unwrap();
        }
        let disk = Disk::open(Home::open(folder.path()).unwrap()).unwrap();
        assert_eq!(disk.goal().unwrap().as_ref(), Some(&sealed));
        assert_eq!(disk.records().unwrap(), BTreeMap::from([(id, record)]));
        assert_eq!(disk.waiting(), 1);
        assert!(!disk.ack(9).unwrap());
        let before = disk.mark().unwrap();
        disk.renew_outbox().unwrap();
        let after = disk.mark().unwrap();
        assert_ne!(before.id, after.id);
        assert_eq!((after.first, after.next), (1, 2));
        assert!(
            matches!(&disk.unacked(0, 9).unwrap()[..], [Reported::Known(r)] if r.kind == ReportKind::RuntimeBack && r.at == Timestamp(5))
        );
        assert!(disk.ack(1).unwrap());
        disk.keep(None, &Saves::from([(id, None)])).unwrap();
        assert!(disk.records().unwrap().is_empty());
        let bytes = std::fs::read(disk.home().database()).unwrap();
        let wal = std::fs::read(folder.path().join("agent/agent.db-wal")).unwrap_or_default();
        let needle = id.to_string();
        for file in [bytes, wal] {
            assert!(!file.windows(needle.len()).any(|w| w == needle.as_bytes()));
        }
    }
}
