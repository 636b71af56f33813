//! Secrets as files in memory: one folder per allocation below one of this node, on a tmpfs, so
//! that nothing of them reaches a disk or the engine's own description of a container.

use crate::{AgentError, error::Result, home::make_private};
use lattice_converge::SecretFile;
use lattice_model::{AllocationId, NodeId};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// The folder in memory.
#[derive(Debug)]
pub(crate) struct SecretsDir {
    dir: PathBuf,
}

/// Where a tmpfs is to be expected: `/run` for root, the user's runtime folder, shared memory.
fn candidates() -> Vec<PathBuf> {
    let mut all = Vec::new();
    if rustix::process::geteuid().is_root() {
        all.push(PathBuf::from("/run"));
    }
    all.extend(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()));
    all.push("/dev/shm".into());
    all
}

fn in_memory(path: &Path) -> bool {
    // The type of the field differs between platforms.
    #[allow(clippy::unnecessary_cast)]
    rustix::fs::statfs(path).is_ok_and(|stat| IN_MEMORY.contains(&(stat.f_type as u64)))
}

/// Makes a folder of this user alone. Shared memory is everybody's: what somebody else put there
/// under this name is refused.
fn own(folder: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    match fs::symlink_metadata(folder) {
        Ok(found) if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() => {
            let problem = "somebody else made it; find out who, and remove it".to_owned();
            Err(AgentError::Damaged { path: folder.to_owned(), problem })
        }
        _ => make_private(folder),
    }
}

/// Gives a file to a user and a group of the container, where it has others.
fn own_as(path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let found = fs::metadata(path)?;
    let same = uid.is_none_or(|uid| uid == found.uid()) && gid.is_none_or(|gid| gid == found.gid());
    if same { Ok(()) } else { chown(path, uid, gid) }
}

impl SecretsDir {
    /// The folder's place; it is made when the first secret is written.
    pub(crate) fn find(node: NodeId) -> Result<Self> {
        let all = candidates();
        match all.iter().find(|path| in_memory(path)) {
            Some(base) => Ok(Self { dir: base.join(format!("lattice-agent-{node}/secrets")) }),
            None => {
                let tried: Vec<_> = all.iter().map(|path| path.display().to_string()).collect();
                Err(AgentError::NoMemoryFolder { tried: tried.join(", ") })
            }
        }
    }

    /// Everything that is there of a node, wherever an agent of this user may have put it.
    pub(crate) fn left(node: NodeId) -> Vec<PathBuf> {
        let mut bases = candidates();
        bases.push(PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw())));
        bases.dedup();
        let there = bases.into_iter().map(|base| base.join(format!("lattice-agent-{node}")));
        let mut there: Vec<_> = there.filter(|folder| folder.is_dir()).collect();
        there.dedup();
        there
    }

    pub(crate) fn path(&self) -> String {
        self.dir.display().to_string()
    }

    /// Writes the files of an allocation. A file that is there is changed in place, since a
    /// container may have it mounted.
    pub(crate) fn write(&self, files: &[SecretFile]) -> Result<()> {
        for SecretFile { path, mode, uid, gid, value } in files {
            let path = Path::new(path);
            // Written by the reconciler from the folder given to it; anything else is a defect.
            let plain = |part: &Path| part.file_name().is_some();
            let inside = |folder: &&Path| plain(path) && plain(folder) && folder.parent() == Some(&*self.dir);
            let folder = path.parent().filter(inside);
            let Some(folder) = folder else {
                return Err(AgentError::Misfit { problem: "a secret outside of its folder" });
            };
            for folder in [self.dir.parent(), Some(&self.dir), Some(folder)].into_iter().flatten() {
                own(folder)?;
            }
            if !in_memory(&self.dir) {
                return Err(AgentError::NoMemoryFolder { tried: self.path() });
            }
            let owned = || own_as(path, *uid, *gid);
            let written = || -> io::Result<()> {
                if fs::read(path).is_ok_and(|present| present == value.reveal()) {
                    owned()?;
                    return fs::set_permissions(path, fs::Permissions::from_mode(*mode & 0o777));
                }
                // Cut afterwards, and not emptied first: who reads it meanwhile never finds nothing.
                let open =
                    || fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
                let mut file = open().or_else(|error| {
                    // One without the right to write, of an agent that is not root. Whoever may read it
                    // in the container goes on doing so.
                    let rights = fs::metadata(path).map_err(|_| error)?.permissions().mode() & 0o777;
                    fs::set_permissions(path, fs::Permissions::from_mode(rights | 0o200))?;
                    open()
                })?;
                file.write_all(value.reveal())?;
                file.set_len(value.reveal().len() as u64)?;
                // Before the rights: a change of the owner may take some away.
                owned()?;
                file.set_permissions(fs::Permissions::from_mode(*mode & 0o777))
            };
            written().map_err(|source| match (source.kind(), uid.or(*gid)) {
                (io::ErrorKind::PermissionDenied, Some(id)) if !rustix::process::geteuid().is_root() => {
                    AgentError::NotOurOwner { id }
                }
                _ => AgentError::file("write", path)(source),
            })?;
        }
        Ok(())
    }

    /// Removes the files of an allocation.
    pub(crate) fn remove(&self, allocation: AllocationId) {
        let folder = self.dir.join(allocation.to_string());
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "secrets of an allocation could not be removed");
        }
    }

    /// Removes everything of this node.
    pub(crate) fn erase(&self) {
        if let Some(parent) = self.dir.parent() {
            let _ = fs::remove_dir_all(parent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::goal::SecretValue;

    #[test]
    fn files_have_their_mode_and_stay_within_their_folder() {
        let secrets = SecretsDir::find(NodeId::from_random(crate::clock::random_wide())).unwrap();
        let id = AllocationId::from_random(5);
        let file = |path: String, text: &str| SecretFile {
            path,
            mode: 0o440,
            uid: rustix::process::geteuid().is_root().then_some(1234),
            gid: None,
            value: SecretValue::new(text.as_bytes().to_vec()),
        };
        let path = format!("{}/{id}/0", secrets.path());
        secrets.write(&[file(path.clone(), "one")]).unwrap();
        secrets.write(&[file(path.clone(), "two")]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        secrets.write(&[file(path.clone(), "a longer one")]).unwrap();
        secrets.write(&[file(path.clone(), "short")]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o440);
        use std::os::unix::fs::MetadataExt as _;
        if rustix::process::geteuid().is_root() {
            assert_eq!(fs::metadata(&path).unwrap().uid(), 1234);
        }
        assert!(secrets.write(&[file("/tmp/elsewhere".into(), "x")]).is_err());
        assert!(secrets.write(&[file(format!("{}/../x", secrets.path()), "x")]).is_err());
        secrets.remove(id);
        assert!(!Path::new(&path).exists());
        // Somebody else's folder, or a link, under our name.
        let id = AllocationId::from_random(6);
        std::os::unix::fs::symlink("/tmp", secrets.dir.join(id.to_string())).unwrap();
        assert!(secrets.write(&[file(format!("{}/{id}/0", secrets.path()), "x")]).is_err());
        secrets.erase();
        assert!(!secrets.dir.parent().unwrap().exists());
    }
}
