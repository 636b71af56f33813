//! The configuration of an image, as much of it as is relied on.

use crate::error::{ImageError, Result};
use lattice_model::spec::ImageDigest;
use serde::Deserialize;

/// The most bytes of a configuration: it is kept with the rows of the store.
pub const MAX_CONFIG: usize = 256 << 10;
/// The most layers; overlay2 mounts 128 at the most.
pub const MAX_LAYERS: usize = 128;

/// What a configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What it is made for, as `os/arch` or `os/arch/variant`.
    pub platform: String,
    /// Its layers, the lowest first, each by the digest of its unpacked archive.
    pub layers: Vec<ImageDigest>,
}

#[derive(Deserialize)]
struct Written {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Vec<ImageDigest>,
}

impl Config {
    /// Reads one; what is not relied on is left to the engine.
    ///
    /// # Errors
    /// [`ImageError::Config`].
    pub fn read(json: &[u8]) -> Result<Self> {
        let wrong = |problem: String| ImageError::Config { problem };
        if json.len() > MAX_CONFIG {
            return Err(wrong(format!("has {} bytes, more than {MAX_CONFIG}", json.len())));
        }
        let Written { architecture, os, variant, rootfs } =
            serde_json::from_slice(json).map_err(|error| wrong(format!("cannot be read ({error})")))?;
        let plain = |word: &str| {
            word.len() <= 32 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if os.is_empty()
            || architecture.is_empty()
            || ![&os, &architecture, &variant].iter().all(|w| plain(w))
        {
            return Err(wrong("does not say what machine it is for".into()));
        }
        if rootfs.kind != "layers" {
            return Err(wrong("has no layers".into()));
        }
        if rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(wrong(format!("has {} layers, more than {MAX_LAYERS}", rootfs.diff_ids.len())));
        }
        let end = if variant.is_empty() { String::new() } else { format!("/{variant}") };
        Ok(Self { platform: format!("{os}/{architecture}{end}"), layers: rootfs.diff_ids })
    }
}

/// A configuration without a label that was only there while it was built, and without what else the builder noted of
/// the computer that it ran on. Layers stay as they are.
///
/// # Errors
/// [`ImageError::Config`].
pub fn without_label(json: &[u8], label: &str) -> Result<Vec<u8>> {
    let unread =
        |error: serde_json::Error| ImageError::Config { problem: format!("cannot be read ({error})") };
    let mut config: serde_json::Value = serde_json::from_slice(json).map_err(unread)?;
    if let Some(all) = config.as_object_mut() {
        all.remove("container");
        all.remove("container_config");
    }
    if let Some(labels) = config["config"]["Labels"].as_object_mut() {
        labels.remove(label);
        if labels.is_empty() {
            config["config"]["Labels"] = serde_json::Value::Null;
        }
    }
    if let Some(inner) = config["config"].as_object_mut() {
        inner.remove("Hostname");
        inner.remove("Image");
    }
    let mark = format!("LABEL {label}=");
    if let Some(history) = config["history"].as_array_mut() {
        history.retain(|step| {
            let empty = step["empty_layer"].as_bool() == Some(true);
            !(empty && step["created_by"].as_str().is_some_and(|by| by.contains(&mark)))
        });
    }
    serde_json::to_vec(&config).map_err(unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_relied_on_is_read_and_checked() {
        let layer = ImageDigest::of(b"layer");
        let text = |arch: &str, kind: &str, layers: usize| {
            serde_json::json!({
                "architecture": arch, "os": "linux", "variant": "v8", "config": { "Cmd": ["sh"] },
                "rootfs": { "type": kind, "diff_ids": vec![layer; layers] }
            })
            .to_string()
        };
        let config = Config::read(text("arm64", "layers", 2).as_bytes()).unwrap();
        assert_eq!((config.platform.as_str(), config.layers), ("linux/arm64/v8", vec![layer; 2]));
        for (text, says) in [
            ("[]".to_owned(), "cannot be read"),
            (text("", "layers", 1), "what machine"),
            (text("a/b", "layers", 1), "what machine"),
            (text("amd64", "foreign", 1), "no layers"),
            (text("amd64", "layers", MAX_LAYERS + 1), "129 layers"),
            (" ".repeat(MAX_CONFIG + 1), "more than"),
        ] {
            let error = Config::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_mark_of_the_build_does_not_stay_in_the_image() {
        let layer = ImageDigest::of(b"layer");
        let built = serde_json::json!({
            "architecture": "amd64", "os": "linux", "container": "abc", "container_config": {},
            "config": { "Cmd": ["sh"], "Hostname": "x", "Labels": { "mark": "1", "own": "2" } },
            "history": [
                { "created_by": "/bin/sh -c #(nop)  LABEL mark=1", "empty_layer": true },
                { "created_by": "/bin/sh -c echo LABEL mark=1" },
            ],
            "rootfs": { "type": "layers", "diff_ids": [layer] }
        });
        let clean = without_label(built.to_string().as_bytes(), "mark").unwrap();
        let read: serde_json::Value = serde_json::from_slice(&clean).unwrap();
        assert_eq!(read["config"], serde_json::json!({ "Cmd": ["sh"], "Labels": { "own": "2" } }));
        assert_eq!(read["history"].as_array().unwrap().len(), 1);
        assert!(read.get("container").is_none());
        assert_eq!(Config::read(&clean).unwrap().layers, [layer]);
        assert!(without_label(b"x", "mark").is_err());
    }
}
