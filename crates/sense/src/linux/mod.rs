//! Linux: files of the kernel below a root folder.

pub(crate) mod heat;
pub(crate) mod login;
pub(crate) mod power;
pub(crate) mod terminals;
pub(crate) mod traffic;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The one line of a file of sysfs.
fn line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    line(path)?.parse().ok()
}

/// The entries of a folder by name, so that answers do not depend on the kernel's order.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
