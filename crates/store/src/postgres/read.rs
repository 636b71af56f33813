//! Reading: each read is one statement, and so one snapshot, on a connection of its own.

use super::{
    Fault,
    options::Target,
    schema::NOW,
    session::{Backoff, Session, answer},
};
use crate::{
    Applied, Change, ChangeEvent, ChangeLog, ClusterMeta, EventKind, Key, Kind, Lease, LeaseError, Listing,
    Page, Prior, Record, Revision, StoreError, WatchError,
    lease::{LeaseOp, LeaseRow, judge},
};
use lattice_model::{ClusterId, Duration, RequestId};
use parking_lot::Mutex;
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

/// The most reading connections, and so the most reads at once; others wait.
const READERS: u32 = 4;
/// A page of the change log ends when it has this many bytes.
const PAGE_BYTES: i64 = 4 << 20;

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The statements of a reading connection.
#[derive(Clone, Copy)]
enum Read {
    Get,
    All,
    Kind,
    Project,
    After,
    Before,
    Last,
    Head,
    Settled,
    Cluster,
    Changes,
    Lease,
}

/// In the order of [`Read`].
static SQL: LazyLock<[String; 12]> = LazyLock::new(|| {
    let columns = "r.kind, r.id, r.revision, r.created, r.project, r.owner, r.body";
    // The revision comes with each row, and alone where there is none.
    let list = |rows: &str| {
        format!(
            "SELECT {columns}, m.revision FROM meta m LEFT JOIN records r ON {rows} ORDER BY r.kind, r.id"
        )
    };
    let page = |rows: &str| {
        format!(
            "SELECT {columns}, m.revision FROM meta m \
             LEFT JOIN LATERAL (SELECT * FROM records r WHERE {rows}) r ON true ORDER BY r.created, r.id"
        )
    };
    [
        format!("SELECT {columns} FROM records r WHERE r.kind = $1 AND r.id = $2"),
        list("true"),
        list("r.kind = $1"),
        list("r.kind = $1 AND r.project = $2"),
        page("r.kind = $1 AND r.created > $2 ORDER BY r.created, r.id LIMIT $3"),
        page("r.kind = $1 AND r.created < $2 ORDER BY r.created DESC, r.id DESC LIMIT $3"),
        page("r.kind = $1 ORDER BY r.created DESC, r.id DESC LIMIT $2"),
        "SELECT revision, compacted, schema FROM meta".to_owned(),
        "SELECT revision FROM requests WHERE id = $1".to_owned(),
        "SELECT cluster_id, incarnation, schema FROM meta".to_owned(),
        // The sum counts whole transactions, since those of one revision are peers in its frame; the
        // first one comes however large it is.
        "SELECT m.compacted, l.position, l.kind, l.id, l.prior, l.created, l.project, l.owner, l.body \
         FROM meta m LEFT JOIN LATERAL ( \
            SELECT *, sum(coalesce(octet_length(body), 0)) OVER (ORDER BY position / 1024) AS bytes \
            FROM log WHERE position >= $1 AND position < $2 \
         ) l ON l.bytes <= $3 OR l.position < $1 + 1024 ORDER BY l.position"
            .to_owned(),
        format!("SELECT holder, epoch, held, ttl, ends, {NOW} FROM leases WHERE name = $1"),
    ]
});

/// A pool of reading connections.
#[derive(Debug)]
pub(super) struct Readers {
    target: Target,
    idle: Mutex<Vec<Session>>,
    permits: Arc<Semaphore>,
}

/// A revision as PostgreSQL's integer; 2^53 transactions take longer than any cluster lives.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// The position of the first event of a revision in the log.
pub(super) fn position(revision: Revision) -> i64 {
    number(revision).saturating_mul(crate::MAX_OPS as i64)
}

pub(super) fn revision(row: &Row, at: usize) -> Result<Revision, tokio_postgres::Error> {
    row.try_get::<_, i64>(at).map(|number| Revision(number.unsigned_abs()))
}

pub(super) fn text(row: &Row, at: usize) -> Result<Option<Arc<str>>, tokio_postgres::Error> {
    Ok(row.try_get::<_, Option<&str>>(at)?.map(Arc::from))
}

/// A number that was never negative.
pub(super) fn count(row: &Row, at: usize) -> Result<u64, tokio_postgres::Error> {
    row.try_get::<_, i64>(at).map(i64::unsigned_abs)
}

/// Holder, epoch, held, ttl and end, from column `at` on.
pub(super) fn lease_row(row: &Row, at: usize) -> Result<LeaseRow, tokio_postgres::Error> {
    Ok(LeaseRow {
        holder: row.try_get(at)?,
        epoch: count(row, at + 1)?,
        held: row.try_get(at + 2)?,
        ttl: Duration(count(row, at + 3)?),
        ends: Duration(count(row, at + 4)?),
    })
}

