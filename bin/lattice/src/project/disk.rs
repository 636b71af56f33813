//! The loader's view of this disk.

use lattice_compose::{FileFault, Files, Found, Text};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

/// Files that only keep an empty folder in version control.
const KEEPERS: [&str; 3] = [".gitkeep", ".keep", ".gitignore"];

/// A project's folder, and what lies around it.
pub(crate) struct Disk {
    /// As the person wrote it: how messages name files.
    shown: PathBuf,
    /// Absolute, links resolved.
    folder: PathBuf,
    /// The Compose files that were read, for the lines beneath problems.
    texts: RefCell<BTreeMap<String, Vec<u8>>>,
}

impl Disk {
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let absolute = fs::canonicalize(folder)
            .with_context(|| format!("the project's folder {} cannot be found", folder.display()))?;
        Ok(Self { shown: folder.to_owned(), folder: absolute, texts: RefCell::default() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn into_texts(self) -> BTreeMap<String, Vec<u8>> {
        self.texts.into_inner()
    }
}

/// A path of the loader's on this disk.
pub(crate) fn locate(folder: &Path, path: &str) -> PathBuf {
    match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => match std::env::var_os("HOME") {
            Some(home) => Path::new(&home).join(rest.trim_start_matches('/')),
            None => folder.join(path),
        },
        _ => folder.join(path),
    }
}

impl Files for Disk {
    fn read(&self, path: &str, limit: usize) -> Result<Text, FileFault> {
        let name = if path.starts_with(['/', '~']) || self.shown == Path::new(".") {
            path.to_owned()
        } else {
            self.shown.join(path).display().to_string()
        };
        let fault = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileFault::Missing,
            _ => FileFault::Other(error.to_string()),
        };
        let place = locate(&self.folder, path);
        // A pipe or a device would never end.
        if !fs::metadata(&place).map_err(fault)?.is_file() {
            return Err(FileFault::Other("it is no file".into()));
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(&place).map_err(fault)?;
        file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(fault)?;
        if bytes.len() > limit {
            return Err(FileFault::TooLarge);
        }
        // The source lines of others may hold secrets.
        if matches!(place.extension().and_then(OsStr::to_str), Some("yaml" | "yml")) {
            self.texts.borrow_mut().insert(name.clone(), bytes.clone());
        }
        Ok(Text { name, bytes })
    }

    fn look(&self, path: &str) -> Found {
        let place = locate(&self.folder, path);
        let found = match fs::metadata(&place) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Found::Missing;
            }
            Err(_) => return Found::Other,
        };
        let leads_out = !path.starts_with(['/', '~'])
            && !path.starts_with("..")
            && !fs::canonicalize(&place).is_ok_and(|real| real.starts_with(&self.folder));
        if leads_out {
            return Found::Outside;
        }
        if found.is_file() {
            return Found::File;
        }
        if !found.is_dir() {
            return Found::Other;
        }
        match fs::read_dir(&place) {
            Ok(mut entries) => {
                let kept = |name: &OsStr| KEEPERS.iter().any(|keeper| name == OsStr::new(keeper));
                match entries.any(|entry| entry.is_ok_and(|entry| !kept(&entry.file_name()))) {
                    true => Found::Folder,
                    false => Found::EmptyFolder,
                }
            }
            Err(_) => Found::Other,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_where() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("secret"), "x").unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["full", "empty", "kept"] {
            fs::create_dir(at(folder)).unwrap();
        }
        fs::write(at("full/file"), "text").unwrap();
        fs::write(at("kept/.gitkeep"), "").unwrap();
        std::os::unix::fs::symlink("full/file", at("inside")).unwrap();
        std::os::unix::fs::symlink(other.path(), at("out")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let disk = Disk::new(dir.path()).unwrap();
        for (path, found) in [
            ("full", Found::Folder),
            ("", Found::Folder),
            ("empty", Found::EmptyFolder),
            ("kept", Found::EmptyFolder),
            ("full/file", Found::File),
            ("full/file/below", Found::Missing),
            ("none", Found::Missing),
            ("inside", Found::File),
            ("out", Found::Outside),
            ("out/secret", Found::Outside),
            ("socket", Found::Other),
        ] {
            assert_eq!(disk.look(path), found, "{path}");
        }
        assert_eq!(disk.read("full/file", 4).unwrap().bytes, b"text");
        assert!(matches!(disk.read("full/file", 3), Err(FileFault::TooLarge)));
        assert!(matches!(disk.read("none", 3), Err(FileFault::Missing)));
        assert!(matches!(disk.read("full", 3), Err(FileFault::Other(_))));
    }
}
