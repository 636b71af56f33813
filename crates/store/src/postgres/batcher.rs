//! The batcher: group commit over one connection, and nothing is answered before it is durable.
//!
//! States of a batch: locked (nothing written), sent (its commit may happen), and answered. A
//! connection that dies before *sent* means doing it again; after it, looking first: each batch
//! writes its number into this server's row of `writers`, and the next connection gets the lock
//! only when the dead one's transaction is over. Until a database can be reached callers wait, at
//! most [`super::session::PATIENCE`].

use super::{
    Fault,
    batch::{Batch, Writes},
    command::{Asked, Command, Output},
    follow::{Publisher, catch_up, channel, lost_writes, newer_schema},
    options::Target,
    read::{Readers, count, lease_row, prior, revision},
    schema::{self, SCHEMA},
    session::{Backoff, Session, answer, chain},
    sql::{self, Mark, SQL, Sheet, Sql, Statements},
    trouble,
};
use crate::{ClusterMeta, Revision, StoreError};
use futures::future::{BoxFuture, FutureExt as _};
use lattice_model::{ClusterId, Duration, RequestId};
use std::{sync::Arc, time};
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// The most commands in one batch.
const BATCH: usize = 512;
/// The most bytes of bodies in one batch, though always one command.
const BATCH_BYTES: usize = 16 << 20;
/// The most operations in one batch, though always one command.
const BATCH_OPS: usize = 4096;
/// How often a server that writes nothing says that it is still there.
const TOUCH: time::Duration = time::Duration::from_secs(6 * 3600);

/// What the lock shows.
pub(super) struct Locked {
    pub(super) batch: Batch,
    pub(super) compacted: Revision,
    /// How many request ids were ever kept.
    requests: i64,
    pub(super) now: i64,
}

/// Owns the writing connection.
pub(super) struct Batcher {
    pub(super) target: Target,
    pub(super) readers: Arc<Readers>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) session: Option<Session>,
    /// This server's row in `writers`.
    pub(super) writer: Uuid,
    /// The number of its last batch that is known to be committed.
    pub(super) done: i64,
    /// Whether the one after it may be.
    pub(super) unsettled: bool,
    /// The newest revision that was seen under the lock.
    pub(super) head: Revision,
    pub(super) compactions: Vec<(Revision, oneshot::Sender<Result<Revision, StoreError>>)>,
}

impl Batcher {
    pub(super) fn new(
        target: Target,
        writer: Uuid,
        readers: Arc<Readers>,
        publisher: Arc<Publisher>,
    ) -> Self {
        let head = publisher.shown();
        let compactions = Vec::new();
        Self {
            target,
            readers,
            publisher,
            session: None,
            writer,
            done: 0,
            unsettled: false,
            head,
            compactions,
        }
    }

