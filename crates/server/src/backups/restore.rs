//! An empty machine becomes the server again.
//!
//! Everything is read and checked before the first file gets its name, in this order:
//! 1. the whole backup is read; what is damaged or of another key ends here;
//! 2. what is written lies in [`UNFINISHED`] of the home; while that is there, no server starts, and a
//!    restore that is run again begins anew;
//! 3. rows go into a store under a raised incarnation; then keys, blobs, settings and the store get their
//!    places;
//! 4. [`UNFINISHED`] goes. [`Mark`] stays until the server's next start, which believes each node's next
//!    session once: nodes have moved on since the backup was made.

use crate::{ServerConfig, clock, config::KeySource, error::ServerError, keys, storage};
use lattice_backup::{BackupError, Contents, Header, Key, Label, Place, load, read};
use lattice_identity::{KeyRing, keyfile};
use lattice_model::Timestamp;
use lattice_store::{ImportError, SqliteOptions, SqliteStore, Store};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The folder, in the home, of a restore that is not finished.
pub(crate) const UNFINISHED: &str = ".restore";
/// The file, in the home, that tells the next start of a restore.
const MARK: &str = "restored.json";
/// The largest setting or key file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where a backup is restored to.
#[derive(Clone, Debug)]
pub struct RestoreTo {
    /// The server's home, where the configuration names none.
    pub home: PathBuf,
    /// The server's configuration: used where it is there, else written from the backup.
    pub config: Option<PathBuf>,
    /// Move aside what is in the home.
    pub replace: bool,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// From which backup.
    pub label: Label,
    /// The incarnation that the store has now.
    pub incarnation: u64,
    /// The server's home.
    pub home: PathBuf,
    /// How many rows.
    pub rows: u64,
    /// How many blobs.
    pub blobs: u64,
    /// Where the old server's settings are now, where the backup had them.
    pub settings: Option<PathBuf>,
    /// Where what was in the home is now.
    pub replaced: Option<PathBuf>,
}

/// What the next start has to know of a restore.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The backup's name.
    pub(crate) backup: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// The revision that it is of.
    pub(crate) revision: u64,
    /// When it was restored.
    pub(crate) restored_at: Timestamp,
}

