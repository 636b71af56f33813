//! Reading: each read is one snapshot on a connection of its own, beside the writer.

use super::{schema, store_error};
use crate::{
    Applied, Change, ChangeEvent, ChangeLog, ClusterMeta, EventKind, Key, Kind, Listing, Page, Prior, Record,
    Revision, StoreError, WatchError,
};
use lattice_model::{ClusterId, RequestId};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, Transaction, types};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// The most reading connections, and so the most reads at once; others wait.
const READERS: u32 = 4;
/// A page of the change log ends when it has this many bytes.
const PAGE_BYTES: usize = 4 << 20;

/// A pool of reading connections.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

/// A revision as SQLite's integer; 2^53 transactions take longer than any cluster lives.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// The position of the first event of a revision in the log.
pub(super) fn position(revision: Revision) -> i64 {
    number(revision).saturating_mul(crate::MAX_OPS as i64)
}

pub(super) fn revision(row: &Row<'_>, at: usize) -> rusqlite::Result<Revision> {
    row.get::<_, i64>(at).map(|number| Revision(number.unsigned_abs()))
}

pub(super) fn text(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Arc<str>>> {
    Ok(row.get_ref(at)?.as_str_or_null()?.map(Arc::from))
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), permits: Arc::new(Semaphore::new(READERS as usize)) }
    }

    async fn read<T, F>(self: &Arc<Self>, doing: &'static str, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let readers = Arc::clone(self);
        let work = move || {
            let _permit = permit;
            let idle = readers.idle.lock().pop();
            let mut connection = idle.map_or_else(|| readers.connect(), Ok)?;
            let transaction = connection.transaction()?;
            let found = f(&transaction)?;
            transaction.finish()?;
            // Only when all went well: a connection that failed is not used again.
            readers.idle.lock().push(connection);
            Ok(found)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(found) => found.map_err(|error| store_error(doing, error)),
            Err(error) => Err(StoreError::Backend { doing, source: Arc::new(error) }),
        }
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "cache_size", -2 * 1024)?;
        Ok(connection)
    }

    /// Refuses new reads, waits for those under way, and closes the connections.
    pub(super) async fn close(&self) {
        let all = self.permits.acquire_many(READERS).await;
        self.permits.close();
        drop(all);
        self.idle.lock().clear();
    }

    pub(super) async fn get(self: &Arc<Self>, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        let key = key.clone();
        self.read("reading a row", move |t| {
            const SQL: &str = "SELECT kind, id, revision, created, project, owner, body FROM records \
                WHERE kind = ?1 AND id = ?2";
            t.prepare_cached(SQL)?.query_row((key.kind.as_str(), &*key.id), record).optional()
        })
        .await
    }

    pub(super) async fn list(
        self: &Arc<Self>,
        kind: Option<Kind>,
        project: Option<&str>,
    ) -> Result<Listing, StoreError> {
        const ALL: &str =
            "SELECT kind, id, revision, created, project, owner, body FROM records ORDER BY kind, id";
        const KIND: &str = "SELECT kind, id, revision, created, project, owner, body FROM records \
            WHERE kind = ?1 ORDER BY id";
        const PROJECT: &str = "SELECT kind, id, revision, created, project, owner, body FROM records \
            WHERE kind = ?1 AND project = ?2 ORDER BY id";
        let project = project.map(str::to_owned);
        self.read("listing rows", move |t| {
            let revision = head(t)?.0;
            let records = match (kind, project) {
                (Some(kind), Some(project)) => {
                    let mut statement = t.prepare_cached(PROJECT)?;
                    statement.query_map((kind.as_str(), project), record)?.collect::<Result<_, _>>()?
                }
                (Some(kind), None) => {
                    let mut statement = t.prepare_cached(KIND)?;
                    statement.query_map([kind.as_str()], record)?.collect::<Result<_, _>>()?
                }
                (None, _) => t.prepare_cached(ALL)?.query_map([], record)?.collect::<Result<_, _>>()?,
            };
            Ok(Listing { revision, records })
        })
        .await
    }

    pub(super) async fn page(
        self: &Arc<Self>,
        kind: Kind,
        page: Page,
        limit: usize,
    ) -> Result<Listing, StoreError> {
        const AFTER: &str = "SELECT kind, id, revision, created, project, owner, body FROM records \
            WHERE kind = ?1 AND created > ?2 ORDER BY created, id LIMIT ?3";
        const BEFORE: &str = "SELECT kind, id, revision, created, project, owner, body FROM records \
            WHERE kind = ?1 AND created < ?2 ORDER BY created DESC, id DESC LIMIT ?3";
        const LAST: &str = "SELECT kind, id, revision, created, project, owner, body FROM records \
            WHERE kind = ?1 ORDER BY created DESC, id DESC LIMIT ?2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read("listing a page of rows", move |t| {
            let revision = head(t)?.0;
            let kind = kind.as_str();
            let records = match page {
                Page::After(after) => {
                    let mut statement = t.prepare_cached(AFTER)?;
                    statement.query_map((kind, number(after), limit), record)?.collect::<Result<_, _>>()?
                }
                Page::Before(before) => {
                    let mut statement = t.prepare_cached(BEFORE)?;
                    let rows = statement.query_map((kind, number(before), limit), record)?;
                    let mut records: Vec<_> = rows.collect::<Result<_, _>>()?;
                    records.reverse();
                    records
                }
                Page::Last => {
                    let mut statement = t.prepare_cached(LAST)?;
                    let rows = statement.query_map((kind, limit), record)?;
                    let mut records: Vec<_> = rows.collect::<Result<_, _>>()?;
                    records.reverse();
                    records
                }
            };
            Ok(Listing { revision, records })
        })
        .await
    }

    /// The newest revision, and the oldest to watch from.
    pub(super) async fn head(self: &Arc<Self>) -> Result<(Revision, Revision), StoreError> {
        self.read("reading the revision", head).await
    }

    pub(super) async fn settled(self: &Arc<Self>, request: RequestId) -> Result<Option<Applied>, StoreError> {
        self.read("looking for a request", move |t| kept(t, request)).await
    }

    pub(super) async fn cluster(self: &Arc<Self>) -> Result<ClusterMeta, StoreError> {
        self.read("reading the cluster's identity", cluster).await
    }
}

