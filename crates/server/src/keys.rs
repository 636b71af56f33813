//! The keys that a server seals with, and what they seal in the store.
//!
//! The ring lies outside of the database: in `master.key` of the home, in a file that the operator
//! names, or with a program that gives it (`[secrets]` in server.toml). Secrets are envelopes
//! ([`lattice_identity::KeyRing`]); the authority's keys are sealed by the newest key itself.
//!
//! A rotation may stop anywhere. What is not under the newest key is brought there by every server
//! once an hour, and older keys are taken out an hour after nothing needs them: a backup that was
//! being made meanwhile has what it needs.

use crate::{
    StoreConfig,
    api::principal::Principal,
    clock,
    config::{KeySource, ServerConfig},
    controllers::servers,
    error::ServerError,
    rows::{self, AuthorityRow, Event, FormerSecret, Secret, Stored},
    state::{Core, core::store_refusal},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use lattice_api::{ErrorBody, ErrorCode, KeyRotation};
use lattice_identity::{CertificateAuthority, Envelope, IdentityError, KeyRing, keyfile, same_secret};
use lattice_model::{Duration, ProjectName, SecretName, Timestamp};
use lattice_store::{ApplyError, Key, Op, Transaction};
use parking_lot::{Mutex, RwLock};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};
use zeroize::Zeroizing;

/// The file of the ring in the home.
pub(crate) const HOME_FILE: &str = "master.key";
/// How many rows are changed at once.
const AT_ONCE: usize = 100;
/// How long older keys stay when nothing needs them.
const KEEP_OLDER: Duration = Duration::from_secs(3600);
/// How long a program may take to give the keys.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The ring and where it comes from.
pub(crate) struct Keys {
    source: Source,
    ring: RwLock<Arc<KeyRing>>,
    /// Since when nothing needs the older keys.
    idle: Mutex<Option<Timestamp>>,
    /// One rotation at a time.
    rotating: tokio::sync::Mutex<()>,
}

enum Source {
    File(PathBuf),
    Command,
}

/// Reads the ring. Where it is a file and there is none, one is made if `may_make`.
pub(crate) async fn load(config: &ServerConfig, may_make: bool) -> Result<Keys, ServerError> {
    let from = |path: PathBuf| {
        if !may_make && !path.exists() {
            return Err(ServerError::NoMasterKey { path });
        }
        let ring = KeyRing::load_or_create(&path)?;
        Ok((Source::File(path), ring))
    };
    let (source, ring) = match &config.key_source {
        KeySource::Home => from(config.home.join(HOME_FILE))?,
        KeySource::File(path) => from(path.clone())?,
        KeySource::Command(command) => (Source::Command, ask(command).await?),
    };
    let (ring, idle, rotating) =
        (RwLock::new(Arc::new(ring)), Mutex::default(), tokio::sync::Mutex::default());
    Ok(Keys { source, ring, idle, rotating })
}

async fn ask(command: &[String]) -> Result<KeyRing, ServerError> {
    let failed = |problem: String| ServerError::KeyCommand { problem };
    let (program, arguments) = command.split_first().ok_or_else(|| failed("it is empty".into()))?;
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(PATIENCE, run).await {
        Err(_) => return Err(failed("it did not end within 30 s".into())),
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
    };
    let text = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(failed(format!("it ended with {}", output.status)));
    }
    Ok(KeyRing::parse(&text, &PathBuf::from(program))?)
}

fn place(project: &ProjectName, name: &SecretName, version: u64) -> String {
    format!("secret/{}/{version}", rows::secret_id(project, name))
}

fn decode(text: &str) -> Result<Vec<u8>, IdentityError> {
    BASE64_STANDARD.decode(text).map_err(|_| IdentityError::NotSealed)
}

