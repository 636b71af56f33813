//! Writing a tree into a folder of its own. The archive is checked as a whole first; since nothing in
//! it lies below a link and the folder is new, nothing is ever written outside.

use crate::{
    check::{Entry, Summary, What, check, walk},
    error::{Result, TreeError},
};
use std::{
    fs, io,
    io::{Read, Seek},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

/// What a folder has that the archive only implies.
const IMPLIED: u32 = 0o755;
/// What the owner of a folder always has, so that it can be removed again.
const OWN: u32 = 0o700;

/// Unpacks a checked archive into `into`, which must not exist. Permission bits are the archive's,
/// but for those that give a program another user's rights, which are dropped, and the right of the
/// owner on folders, which is always whole. With `owners` files get the archive's owner, which takes
/// root; without, they belong to who unpacks.
///
/// Not synced: what is complete after a power cut is for the caller to see to.
///
/// # Errors
/// [`TreeError`]; what was written before is left for the caller to remove.
pub fn unpack(mut archive: impl Read + Seek, into: &Path, owners: bool) -> Result<Summary> {
    let rewind = |archive: &mut dyn Seek| archive.rewind().map_err(TreeError::Unreadable);
    rewind(&mut archive)?;
    check(&mut archive)?;
    rewind(&mut archive)?;
    folder(into)?;
    // Their rights come last, and the deepest first.
    let mut folders = vec![(into.to_owned(), IMPLIED)];
    let summary = walk(&mut archive, |entry, contents| {
        let path = into.join(&entry.path);
        for parent in entry.path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            let parent = into.join(parent);
            if !parent.is_dir() {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(OWN)
                    .create(&parent)
                    .map_err(TreeError::file("create", &parent))?;
                folders.push((parent, IMPLIED));
            }
        }
        put(entry, &path, contents, owners, &mut folders)
    })?;
    for (path, mode) in folders.iter().rev() {
        fs::set_permissions(path, fs::Permissions::from_mode(mode | OWN))
            .map_err(TreeError::file("change", path))?;
    }
    Ok(summary)
}

fn folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(OWN).create(path).map_err(TreeError::file("create", path))
}

fn put(
    entry: &Entry,
    path: &Path,
    contents: &mut dyn Read,
    owners: bool,
    folders: &mut Vec<(PathBuf, u32)>,
) -> Result<()> {
    let Entry { path: _, what, mode, uid, gid } = entry;
    match what {
        What::Folder => {
            if !path.is_dir() {
                folder(path)?;
            }
            folders.retain(|(known, _)| known != path);
            folders.push((path.to_owned(), *mode));
        }
        What::Link(target) => symlink(target, path).map_err(TreeError::file("create", path))?,
        What::File => {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let mut file = file.map_err(TreeError::file("create", path))?;
            io::copy(contents, &mut file).map_err(TreeError::file("write", path))?;
            // The owner first: a change of it may take rights away.
            if owners && (*uid, *gid) != (0, 0) {
                chown(path, Some(*uid), Some(*gid)).map_err(TreeError::file("change", path))?;
            }
            file.set_permissions(fs::Permissions::from_mode(*mode))
                .map_err(TreeError::file("change", path))?;
        }
    }
    Ok(())
}

/// Removes an unpacked tree; one that is not there is removed already.
///
/// # Errors
/// [`TreeError::File`].
pub fn remove(tree: &Path) -> Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TreeError::file("remove", tree)(error)),
        _ => Ok(()),
    }
}
