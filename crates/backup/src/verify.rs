//! Whether a backup would bring a cluster back: all of it is read, and its rows go into a scratch store.

use crate::{BackupError, Contents, Key, Manifest, digest, read};
use lattice_store::{SqliteOptions, SqliteStore, Store};
use std::io::Read;

/// What a verification found to be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the backup is of.
    pub manifest: Manifest,
    /// How many rows the scratch store had.
    pub restored_rows: u64,
    /// How many bytes of keys, settings and blobs were read.
    pub file_bytes: u64,
}

/// Reads all of a backup, restores its rows into a scratch store in the system's temporary folder, and
/// compares what that gives back. Blocks; to be called where a runtime may be entered.
///
/// # Errors
/// Of [`read`]; [`BackupError::Store`] when the rows do not go into a store; [`BackupError::Damaged`]
/// when the master key is missing.
pub fn verify<R: Read>(
    input: R,
    key: &Key,
    runtime: &tokio::runtime::Handle,
) -> Result<Verified, BackupError> {
    let mut file_bytes = 0;
    let contents = read(input, key, &mut |_, content| {
        file_bytes += std::io::copy(content, &mut std::io::sink()).map_err(BackupError::io("read"))?;
        Ok(())
    })?;
    if !contents.manifest.parts.iter().any(|part| part.name == "keys/master.key") {
        return Err(BackupError::damaged("it has no master key, without which its secrets cannot be opened"));
    }
    let restored_rows = runtime.block_on(scratch(&contents))?;
    Ok(Verified { manifest: contents.manifest, restored_rows, file_bytes })
}

async fn scratch(contents: &Contents) -> Result<u64, BackupError> {
    let folder =
        tempfile::tempdir().map_err(|error| BackupError::file("made", &std::env::temp_dir())(error))?;
    let path = folder.path().join("store.db");
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(path, SqliteOptions::default())).await;
    let store =
        opened.map_err(|_| BackupError::Stopped)?.map_err(|error| BackupError::Store(Box::new(error)))?;
    let restored = async {
        let failed = |error| BackupError::Store(Box::new(error));
        store
            .import(contents.dump(contents.manifest.header.incarnation))
            .await
            .map_err(|error| BackupError::Store(Box::new(error)))?;
        let listing = store.list_all().await.map_err(failed)?;
        let same = listing.revision.0 == contents.manifest.header.revision
            && digest(listing.records.iter().map(|record| &**record)) == contents.manifest.rows_sha256;
        match same {
            true => Ok(listing.records.len() as u64),
            false => Err(BackupError::damaged("a store does not give its rows back as they were")),
        }
    }
    .await;
    store.close().await;
    restored
}
