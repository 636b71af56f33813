//! The suite on SQLite, and what only SQLite has: lock, permissions, schema, a full disk.

use super::{OpenError, SCHEMA, SqliteOptions, SqliteStore};
use crate::{
    ApplyError, Key, Kind, Lease, LeaseError, ManualClock, Op, Revision, Store, StoreError, Transaction,
    conformance::Subject, conformance_tests,
};
use lattice_model::{Duration, Timestamp};
use rusqlite::Connection;
use std::{fs, path::PathBuf, sync::Arc};
use tempfile::TempDir;

struct Sqlite {
    folder: TempDir,
    clock: Arc<ManualClock>,
}

impl Sqlite {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::new(Timestamp(1_000_000))) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.db")
    }

    fn with(&self, max_bytes: Option<u64>) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(
            self.path(),
            SqliteOptions { clock: self.clock.clone(), max_bytes, ..SqliteOptions::default() },
        )
    }
}

#[async_trait::async_trait]
impl Subject for Sqlite {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.with(None).unwrap())
    }

    async fn pass(&self, span: Duration) {
        self.clock.pass(span);
    }
}

conformance_tests!(Sqlite::new());

fn put(id: impl ToString, body: &str) -> Transaction {
    let key = Key::new(Kind::new("thing"), id.to_string());
    Transaction::new([Op::Put { key, project: None, owner: None, body: body.into() }])
}

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_has_closed() {
    let home = Sqlite::new();
    let first = home.with(None).unwrap();
    let refused = home.with(None).unwrap_err();
    assert!(
        matches!(&refused, OpenError::InUse { process, .. } if *process == Some(std::process::id())),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("is in use by another server"), "{refused}");
    first.apply(put("a", "1")).await.unwrap();
    first.close().await;
    home.with(None).unwrap().close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let home = Sqlite::new();
    home.with(None).unwrap().close().await;
    let newer = SCHEMA + 1;
    Connection::open(home.path()).unwrap().pragma_update(None, "user_version", newer).unwrap();
    let before = fs::read(home.path()).unwrap();
    let refused = home.with(None).unwrap_err();
    assert!(
        matches!(refused, OpenError::NewerSchema { found, known: SCHEMA, .. } if found == newer),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("install the newer version"), "{refused}");
    assert_eq!(fs::read(home.path()).unwrap(), before);
}

#[tokio::test]
async fn other_files_are_refused_and_left_alone() {
    let home = Sqlite::new();
    fs::write(home.path(), "notes of somebody".repeat(100)).unwrap();
    assert!(matches!(home.with(None), Err(OpenError::NotAStore { .. })));
    fs::remove_file(home.path()).unwrap();
    Connection::open(home.path()).unwrap().execute_batch("CREATE TABLE somebodys (x)").unwrap();
    let before = fs::read(home.path()).unwrap();
    assert!(matches!(home.with(None), Err(OpenError::NotAStore { .. })));
    assert_eq!(fs::read(home.path()).unwrap(), before);
    let nowhere = SqliteStore::open(home.folder.path().join("no/store.db"), SqliteOptions::default());
    assert!(matches!(nowhere, Err(OpenError::Io { .. })));
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Sqlite::new();
    let modes = || {
        let files = fs::read_dir(home.folder.path()).unwrap().map(Result::unwrap);
        let mut found: Vec<_> = files
            .map(|file| {
                (
                    file.file_name().into_string().unwrap(),
                    file.metadata().unwrap().permissions().mode() & 0o777,
                )
            })
            .collect();
        found.sort();
        found
    };
    let names = ["store.db", "store.db-shm", "store.db-wal", "store.db.lock"];
    let expected: Vec<_> = names.map(|name| (name.to_owned(), 0o600)).into();
    let store = home.with(None).unwrap();
    store.apply(put("a", "1")).await.unwrap();
    assert_eq!(modes(), expected);
    store.close().await;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let store = home.with(None).unwrap();
    store.apply(put("a", "2")).await.unwrap();
    assert_eq!(modes(), expected);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_whole_transactions_and_ends_when_room_returns() {
    let home = Sqlite::new();
    let store = Arc::new(home.with(Some(4 << 20)).unwrap());
    let body = "x".repeat(100_000);
    // Many at once, so that what still fits is committed beside what does not.
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (store, body) = (Arc::clone(&store), body.clone());
        tasks.spawn(async move { (n, store.apply(put(n, &body)).await) });
    }
    let mut written = Vec::new();
    let mut refused = 0;
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            (n, Ok(applied)) => written.push((applied.revision, n.to_string())),
            (_, Err(ApplyError::Store(StoreError::Full))) => refused += 1,
            (_, Err(other)) => panic!("{other:?}"),
        }
    }
    written.sort();
    assert!(written.len() > 10 && refused > 10, "{} written, {refused} refused", written.len());
    let listing = store.list_all().await.unwrap();
    assert_eq!(listing.revision, Revision(written.len() as u64), "refused ones took no revision");
    let mut rows: Vec<_> = listing.records.iter().map(|row| (row.revision, row.key.id.to_string())).collect();
    rows.sort();
    assert_eq!(rows, written, "what was acknowledged is there, and nothing else");

    // Small ones in a batch with one that does not fit are written.
    let (large, small) =
        tokio::join!(store.apply(put("large", &body.repeat(10))), store.apply(put("small", "1")));
    assert!(matches!(large, Err(ApplyError::Store(StoreError::Full))), "{large:?}");
    small.unwrap();

    store.compact(Revision(u64::MAX >> 12)).await.unwrap();
    store.apply(put("again", &body)).await.unwrap();
    let mut watch = store.watch(listing.revision.next()).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, Revision(listing.revision.0 + 2));
    store.close().await;
}

