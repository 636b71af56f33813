//! Taking apart what `docker save` writes, of any version: layers are known by what they are and not
//! by what they are called, so neither the old layout (`<id>/layer.tar`) nor the new one
//! (`blobs/sha256/…`), whose layers may be compressed, is relied on.

use crate::{
    config::{Config, MAX_CONFIG},
    error::{ImageError, Result},
    frame::MAX_LAYER,
};
use flate2::read::GzDecoder;
use lattice_model::spec::ImageDigest;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read, Seek as _, Write as _},
};

/// The most bytes of small files that are kept to be looked at.
const MAX_KEPT: usize = 32 << 20;
const PIECE: usize = 128 << 10;

/// A layer that was wanted: its unpacked archive, in a file without a name that goes when it is closed.
#[derive(Debug)]
pub struct SavedLayer {
    /// Its digest.
    pub digest: ImageDigest,
    /// How many bytes it has.
    pub size: u64,
    /// Its bytes, from the beginning.
    pub file: File,
}

/// What else was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The image's id: the digest of its configuration.
    pub id: ImageDigest,
    /// The configuration.
    pub json: Vec<u8>,
    /// What it says.
    pub config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestEntry {
    config: String,
}

/// Reads an archive of one image and hands over those of its layers that are `wanted`, each once, as
/// they come. Needs room for the unpacked layers that are in hand, in the folder for temporary files.
///
/// # Errors
/// [`ImageError`] where the archive is damaged, lacks what is wanted, or a disk is full; and whatever
/// `each` says.
pub fn split(
    archive: impl Read,
    wanted: &BTreeSet<ImageDigest>,
    each: &mut dyn FnMut(SavedLayer) -> Result<()>,
) -> Result<Saved> {
    let mut missing = wanted.clone();
    let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut bytes_kept = 0;
    let mut archive = tar::Archive::new(BufReader::with_capacity(PIECE, archive));
    for entry in archive.entries().map_err(ImageError::read)? {
        let mut entry = entry.map_err(ImageError::read)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(ImageError::read)?.to_string_lossy().into_owned();
        let mut head = Vec::new();
        let size = entry.size();
        entry.by_ref().take(MAX_CONFIG as u64 + 1).read_to_end(&mut head).map_err(ImageError::read)?;
        // A layer may begin so too: with a file of such a name.
        let json = head.len() as u64 == size && matches!(head.first(), Some(b'{' | b'['));
        if json && !missing.contains(&ImageDigest::of(&head)) {
            bytes_kept += head.len();
            if bytes_kept > MAX_KEPT {
                return Err(ImageError::Missing { what: "end of small files".into() });
            }
            kept.insert(name, head);
            continue;
        }
        if missing.is_empty() {
            continue;
        }
        let whole = io::Cursor::new(head).chain(entry);
        if let Some(layer) = spool(whole, &missing)? {
            missing.remove(&layer.digest);
            each(layer)?;
        }
    }
    let lacks = |what: &str| ImageError::Missing { what: what.to_owned() };
    let manifest = kept.get("manifest.json").ok_or_else(|| lacks("manifest.json"))?;
    let entries: Vec<ManifestEntry> =
        serde_json::from_slice(manifest).map_err(|_| lacks("manifest that can be read"))?;
    let [ManifestEntry { config }] = &*entries else { return Err(lacks("single image")) };
    let json = kept.remove(config).ok_or_else(|| lacks("configuration"))?;
    if let Some(layer) = missing.first() {
        return Err(ImageError::Missing { what: format!("layer {layer}") });
    }
    Ok(Saved { id: ImageDigest::of(&json), config: Config::read(&json)?, json })
}

/// Unpacks what may be a layer into a file; nothing where it is none that is wanted.
fn spool(source: impl Read, wanted: &BTreeSet<ImageDigest>) -> Result<Option<SavedLayer>> {
    let mut source = BufReader::with_capacity(PIECE, source);
    let head = io::BufRead::fill_buf(&mut source).map_err(ImageError::read)?;
    let mut plain: Box<dyn Read + '_> = match head {
        [0x1f, 0x8b, ..] => Box::new(GzDecoder::new(source)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::Decoder::with_buffer(source).map_err(ImageError::read)?)
        }
        _ => Box::new(source),
    };
    let mut file = tempfile::tempfile().map_err(ImageError::write)?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0u64, vec![0; PIECE]);
    loop {
        let read = plain.read(&mut buffer).map_err(ImageError::read)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        if size > MAX_LAYER {
            return Err(ImageError::TooLarge { max: MAX_LAYER });
        }
        hash.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(ImageError::write)?;
    }
    let digest = ImageDigest::from_sha256(hash.finalize().into());
    if !wanted.contains(&digest) {
        return Ok(None);
    }
    file.rewind().map_err(ImageError::write)?;
    Ok(Some(SavedLayer { digest, size, file }))
}
