//! A disk in memory for Compose files.

use lattice_compose::{FileFault, Files, Found, Text};
use std::collections::BTreeMap;

/// Files by path.
#[derive(Debug, Default)]
pub(crate) struct Disk<'a> {
    files: BTreeMap<&'a str, &'a [u8]>,
    everything: bool,
}

impl<'a> Disk<'a> {
    /// With these files.
    pub(crate) fn of(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        Self { files: files.into_iter().collect(), everything: false }
    }

    /// With an environment file or folder wherever one is looked for.
    pub(crate) fn everything() -> Self {
        Self { files: BTreeMap::new(), everything: true }
    }
}

impl Files for Disk<'_> {
    fn read(&self, path: &str, limit: usize) -> Result<Text, FileFault> {
        match self.files.get(path) {
            Some(bytes) if bytes.len() > limit => Err(FileFault::TooLarge),
            Some(bytes) => Ok(Text { name: path.to_owned(), bytes: bytes.to_vec() }),
            None if self.everything => Ok(Text { name: path.to_owned(), bytes: b"A=1\n".to_vec() }),
            None => Err(FileFault::Missing),
        }
    }

    fn look(&self, path: &str) -> Found {
        let inside = |file: &&str| {
            path.is_empty() || file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        if self.files.contains_key(path) {
            Found::File
        } else if self.everything || self.files.keys().any(inside) {
            Found::Folder
        } else {
            Found::Missing
        }
    }
}