impl Mark {
    /// The mark of a restore that no server has seen yet.
    pub(crate) fn load(home: &Path) -> Result<Option<Self>, ServerError> {
        let path = home.join(MARK);
        let failed = |source| ServerError::Home { path: path.clone(), source };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The server has taken it in.
    pub(crate) fn clear(home: &Path) {
        if let Err(error) = fs::remove_file(home.join(MARK)) {
            tracing::warn!(%error, "the mark of the restore was not removed; the next start believes nodes once more");
        }
    }
}

struct Small {
    keys: Vec<(String, lattice_backup::SecretFile)>,
    settings: Option<Vec<u8>>,
}

/// Restores the newest backup of a place, or the one that is named.
///
/// # Errors
/// [`ServerError`] says what stands against it. Run again, it begins anew; until it has succeeded no server
/// starts on a home that it has begun to fill.
pub async fn restore(
    place: &Place,
    name: Option<&str>,
    key: Key,
    to: &RestoreTo,
) -> Result<Restored, ServerError> {
    // 1.
    let first = key.clone();
    let (label, (contents, small)) = load(place, name, move |input| whole(input, &first)).await?;
    let Contents { manifest, .. } = &contents;
    let header = manifest.header.clone();
    let (config, settings) = configure(to, small.settings.as_deref(), &header)?;
    let ring = ring_elsewhere(&config, &small)?;
    let home = config.home.clone();
    let (replaced, former) = clear(&config, to.replace, &header).await?;
    // 2.
    let staging = home.join(UNFINISHED);
    make(&staging)?;
    for (name, bytes) in &small.keys {
        if name == keys::HOME_FILE && matches!(config.key_source, KeySource::File(_)) {
            continue;
        }
        keyfile::replace(&staging.join(name), &bytes.0)?;
    }
    if manifest.blobs() > 0 {
        // A folder that is shared with other servers is not in the home, and may have them already.
        let own = config.blobs_folder() == home.join("blobs");
        let folder = if own { staging.join("blobs") } else { config.blobs_folder() };
        let key = key.clone();
        load(place, Some(&label.name), move |input| blobs(input, &key, &folder)).await?;
    }
    // 3.
    let incarnation = header.incarnation.max(former.unwrap_or(0)) + 1;
    let rows = fill(&config, &staging, &contents, incarnation).await?;
    let mark = Mark {
        backup: label.name.clone(),
        created_at: header.created_at,
        revision: header.revision,
        restored_at: clock::now(),
    };
    let text = serde_json::to_vec_pretty(&mark).unwrap_or_default();
    keyfile::replace(&staging.join(MARK), &text)?;
    let settings = match (settings, small.settings) {
        (Some(path), Some(text)) => {
            write_settings(&path, &text)?;
            Some(path)
        }
        _ => None,
    };
    if let Some((path, ring)) = ring {
        ring.save(&path)?;
    }
    settle(&staging, &home)?;
    Ok(Restored { blobs: manifest.blobs(), label, incarnation, home, rows, settings, replaced })
}

fn whole(input: &mut dyn Read, key: &Key) -> Result<(Contents, Small), BackupError> {
    let mut small = Small { keys: Vec::new(), settings: None };
    let contents = read(input, key, &mut |name, content| {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        match name.split_once('/') {
            Some(("keys", file)) => {
                take(content, &mut bytes)?;
                small.keys.push((file.to_owned(), lattice_backup::SecretFile(bytes)));
            }
            Some(("settings", "server.toml")) => {
                take(content, &mut bytes)?;
                small.settings = Some(bytes.to_vec());
            }
            _ => {}
        }
        Ok(())
    })?;
    if !small.keys.iter().any(|(name, _)| name == "master.key") {
        let problem = "it has no master key, without which its secrets cannot be opened".to_owned();
        return Err(BackupError::Damaged { problem });
    }
    Ok((contents, small))
}

/// Where the ring goes when the configuration has it in a file elsewhere, and nothing where that has its
/// keys already. A file that is there is somebody's, and never written over. A program that gives the
/// ring is its operator's to teach: what the backup has stays in the home for that.
fn ring_elsewhere(config: &ServerConfig, small: &Small) -> Result<Option<(PathBuf, KeyRing)>, ServerError> {
    let KeySource::File(path) = &config.key_source else { return Ok(None) };
    let Some((_, text)) = small.keys.iter().find(|(name, _)| name == keys::HOME_FILE) else {
        return Ok(None);
    };
    let ring = KeyRing::parse(&text.0, path)?;
    let refused = |problem| Err(ServerError::RingPlace { path: path.clone(), problem });
    match keyfile::load(path)? {
        Some(there) if KeyRing::parse(&there, path)?.covers(&ring) => Ok(None),
        Some(_) => refused("another file is there, which has not all keys of the backup; move it away"),
        None if !path.parent().is_some_and(Path::is_dir) => {
            refused("there is no such folder; make or mount it")
        }
        None => Ok(Some((path.clone(), ring))),
    }
}

fn take(content: &mut dyn Read, bytes: &mut Vec<u8>) -> Result<(), BackupError> {
    content.take(MAX_FILE).read_to_end(bytes).map_err(|source| BackupError::Io { action: "read", source })?;
    Ok(())
}

/// Which configuration counts, and where the backup's own goes.
fn configure(
    to: &RestoreTo,
    settings: Option<&[u8]>,
    header: &Header,
) -> Result<(ServerConfig, Option<PathBuf>), ServerError> {
    let usual =
        || ServerConfig { cluster_name: header.cluster_name.clone(), ..ServerConfig::new(to.home.clone()) };
    match (&to.config, settings) {
        // The operator's own counts; the backup's is kept for reading.
        (Some(path), settings) if path.exists() => {
            let config = ServerConfig::read(path, &to.home)?;
            let aside = settings.map(|_| config.home.join("restored-server.toml"));
            Ok((config, aside))
        }
        (Some(path), Some(text)) => {
            let text = String::from_utf8_lossy(text);
            Ok((ServerConfig::parse(&text, path, &to.home)?, Some(path.clone())))
        }
        (Some(path), None) => Err(ServerError::NoSettings { path: path.clone() }),
        (None, settings) => {
            let config = usual();
            let aside = settings.map(|_| config.home.join("restored-server.toml"));
            Ok((config, aside))
        }
    }
}

/// An empty home; what was in it is moved aside where that was said. Gives where to, and the incarnation
/// of the store that was there when it is of the same cluster.
async fn clear(
    config: &ServerConfig,
    replace: bool,
    header: &Header,
) -> Result<(Option<PathBuf>, Option<u64>), ServerError> {
    let home = &config.home;
    let failed = |source| ServerError::Home { path: home.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(failed)?;
    let mut there = Vec::new();
    for entry in fs::read_dir(home).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        // What another restore left half done, and a disk's own folder, are nobody's.
        let aside = name.starts_with("replaced-");
        if !(name == UNFINISHED || name == "lost+found" || aside) {
            there.push(name);
        }
    }
    let unfinished = home.join(UNFINISHED).exists();
    if unfinished {
        // It had begun to put things in their places: those are its own.
        fs::remove_dir_all(home.join(UNFINISHED)).map_err(failed)?;
    }
    if there.is_empty() {
        return Ok((None, None));
    }
    if !replace && !unfinished {
        there.sort();
        return Err(ServerError::NotEmpty {
            home: home.clone(),
            what: there.into_iter().take(5).collect::<Vec<_>>().join(", "),
        });
    }
    if std::os::unix::net::UnixStream::connect(config.socket()).is_ok() {
        return Err(ServerError::Runs { home: home.clone() });
    }
    let mut former = None;
    let path = storage::file(config);
    if path.is_file() {
        let opened =
            tokio::task::spawn_blocking(move || SqliteStore::open(path, SqliteOptions::default())).await;
        match opened {
            Ok(Ok(store)) => {
                let meta = store.cluster().await;
                store.close().await;
                former = meta
                    .ok()
                    .filter(|meta| meta.cluster_id == header.cluster_id)
                    .map(|meta| meta.incarnation);
            }
            Ok(Err(error @ lattice_store::OpenError::InUse { .. })) => return Err(error.into()),
            // That it is broken may be why there is a restore.
            _ => {}
        }
    }
    let aside = home.join(format!("replaced-{}", clock::now().0));
    make(&aside)?;
    for name in there {
        fs::rename(home.join(&name), aside.join(&name)).map_err(failed)?;
    }
    Ok((Some(aside), former))
}

/// Rows into a store: beside the other files where it is embedded.
async fn fill(
    config: &ServerConfig,
    staging: &Path,
    contents: &Contents,
    incarnation: u64,
) -> Result<u64, ServerError> {
    let staged = ServerConfig { home: staging.to_owned(), ..config.clone() };
    let store: Arc<dyn Store> = storage::open(&staged).await?;
    let filled = async {
        match store.import(contents.dump(incarnation)).await {
            Ok(()) => {}
            // A restore that was interrupted had come so far.
            Err(ImportError::NotEmpty { .. }) => {
                let meta = store.cluster().await?;
                let listing = store.list_all().await?;
                let same = meta.cluster_id == contents.manifest.header.cluster_id
                    && listing.revision.0 == contents.manifest.header.revision
                    && lattice_backup::digest(listing.records.iter().map(|record| &**record))
                        == contents.manifest.rows_sha256;
                if !same {
                    return Err(ServerError::StoreNotEmpty);
                }
            }
            Err(error) => return Err(ServerError::Import(error)),
        }
        Ok(store.list_all().await?.records.len() as u64)
    }
    .await;
    store.close().await;
    filled
}

/// Blobs into their folder. They are named by their content, so one that is there is the same.
fn blobs(input: &mut dyn Read, key: &Key, folder: &Path) -> Result<(), BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { action: "written", path, source }
    };
    read(input, key, &mut |name, content| {
        let Some(name) = name.strip_prefix("blobs/") else { return Ok(()) };
        // The format lets no name lead out of its folder.
        let path = folder.join(name);
        if path.exists() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed(parent))?;
        let partial = path.with_extension("partial");
        let written = File::create(&partial)
            .and_then(|mut file| std::io::copy(content, &mut file).and_then(|_| file.sync_all()))
            .and_then(|()| fs::rename(&partial, &path));
        written.map_err(failed(&path))
    })?;
    Ok(())
}

fn write_settings(path: &Path, text: &[u8]) -> Result<(), ServerError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|source| ServerError::Home { path: folder.to_owned(), source })?;
    }
    Ok(keyfile::replace(path, text)?)
}

/// Everything gets its place, the store last but for the mark; then the folder goes, and with it the bar.
fn settle(staging: &Path, home: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::Home { path: home.to_owned(), source };
    let mut names: Vec<_> = fs::read_dir(staging)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed)?
        .iter()
        .map(fs::DirEntry::file_name)
        .collect();
    names.sort_by_key(|name| (name.to_string_lossy().starts_with("store.db"), name.clone()));
    for name in names {
        fs::rename(staging.join(&name), home.join(&name)).map_err(failed)?;
    }
    let sync = || File::open(home).and_then(|folder| folder.sync_all());
    sync().map_err(failed)?;
    fs::remove_dir(staging).and_then(|()| sync()).map_err(failed)
}

fn make(folder: &Path) -> Result<(), ServerError> {
    let made = fs::DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|source| ServerError::Home { path: folder.to_owned(), source })
}
