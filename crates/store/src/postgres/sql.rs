//! What is said to the database: the statements of a batch, each for any number of rows at once,
//! and the sheet of columns that they are given.

use super::{
    Fault,
    batch::Writes,
    read::number,
    schema::NOW,
    session::{Session, answer},
};
use crate::{ChangeEvent, EventKind, Key, Record, lease::LeaseRow};
use futures::future::join_all;
use lattice_model::RequestId;
use std::{future::Future, sync::LazyLock};
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

/// The most request ids that are kept.
const MAX_REQUESTS: i64 = 65_536;
/// How long a request id is kept at least, in milliseconds, unless there are too many.
const REQUEST_AGE: i64 = 24 * 3600 * 1000;

/// The statements of the batcher.
#[derive(Clone, Copy)]
pub(super) enum Sql {
    Lock,
    Writer,
    Rows,
    Requests,
    Leases,
    Insert,
    Update,
    Delete,
    Log,
    Keep,
    Trim,
    SetLeases,
    Meta,
    Mark,
    Notify,
    Live,
    Import,
    Forget,
    Compacted,
}

/// Their texts, in the order of [`Sql`].
pub(super) static SQL: LazyLock<[String; 19]> = LazyLock::new(|| {
    let rows =
        "unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[])";
    let columns = "kind, id, revision, created, project, owner, body";
    let lease = "name, holder, epoch, held, ttl, ends";
    [
        // Not with the time: that would be from before the wait for the lock.
        "SELECT schema, cluster_id, incarnation, revision, compacted, requests FROM meta FOR UPDATE".to_owned(),
        format!("SELECT {NOW}, (SELECT batch FROM writers WHERE id = $1)"),
        "SELECT r.kind, r.id, r.revision, r.created, r.project, r.owner \
         FROM unnest($1::text[], $2::text[]) AS k (kind, id) JOIN records r ON r.kind = k.kind AND r.id = k.id"
            .to_owned(),
        "SELECT id, revision FROM requests WHERE id = ANY ($1)".to_owned(),
        format!("SELECT {lease} FROM leases WHERE name = ANY ($1)"),
        format!("INSERT INTO records ({columns}) SELECT * FROM {rows}"),
        format!(
            "UPDATE records r SET revision = w.revision, created = w.created, project = w.project, owner = w.owner, \
             body = w.body FROM {rows} AS w ({columns}) WHERE r.kind = w.kind AND r.id = w.id"
        ),
        "DELETE FROM records r USING unnest($1::text[], $2::text[]) AS k (kind, id) \
         WHERE r.kind = k.kind AND r.id = k.id"
            .to_owned(),
        "INSERT INTO log (position, kind, id, prior, created, project, owner, body) \
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], \
         $7::text[], $8::text[])"
            .to_owned(),
        "INSERT INTO requests (number, id, revision, at) SELECT $1::bigint + k.nth, k.id, k.revision, $4 \
         FROM unnest($2::uuid[], $3::bigint[]) WITH ORDINALITY AS k (id, revision, nth)"
            .to_owned(),
        // Two go for each that comes, so that the table shrinks to its bound however it got past it.
        "DELETE FROM requests WHERE number = ANY (ARRAY(SELECT number FROM requests ORDER BY number LIMIT $1)) \
         AND (at < $2 OR number <= $3)"
            .to_owned(),
        format!(
            "INSERT INTO leases ({lease}) \
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::bigint[], $6::bigint[]) \
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = excluded.epoch, \
             held = excluded.held, ttl = excluded.ttl, ends = excluded.ends"
        ),
        "UPDATE meta SET revision = $1, incarnation = $2, requests = requests + $3".to_owned(),
        "UPDATE writers SET batch = $2, seen = $3 WHERE id = $1".to_owned(),
        "SELECT pg_notify($1, $2)".to_owned(),
        format!("SELECT {lease} FROM leases WHERE held"),
        "UPDATE meta SET cluster_id = $1, incarnation = $2, revision = $3, compacted = $3".to_owned(),
        "DELETE FROM log WHERE position < $1".to_owned(),
        "UPDATE meta SET compacted = $1".to_owned(),
    ]
});