impl Keys {
    /// The ring as it is now.
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        self.ring.read().clone()
    }

    /// A secret's value as a row's `sealed` and `key`.
    pub(crate) fn seal(
        &self,
        project: &ProjectName,
        name: &SecretName,
        version: u64,
        value: &[u8],
    ) -> Result<(String, Option<String>), IdentityError> {
        let Envelope { key, value } = self.ring().seal(&place(project, name, version), value)?;
        Ok((BASE64_STANDARD.encode(value), Some(BASE64_STANDARD.encode(key))))
    }

    /// The value of a row.
    pub(crate) fn open(&self, row: &Secret) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        let Secret { project, name, version, sealed, key, .. } = row;
        let (ring, value) = (self.ring(), decode(sealed)?);
        match key {
            None => ring.open(&format!("secret/{}", rows::secret_id(project, name)), &value),
            Some(key) => {
                ring.open_envelope(&place(project, name, *version), &Envelope { key: decode(key)?, value })
            }
        }
    }

    /// The row under the newest key; nothing where it is already.
    fn renewed(&self, row: &Secret) -> Result<Option<Secret>, IdentityError> {
        let Secret { project, name, version, key, .. } = row;
        let Some(key) = key else {
            let (sealed, key) = self.seal(project, name, *version, &self.open(row)?)?;
            return Ok(Some(Secret { sealed, key, ..row.clone() }));
        };
        let key = self.ring().rewrap(&place(project, name, *version), &decode(key)?)?;
        Ok(key.map(|key| Secret { key: Some(BASE64_STANDARD.encode(key)), ..row.clone() }))
    }
}

/// The authority, by whichever key of the ring sealed it.
pub(crate) fn open_authority(
    ring: &KeyRing,
    stored: &lattice_identity::ExportedAuthority,
) -> Result<CertificateAuthority, IdentityError> {
    match CertificateAuthority::import(ring.current(), stored) {
        Err(IdentityError::OtherMasterKey { wanted, present }) => match ring.get(wanted) {
            Some(key) => CertificateAuthority::import(key, stored),
            None => Err(IdentityError::OtherMasterKey { wanted, present }),
        },
        other => other,
    }
}

/// Goes over to a new key.
pub(crate) async fn rotate(core: &Core, who: &Principal) -> Result<KeyRotation, ErrorBody> {
    let keys = &core.keys;
    let refuse = |text: &str, hint: &str| Err(ErrorBody::new(ErrorCode::Conflict, text, hint));
    let Source::File(path) = &keys.source else {
        return refuse(
            "the keys come from secrets.key_command, so that this server cannot make a new one",
            "let the command give a new key as its first line and the older ones after it, then restart the server",
        );
    };
    if matches!(core.config.store, StoreConfig::Postgres(_)) && !servers::others(core).await.is_empty() {
        return refuse(
            "other servers of this store live, and would not know the new key",
            "stop them, rotate, copy the key file to their machines, and start them again",
        );
    }
    let Ok(_alone) = keys.rotating.try_lock() else {
        return refuse("the key is being rotated already", "wait for that to end");
    };
    let internal = |error: IdentityError| {
        // Nobody's fault: older keys stay for a while after each rotation.
        if matches!(error, IdentityError::TooManyKeys) {
            let hint = "wait until the older keys are retired, then rotate";
            return ErrorBody::new(ErrorCode::Conflict, error.to_string(), hint);
        }
        tracing::error!(%error, "the key was not rotated");
        ErrorBody::new(ErrorCode::Internal, error.to_string(), "look at the server's log")
    };
    // 1. On disk before anything is sealed by it, and only over what this server read there: a key that
    // somebody else put into the file may be the one that others seal with.
    let (ring, path) = (keys.ring(), path.clone());
    let told = path.display().to_string();
    let (new, at) = (ring.with_new_key().map_err(internal)?, path.clone());
    let saved = tokio::task::spawn_blocking(move || match on_disk(&at, &ring)? {
        true => new.save(&at).map(|()| Some(new)),
        false => Ok(None),
    });
    let saved = saved.await;
    let new = match saved {
        Ok(Ok(Some(new))) => new,
        Ok(Ok(None)) => {
            return refuse(
                &format!("{told} is not as this server read it at its start"),
                "restart the server, so that it has the keys that are there, then rotate",
            );
        }
        Ok(Err(error)) => return Err(internal(error)),
        Err(_) => return Err(ErrorBody::new(ErrorCode::Unavailable, "the server is going down", "")),
    };
    let key = new.current().id().to_string();
    *keys.ring.write() = Arc::new(new);
    *keys.idle.lock() = None;
    let mut ops = vec![rows::create(&who.audit("key.rotate", &key, "a new key seals"))];
    let text = "a new key seals what the server stores";
    ops.extend(rows::events([
        Event::new("key.rotated", &key, text).because(Some(format!("asked by {}", who.name)))
    ]));
    core.store.apply(Transaction::new(ops)).await.map_err(|error| store_refusal(&error))?;
    // 2.
    let Pass { renewed, left } = renew(core).await?;
    Ok(KeyRotation { key, file: told, rewrapped: renewed, left })
}

