//! Watch and compaction.

use super::{Subject, apply, create, delete, done, put, thing, update};
use crate::{Change, EventKind, Key, Record, Revision, Store, StoreError, WatchError, WatchStream};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::timeout};

type Rows = BTreeMap<Key, Arc<Record>>;

/// Far more than any change takes to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

async fn next(watch: &mut WatchStream) -> Result<Arc<Change>, WatchError> {
    timeout(PATIENCE, watch.next()).await.expect("a change in time").expect("the watch goes on")
}

/// Reads up to `to` and holds each change against the last; gives the rows that they make.
async fn replay(watch: &mut WatchStream, mut rows: Rows, to: Revision) -> Rows {
    while watch.position() < to {
        let before = watch.position();
        let change = next(watch).await.unwrap();
        assert_eq!(change.revision, before.next(), "in order, without a gap");
        assert!(!change.events.is_empty());
        for event in &change.events {
            let old = rows.get(&event.key).map(|row| (row.revision, row.created));
            match &event.kind {
                EventKind::Put(record) => {
                    assert_eq!((record.revision, &record.key), (change.revision, &event.key));
                    assert_eq!(record.created, old.map_or(change.revision, |(_, created)| created));
                    rows.insert(event.key.clone(), Arc::clone(record));
                }
                EventKind::Delete(prior) => {
                    assert_eq!(Some((prior.revision, prior.created)), old);
                    rows.remove(&event.key);
                }
            }
        }
    }
    rows
}

fn indexed(records: Vec<Arc<Record>>) -> Rows {
    records.into_iter().map(|row| (row.key.clone(), row)).collect()
}

/// Eight tasks that write `each` transactions to keys that they share.
fn busy(store: &Arc<dyn Store>, each: usize) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for task in 0..8_usize {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for n in 0..each {
                let (one, two) = (format!("{}", (task + n) % 7), format!("own-{task}"));
                let ops = match n % 3 {
                    0 => vec![put(&one, &n.to_string()), put(&two, "1")],
                    1 => vec![delete(&one, None), put(&two, "2")],
                    _ => vec![put(&two, "3")],
                };
                // Refused ones in between, which must leave no trace.
                assert!(
                    apply(&store, [put(&one, "never"), update("missing", Revision(1), "1")]).await.is_err()
                );
                done(&store, ops).await;
            }
        });
    }
    tasks
}

/// Watchers see every transaction of concurrent writers once, in order, and the rows come out the same.
pub async fn changes_come_in_order_without_a_gap(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut one = store.watch(Revision::ZERO).await.unwrap();
    let mut two = store.watch(Revision::ZERO).await.unwrap();
    let writers = busy(&store, 40);
    let first = tokio::spawn(async move { replay(&mut one, Rows::new(), Revision(320)).await });
    writers.join_all().await;
    let listing = store.list_all().await.unwrap();
    assert_eq!(listing.revision, Revision(320));
    let rows = indexed(listing.records);
    assert_eq!(first.await.unwrap(), rows);
    assert_eq!(replay(&mut two, Rows::new(), Revision(320)).await, rows);
    store.close().await;
}

/// What was listed in the middle of writes, and then watched from there, is what is there in the end.
pub async fn a_listing_and_its_watch_miss_nothing(subject: &dyn Subject) {
    let store = subject.open().await;
    let writers = busy(&store, 30);
    let mut replays = Vec::new();
    for _ in 0..10 {
        let listing = store.list_all().await.unwrap();
        let mut watch = store.watch(listing.revision).await.unwrap();
        let rows = indexed(listing.records);
        replays.push(tokio::spawn(async move { replay(&mut watch, rows, Revision(240)).await }));
    }
    writers.join_all().await;
    let rows = indexed(store.list_all().await.unwrap().records);
    for replayed in replays {
        assert_eq!(replayed.await.unwrap(), rows);
    }
    store.close().await;
}

/// A watch from any revision, before and after the store was opened again, gives what came after it.
pub async fn watches_resume_anywhere(subject: &dyn Subject) {
    let store = subject.open().await;
    busy(&store, 5).join_all().await;
    let head = Revision(40);
    let mut live = store.watch(Revision::ZERO).await.unwrap();
    let mut all = Vec::new();
    while live.position() < head {
        all.push(next(&mut live).await.unwrap());
    }
    store.close().await;
    let store = subject.open().await;
    for from in 0..=40 {
        let mut watch = store.watch(Revision(from)).await.unwrap();
        for expected in &all[from as usize..] {
            assert_eq!(&next(&mut watch).await.unwrap(), expected, "the log keeps all that was shown live");
        }
    }
    let mut watch = store.watch(head).await.unwrap();
    let at = done(&store, [put("new", "1")]).await;
    assert_eq!(next(&mut watch).await.unwrap().revision, at, "and goes on with what is new");
    let ahead = store.watch(Revision(99)).await;
    assert!(
        matches!(ahead, Err(WatchError::Ahead { from: Revision(99), head: Revision(41) })),
        "a watcher of a restored store must hear of it: {ahead:?}"
    );
    store.close().await;
}

