//! Secret files: created once with mode 0600, never overwritten by a new key, refused when others
//! may read them. The only file access of this crate.
//!
//! A key file appears whole or not at all: it is written under a temporary name, synced, and
//! linked to its place, which fails when another process was first; that one's key is then used.
//! On platforms without modes the protection is the folder's (the user's profile).

use crate::{IdentityError, pki};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The largest key file, in bytes; more than that is not a key file.
pub const MAX_KEY_FILE: u64 = 64 * 1024;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    move |source| IdentityError::KeyFile { action, path: path.to_owned(), source }
}

/// Reads a secret file; `None` when there is none.
///
/// # Errors
/// [`IdentityError::LooseKeyFile`] when group or others have any right on it,
/// [`IdentityError::DamagedKeyFile`] when it is no regular file of at most [`MAX_KEY_FILE`] bytes,
/// [`IdentityError::KeyFile`] for what the operating system refuses.
pub fn load(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
    // What is not a regular file is refused before it is opened: opening a pipe would wait.
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            return Err(IdentityError::DamagedKeyFile {
                path: path.to_owned(),
                problem: "it is no regular file",
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    }
    let file = File::open(path).map_err(failed("read", path))?;
    let found = file.metadata().map_err(failed("read", path))?;
    if found.len() > MAX_KEY_FILE {
        return Err(IdentityError::DamagedKeyFile { path: path.to_owned(), problem: "it is too large" });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::LooseKeyFile { path: path.to_owned(), mode });
        }
    }
    // One allocation of the final size: growing would leave copies of the secret behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0) + 1));
    file.take(MAX_KEY_FILE).read_to_end(&mut contents).map_err(failed("read", path))?;
    Ok(Some(contents))
}

/// Reads a secret file, or makes it from what `make` returns.
///
/// # Errors
/// As [`load`], and whatever `make` returns.
pub fn load_or_create(
    path: &Path,
    make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, IdentityError>,
) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    if let Some(present) = load(path)? {
        return Ok(present);
    }
    let contents = make()?;
    let temporary = write_temporary(path, &contents)?;
    let linked = fs::hard_link(&temporary, path);
    match linked {
        Ok(()) => {
            fs::remove_file(&temporary).map_err(failed("create", path))?;
            sync_folder(path)?;
            Ok(contents)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Another process was first: its key counts.
            fs::remove_file(&temporary).map_err(failed("create", path))?;
            load(path)?.ok_or_else(|| failed("read", path)(io::ErrorKind::NotFound.into()))
        }
        Err(_) => {
            // File systems without links (FAT): a rename is whole too, only not exclusive.
            fs::rename(&temporary, path).map_err(failed("create", path))?;
            sync_folder(path)?;
            Ok(contents)
        }
    }
}

/// Replaces a secret file durably: after a crash it holds the old contents or the new, and after
/// `Ok` the new. For what changes (a node's certificate, its ratchet value), not for keys.
///
/// # Errors
/// [`IdentityError::KeyFile`]; the file then holds the old contents or the new.
pub fn replace(path: &Path, contents: &[u8]) -> Result<(), IdentityError> {
    let temporary = write_temporary(path, contents)?;
    fs::rename(&temporary, path).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed("replace", path)(error)
    })?;
    sync_folder(path)
}

fn write_temporary(path: &Path, contents: &[u8]) -> Result<PathBuf, IdentityError> {
    let name = path.file_name().ok_or_else(|| failed("create", path)(io::ErrorKind::InvalidInput.into()))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".new-{}", hex::encode(pki::random::<8>()?)));
    let temporary = path.with_file_name(temporary);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()
    });
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(failed("create", path)(error));
    }
    Ok(temporary)
}

fn sync_folder(path: &Path) -> Result<(), IdentityError> {
    // Without it the name may be lost in a power cut, though the contents are safe.
    #[cfg(unix)]
    {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("create", path))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn make(text: &str) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
        Ok(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_key_is_made_once_private_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(*load_or_create(&path, || make("one")).unwrap(), b"one");
        assert_eq!(*load_or_create(&path, || make("two")).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        replace(&path, b"three").unwrap();
        assert_eq!(*load(&path).unwrap().unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn looser_rights_folders_and_huge_files_are_refused_with_a_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "x").unwrap();
        for mode in [0o640, 0o604, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load(&path).unwrap_err();
            assert!(matches!(error, IdentityError::LooseKeyFile { .. }), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, vec![0; 70_000]).unwrap();
        assert!(matches!(load(&path), Err(IdentityError::DamagedKeyFile { .. })));
        assert!(matches!(load(folder.path()), Err(IdentityError::DamagedKeyFile { .. })));
        assert!(load_or_create(&folder.path().join("none/key"), || make("x")).is_err());
    }

    #[test]
    fn racing_creators_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let path = &path;
                    scope.spawn(move || load_or_create(path, || make(&n.to_string())).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }
}
