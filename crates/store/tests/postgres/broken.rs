//! Connections that break at chosen moments: nothing acknowledged is lost, nothing is applied
//! twice, and whoever waits gets the true answer.

use super::{add_one, key, open_at, put};
use lattice_model::RequestId;
use lattice_postgres_kit::{At, Cut, Postgres};
use lattice_store::{ApplyError, Op, Revision, Store, StoreDump, Transaction};
use std::sync::Arc;
use tokio::task::JoinSet;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_replies_are_settled_and_lost_requests_repeated() {
    let postgres = Postgres::start();
    let cut = Cut::before(postgres.address());
    let store = open_at(postgres.url_at(cut.address())).await;
    let mut watch = store.watch(Revision::ZERO).await.unwrap();
    let mut revision = store.apply(put("a", "0")).await.unwrap().revision;
    for (n, at) in [At::AfterCommit, At::BeforeCommit, At::Begin, At::AfterCommit, At::AfterCommit]
        .into_iter()
        .enumerate()
    {
        cut.plan(&[at]);
        let body: Arc<str> = (n + 1).to_string().into();
        let op = Op::Update { key: key("a"), expected: revision, body };
        let request = RequestId::new(Uuid::new_v4());
        let applied = store.apply(Transaction::new([op.clone()]).with_request(request)).await.unwrap();
        assert_eq!(
            (applied.revision, applied.replayed),
            (revision.next(), false),
            "{at:?}: once, as if nothing was"
        );
        assert_eq!(cut.cuts(), n + 1, "the connection was broken");
        let again = store.apply(Transaction::new([op.clone()]).with_request(request)).await.unwrap();
        assert_eq!((again.revision, again.replayed), (applied.revision, true));
        let stale = store.apply(Transaction::new([op])).await;
        assert!(matches!(stale, Err(ApplyError::Conflict { .. })), "{stale:?}");
        revision = applied.revision;
    }
    // What raises a number without a compare-and-swap is done once, too.
    cut.plan(&[At::AfterCommit]);
    assert_eq!(store.raise_incarnation().await.unwrap().incarnation, 2);
    assert_eq!(store.cluster().await.unwrap().incarnation, 2);
    cut.plan(&[At::AfterCommit]);
    assert_eq!(store.compact(Revision(2)).await.unwrap(), Revision(2));
    while watch.position() < revision {
        let before = watch.position();
        assert_eq!(watch.next().await.unwrap().unwrap().revision, before.next());
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_are_counted_once_while_connections_break_all_the_time() {
    const WRITERS: u64 = 10;
    const EACH: u64 = 20;
    let postgres = Postgres::start();
    let cuts = Arc::new([Cut::before(postgres.address()), Cut::before(postgres.address())]);
    let mut servers = Vec::new();
    for cut in &*cuts {
        servers.push(open_at(postgres.url_at(cut.address())).await);
    }
    servers[0].apply(put("sum", "0")).await.unwrap();
    let moments = [At::AfterCommit, At::BeforeCommit, At::AfterCommit, At::Begin];
    cuts[0].plan(&moments.repeat(8));
    cuts[1].plan(&moments.repeat(8));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let server = Arc::clone(&servers[writer as usize % 2]);
        writers.spawn(async move {
            for _ in 0..EACH {
                add_one(&server, "sum").await;
            }
        });
    }
    // Whatever was under way at any moment, too.
    let breaking = tokio::spawn({
        let cuts = Arc::clone(&cuts);
        async move {
            for n in 0.. {
                tokio::time::sleep(std::time::Duration::from_millis(150)).await;
                cuts[n % 2].now();
            }
        }
    });
    writers.join_all().await;
    breaking.abort();
    let sum = servers[0].get(&key("sum")).await.unwrap().unwrap();
    assert_eq!(&*sum.body, (WRITERS * EACH).to_string());
    assert_eq!(
        servers[1].revision().await.unwrap(),
        Revision(1 + WRITERS * EACH),
        "each addition took one revision"
    );
    for server in servers {
        server.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_whose_reply_is_lost_is_there_once() {
    let postgres = Postgres::start();
    let cut = Cut::before(postgres.address());
    let source = open_at(postgres.url()).await;
    for n in 0..2500 {
        if n % 500 == 0 {
            let ops = (n..n + 500).map(|n| Op::Create {
                key: key(n),
                project: None,
                owner: None,
                body: "{}".into(),
            });
            source.apply(Transaction::new(ops)).await.unwrap();
        }
    }
    let dump = StoreDump::of(&*source).await.unwrap();
    source.close().await;
    for (n, at) in [At::AfterCommit, At::BeforeCommit].into_iter().enumerate() {
        let options = super::options(postgres.url_at(cut.address()), &format!("import_{n}"));
        let store = lattice_store::PostgresStore::open(&options).await.unwrap();
        cut.plan(&[at]);
        store.import(dump.clone()).await.unwrap();
        assert_eq!(cut.cuts(), n + 1);
        assert_eq!(StoreDump::of(&store).await.unwrap(), dump);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_waited_out_and_a_long_one_is_told() {
    let postgres = Postgres::start();
    let cut = Cut::before(postgres.address());
    let store = open_at(postgres.url_at(cut.address())).await;
    store.apply(put("a", "1")).await.unwrap();
    cut.refuse(true);
    let (writing, reading) = (Arc::clone(&store), Arc::clone(&store));
    let write = tokio::spawn(async move { writing.apply(put("a", "2")).await });
    let read = tokio::spawn(async move { reading.get(&key("a")).await });
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!write.is_finished() && !read.is_finished());
    cut.refuse(false);
    write.await.unwrap().unwrap();
    read.await.unwrap().unwrap().unwrap();
    // Longer than anybody waits.
    cut.refuse(true);
    let refused = store.apply(put("a", "3")).await;
    assert!(
        matches!(refused, Err(ApplyError::Store(lattice_store::StoreError::Backend { .. }))),
        "{refused:?}"
    );
    cut.refuse(false);
    assert_eq!(store.apply(put("a", "4")).await.unwrap().revision, Revision(3), "and it goes on");
    store.close().await;
}
