//! The schema and its migrations: only forward, all of them in one transaction, one server at a
//! time.
//!
//! To change the schema, append to [`MIGRATIONS`]; never edit an entry that was released. A server
//! of the old version that still runs sees the new number in its next batch, and stops.

use super::{
    options::{PostgresError, Target},
    session::Session,
};
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

/// Entry `n` leads from version `n` to `n + 1`.
const MIGRATIONS: &[&str] = &[
    "
    -- One row, which every batch locks first and holds until its commit. Room for its versions on
    -- one page, since each batch makes one.
    CREATE TABLE meta (
        one boolean PRIMARY KEY CHECK (one),
        schema bigint NOT NULL,
        cluster_id uuid NOT NULL,
        incarnation bigint NOT NULL,
        revision bigint NOT NULL,
        compacted bigint NOT NULL,
        -- How many request ids were ever kept.
        requests bigint NOT NULL
    ) WITH (fillfactor = 10);
    -- Texts are compared as bytes, like everywhere else in Lattice.
    CREATE TABLE records (
        kind text COLLATE \"C\" NOT NULL,
        id text COLLATE \"C\" NOT NULL,
        revision bigint NOT NULL,
        created bigint NOT NULL,
        project text COLLATE \"C\",
        owner text COLLATE \"C\",
        body text NOT NULL,
        PRIMARY KEY (kind, id)
    ) WITH (fillfactor = 80);
    CREATE INDEX records_project ON records (kind, project, id) WHERE project IS NOT NULL;
    -- position = revision * 1024 + number of the event in it: the log is only appended to.
    -- A deletion has no body, and says in `prior` at which revision the row was.
    CREATE TABLE log (
        position bigint PRIMARY KEY,
        kind text COLLATE \"C\" NOT NULL,
        id text COLLATE \"C\" NOT NULL,
        prior bigint,
        created bigint NOT NULL,
        project text COLLATE \"C\",
        owner text COLLATE \"C\",
        body text
    );
    CREATE TABLE requests (
        number bigint PRIMARY KEY,
        id uuid NOT NULL UNIQUE,
        revision bigint NOT NULL,
        at bigint NOT NULL
    );
    -- `ends` and `at` in milliseconds since 1970 by this database's clock.
    CREATE TABLE leases (
        name text COLLATE \"C\" PRIMARY KEY,
        holder text NOT NULL,
        epoch bigint NOT NULL,
        held boolean NOT NULL,
        ttl bigint NOT NULL,
        ends bigint NOT NULL
    ) WITH (fillfactor = 50);
    -- The number of the last batch of each server, by which a lost reply is settled.
    CREATE TABLE writers (
        id uuid PRIMARY KEY,
        batch bigint NOT NULL,
        seen bigint NOT NULL
    ) WITH (fillfactor = 50);
",
    "
    -- Pages in the order of creation. An update changes none of it.
    CREATE INDEX records_created ON records (kind, created, id);
",
];

/// The schema version that this program writes.
pub const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// Milliseconds since 1970, by the database's clock at the moment of asking.
pub(super) const NOW: &str = "(extract(epoch from clock_timestamp()) * 1000)::bigint";

/// A server that has not been seen for so long, in milliseconds, does not come back under its id.
const FORGET_WRITER: i64 = 30 * 24 * 3600 * 1000;

/// Refuses what is not a store or is newer than this program, before anything is changed; makes or
/// migrates it; and writes down this server as `writer`.
///
/// Without `make`, a store that is not there is an error.
pub(super) async fn prepare(
    client: &mut Client,
    target: &Target,
    writer: Uuid,
    make: bool,
) -> Result<(), PostgresError> {
    prepare_with(client, target, writer, make, MIGRATIONS).await
}

