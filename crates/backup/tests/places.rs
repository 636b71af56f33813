//! A folder and a bucket keep backups alike: whole or not at all.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_backup::{
    BackupError, Lock, Place, PlaceOptions, Session, State, list, load, name_of, prune, read, save, write,
};
use lattice_model::{ClusterId, Timestamp};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use std::{
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use support::{dump, record, rows};

const DAY: i64 = 86_400_000;
/// 2026-01-31T12:00:00Z.
const NOON: i64 = 1_769_860_800_000;

/// An S3 server in this process, on a folder; gives its address and counts its requests.
async fn s3_server(root: &Path) -> (String, Arc<AtomicUsize>) {
    std::fs::create_dir_all(root.join("vault")).unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single("key", "secret"));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let service = service.clone();
            tokio::spawn(async move {
                let io = hyper_util::rt::TokioIo::new(socket);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    (format!("http://{address}"), requests)
}

fn options(folder: &Path, endpoint: &str, secret: &str) -> PlaceOptions {
    let file = folder.join(format!("credentials-{secret}"));
    let text = format!("# of the tests\nAWS_ACCESS_KEY_ID=key\nexport AWS_SECRET_ACCESS_KEY=\"{secret}\"\n");
    std::fs::write(&file, text).unwrap();
    PlaceOptions { endpoint: Some(endpoint.into()), region: None, credentials_file: Some(file) }
}

async fn put(place: &Place, at: i64, session: &Session) -> Result<lattice_backup::Label, BackupError> {
    let lock = Lock::recipients(&[session.recipient()]).unwrap();
    let name = name_of("attic", Timestamp(at), at.to_be_bytes()[2..].try_into().unwrap());
    save(place, &name, move |out| write(out, &lock, &dump(at, rows(), None))).await
}

async fn keeps_backups(place: &Place) {
    let session = Session::new();
    let first = put(place, NOON, &session).await.unwrap();
    let second = put(place, NOON + DAY, &session).await.unwrap();
    assert_eq!(first.name, "lattice-attic-20260131T120000Z-019c13ec9e00");
    let names =
        |found: Vec<lattice_backup::Found>| found.into_iter().map(|f| (f.name, f.state)).collect::<Vec<_>>();
    assert_eq!(
        names(list(place).await.unwrap()),
        [(first.name.clone(), State::Good), (second.name.clone(), State::Good)]
    );
    let key = session.key();
    let (label, records) =
        load(place, None, move |input| Ok(read(input, &key, &mut |_, _| Ok(()))?.records)).await.unwrap();
    assert_eq!((label.name.as_str(), records), (second.name.as_str(), rows()));
    let key = session.key();
    let named =
        load(place, Some(&first.name), move |input| read(input, &key, &mut |_, _| Ok(()))).await.unwrap();
    assert_eq!(named.1.manifest.header, first.header);
    let absent = load(place, Some("lattice-none"), |_| Ok(())).await;
    assert!(matches!(absent, Err(BackupError::NotFound { .. })));

    // A writer that fails leaves nothing that is listed, however much it had written.
    let name = name_of("attic", Timestamp(NOON + 2), [2; 6]);
    let failed = save(place, &name, |out| {
        out.write_all(&vec![1; 3 << 20]).unwrap();
        Err(BackupError::NoLock)
    });
    assert!(matches!(failed.await, Err(BackupError::NoLock)));
    assert_eq!(list(place).await.unwrap().len(), 2);

    let third = put(place, NOON + 2 * DAY, &session).await.unwrap();
    let other = ClusterId::from_random(8);
    assert_eq!(
        prune(place, other, 1, Timestamp(NOON)).await.unwrap(),
        Vec::<String>::new(),
        "another cluster's"
    );
    let own = ClusterId::from_random(7);
    assert_eq!(prune(place, own, 2, Timestamp(NOON)).await.unwrap(), [first.name]);
    assert_eq!(names(list(place).await.unwrap()), [(second.name, State::Good), (third.name, State::Good)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn folder() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path().join("a/b").to_str().unwrap(), &PlaceOptions::default()).unwrap();
    keeps_backups(&place).await;
    let left: Vec<_> =
        std::fs::read_dir(folder.path().join("a/b")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, _) = s3_server(&folder.path().join("s3")).await;
    let place =
        Place::open("s3://vault/lattice/attic", &options(folder.path(), &endpoint, "secret")).unwrap();
    assert_eq!(list(&place).await.unwrap(), [], "an empty bucket");
    keeps_backups(&place).await;
    assert_eq!(std::fs::read_dir(folder.path().join("s3/vault/lattice/attic")).unwrap().count(), 4);

    let wrong = Place::open("s3://vault", &options(folder.path(), &endpoint, "guess")).unwrap();
    let error = list(&wrong).await.unwrap_err();
    assert!(matches!(&error, BackupError::Refused { status: 403, .. }), "{error}");
    assert!(!format!("{error:?}{wrong:?}").contains("guess"));
    let absent = Place::open("s3://none", &options(folder.path(), &endpoint, "secret")).unwrap();
    assert!(matches!(list(&absent).await, Err(BackupError::Refused { status: 404, .. })));
}

/// More than one part, and one that breaks off: the store has no half of it.
#[tokio::test(flavor = "multi_thread")]
async fn bucket_large() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, requests) = s3_server(&folder.path().join("s3")).await;
    let place = Place::open("s3://vault", &options(folder.path(), &endpoint, "secret")).unwrap();
    let session = Session::new();
    let lock = Lock::recipients(&[session.recipient()]).unwrap();
    // What does not compress: 12 MiB of it.
    let blobs = folder.path().join("blobs");
    std::fs::create_dir(&blobs).unwrap();
    let mut noise = vec![0u8; 12 << 20];
    getrandom::fill(&mut noise).unwrap();
    std::fs::write(blobs.join("noise"), &noise).unwrap();
    let large = dump(NOON, vec![record("a", "b", 1, "{}")], Some(blobs));
    let name = name_of("attic", Timestamp(NOON), [1; 6]);
    let label = save(&place, &name, move |out| write(out, &lock, &large)).await.unwrap();
    assert!(label.bytes > 12 << 20 && requests.load(Ordering::Relaxed) >= 5, "{label:?}");
    let key = session.key();
    let (_, same) = load(&place, None, move |input| {
        let mut same = false;
        read(input, &key, &mut |name, content| {
            if name == "blobs/noise" {
                let mut all = Vec::new();
                content.read_to_end(&mut all).unwrap();
                same = all == noise;
            }
            Ok(())
        })?;
        Ok(same)
    })
    .await
    .unwrap();
    assert!(same);

    let name = name_of("attic", Timestamp(NOON + DAY), [2; 6]);
    let failed = save(&place, &name, |out| {
        out.write_all(&vec![1; 12 << 20]).unwrap();
        Err(BackupError::NoLock)
    });
    assert!(failed.await.is_err());
    assert_eq!(list(&place).await.unwrap().len(), 1, "nothing of the second is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_ones_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::open(folder.path().to_str().unwrap(), &PlaceOptions::default()).unwrap();
    let session = Session::new();
    let mut labels = Vec::new();
    for day in 0..5 {
        labels.push(put(&place, NOON + day * DAY, &session).await.unwrap());
    }
    let path = |n: usize, ending: &str| folder.path().join(format!("{}{ending}", labels[n].name));
    // Cut short; altered without a change of size; without its file; without its label.
    let whole = std::fs::read(path(0, ".age")).unwrap();
    std::fs::write(path(0, ".age"), &whole[..whole.len() - 1]).unwrap();
    let mut altered = std::fs::read(path(1, ".age")).unwrap();
    *altered.last_mut().unwrap() ^= 1;
    std::fs::write(path(1, ".age"), altered).unwrap();
    std::fs::remove_file(path(2, ".age")).unwrap();
    std::fs::remove_file(path(3, ".json")).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "somebody's").unwrap();

    let found = list(&place).await.unwrap();
    let state = |n: usize| &found.iter().find(|f| f.name == labels[n].name).unwrap().state;
    assert!(matches!(state(0), State::Broken(_)) && matches!(state(2), State::Broken(_)));
    assert_eq!((state(1), state(3), state(4)), (&State::Good, &State::Unfinished, &State::Good));
    for label in &labels[..4] {
        let (key, name) = (session.key(), label.name.clone());
        let read = load(&place, Some(&name), move |input| read(input, &key, &mut |_, _| Ok(()))).await;
        assert!(matches!(read, Err(BackupError::Damaged { .. })), "{name}: {read:?}");
    }
    // What nobody finished goes when it is old, and only then; what is somebody's stays.
    let cluster = ClusterId::from_random(7);
    assert_eq!(prune(&place, cluster, 9, Timestamp(NOON + 4 * DAY)).await.unwrap(), Vec::<String>::new());
    assert_eq!(prune(&place, cluster, 9, Timestamp(NOON + 5 * DAY)).await.unwrap(), [labels[3].name.clone()]);
    assert!(folder.path().join("notes.txt").exists());
}

#[test]
fn places_are_read() {
    let none = PlaceOptions::default();
    assert_eq!(Place::open("/var/backups", &none).unwrap().to_string(), "/var/backups");
    assert_eq!(Place::open("file:///var/backups", &none).unwrap().to_string(), "/var/backups");
    for (text, says) in
        [("", "empty"), ("ftp://x/y", "s3://"), ("s3://", "bucket"), ("s3://user@x", "bucket")]
    {
        let error = Place::open(text, &none).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}
