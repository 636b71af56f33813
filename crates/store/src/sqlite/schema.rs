//! The schema and its migrations: only forward, each in a transaction with its version.
//!
//! To change the schema, append to [`MIGRATIONS`]; never edit an entry that was released.

use super::OpenError;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use std::path::Path;
use uuid::Uuid;

/// "LATT": marks the file as a store of Lattice.
const APPLICATION: i32 = 0x4C41_5454;

/// Entry `n` leads from version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        cluster_id TEXT NOT NULL,
        incarnation INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        compacted INTEGER NOT NULL
    ) STRICT;
    -- The body last, so that reading the rest never walks its overflow pages; a row id of its own,
    -- so that an update touches no index.
    CREATE TABLE records (
        row INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        revision INTEGER NOT NULL,
        created INTEGER NOT NULL,
        project TEXT,
        owner TEXT,
        body TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX records_key ON records (kind, id);
    CREATE INDEX records_project ON records (kind, project, id) WHERE project IS NOT NULL;
    -- position = revision * 1024 + number of the event in it: the log is only appended to.
    -- A deletion has no body, and says in `prior` at which revision the row was.
    CREATE TABLE log (
        position INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        prior INTEGER,
        created INTEGER NOT NULL,
        project TEXT,
        owner TEXT,
        body TEXT
    ) STRICT;
    CREATE TABLE requests (
        number INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        revision INTEGER NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE leases (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        held INTEGER NOT NULL,
        ttl INTEGER NOT NULL,
        ends INTEGER NOT NULL
    ) STRICT;
",
    "
    -- Pages in the order of creation. An update touches no index still.
    CREATE INDEX records_created ON records (kind, created, id);
",
];

/// The schema version that this program writes.
pub const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// Refuses what is not a store or is newer than this program, before anything is changed.
pub(super) fn inspect(connection: &Connection, path: &Path) -> Result<u32, OpenError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let read = || -> rusqlite::Result<_> {
        let tables =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok((number("application_id")?, number("user_version")?, tables))
    };
    let (application, version, tables) = match read() {
        Ok(found) => found,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(OpenError::NotAStore { path: path.to_owned() });
        }
        Err(error) => return Err(OpenError::database(path, error)),
    };
    let version = u32::try_from(version).unwrap_or(u32::MAX);
    match (application, version) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION, version) if version > SCHEMA => {
            Err(OpenError::NewerSchema { path: path.to_owned(), found: version, known: SCHEMA })
        }
        (APPLICATION, version) if version > 0 => Ok(version),
        _ => Err(OpenError::NotAStore { path: path.to_owned() }),
    }
}

/// Brings a store from version `from` to [`SCHEMA`].
pub(super) fn migrate(connection: &mut Connection, from: u32) -> rusqlite::Result<()> {
    run(connection, from, MIGRATIONS)
}

fn run(connection: &mut Connection, from: u32, migrations: &[&str]) -> rusqlite::Result<()> {
    for (version, sql) in (1..).zip(migrations).skip(from as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.commit()?;
        tracing::info!(version, "schema of the store migrated");
    }
    // By itself and not in the first migration: the id is drawn here, and SQL text is constant.
    let named = connection.query_row("SELECT 1 FROM meta", [], |_| Ok(())).optional()?;
    if named.is_none() {
        let id = Uuid::new_v4().to_string();
        connection.execute("INSERT INTO meta VALUES (1, ?1, 1, 0, 0)", [id])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_run_forward_once_each_and_whole() {
        let mut db = Connection::open_in_memory().unwrap();
        let version =
            |db: &Connection| db.pragma_query_value(None, "user_version", |r| r.get::<_, u32>(0)).unwrap();
        assert_eq!(inspect(&db, Path::new("x")).unwrap(), 0);
        migrate(&mut db, 0).unwrap();
        assert_eq!(inspect(&db, Path::new("x")).unwrap(), SCHEMA);
        let id: String = db.query_row("SELECT cluster_id FROM meta", [], |r| r.get(0)).unwrap();

        let mut more = MIGRATIONS.to_vec();
        more.extend([
            "CREATE TABLE extra (x INTEGER) STRICT",
            "CREATE TABLE broken (x INTEGER) STRICT; SELECT nonsense",
        ]);
        run(&mut db, SCHEMA, &more[..more.len() - 1]).unwrap();
        assert_eq!(version(&db), SCHEMA + 1);
        assert_eq!(id, db.query_row("SELECT cluster_id FROM meta", [], |r| r.get::<_, String>(0)).unwrap());

        assert!(run(&mut db, SCHEMA + 1, &more).is_err());
        assert_eq!(version(&db), SCHEMA + 1, "a failed migration leaves the version");
        assert!(db.prepare("SELECT * FROM broken").is_err(), "a failed migration leaves no table");
    }
}
