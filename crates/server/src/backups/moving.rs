//! A stopped installation goes from one store to another: dump, import, comparison, and a mark on the old
//! one, so that it is not started by accident. Keys, blobs and settings stay where they are.

use crate::{
    ServerConfig, clock,
    error::ServerError,
    rows::{self, MovedRow, Stored},
    storage,
};
use lattice_backup::digest;
use lattice_model::Timestamp;
use lattice_store::{Key, Kind, Op, SqliteOptions, SqliteStore, Store, StoreDump, Transaction};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One of the two stores.
#[derive(Clone, Debug)]
pub enum MoveSide {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// The store that a server's configuration means.
    Config(Box<ServerConfig>),
}

impl fmt::Display for MoveSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Config(config) => f.write_str(&storage::describe(config)),
        }
    }
}

/// What was moved.
#[derive(Clone, Debug)]
pub struct Moved {
    /// How many rows both sides have.
    pub rows: u64,
    /// The hash over all rows of both sides.
    pub sha256: String,
    /// The revision that the rows are of.
    pub revision: u64,
    /// Since when the old side is marked.
    pub at: Timestamp,
}

impl MoveSide {
    /// Reads a configuration's path (`server.toml`) or `sqlite:PATH`. A database's address with its password
    /// has no place on a command line: it stands in the configuration.
    ///
    /// # Errors
    /// [`ServerError::Config`]; [`ServerError::Side`] for what is neither.
    pub fn read(text: &str, default_home: &Path) -> Result<Self, ServerError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return Ok(Self::Sqlite(path.strip_prefix("//").unwrap_or(path).into()));
        }
        if text.contains("://") {
            let shown = text.split("://").next().unwrap_or_default().chars().take(20).collect();
            return Err(ServerError::Side { text: shown });
        }
        Ok(Self::Config(Box::new(ServerConfig::read(Path::new(text), default_home)?)))
    }

    async fn open(&self, existing: bool) -> Result<Arc<dyn Store>, ServerError> {
        match self {
            Self::Config(config) if existing => storage::open_existing(config).await,
            Self::Config(config) => {
                if let Some(folder) = storage::folder(config) {
                    std::fs::create_dir_all(&folder)
                        .map_err(|source| ServerError::Home { path: folder, source })?;
                }
                storage::open(config).await
            }
            Self::Sqlite(path) => {
                if existing && !path.is_file() {
                    return Err(ServerError::NoInstallation { place: path.display().to_string() });
                }
                let path = path.clone();
                let opened =
                    tokio::task::spawn_blocking(move || SqliteStore::open(path, SqliteOptions::default()));
                Ok(Arc::new(opened.await.map_err(|_| ServerError::Stopping)??))
            }
        }
    }
}

/// Moves everything of one store into an empty other one. Nothing of the old side changes but its mark,
/// which comes last.
///
/// # Errors
/// [`ServerError`]; the old side is then as good as before.
pub async fn migrate(from: &MoveSide, to: &MoveSide) -> Result<Moved, ServerError> {
    let source = from.open(true).await?;
    let moved = async {
        refuse_moved(&*source).await?;
        let target = to.open(false).await?;
        let moved = carry(&*source, &*target, &to.to_string()).await;
        target.close().await;
        moved
    }
    .await;
    source.close().await;
    moved
}

async fn carry(source: &dyn Store, target: &dyn Store, to: &str) -> Result<Moved, ServerError> {
    refuse_running(source).await?;
    let dump = StoreDump::of(source).await?;
    let cluster = dump.cluster;
    let (rows, revision) = (dump.records.len() as u64, dump.revision);
    let sha256 = digest(dump.records.iter().map(|record| &**record));
    target.import(dump).await.map_err(ServerError::Import)?;
    // Both are read anew: what was imported is not what was sent until it is there.
    for side in [source, target] {
        let (meta, listing) = (side.cluster().await?, side.list_all().await?);
        let same = (meta.cluster_id, meta.incarnation) == (cluster.cluster_id, cluster.incarnation)
            && listing.revision == revision
            && listing.records.len() as u64 == rows
            && digest(listing.records.iter().map(|record| &**record)) == sha256;
        if !same {
            return Err(ServerError::NotTheSame);
        }
    }
    let at = clock::now();
    source.apply(Transaction::new([rows::put(&MovedRow { to: to.to_owned(), at })])).await?;
    Ok(Moved { rows, sha256, revision: revision.0, at })
}

/// A server that works on the store holds a lease. The embedded store is locked by it besides.
async fn refuse_running(store: &dyn Store) -> Result<(), ServerError> {
    match store.lease(crate::controllers::LEADER).await? {
        Some(lease) => Err(ServerError::Held { holder: lease.holder }),
        None => Ok(()),
    }
}

/// Refuses a store that was moved elsewhere.
pub(crate) async fn refuse_moved(store: &dyn Store) -> Result<(), ServerError> {
    const KIND: Kind = MovedRow::KIND;
    match store.get(&Key::new(KIND, "store")).await? {
        Some(record) => Err(ServerError::Moved { to: rows::read::<MovedRow>(&record)?.to }),
        None => Ok(()),
    }
}

/// Takes the mark of a move back: the old side counts again. Whether it was marked.
///
/// # Errors
/// [`ServerError`]; nothing was changed then.
pub async fn reopen(side: &MoveSide) -> Result<bool, ServerError> {
    let store = side.open(true).await?;
    let reopened = async {
        let key = Key::new(MovedRow::KIND, "store");
        let marked = store.get(&key).await?.is_some();
        store.apply(Transaction::new([Op::Delete { key, expected: None }])).await?;
        Ok(marked)
    }
    .await;
    store.close().await;
    reopened
}
