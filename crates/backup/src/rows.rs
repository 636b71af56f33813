//! Rows as lines of JSON, and one hash over all of them.

use crate::BackupError;
use lattice_store::{Key, Record, Revision};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A row of the store, with its body as the text that it is: byte by byte what was written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    revision: u64,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    project: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    owner: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    body: std::borrow::Cow<'a, str>,
}

/// Appends a row as a line.
pub(crate) fn line(record: &Record, out: &mut Vec<u8>) {
    let Record { key, revision, created, project, owner, body } = record;
    let row = Row {
        kind: key.kind.as_str().into(),
        id: (&*key.id).into(),
        revision: revision.0,
        created: created.0,
        project: project.as_deref().map(Into::into),
        owner: owner.as_deref().map(Into::into),
        body: (&**body).into(),
    };
    // Strings and numbers alone: writing them into memory cannot fail.
    let _ = serde_json::to_writer(&mut *out, &row);
    out.push(b'\n');
}

/// Reads a line.
pub(crate) fn parse(line: &[u8]) -> Result<Record, BackupError> {
    let row: Row<'_> = serde_json::from_slice(line)
        .map_err(|error| BackupError::damaged(format!("a row cannot be read: {error}")))?;
    let Row { kind, id, revision, created, project, owner, body } = row;
    let kind =
        kind.parse().map_err(|error| BackupError::damaged(format!("a row cannot be read: {error}")))?;
    Ok(Record {
        key: Key::new(kind, &*id),
        revision: Revision(revision),
        created: Revision(created),
        project: project.map(|text| Arc::from(&*text)),
        owner: owner.map(|text| Arc::from(&*text)),
        body: Arc::from(&*body),
    })
}

/// SHA-256 over all rows in the order of kind and id, every field with its length before it: equal
/// exactly when the rows are. In hexadecimal.
pub fn digest<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let mut records: Vec<&Record> = records.into_iter().collect();
    records.sort_by(|a, b| a.key.cmp(&b.key));
    let mut hash = Sha256::new();
    let mut text = |field: Option<&str>| {
        hash.update(field.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
        hash.update(field.unwrap_or_default());
    };
    for record in records {
        let Record { key, revision, created, project, owner, body } = record;
        text(Some(key.kind.as_str()));
        text(Some(&key.id));
        text(Some(&revision.to_string()));
        text(Some(&created.to_string()));
        text(project.as_deref());
        text(owner.as_deref());
        text(Some(body));
    }
    hex::encode(hash.finalize())
}
