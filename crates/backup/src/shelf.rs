//! Backups in a place: putting one there, finding them, taking one out, throwing old ones away.

use crate::{
    BackupError, Label, Manifest, PipeReader, PipeWriter, Place,
    format::{DATA, LABEL, MAX_JSON, is_name},
    pipe, surplus,
};
use bytes::Bytes;
use lattice_model::{ClusterId, Duration, Timestamp};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
};

/// For how long an encrypted file without a label may still be one that is being written.
const FINISHING: Duration = Duration::from_secs(86_400);

/// Whether a backup is whole, as far as can be seen without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its label is there, and its file with the size that the label says.
    Good,
    /// It is not to be restored from.
    Broken(String),
    /// There is a file without a label: it is being written, or its writer was interrupted.
    Unfinished,
}

/// A backup that lies somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it is of, where there is a label that can be read.
    pub label: Option<Label>,
    /// Whether it is whole.
    pub state: State,
}

/// Puts a backup into a place: `produce` writes the encrypted stream, which is read back and compared
/// before the label is written. After an error nothing is listed as good.
///
/// # Errors
/// Of `produce`, else of the place.
pub async fn save(
    place: &Place,
    name: &str,
    produce: impl FnOnce(&mut PipeWriter) -> Result<Manifest, BackupError> + Send + 'static,
) -> Result<Label, BackupError> {
    if !is_name(name) {
        return Err(BackupError::NotFound { name: name.into(), place: place.to_string() });
    }
    let data = format!("{name}{DATA}");
    let (mut writer, reader) = pipe();
    let work = tokio::task::spawn_blocking(move || {
        let produced = produce(&mut writer);
        let (bytes, sha256) = writer.tally();
        match produced {
            Ok(manifest) => {
                writer.end().map_err(|_| BackupError::Stopped)?;
                Ok((manifest, bytes, sha256))
            }
            Err(error) => {
                writer.fail(&error.to_string());
                Err(error)
            }
        }
    });
    let put = place.put(&data, reader).await;
    let made = work.await.map_err(|_| BackupError::Stopped)?;
    let (manifest, bytes, sha256) = match (made, put) {
        (Ok(made), Ok(())) => made,
        // That the other end stopped is never the cause.
        (Err(BackupError::Stopped | BackupError::Io { .. }), Err(error)) | (Ok(_), Err(error)) => {
            return Err(error);
        }
        (Err(error), Ok(())) => {
            place.delete(&data).await?;
            return Err(error);
        }
        (Err(error), Err(_)) => return Err(error),
    };
    let label = Label {
        name: name.into(),
        rows: manifest.rows,
        blobs: manifest.blobs(),
        header: manifest.header,
        bytes,
        sha256,
    };
    let kept = async {
        compare(place, &label).await?;
        let text = serde_json::to_vec_pretty(&label).unwrap_or_default();
        let (writer, reader) = pipe();
        let object = format!("{name}{LABEL}");
        let (fed, put) = tokio::join!(
            async {
                writer.feed(Bytes::from(text)).await?;
                writer.finish().await
            },
            place.put(&object, reader)
        );
        put.and(fed)
    };
    if let Err(error) = kept.await {
        if let Err(left) = place.delete(&data).await {
            tracing::warn!(error = %left, name, "a backup that failed was not removed; it has no label and counts for nothing");
        }
        return Err(error);
    }
    Ok(label)
}

/// Reads back what was written.
async fn compare(place: &Place, label: &Label) -> Result<(), BackupError> {
    let (bytes, sha256) = fetch(place, &format!("{}{DATA}", label.name), |mut reader| {
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0; 256 << 10]);
        loop {
            let count = reader.read(&mut buffer).map_err(BackupError::io("read"))?;
            if count == 0 {
                return Ok((bytes, hex::encode(hash.finalize())));
            }
            hash.update(&buffer[..count]);
            bytes += count as u64;
        }
    })
    .await?;
    if (bytes, &sha256) != (label.bytes, &label.sha256) {
        return Err(BackupError::damaged("what the place gives back is not what was written to it"));
    }
    Ok(())
}

async fn fetch<T: Send + 'static>(
    place: &Place,
    object: &str,
    consume: impl FnOnce(PipeReader) -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let (writer, reader) = pipe();
    let work = tokio::task::spawn_blocking(move || consume(reader));
    let got = place.get(object, writer).await;
    let consumed = work.await.map_err(|_| BackupError::Stopped)?;
    match (consumed, got) {
        (Ok(value), Ok(())) => Ok(value),
        // The reader's reason counts, but where it only says that the stream broke.
        (Err(BackupError::Io { .. }), Err(error)) if !matches!(error, BackupError::Stopped) => Err(error),
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) => Err(error),
    }
}

async fn read_label(place: &Place, name: &str) -> Result<Label, String> {
    let object = format!("{name}{LABEL}");
    let text = fetch(place, &object, |reader| {
        let mut text = Vec::new();
        reader.take(MAX_JSON).read_to_end(&mut text).map_err(BackupError::io("read"))?;
        Ok(text)
    });
    let text = text.await.map_err(|error| error.to_string())?;
    let label: Label =
        serde_json::from_slice(&text).map_err(|error| format!("its label cannot be read: {error}"))?;
    if label.name != name {
        return Err("its label is another backup's".into());
    }
    Ok(label)
}

