//! The writer thread: group commit, and nothing is answered before it is durable.
//!
//! States: running; or stopped by a commit that failed in a way that leaves open whether it
//! happened (an I/O error while syncing: after that the page cache cannot be trusted), where
//! everything is refused until the store is opened again and SQLite has recovered from its log.

use super::{
    apply::apply,
    checkpoint::Checkpointer,
    import::import,
    lease::Leases,
    read::{cluster, head, number, position},
    store_error,
};
use crate::{
    Applied, ApplyError, Change, Clock, ClusterMeta, Feed, ImportError, Lease, LeaseError, Revision,
    StoreDump, StoreError, Transaction, lease::LeaseOp,
};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use std::sync::Arc;
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

/// The most commands in one commit.
const BATCH: usize = 512;
/// The most bytes of bodies in one commit, though always one command.
const BATCH_BYTES: usize = 16 << 20;
/// How many revisions are compacted between two batches, so that writers wait only briefly.
const COMPACT_STEP: u64 = 512;

/// After how many changed rows the checkpointer is woken; some 8 to 16 MiB of write-ahead log.
const CHECKPOINT_ROWS: usize = 2048;

/// What the writer is asked, with where the answer goes.
pub(super) enum Command {
    Apply(Transaction, oneshot::Sender<Result<Applied, ApplyError>>),
    Lease(LeaseOp, oneshot::Sender<Result<Option<Lease>, LeaseError>>),
    RaiseIncarnation(oneshot::Sender<Result<ClusterMeta, StoreError>>),
    Compact(Revision, oneshot::Sender<Result<Revision, StoreError>>),
    Import(StoreDump, oneshot::Sender<Result<(), ImportError>>),
    Stop(oneshot::Sender<()>),
}

enum Output {
    Applied(Result<Applied, ApplyError>),
    Lease(Result<Option<Lease>, LeaseError>),
    Cluster(ClusterMeta),
    /// Answered later, or by itself.
    Nothing,
}

enum Fault {
    /// Nothing happened, and each command may be tried alone.
    Work(rusqlite::Error),
    /// Nothing happened, and nothing else would succeed either.
    Begin(rusqlite::Error),
    /// It may have happened.
    Uncertain(rusqlite::Error),
}

/// Owns the writing connection.
pub(super) struct Writer {
    db: Connection,
    feed: Arc<Feed>,
    checkpointer: Checkpointer,
    /// Rows changed since the checkpointer was woken.
    unfolded: usize,
    clock: Arc<dyn Clock>,
    head: Revision,
    leases: Leases,
    compactions: Vec<(Revision, oneshot::Sender<Result<Revision, StoreError>>)>,
    failed: Option<StoreError>,
}

impl Writer {
    pub(super) fn new(
        mut db: Connection,
        checkpointer: Checkpointer,
        clock: Arc<dyn Clock>,
    ) -> rusqlite::Result<Self> {
        let leases = Leases::load(&db, &*clock)?;
        let head = head(&db.transaction()?)?.0;
        let feed = Arc::new(Feed::new(head));
        let compactions = Vec::new();
        Ok(Self { db, feed, checkpointer, unfolded: 0, clock, head, leases, compactions, failed: None })
    }

