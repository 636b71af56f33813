//! The benchmarks `store-writes/sqlite` and `store-writes/postgres`: acknowledged compare-and-swap writes a second, with 100
//! concurrent writers, 2 KiB bodies, 100,000 existing rows and one watcher, on a real disk.
//!
//! Usage: `store_writes [SECONDS [FOLDER | postgres://…]]`; the folder (default: the program's own)
//! has to be on a disk that really syncs, the database has to be empty. Prints one JSON line to
//! stdout.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use lattice_store::{
    Key, Kind, Op, PostgresOptions, PostgresStore, Revision, SqliteOptions, SqliteStore, Store, Transaction,
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

const KIND: Kind = Kind::new("bench");
const WRITERS: usize = 100;
const ROWS: usize = 100_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().map_or(Ok(10), |text| text.parse())?;
    let beside = std::env::current_exe()?.parent().map(PathBuf::from);
    let place = args.next();
    let mut folder = None;
    let (name, store): (_, Arc<dyn Store>) = match place {
        Some(url) if url.starts_with("postgres") => {
            ("store-writes/postgres", Arc::new(PostgresStore::open(&PostgresOptions::new(url)).await?))
        }
        place => {
            let parent = place.map(PathBuf::from).or(beside).ok_or("no folder to write in")?;
            let folder = folder.insert(tempfile::tempdir_in(parent)?);
            let path = folder.path().join("store.db");
            ("store-writes/sqlite", Arc::new(SqliteStore::open(path, SqliteOptions::default())?))
        }
    };

    let body: Arc<str> = format!("{{\"text\":\"{}\"}}", "x".repeat(2048 - 11)).into();
    for at in (0..ROWS).step_by(1000) {
        let create = |n| Op::Create { key: key(n), project: None, owner: None, body: Arc::clone(&body) };
        store.apply(Transaction::new((at..at + 1000).map(create))).await?;
    }
    eprintln!("{ROWS} rows are there; {WRITERS} writers for {seconds} s");

    let from = store.revision().await?;
    let mut watch = store.watch(from).await?;
    let watcher = tokio::spawn(async move {
        let mut seen = from;
        while let Some(Ok(changes)) = watch.next_batch().await {
            seen = changes.last().map_or(seen, |change| change.revision);
        }
        seen
    });

    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let writers = (0..WRITERS).map(|writer| {
        let (store, body) = (Arc::clone(&store), Arc::clone(&body));
        tokio::spawn(async move {
            let mine: Vec<usize> = (writer..ROWS).step_by(WRITERS).collect();
            let mut revisions: Vec<Revision> =
                mine.iter().map(|row| Revision((row / 1000 + 1) as u64)).collect();
            let mut slowest = Duration::ZERO;
            let mut writes = 0_u64;
            while Instant::now() < end {
                let at = rand::random_range(0..mine.len());
                let op = Op::Update { key: key(mine[at]), expected: revisions[at], body: Arc::clone(&body) };
                let asked = Instant::now();
                revisions[at] = store.apply(Transaction::new([op])).await?.revision;
                slowest = slowest.max(asked.elapsed());
                writes += 1;
            }
            Ok::<_, Failure>((writes, slowest))
        })
    });
    let mut writes = 0;
    let mut slowest = Duration::ZERO;
    for writer in writers.collect::<Vec<_>>() {
        let (count, longest) = writer.await??;
        writes += count;
        slowest = slowest.max(longest);
    }
    let rate = writes as f64 / start.elapsed().as_secs_f64();
    let head = store.revision().await?;
    store.close().await;
    let seen = watcher.await?;
    if seen != head || head.0 != from.0 + writes {
        return Err(format!(
            "{writes} writes from {from}, but the store is at {head} and the watcher at {seen}"
        )
        .into());
    }
    eprintln!("{writes} writes, the slowest {slowest:?}, all of them watched");
    println!("{{\"name\":\"{name}\",\"value\":{rate:.0},\"unit\":\"writes/s\"}}");
    Ok(())
}

fn key(row: usize) -> Key {
    Key::new(KIND, format!("{row:08}"))
}