    /// Until [`Command::Stop`], or until nobody can send any more.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut stop = None;
        let mut touch = tokio::time::interval(TOUCH);
        touch.reset();
        while stop.is_none() {
            let first = match commands.try_recv() {
                Ok(command) => Some(command),
                Err(TryRecvError::Empty) if !self.compactions.is_empty() => None,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => tokio::select! {
                    command = commands.recv() => match command {
                        Some(command) => Some(command),
                        None => break,
                    },
                    _ = touch.tick() => {
                        self.touch().await;
                        continue;
                    }
                },
            };
            let (mut batch, mut imports) = (Vec::new(), Vec::new());
            let (mut bytes, mut ops) = (0, 0);
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
                            ops += transaction.ops.len();
                        }
                        batch.push(command);
                    }
                }
                let room = batch.len() < BATCH && bytes < BATCH_BYTES && ops < BATCH_OPS;
                next = if room { commands.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                self.settle(batch).await;
            }
            for (dump, reply) in imports {
                // Nobody hears it when the asker has gone.
                let _ = reply.send(self.import(&dump).await);
            }
            self.compact_step().await;
        }
        commands.close();
        // One attempt: where it fails, the row is swept some day.
        match self.take_session().await {
            Ok(session) => schema::forget(&session, self.writer).await,
            Err(fault) => tracing::debug!(?fault, "the row of this server stays in the store"),
        }
        self.publisher.feed.close();
        if let Some(done) = stop {
            // Nobody waits any more when the closing task was dropped.
            let _ = done.send(());
        }
    }

    /// Commits a batch and answers it.
    fn settle(&mut self, batch: Vec<Command>) -> BoxFuture<'_, ()> {
        async move {
            match self.commit(&batch).await {
                Ok((outputs, done)) => {
                    self.show(&done).await;
                    batch.into_iter().zip(outputs).for_each(|(command, output)| command.answer(output));
                }
                Err(Fault::Refused(_)) if batch.len() > 1 => {
                    for command in batch {
                        self.settle(vec![command]).await;
                    }
                }
                Err(fault) => {
                    let error = self.give_up(fault, "writing");
                    batch.into_iter().for_each(|command| command.fail(&error));
                }
            }
        }
        .boxed()
    }

    pub(super) fn give_up(&self, fault: Fault, doing: &'static str) -> StoreError {
        let last = matches!(fault, Fault::Final(_));
        let error = fault.into_store(doing);
        if last {
            self.publisher.fail(error.clone());
        } else {
            tracing::warn!(error = chain(&error), doing, "the store's database did not do it");
        }
        error
    }

    /// Watchers first, so that nobody holds an answer that a watch has not got.
    async fn show(&self, done: &Batch) {
        if done.changes.is_empty() {
            return;
        }
        if self.publisher.shown() < done.base
            && let Err(error) = catch_up(&self.publisher, &self.readers, done.base).await
        {
            tracing::warn!(error = chain(&error), "what other servers wrote is shown later");
        }
        if !self.publisher.offer(&done.changes) {
            self.publisher.wake(self.head);
        }
    }

    /// Does a batch, however many connections it takes.
    async fn commit(&mut self, commands: &[Command]) -> Result<(Vec<Output>, Batch), Fault> {
        let mut backoff = Backoff::new();
        let mut sent = None;
        loop {
            match self.attempt(commands, &mut sent).await {
                Err(Fault::Lost(cause)) => {
                    self.session = None;
                    tracing::debug!(error = chain(&*cause), "the store's database is tried again");
                    if !backoff.again().await {
                        return Err(Fault::Lost(cause));
                    }
                }
                done => return done,
            }
        }
    }

    /// Does a batch on one connection. `sent` is what was judged and sent on an earlier one, and
    /// may have been committed.
    async fn attempt(
        &mut self,
        commands: &[Command],
        sent: &mut Option<(Vec<Output>, Batch)>,
    ) -> Result<(Vec<Output>, Batch), Fault> {
        let session = self.take_session().await?;
        let (mut locked, settled) = self.lock(&session, &Asked::of(commands)).await?;
        if let (true, Some(done)) = (settled, sent.take()) {
            tracing::info!(batch = self.done, "a commit whose reply was lost is there");
            self.unlock(session).await;
            return Ok(done);
        }
        let outputs = commands.iter().map(|command| command.judge(&mut locked.batch)).collect();
        let Some(writes) = locked.batch.writes() else {
            self.unlock(session).await;
            return Ok((outputs, locked.batch));
        };
        let head = writes.head;
        match self.write(&session, &locked, &writes).await {
            Ok(()) => {
                self.committed(session, head);
                Ok((outputs, locked.batch))
            }
            Err(Fault::Lost(cause)) => {
                self.unsettled = true;
                *sent = Some((outputs, locked.batch));
                Err(Fault::Lost(cause))
            }
            Err(fault) => Err(fault),
        }
    }

    pub(super) async fn take_session(&mut self) -> Result<Session, Fault> {
        if let Some(error) = self.publisher.failed() {
            return Err(Fault::Final(error));
        }
        match self.session.take().filter(|session| !session.client.is_closed()) {
            Some(session) => Ok(session),
            None => {
                let statements: Vec<&str> = SQL.iter().map(String::as_str).collect();
                Session::open(&self.target, &statements).await
            }
        }
    }

    pub(super) fn committed(&mut self, session: Session, head: Revision) {
        self.done += 1;
        self.unsettled = false;
        self.head = head;
        self.session = Some(session);
    }

    /// Gives the lock back without having written anything.
    pub(super) async fn unlock(&mut self, session: Session) {
        if answer(session.client.batch_execute("ROLLBACK")).await.is_ok() {
            self.session = Some(session);
        }
    }

    /// The first round trip: takes the lock and reads what is asked about. Also tells whether the
    /// batch before, whose fate was open, has been committed.
    pub(super) async fn lock(
        &mut self,
        session: &Session,
        asked: &Asked<'_>,
    ) -> Result<(Locked, bool), Fault> {
        let client = &session.client;
        let Asked { kinds, ids, requests, leases } = asked;
        let writer = self.writer;
        let begin = client.batch_execute("BEGIN");
        let one: [&(dyn ToSql + Sync); 1] = [&writer];
        let keys: [&(dyn ToSql + Sync); 2] = [kinds, ids];
        let request: [&(dyn ToSql + Sync); 1] = [requests];
        let lease: [&(dyn ToSql + Sync); 1] = [leases];
        // Sent in this order without waiting; the database answers in this order.
        let (begun, meta, clock, rows, kept, held) = answer(async {
            Ok(futures::join!(
                begin,
                client.query(session.statement(Sql::Lock as usize), &[]),
                client.query(session.statement(Sql::Writer as usize), &one),
                sql::some(!ids.is_empty(), client.query(session.statement(Sql::Rows as usize), &keys)),
                sql::some(
                    !requests.is_empty(),
                    client.query(session.statement(Sql::Requests as usize), &request)
                ),
                sql::some(!leases.is_empty(), client.query(session.statement(Sql::Leases as usize), &lease)),
            ))
        })
        .await?;
        begun?;
        let (meta, clock, rows, kept, held) = (meta?, clock?, rows?, kept?, held?);
        let (Some(meta), Some(clock)) = (meta.first(), clock.first()) else {
            return Err(Fault::Lost(trouble("the store has no row in meta")));
        };
        let found = u32::try_from(count(meta, 0)?).unwrap_or(u32::MAX);
        if found > SCHEMA {
            return Err(Fault::Final(newer_schema(found)));
        }
        let cluster = ClusterMeta {
            cluster_id: ClusterId::new(meta.try_get::<_, Uuid>(1)?),
            incarnation: count(meta, 2)?,
            schema: SCHEMA,
        };
        let (base, now) = (revision(meta, 3)?, clock.try_get::<_, i64>(0)?);
        let settled = self.compare(base, clock.try_get(1)?)?;
        let mut batch = Batch::new(cluster, base, Duration(now.unsigned_abs()));
        for row in &rows {
            let (key, prior) = prior(row, 0)?;
            batch.row(key, prior);
        }
        for row in &kept {
            batch.request(RequestId::new(row.try_get::<_, Uuid>(0)?), revision(row, 1)?);
        }
        for row in &held {
            batch.lease(row.try_get(0)?, lease_row(row, 1)?);
        }
        Ok((Locked { batch, compacted: revision(meta, 4)?, requests: meta.try_get(5)?, now }, settled))
    }

    /// Holds what the database says against what it acknowledged.
    fn compare(&mut self, base: Revision, batch: Option<i64>) -> Result<bool, Fault> {
        let settled = self.unsettled && batch == Some(self.done + 1);
        if settled {
            self.done += 1;
        }
        self.unsettled = false;
        if batch != Some(self.done) || base < self.head {
            return Err(Fault::Final(lost_writes(self.head, base)));
        }
        self.head = base;
        Ok(settled)
    }

    /// The second round trip: writes and commits. [`Fault::Refused`]: it is not committed;
    /// [`Fault::Lost`]: it may be.
    async fn write(&self, session: &Session, locked: &Locked, writes: &Writes<'_>) -> Result<(), Fault> {
        let sheet = Sheet::of(writes, locked.requests, locked.now);
        let mark = Mark { writer: self.writer, batch: self.done + 1, at: locked.now };
        let channel = channel(&self.target.schema);
        let mut statements = Statements::new(session);
        sheet.add(&mut statements, &channel);
        mark.add(&mut statements);
        statements.commit().await
    }

    /// So that this server's row is not swept while it has nothing to write.
    async fn touch(&mut self) {
        let Ok(session) = self.take_session().await else { return };
        let Ok((locked, _)) = self.lock(&session, &Asked::default()).await else { return };
        let (base, cluster) = (locked.batch.base, locked.batch.cluster);
        let writes = Writes { head: base, incarnation: cluster.incarnation, ..Writes::default() };
        match self.write(&session, &locked, &writes).await {
            Ok(()) => self.committed(session, base),
            Err(_) => self.unsettled = true,
        }
    }
}
