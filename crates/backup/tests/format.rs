//! What the format promises: everything comes back, and every change of a byte is noticed.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_backup::{BackupError, Dump, Key, Lock, Session, passphrase, read, transcode, verify, write};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::OnceLock};
use support::{dump, record, rows};

struct Sample {
    session: Session,
    bytes: Vec<u8>,
    dump: Dump,
}

/// One backup for all cases.
fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let session = Session::new();
        let dump = dump(1000, rows(), None);
        let mut bytes = Vec::new();
        write(&mut bytes, &lock(&session), &dump).unwrap();
        Sample { session, bytes, dump }
    })
}

fn lock(session: &Session) -> Lock {
    Lock::recipients(&[session.recipient()]).unwrap()
}

fn open(bytes: &[u8], key: &Key) -> Result<lattice_backup::Contents, BackupError> {
    read(bytes, key, &mut |_, _| Ok(()))
}

#[test]
fn everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("ab")).unwrap();
    std::fs::write(folder.path().join("ab/abcd"), vec![7u8; 300_000]).unwrap();
    std::fs::write(folder.path().join("ab/.tmp-1"), "half").unwrap();
    std::fs::create_dir_all(folder.path().join("tmp")).unwrap();
    std::fs::write(folder.path().join("tmp/upload"), "half").unwrap();
    let session = Session::new();
    let dump = dump(1000, rows(), Some(folder.path().to_owned()));
    let mut bytes = Vec::new();
    let manifest = write(&mut bytes, &lock(&session), &dump).unwrap();
    let mut files = BTreeMap::new();
    let contents = read(&bytes[..], &session.key(), &mut |name, content| {
        let mut all = Vec::new();
        content.read_to_end(&mut all).unwrap();
        files.insert(name.to_owned(), all);
        Ok(())
    })
    .unwrap();
    assert_eq!(contents.manifest, manifest);
    assert_eq!(contents.records, dump.records);
    assert_eq!((manifest.rows, manifest.kinds["node"], manifest.blobs()), (3, 2, 1));
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["blobs/ab/abcd", "keys/master.key", "settings/server.toml"]
    );
    assert_eq!(files["keys/master.key"], b"lmk1 the key\n");
    assert_eq!(files["blobs/ab/abcd"].len(), 300_000);
    // No secret is in it for who has no key.
    for secret in [&b"lmk1"[..], b"cluster_name", b"header.json"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn tools_of_others_open_it() {
    let Sample { session, bytes, .. } = sample();
    let Key::Identities(keys) = session.key() else { panic!("a session is a key") };
    let plain = age::decrypt(&keys[0], bytes).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&plain[..]));
    let names: Vec<_> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(
        names,
        ["header.json", "keys/master.key", "settings/server.toml", "rows/00001.ndjson", "manifest.json"]
    );
}