#[tokio::test]
async fn leases_over_a_restart_are_bounded_however_the_wall_clock_jumped() {
    let hour = Duration::from_secs(3600);
    for (wall, left) in
        [(1_000_000, Some(60_000)), (0, Some(60_000)), (1_020_000, Some(40_000)), (9_000_000, None)]
    {
        let home = Sqlite::new();
        let store = home.with(None).unwrap();
        store.acquire_lease("leader", "x", Duration::from_secs(60)).await.unwrap();
        // While it is open, the wall clock has no say.
        home.clock.set_wall(Timestamp(90_000_000));
        assert_eq!(store.lease("leader").await.unwrap().map(|lease| lease.expires_in.0), Some(60_000));
        store.close().await;
        home.clock.set_wall(Timestamp(wall));
        let store = home.with(None).unwrap();
        let Some(left) = left else {
            assert_eq!(store.acquire_lease("leader", "y", hour).await.unwrap().epoch, 2);
            store.close().await;
            continue;
        };
        let Some(Lease { expires_in, epoch: 1, .. }) = store.lease("leader").await.unwrap() else {
            panic!("at {wall}")
        };
        assert_eq!(expires_in, Duration(left), "at {wall}");
        home.clock.pass(Duration(left - 1));
        assert!(matches!(store.acquire_lease("leader", "y", hour).await, Err(LeaseError::Held { .. })));
        home.clock.pass(Duration(1));
        assert_eq!(store.acquire_lease("leader", "y", hour).await.unwrap().epoch, 2);
        store.close().await;
    }
}

#[tokio::test]
async fn request_ids_are_kept_for_a_day() {
    use lattice_model::RequestId;
    let home = Sqlite::new();
    let store = home.with(None).unwrap();
    let request = |n| RequestId::from_random(n);
    store.apply(put("a", "1").with_request(request(1))).await.unwrap();
    home.clock.pass(Duration::from_secs(24 * 3600 - 1));
    store.apply(put("a", "2").with_request(request(2))).await.unwrap();
    assert_eq!(store.settled(request(1)).await.unwrap().map(|applied| applied.revision), Some(Revision(1)));
    home.clock.pass(Duration::from_secs(2));
    store.apply(put("a", "3").with_request(request(3))).await.unwrap();
    assert_eq!(store.settled(request(1)).await.unwrap(), None);
    assert_eq!(store.settled(request(2)).await.unwrap().map(|applied| applied.revision), Some(Revision(2)));
    store.close().await;
}