/// Whether the file has the ring as it was read.
fn on_disk(path: &Path, ring: &KeyRing) -> Result<bool, IdentityError> {
    let Some(text) = keyfile::load(path)? else { return Ok(false) };
    Ok(same_secret(&KeyRing::parse(&text, path)?.text(), &ring.text()))
}

/// What one look at everything did.
#[derive(Default)]
struct Pass {
    renewed: u64,
    left: u64,
}

/// Every hour: goes on with a rotation that stopped, and ends it.
pub(crate) async fn keep(core: &Core) {
    // Whoever asked for a rotation carries it on.
    let Ok(_alone) = core.keys.rotating.try_lock() else { return };
    match renew(core).await {
        Ok(Pass { left: 0, .. }) => {}
        Ok(Pass { left, .. }) => {
            *core.keys.idle.lock() = None;
            return tracing::warn!(
                left,
                "some stored values are not under the newest key yet; they are tried again"
            );
        }
        Err(body) => {
            return tracing::warn!(
                error = body.message,
                "stored values were not brought under the newest key"
            );
        }
    }
    let (Source::File(path), ring, now) = (&core.keys.source, core.keys.ring(), clock::now()) else { return };
    if !ring.has_older() {
        return;
    }
    let since = *core.keys.idle.lock().get_or_insert(now);
    if since + KEEP_OLDER > now {
        return;
    }
    // 3. The file may have been changed by a person meanwhile; then it is theirs to end.
    if !on_disk(path, &ring).unwrap_or(false) {
        return tracing::warn!(path = %path.display(), "the key file was changed by somebody else; its older keys stay");
    }
    let alone = ring.without_older();
    match alone.save(path) {
        Ok(()) => {
            *core.keys.ring.write() = Arc::new(alone);
            tracing::info!("older keys are retired; nothing is sealed by them any more");
        }
        Err(error) => tracing::error!(%error, "older keys could not be retired"),
    }
}

