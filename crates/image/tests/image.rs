//! From what an engine saves to what another one loads.

#![allow(clippy::unwrap_used)]

use flate2::{Compression, write::GzEncoder};
use lattice_image::{ImageError, Part, SavedLayer, archive, compress, split};
use lattice_model::spec::ImageDigest;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read, Write},
};

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn layers() -> [Vec<u8>; 3] {
    // The last one is longer than what is looked at as a possible configuration.
    [tar(&[("a", b"1")]), tar(&[("{b", b"2")]), tar(&[("c", &[3; 700_000])])]
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<ImageDigest> = layers.iter().map(|layer| ImageDigest::of(layer)).collect();
    json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } })
        .to_string()
        .into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The configuration, and the layers that were handed over.
type Taken = (Vec<u8>, BTreeMap<ImageDigest, Vec<u8>>);

fn taken(saved: &[u8], wanted: &[ImageDigest]) -> Result<Taken, ImageError> {
    let mut got = BTreeMap::new();
    let wanted: BTreeSet<ImageDigest> = wanted.iter().copied().collect();
    let saved = split(saved, &wanted, &mut |SavedLayer { digest, size, mut file }| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, size);
        assert!(got.insert(digest, bytes).is_none(), "each comes once");
        Ok(())
    })?;
    assert_eq!(ImageDigest::of(&saved.json), saved.id);
    Ok((saved.json, got))
}

#[test]
fn every_layout_of_an_engine_comes_apart_into_the_same() {
    let layers = layers();
    let ids: Vec<ImageDigest> = layers.iter().map(|layer| ImageDigest::of(layer)).collect();
    let config = config(&layers);
    let manifest = |config: &str| json!([{ "Config": config, "RepoTags": null, "Layers": [] }]).to_string();
    let old = tar(&[
        ("abc.json", &config),
        ("x/json", b"{}"),
        ("x/layer.tar", &layers[0]),
        ("y/layer.tar", &layers[1]),
        ("z/layer.tar", &layers[2]),
        ("manifest.json", manifest("abc.json").as_bytes()),
    ]);
    let packed = [gzip(&layers[0]), zstd_of(&layers[1]), gzip(&layers[2])];
    let new = tar(&[
        ("blobs/sha256/1", &packed[2]),
        ("blobs/sha256/2", &packed[0]),
        ("blobs/sha256/3", &packed[1]),
        ("blobs/sha256/4", &packed[1]),
        ("blobs/sha256/c", &config),
        ("index.json", b"{}"),
        ("manifest.json", manifest("blobs/sha256/c").as_bytes()),
    ]);
    for saved in [&old, &new] {
        let (json, got) = taken(saved, &ids).unwrap();
        assert_eq!(json, config);
        assert!(ids.iter().zip(&layers).all(|(id, layer)| got[id] == *layer) && got.len() == 3);
        assert_eq!(taken(saved, &ids[2..]).unwrap().1.len(), 1);
        assert!(taken(saved, &[]).unwrap().1.is_empty());
        let error = taken(saved, &[ImageDigest::of(b"other")]).unwrap_err().to_string();
        assert!(error.contains("no layer sha256:"), "{error}");
    }
    assert!(taken(&old[..old.len() / 2], &ids).is_err());
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(bytes, bytes.len() as u64, &mut out).unwrap();
    out
}

#[test]
fn an_archive_has_what_the_engine_lacks_and_comes_apart_again() {
    let layers = layers();
    let ids: Vec<ImageDigest> = layers.iter().map(|layer| ImageDigest::of(layer)).collect();
    let config = config(&layers);
    let mut parts: BTreeMap<ImageDigest, Part> = BTreeMap::new();
    for layer in &layers[1..] {
        parts.insert(ImageDigest::of(layer), Box::new(Cursor::new(zstd_of(layer))));
    }
    let mut out = Vec::new();
    archive(&config, "lattice/image:0", &ids, parts, &mut out).unwrap();
    let (json, got) = taken(&out, &ids[1..]).unwrap();
    assert_eq!((json, got.len()), (config.clone(), 2));
    let mut read = tar::Archive::new(&*out);
    let mut manifest = String::new();
    read.entries().unwrap().next().unwrap().unwrap().read_to_string(&mut manifest).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest[0]["Config"], format!("{}.json", ImageDigest::of(&config).hex()));
    assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 3, "what is left out is named all the same");
    // A part that breaks off is an error, and not a shorter layer.
    let cut = zstd_of(&layers[2]);
    let parts: BTreeMap<ImageDigest, Part> =
        [(ids[2], Box::new(Cursor::new(cut[..cut.len() / 2].to_vec())) as Part)].into();
    assert!(archive(&config, "x", &ids, parts, &mut Vec::new()).is_err());
}