type Param<'a> = &'a (dyn ToSql + Sync);

/// Rows, where there is something to ask for.
pub(super) async fn some(
    wanted: bool,
    query: impl Future<Output = Result<Vec<Row>, Error>>,
) -> Result<Vec<Row>, Error> {
    if wanted { query.await } else { Ok(Vec::new()) }
}

/// Statements that go out together, with the commit behind them.
pub(super) struct Statements<'a> {
    session: &'a Session,
    all: Vec<(Sql, Vec<Param<'a>>)>,
}

impl<'a> Statements<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        Self { session, all: Vec::new() }
    }

    pub(super) fn add(&mut self, sql: Sql, params: Vec<Param<'a>>) {
        self.all.push((sql, params));
    }

    /// Sends them and waits. After an error of one of them the database takes the commit for a
    /// rollback: [`Fault::Refused`]. [`Fault::Lost`]: it may have been committed.
    pub(super) async fn commit(self) -> Result<(), Fault> {
        let Self { session, all } = self;
        // `join_all` sends up to 30 in their order, and here are never more than a dozen.
        let work = join_all(
            all.iter().map(|(sql, params)| session.client.execute(session.statement(*sql as usize), params)),
        );
        let commit = session.client.batch_execute("COMMIT");
        let (done, committed) = answer(async { Ok(futures::join!(work, commit)) }).await?;
        for result in done {
            result?;
        }
        committed.map_err(|error| Fault::Lost(Box::new(error)))
    }
}

/// A batch's number in this server's row, by which it is settled.
pub(super) struct Mark {
    pub(super) writer: Uuid,
    pub(super) batch: i64,
    pub(super) at: i64,
}

impl Mark {
    pub(super) fn add<'a>(&'a self, statements: &mut Statements<'a>) {
        statements.add(Sql::Mark, vec![&self.writer, &self.batch, &self.at]);
    }
}

/// The writes of a batch as columns.
#[derive(Default)]
pub(super) struct Sheet<'a> {
    insert: Columns<'a>,
    update: Columns<'a>,
    gone: (Vec<&'a str>, Vec<&'a str>),
    log: LogColumns<'a>,
    leases: LeaseColumns<'a>,
    requests: (Vec<Uuid>, Vec<i64>),
    /// Before it, how many request ids were ever kept; how many it keeps; how many may go.
    counts: (i64, i64, i64),
    /// Now, when an old request id was kept, and the newest number that may go.
    times: (i64, i64, i64),
    revision: i64,
    incarnation: i64,
    note: String,
}

impl<'a> Sheet<'a> {
    /// `requests` were kept before it, and it is `now`.
    pub(super) fn of(writes: &Writes<'a>, requests: i64, now: i64) -> Self {
        let Writes { insert, update, delete, log, keep, leases, head, incarnation } = writes;
        let kept = keep.len() as i64;
        Self {
            insert: Columns::of(insert),
            update: Columns::of(update),
            gone: delete.iter().map(|key: &&Key| (key.kind.as_str(), &*key.id)).unzip(),
            log: LogColumns::of(log),
            leases: LeaseColumns::of(leases),
            requests: keep.iter().map(|(id, at): &(RequestId, _)| (id.uuid(), number(*at))).unzip(),
            counts: (requests, kept, kept * 2),
            times: (now, now - REQUEST_AGE, requests + kept - MAX_REQUESTS),
            revision: number(*head),
            incarnation: i64::try_from(*incarnation).unwrap_or(i64::MAX),
            note: head.to_string(),
        }
    }

    pub(super) fn add(&'a self, statements: &mut Statements<'a>, channel: &'a String) {
        let Self { insert, update, gone, log, leases, requests, counts, times, revision, incarnation, note } =
            self;
        if !insert.ids.is_empty() {
            statements.add(Sql::Insert, insert.params());
        }
        if !update.ids.is_empty() {
            statements.add(Sql::Update, update.params());
        }
        if !gone.1.is_empty() {
            statements.add(Sql::Delete, vec![&gone.0, &gone.1]);
        }
        if !log.positions.is_empty() {
            statements.add(Sql::Log, log.params());
            statements.add(Sql::Notify, vec![channel, note]);
        }
        if !requests.0.is_empty() {
            statements.add(Sql::Keep, vec![&counts.0, &requests.0, &requests.1, &times.0]);
            statements.add(Sql::Trim, vec![&counts.2, &times.1, &times.2]);
        }
        if !leases.names.is_empty() {
            statements.add(Sql::SetLeases, leases.params());
        }
        statements.add(Sql::Meta, vec![revision, incarnation, &counts.1]);
    }
}