async fn prepare_with(
    client: &mut Client,
    target: &Target,
    writer: Uuid,
    make: bool,
    migrations: &[&str],
) -> Result<(), PostgresError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    let database = |error: tokio_postgres::Error| PostgresError::Database {
        store: target.name.clone(),
        source: Box::new(error),
    };
    let show = client.query_one("SELECT current_setting('server_encoding'), current_setting('fsync')", &[]);
    let show = show.await.map_err(database)?;
    let (encoding, fsync): (String, String) = (show.get(0), show.get(1));
    if encoding != "UTF8" {
        let problem = format!("the encoding {encoding}, which cannot hold every text");
        return Err(PostgresError::Unfit { store: target.name.clone(), problem });
    }
    if fsync != "on" {
        tracing::warn!(
            store = target.name,
            "the database has fsync off: a power cut can lose what was acknowledged"
        );
    }
    let schema = &target.schema;
    let transaction = client.transaction().await.map_err(database)?;
    // One number for all schemas of a database: two migrations at once are rare, and waiting is cheap.
    transaction.execute("SELECT pg_advisory_xact_lock(1280136276)", &[]).await.map_err(database)?;
    let sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), \
        (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1), \
        EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'cluster_id' \
            WHERE n.nspname = $1 AND c.relname = 'meta')";
    let found = transaction.query_one(sql, &[schema]).await.map_err(database)?;
    let (exists, relations, ours): (bool, i64, bool) = (found.get(0), found.get(1), found.get(2));
    if relations > 0 && !ours {
        return Err(PostgresError::NotAStore { store: target.name.clone(), schema: schema.clone() });
    }
    if !ours && !make {
        return Err(PostgresError::Missing { store: target.name.clone(), schema: schema.clone() });
    }
    if !exists {
        // The name was checked to need no quotes but these.
        transaction.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await.map_err(database)?;
    }
    let version = match ours {
        true => {
            let row = transaction.query_one("SELECT schema FROM meta", &[]).await.map_err(database)?;
            u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX)
        }
        false => 0,
    };
    if version > known {
        return Err(PostgresError::NewerSchema { store: target.name.clone(), found: version, known });
    }
    if 0 < version && version < known {
        let copy = copy(&transaction, schema, version).await.map_err(database)?;
        tracing::info!(store = target.name, copy, "the store was copied beside itself before its migration");
    }
    for (number, sql) in (1..).zip(migrations).skip(version as usize) {
        transaction.batch_execute(sql).await.map_err(database)?;
        tracing::info!(version = number, store = target.name, "schema of the store migrated");
    }
    if version == 0 {
        let sql = "INSERT INTO meta (one, schema, cluster_id, incarnation, revision, compacted, requests) \
            VALUES (true, $1, $2, 1, 0, 0, 0)";
        let row: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[&i64::from(known), &Uuid::new_v4()];
        transaction.execute(sql, row).await.map_err(database)?;
    } else if version < known {
        let sql = "UPDATE meta SET schema = $1";
        transaction.execute(sql, &[&i64::from(known)]).await.map_err(database)?;
    }
    let sql = format!("DELETE FROM writers WHERE seen < {NOW} - $1");
    transaction.execute(&sql, &[&FORGET_WRITER]).await.map_err(database)?;
    let sql = format!("INSERT INTO writers (id, batch, seen) VALUES ($1, 0, {NOW})");
    transaction.execute(&sql, &[&writer]).await.map_err(database)?;
    transaction.commit().await.map_err(database)
}

/// Says that this server is gone for good.
pub(super) async fn forget(session: &Session, writer: Uuid) {
    if let Err(error) = session.client.execute("DELETE FROM writers WHERE id = $1", &[&writer]).await {
        tracing::debug!(%error, "the row of this server stays in the store, and is swept later");
    }
}

/// Copies every table with its indexes into a schema of its own in the same database, part of the transaction that
/// migrates; gives its name. Going back is giving it the store's name.
async fn copy(
    transaction: &Transaction<'_>,
    schema: &str,
    version: u32,
) -> Result<String, tokio_postgres::Error> {
    // However long it takes: it happens once.
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await?;
    let at: i64 = transaction.query_one(&format!("SELECT {NOW}"), &[]).await?.get(0);
    // Longer names than this are cut by the database, so what makes it the only one stands first.
    let copy: String = format!("v{version}_{at}_{schema}").chars().take(60).collect();
    transaction.batch_execute(&format!("CREATE SCHEMA \"{copy}\"")).await?;
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1";
    for row in transaction.query(tables, &[&schema]).await? {
        let table: String = row.get(0);
        let sql = format!(
            "CREATE TABLE \"{copy}\".\"{table}\" (LIKE \"{schema}\".\"{table}\" INCLUDING ALL); \
             INSERT INTO \"{copy}\".\"{table}\" SELECT * FROM \"{schema}\".\"{table}\""
        );
        transaction.batch_execute(&sql).await?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{Key, Kind, Op, PostgresOptions, PostgresStore, Store as _, Transaction, postgres::session};
    use lattice_postgres_kit::Postgres;

    #[tokio::test]
    async fn what_is_migrated_is_copied_before_and_one_can_go_back() {
        let postgres = Postgres::start();
        let options = PostgresOptions::new(postgres.url());
        let key = Key::new(Kind::new("row"), "one");
        let put = Op::Put { key: key.clone(), project: None, owner: None, body: "1".into() };
        let store = PostgresStore::open(&options).await.unwrap();
        store.apply(Transaction::new([put])).await.unwrap();
        drop(store);

        let target = options.resolve().unwrap();
        let mut client = session::first(&target).await.unwrap();
        let mut newer = MIGRATIONS.to_vec();
        newer.push("ALTER TABLE records RENAME COLUMN body TO text");
        let broken: Vec<_> = newer.iter().copied().chain(["nonsense"]).collect();
        let copies = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'v%\\_lattice'";
        prepare_with(&mut client, &target, Uuid::new_v4(), false, &broken).await.unwrap_err();
        assert!(client.query(copies, &[]).await.unwrap().is_empty(), "all of it or nothing");
        prepare_with(&mut client, &target, Uuid::new_v4(), false, &newer).await.unwrap();
        let found = client.query(copies, &[]).await.unwrap();
        assert_eq!(found.len(), 1);
        let copy: String = found[0].get(0);
        assert!(PostgresStore::open(&options).await.is_err(), "this program does not know the new schema");

        let back = format!("DROP SCHEMA lattice CASCADE; ALTER SCHEMA \"{copy}\" RENAME TO lattice");
        client.batch_execute(&back).await.unwrap();
        let store = PostgresStore::open(&options).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().unwrap().body.as_ref(), "1");
        let put = Op::Put { key, project: None, owner: None, body: "2".into() };
        store.apply(Transaction::new([put])).await.unwrap();
    }
}
