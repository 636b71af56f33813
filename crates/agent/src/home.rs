//! The agent's folder: what is in it, who may use it, and how each part is kept.
//!
//! | file | what | how |
//! |---|---|---|
//! | `node.key` | the node's private key | made once, 0600 |
//! | `seal.key` | the key that seals goal, secrets and a pending join | made once, 0600 |
//! | `identity.json` | node, cluster, servers, root certificate; its presence means *joined* | replaced whole |
//! | `node.crt` | the present certificate and its intermediate, PEM | replaced whole |
//! | `ratchet` | what the next session presents | replaced whole |
//! | `join.sealed` | a join that waits for approval: token and name, sealed | replaced whole |
//! | `agent.db`, `outbox.db` | see [`crate::disk`] | SQLite |
//! | `former-nodes` | the nodes that this machine is or was, for `reset` to clean up after | replaced whole |
//! | `elsewhere.json` | the engines that it used, its logs: for `reset`, see [`crate::reset()`] | replaced whole |
//! | `made` | the uppermost folder that was made for this one | written once |
//! | `trees/` | files that travelled with deployments, see [`crate::trees`] | renamed when whole |
//! | `images/` | layers on their way to the engine, and the list of images that were brought, see [`crate::images`] | appended; the list replaced |
//! | `agent.toml` | the owner's word, see [`crate::AgentConfig`] | written by people |
//! | `rules.toml` | the owner's rules, see [`lattice_rules`] | replaced whole, or written by people |
//! | `pause.json` | the owner's pause, while there is one | replaced whole |
//! | `data-use.json` | what the machine sent and received this month | replaced whole |
//! | `agent.sock` | the local API | socket, 0600; on Windows the name of its pipe |
//! | `lock` | held while an agent, `join`, `leave` or `reset` runs; names the process | `flock` |
//!
//! The folder is 0700. Rejected: one file for all (a certificate is replaced twice a day, a key never).

