//! Packs what `npm run build` made of `apps/console` into one table: each file compressed once, here, with the hash of
//! its bytes. Where the console was not built, as after a plain `cargo build` in a fresh clone, the table is empty.

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

fn main() -> Result<()> {
    let dist = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../apps/console/dist");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // The folder is in the repository, with nothing in it that counts: a path that is not there would have cargo run
    // this, and compile the server anew, each time.
    println!("cargo::rerun-if-changed={}", dist.display());
    let mut found = Vec::new();
    walk(&dist, "", &mut found)?;
    found.sort();
    let mut table = String::from("&[\n");
    for (name, path) in &found {
        let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let hash = hex::encode(&Sha256::digest(&bytes)[..16]);
        let packed = out.join(format!("{hash}.gz"));
        let mut encoder = GzEncoder::new(fs::File::create(&packed)?, Compression::best());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        let (size, media_type) = (bytes.len(), media_type(name)?);
        writeln!(
            table,
            "    File {{ path: {name:?}, media_type: {media_type:?}, etag: {:?}, size: {size}, gzip: include_bytes!({packed:?}) }},",
            format!("\"{hash}\""),
        )?;
    }
    table.push(']');
    fs::write(out.join("files.rs"), table)?;
    Ok(())
}

/// The files under `folder` with their paths in addresses; what begins with a dot is for tools.
fn walk(folder: &Path, above: &str, found: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{above}/{name}");
        match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), &path, found)?,
            false => found.push((path, entry.path())),
        }
    }
    Ok(())
}

/// By the end of the name. With `nosniff` a browser takes a file for nothing else.
fn media_type(name: &str) -> Result<&'static str> {
    Ok(match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        Some("webmanifest") => "application/manifest+json",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => bail!("the console has a file {name}, whose media type nobody has said: add it to build.rs"),
    })
}
