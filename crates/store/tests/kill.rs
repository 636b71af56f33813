//! kill -9 in the middle of writes: what was acknowledged is there, the log has no gap, and the
//! next server opens the store at once.
//!
//! The writing child is this test binary again, told by an environment variable where to write.

#![allow(clippy::unwrap_used)]

use lattice_model::RequestId;
use lattice_store::{EventKind, Key, Kind, Op, Revision, SqliteOptions, SqliteStore, Store, Transaction};
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

const STORE: &str = "LATTICE_TEST_KILLED_STORE";
const ROW: Kind = Kind::new("row");
const WRITERS: usize = 8;
const ROUNDS: usize = 6;

/// Not a test by itself: what the parent kills.
#[test]
#[ignore = "run by acknowledged_writes_survive_kill"]
fn child() {
    let Some(path) = env::var_os(STORE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(path, SqliteOptions::default()).unwrap());
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write_forever(Arc::clone(&store), writer)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

async fn write_forever(store: Arc<dyn Store>, writer: usize) {
    let key = Key::new(ROW, writer.to_string());
    loop {
        let row = store.get(&key).await.unwrap();
        let count = row.as_ref().map_or(0, |row| row.body.trim_end().parse::<u64>().unwrap()) + 1;
        // Sizes that differ, so that kills meet pages in all states.
        let body: Arc<str> = format!("{count}{}", " ".repeat(count as usize * 37 % 3000)).into();
        let own = match row {
            Some(row) => Op::Update { key: key.clone(), expected: row.revision, body },
            None => Op::Create { key: key.clone(), project: None, owner: None, body },
        };
        let twin = Key::new(ROW, format!("{writer}-twin"));
        let twin = Op::Put { key: twin, project: None, owner: None, body: count.to_string().into() };
        let request = RequestId::from_random(request(writer, count));
        let applied = store.apply(Transaction::new([own, twin]).with_request(request)).await.unwrap();
        // One write call, so that a line is whole or not there; past libtest's capture.
        let line = format!("ACK {writer} {count} {}\n", applied.revision);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

fn request(writer: usize, count: u64) -> u128 {
    ((writer as u128) << 64) | u128::from(count)
}

#[test]
fn acknowledged_writes_survive_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        let before = acknowledged.len();
        kill_after(&path, 150 + 61 * round, &mut acknowledged);
        assert!(acknowledged.len() > before);
        runtime.block_on(check(&path, &acknowledged));
    }
}

/// Runs the child until it has acknowledged `writes`, kills it, and adds what it acknowledged.
fn kill_after(path: &Path, writes: usize, acknowledged: &mut BTreeMap<Revision, (usize, u64)>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // A line without its end was not written to the end.
        if line.ends_with('\n')
            && let Some(at) = line.find("ACK ")
        {
            let fields: Vec<u64> =
                line[at + 4..].split_whitespace().map(|field| field.parse().unwrap()).collect();
            acknowledged.insert(Revision(fields[2]), (fields[0] as usize, fields[1]));
            seen += 1;
            if seen == writes {
                // SIGKILL; what is still in the pipe was acknowledged, too, and is read on.
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(seen >= writes, "the child ended by itself after {seen} writes");
}

async fn check(path: &Path, acknowledged: &BTreeMap<Revision, (usize, u64)>) {
    let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
    let listing = store.list_all().await.unwrap();
    let mut rows = BTreeMap::new();
    let mut watch = store.watch(Revision::ZERO).await.unwrap();
    while watch.position() < listing.revision {
        let before = watch.position();
        let change = watch.next().await.unwrap().unwrap();
        assert_eq!(change.revision, before.next(), "the log has no gap");
        assert_eq!(change.events.len(), 2, "a transaction is there whole");
        for event in &change.events {
            let EventKind::Put(record) = &event.kind else { panic!("{event:?}") };
            rows.insert(event.key.clone(), Arc::clone(record));
        }
        if let Some((writer, count)) = acknowledged.get(&change.revision) {
            let EventKind::Put(record) = &change.events[0].kind else { panic!("{change:?}") };
            let found = (&*record.key.id, record.body.trim_end());
            assert_eq!(found, (&*writer.to_string(), &*count.to_string()), "as acknowledged");
            let request = RequestId::from_random(request(*writer, *count));
            assert_eq!(
                store.settled(request).await.unwrap().map(|applied| applied.revision),
                Some(change.revision)
            );
        }
    }
    let newest = acknowledged.keys().last().copied().unwrap_or_default();
    assert!(
        listing.revision >= newest,
        "{newest} was acknowledged, and the store is at {}",
        listing.revision
    );
    assert_eq!(rows.into_values().collect::<Vec<_>>(), listing.records, "the log makes the rows");
    store.close().await;
}