#[test]
fn every_truncation_is_noticed() {
    let Sample { session, bytes, .. } = sample();
    let key = session.key();
    for length in 0..bytes.len() {
        assert!(open(&bytes[..length], &key).is_err(), "{length} of {} bytes were taken", bytes.len());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(open(&longer, &key).is_err(), "a byte behind the end was taken");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_bit_flip_is_noticed(bit in any::<prop::sample::Index>()) {
        let Sample { session, bytes, .. } = sample();
        let mut altered = bytes.clone();
        let bit = bit.index(bytes.len() * 8);
        altered[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(open(&altered, &session.key()).is_err());
    }

    #[test]
    fn rows_of_any_text_come_back(bodies in prop::collection::vec(".{0,200}", 0..20)) {
        let session = Session::new();
        let records: Vec<_> = bodies.iter().enumerate().map(|(n, body)| record("thing", &format!("{n:03}"), 1 + n as u64, body)).collect();
        let dump = dump(1, records, None);
        let mut bytes = Vec::new();
        write(&mut bytes, &lock(&session), &dump).unwrap();
        prop_assert_eq!(open(&bytes, &session.key()).unwrap().records, dump.records);
    }

    #[test]
    fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(open(&noise, &sample().session.key()).is_err());
    }
}

#[test]
fn passphrases_and_keys() {
    let sample = sample();
    let right = passphrase("correct horse battery\n").unwrap();
    let mut bytes = Vec::new();
    let again = Lock::Passphrase(right.clone());
    let manifest = transcode(&sample.bytes[..], &sample.session.key(), &mut bytes, &again).unwrap();
    assert_eq!(manifest.rows, sample.dump.records.len() as u64);
    assert_eq!(open(&bytes, &Key::Passphrase(right)).unwrap().records, sample.dump.records);
    let wrong = Key::Passphrase(passphrase("incorrect horse battery").unwrap());
    for (bytes, key) in [
        (&bytes, &wrong),
        (&bytes, &Session::new().key()),
        (&sample.bytes, &wrong),
        (&sample.bytes, &Session::new().key()),
    ] {
        assert!(matches!(open(bytes, key), Err(BackupError::WrongKey { .. })));
    }
    // A stream that breaks off is no backup under another lock either.
    let half = &sample.bytes[..sample.bytes.len() - 100];
    assert!(transcode(half, &sample.session.key(), &mut Vec::new(), &again).is_err());
    assert!(matches!(passphrase("short"), Err(BackupError::ShortPassphrase { .. })));
    assert!(matches!(Lock::recipients::<&str>(&[]), Err(BackupError::NoLock)));
    let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let error = Lock::recipients(&[secret]).unwrap_err().to_string();
    assert!(!error.contains("GFPYY") && error.contains("age1"), "{error}");
    assert!(Key::identities("# nothing\n").is_err());
    assert!(!format!("{again:?} {wrong:?}").contains("horse"));
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_restores_into_a_scratch_store() {
    let sample = sample();
    let runtime = tokio::runtime::Handle::current();
    let (bytes, key) = (sample.bytes.clone(), sample.session.key());
    let found =
        tokio::task::spawn_blocking(move || verify(&bytes[..], &key, &runtime)).await.unwrap().unwrap();
    assert_eq!((found.restored_rows, found.manifest.header.revision), (3, 99));
    assert!(found.file_bytes > 20);

    // Whole, authentic, and yet no store: a row is newer than the store.
    let mut rows = rows();
    rows.push(record("zone", "z", 100, "{}"));
    let session = Session::new();
    let mut bytes = Vec::new();
    write(&mut bytes, &lock(&session), &dump(1, rows, None)).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let key = session.key();
    let refused = tokio::task::spawn_blocking(move || verify(&bytes[..], &key, &runtime)).await.unwrap();
    assert!(matches!(refused, Err(BackupError::Store(_))), "{refused:?}");

    let mut keyless = dump(1, support::rows(), None);
    keyless.keys.clear();
    let mut bytes = Vec::new();
    write(&mut bytes, &lock(&session), &keyless).unwrap();
    let (key, runtime) = (session.key(), tokio::runtime::Handle::current());
    let refused = tokio::task::spawn_blocking(move || verify(&bytes[..], &key, &runtime)).await.unwrap();
    assert!(refused.unwrap_err().to_string().contains("master key"));
}

#[test]
fn what_does_not_belong_there_is_refused() {
    let session = Session::new();
    let mut strange = dump(1, rows(), None);
    strange.settings = vec![("../../etc/cron.d/x".into(), vec![])];
    assert!(write(&mut Vec::new(), &lock(&session), &strange).is_err());
    // A newer program's.
    let mut newer = dump(1, rows(), None);
    newer.header.format = 2;
    newer.header.lattice = "9.0.0".into();
    let mut bytes = Vec::new();
    write(&mut bytes, &lock(&session), &newer).unwrap();
    let error = open(&bytes, &session.key()).unwrap_err();
    assert!(
        matches!(error, BackupError::NewerFormat { found: 2, .. }) && error.to_string().contains("9.0.0")
    );
}