use crate::{AgentError, error::Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use lattice_identity::{JoinToken, MasterKey, NodeKey, RatchetValue, ServerAddress, keyfile};
use lattice_model::{ClusterId, NodeId, NodeName, Timestamp};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use std::{
    env, fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use zeroize::{Zeroize as _, Zeroizing};

const JOIN_CONTEXT: &str = "agent/join";
const IDENTITY_VERSION: u32 = 1;

/// Where the state of Lattice on this machine is kept: `LATTICE_HOME`, else the platform's data
/// folder (`/var/lib/lattice` for root, else `$XDG_DATA_HOME/lattice` or `~/.local/share/lattice`).
pub fn default_home() -> Option<PathBuf> {
    let var = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = var("LATTICE_HOME") {
        return Some(home);
    }
    if cfg!(target_os = "macos") {
        return Some(var("HOME")?.join("Library/Application Support/Lattice"));
    }
    if rustix::process::geteuid().is_root() {
        return Some("/var/lib/lattice".into());
    }
    // A relative XDG path is to be ignored, as its specification says.
    let xdg = var("XDG_DATA_HOME").filter(|path| path.is_absolute());
    Some(xdg.or_else(|| Some(var("HOME")?.join(".local/share")))?.join("lattice"))
}

/// The files of an agent, by their paths. Looking needs no lock; see [`Home`] for changing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomePaths {
    dir: PathBuf,
}

impl HomePaths {
    /// Below `base`, which is [`default_home`] or what a person gave.
    pub fn new(base: &Path) -> Self {
        Self { dir: base.join("agent") }
    }

    /// The agent's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The local API's socket, or where the name of its pipe is.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    /// The owner's word.
    pub fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// The owner's rules.
    pub fn rules(&self) -> PathBuf {
        self.dir.join("rules.toml")
    }

    pub(crate) fn gpus(&self) -> PathBuf {
        self.dir.join("gpus.json")
    }

    pub(crate) fn pause(&self) -> PathBuf {
        self.dir.join("pause.json")
    }

    pub(crate) fn data_use(&self) -> PathBuf {
        self.dir.join("data-use.json")
    }

    /// What the links by several networks gave.
    pub(crate) fn links(&self) -> PathBuf {
        self.dir.join("links.json")
    }

    pub(crate) fn identity_file(&self) -> PathBuf {
        self.dir.join("identity.json")
    }

    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.dir.join("node.crt")
    }

    pub(crate) fn ratchet_file(&self) -> PathBuf {
        self.dir.join("ratchet")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("agent.db")
    }

    /// Files that travelled with deployments, each tree under its digest.
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    pub(crate) fn trees(&self) -> PathBuf {
        self.dir.join("trees")
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.dir.join("outbox.db")
    }

    fn join_file(&self) -> PathBuf {
        self.dir.join("join.sealed")
    }

    pub(crate) fn node_key(&self) -> PathBuf {
        self.dir.join("node.key")
    }

    fn seal_key(&self) -> PathBuf {
        self.dir.join("seal.key")
    }

    pub(crate) fn elsewhere(&self) -> PathBuf {
        self.dir.join("elsewhere.json")
    }

    pub(crate) fn made(&self) -> PathBuf {
        self.dir.join("made")
    }

    pub(crate) fn former_file(&self) -> PathBuf {
        self.dir.join("former-nodes")
    }

    /// The nodes that this machine is or was: what they have in the engine may still be there.
    ///
    /// # Errors
    /// [`AgentError::Damaged`], or what the file system says.
    pub fn former_nodes(&self) -> Result<Vec<NodeId>> {
        let path = self.former_file();
        let Some(bytes) = keyfile::load(&path)? else { return Ok(Vec::new()) };
        let read = |line: &str| line.parse().ok();
        let ids = std::str::from_utf8(&bytes).ok().and_then(|text| text.lines().map(read).collect());
        ids.ok_or_else(|| AgentError::Damaged { path, problem: "it is not a list of node ids".into() })
    }

    fn lock_file(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Who this node is; `None` before it has joined.
    ///
    /// # Errors
    /// [`AgentError::Damaged`], or what the file system says.
    pub fn identity(&self) -> Result<Option<Identity>> {
        let path = self.identity_file();
        let Some(bytes) = keyfile::load(&path)? else { return Ok(None) };
        let damaged = |problem: String| AgentError::Damaged { path: path.clone(), problem };
        let identity: Identity = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if identity.version != IDENTITY_VERSION {
            return Err(damaged(format!("layout {} is not known; update the agent", identity.version)));
        }
        Ok(Some(identity))
    }

    /// Whether a join was begun and waits for its decision.
    pub fn joining(&self) -> bool {
        self.join_file().exists()
    }

    /// The present certificate, the leaf first; empty when there is none.
    ///
    /// # Errors
    /// [`AgentError::Damaged`], or what the file system says.
    pub fn certificate(&self) -> Result<Vec<CertificateDer<'static>>> {
        let path = self.certificate_file();
        let Some(bytes) = keyfile::load(&path)? else { return Ok(Vec::new()) };
        CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| AgentError::Damaged { path, problem: error.to_string() })
    }
}

/// Who a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    version: u32,
    /// The node.
    pub node: NodeId,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The name that it asked for.
    pub name: Option<NodeName>,
    /// Where the servers are reached, in order of preference.
    pub servers: Vec<ServerAddress>,
    root: String,
    /// When it was approved, by this machine's clock.
    pub joined_at: Timestamp,
}

impl Identity {
    pub(crate) fn new(
        node: NodeId,
        cluster: ClusterId,
        name: Option<NodeName>,
        servers: Vec<ServerAddress>,
        root: &CertificateDer<'_>,
        joined_at: Timestamp,
    ) -> Self {
        let root = STANDARD.encode(root);
        Self { version: IDENTITY_VERSION, node, cluster, name, servers, root, joined_at }
    }

