//! The container engines of this machine, by their sockets: Docker with and without root, Podman,
//! and what Docker's contexts name. They are only looked for, and told to the owner: which one is
//! used is his to say, and no context is ever changed or followed by itself.

use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

/// A socket that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Where it was named.
    pub(crate) how: String,
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// `DOCKER_HOST`.
    docker_host: Option<String>,
    /// `XDG_RUNTIME_DIR`.
    runtime_dir: Option<PathBuf>,
    /// `DOCKER_CONFIG`, or `.docker` in the home.
    docker_config: Option<PathBuf>,
    /// Where system-wide sockets are.
    run: PathBuf,
}

impl Places {
    /// Of this process.
    pub(crate) fn here() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            docker_host: std::env::var("DOCKER_HOST").ok(),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            docker_config: path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker"))),
            run: "/run".into(),
        }
    }
}

/// Every socket that is there, each once, the likeliest first.
pub(crate) fn find(places: &Places) -> Vec<Found> {
    let Places { docker_host, runtime_dir, docker_config, run } = places;
    let mut named: Vec<(PathBuf, String)> = Vec::new();
    let local = |host: &str| host.strip_prefix("unix://").map(PathBuf::from);
    named.extend(docker_host.as_deref().and_then(local).map(|path| (path, "DOCKER_HOST".to_owned())));
    named.push((run.join("docker.sock"), "Docker".to_owned()));
    if let Some(dir) = runtime_dir {
        named.push((dir.join("docker.sock"), "Docker without root".to_owned()));
    }
    if let Some((name, host)) = docker_config.as_deref().and_then(current_context) {
        named.extend(local(&host).map(|path| (path, format!("Docker's context {name}"))));
    }
    if let Some(dir) = runtime_dir {
        named.push((dir.join("podman/podman.sock"), "Podman without root".to_owned()));
    }
    named.push((run.join("podman/podman.sock"), "Podman".to_owned()));
    let mut seen = BTreeSet::new();
    let is_socket = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let there = named.into_iter().filter(|(path, _)| is_socket(path));
    // `/var/run` is `/run` on most systems.
    let once =
        there.filter(|(path, _)| seen.insert(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    once.map(|(path, how)| Found { path, how }).collect()
}

/// The context that the `docker` command uses, and its address: `config.json` names it, and its
/// file lies in a folder named by the SHA-256 of the name.
fn current_context(config: &Path) -> Option<(String, String)> {
    let read = |path: PathBuf| -> Option<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let name = read(config.join("config.json"))?["currentContext"].as_str()?.to_owned();
    let folder = hex::encode(Sha256::digest(name.as_bytes()));
    let meta = read(config.join("contexts/meta").join(folder).join("meta.json"))?;
    Some((name, meta["Endpoints"]["docker"]["Host"].as_str()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_are_found_wherever_they_are_named_and_each_once() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let mut listeners = Vec::new();
        for path in ["run/docker.sock", "user/docker.sock", "user/podman/podman.sock", "colima.sock"] {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            listeners.push(UnixListener::bind(at(path)).unwrap());
        }
        let meta = at("docker/contexts/meta").join(hex::encode(Sha256::digest(b"colima")));
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(at("docker/config.json"), r#"{"currentContext": "colima"}"#).unwrap();
        let host = format!("unix://{}", at("colima.sock").display());
        let json = serde_json::json!({ "Name": "colima", "Endpoints": { "docker": { "Host": host } } });
        std::fs::write(meta.join("meta.json"), json.to_string()).unwrap();
        let places = Places {
            docker_host: Some(format!("unix://{}", at("user/docker.sock").display())),
            runtime_dir: Some(at("user")),
            docker_config: Some(at("docker")),
            run: at("run"),
        };
        let found: Vec<_> = find(&places).into_iter().map(|found| (found.path, found.how)).collect();
        let expected = [
            ("user/docker.sock", "DOCKER_HOST"),
            ("run/docker.sock", "Docker"),
            ("colima.sock", "Docker's context colima"),
            ("user/podman/podman.sock", "Podman without root"),
        ];
        assert_eq!(found, expected.map(|(path, how)| (at(path), how.to_owned())));
        assert_eq!(
            find(&Places { docker_host: Some("tcp://10.0.0.1:2375".into()), ..Places::default() }),
            []
        );
    }
}
