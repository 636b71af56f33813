//! Where the repository is and which documents it has.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders that hold no documents of ours.
const SKIPPED: [&str; 5] = ["target", "node_modules", "dist", "shared", "snapshots"];

/// The repository's root.
///
/// # Errors
/// When the folder of this crate is gone, since it was compiled.
pub fn root() -> io::Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()
}

/// Every Markdown file of the repository, in order of their paths; hidden folders are left out.
///
/// # Errors
/// When a folder cannot be read.
pub fn markdown_files() -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root()?];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if name.ends_with(".md") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
