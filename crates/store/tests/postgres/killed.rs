//! kill -9 of PostgreSQL under load: what was acknowledged is there.

use super::{key, open};
use lattice_postgres_kit::Postgres;
use lattice_store::{ApplyError, EventKind, Op, Revision, Transaction};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const WRITERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kill_of_the_database() {
    let mut postgres = Postgres::start();
    let store = open(&postgres).await;
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, acknowledged, over) = (Arc::clone(&store), Arc::clone(&acknowledged), Arc::clone(&over));
        writers.spawn(async move {
            let mut last = None;
            let mut count = 0_u64;
            while !over.load(Ordering::SeqCst) {
                count += 1;
                let body: Arc<str> = format!("{count}{}", " ".repeat(count as usize * 37 % 3000)).into();
                let op = match last {
                    Some(expected) => Op::Update { key: key(writer), expected, body },
                    None => Op::Create { key: key(writer), project: None, owner: None, body },
                };
                // Each is applied once whatever broke meanwhile, or its expectation would fail.
                match store.apply(Transaction::new([op])).await {
                    Ok(applied) => {
                        acknowledged.lock().unwrap().insert(applied.revision, (writer, count));
                        last = Some(applied.revision);
                    }
                    Err(ApplyError::Store(error)) => panic!("the outage was short: {error:?}"),
                    Err(other) => panic!("{other}"),
                }
            }
        });
    }
    for round in 0..3 {
        let before = acknowledged.lock().unwrap().len();
        while acknowledged.lock().unwrap().len() < before + 100 + 37 * round {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(writers.try_join_next().is_none(), "a writer ended");
        }
        tokio::task::block_in_place(|| {
            postgres.kill();
            postgres.restart();
        });
    }
    let before = acknowledged.lock().unwrap().len();
    while acknowledged.lock().unwrap().len() < before + 50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    over.store(true, Ordering::SeqCst);
    writers.join_all().await;
    store.close().await;

    let store = open(&postgres).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    let listing = store.list_all().await.unwrap();
    let mut watch = store.watch(Revision::ZERO).await.unwrap();
    while watch.position() < listing.revision {
        let before = watch.position();
        let change = watch.next().await.unwrap().unwrap();
        assert_eq!(change.revision, before.next(), "the log has no gap");
        let EventKind::Put(record) = &change.events[0].kind else { panic!("{change:?}") };
        let found = (record.key.id.parse().unwrap(), record.body.trim_end().parse().unwrap());
        assert_eq!(acknowledged.get(&change.revision), Some(&found), "as acknowledged");
    }
    assert_eq!(acknowledged.len() as u64, listing.revision.0, "all that was acknowledged, and nothing else");
    store.close().await;
}
