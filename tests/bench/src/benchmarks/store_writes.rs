//! `store-writes`: acknowledged compare-and-swap writes a second, as the example `store_writes` of `lattice-store`
//! measures them: 100 writers at once, bodies of 2 KiB, 100,000 rows, one watcher, on a real disk.
//!
//! The reference is SQLite alone on the same disk with the same rows, one compare-and-swap update per transaction,
//! WAL and `synchronous=FULL`: what a store that does not batch could reach at best.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    lab::Lab,
    progress::say,
    select::Wanted,
};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use rusqlite::{Connection, params};
use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::Command;

const SECONDS: u64 = 10;
const ALONE: Duration = Duration::from_secs(5);
const ROWS: u64 = 100_000;

pub(super) struct StoreWrites;

#[async_trait]
impl Benchmark for StoreWrites {
    fn about(&self) -> &'static str {
        "acknowledged writes of the embedded store, against SQLite alone"
    }

    fn figures(&self) -> &'static [Figure] {
        &[Figure { name: "store-writes/sqlite", unit: "writes/s", target: Target::AtLeast(10_000.0) }]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        say("SQLite alone");
        let folder = lab.folder().to_owned();
        let alone = tokio::task::spawn_blocking(move || sqlite_alone(&folder.join("alone.db"))).await??;
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
            "--example",
            "store_writes",
        ]);
        command.arg("--").arg(SECONDS.to_string()).arg(lab.folder());
        say("the store (its example is built first)");
        let output = command.stdout(Stdio::piped()).output().await.context("cargo could not be started")?;
        if !output.status.success() {
            bail!("the example store_writes failed ({})", output.status);
        }
        let row: serde_json::Value = serde_json::from_slice(&output.stdout)
            .context("the example store_writes did not print one row")?;
        let rate = row["value"].as_f64().context("the example store_writes printed no value")?;
        let mut outcome = Outcome::default();
        outcome.compare("store-writes/sqlite", rate, alone);
        Ok(outcome)
    }
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