/// Rows as the statements want them.
#[derive(Default)]
pub(super) struct Columns<'a> {
    kinds: Vec<&'a str>,
    ids: Vec<&'a str>,
    revisions: Vec<i64>,
    created: Vec<i64>,
    projects: Vec<Option<&'a str>>,
    owners: Vec<Option<&'a str>>,
    bodies: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(records: &[&'a Record]) -> Self {
        Self {
            kinds: records.iter().map(|record| record.key.kind.as_str()).collect(),
            ids: records.iter().map(|record| &*record.key.id).collect(),
            revisions: records.iter().map(|record| number(record.revision)).collect(),
            created: records.iter().map(|record| number(record.created)).collect(),
            projects: records.iter().map(|record| record.project.as_deref()).collect(),
            owners: records.iter().map(|record| record.owner.as_deref()).collect(),
            bodies: records.iter().map(|record| &*record.body).collect(),
        }
    }

    pub(super) fn params(&self) -> Vec<Param<'_>> {
        let Self { kinds, ids, revisions, created, projects, owners, bodies } = self;
        vec![kinds, ids, revisions, created, projects, owners, bodies]
    }
}

#[derive(Default)]
struct LogColumns<'a> {
    positions: Vec<i64>,
    kinds: Vec<&'a str>,
    ids: Vec<&'a str>,
    priors: Vec<Option<i64>>,
    created: Vec<i64>,
    projects: Vec<Option<&'a str>>,
    owners: Vec<Option<&'a str>>,
    bodies: Vec<Option<&'a str>>,
}

impl<'a> LogColumns<'a> {
    fn of(log: &[(i64, &'a ChangeEvent)]) -> Self {
        let mut columns = Self::default();
        for (position, event) in log {
            let (prior, created, project, owner, body) = match &event.kind {
                EventKind::Put(new) => (None, new.created, &new.project, &new.owner, Some(&*new.body)),
                EventKind::Delete(old) => {
                    (Some(number(old.revision)), old.created, &old.project, &old.owner, None)
                }
            };
            columns.positions.push(*position);
            columns.kinds.push(event.key.kind.as_str());
            columns.ids.push(&event.key.id);
            columns.priors.push(prior);
            columns.created.push(number(created));
            columns.projects.push(project.as_deref());
            columns.owners.push(owner.as_deref());
            columns.bodies.push(body);
        }
        columns
    }

    fn params(&self) -> Vec<Param<'_>> {
        let Self { positions, kinds, ids, priors, created, projects, owners, bodies } = self;
        vec![positions, kinds, ids, priors, created, projects, owners, bodies]
    }
}

#[derive(Default)]
struct LeaseColumns<'a> {
    names: Vec<&'a str>,
    holders: Vec<&'a str>,
    epochs: Vec<i64>,
    held: Vec<bool>,
    ttls: Vec<i64>,
    ends: Vec<i64>,
}

impl<'a> LeaseColumns<'a> {
    fn of(leases: &[(&'a str, &'a LeaseRow)]) -> Self {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            names: leases.iter().map(|(name, _)| *name).collect(),
            holders: leases.iter().map(|(_, row)| row.holder.as_str()).collect(),
            epochs: leases.iter().map(|(_, row)| whole(row.epoch)).collect(),
            held: leases.iter().map(|(_, row)| row.held).collect(),
            ttls: leases.iter().map(|(_, row)| whole(row.ttl.0)).collect(),
            ends: leases.iter().map(|(_, row)| whole(row.ends.0)).collect(),
        }
    }

    fn params(&self) -> Vec<Param<'_>> {
        let Self { names, holders, epochs, held, ttls, ends } = self;
        vec![names, holders, epochs, held, ttls, ends]
    }
}
