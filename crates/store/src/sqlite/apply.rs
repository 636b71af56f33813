//! One transaction inside a commit of the writer: first everything is judged, then written.

use super::read::{kept, number, position, revision, text};
use crate::{
    Applied, ApplyError, Change, ChangeEvent, EventKind, Key, Op, Prior, Record, Revision, Transaction,
};
use lattice_model::{RequestId, Timestamp};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _};
use std::sync::Arc;

/// The most request ids that are kept.
pub(super) const MAX_REQUESTS: i64 = 65_536;
/// How long a request id is kept at least, in milliseconds, unless there are too many.
pub(super) const REQUEST_AGE: i64 = 24 * 3600 * 1000;

struct Found {
    row: i64,
    prior: Prior,
}

/// Applies it after `head`. `Ok(Err(_))` is a refusal, before which nothing was written; the
/// change is `None` when nothing changed.
pub(super) fn apply(
    db: &Connection,
    head: Revision,
    transaction: &Transaction,
    fence: impl FnOnce(&str) -> Option<u64>,
    wall: impl FnOnce() -> Timestamp,
) -> rusqlite::Result<Result<(Applied, Option<Change>), ApplyError>> {
    let Transaction { request, guard, ops } = transaction;
    if let Some(request) = request
        && let Some(applied) = kept(db, *request)?
    {
        return Ok(Ok((applied, None)));
    }
    if let Some(guard) = guard {
        let actual = fence(&guard.lease);
        if actual != Some(guard.epoch) {
            return Ok(Err(ApplyError::Fenced { lease: guard.lease.clone(), epoch: guard.epoch, actual }));
        }
    }
    let mut rows = Vec::with_capacity(ops.len());
    let mut lookup = db.prepare_cached(
        "SELECT row, revision, created, project, owner FROM records WHERE kind = ?1 AND id = ?2",
    )?;
    for op in ops {
        let row = find(&mut lookup, op.key())?;
        if let Err(conflict) = op.judge(row.as_ref().map(|found| found.prior.revision)) {
            return Ok(Err(conflict));
        }
        rows.push(row);
    }
    let revision = head.next();
    let mut events = Vec::with_capacity(ops.len());
    for (op, row) in ops.iter().zip(rows) {
        if let Some(kind) = write(db, revision, op, row)? {
            let event = ChangeEvent { key: op.key().clone(), kind };
            log(db, position(revision) + events.len() as i64, &event)?;
            events.push(event);
        }
    }
    if events.is_empty() {
        return Ok(Ok((Applied { revision: head, replayed: false }, None)));
    }
    if let Some(request) = request {
        keep(db, *request, revision, wall())?;
    }
    Ok(Ok((Applied { revision, replayed: false }, Some(Change { revision, events }))))
}

fn find(lookup: &mut CachedStatement<'_>, key: &Key) -> rusqlite::Result<Option<Found>> {
    lookup
        .query_row((key.kind.as_str(), &*key.id), |row| {
            let prior = Prior {
                revision: revision(row, 1)?,
                created: revision(row, 2)?,
                project: text(row, 3)?,
                owner: text(row, 4)?,
            };
            Ok(Found { row: row.get(0)?, prior })
        })
        .optional()
}

fn write(
    db: &Connection,
    at: Revision,
    op: &Op,
    found: Option<Found>,
) -> rusqlite::Result<Option<EventKind>> {
    const INSERT: &str = "INSERT INTO records (kind, id, revision, created, project, owner, body) \
        VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6)";
    const BODY: &str = "UPDATE records SET revision = ?2, body = ?3 WHERE row = ?1";
    const ALL: &str = "UPDATE records SET revision = ?2, project = ?3, owner = ?4, body = ?5 WHERE row = ?1";
    let put = |key: &Key, created, project: &Option<Arc<str>>, owner: &Option<Arc<str>>, body: &Arc<str>| {
        let (key, project, owner, body) = (key.clone(), project.clone(), owner.clone(), Arc::clone(body));
        Ok(Some(EventKind::Put(Arc::new(Record { key, revision: at, created, project, owner, body }))))
    };
    match (op, found) {
        (Op::Create { key, project, owner, body } | Op::Put { key, project, owner, body }, None) => {
            let row =
                (key.kind.as_str(), &*key.id, number(at), project.as_deref(), owner.as_deref(), &**body);
            db.prepare_cached(INSERT)?.execute(row)?;
            put(key, at, project, owner, body)
        }
        (Op::Update { key, body, .. }, Some(Found { row, prior })) => {
            db.prepare_cached(BODY)?.execute((row, number(at), &**body))?;
            put(key, prior.created, &prior.project, &prior.owner, body)
        }
        (Op::Put { key, project, owner, body }, Some(Found { row, prior })) => {
            let columns = (row, number(at), project.as_deref(), owner.as_deref(), &**body);
            db.prepare_cached(ALL)?.execute(columns)?;
            put(key, prior.created, project, owner, body)
        }
        (Op::Delete { .. }, Some(Found { row, prior })) => {
            db.prepare_cached("DELETE FROM records WHERE row = ?1")?.execute([row])?;
            Ok(Some(EventKind::Delete(prior)))
        }
        // Judging refused the first two; the others change nothing.
        (Op::Create { .. }, Some(_))
        | (Op::Update { .. } | Op::Delete { .. }, None)
        | (Op::Check { .. }, _) => Ok(None),
    }
}

fn log(db: &Connection, position: i64, event: &ChangeEvent) -> rusqlite::Result<()> {
    const SQL: &str = "INSERT INTO log (position, kind, id, prior, created, project, owner, body) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (prior, created, project, owner, body) = match &event.kind {
        EventKind::Put(new) => (None, new.created, &new.project, &new.owner, Some(&*new.body)),
        EventKind::Delete(old) => (Some(number(old.revision)), old.created, &old.project, &old.owner, None),
    };
    let (kind, id) = (event.key.kind.as_str(), &*event.key.id);
    let row = (position, kind, id, prior, number(created), project.as_deref(), owner.as_deref(), body);
    db.prepare_cached(SQL)?.execute(row)?;
    Ok(())
}

fn keep(db: &Connection, request: RequestId, revision: Revision, wall: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO requests (id, revision, at) VALUES (?1, ?2, ?3)")?.execute((
        request.uuid().as_bytes(),
        number(revision),
        wall.0,
    ))?;
    let newest = db.last_insert_rowid();
    // Two go for each that comes, so that the table shrinks to its bound however it got past it.
    db.prepare_cached(
        "DELETE FROM requests WHERE number IN (SELECT number FROM requests ORDER BY number LIMIT 2) \
         AND (at < ?1 OR number <= ?2)",
    )?
    .execute((wall.0 - REQUEST_AGE, newest - MAX_REQUESTS))?;
    Ok(())
}
