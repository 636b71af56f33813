//! Which store a configuration means, and opening it.

use crate::{ServerConfig, error::ServerError};
use lattice_store::{SqliteOptions, SqliteStore, Store};
use std::{path::PathBuf, sync::Arc};

/// The embedded store's file.
pub(crate) fn file(config: &ServerConfig) -> PathBuf {
    config.home.join("store.db")
}

/// Opens the store, or makes it. An older schema is copied into `backups` of the home before it is
/// migrated.
pub(crate) async fn open(config: &ServerConfig) -> Result<Arc<dyn Store>, ServerError> {
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
    let path = file(config);
    if !path.is_file() {
        return Err(ServerError::NoInstallation { place: path.display().to_string() });
    }
    open(config).await
}

/// The folder of the embedded store.
pub(crate) fn folder(config: &ServerConfig) -> Option<PathBuf> {
    Some(config.home.clone())
}

/// Which store it is, for people; without credentials.
pub(crate) fn describe(config: &ServerConfig) -> String {
    format!("sqlite:{}", file(config).display())
}
