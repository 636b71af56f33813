//! What an archive may hold. One walk over it fills a [`Layout`]; links are judged at the end, when
//! everything that they could lead over is known.

use crate::error::{Result, TreeError};
use std::{
    collections::BTreeMap,
    io::Read,
    path::{Component, Path, PathBuf},
};
use tar::EntryType;

/// The most bytes of an archive, headers included; it is not compressed, so its files have fewer.
pub const MAX_BYTES: u64 = 64 << 20;
/// The most entries, folders that are only implied included.
pub const MAX_ENTRIES: usize = 10_000;
/// The most components of a path.
pub const MAX_DEPTH: usize = 64;

/// The longest path or target of a link, in bytes: Linux takes no longer ones.
const MAX_PATH: usize = 4095;
/// The longest name of one file, in bytes.
const MAX_NAME: usize = 255;
/// The most links that one path may lead over, as in Linux.
const MAX_HOPS: usize = 40;

/// What an archive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files, folders and links.
    pub entries: usize,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Whether an archive may be unpacked anywhere.
///
/// # Errors
/// [`TreeError`] names the first entry that it may not hold, and why.
pub fn check(archive: impl Read) -> Result<Summary> {
    walk(archive, |_, _| Ok(()))
}

/// One entry, judged by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), allow(dead_code))]
pub(crate) struct Entry {
    /// Relative and plain; empty for the root itself.
    pub(crate) path: PathBuf,
    pub(crate) what: What,
    /// Permission bits alone.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    File,
    Folder,
    Link(PathBuf),
}

enum Node {
    File,
    Folder,
    Link(PathBuf),
}

/// Reads an archive entry by entry, then judges its links.
pub(crate) fn walk<R: Read>(
    archive: R,
    mut each: impl FnMut(&Entry, &mut dyn Read) -> Result<()>,
) -> Result<Summary> {
    let mut archive = tar::Archive::new(Bounded { inner: archive, left: MAX_BYTES });
    let mut layout = Layout::default();
    let mut summary = Summary::default();
    let failed = |error: std::io::Error| match error.get_ref().is_some_and(|inner| inner.is::<OverBound>()) {
        true => TreeError::TooMuch { what: "bytes", max: MAX_BYTES },
        false => TreeError::Unreadable(error),
    };
    for entry in archive.entries().map_err(failed)? {
        let mut raw = entry.map_err(failed)?;
        let entry = parse(&raw)?;
        layout.add(&entry)?;
        summary.entries += 1;
        if entry.what == What::File {
            summary.bytes += raw.size();
        }
        each(&entry, &mut raw)?;
    }
    layout.judge_links()?;
    Ok(summary)
}

/// The end of the bytes that are read at most.
#[derive(Debug)]
struct OverBound;

impl std::fmt::Display for OverBound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is more than a tree may have")
    }
}

impl std::error::Error for OverBound {}

struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(std::io::Error::other(OverBound)),
        }
        Ok(read)
    }
}

fn parse<R: Read>(raw: &tar::Entry<'_, R>) -> Result<Entry> {
    let unreadable = TreeError::Unreadable;
    let given = raw.path().map_err(unreadable)?.into_owned();
    let path = plain(&given)?;
    let header = raw.header();
    let what = match header.entry_type() {
        EntryType::Regular => What::File,
        EntryType::Directory => What::Folder,
        EntryType::Symlink => {
            let target = raw.link_name().map_err(unreadable)?.unwrap_or_default().into_owned();
            if target.as_os_str().is_empty() || target.as_os_str().len() > MAX_PATH {
                return Err(TreeError::refused(&path, "it is a link to nowhere"));
            }
            What::Link(target)
        }
        EntryType::Link => {
            return Err(TreeError::refused(&path, "it is a hard link; pack it as a file of its own"));
        }
        EntryType::Block | EntryType::Char | EntryType::Fifo => {
            return Err(TreeError::refused(&path, "it is a device or a pipe; leave it out"));
        }
        _ => return Err(TreeError::refused(&path, "it is of a kind that only some tar programs know")),
    };
    if path.as_os_str().is_empty() && what != What::Folder {
        return Err(TreeError::refused(&given, "the root is a folder; give the file a name"));
    }
    let id = |id: std::io::Result<u64>| u32::try_from(id.unwrap_or(u64::MAX)).ok();
    let (Some(uid), Some(gid)) = (id(header.uid()), id(header.gid())) else {
        return Err(TreeError::refused(&path, "its owner is no number of 32 bits"));
    };
    let mode = header.mode().map_err(TreeError::Unreadable)? & 0o777;
    Ok(Entry { path, what, mode, uid, gid })
}

