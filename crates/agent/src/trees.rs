//! Files that travelled with deployments: fetched by digest from the server, unpacked, mounted
//! read-only by containers.
//!
//! `trees/<digest>` is complete or not there: an archive is fetched into `.<digest>.tar`, where a
//! later attempt goes on, unpacked into `.<digest>.new`, synced, and renamed. The agent's folder is
//! private; inside, files have the rights that the archive gives them, for the users of containers.

use crate::{AgentError, error::Result, home::make_private};
use lattice_link::{LinkError, client::BulkDialer, code, message::TreeRequest};
use lattice_model::{
    container::{ContainerConfig, MountSource},
    spec::TreeDigest,
};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::timeout;
use tracing::{info, warn};

/// How long the server may say nothing.
const IDLE: Duration = Duration::from_secs(30);
/// How often what broke off is taken up again before it counts as a failure.
const ATTEMPTS: usize = 4;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(500);

/// The folder, and the way to the server.
#[derive(Debug)]
pub(crate) struct Trees {
    folder: PathBuf,
    bulk: OnceLock<BulkDialer>,
    /// What is being fetched: the reconciler asks for each once, and this makes sure.
    busy: Mutex<BTreeSet<TreeDigest>>,
}

impl Trees {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, bulk: OnceLock::new(), busy: Mutex::default() }
    }

    /// Says how the server is reached.
    pub(crate) fn reach(&self, bulk: BulkDialer) {
        let _ = self.bulk.set(bulk);
    }

    fn place(&self, tree: TreeDigest) -> PathBuf {
        self.folder.join(tree.to_string())
    }

    fn hidden(&self, tree: TreeDigest, end: &str) -> PathBuf {
        self.folder.join(format!(".{tree}.{end}"))
    }

    /// The trees that are there, whole.
    pub(crate) fn list(&self) -> BTreeSet<TreeDigest> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    warn!(folder = %self.folder.display(), %error, "the folder of files cannot be read");
                }
                return BTreeSet::new();
            }
        };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// Fetches and unpacks one.
    pub(crate) async fn fetch(self: &Arc<Self>, tree: TreeDigest) -> Result<()> {
        if !self.busy.lock().insert(tree) {
            return Err(AgentError::Misfit { problem: "the same files are fetched twice at once" });
        }
        let _busy = Busy(self, tree);
        make_private(&self.folder)?;
        let mut attempt = 1;
        loop {
            match self.receive(tree).await {
                Ok(()) => break,
                Err(error) if attempt >= ATTEMPTS || !passing(&error) => return Err(error),
                Err(error) => {
                    warn!(%tree, attempt, error = crate::error::chain(&error), "fetching files broke off; it goes on")
                }
            }
            tokio::time::sleep(PAUSE * u32::try_from(attempt).unwrap_or(1)).await;
            attempt += 1;
        }
        let this = Arc::clone(self);
        let unpacked = tokio::task::spawn_blocking(move || this.unpack(tree)).await;
        unpacked.map_err(|_| AgentError::Misfit { problem: "unpacking files ended early" })?
    }

    /// Fetches what is missing of the archive; whole at the end, or the file is gone.
    async fn receive(&self, tree: TreeDigest) -> Result<()> {
        let bulk = self
            .bulk
            .get()
            .ok_or(AgentError::Misfit { problem: "files are fetched before there is a link" })?;
        let path = self.hidden(tree, "tar");
        let write = |source| AgentError::file("write", &path)(source);
        let (mut file, mut hash, offset) = resume(&path).map_err(write)?;
        let reader = timeout(IDLE, bulk.fetch_tree(TreeRequest { digest: tree, offset })).await;
        let mut reader = match reader.map_err(|_| silent())? {
            Ok(reader) => reader,
            Err(error) => {
                // Nothing is known to be worth keeping.
                if offset == 0 {
                    let _ = fs::remove_file(&path);
                }
                return Err(error.into());
            }
        };
        if reader.size() > lattice_tree::MAX_BYTES {
            return Err(AgentError::Misfit { problem: "files of more than 64 MiB" });
        }
        info!(%tree, bytes = reader.size(), from = offset, "fetches files");
        while let Some(bytes) = timeout(IDLE, reader.next()).await.map_err(|_| silent())?? {
            hash.update(&bytes);
            file.write_all(&bytes).map_err(write)?;
        }
        if TreeDigest::from_sha256(hash.finalize().into()) != tree {
            fs::remove_file(&path).map_err(write)?;
            return Err(AgentError::Misfit { problem: "files with another digest than the goal names" });
        }
        Ok(())
    }

    fn unpack(&self, tree: TreeDigest) -> Result<()> {
        let (archive, fresh, place) = (self.hidden(tree, "tar"), self.hidden(tree, "new"), self.place(tree));
        lattice_tree::remove(&fresh)?;
        let file = fs::File::open(&archive).map_err(AgentError::file("read", &archive))?;
        let unpacked =
            lattice_tree::unpack(BufReader::new(file), &fresh, rustix::process::geteuid().is_root());
        if let Err(error) = unpacked {
            let _ = lattice_tree::remove(&fresh);
            // The server has checked it, so another copy would be no better; but a full disk may
            // have room again, and then the bytes need not come again.
            if !matches!(error, lattice_tree::TreeError::File { .. }) {
                let _ = fs::remove_file(&archive);
            }
            return Err(error.into());
        }
        // Complete on disk before it has its name: after a power cut it is whole or not there.
        sync(&fresh)?;
        fs::rename(&fresh, &place).map_err(AgentError::file("create", &place))?;
        sync(&self.folder)?;
        fs::remove_file(&archive).map_err(AgentError::file("remove", &archive))
    }

    /// Removes one.
    pub(crate) fn remove(&self, tree: TreeDigest) -> Result<()> {
        let (place, leaving) = (self.place(tree), self.hidden(tree, "old"));
        lattice_tree::remove(&leaving)?;
        // Renamed first, so that what is half removed has no name.
        match fs::rename(&place, &leaving) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(AgentError::file("remove", &place)(error)),
            Ok(()) => Ok(lattice_tree::remove(&leaving)?),
        }
    }

    /// Removes what attempts of an earlier agent left.
    pub(crate) fn clear_leftovers(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".new") || name.ends_with(".old") {
                let _ = lattice_tree::remove(&entry.path());
            } else if name.ends_with(".tar") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Whether what a container mounts of trees is there, and inside of them; else why not.
    pub(crate) fn mountable(&self, config: &ContainerConfig) -> Result<(), String> {
        for mount in &config.mounts {
            let MountSource::Tree(path) = &mount.source else { continue };
            let within = Path::new(path).strip_prefix(&self.folder).ok();
            let tree = within.and_then(|rest| rest.components().next());
            let Some(tree) = tree else {
                return Err(format!("{path} is no file that travelled with the deployment"));
            };
            let shown = within.map(|rest| rest.components().skip(1).collect::<PathBuf>()).unwrap_or_default();
            let root = fs::canonicalize(self.folder.join(tree));
            let real = fs::canonicalize(path);
            let inside = root.is_ok_and(|root| real.is_ok_and(|real| real.starts_with(root)));
            if !inside {
                return Err(format!(
                    "the files that travelled with the deployment have no {:?} for {}; deploy it again with that file in its folder",
                    shown.display(),
                    mount.target
                ));
            }
        }
        Ok(())
    }
}

