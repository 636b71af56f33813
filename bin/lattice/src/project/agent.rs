//! The engine that this machine's agent uses: what is built is built there, where its layers are at hand.

use lattice_client::default_home;
use serde::Deserialize;
use std::path::PathBuf;

/// The engine that this machine's agent was told to use, if its owner named one.
pub(crate) fn engine_socket() -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Owner {
        docker_host: Option<String>,
    }
    let text = std::fs::read_to_string(default_home()?.join("agent/agent.toml")).ok()?;
    toml::from_str::<Owner>(&text).ok()?.docker_host.map(PathBuf::from)
}