/// Brings everything under the newest key, in transactions of a bounded size. What somebody changes
/// at the same time is left for the next time.
async fn renew(core: &Core) -> Result<Pass, ErrorBody> {
    let mut pass = Pass::default();
    let failed = |error: &lattice_store::StoreError| {
        tracing::error!(%error, "the store cannot be read");
        ErrorBody::new(ErrorCode::Unavailable, "the store cannot be read", "look at the server's log")
    };
    let mut ops: Vec<Op> = Vec::new();
    for row in core.snapshot().secrets.values() {
        match core.keys.renewed(row) {
            Ok(None) => {}
            Ok(Some(renewed)) => ops.push(rows::update(&renewed, row.revision)),
            Err(error) => lost(&mut pass, &format!("{:?}", row.value), &error),
        }
    }
    let former = core.store.list(FormerSecret::KIND, None).await.map_err(|error| failed(&error))?;
    for record in &former.records {
        let Ok(FormerSecret(row)) = rows::read::<FormerSecret>(record) else { continue };
        match core.keys.renewed(&row) {
            Ok(None) => {}
            Ok(Some(renewed)) => ops.push(rows::update(&FormerSecret(renewed), record.revision.0)),
            Err(error) => lost(&mut pass, &format!("{row:?}"), &error),
        }
    }
    let authority =
        core.store.get(&Key::new(AuthorityRow::KIND, "ca")).await.map_err(|error| failed(&error))?;
    if let Some(record) = authority
        && let Ok(AuthorityRow(stored)) = rows::read::<AuthorityRow>(&record)
    {
        let ring = core.keys.ring();
        if matches!(
            CertificateAuthority::import(ring.current(), &stored),
            Err(IdentityError::OtherMasterKey { .. })
        ) {
            match open_authority(&ring, &stored).and_then(|authority| authority.export(ring.current())) {
                Ok(renewed) => ops.push(rows::update(&AuthorityRow(renewed), record.revision.0)),
                Err(error) => lost(&mut pass, "the authority", &error),
            }
        }
    }
    for chunk in chunks(ops) {
        let count = chunk.len() as u64;
        match core.store.apply(Transaction::new(chunk)).await {
            Ok(applied) => {
                core.caught_up(applied.revision.0).await;
                pass.renewed += count;
            }
            Err(error @ ApplyError::Conflict { .. }) => {
                tracing::debug!(%error, "somebody was faster; it is tried again");
                pass.left += count;
            }
            Err(error) => return Err(store_refusal(&error)),
        }
    }
    Ok(pass)
}

fn lost(pass: &mut Pass, what: &str, error: &IdentityError) {
    tracing::error!(what, %error, "a stored value cannot be opened");
    pass.left += 1;
}

/// Bounded in number and, as a value may have half a megabyte, in bytes.
fn chunks(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let (mut chunks, mut bytes) = (vec![Vec::new()], 0);
    for op in ops {
        let size = op.body().map_or(0, |body| body.len());
        if bytes + size > 4 << 20 || chunks.last().is_some_and(|chunk: &Vec<Op>| chunk.len() >= AT_ONCE) {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(op);
        }
    }
    chunks.retain(|chunk| !chunk.is_empty());
    chunks
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Server;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn older_keys_go_an_hour_after_nothing_needs_them_and_not_over_somebody_elses_file() {
        let home = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let config = ServerConfig { api_listen: any, agent_listen: any, ..ServerConfig::new(home.path()) };
        let server = Server::start(config, CancellationToken::new()).await.unwrap();
        let core = &server.core;
        let path = home.path().join(HOME_FILE);
        let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
        // A crash right after step 1: the authority is under the older key.
        let ring = core.keys.ring().with_new_key().unwrap();
        ring.save(&path).unwrap();
        *core.keys.ring.write() = Arc::new(ring.clone());
        let long_ago = || *core.keys.idle.lock() = Some(Timestamp(0));
        keep(core).await;
        assert_eq!(lines(), 2, "what needed the older key was just wrapped anew; it stays for an hour");
        let stored = core.store.get(&Key::new(AuthorityRow::KIND, "ca")).await.unwrap().unwrap();
        let AuthorityRow(stored) = rows::read(&stored).unwrap();
        assert!(CertificateAuthority::import(ring.current(), &stored).is_ok());
        // Somebody put a third key there: not ours to take away.
        ring.with_new_key().unwrap().save(&path).unwrap();
        long_ago();
        keep(core).await;
        assert_eq!(lines(), 3);
        let body = rotate(core, &Principal::process()).await.unwrap_err();
        assert!(body.message.contains("master.key") && body.hint.contains("restart"), "{body:?}");
        // As it was, and the hour is over.
        ring.save(&path).unwrap();
        long_ago();
        keep(core).await;
        assert_eq!((lines(), core.keys.ring().has_older()), (1, false));
        assert!(!core.keys.ring().covers(&ring));
        server.shutdown();
        server.wait().await;
    }
}
