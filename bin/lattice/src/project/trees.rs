//! Files that travel with a deployment: packed here, uploaded where the server lacks them.

use super::disk::locate;
use crate::error::CliError;
use anyhow::Context as _;
use lattice_compose::{Loaded, TreeContent};
use lattice_model::Bytes;
use lattice_tree::{MAX_BYTES, Packer, Tree, TreeError, pack_folder};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How many of the largest things are named when a tree is too large.
const NAMED: usize = 5;

/// Packs everything that the project mounts, and mounts it in the specification.
pub(crate) fn pack_all(folder: &Path, loaded: &mut Loaded) -> anyhow::Result<Vec<(String, Tree)>> {
    let mut packed = Vec::new();
    for index in 0..loaded.trees.len() {
        let content = &loaded.trees[index].content;
        let (what, tree) = (format!("{content:?}"), pack(folder, content)?);
        loaded.place_tree(index, tree.digest);
        packed.push((what, tree));
    }
    Ok(packed)
}

fn pack(folder: &Path, content: &TreeContent) -> anyhow::Result<Tree> {
    let too_large = |place: &Path| {
        let parts = largest_of(place);
        CliError::Failed(format!(
            "{} is too large to travel with a deployment: at most {} and 10000 files{parts}. Keep data in a named volume, put programs into an image, or mount a smaller folder",
            place.display(),
            Bytes(MAX_BYTES)
        ))
    };
    match content {
        TreeContent::Folder(path) => {
            let place = locate(folder, path);
            match pack_folder(&place, &|_| false) {
                Err(TreeError::TooMuch { .. }) => Err(too_large(&place).into()),
                other => {
                    other.with_context(|| format!("{} cannot travel with the deployment", place.display()))
                }
            }
        }
        TreeContent::File { path, mode: None } => {
            let place = locate(folder, path);
            // The file itself, where the path is a link to it: the archive has no other.
            let real =
                fs::canonicalize(&place).with_context(|| format!("{} cannot be read", place.display()))?;
            one(content.entry(), permissions(&real), &read(&real, &too_large)?)
        }
        TreeContent::File { path, mode: Some(mode) } => {
            let place = locate(folder, path);
            one(content.entry(), *mode, &read(&place, &too_large)?)
        }
        TreeContent::Inline { name, text, mode } => one(name, *mode, text),
    }
}

fn one(name: &str, mode: u32, contents: &[u8]) -> anyhow::Result<Tree> {
    let mut packer = Packer::new();
    packer.file(Path::new(name), mode, (0, 0), contents)?;
    Ok(packer.finish()?)
}

fn read(place: &Path, too_large: &dyn Fn(&Path) -> CliError) -> anyhow::Result<Vec<u8>> {
    let found = fs::metadata(place).with_context(|| format!("{} cannot be read", place.display()))?;
    if found.len() > MAX_BYTES {
        return Err(too_large(place).into());
    }
    fs::read(place).with_context(|| format!("{} cannot be read", place.display()))
}

#[cfg(unix)]
fn permissions(place: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    // Whoever the program runs as has to be able to read it; what only one may read is a secret.
    fs::metadata(place).map_or(0o644, |found| found.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn permissions(_: &Path) -> u32 {
    0o644
}

/// What is largest in a folder, as the end of a sentence.
pub(super) fn largest_of(place: &Path) -> String {
    let mut parts = largest(place);
    parts.truncate(NAMED);
    let parts: Vec<String> =
        parts.iter().map(|(name, bytes)| format!("{} ({})", name.display(), Bytes(*bytes))).collect();
    if parts.is_empty() { String::new() } else { format!("; the largest: {}", parts.join(", ")) }
}

/// What is directly in a folder, the largest first.
fn largest(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut parts: Vec<(PathBuf, u64)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| (PathBuf::from(entry.file_name()), size(&entry.path(), 0)))
        .collect();
    parts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    parts
}

/// Bytes of all files below; links are not followed, and nothing deeper than a tree may be counts.
fn size(place: &Path, depth: usize) -> u64 {
    let Ok(found) = fs::symlink_metadata(place) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    if depth > lattice_tree::MAX_DEPTH {
        return 0;
    }
    fs::read_dir(place).into_iter().flatten().flatten().map(|entry| size(&entry.path(), depth + 1)).sum()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn trees_are_the_same_for_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("conf/sub")).unwrap();
        fs::write(at("conf/a"), "a").unwrap();
        fs::write(at("conf/sub/b"), "b").unwrap();
        let folder = TreeContent::Folder("conf".into());
        let first = pack(dir.path(), &folder).unwrap();
        fs::remove_file(at("conf/a")).unwrap();
        fs::write(at("conf/a"), "a").unwrap();
        assert_eq!(pack(dir.path(), &folder).unwrap().archive, first.archive);
        fs::write(at("conf/a"), "c").unwrap();
        assert_ne!(pack(dir.path(), &folder).unwrap().digest, first.digest);
        std::os::unix::fs::symlink("conf/a", at("link")).unwrap();
        let link = TreeContent::File { path: "link".into(), mode: None };
        assert_eq!(pack(dir.path(), &link).unwrap().summary.bytes, 1);
        std::os::unix::fs::symlink("/etc/passwd", at("conf/out")).unwrap();
        assert!(pack(dir.path(), &folder).is_err());
    }

    #[test]
    fn what_is_too_large_names_what_makes_it_so() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("node_modules")).unwrap();
        let big = fs::File::create(dir.path().join("node_modules/big")).unwrap();
        big.set_len(MAX_BYTES + 1).unwrap();
        fs::write(dir.path().join("small"), "x").unwrap();
        let error = pack(dir.path(), &TreeContent::Folder(String::new())).unwrap_err().to_string();
        assert!(error.contains("the largest: node_modules (64 MiB), small (1 B)"), "{error}");
    }
}