/// Each event has the whole row, or what the row was, and they come in the order of the operations.
pub async fn changes_say_what_happened(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut watch = store.watch(Revision::ZERO).await.unwrap();
    let one = done(&store, [create("b", "1"), create("a", "1")]).await;
    let two = done(&store, [update("a", one, "2"), delete("absent", None), delete("b", Some(one))]).await;
    let change = next(&mut watch).await.unwrap();
    let ids: Vec<_> = change.events.iter().map(|event| &*event.key.id).collect();
    assert_eq!(ids, ["b", "a"]);
    let change = next(&mut watch).await.unwrap();
    assert_eq!((change.revision, change.events.len()), (two, 2), "what changed nothing is no event");
    let EventKind::Put(row) = &change.events[0].kind else { panic!("{change:?}") };
    assert_eq!(**row, *store.get(&thing("a")).await.unwrap().unwrap());
    let EventKind::Delete(prior) = &change.events[1].kind else { panic!("{change:?}") };
    assert_eq!((prior.revision, prior.created), (one, one));
    assert_eq!((prior.project.as_deref(), prior.owner.as_deref()), (Some("shop"), Some("ada")));
    store.close().await;
}

/// What was compacted cannot be watched any more; rows and later changes stay.
pub async fn compaction_ends_old_watches(subject: &dyn Subject) {
    let store = subject.open().await;
    for n in 0..1200 {
        // Many at a time, or it takes long on a slow disk.
        if n % 100 == 0 {
            let many = (n..n + 100).map(|n| {
                let store = Arc::clone(&store);
                async move { done(&store, [put(&format!("{}", n % 9), &n.to_string())]).await }
            });
            many.collect::<JoinSet<_>>().join_all().await;
        }
    }
    let rows = store.list_all().await.unwrap();
    assert_eq!(store.compact(Revision(1100)).await.unwrap(), Revision(1100));
    assert_eq!(store.compact(Revision(10)).await.unwrap(), Revision(1100), "compaction does not go back");
    for from in [0, 1, 1099] {
        let refused = store.watch(Revision(from)).await;
        assert!(
            matches!(refused, Err(WatchError::TooOld { oldest: Revision(1100), .. })),
            "from {from}: {refused:?}"
        );
    }
    let mut watch = store.watch(Revision(1100)).await.unwrap();
    while watch.position() < rows.revision {
        let before = watch.position();
        assert_eq!(next(&mut watch).await.unwrap().revision, before.next());
    }
    assert_eq!(store.list_all().await.unwrap().records, rows.records, "rows stay");
    assert_eq!(store.compact(Revision(u64::MAX >> 12)).await.unwrap(), Revision(1200), "only what exists");
    store.close().await;

    let store = subject.open().await;
    assert!(matches!(
        store.watch(Revision(1199)).await,
        Err(WatchError::TooOld { oldest: Revision(1200), .. })
    ));
    let mut watch = store.watch(Revision(1200)).await.unwrap();
    assert_eq!(done(&store, [put("a", "1")]).await, Revision(1201), "revisions go on from where they were");
    assert_eq!(next(&mut watch).await.unwrap().revision, Revision(1201));
    store.close().await;
}

/// A watcher that sleeps through many and large changes gets them all; one that is overtaken by
/// compaction hears it, or had them already, but never sees a gap.
pub async fn slow_watchers_lose_nothing(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut slow = store.watch(Revision::ZERO).await.unwrap();
    let mut overtaken = store.watch(Revision::ZERO).await.unwrap();
    let large = "x".repeat(900_000);
    for n in 0..24 {
        done(&store, [put(&format!("{n}"), &large)]).await;
    }
    for expected in 1..=24 {
        assert_eq!(next(&mut slow).await.unwrap().revision, Revision(expected));
    }
    store.compact(Revision(24)).await.unwrap();
    loop {
        let before = overtaken.position();
        match next(&mut overtaken).await {
            Ok(change) => assert_eq!(change.revision, before.next()),
            Err(WatchError::TooOld { from, oldest }) => {
                assert_eq!((from, oldest), (before, Revision(24)));
                assert!(overtaken.next().await.is_none(), "and that was its end");
                break;
            }
            Err(other) => panic!("{other}"),
        }
        if overtaken.position() == Revision(24) {
            break;
        }
    }
    store.close().await;
}

/// Closing ends a watch, after what was committed.
pub async fn a_watch_ends_with_its_store(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut watch = store.watch(Revision::ZERO).await.unwrap();
    done(&store, [put("a", "1")]).await;
    store.close().await;
    assert_eq!(next(&mut watch).await.unwrap().revision, Revision(1));
    assert!(matches!(next(&mut watch).await, Err(WatchError::Store(StoreError::Closed))));
    assert!(watch.next().await.is_none());
}