/// What lies in a place, oldest first.
///
/// # Errors
/// Of the place; a backup that is broken is listed as such.
pub async fn list(place: &Place) -> Result<Vec<Found>, BackupError> {
    let objects = place.objects().await?;
    let sizes: BTreeMap<&str, u64> =
        objects.iter().map(|object| (object.name.as_str(), object.bytes)).collect();
    let names: BTreeSet<&str> = sizes
        .keys()
        .filter_map(|name| name.strip_suffix(DATA).or_else(|| name.strip_suffix(LABEL)))
        .filter(|name| is_name(name))
        .collect();
    let mut found = Vec::new();
    for name in names {
        let data = sizes.get(format!("{name}{DATA}").as_str());
        if !sizes.contains_key(format!("{name}{LABEL}").as_str()) {
            found.push(Found { name: name.into(), label: None, state: State::Unfinished });
            continue;
        }
        let (label, state) = match (read_label(place, name).await, data) {
            (Ok(label), Some(bytes)) if label.bytes == *bytes => (Some(label), State::Good),
            (Ok(label), Some(bytes)) => {
                let problem = format!("its file has {bytes} bytes and not {}", label.bytes);
                (Some(label), State::Broken(problem))
            }
            (Ok(label), None) => (Some(label), State::Broken("its file is not there".into())),
            (Err(problem), _) => (None, State::Broken(problem)),
        };
        found.push(Found { name: name.into(), label, state });
    }
    found
        .sort_by_key(|found| (found.label.as_ref().map(|label| label.header.created_at), found.name.clone()));
    Ok(found)
}

/// Takes a backup out of a place: the newest whole one, or the one that is named. `consume` reads the
/// encrypted stream to its end.
///
/// # Errors
/// [`BackupError::NotFound`], of `consume`, of the place; [`BackupError::Damaged`] when the stream is not
/// the one that the label was written for.
pub async fn load<T: Send + 'static>(
    place: &Place,
    name: Option<&str>,
    consume: impl FnOnce(&mut dyn Read) -> Result<T, BackupError> + Send + 'static,
) -> Result<(Label, T), BackupError> {
    let found = list(place).await?;
    let absent = || BackupError::NotFound { name: name.unwrap_or("(any)").into(), place: place.to_string() };
    let chosen = match name {
        Some(name) => {
            let name = name.strip_suffix(DATA).or_else(|| name.strip_suffix(LABEL)).unwrap_or(name);
            found.into_iter().find(|found| found.name == name).ok_or_else(absent)?
        }
        None => found.into_iter().rfind(|found| found.state == State::Good).ok_or_else(absent)?,
    };
    let label = match (chosen.label, chosen.state) {
        (Some(label), State::Good) => label,
        (_, State::Broken(problem)) => return Err(BackupError::Damaged { problem }),
        _ => return Err(BackupError::damaged("it was not finished")),
    };
    let (value, bytes, sha256) = fetch(place, &format!("{}{DATA}", label.name), move |reader| {
        let mut hashing = crate::write::Hashing::new(reader);
        let value = consume(&mut hashing)?;
        io::copy(&mut hashing, &mut io::sink()).map_err(BackupError::io("read"))?;
        let (bytes, sha256) = hashing.finish();
        Ok((value, bytes, sha256))
    })
    .await?;
    if (bytes, &sha256) != (label.bytes, &label.sha256) {
        return Err(BackupError::damaged("it is not the file that its label was written for"));
    }
    Ok((label, value))
}

/// Removes what is not to be kept: a cluster's backups beyond the newest `keep`, and what its writers
/// left unfinished more than a day before `now`. Gives the names that went.
///
/// # Errors
/// Of the place; what was removed until then stays so.
pub async fn prune(
    place: &Place,
    cluster: ClusterId,
    keep: usize,
    now: Timestamp,
) -> Result<Vec<String>, BackupError> {
    let found = list(place).await?;
    let labels: Vec<Label> =
        found.iter().filter(|f| f.state == State::Good).filter_map(|f| f.label.clone()).collect();
    let mut gone = surplus(&labels, cluster, keep);
    gone.extend(
        found
            .iter()
            .filter(|f| f.state == State::Unfinished && is_abandoned(&f.name, now))
            .map(|f| f.name.clone()),
    );
    for name in &gone {
        // The label first: without it there is no backup.
        place.delete(&format!("{name}{LABEL}")).await?;
        place.delete(&format!("{name}{DATA}")).await?;
    }
    place.sweep().await?;
    Ok(gone)
}

/// By the time in its name.
fn is_abandoned(name: &str, now: Timestamp) -> bool {
    let at = name.rsplit('-').nth(1).and_then(|text| {
        let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
        Some(Timestamp(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond()))
    });
    at.is_some_and(|at| now.since(at) > FINISHING)
}
