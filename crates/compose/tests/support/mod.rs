//! A disk in memory.

#![allow(dead_code, clippy::unwrap_used)]

use lattice_compose::{FileFault, Files, Found, Text};
use std::collections::{BTreeMap, BTreeSet};

/// Files by path; folders that are empty; links that lead out.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) empty: BTreeSet<String>,
    pub(crate) outside: BTreeSet<String>,
}

impl Disk {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
        Self { files, ..Self::default() }
    }
}

impl Files for Disk {
    fn read(&self, path: &str, limit: usize) -> Result<Text, FileFault> {
        match self.files.get(path) {
            Some(bytes) if bytes.len() > limit => Err(FileFault::TooLarge),
            Some(bytes) => Ok(Text { name: path.to_owned(), bytes: bytes.clone() }),
            None => Err(FileFault::Missing),
        }
    }

    fn look(&self, path: &str) -> Found {
        let inside = |file: &String| path.is_empty() || file.starts_with(&format!("{path}/"));
        if self.outside.contains(path) {
            Found::Outside
        } else if self.files.contains_key(path) {
            Found::File
        } else if self.files.keys().any(inside) {
            Found::Folder
        } else if self.empty.contains(path) {
            Found::EmptyFolder
        } else {
            Found::Missing
        }
    }
}