/// Frees the place in the end.
struct Busy<'a>(&'a Trees, TreeDigest);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().remove(&self.1);
    }
}

fn silent() -> AgentError {
    LinkError::Closed(lattice_link::CloseReason::Silent).into()
}

/// Whether the next moment may be better.
fn passing(error: &AgentError) -> bool {
    match error {
        AgentError::Link(LinkError::Refused(refusal)) => refusal.code != code::TREE_UNKNOWN,
        AgentError::Link(_) => true,
        _ => false,
    }
}

/// Opens what is there of an archive, with its hash so far.
fn resume(path: &Path) -> io::Result<(fs::File, Sha256, u64)> {
    let mut file =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0; 64 << 10]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((file, hash, bytes));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Brings everything of a folder's file system to disk: thousands of small files at once, where
/// syncing each would take long.
fn sync(folder: &Path) -> Result<()> {
    let open = fs::File::open(folder).map_err(AgentError::file("sync", folder))?;
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(&open).map_err(|error| AgentError::file("sync", folder)(error.into()))?;
    #[cfg(not(target_os = "linux"))]
    {
        drop(open);
        rustix::fs::sync();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_tree::Packer;

    #[test]
    fn what_is_unpacked_is_whole_listed_and_removed_again() {
        let home = tempfile::tempdir().unwrap();
        let trees = Trees::new(home.path().join("trees"));
        assert!(trees.list().is_empty());
        make_private(&trees.folder).unwrap();
        let mut packer = Packer::new();
        packer.file(Path::new("conf/app.conf"), 0o440, (0, 0), b"x").unwrap();
        let packed = packer.finish().unwrap();
        fs::write(trees.hidden(packed.digest, "tar"), &packed.archive).unwrap();
        trees.unpack(packed.digest).unwrap();
        assert_eq!(trees.list(), [packed.digest].into());
        assert_eq!(fs::read(trees.place(packed.digest).join("conf/app.conf")).unwrap(), b"x");
        fs::create_dir(trees.hidden(packed.digest, "new")).unwrap();
        fs::write(trees.hidden(TreeDigest::of(b"y"), "tar"), "half").unwrap();
        trees.clear_leftovers();
        trees.remove(packed.digest).unwrap();
        trees.remove(packed.digest).unwrap();
        assert_eq!(fs::read_dir(&trees.folder).unwrap().count(), 0);
    }

    #[test]
    fn a_part_that_is_there_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let (mut file, hash, offset) = resume(&path).unwrap();
        assert_eq!((offset, hash.finalize()), (0, Sha256::digest(b"")));
        file.write_all(b"abc").unwrap();
        let (mut file, mut hash, offset) = resume(&path).unwrap();
        assert_eq!(offset, 3);
        file.write_all(b"def").unwrap();
        hash.update(b"def");
        assert_eq!(
            (hash.finalize(), fs::read(&path).unwrap()),
            (Sha256::digest(b"abcdef"), b"abcdef".to_vec())
        );
    }
}