    /// The one root certificate that this node trusts.
    ///
    /// # Errors
    /// [`AgentError::Damaged`].
    pub fn root(&self) -> Result<CertificateDer<'static>> {
        STANDARD.decode(&self.root).map(CertificateDer::from).map_err(|_| AgentError::Damaged {
            path: "identity.json".into(),
            problem: "its root certificate is not base64".into(),
        })
    }
}

/// A join that was begun: resumed with the same key after a kill.
pub struct PendingJoin {
    /// The token.
    pub token: JoinToken,
    /// The name that was asked for.
    pub name: Option<NodeName>,
}

impl std::fmt::Debug for PendingJoin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingJoin").field("token", &self.token).field("name", &self.name).finish()
    }
}

#[derive(Serialize, Deserialize)]
struct StoredJoin {
    token: String,
    name: Option<NodeName>,
}

impl Drop for StoredJoin {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// An agent's folder, held by this process alone.
#[derive(Debug)]
pub struct Home {
    paths: HomePaths,
    seal: MasterKey,
    key: NodeKey,
    _lock: fs::File,
}

impl std::ops::Deref for Home {
    type Target = HomePaths;

    fn deref(&self) -> &HomePaths {
        &self.paths
    }
}

impl Home {
    /// Opens or makes it below `base`, and takes its lock.
    ///
    /// # Errors
    /// [`AgentError::HomeInUse`], [`AgentError::File`], or a damaged key.
    pub fn open(base: &Path) -> Result<Self> {
        let paths = HomePaths::new(base);
        let uppermost = first_missing(&paths.dir);
        make_private(&paths.dir)?;
        if let Some(uppermost) = uppermost {
            crate::reset::note_made(&paths, &uppermost)?;
        }
        let lock = lock(&paths)?;
        let seal = MasterKey::load_or_create(&paths.seal_key())?;
        let key = NodeKey::load_or_create(&paths.node_key())?;
        Ok(Self { paths, seal, key, _lock: lock })
    }

    /// The paths alone.
    pub const fn paths(&self) -> &HomePaths {
        &self.paths
    }

    /// The node's key.
    pub const fn key(&self) -> &NodeKey {
        &self.key
    }

    pub(crate) const fn seal(&self) -> &MasterKey {
        &self.seal
    }

    /// The join that was begun, if one.
    ///
    /// # Errors
    /// When the file cannot be read or opened.
    pub fn pending_join(&self) -> Result<Option<PendingJoin>> {
        let path = self.join_file();
        let Some(sealed) = keyfile::load(&path)? else { return Ok(None) };
        let opened = self.seal.open(JOIN_CONTEXT, &sealed)?;
        let stored: StoredJoin = serde_json::from_slice(&opened)
            .map_err(|error| AgentError::Damaged { path, problem: error.to_string() })?;
        Ok(Some(PendingJoin { token: JoinToken::parse(&stored.token)?, name: stored.name.clone() }))
    }

    pub(crate) fn begin_join(&self, token: &JoinToken, name: Option<&NodeName>) -> Result<()> {
        let stored = StoredJoin { token: token.reveal().to_string(), name: name.cloned() };
        let plain = Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default());
        Ok(keyfile::replace(&self.join_file(), &self.seal.seal(JOIN_CONTEXT, &plain)?)?)
    }

    pub(crate) fn end_join(&self) -> Result<()> {
        remove_if_there(&self.join_file())
    }

    /// Where the servers are from now on: they have moved, or are reached by another way. The root
    /// stays pinned, so a wrong address leads nowhere.
    ///
    /// # Errors
    /// [`AgentError::NotJoined`], or what the file system says.
    pub fn move_servers(&self, servers: Vec<ServerAddress>) -> Result<()> {
        let mut identity = self.identity()?.ok_or(AgentError::NotJoined)?;
        if servers.is_empty() || identity.servers == servers {
            return Ok(());
        }
        identity.servers = servers;
        self.save_identity(&identity)
    }

