//! Several servers on one database.

use super::{add_one, key, open, options, put};
use lattice_model::Duration;
use lattice_postgres_kit::Postgres;
use lattice_store::{
    ApplyError, Guard, LeaseError, PostgresStore, Revision, Store, StoreError, WatchError, WatchStream,
};
use std::{sync::Arc, time};
use tokio::{task::JoinSet, time::timeout};

const PATIENCE: time::Duration = time::Duration::from_secs(60);

/// What a watch gives up to a revision, with the proof that nothing is missing.
async fn seen(mut watch: WatchStream, to: Revision) -> Vec<Arc<lattice_store::Change>> {
    let mut all = Vec::new();
    while watch.position() < to {
        let before = watch.position();
        let change = timeout(PATIENCE, watch.next()).await.expect("in time").unwrap().unwrap();
        assert_eq!(change.revision, before.next(), "in order, without a gap");
        all.push(change);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_two_servers_interleave_and_both_watches_see_one_order() {
    const EACH: u64 = 30;
    let postgres = Postgres::start();
    let servers = [open(&postgres).await, open(&postgres).await];
    servers[0].apply(put("sum", "0")).await.unwrap();
    let mut watches = Vec::new();
    for server in &servers {
        watches.push(server.watch(Revision::ZERO).await.unwrap());
    }
    let mut writers = JoinSet::new();
    for writer in 0..8_usize {
        let server = Arc::clone(&servers[writer % 2]);
        writers.spawn(async move {
            for n in 0..EACH {
                let at = add_one(&server, "sum").await;
                // What this server acknowledged, it reads.
                assert!(server.revision().await.unwrap() >= at);
                server.apply(put(format!("own-{writer}"), &n.to_string())).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let total = Revision(1 + 8 * EACH * 2);
    let row = servers[1].get(&key("sum")).await.unwrap().unwrap();
    assert_eq!(&*row.body, (8 * EACH).to_string(), "no addition was lost");
    assert_eq!(servers[0].revision().await.unwrap(), total, "refused ones took no revision");
    let [one, two] = watches.try_into().unwrap();
    let (one, two) = tokio::join!(seen(one, total), seen(two, total));
    assert_eq!(one, two, "both servers show the same changes");
    // And each reads in the log what it was shown.
    let logged = seen(servers[1].watch(Revision::ZERO).await.unwrap(), total).await;
    assert_eq!(logged, one);
    for server in servers {
        server.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_one_server_fences_the_other() {
    let postgres = Postgres::start();
    let (one, two) = (open(&postgres).await, open(&postgres).await);
    let short = Duration::from_millis(1500);
    let first = one.acquire_lease("leader", "one", short).await.unwrap();
    assert!(matches!(two.acquire_lease("leader", "two", short).await, Err(LeaseError::Held { .. })));
    assert_eq!(two.lease("leader").await.unwrap().map(|lease| lease.holder).as_deref(), Some("one"));
    let guarded = |epoch| put("x", "1").with_guard(Guard { lease: "leader".to_owned(), epoch });
    one.apply(guarded(first.epoch)).await.unwrap();
    tokio::time::sleep(short.as_std()).await;
    let second = two.acquire_lease("leader", "two", Duration::from_secs(60)).await.unwrap();
    assert_eq!(second.epoch, first.epoch + 1);
    let fenced = one.apply(guarded(first.epoch)).await;
    assert!(matches!(fenced, Err(ApplyError::Fenced { actual: Some(2), .. })), "{fenced:?}");
    assert!(matches!(one.renew_lease("leader", first.epoch, short).await, Err(LeaseError::Lost { .. })));
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_compacts_ends_the_others_old_watches() {
    let postgres = Postgres::start();
    let (one, two) = (open(&postgres).await, open(&postgres).await);
    for n in 0..20 {
        one.apply(put(n, "1")).await.unwrap();
    }
    assert_eq!(one.compact(Revision(15)).await.unwrap(), Revision(15));
    let refused = two.watch(Revision(14)).await;
    assert!(matches!(refused, Err(WatchError::TooOld { oldest: Revision(15), .. })), "{refused:?}");
    assert_eq!(seen(two.watch(Revision(15)).await.unwrap(), Revision(20)).await.len(), 5);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_went_back_or_was_migrated_stops_its_servers() {
    let postgres = Postgres::start();
    let in_schema = |name: &'static str| options(postgres.url(), name);
    let failed = |result: Result<_, ApplyError>| match result {
        Err(ApplyError::Store(StoreError::Backend { source, .. })) => source.to_string(),
        other => panic!("{other:?}"),
    };
    // As after a restore, or after a replica was promoted that lacked the last commits.
    let store = PostgresStore::open(&in_schema("back")).await.unwrap();
    let mut watch = store.watch(Revision::ZERO).await.unwrap();
    store.apply(put("a", "1")).await.unwrap();
    store.apply(put("a", "2")).await.unwrap();
    postgres.sql("lattice", "UPDATE back.meta SET revision = 1; DELETE FROM back.log WHERE position >= 2048");
    let text = failed(store.apply(put("a", "3")).await);
    assert!(text.contains("--accept-older-store"), "{text}");
    let mut ended = watch.next().await;
    while let Some(Ok(_)) = ended {
        ended = timeout(PATIENCE, watch.next()).await.unwrap();
    }
    assert!(matches!(ended, Some(Err(WatchError::Store(StoreError::Backend { .. })))), "{ended:?}");
    store.close().await;
    // Others have written since, so that the revision alone would not tell.
    let store = PostgresStore::open(&in_schema("aside")).await.unwrap();
    store.apply(put("a", "1")).await.unwrap();
    postgres.sql("lattice", "UPDATE aside.meta SET revision = 9; UPDATE aside.writers SET batch = 0");
    failed(store.apply(put("a", "2")).await);
    store.close().await;

    let store = PostgresStore::open(&in_schema("newer")).await.unwrap();
    store.apply(put("a", "1")).await.unwrap();
    postgres.sql("lattice", "UPDATE newer.meta SET schema = schema + 1");
    let text = failed(store.apply(put("a", "2")).await);
    assert!(text.contains("install the newer version"), "{text}");
    store.close().await;
}
