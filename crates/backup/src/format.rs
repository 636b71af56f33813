//! The words of the format: header, manifest, label, and how a backup is called.

use crate::BackupError;
use lattice_model::{ClusterId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The ending of the encrypted file.
pub(crate) const DATA: &str = ".age";
/// The ending of the label.
pub(crate) const LABEL: &str = ".json";
/// How every backup's name begins.
pub(crate) const PREFIX: &str = "lattice-";
/// The largest label, header or manifest, in bytes.
pub(crate) const MAX_JSON: u64 = 64 << 20;

/// Why a backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Somebody asked for it.
    Asked,
    /// The server's configuration did.
    Scheduled,
    /// The store was about to be migrated.
    Migration,
    /// Of a version that this program does not know.
    #[serde(other)]
    Other,
}

/// What a backup is of; the first entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format.
    pub format: u32,
    /// The version of Lattice that made it.
    pub lattice: String,
    /// When, by the clock of whoever made it.
    pub created_at: Timestamp,
    /// Why.
    pub reason: Reason,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// What people call it.
    pub cluster_name: String,
    /// How often its store had been restored.
    pub incarnation: u64,
    /// The revision that the rows are of.
    pub revision: u64,
    /// The version of the store's schema.
    pub schema: u32,
}

/// One entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its path in the archive.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What the archive holds; the last entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// As the first entry says.
    pub header: Header,
    /// Every entry but this one, in order.
    pub parts: Vec<Part>,
    /// How many rows.
    pub rows: u64,
    /// How many of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// [`digest`](crate::digest) of the rows.
    pub rows_sha256: String,
}

impl Manifest {
    /// How many blobs it has.
    pub fn blobs(&self) -> u64 {
        self.parts.iter().filter(|part| part.name.starts_with("blobs/")).count() as u64
    }
}

/// What stands beside the encrypted file, in the clear. It tells no secret, and nothing is restored on
/// its word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The backup's name.
    pub name: String,
    /// As inside.
    pub header: Header,
    /// How many rows.
    pub rows: u64,
    /// How many blobs.
    pub blobs: u64,
    /// The size of the encrypted file.
    pub bytes: u64,
    /// SHA-256 of the encrypted file, in hexadecimal.
    pub sha256: String,
}

/// A name for a backup: `lattice-CLUSTER-20260131T120000Z-1a2b3c4d5e6f`. Sorts by time within a
/// cluster; `random` keeps two apart that are made in the same second.
pub fn name_of(cluster_name: &str, at: Timestamp, random: [u8; 6]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = cluster_name.chars().map(plain).take(40).collect();
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ");
    format!("{PREFIX}{slug}-{at}-{}", hex::encode(random))
}

/// Whether it could be [`name_of`]'s: a name goes into paths and URLs.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(PREFIX)
        && text.len() <= 120
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whether an entry may be called so; what is not known is refused and not skipped.
pub(crate) fn is_part(name: &str) -> bool {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 200
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    match name.split_once('/') {
        Some(("keys", file)) => plain(file) && file.ends_with(".key"),
        Some(("settings" | "rows", file)) => plain(file),
        Some(("blobs", path)) => path.split('/').count() <= 4 && path.split('/').all(plain),
        _ => name == "header.json" || name == "manifest.json",
    }
}

pub(crate) fn check_format(header: &Header) -> Result<(), BackupError> {
    if header.format > FORMAT {
        let by = header.lattice.chars().take(40).collect();
        return Err(BackupError::NewerFormat { found: header.format, known: FORMAT, by });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_and_when() {
        let name = name_of("Büro 3", Timestamp(1_769_860_800_000), [1, 2, 3, 4, 5, 255]);
        assert_eq!(name, "lattice-b-ro-3-20260131T120000Z-0102030405ff");
        assert!(is_name(&name));
        for bad in ["../lattice-x", "lattice-a/b", "x", "lattice-a.b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn no_part_leads_out_of_its_folder() {
        for good in [
            "header.json",
            "manifest.json",
            "keys/master.key",
            "settings/server.toml",
            "rows/00001.ndjson",
            "blobs/ab/abcd",
        ] {
            assert!(is_part(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "/etc/passwd",
            "keys/../x.key",
            "keys/a",
            "blobs/../x",
            "blobs//x",
            "blobs/a/.x",
            "keys/",
            "other/x",
        ] {
            assert!(!is_part(bad), "{bad}");
        }
    }
}
