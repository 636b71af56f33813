//! A dump into an empty file.

use super::read::{head, number};
use crate::{ImportError, Record, Revision, StoreDump};
use rusqlite::Transaction;

/// Writes it; `Ok(Err(_))` is a refusal, before which nothing was written.
pub(super) fn import(db: &Transaction<'_>, dump: &StoreDump) -> rusqlite::Result<Result<(), ImportError>> {
    const RECORD: &str = "INSERT INTO records (kind, id, revision, created, project, owner, body) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    // The schema is this file's own.
    let StoreDump { cluster, revision, records } = dump;
    let found = head(db)?.0;
    if found != Revision::ZERO {
        return Ok(Err(ImportError::NotEmpty { revision: found }));
    }
    let mut insert = db.prepare_cached(RECORD)?;
    for record in records {
        let Record { key, revision, created, project, owner, body } = &**record;
        let (kind, id) = (key.kind.as_str(), &*key.id);
        let (revision, created) = (number(*revision), number(*created));
        insert.execute((kind, id, revision, created, project.as_deref(), owner.as_deref(), &**body))?;
    }
    let incarnation = i64::try_from(cluster.incarnation).unwrap_or(i64::MAX);
    db.execute(
        "UPDATE meta SET cluster_id = ?1, incarnation = ?2, revision = ?3, compacted = ?3",
        (cluster.cluster_id.to_string(), incarnation, number(*revision)),
    )?;
    Ok(Ok(()))
}
