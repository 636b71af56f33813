//! Making an archive: the same files give the same bytes, whenever and by whomever they are packed.
//! Instants and the packer's own user are left out of it.

use crate::{
    check::{MAX_BYTES, MAX_ENTRIES, Summary, check},
    error::{Result, TreeError},
    ignore::Ignore,
};
use lattice_model::spec::TreeDigest;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};
use tar::{EntryType, Header};

/// A finished archive.
#[derive(Clone)]
pub struct Tree {
    /// Its name.
    pub digest: TreeDigest,
    /// Its bytes.
    pub archive: Vec<u8>,
    /// What it holds.
    pub summary: Summary,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tree({}, {} bytes)", self.digest, self.archive.len())
    }
}

/// Packs files one by one; in which order is part of the digest.
pub struct Packer {
    builder: tar::Builder<Vec<u8>>,
    entries: usize,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packer({} entries)", self.entries)
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl Packer {
    /// An empty tree.
    pub fn new() -> Self {
        Self { builder: tar::Builder::new(Vec::new()), entries: 0 }
    }

    /// Adds a folder; folders on the way to a file need not be added.
    ///
    /// # Errors
    /// [`TreeError`] when there is too much.
    pub fn folder(&mut self, path: &Path, mode: u32) -> Result<()> {
        let mut header = header(EntryType::Directory, mode, (0, 0), 0);
        self.grow(0)?;
        self.builder.append_data(&mut header, path, io::empty()).map_err(misfit(path))
    }

    /// Adds a file with its permission bits and its owner inside the container: user and group.
    ///
    /// # Errors
    /// [`TreeError`] when there is too much, or the path is none.
    pub fn file(&mut self, path: &Path, mode: u32, owner: (u32, u32), contents: &[u8]) -> Result<()> {
        let mut header = header(EntryType::Regular, mode, owner, contents.len() as u64);
        self.grow(contents.len())?;
        self.builder.append_data(&mut header, path, contents).map_err(misfit(path))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// [`TreeError`] when there is too much, or the path is none.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        let mut header = header(EntryType::Symlink, 0o777, (0, 0), 0);
        self.grow(0)?;
        self.builder.append_link(&mut header, path, target).map_err(misfit(path))
    }

    fn grow(&mut self, bytes: usize) -> Result<()> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(TreeError::TooMuch { what: "files and folders", max: MAX_ENTRIES as u64 });
        }
        match (self.builder.get_ref().len() + bytes) as u64 > MAX_BYTES {
            true => Err(TreeError::TooMuch { what: "bytes", max: MAX_BYTES }),
            false => Ok(()),
        }
    }

    /// The archive, checked as a server would.
    ///
    /// # Errors
    /// [`TreeError`] names what it may not hold, such as a link that leads out.
    pub fn finish(self) -> Result<Tree> {
        let archive = self.builder.into_inner().map_err(TreeError::Unreadable)?;
        let summary = check(&*archive)?;
        Ok(Tree { digest: TreeDigest::of(&archive), archive, summary })
    }
}

fn header(kind: EntryType, mode: u32, (uid, gid): (u32, u32), size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn misfit(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            TreeError::refused(&path, "its path leads out; paths are relative, without `..`")
        }
        _ => TreeError::Unreadable(error),
    }
}

/// Packs a folder, or a single file under its own name. What `skip` says, by its path within the
/// folder, is left out with all below it. Owners become root, permission bits stay.
///
/// # Errors
/// [`TreeError`] names the file that cannot be read or cannot travel.
pub fn pack_folder(folder: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<Tree> {
    let mut packer = Packer::new();
    let found = fs::metadata(folder).map_err(TreeError::file("read", folder))?;
    if found.is_dir() {
        packer.folder(Path::new("."), mode(&found, 0o755))?;
        // Depth first, by name, so that the order is that of the names alone.
        let mut waiting = listed(folder, Path::new(""))?;
        while let Some(path) = waiting.pop() {
            if !skip(&path) && add(&mut packer, folder, &path)? {
                waiting.extend(listed(folder, &path)?);
            }
        }
    } else {
        let name = folder.file_name().map(PathBuf::from).unwrap_or_default();
        let contents = read(folder)?;
        packer.file(&name, mode(&found, 0o644), (0, 0), &contents)?;
    }
    packer.finish()
}

/// Packs what an image is built from: a folder without what is ignored, whose `always` travel all the same, and with
/// further files at its root. A folder that is ignored is there as far as something in it comes back.
///
/// # Errors
/// As [`pack_folder`].
pub fn pack_context(
    folder: &Path,
    ignore: &Ignore,
    always: &[&Path],
    more: &BTreeMap<PathBuf, Vec<u8>>,
) -> Result<Tree> {
    let mut packer = Packer::new();
    let found = fs::metadata(folder).map_err(TreeError::file("read", folder))?;
    packer.folder(Path::new("."), mode(&found, 0o755))?;
    let mut waiting = listed(folder, Path::new(""))?;
    // Folders that are ignored, and are added when something in them is not.
    let mut held: Vec<PathBuf> = Vec::new();
    while let Some(path) = waiting.pop() {
        held.retain(|folder| path.starts_with(folder));
        if more.contains_key(&path) {
            continue;
        }
        let kept = always.iter().any(|wanted| *wanted == path);
        if !kept && ignore.ignores(&path) {
            let full = folder.join(&path);
            let is_folder = fs::symlink_metadata(&full).map_err(TreeError::file("read", &full))?.is_dir();
            let above = always.iter().any(|wanted| wanted.starts_with(&path));
            if is_folder && (above || ignore.may_come_back_below(&path)) {
                waiting.extend(listed(folder, &path)?);
                held.push(path);
            }
            continue;
        }
        for above in held.drain(..) {
            add(&mut packer, folder, &above)?;
        }
        if add(&mut packer, folder, &path)? {
            waiting.extend(listed(folder, &path)?);
        }
    }
    for (path, contents) in more {
        packer.file(path, 0o644, (0, 0), contents)?;
    }
    packer.finish()
}

/// The names in a folder, the last one first.
fn listed(root: &Path, within: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(within);
    let entries = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(TreeError::file("read", &folder))?;
    let mut paths: Vec<PathBuf> = entries.iter().map(|entry| within.join(entry.file_name())).collect();
    paths.sort();
    paths.reverse();
    Ok(paths)
}

/// Adds what is at a path; whether it is a folder.
fn add(packer: &mut Packer, root: &Path, path: &Path) -> Result<bool> {
    let full = root.join(path);
    let found = fs::symlink_metadata(&full).map_err(TreeError::file("read", &full))?;
    if found.is_dir() {
        packer.folder(path, mode(&found, 0o755))?;
        return Ok(true);
    }
    if found.is_symlink() {
        let target = fs::read_link(&full).map_err(TreeError::file("read", &full))?;
        packer.link(path, &target)?;
    } else if found.is_file() {
        if found.len() > MAX_BYTES {
            return Err(TreeError::TooMuch { what: "bytes", max: MAX_BYTES });
        }
        packer.file(path, mode(&found, 0o644), (0, 0), &read(&full)?)?;
    } else {
        return Err(TreeError::refused(path, "it is a device, a pipe or a socket; leave it out"));
    }
    Ok(false)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    // It may grow while it is read.
    let read = fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut contents));
    read.map_err(TreeError::file("read", path))?;
    Ok(contents)
}

#[cfg(unix)]
fn mode(found: &fs::Metadata, _usual: u32) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    found.permissions().mode() & 0o777
}

#[cfg(not(unix))]
fn mode(_found: &fs::Metadata, usual: u32) -> u32 {
    usual
}