/// The path without `.`, if it is one that stays inside.
fn plain(given: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    let mut depth = 0;
    if given.as_os_str().len() > MAX_PATH {
        return Err(TreeError::refused(given, "its path is longer than 4095 bytes"));
    }
    for component in given.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) if name.len() <= MAX_NAME && !name.as_encoded_bytes().contains(&0) => {
                path.push(name);
                depth += 1;
            }
            Component::Normal(_) => return Err(TreeError::refused(given, "a name in it is too long")),
            _ => {
                return Err(TreeError::refused(
                    given,
                    "its path leads out; paths are relative, without `..`",
                ));
            }
        }
    }
    if depth > MAX_DEPTH {
        return Err(TreeError::refused(given, "it lies deeper than 64 folders"));
    }
    Ok(path)
}

/// Everything that an archive holds, by path.
#[derive(Default)]
struct Layout(BTreeMap<PathBuf, Node>);

impl Layout {
    fn add(&mut self, entry: &Entry) -> Result<()> {
        for folder in entry.path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            match self.0.get(folder) {
                Some(Node::Folder) => {}
                Some(_) => {
                    return Err(TreeError::refused(&entry.path, "it lies below something that is no folder"));
                }
                None => drop(self.0.insert(folder.to_owned(), Node::Folder)),
            }
        }
        let node = match &entry.what {
            What::File => Node::File,
            What::Folder => Node::Folder,
            What::Link(target) => Node::Link(target.clone()),
        };
        match (self.0.get(&entry.path), &node) {
            (None, _) | (Some(Node::Folder), Node::Folder) => {}
            (Some(_), _) => return Err(TreeError::refused(&entry.path, "it is there twice")),
        }
        self.0.insert(entry.path.clone(), node);
        match self.0.len() > MAX_ENTRIES {
            true => Err(TreeError::TooMuch { what: "files and folders", max: MAX_ENTRIES as u64 }),
            false => Ok(()),
        }
    }

    fn judge_links(&self) -> Result<()> {
        for (path, node) in &self.0 {
            if let Node::Link(target) = node {
                self.follow(path, target)?;
            }
        }
        Ok(())
    }

    /// Follows a link as the kernel would, over further links, and refuses a way that leaves the tree.
    /// Where it ends at nothing it ends inside, which is harmless.
    fn follow(&self, link: &Path, target: &Path) -> Result<()> {
        let escapes = || {
            TreeError::refused(
                link,
                "it is a link that leads out; make it a relative one to something beside it",
            )
        };
        let mut place: PathBuf = link.parent().unwrap_or(Path::new("")).to_owned();
        let mut way: Vec<PathBuf> = vec![target.to_owned()];
        let mut hops = 0;
        while let Some(part) = way.pop() {
            let mut components = part.components();
            let Some(first) = components.next() else { continue };
            way.push(components.as_path().to_owned());
            match first {
                Component::CurDir => {}
                Component::ParentDir => {
                    if !place.pop() {
                        return Err(escapes());
                    }
                }
                Component::Normal(name) => {
                    place.push(name);
                    if let Some(Node::Link(next)) = self.0.get(&place) {
                        hops += 1;
                        if hops > MAX_HOPS {
                            return Err(TreeError::refused(link, "it is a link in a circle"));
                        }
                        place.pop();
                        way.push(next.clone());
                    }
                }
                Component::RootDir | Component::Prefix(_) => return Err(escapes()),
            }
        }
        Ok(())
    }
}