    pub(super) fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feed)
    }

    /// Until [`Command::Stop`], or until nobody can send any more.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let _closing = CloseFeed(self.feed());
        let mut stop = None;
        while stop.is_none() {
            let first = match commands.try_recv() {
                Ok(command) => Some(command),
                Err(TryRecvError::Empty) if !self.compactions.is_empty() => None,
                Err(TryRecvError::Empty) => match commands.blocking_recv() {
                    Some(command) => Some(command),
                    None => break,
                },
                Err(TryRecvError::Disconnected) => break,
            };
            let mut batch = Vec::new();
            let mut imports = Vec::new();
            let mut bytes = 0;
            let mut next = first;
            while let Some(command) = next {
                match command {
                    Command::Stop(done) => {
                        stop = Some(done);
                        break;
                    }
                    Command::Compact(target, reply) => self.compactions.push((target, reply)),
                    Command::Import(dump, reply) => imports.push((dump, reply)),
                    command => {
                        if let Command::Apply(transaction, _) = &command {
                            bytes += transaction.weight();
                        }
                        batch.push(command);
                    }
                }
                let room = batch.len() < BATCH && bytes < BATCH_BYTES;
                next = if room { commands.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                self.settle(batch);
            }
            for (dump, reply) in imports {
                // Nobody hears it when the asker has gone.
                let _ = reply.send(self.import(&dump));
            }
            self.compact_step();
        }
        commands.close();
        let Self { db, feed, checkpointer, .. } = self;
        feed.close();
        checkpointer.stop();
        if let Err((_, error)) = db.close() {
            tracing::warn!(%error, "the store's database was not closed cleanly; it recovers when it is opened");
        }
        if let Some(done) = stop {
            // Nobody waits any more when the closing task was dropped.
            let _ = done.send(());
        }
    }

    /// Commits a batch and answers it.
    fn settle(&mut self, batch: Vec<Command>) {
        if let Some(error) = &self.failed {
            batch.into_iter().for_each(|command| command.fail(error));
            return;
        }
        match self.commit(&batch) {
            Ok((outputs, changes)) => {
                self.unfolded += changes.iter().map(|change| change.events.len()).sum::<usize>();
                if self.unfolded >= CHECKPOINT_ROWS {
                    self.unfolded = 0;
                    self.checkpointer.wake();
                }
                // Watchers first, so that nobody holds an answer that a watch has not got.
                if !changes.is_empty() {
                    self.feed.publish(changes);
                }
                batch.into_iter().zip(outputs).for_each(|(command, output)| command.answer(output));
            }
            Err(Fault::Work(_)) if batch.len() > 1 => {
                batch.into_iter().for_each(|command| self.settle(vec![command]));
            }
            Err(Fault::Work(error) | Fault::Begin(error)) => {
                tracing::warn!(%error, commands = batch.len(), "nothing was written to the store");
                let error = store_error("writing", error);
                batch.into_iter().for_each(|command| command.fail(&error));
            }
            Err(Fault::Uncertain(error)) => {
                let error = self.fail(error);
                batch.into_iter().for_each(|command| command.fail(&error));
            }
        }
    }

    /// Takes nothing more until the store is opened again.
    fn fail(&mut self, error: rusqlite::Error) -> StoreError {
        tracing::error!(%error, "the disk failed under a commit: the store takes no more writes; restart the server \
            when the disk is sound");
        let error = store_error("committing", error);
        self.failed = Some(error.clone());
        error
    }

    /// Takes in a dump, in a commit of its own.
    fn import(&mut self, dump: &StoreDump) -> Result<(), ImportError> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        if let Some((lease, holder)) = self.leases.any(&*self.clock) {
            return Err(ImportError::InUse { lease, holder });
        }
        let work = |db: &mut Connection| {
            let transaction =
                db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Fault::Begin)?;
            match import(&transaction, dump).map_err(Fault::Work)? {
                Ok(()) => transaction.commit().map_err(uncommitted).map(Ok),
                Err(refused) => Ok(Err(refused)),
            }
        };
        match work(&mut self.db) {
            Ok(done) => done?,
            Err(Fault::Work(error) | Fault::Begin(error)) => {
                return Err(store_error("importing", error).into());
            }
            Err(Fault::Uncertain(error)) => return Err(self.fail(error).into()),
        }
        self.head = dump.revision;
        self.feed.restart(dump.revision);
        self.checkpointer.wake();
        Ok(())
    }

    /// One SQLite commit; on a fault everything is as before.
    fn commit(&mut self, batch: &[Command]) -> Result<(Vec<Output>, Vec<Arc<Change>>), Fault> {
        let Self { db, clock, head, leases, .. } = self;
        let transaction =
            db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Fault::Begin)?;
        let mut outputs = Vec::with_capacity(batch.len());
        let mut changes = Vec::with_capacity(batch.len());
        let mut newest = *head;
        let mut work = || -> rusqlite::Result<()> {
            for command in batch {
                outputs.push(match command {
                    Command::Apply(asked, _) => {
                        let fence = |name: &str| leases.held(name, &**clock);
                        match apply(&transaction, newest, asked, fence, || clock.wall())? {
                            Ok((applied, change)) => {
                                if let Some(change) = change {
                                    newest = change.revision;
                                    changes.push(Arc::new(change));
                                }
                                Output::Applied(Ok(applied))
                            }
                            Err(refused) => Output::Applied(Err(refused)),
                        }
                    }
                    Command::Lease(op, _) => Output::Lease(leases.run(&transaction, &**clock, op)?),
                    Command::RaiseIncarnation(_) => {
                        transaction.execute("UPDATE meta SET incarnation = incarnation + 1", [])?;
                        Output::Cluster(cluster(&transaction)?)
                    }
                    Command::Compact(..) | Command::Import(..) | Command::Stop(_) => Output::Nothing,
                });
            }
            if newest != *head {
                transaction.prepare_cached("UPDATE meta SET revision = ?1")?.execute([number(newest)])?;
            }
            Ok(())
        };
        let done = match work() {
            Ok(()) => transaction.commit().map_err(uncommitted),
            Err(error) => Err(Fault::Work(error)),
        };
        match done {
            Ok(()) => {
                *head = newest;
                leases.committed();
                Ok((outputs, changes))
            }
            Err(fault) => {
                leases.rolled_back();
                Err(fault)
            }
        }
    }
}

