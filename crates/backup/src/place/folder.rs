//! A folder. What is written gets its name when it is whole and on the disk, and never takes the place of
//! something else.

use super::Object;
use crate::{BackupError, PipeReader, PipeWriter};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How temporary files end.
const PARTIAL: &str = ".partial";
/// After how long nobody finishes a temporary file any more.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// A folder with backups.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BackupError::Stopped)?
}

impl Folder {
    /// The folder at `path`; made when something is written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(super) async fn objects(&self) -> Result<Vec<Object>, BackupError> {
        let path = self.path.clone();
        blocking(move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(&path).map_err(BackupError::file("read", &path))? {
                let entry = entry.map_err(BackupError::file("read", &path))?;
                // Gone by now is as good as never there.
                let Ok(meta) = entry.metadata() else { continue };
                if let Ok(name) = entry.file_name().into_string()
                    && meta.is_file()
                    && !name.ends_with(PARTIAL)
                {
                    found.push(Object { name, bytes: meta.len() });
                }
            }
            Ok(found)
        })
        .await
    }

    pub(super) async fn put(&self, name: &str, mut from: PipeReader) -> Result<(), BackupError> {
        let (folder, target) = (self.path.clone(), self.path.join(name));
        blocking(move || {
            make(&folder)?;
            let partial = target.with_file_name(format!(
                ".{}{PARTIAL}",
                target.file_name().map(|name| name.to_string_lossy()).unwrap_or_default()
            ));
            let placed = place(&folder, &partial, &target, &mut from);
            if placed.is_err() {
                let _ = fs::remove_file(&partial);
            }
            placed
        })
        .await
    }

    pub(super) async fn get(&self, name: &str, mut into: PipeWriter) -> Result<(), BackupError> {
        let path = self.path.join(name);
        blocking(move || {
            let copied = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut into));
            match copied {
                Ok(_) => into.end().map_err(|_| BackupError::Stopped),
                // The reader had enough, and says why itself.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(BackupError::Stopped),
                Err(error) => {
                    into.fail(&error.to_string());
                    Err(BackupError::file("read", &path)(error))
                }
            }
        })
        .await
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), BackupError> {
        let path = self.path.join(name);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(BackupError::file("removed", &path)(error))
            }
            _ => Ok(()),
        })
        .await
    }

    pub(super) async fn sweep(&self) -> Result<(), BackupError> {
        let path = self.path.clone();
        blocking(move || {
            let Ok(entries) = fs::read_dir(&path) else { return Ok(()) };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let ours =
                    name.starts_with(&format!(".{}", crate::format::PREFIX)) && name.ends_with(PARTIAL);
                let age = entry
                    .metadata()
                    .and_then(|meta| meta.modified())
                    .map(|at| SystemTime::now().duration_since(at));
                if ours && matches!(age, Ok(Ok(age)) if age > ABANDONED) {
                    let _ = fs::remove_file(entry.path());
                }
            }
            Ok(())
        })
        .await
    }
}

fn make(folder: &Path) -> Result<(), BackupError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(BackupError::file("made", folder))
}

fn place(folder: &Path, partial: &Path, target: &Path, from: &mut PipeReader) -> Result<(), BackupError> {
    let written = BackupError::file("written", partial);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(partial).map_err(BackupError::file("written", partial))?;
    copy(from, &mut file, written)?;
    file.sync_all().map_err(BackupError::file("written", partial))?;
    // A link fails where the name is taken, which a rename would replace.
    match fs::hard_link(partial, target) {
        Ok(()) => fs::remove_file(partial).map_err(BackupError::file("written", partial))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::file("written", target)(error));
        }
        // File systems without links.
        Err(_) if !target.exists() => {
            fs::rename(partial, target).map_err(BackupError::file("written", target))?
        }
        Err(error) => return Err(BackupError::file("written", target)(error)),
    }
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(BackupError::file("written", folder))?;
    Ok(())
}

/// Copies, and tells a disk that is full from a stream that broke.
fn copy(
    from: &mut PipeReader,
    to: &mut File,
    written: impl FnOnce(io::Error) -> BackupError,
) -> Result<(), BackupError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read(&mut buffer).map_err(BackupError::io("read"))?;
        if count == 0 {
            return Ok(());
        }
        if let Err(error) = to.write_all(&buffer[..count]) {
            return Err(written(error));
        }
    }
}
