//! What an engine loads: an archive in Docker's own format, which every version reads.
//!
//! An engine that has a layer under the same layers does not look for it in the archive (checked on
//! 20.10), so what it has is left out. An engine that keeps images in containerd wants all of them:
//! it refuses an archive that lacks some, and gets a whole one then.

use crate::{
    error::{ImageError, Result},
    frame::{Frame, MAX_LAYER},
};
use lattice_model::spec::ImageDigest;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
};
use tar::{EntryType, Header};

/// The layers of an archive that are written into it, each from its frame.
pub type Part = Box<dyn Read + Send>;

/// How many of the lowest of `layers` an engine has that has images of these `chains`.
pub fn known_layers(layers: &[ImageDigest], chains: &[Vec<ImageDigest>]) -> usize {
    let common = |chain: &Vec<ImageDigest>| chain.iter().zip(layers).take_while(|(a, b)| a == b).count();
    chains.iter().map(common).max().unwrap_or(0)
}

/// What an uploaded image is called on an engine: the name that people know where it is one that only
/// this image may have (`lattice/shop-web:` and the first digits of its id), so that nobody's `postgres:15`
/// becomes another image because somebody uploaded one of that name.
pub fn loaded_name(image: &str, id: ImageDigest) -> String {
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 200
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    match image.strip_prefix("lattice/").and_then(|rest| rest.split_once(':')) {
        Some((name, tag)) if plain(name) && tag == id.short() => image.to_owned(),
        _ => format!("lattice/image:{}", id.short()),
    }
}

/// Writes the archive of an image of these `layers`: `parts` are those that the engine lacks.
///
/// # Errors
/// [`ImageError`] where a part is damaged or `out` takes no more.
pub fn archive(
    config: &[u8],
    name: &str,
    layers: &[ImageDigest],
    mut parts: BTreeMap<ImageDigest, Part>,
    out: impl Write,
) -> Result<()> {
    let id = ImageDigest::of(config);
    let config_name = format!("{}.json", id.hex());
    let paths: Vec<String> = layers.iter().map(path).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": paths }]).to_string();
    let mut archive = tar::Builder::new(out);
    let mut add = |name: &str, size: u64, content: &mut dyn Read| {
        archive.append_data(&mut header(size), name, content).map_err(ImageError::write)
    };
    add("manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
    add(&config_name, config.len() as u64, &mut &*config)?;
    // A layer that is there twice, as empty ones are, is written once.
    for digest in layers.iter().collect::<BTreeSet<_>>() {
        if let Some(part) = parts.remove(digest) {
            let mut frame = Frame::open(part, MAX_LAYER)?;
            add(&path(digest), frame.size(), &mut frame)?;
        }
    }
    let mut out = archive.into_inner().map_err(ImageError::write)?;
    out.flush().map_err(ImageError::write)
}

fn path(layer: &ImageDigest) -> String {
    format!("{}/layer.tar", layer.hex())
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_has_is_the_longest_common_beginning() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|text| ImageDigest::of(text));
        assert_eq!(known_layers(&[a, b, c], &[]), 0);
        assert_eq!(known_layers(&[a, b, c], &[vec![b, a], vec![a, c], vec![a, b]]), 2);
        assert_eq!(known_layers(&[a], &[vec![a, b]]), 1);
    }

    #[test]
    fn only_names_that_are_this_images_own_are_given() {
        let id = ImageDigest::of(b"x");
        let own = format!("lattice/shop-web:{}", id.short());
        assert_eq!(loaded_name(&own, id), own);
        for image in ["postgres:15", "lattice/shop-web:latest", "lattice/a/b:1", "lattice/-:x", ""] {
            assert_eq!(loaded_name(image, id), format!("lattice/image:{}", id.short()), "{image}");
        }
    }
}
