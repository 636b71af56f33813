//! What the batcher does in transactions of their own: compacting the change log and importing.

use super::{
    Fault,
    batcher::{Batcher, Locked},
    command::Asked,
    read::{lease_row, number, position},
    session::{Backoff, Session, answer, chain},
    sql::{Columns, Mark, Sql, Statements},
};
use crate::{ImportError, Record, Revision, StoreDump};

/// How many revisions are compacted between two batches, so that writers wait only briefly.
const COMPACT_STEP: u64 = 1024;
/// How many rows of a dump go in one statement, unless they are large.
const IMPORT_ROWS: usize = 1000;
/// The most bytes of bodies in one statement, though always one row.
const IMPORT_BYTES: usize = 16 << 20;

impl Batcher {
    /// Compacts a piece of the log, and answers whoever has got what they asked for.
    pub(super) async fn compact_step(&mut self) {
        let Some(target) = self.compactions.iter().map(|(target, _)| *target).max() else { return };
        let mut backoff = Backoff::new();
        let done = loop {
            match self.compact_piece(target).await {
                Err(Fault::Lost(cause)) => {
                    self.session = None;
                    tracing::debug!(error = chain(&*cause), "compacting is tried again");
                    if !backoff.again().await {
                        break Err(Fault::Lost(cause));
                    }
                }
                done => break done,
            }
        };
        match done {
            Ok(compacted) => {
                let target = target.min(self.head);
                let (done, waiting): (Vec<_>, _) =
                    self.compactions.drain(..).partition(|(asked, _)| compacted >= (*asked).min(target));
                self.compactions = waiting;
                done.into_iter().for_each(|(_, reply)| drop(reply.send(Ok(compacted))));
            }
            Err(fault) => {
                let error = self.give_up(fault, "compacting the change log");
                self.compactions.drain(..).for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
            }
        }
    }

    /// Doing a piece twice does no harm, so a lost reply needs no settling but by its number.
    async fn compact_piece(&mut self, target: Revision) -> Result<Revision, Fault> {
        let session = self.take_session().await?;
        let (locked, _) = self.lock(&session, &Asked::default()).await?;
        let (head, compacted) = (locked.batch.base, locked.compacted);
        let end = target.min(head).min(Revision(compacted.0 + COMPACT_STEP));
        if end <= compacted {
            self.unlock(session).await;
            return Ok(compacted);
        }
        let (first, end_number) = (position(end.next()), number(end));
        let mark = self.mark(&locked);
        let mut statements = Statements::new(&session);
        statements.add(Sql::Forget, vec![&first]);
        statements.add(Sql::Compacted, vec![&end_number]);
        mark.add(&mut statements);
        self.finish(statements.commit().await)?;
        self.committed(session, head);
        Ok(end)
    }

    /// Takes in a dump.
    pub(super) async fn import(&mut self, dump: &StoreDump) -> Result<(), ImportError> {
        let mut backoff = Backoff::new();
        let mut sent = false;
        loop {
            match self.import_once(dump, &mut sent).await {
                Ok(Ok(())) => {
                    self.publisher.restart(dump.revision);
                    return Ok(());
                }
                Ok(Err(refused)) => return Err(refused),
                Err(Fault::Lost(cause)) => {
                    self.session = None;
                    tracing::debug!(error = chain(&*cause), "importing is tried again");
                    if !backoff.again().await {
                        return Err(self.give_up(Fault::Lost(cause), "importing").into());
                    }
                }
                Err(fault) => return Err(self.give_up(fault, "importing").into()),
            }
        }
    }

    /// `sent`: an earlier attempt may have been committed.
    async fn import_once(
        &mut self,
        dump: &StoreDump,
        sent: &mut bool,
    ) -> Result<Result<(), ImportError>, Fault> {
        // The schema is this database's own.
        let StoreDump { cluster, revision, records } = dump;
        let session = self.take_session().await?;
        let (mut locked, settled) = self.lock(&session, &Asked::default()).await?;
        if *sent && settled {
            self.unlock(session).await;
            return Ok(Ok(()));
        }
        *sent = false;
        if locked.batch.base != Revision::ZERO {
            let refused = ImportError::NotEmpty { revision: locked.batch.base };
            self.unlock(session).await;
            return Ok(Err(refused));
        }
        for row in answer(session.client.query(session.statement(Sql::Live as usize), &[])).await? {
            locked.batch.lease(row.try_get(0)?, lease_row(&row, 1)?);
        }
        if let Some((lease, holder)) = locked.batch.any_lease() {
            self.unlock(session).await;
            return Ok(Err(ImportError::InUse { lease, holder }));
        }
        let mut rest: Vec<&Record> = records.iter().map(|record| &**record).collect();
        while !rest.is_empty() {
            insert(&session, &mut rest).await?;
        }
        let (id, incarnation) =
            (cluster.cluster_id.uuid(), i64::try_from(cluster.incarnation).unwrap_or(i64::MAX));
        let at = number(*revision);
        let mark = self.mark(&locked);
        let mut statements = Statements::new(&session);
        statements.add(Sql::Import, vec![&id, &incarnation, &at]);
        mark.add(&mut statements);
        let committed = statements.commit().await;
        *sent = matches!(committed, Err(Fault::Lost(_)));
        self.finish(committed)?;
        self.committed(session, *revision);
        Ok(Ok(()))
    }

    fn mark(&self, locked: &Locked) -> Mark {
        Mark { writer: self.writer, batch: self.done + 1, at: locked.now }
    }

    fn finish(&mut self, committed: Result<(), Fault>) -> Result<(), Fault> {
        self.unsettled |= matches!(committed, Err(Fault::Lost(_)));
        committed
    }
}

/// Inserts some rows, and takes them from the list.
async fn insert(session: &Session, rest: &mut Vec<&Record>) -> Result<(), Fault> {
    let mut bytes = 0;
    let fits = |record: &&&Record| {
        bytes += record.body.len();
        bytes <= IMPORT_BYTES
    };
    let count = rest.iter().take(IMPORT_ROWS).take_while(fits).count().max(1);
    let rows: Vec<&Record> = rest.drain(..count).collect();
    let columns = Columns::of(&rows);
    answer(session.client.execute(session.statement(Sql::Insert as usize), &columns.params())).await?;
    Ok(())
}
