//! Writing the format: a dump becomes an encrypted stream.

use crate::{
    BackupError, Header, Lock, Manifest, Part,
    format::is_part,
    rows::{digest, line},
};
use flate2::{Compression, write::GzEncoder};
use lattice_store::Record;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// The most bytes of rows in one entry, though always one row.
const ROWS: usize = 8 << 20;

/// What goes into a backup.
#[derive(Debug)]
pub struct Dump {
    /// What it is of.
    pub header: Header,
    /// Every row, as of [`Header::revision`].
    pub records: Vec<Arc<Record>>,
    /// Key files, by their names: `master.key`.
    pub keys: Vec<(String, SecretFile)>,
    /// Settings, by their files' names: `server.toml`.
    pub settings: Vec<(String, Vec<u8>)>,
    /// The folder of content-addressed files, where there is one.
    pub blobs: Option<PathBuf>,
}

/// The bytes of a key file; wiped when dropped, never shown.
pub struct SecretFile(pub Zeroizing<Vec<u8>>);

impl std::fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretFile(…)")
    }
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
    at: u64,
    parts: Vec<Part>,
}

/// Writes a backup. Whoever reads it notices where `out` got only a part of it.
///
/// # Errors
/// [`BackupError::Io`] for `out`, [`BackupError::File`] for a blob that cannot be read.
pub fn write<W: Write>(out: W, lock: &Lock, dump: &Dump) -> Result<Manifest, BackupError> {
    let failed = || BackupError::io("written");
    let age = lock.encryptor()?.wrap_output(out).map_err(failed())?;
    let Dump { header, records, keys, settings, blobs } = dump;
    let at = u64::try_from(header.created_at.0 / 1000).unwrap_or(0);
    let tar = tar::Builder::new(GzEncoder::new(age, Compression::default()));
    let mut archive = Archive { tar, at, parts: Vec::new() };
    archive.add("header.json", &json(header))?;
    for (name, bytes) in keys {
        archive.add(&format!("keys/{name}"), &bytes.0)?;
    }
    for (name, bytes) in settings {
        archive.add(&format!("settings/{name}"), bytes)?;
    }
    let mut kinds = BTreeMap::new();
    let (mut lines, mut number) = (Vec::new(), 0);
    for record in records {
        line(record, &mut lines);
        *kinds.entry(record.key.kind.as_str().to_owned()).or_insert(0) += 1;
        if lines.len() >= ROWS {
            number += 1;
            archive.add(&format!("rows/{number:05}.ndjson"), &lines)?;
            lines.clear();
        }
    }
    if !lines.is_empty() {
        archive.add(&format!("rows/{:05}.ndjson", number + 1), &lines)?;
    }
    if let Some(folder) = blobs {
        for (name, path) in files(folder)? {
            archive.add_file(&format!("blobs/{name}"), &path)?;
        }
    }
    let manifest = Manifest {
        header: header.clone(),
        parts: std::mem::take(&mut archive.parts),
        rows: records.len() as u64,
        kinds,
        rows_sha256: digest(records.iter().map(|record| &**record)),
    };
    archive.add("manifest.json", &json(&manifest))?;
    let gzip = archive.tar.into_inner().map_err(failed())?;
    let age = gzip.finish().map_err(failed())?;
    age.finish().and_then(|mut out| out.flush()).map_err(failed())?;
    Ok(manifest)
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Plain data with text keys: this cannot fail.
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    /// A file that is being read; gone by now, it is no longer anybody's.
    fn add_file(&mut self, name: &str, path: &Path) -> Result<(), BackupError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(BackupError::file("read", path)(error)),
        };
        let bytes = file.metadata().map_err(BackupError::file("read", path))?.len();
        self.entry(name, bytes, file.take(bytes))
    }

    fn entry(&mut self, name: &str, bytes: u64, content: impl Read) -> Result<(), BackupError> {
        if !is_part(name) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, format!("no part is called {name:?}"));
            return Err(BackupError::Io { action: "written", source });
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(self.at);
        let mut content = Hashing::new(content);
        self.tar.append_data(&mut header, name, &mut content).map_err(BackupError::io("written"))?;
        let (read, sha256) = content.finish();
        if read != bytes {
            // The archive has another size than its header says by now, and is given up.
            let source =
                io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} changed while it was read"));
            return Err(BackupError::Io { action: "written", source });
        }
        self.parts.push(Part { name: name.to_owned(), bytes, sha256 });
        Ok(())
    }
}

/// Every regular file below a folder by its relative path, sorted; what is not a blob yet (`tmp/`, and
/// names that no blob has) is left out.
fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>, BackupError> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(BackupError::file("read", &folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(BackupError::file("read", &folder))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.file_type() {
                // Uploads that are under way; and layers of images, which are large and come again with the
                // next deployment.
                Ok(kind) if kind.is_dir() && (name == "tmp" || name == "images") => {}
                Ok(kind) if kind.is_dir() => folders.push((format!("{name}/"), entry.path())),
                Ok(kind) if kind.is_file() && is_part(&format!("blobs/{name}")) => {
                    found.push((name, entry.path()));
                }
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Counts and hashes what is read through it.
pub(crate) struct Hashing<R> {
    inner: R,
    bytes: u64,
    hash: Sha256,
}

impl<R> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, bytes: 0, hash: Sha256::new() }
    }

    pub(crate) fn finish(self) -> (u64, String) {
        (self.bytes, hex::encode(self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}