pub(super) fn key(row: &Row, at: usize) -> Result<Key, Fault> {
    let kind: &str = row.try_get(at)?;
    let kind: Kind = kind.parse().map_err(|error: crate::InvalidKind| odd(Box::new(error)))?;
    Ok(Key::new(kind, row.try_get::<_, &str>(at + 1)?))
}

/// Kind, id, revision, created, project, owner and, from [`Prior`], no body: column `at` on.
pub(super) fn prior(row: &Row, at: usize) -> Result<(Key, Prior), Fault> {
    let prior = Prior {
        revision: revision(row, at + 2)?,
        created: revision(row, at + 3)?,
        project: text(row, at + 4)?,
        owner: text(row, at + 5)?,
    };
    Ok((key(row, at)?, prior))
}

/// A value that this crate never wrote.
fn odd(error: Box<dyn std::error::Error + Send + Sync>) -> Fault {
    Fault::Final(StoreError::Backend { doing: "reading what the store holds", source: Arc::from(error) })
}

impl Readers {
    pub(super) fn new(target: Target) -> Self {
        Self { target, idle: Mutex::default(), permits: Arc::new(Semaphore::new(READERS as usize)) }
    }

    /// A statement's rows; asked again on another connection while the database cannot be reached.
    async fn query(
        &self,
        doing: &'static str,
        read: Read,
        params: Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut backoff = Backoff::new();
        loop {
            match self.once(read, params).await {
                Ok(rows) => return Ok(rows),
                Err(Fault::Lost(cause)) => {
                    // The others are most likely gone, too.
                    self.idle.lock().clear();
                    if self.permits.is_closed() || !backoff.again().await {
                        return Err(Fault::Lost(cause).into_store(doing));
                    }
                }
                Err(fault) => return Err(fault.into_store(doing)),
            }
        }
    }

    async fn once(&self, read: Read, params: Params<'_>) -> Result<Vec<Row>, Fault> {
        let permit = self.permits.acquire().await.map_err(|_| Fault::Final(StoreError::Closed))?;
        let idle = self.idle.lock().pop().filter(|session| !session.client.is_closed());
        let session = match idle {
            Some(session) => session,
            None => {
                let statements: Vec<&str> = SQL.iter().map(String::as_str).collect();
                Session::open(&self.target, &statements).await?
            }
        };
        let rows = answer(session.client.query(session.statement(read as usize), params)).await?;
        // Only when all went well: a connection that failed is not used again.
        if !self.permits.is_closed() {
            self.idle.lock().push(session);
        }
        drop(permit);
        Ok(rows)
    }

    /// No more reads; those that are under way end by themselves.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let doing = "reading a row";
        let rows = self.query(doing, Read::Get, &[&key.kind.as_str(), &&*key.id]).await?;
        rows.first().map(record).transpose().map_err(|fault| fault.into_store(doing))
    }

    pub(super) async fn list(
        &self,
        kind: Option<Kind>,
        project: Option<&str>,
    ) -> Result<Listing, StoreError> {
        let doing = "listing rows";
        let rows = match (&kind, project) {
            (None, _) => self.query(doing, Read::All, &[]).await?,
            (Some(kind), None) => self.query(doing, Read::Kind, &[&kind.as_str()]).await?,
            (Some(kind), Some(project)) => {
                self.query(doing, Read::Project, &[&kind.as_str(), &project]).await?
            }
        };
        listing(&rows).map_err(|fault| fault.into_store(doing))
    }

    pub(super) async fn page(&self, kind: Kind, page: Page, limit: usize) -> Result<Listing, StoreError> {
        let doing = "listing a page of rows";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = match page {
            Page::After(after) => {
                self.query(doing, Read::After, &[&kind.as_str(), &number(after), &limit]).await?
            }
            Page::Before(before) => {
                self.query(doing, Read::Before, &[&kind.as_str(), &number(before), &limit]).await?
            }
            Page::Last => self.query(doing, Read::Last, &[&kind.as_str(), &limit]).await?,
        };
        listing(&rows).map_err(|fault| fault.into_store(doing))
    }

    /// The newest revision, the oldest to watch from, and the schema.
    pub(super) async fn head(&self) -> Result<(Revision, Revision, u32), StoreError> {
        let doing = "reading the revision";
        let rows = self.query(doing, Read::Head, &[]).await?;
        let read = || -> Result<_, Fault> {
            let row = rows.first().ok_or_else(|| odd("there is no row in meta".into()))?;
            Ok((revision(row, 0)?, revision(row, 1)?, u32::try_from(count(row, 2)?).unwrap_or(u32::MAX)))
        };
        read().map_err(|fault| fault.into_store(doing))
    }

    pub(super) async fn settled(&self, request: RequestId) -> Result<Option<Applied>, StoreError> {
        let doing = "looking for a request";
        let id: Uuid = request.uuid();
        let rows = self.query(doing, Read::Settled, &[&id]).await?;
        let found = rows.first().map(|row| revision(row, 0)).transpose();
        let found = found.map_err(|error| Fault::of(error).into_store(doing))?;
        Ok(found.map(|revision| Applied { revision, replayed: true }))
    }

    pub(super) async fn cluster(&self) -> Result<ClusterMeta, StoreError> {
        let doing = "reading the cluster's identity";
        let rows = self.query(doing, Read::Cluster, &[]).await?;
        let read = || -> Result<_, Fault> {
            let row = rows.first().ok_or_else(|| odd("there is no row in meta".into()))?;
            Ok(ClusterMeta {
                cluster_id: ClusterId::new(row.try_get::<_, Uuid>(0)?),
                incarnation: count(row, 1)?,
                schema: u32::try_from(count(row, 2)?).unwrap_or(u32::MAX),
            })
        };
        read().map_err(|fault| fault.into_store(doing))
    }

    pub(super) async fn lease(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        let doing = "looking at a lease";
        let rows = self.query(doing, Read::Lease, &[&name]).await?;
        let read = || -> Result<_, Fault> {
            let Some(row) = rows.first() else { return Ok(None) };
            let (row, now) = (lease_row(row, 0)?, Duration(count(row, 5)?));
            let ends = row.ends.min(Duration(now.0.saturating_add(row.ttl.0)));
            Ok(Some((LeaseRow { ends, ..row }, now)))
        };
        let Some((row, now)) = read().map_err(|fault| fault.into_store(doing))? else { return Ok(None) };
        match judge(&LeaseOp::Look { name: name.to_owned() }, Some(&row), now).0 {
            Ok(lease) => Ok(lease),
            // A name that cannot be acquired is held by nobody.
            Err(LeaseError::Store(error)) => Err(error),
            Err(LeaseError::Held { .. } | LeaseError::Lost { .. } | LeaseError::Invalid { .. }) => Ok(None),
        }
    }
}

