//! What every part behind the port refuses by itself, in the same words: names that are paths,
//! containers without limits, things without a node or of somebody else.

use crate::error::{Result, RuntimeError};
use lattice_model::container::{ContainerConfig, LABEL_NODE};
use std::collections::BTreeMap;

/// Refuses what would become another path: names and ids go into paths as they are.
pub(crate) fn checked<'a>(kind: &str, name: &'a str) -> Result<&'a str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let image = |c: char| fine(c) || matches!(c, '/' | ':' | '@');
    let ok = match kind {
        "image" => name.chars().all(image) && !name.split('/').any(|part| matches!(part, "" | "." | "..")),
        _ => name.chars().all(fine) && !matches!(name, "." | ".."),
    };
    if ok && !name.is_empty() && name.len() <= 512 {
        return Ok(name);
    }
    Err(RuntimeError::Refused {
        what: format!("{kind} {:?}", name.chars().take(80).collect::<String>()),
        message: "this is not a name that an engine knows; letters, digits, `_`, `.` and `-` are".to_owned(),
    })
}

/// Nothing runs without limits.
pub(crate) fn limited(config: &ContainerConfig) -> Result<()> {
    let limits = [
        ("memory", config.memory_limit.0 == 0),
        ("processor", config.cpu_limit.0 == 0),
        ("process", config.pids_limit == 0),
    ];
    match limits.into_iter().find(|(_, missing)| *missing) {
        None => Ok(()),
        Some((limit, _)) => Err(RuntimeError::Refused {
            what: format!("container {}", config.name),
            message: format!("it has no {limit} limit, and nothing runs without; set one above zero"),
        }),
    }
}

/// The node that the labels name.
pub(crate) fn node_label<'a>(
    kind: &str,
    name: &str,
    labels: &'a BTreeMap<String, String>,
) -> Result<&'a str> {
    labels.get(LABEL_NODE).map(String::as_str).ok_or_else(|| RuntimeError::Refused {
        what: format!("{kind} {name}"),
        message: format!("nothing is made without the label {LABEL_NODE}; name the node"),
    })
}

/// Not labelled as the node's.
pub(crate) fn foreign(kind: &str, name: &str) -> RuntimeError {
    RuntimeError::Refused {
        what: format!("{kind} {name}"),
        message: format!(
            "it exists and is not this node's (label {LABEL_NODE}), so it is left alone; rename or remove it"
        ),
    }
}

/// A volume that a container needs and that is not there: an engine left to itself would make an
/// empty one, and data that was lost would look as if it had never been.
pub(crate) fn no_volume(name: &str) -> RuntimeError {
    RuntimeError::NotFound {
        what: format!("volume {name}"),
        message: "the container needs it, and an empty one is not put in its place".to_owned(),
    }
}

/// Name and tag or digest apart; without a tag it is `latest`.
pub(crate) fn image_parts(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_apart_at_the_tag() {
        for (image, parts) in [
            ("postgres", ("postgres", "latest")),
            ("postgres:15", ("postgres", "15")),
            ("r.example:5000/a/b", ("r.example:5000/a/b", "latest")),
            ("r.example:5000/a/b:1", ("r.example:5000/a/b", "1")),
            ("a/b@sha256:00", ("a/b", "sha256:00")),
        ] {
            assert_eq!(image_parts(image), parts);
        }
    }

    #[test]
    fn names_stay_names() {
        for name in ["", "..", "a/b", "a?force=1", "a%2fb", "a b", "../containers/x"] {
            assert!(checked("volume", name).is_err(), "{name}");
        }
        for image in ["", "../containers/json", "a?b", "a#b", "a//b", "a/./b"] {
            assert!(checked("image", image).is_err(), "{image}");
        }
        assert!(checked("volume", "lattice_data-1.x").is_ok());
        assert!(checked("image", "r.example:5000/a/b@sha256:00").is_ok());
    }
}
