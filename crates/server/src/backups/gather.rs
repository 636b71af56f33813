//! Everything that goes into a backup: rows as of one revision, key files, settings, blobs.

use super::refuse_moved;
use crate::{
    ServerConfig, clock,
    config::KeySource,
    error::ServerError,
    rows::{self, Settings, Stored},
    state::Core,
    storage,
};
use lattice_backup::{Dump, FORMAT, Header, Reason, SecretFile};
use lattice_identity::keyfile;
use lattice_store::{Key, Store, StoreDump};
use std::path::Path;

/// From a server that runs: writers go on meanwhile.
pub(crate) async fn gather(core: &Core, reason: Reason) -> Result<Dump, ServerError> {
    of(&*core.store, &core.config, &core.name, reason).await
}

/// From an installation whose server is stopped; its store is locked meanwhile, so none can start.
///
/// # Errors
/// [`ServerError`]: there is no installation, its server runs, or its files cannot be read.
pub async fn dump_stopped(config: &ServerConfig, reason: Reason) -> Result<Dump, ServerError> {
    let store = storage::open_existing(config).await?;
    let dumped = async {
        refuse_moved(&*store).await?;
        let name = match store.get(&Key::new(Settings::KIND, "cluster")).await? {
            Some(record) => rows::read::<Settings>(&record)?.name,
            None => config.cluster_name.clone(),
        };
        of(&*store, config, &name, reason).await
    }
    .await;
    store.close().await;
    dumped
}

async fn of(
    store: &dyn Store,
    config: &ServerConfig,
    name: &str,
    reason: Reason,
) -> Result<Dump, ServerError> {
    let StoreDump { cluster, revision, records } = StoreDump::of(store).await?;
    let header = Header {
        format: FORMAT,
        lattice: env!("CARGO_PKG_VERSION").into(),
        created_at: clock::now(),
        reason,
        cluster_id: cluster.cluster_id,
        cluster_name: name.to_owned(),
        incarnation: cluster.incarnation,
        revision: revision.0,
        schema: cluster.schema,
    };
    let mut settings = Vec::new();
    if let Some(path) = &config.source {
        let text = std::fs::read(path).map_err(|source| ServerError::Home { path: path.clone(), source })?;
        settings.push(("server.toml".to_owned(), text));
    }
    let blobs = config.blobs_folder();
    let mut keys = keys(&config.home)?;
    // A ring that lies elsewhere comes along under the name that a home has for it.
    if config.key_source != KeySource::Home {
        let ring = crate::keys::load(config, false).await?.ring();
        keys.retain(|(name, _)| name != "master.key");
        keys.push(("master.key".into(), SecretFile(ring.text())));
        keys.sort_by(|a, b| a.0.cmp(&b.0));
    }
    Ok(Dump { header, records, keys, settings, blobs: blobs.is_dir().then_some(blobs) })
}

/// Every key file of the home: whoever adds one need not think of backups.
fn keys(home: &Path) -> Result<Vec<(String, SecretFile)>, ServerError> {
    let failed = |source| ServerError::Home { path: home.to_owned(), source };
    let mut keys = Vec::new();
    for entry in std::fs::read_dir(home).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".key")
            && !name.starts_with('.')
            && let Some(bytes) = keyfile::load(&entry.path())?
        {
            keys.push((name, SecretFile(bytes)));
        }
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(keys)
}