#[async_trait::async_trait]
impl ChangeLog for Readers {
    async fn read_after(&self, after: Revision, limit: usize) -> Result<Vec<Arc<Change>>, WatchError> {
        let doing = "reading the change log";
        let from = position(after.next());
        let end = from.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX).saturating_mul(1024));
        let rows = self.query(doing, Read::Changes, &[&from, &end, &PAGE_BYTES]).await?;
        let read = || -> Result<_, Fault> {
            let first = rows.first().ok_or_else(|| odd("there is no row in meta".into()))?;
            let compacted = revision(first, 0)?;
            if after < compacted {
                return Ok(Err(compacted));
            }
            let mut page: Vec<Change> = Vec::new();
            for row in &rows {
                // Alone, the bound comes with nulls.
                let Some(position) = row.try_get::<_, Option<i64>>(1)? else { break };
                let at = Revision((position / crate::MAX_OPS as i64).unsigned_abs());
                if page.last().is_none_or(|change| change.revision != at) {
                    page.push(Change { revision: at, events: Vec::new() });
                }
                let event = event(row, at)?;
                if let Some(change) = page.last_mut() {
                    change.events.push(event);
                }
            }
            Ok(Ok(page.into_iter().map(Arc::new).collect()))
        };
        let found = read().map_err(|fault| fault.into_store(doing))?;
        found.map_err(|oldest| WatchError::TooOld { from: after, oldest })
    }
}

/// The rows of a listing, each with the revision.
fn listing(rows: &[Row]) -> Result<Listing, Fault> {
    let first = rows.first().ok_or_else(|| odd("there is no row in meta".into()))?;
    let revision = revision(first, 7)?;
    // Alone, the revision comes with nulls.
    let there = |row: &&Row| !matches!(row.try_get::<_, Option<&str>>(0), Ok(None));
    Ok(Listing { revision, records: rows.iter().filter(there).map(record).collect::<Result<_, _>>()? })
}

fn event(row: &Row, at: Revision) -> Result<ChangeEvent, Fault> {
    let key = key(row, 2)?;
    let (created, project, owner) = (revision(row, 5)?, text(row, 6)?, text(row, 7)?);
    let kind = match text(row, 8)? {
        Some(body) => {
            EventKind::Put(Arc::new(Record { key: key.clone(), revision: at, created, project, owner, body }))
        }
        None => EventKind::Delete(Prior { revision: revision(row, 4)?, created, project, owner }),
    };
    Ok(ChangeEvent { key, kind })
}

fn record(row: &Row) -> Result<Arc<Record>, Fault> {
    let (key, Prior { revision, created, project, owner }) = prior(row, 0)?;
    let body = row.try_get::<_, &str>(6)?.into();
    Ok(Arc::new(Record { key, revision, created, project, owner, body }))
}