impl Writer {
    /// Compacts a piece of the log, in a commit of its own, and answers whoever has got what they
    /// asked for.
    fn compact_step(&mut self) {
        let Some(target) = self.compactions.iter().map(|(target, _)| *target).max() else { return };
        if let Some(error) = &self.failed {
            self.compactions.drain(..).for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
            return;
        }
        match self.compact_piece(target) {
            Ok(compacted) => {
                let target = target.min(self.head);
                let (done, waiting) =
                    self.compactions.drain(..).partition(|(t, _)| compacted >= (*t).min(target));
                self.compactions = waiting;
                let done: Vec<_> = done;
                done.into_iter().for_each(|(_, reply)| drop(reply.send(Ok(compacted))));
            }
            Err(error) => {
                tracing::warn!(%error, "the change log was not compacted");
                let error = store_error("compacting the change log", error);
                self.compactions.drain(..).for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
            }
        }
    }

    fn compact_piece(&mut self, target: Revision) -> rusqlite::Result<Revision> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (newest, compacted) = head(&transaction)?;
        let end = target.min(newest).min(Revision(compacted.0 + COMPACT_STEP));
        if end <= compacted {
            return Ok(compacted);
        }
        transaction.prepare_cached("DELETE FROM log WHERE position < ?1")?.execute([position(end.next())])?;
        transaction.prepare_cached("UPDATE meta SET compacted = ?1")?.execute([number(end)])?;
        transaction.commit()?;
        Ok(end)
    }
}

impl Command {
    /// Nobody hears it when the asker has gone; what was done stays done.
    fn answer(self, output: Output) {
        match (self, output) {
            (Self::Apply(_, reply), Output::Applied(answer)) => drop(reply.send(answer)),
            (Self::Lease(_, reply), Output::Lease(answer)) => drop(reply.send(answer)),
            (Self::RaiseIncarnation(reply), Output::Cluster(answer)) => drop(reply.send(Ok(answer))),
            _ => {}
        }
    }

    fn fail(self, error: &StoreError) {
        let error = error.clone();
        match self {
            Self::Apply(_, reply) => drop(reply.send(Err(error.into()))),
            Self::Lease(_, reply) => drop(reply.send(Err(error.into()))),
            Self::RaiseIncarnation(reply) => drop(reply.send(Err(error))),
            Self::Compact(_, reply) => drop(reply.send(Err(error))),
            Self::Import(_, reply) => drop(reply.send(Err(error.into()))),
            Self::Stop(reply) => drop(reply.send(())),
        }
    }
}

/// What it means that a commit failed.
fn uncommitted(error: rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Work(error),
        _ => Fault::Uncertain(error),
    }
}

/// Ends the watches also when the writer panics.
struct CloseFeed(Arc<Feed>);

impl Drop for CloseFeed {
    fn drop(&mut self) {
        self.0.close();
    }
}
