//! Reading the format. Nothing is believed before the manifest, the archive's end and the end of the
//! encryption were seen: an error means that all of it is to be forgotten.

use crate::{
    BackupError, Header, Key, Lock, Manifest, Part,
    format::{MAX_JSON, check_format, is_part},
    rows::{digest, parse},
    write::Hashing,
};
use flate2::read::GzDecoder;
use lattice_store::{ClusterMeta, MAX_BODY_BYTES, Record, Revision, StoreDump};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    sync::Arc,
};

/// The longest line of a row: its body, each byte of it escaped, and the rest.
const MAX_LINE: u64 = 8 * MAX_BODY_BYTES as u64;

/// What was in a backup, the files aside.
#[derive(Debug)]
pub struct Contents {
    /// What it is of, with all its parts.
    pub manifest: Manifest,
    /// Its rows, by kind and id.
    pub records: Vec<Arc<Record>>,
}

impl Contents {
    /// The rows as a store takes them in, under this incarnation: the backup's own for a scratch store, a
    /// higher one for a store that agents will see.
    pub fn dump(&self, incarnation: u64) -> StoreDump {
        let Header { cluster_id, revision, schema, .. } = &self.manifest.header;
        StoreDump {
            cluster: ClusterMeta { cluster_id: *cluster_id, incarnation, schema: *schema },
            revision: Revision(*revision),
            records: self.records.clone(),
        }
    }
}

/// Reads a backup from its first to its last byte. `file` gets each key, setting and blob by its path
/// in the archive (`keys/master.key`), in order; it need not read all of it.
///
/// # Errors
/// [`BackupError::WrongKey`], [`BackupError::Damaged`] for every other difference from what was
/// written, and what `file` fails with.
pub fn read<R: Read>(
    input: R,
    key: &Key,
    file: &mut dyn FnMut(&str, &mut dyn Read) -> Result<(), BackupError>,
) -> Result<Contents, BackupError> {
    plain(key.open(input)?, file)
}

/// Reads all of a backup and writes it again under another lock; gives what it is of. What was written
/// is of no use after an error.
///
/// # Errors
/// As [`read`] and [`write`](crate::write()).
pub fn transcode<R: Read, W: Write>(
    input: R,
    key: &Key,
    out: W,
    lock: &Lock,
) -> Result<Manifest, BackupError> {
    let plaintext = key.open(input)?;
    let again = lock.encryptor()?.wrap_output(out).map_err(BackupError::io("written"))?;
    let mut tee = Tee { from: plaintext, to: again };
    let contents = plain(&mut tee, &mut |_, _| Ok(()))?;
    tee.to.finish().and_then(|mut out| out.flush()).map_err(BackupError::io("written"))?;
    Ok(contents.manifest)
}

struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.to.write_all(&buffer[..count])?;
        Ok(count)
    }
}

fn broken(error: io::Error) -> BackupError {
    match error.kind() {
        // What a stream of bytes from elsewhere says when it breaks; the backup itself may be sound.
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut => {
            BackupError::Io { action: "read", source: error }
        }
        // Only what is written on the way breaks so; whoever takes it says why.
        io::ErrorKind::BrokenPipe => BackupError::Stopped,
        _ => BackupError::damaged(error.to_string()),
    }
}

fn plain<R: Read>(
    input: R,
    file: &mut dyn FnMut(&str, &mut dyn Read) -> Result<(), BackupError>,
) -> Result<Contents, BackupError> {
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::with_capacity(64 << 10, input)));
    let mut header: Option<Header> = None;
    let mut manifest: Option<Manifest> = None;
    let mut parts = Vec::new();
    let mut records: Vec<Arc<Record>> = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        if manifest.is_some() || !is_part(&name) || !entry.header().entry_type().is_file() {
            return Err(BackupError::damaged(format!("{name:?} does not belong there")));
        }
        if header.is_none() != (name == "header.json") {
            return Err(BackupError::damaged("it does not begin with its header"));
        }
        let size = entry.size();
        let mut content = Hashing::new(&mut entry);
        match name.split_once('/').map_or(name.as_str(), |(folder, _)| folder) {
            "header.json" => {
                let read: Header = json(&name, &mut content)?;
                check_format(&read)?;
                header = Some(read);
            }
            "manifest.json" => manifest = Some(json(&name, &mut content)?),
            "rows" => lines(&mut content, &mut records)?,
            _ => file(&name, &mut content)?,
        }
        // What nobody wanted to read counts all the same.
        io::copy(&mut content, &mut io::sink()).map_err(broken)?;
        let (bytes, sha256) = content.finish();
        if bytes != size {
            return Err(BackupError::damaged(format!("{name} is shorter than it should be")));
        }
        if manifest.is_none() {
            parts.push(Part { name, bytes, sha256 });
        }
    }
    // To the very end: that of gzip has a checksum, and that of age says that nothing was cut off.
    let mut gzip = archive.into_inner();
    io::copy(&mut gzip, &mut io::sink()).map_err(broken)?;
    let mut rest = gzip.into_inner();
    if io::copy(&mut rest, &mut io::sink()).map_err(broken)? > 0 {
        return Err(BackupError::damaged("there is something behind its end"));
    }
    let manifest = manifest.ok_or_else(|| BackupError::damaged("it has no manifest, so it is not whole"))?;
    check(&manifest, header.as_ref(), &parts, &records)?;
    records.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(Contents { manifest, records })
}

fn json<T: serde::de::DeserializeOwned>(name: &str, content: &mut dyn Read) -> Result<T, BackupError> {
    let mut text = Vec::new();
    content.take(MAX_JSON).read_to_end(&mut text).map_err(broken)?;
    serde_json::from_slice(&text)
        .map_err(|error| BackupError::damaged(format!("{name} cannot be read: {error}")))
}

fn lines(content: &mut dyn Read, records: &mut Vec<Arc<Record>>) -> Result<(), BackupError> {
    let mut content = BufReader::new(content);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut content).take(MAX_LINE).read_until(b'\n', &mut line).map_err(broken)?;
        if count == 0 {
            return Ok(());
        }
        if line.pop() != Some(b'\n') {
            return Err(BackupError::damaged("a row does not end, or is too long"));
        }
        records.push(Arc::new(parse(&line)?));
    }
}

fn check(
    manifest: &Manifest,
    header: Option<&Header>,
    parts: &[Part],
    records: &[Arc<Record>],
) -> Result<(), BackupError> {
    let Manifest { header: said, parts: listed, rows, kinds, rows_sha256 } = manifest;
    if Some(said) != header {
        return Err(BackupError::damaged("its manifest is of another backup"));
    }
    if let Some(wrong) = listed.iter().zip(parts).find(|(listed, found)| listed != found) {
        return Err(BackupError::damaged(format!("{} is not as the manifest says", wrong.1.name)));
    }
    if listed.len() != parts.len() {
        return Err(BackupError::damaged("it has not the parts that the manifest says"));
    }
    let mut counted = BTreeMap::new();
    for record in records {
        *counted.entry(record.key.kind.as_str().to_owned()).or_insert(0) += 1;
    }
    if *rows != records.len() as u64
        || *kinds != counted
        || *rows_sha256 != digest(records.iter().map(|record| &**record))
    {
        return Err(BackupError::damaged("its rows are not those that the manifest says"));
    }
    Ok(())
}