#[async_trait::async_trait]
impl ChangeLog for Arc<Readers> {
    async fn read_after(&self, after: Revision, limit: usize) -> Result<Vec<Arc<Change>>, WatchError> {
        let page = move |t: &Transaction<'_>| {
            let oldest = head(t)?.1;
            if after < oldest {
                return Ok(Err(oldest));
            }
            changes(t, after, limit).map(Ok)
        };
        let found = self.read("reading the change log", page).await?;
        found.map_err(|oldest| WatchError::TooOld { from: after, oldest })
    }
}

/// The newest revision, and the oldest to watch from.
pub(super) fn head(connection: &Transaction<'_>) -> rusqlite::Result<(Revision, Revision)> {
    let mut statement = connection.prepare_cached("SELECT revision, compacted FROM meta")?;
    statement.query_row([], |row| Ok((revision(row, 0)?, revision(row, 1)?)))
}

pub(super) fn cluster(connection: &Transaction<'_>) -> rusqlite::Result<ClusterMeta> {
    let mut statement = connection.prepare_cached("SELECT cluster_id, incarnation FROM meta")?;
    statement.query_row([], |row| {
        let cluster_id = row.get_ref(0)?.as_str()?.parse::<ClusterId>().map_err(|error| odd(0, error))?;
        let incarnation = row.get::<_, i64>(1)?.unsigned_abs();
        Ok(ClusterMeta { cluster_id, incarnation, schema: schema::SCHEMA })
    })
}

pub(super) fn kept(connection: &Connection, request: RequestId) -> rusqlite::Result<Option<Applied>> {
    let mut statement = connection.prepare_cached("SELECT revision FROM requests WHERE id = ?1")?;
    let found = statement.query_row([request.uuid().as_bytes()], |row| revision(row, 0)).optional()?;
    Ok(found.map(|revision| Applied { revision, replayed: true }))
}

fn changes(
    connection: &Transaction<'_>,
    after: Revision,
    limit: usize,
) -> rusqlite::Result<Vec<Arc<Change>>> {
    const SQL: &str = "SELECT position, kind, id, prior, created, project, owner, body FROM log \
        WHERE position >= ?1 ORDER BY position";
    let mut statement = connection.prepare_cached(SQL)?;
    let mut rows = statement.query([position(after.next())])?;
    let mut page: Vec<Change> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let at = Revision((row.get::<_, i64>(0)? / crate::MAX_OPS as i64).unsigned_abs());
        if page.last().is_none_or(|change| change.revision != at) {
            if page.len() == limit || bytes > PAGE_BYTES {
                break;
            }
            page.push(Change { revision: at, events: Vec::new() });
        }
        let event = event(row, at)?;
        if let EventKind::Put(record) = &event.kind {
            bytes += record.body.len();
        }
        if let Some(change) = page.last_mut() {
            change.events.push(event);
        }
    }
    Ok(page.into_iter().map(Arc::new).collect())
}

fn event(row: &Row<'_>, at: Revision) -> rusqlite::Result<ChangeEvent> {
    let key = key(row, 1)?;
    let (created, project, owner) = (revision(row, 4)?, text(row, 5)?, text(row, 6)?);
    let kind = match text(row, 7)? {
        Some(body) => {
            EventKind::Put(Arc::new(Record { key: key.clone(), revision: at, created, project, owner, body }))
        }
        None => EventKind::Delete(Prior { revision: revision(row, 3)?, created, project, owner }),
    };
    Ok(ChangeEvent { key, kind })
}

fn record(row: &Row<'_>) -> rusqlite::Result<Arc<Record>> {
    Ok(Arc::new(Record {
        key: key(row, 0)?,
        revision: revision(row, 2)?,
        created: revision(row, 3)?,
        project: text(row, 4)?,
        owner: text(row, 5)?,
        body: row.get_ref(6)?.as_str()?.into(),
    }))
}

fn key(row: &Row<'_>, at: usize) -> rusqlite::Result<Key> {
    let kind = row.get_ref(at)?.as_str()?.parse().map_err(|error| odd(at, error))?;
    Ok(Key::new(kind, row.get_ref(at + 1)?.as_str()?))
}

/// A value that this crate never wrote.
fn odd(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, types::Type::Text, Box::new(error))
}
