//! `store-writes`: acknowledged compare-and-swap writes a second, as the example `store_writes` of `lattice-store`
//! measures them: 100 writers at once, bodies of 2 KiB, 100,000 rows, one watcher, on a real disk.
//!
//! The reference is the database alone on the same disk with the same rows, one compare-and-swap update per
//! transaction on one connection (SQLite: WAL and `synchronous=FULL`; PostgreSQL: `fsync` and `synchronous_commit`):
//! what a store that does not batch could reach at best.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    lab::Lab,
    progress::say,
    select::Wanted,
};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use lattice_postgres_kit::{Options, Postgres};
use rusqlite::{Connection, params};
use std::{
    ffi::OsStr,
    path::Path,
    process::Stdio,
    sync::mpsc,
    time::{Duration, Instant},
};
use tokio::{process::Command, sync::oneshot};

const SECONDS: u64 = 10;
const ALONE: Duration = Duration::from_secs(5);
const ROWS: u64 = 100_000;
const SQLITE: &str = "store-writes/sqlite";
const POSTGRES: &str = "store-writes/postgres";

pub(super) struct StoreWrites;

#[async_trait]
impl Benchmark for StoreWrites {
    fn about(&self) -> &'static str {
        "acknowledged writes of the store, against its database alone"
    }

    fn figures(&self) -> &'static [Figure] {
        &[
            Figure { name: SQLITE, unit: "writes/s", target: Target::AtLeast(10_000.0) },
            Figure { name: POSTGRES, unit: "writes/s", target: Target::AtLeast(5_000.0) },
        ]
    }

    async fn measure(&self, lab: &Lab, wanted: &Wanted) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        if wanted.has(SQLITE) {
            say("SQLite alone");
            let folder = lab.folder().to_owned();
            let alone = tokio::task::spawn_blocking(move || sqlite_alone(&folder.join("alone.db"))).await??;
            outcome.compare(SQLITE, with_store(lab.folder().as_os_str()).await?, alone);
        }
        if wanted.has(POSTGRES) {
            say("PostgreSQL alone");
            // Not below the target folder, which its user may not be able to reach; and `/tmp` may be in memory.
            let options = Options { parent: Some("/var/tmp".into()), ..Options::default() };
            // It ends with the thread that started it, and the runtime's threads come and go: it gets one of its own.
            let (ready, url) = oneshot::channel();
            let (enough, done) = mpsc::channel::<()>();
            let keeper = std::thread::spawn(move || {
                let postgres = Postgres::with(&options);
                let _ = ready.send(postgres.url());
                let _ = done.recv();
            });
            let url = url.await.context("PostgreSQL did not start; why stands above")?;
            let alone = postgres_alone(&url).await?;
            outcome.compare(POSTGRES, with_store(url.as_ref()).await?, alone);
            drop(enough);
            tokio::task::spawn_blocking(move || keeper.join()).await?.ok();
        }
        Ok(outcome)
    }
}

/// What the example `store_writes` measures at a place.
async fn with_store(place: &OsStr) -> anyhow::Result<f64> {
    let manifest =
        std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(manifest).kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::inherit());
    command.args([
        "run",
        "--release",
        "--locked",
        "--quiet",
        "-p",
        "lattice-store",
        "--features",
        "postgres",
    ]);
    command.args(["--example", "store_writes", "--"]).arg(SECONDS.to_string()).arg(place);
    say("the store (its example is built first)");
    // `output` would swallow what it says on stderr, which is why it failed.
    let child = command.stdout(Stdio::piped()).spawn().context("cargo could not be started")?;
    let output = child.wait_with_output().await.context("cargo could not be waited for")?;
    if !output.status.success() {
        bail!("the example store_writes failed ({})", output.status);
    }
    let row: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("the example store_writes did not print one row")?;
    row["value"].as_f64().context("the example store_writes printed no value")
}

/// Transactions a second of one compare-and-swap update each, on one connection.
async fn postgres_alone(url: &str) -> anyhow::Result<f64> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    client
        .batch_execute(
            "create table alone (id text primary key, revision bigint not null, body text not null);
             insert into alone select lpad(n::text, 8, '0'), 0, repeat('x', 2048) from generate_series(0, 99999) n",
        )
        .await?;
    // Several statements that come at once are one transaction, and these two take part in none.
    client.batch_execute("vacuum analyze alone").await?;
    client.batch_execute("checkpoint").await?;
    let update = client
        .prepare("update alone set revision = revision + 1, body = $1 where id = $2 and revision = $3")
        .await?;
    let body = "x".repeat(2048);
    let mut revisions = vec![0_i64; ROWS as usize];
    let (begun, mut writes) = (Instant::now(), 0_u64);
    while begun.elapsed() < ALONE {
        let row = (writes * 7_919) % ROWS;
        let revision = &mut revisions[row as usize];
        let changed = client.execute(&update, &[&body, &format!("{row:08}"), &*revision]).await?;
        if changed != 1 {
            bail!("row {row} was not at revision {revision}");
        }
        *revision += 1;
        writes += 1;
    }
    let rate = writes as f64 / begun.elapsed().as_secs_f64();
    client.batch_execute("drop table alone").await?;
    drop(client);
    connection.await??;
    Ok(rate)
}

/// Transactions a second of one compare-and-swap update each.
fn sqlite_alone(path: &Path) -> anyhow::Result<f64> {
    let mut database = Connection::open(path)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute_batch(
        "create table rows (id text primary key, revision integer, body text) without rowid",
    )?;
    let body = "x".repeat(2048);
    let fill = database.transaction()?;
    for row in 0..ROWS {
        fill.execute("insert into rows values (?1, 0, ?2)", params![format!("{row:08}"), body])?;
    }
    fill.commit()?;
    // Filling is not what is measured, nor is what it left to be written.
    database.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
    let mut revisions = vec![0_i64; ROWS as usize];
    let (begun, mut writes) = (Instant::now(), 0_u64);
    while begun.elapsed() < ALONE {
        // Spread over all rows; the factor is prime to their number.
        let row = (writes * 7_919) % ROWS;
        let revision = &mut revisions[row as usize];
        let changed = database
            .prepare_cached(
                "update rows set revision = revision + 1, body = ?1 where id = ?2 and revision = ?3",
            )?
            .execute(params![body, format!("{row:08}"), *revision])?;
        if changed != 1 {
            bail!("row {row} was not at revision {revision}");
        }
        *revision += 1;
        writes += 1;
    }
    Ok(writes as f64 / begun.elapsed().as_secs_f64())
}
