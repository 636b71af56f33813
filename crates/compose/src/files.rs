//! What a Compose file refers to beside itself, brought in by the shell: the port to the disk.
//!
//! Paths are relative to the project's folder, with `/` between their parts and without `.`; they
//! may begin with `..`, `/` or `~`. What may be read from where is the shell's to say; what may be
//! *mounted* stays inside the folder, which [`join`] and the shell's look at symbolic links keep.

/// The disk of whoever deploys.
pub trait Files {
    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &str, limit: usize) -> Result<Text, FileFault>;

    /// What is there, for what is to be mounted or built.
    fn look(&self, path: &str) -> Found;
}

/// A file that was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// How messages name it.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// There is none.
    #[error("there is no such file")]
    Missing,
    /// It is larger than asked for.
    #[error("it is too large")]
    TooLarge,
    /// Anything else, in the system's words.
    #[error("{0}")]
    Other(String),
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Missing,
    /// A file.
    File,
    /// A folder with something in it.
    Folder,
    /// A folder with nothing in it.
    EmptyFolder,
    /// A symbolic link on the way leads out of the project's folder.
    Outside,
    /// A socket, a device, or something that cannot be looked at.
    Other,
}

/// A disk with nothing on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str, _: usize) -> Result<Text, FileFault> {
        Err(FileFault::Missing)
    }

    fn look(&self, _: &str) -> Found {
        Found::Missing
    }
}

/// A path as written in a file of `base`, relative to the project's folder, in its shortest form;
/// empty is that folder itself. `folder` is its absolute path, where known.
pub(crate) fn join(base: &str, path: &str, folder: Option<&str>) -> String {
    let slashed;
    let path = if path.starts_with(".\\") || path.starts_with("..\\") {
        slashed = path.replace('\\', "/");
        &slashed
    } else {
        path
    };
    if path == "~" || path.starts_with("~/") {
        return path.to_owned();
    }
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let whole = if path.starts_with('/') || base.starts_with(['/', '~']) {
        let inside = folder.map(|f| f.trim_end_matches('/')).filter(|f| !f.is_empty()).and_then(|folder| {
            let rest = whole.strip_prefix(folder)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        });
        match inside {
            Some(rest) => rest.trim_start_matches('/').to_owned(),
            None => whole,
        }
    } else {
        whole.trim_start_matches('/').to_owned()
    };
    let root = whole.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if root && parts.is_empty() => {}
            ".." if parts.last().is_some_and(|last| *last != ".." && *last != "~") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("{}{}", if root { "/" } else { "" }, parts.join("/"))
}

/// Whether a path from [`join`] leads out of the project's folder.
pub(crate) fn is_outside(path: &str) -> bool {
    path.starts_with(['/', '~']) || path == ".." || path.starts_with("../")
}

/// The folder of a path from [`join`].
pub(crate) fn parent(path: &str) -> String {
    match path.rsplit_once('/') {
        Some(("", _)) => "/".into(),
        Some((folder, _)) => folder.into(),
        None => String::new(),
    }
}

/// The last part of a path from [`join`].
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A path as people write it.
pub(crate) fn shown(path: &str) -> String {
    match path {
        "" => ".".into(),
        path if is_outside(path) => path.into(),
        path => format!("./{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_meet() {
        for (base, path, joined) in [
            ("", "./a/../b", "b"),
            ("", ".", ""),
            ("", "./", ""),
            ("sub", "x", "sub/x"),
            ("sub", "../x", "x"),
            ("sub", "../../x", "../x"),
            ("..", "x", "../x"),
            ("../other", "../x", "../x"),
            ("", "/a/../../b", "/b"),
            ("sub", "/home/me/shop/conf", "conf"),
            ("", "/home/me/shop", ""),
            ("", "/home/me/shopping", "/home/me/shopping"),
            ("", "/home/me/shop/../x", "../x"),
            ("/srv", "x", "/srv/x"),
            ("", "~/x", "~/x"),
            ("", ".\\data\\x", "data/x"),
        ] {
            assert_eq!(join(base, path, Some("/home/me/shop")), joined, "{base} {path}");
        }
        assert!(is_outside("../x") && is_outside("/") && is_outside("~/x") && !is_outside("..x"));
        assert_eq!((parent("a/b"), parent("a"), parent("/a")), ("a".into(), String::new(), "/".into()));
    }
}
