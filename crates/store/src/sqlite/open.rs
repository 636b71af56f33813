//! Opening a store: the lock against a second server, permissions, migrations.
//!
//! The lock is on a file beside the database: SQLite closes and drops its own POSIX locks when any
//! descriptor of the database file is closed, so nothing else may open that one.

use super::schema;
use crate::{Clock, SystemClock};
use rusqlite::{Connection, OpenFlags};
use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How a store is opened.
#[derive(Clone)]
pub struct SqliteOptions {
    /// By what leases end.
    pub clock: Arc<dyn Clock>,
    /// The largest size of the database file in bytes; beyond it writes get
    /// [`crate::StoreError::Full`]. The write-ahead log beside it takes up to about 64 MiB more.
    pub max_bytes: Option<u64>,
    /// Where a store of an older schema is copied to before it is migrated, as a file that the older
    /// program opens; made if absent. `None`: nowhere.
    pub copy_before_migration: Option<PathBuf>,
}

impl Default for SqliteOptions {
    /// The machine's clock, and no limit but the disk's.
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock::new()), max_bytes: None, copy_before_migration: None }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

/// Why a store was not opened; nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store {} is in use by another server{}: stop that one first, or give this one another LATTICE_HOME",
        path.display(), process.map_or_else(String::new, |id| format!(" (process {id})")))]
    InUse {
        /// The database file.
        path: PathBuf,
        /// The process that has it, where it said so.
        process: Option<u32>,
    },
    /// A newer program has written it.
    #[error("the store {} has schema {found}, and this program knows schemas up to {known}: install the newer \
        version again, or restore a backup that was made before the upgrade", path.display())]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// [`crate::sqlite::SCHEMA`].
        known: u32,
    },
    /// It is something else.
    #[error("the file {} is not a store of Lattice, and is left as it is: move it away or name another file",
        path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("the store {} cannot be opened: check that its folder exists and belongs to this user", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The database refused.
    #[error("the database of the store {} cannot be opened: look at the cause and the disk; if it is damaged, \
        restore a backup", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    pub(super) fn database(path: &Path, source: rusqlite::Error) -> Self {
        Self::Database { path: path.to_owned(), source: Box::new(source) }
    }
}

/// Held while the store is open; ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    pub(super) fn unlock(&self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of the store could not be given back");
        }
    }
}

/// Locks, checks and migrates; the connection is the writing one.
pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<(Lock, Connection), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let lock = lock(path)?;
    private_file(path).map_err(io)?;
    let database = |error| OpenError::database(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(database)?;
    let version = schema::inspect(&connection, path)?;
    copy_before(&connection, path, options, version, schema::SCHEMA)?;
    configure(&connection, options).map_err(database)?;
    schema::migrate(&mut connection, version).map_err(database)?;
    // The database file's own name has to survive a power cut, too.
    #[cfg(unix)]
    File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok((lock, connection))
}

/// Copies a store that is about to be migrated; without a copy it is not.
fn copy_before(
    connection: &Connection,
    path: &Path,
    options: &SqliteOptions,
    version: u32,
    target: u32,
) -> Result<(), OpenError> {
    let Some(folder) = options.copy_before_migration.as_deref().filter(|_| 0 < version && version < target)
    else {
        return Ok(());
    };
    let copy = folder.join(format!("store-schema{version}-{}.db", options.clock.wall().0));
    let partial = suffixed(&copy, ".partial");
    let io = |source| OpenError::Io { path: copy.clone(), source };
    make_private(folder).map_err(io)?;
    private_file(&partial).map_err(io)?;
    let done = connection
        .execute("VACUUM INTO ?1", [partial.to_string_lossy()])
        .map_err(|error| OpenError::database(path, error))
        .and_then(|_| File::open(&partial).and_then(|file| file.sync_all()).map_err(io))
        .and_then(|()| fs::rename(&partial, &copy).map_err(io));
    if done.is_err() {
        let _ = fs::remove_file(&partial);
    }
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    tracing::info!(copy = %copy.display(), version, "the store was copied before its migration");
    done
}

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn configure(connection: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS fsync alone leaves data in the drive's cache.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    // The checkpointer does it before; this is the bound of the log when it cannot keep up.
    connection.pragma_update(None, "wal_autocheckpoint", 16_384)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    if let Some(bytes) = options.max_bytes {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page;
        connection.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))?;
    }
    Ok(())
}

fn lock(path: &Path) -> Result<Lock, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let beside = suffixed(path, ".lock");
    private_file(&beside).map_err(io)?;
    let file = File::options().read(true).write(true).open(&beside).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {
            let note = || fs::write(&beside, std::process::id().to_string());
            if let Err(error) = note() {
                tracing::debug!(%error, "the lock of the store does not name its process");
            }
            Ok(Lock(file))
        }
        Err(TryLockError::WouldBlock) => {
            let process = fs::read_to_string(&beside).ok().and_then(|text| text.trim().parse().ok());
            Err(OpenError::InUse { path: path.to_owned(), process })
        }
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Makes the file, or takes an existing one from the eyes of others. SQLite gives the files beside
/// the database the mode of the database.
fn private_file(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => tighten(path),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn tighten(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for path in [path.to_owned(), suffixed(path, "-wal"), suffixed(path, "-shm")] {
        match fs::metadata(&path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn tighten(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(unix)]
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_older_schema_is_copied_before_it_is_migrated() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store.db");
        let copies = home.path().join("backups");
        let options =
            SqliteOptions { copy_before_migration: Some(copies.clone()), ..SqliteOptions::default() };
        let (lock, connection) = open(&path, &options).unwrap();
        assert!(!copies.exists(), "a new store and one of this schema are not copied");
        connection.execute("UPDATE meta SET revision = 7", []).unwrap();
        // As the next program will find it.
        copy_before(&connection, &path, &options, schema::SCHEMA, schema::SCHEMA + 1).unwrap();
        drop((lock, connection));
        let copy = fs::read_dir(&copies).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
        assert_eq!(copy.len(), 1, "{copy:?}");
        assert_eq!(fs::metadata(&copy[0]).unwrap().permissions().mode() & 0o777, 0o600);
        let (_lock, connection) = open(&copy[0], &options).unwrap();
        let revision: i64 = connection.query_row("SELECT revision FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(revision, 7, "what was only in the write-ahead log is in the copy");

        // Without room for a copy there is no migration.
        let blocked =
            SqliteOptions { copy_before_migration: Some(copy[0].join("x")), ..SqliteOptions::default() };
        assert!(copy_before(&connection, &path, &blocked, 1, 2).is_err());
    }
}
