//! Which store a configuration means, and opening it; and what makes a home one server's.

use crate::{ServerConfig, StoreConfig, clock, controllers::leader, error::ServerError};
use lattice_store::{PostgresStore, SqliteOptions, SqliteStore, Store};
use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The embedded store's file.
pub(crate) fn file(config: &ServerConfig) -> PathBuf {
    config.home.join("store.db")
}

/// Opens the store, or makes it. An older schema of the embedded one is copied into `backups` of the
/// home before it is migrated.
pub(crate) async fn open(config: &ServerConfig) -> Result<Arc<dyn Store>, ServerError> {
    if let StoreConfig::Postgres(options) = &config.store {
        return Ok(Arc::new(PostgresStore::open(options).await?));
    }
    let (path, copies) = (file(config), config.home.join("backups"));
    let opened = tokio::task::spawn_blocking(move || {
        SqliteStore::open(
            path,
            SqliteOptions { copy_before_migration: Some(copies), ..SqliteOptions::default() },
        )
    });
    match opened.await {
        Ok(opened) => Ok(Arc::new(opened?)),
        Err(_) => Err(ServerError::Stopping),
    }
}

/// Opens a store that is there; makes none.
pub(crate) async fn open_existing(config: &ServerConfig) -> Result<Arc<dyn Store>, ServerError> {
    if let StoreConfig::Postgres(options) = &config.store {
        return Ok(Arc::new(PostgresStore::open_existing(options).await?));
    }
    let path = file(config);
    if !path.is_file() {
        return Err(ServerError::NoInstallation { place: path.display().to_string() });
    }
    open(config).await
}

/// The folder of the embedded store.
pub(crate) fn folder(config: &ServerConfig) -> Option<PathBuf> {
    match config.store {
        StoreConfig::Sqlite => Some(config.home.clone()),
        StoreConfig::Postgres(_) => None,
    }
}

/// Which store it is, for people; without credentials.
pub(crate) fn describe(config: &ServerConfig) -> String {
    match &config.store {
        StoreConfig::Sqlite => format!("sqlite:{}", file(config).display()),
        StoreConfig::Postgres(options) => options.name(),
    }
}

/// Takes the home, where the store does not: the lock of the embedded one does. Ends with the file,
/// and so with the process.
pub(crate) fn take_home(config: &ServerConfig) -> Result<Option<File>, ServerError> {
    if matches!(config.store, StoreConfig::Sqlite) {
        return Ok(None);
    }
    let path = config.home.join("server.lock");
    let failed = |source: io::Error| ServerError::Home { path: path.clone(), source };
    let file =
        File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(ServerError::HomeInUse { home: config.home.clone() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The name of the server of this home, the same after a restart. Where there may be several, with a
/// random part that is kept in the home: machines that were made from one image have one name.
pub(crate) fn server_name(config: &ServerConfig) -> Result<String, ServerError> {
    let name = leader::holder(&config.home);
    if matches!(config.store, StoreConfig::Sqlite) {
        return Ok(name);
    }
    let path = config.home.join("server.id");
    Ok(format!("{name}#{}", own_id(&path).map_err(|source| ServerError::Home { path, source })?))
}

fn own_id(path: &Path) -> io::Result<String> {
    let valid = |text: &String| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match std::fs::read_to_string(path).map(|text| text.trim().to_owned()) {
        Ok(text) if valid(&text) => return Ok(text),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let id = format!("{:016x}", u64::from_be_bytes(clock::random()));
    std::fs::write(path, &id)?;
    Ok(id)
}