    fn save_identity(&self, identity: &Identity) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(identity).unwrap_or_default();
        Ok(keyfile::replace(&self.identity_file(), &bytes)?)
    }

    /// Keeps what makes this machine a node. The identity comes last, since it alone says *joined*.
    pub(crate) fn become_node(
        &self,
        identity: &Identity,
        chain: &[CertificateDer<'_>],
        ratchet: Option<&RatchetValue>,
    ) -> Result<()> {
        // What a former membership left must not meet the new one.
        for path in [self.database(), self.outbox()] {
            remove_database(&path)?;
        }
        match ratchet {
            Some(value) => self.save_ratchet(value)?,
            None => remove_if_there(&self.ratchet_file())?,
        }
        self.save_certificate(chain)?;
        // Said twice, so that a damaged file does not let the machine forget what it has to clean up.
        crate::reset::remember(&self.paths, &[identity.node].into())?;
        self.save_identity(identity)?;
        self.end_join()
    }

    pub(crate) fn save_certificate(&self, chain: &[CertificateDer<'_>]) -> Result<()> {
        let mut text = String::new();
        for der in chain {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in STANDARD.encode(der).as_bytes().chunks(64) {
                text.push_str(&String::from_utf8_lossy(line));
                text.push('\n');
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        Ok(keyfile::replace(&self.certificate_file(), text.as_bytes())?)
    }

    pub(crate) fn ratchet(&self) -> Result<Option<RatchetValue>> {
        let path = self.ratchet_file();
        let Some(bytes) = keyfile::load(&path)? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        let damaged = || AgentError::Damaged { path, problem: "it is not a session value".into() };
        text.map(Some).ok_or_else(damaged)
    }

    pub(crate) fn save_ratchet(&self, value: &RatchetValue) -> Result<()> {
        let text = Zeroizing::new(String::from(value.clone()));
        Ok(keyfile::replace(&self.ratchet_file(), text.as_bytes())?)
    }

    /// Forgets the membership: key, certificate, goal, reports. The owner's configuration stays, and
    /// which node it was, for [`HomePaths::former_nodes`].
    ///
    /// # Errors
    /// [`AgentError::File`].
    pub fn forget(self) -> Result<()> {
        let paths = &self.paths;
        if let Some(identity) = self.identity()? {
            crate::reset::remember(paths, &[identity.node].into())?;
        }
        // It alone says *joined*, so it goes before what a member needs.
        remove_if_there(&paths.identity_file())?;
        lattice_tree::remove(&paths.trees())?;
        // Which images were brought is still to be known: they stay where nobody removed them.
        crate::images::clear(&paths.images());
        for path in [paths.database(), paths.outbox()] {
            remove_database(&path)?;
        }
        let files = [
            paths.join_file(),
            paths.links(),
            paths.ratchet_file(),
            paths.certificate_file(),
            paths.node_key(),
            paths.seal_key(),
        ];
        files.iter().try_for_each(|path| remove_if_there(path))
    }
}

/// The lock of a folder alone, for who cleans up: nothing else of it has to be readable.
#[derive(Debug)]
pub struct Hold {
    paths: HomePaths,
    _lock: fs::File,
}

impl Hold {
    /// Takes the lock below `base`; `None` where there is no folder.
    ///
    /// # Errors
    /// [`AgentError::HomeInUse`], [`AgentError::File`].
    pub fn take(base: &Path) -> Result<Option<Self>> {
        let paths = HomePaths::new(base);
        if !paths.dir.exists() {
            return Ok(None);
        }
        let lock = lock(&paths)?;
        Ok(Some(Self { paths, _lock: lock }))
    }

    /// The paths.
    pub const fn paths(&self) -> &HomePaths {
        &self.paths
    }

    /// Removes everything but what the next reset needs to know. What cannot be removed stays.
    pub fn strip(self) {
        let paths = &self.paths;
        crate::images::clear(&paths.images());
        let needed = [
            paths.former_file(),
            paths.elsewhere(),
            paths.made(),
            paths.images(),
            paths.config(),
            paths.lock_file(),
        ];
        for entry in fs::read_dir(&paths.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if !needed.contains(&path) {
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
    }

    /// Removes the folder with everything in it, and those above it that were made for it and are empty,
    /// up to `uppermost`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn erase(self, uppermost: Option<&Path>) -> io::Result<()> {
        let dir = &self.paths.dir;
        fs::remove_dir_all(dir)?;
        let Some(uppermost) = uppermost else { return Ok(()) };
        for above in dir.ancestors().skip(1).take_while(|above| above.starts_with(uppermost)) {
            // What somebody else put there keeps it.
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// The uppermost of the folders of a path that is not there yet.
fn first_missing(dir: &Path) -> Option<PathBuf> {
    dir.ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.exists())
        .last()
        .map(Path::to_owned)
}

/// Makes a folder that only this user may enter.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
        .map_err(AgentError::file("create", dir))
}

fn lock(paths: &HomePaths) -> Result<fs::File> {
    let path = paths.lock_file();
    let open = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(AgentError::file("create", &path))?;
    match file.try_lock() {
        Ok(()) => {
            // Only for the message that the next one gets.
            let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
            Ok(file)
        }
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.take(20).read_to_string(&mut pid);
            Err(AgentError::HomeInUse { path: paths.dir.clone(), pid: pid.trim().to_owned() })
        }
        Err(fs::TryLockError::Error(source)) => Err(AgentError::File { action: "lock", path, source }),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AgentError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

pub(crate) fn remove_database(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        remove_if_there(Path::new(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_per_home_and_a_pending_join_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let error = Home::open(folder.path()).unwrap_err();
        let AgentError::HomeInUse { pid, .. } = &error else { panic!("{error}") };
        assert_eq!(*pid, std::process::id().to_string());
        let servers = vec!["127.0.0.1:7443".parse().unwrap()];
        let root = lattice_identity::Fingerprint::of(b"root");
        let secret = lattice_identity::TokenSecret::from_bytes([9; 32]);
        let id = lattice_model::TokenId::from_random(1);
        let token = JoinToken::new(servers, root, id, secret).unwrap();
        home.begin_join(&token, Some(&"desk".parse().unwrap())).unwrap();
        let on_disk = fs::read(home.join_file()).unwrap();
        assert!(!String::from_utf8_lossy(&on_disk).contains("lat1_"));
        drop(home);
        let home = Home::open(folder.path()).unwrap();
        let pending = home.pending_join().unwrap().unwrap();
        assert_eq!(*pending.token.reveal(), *token.reveal());
        assert!(home.identity().unwrap().is_none());
        drop(home);
        let root = CertificateDer::from(vec![1, 2, 3]);
        for n in [7, 8, 7] {
            let home = Home::open(folder.path()).unwrap();
            let (node, cluster) = (NodeId::from_random(n), ClusterId::from_random(1));
            let servers = vec!["127.0.0.1:7443".parse().unwrap()];
            home.save_identity(&Identity::new(node, cluster, None, servers, &root, Timestamp(1))).unwrap();
            home.forget().unwrap();
        }
        let home = Home::open(folder.path()).unwrap();
        assert!(home.identity().unwrap().is_none());
        assert_eq!(home.former_nodes().unwrap(), [8, 7].map(NodeId::from_random));
        drop(home);
        // Nothing is left, not even of the folders that were made for it, and what was there stays.
        let base = folder.path().join("a/b");
        drop(Home::open(&base).unwrap());
        let made = crate::reset::made(&HomePaths::new(&base));
        assert_eq!(made.as_deref(), Some(&*folder.path().join("a")));
        Hold::take(&base).unwrap().unwrap().erase(made.as_deref()).unwrap();
        assert!(!folder.path().join("a").exists() && folder.path().join("agent").exists());
        assert!(Hold::take(&base).unwrap().is_none());
        let kept = Home::open(folder.path()).unwrap();
        assert!(Hold::take(folder.path()).is_err(), "an agent has it");
        drop(kept);
    }
}
