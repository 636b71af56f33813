//! What is kept for a reset, and read back however damaged the rest is: the nodes that this machine was
//! or is (`former-nodes`), where engine and logs are (`elsewhere.json`), and which folders were made
//! above the agent's (`made`).

use super::survey::Problem;
#[cfg(target_os = "linux")]
use crate::lan::Nftables;
#[cfg(not(target_os = "linux"))]
use crate::lan::NoFirewall;
use crate::{
    AgentConfig, DOCKER_SOCKET,
    error::{Result, chain},
    home::HomePaths,
    lan::Firewall,
};
use lattice_identity::keyfile;
use lattice_model::NodeId;
use lattice_runtime::{Runtime, docker::Docker};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The most of a file that is read of what may be damaged.
const MAX_FILE: u64 = 1 << 20;

/// What an agent has outside of its folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Elsewhere {
    /// Sockets of the engines that it used, the last one first.
    pub(super) engines: Vec<String>,
    /// Its logs.
    pub(super) logs: Vec<PathBuf>,
}

pub(super) fn elsewhere(paths: &HomePaths) -> Elsewhere {
    read(&paths.elsewhere()).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Notes which engine is used from now on, and where the log is, for a later reset.
///
/// # Errors
/// What the file system says.
pub fn note_elsewhere(paths: &HomePaths, engine: &str, log: Option<&Path>) -> Result<()> {
    let before = elsewhere(paths);
    let mut now = before.clone();
    let engine = engine.strip_prefix("unix://").unwrap_or(engine);
    now.engines.retain(|known| known != engine);
    now.engines.insert(0, engine.to_owned());
    if let Some(log) = log.and_then(|log| std::path::absolute(log).ok())
        && !now.logs.contains(&log)
    {
        now.logs.push(log);
    }
    if now != before {
        keyfile::replace(&paths.elsewhere(), &serde_json::to_vec(&now).unwrap_or_default())?;
    }
    Ok(())
}

/// Notes the uppermost folder that had to be made for the agent's: it goes too, if nothing else is in it.
pub(crate) fn note_made(paths: &HomePaths, uppermost: &Path) -> Result<()> {
    Ok(keyfile::replace(&paths.made(), uppermost.as_os_str().as_encoded_bytes())?)
}

pub(crate) fn made(paths: &HomePaths) -> Option<PathBuf> {
    read(&paths.made()).map(PathBuf::from)
}

/// Remembers nodes for the next reset.
pub(crate) fn remember(paths: &HomePaths, nodes: &BTreeSet<NodeId>) -> Result<()> {
    let (mut known, before) = listed(paths);
    known.retain(|node| !nodes.contains(node));
    known.extend(nodes);
    let text: String = known.iter().map(|node| format!("{node}\n")).collect();
    if before.as_deref() == Some(text.as_str()) {
        return Ok(());
    }
    Ok(keyfile::replace(&paths.former_file(), text.as_bytes())?)
}

fn listed(paths: &HomePaths) -> (Vec<NodeId>, Option<String>) {
    let text = read(&paths.former_file());
    let nodes = text.iter().flat_map(|text| text.lines()).filter_map(|line| line.trim().parse().ok());
    (nodes.collect(), text)
}

/// A file as text, whatever is in it; nothing where it cannot be read.
fn read(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return None;
    }
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

/// The nodes that this machine is or was, by everything that says so.
pub(super) fn nodes(paths: &HomePaths) -> (BTreeSet<NodeId>, Option<Problem>) {
    let mut nodes: BTreeSet<NodeId> = listed(paths).0.into_iter().collect();
    let file = paths.identity_file();
    let identity = read(&file).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let said = identity.and_then(|identity| identity.get("node")?.as_str()?.parse::<NodeId>().ok());
    nodes.extend(said);
    let leaf = paths.certificate().ok().and_then(|chain| chain.into_iter().next());
    nodes.extend(leaf.and_then(|leaf| lattice_identity::peer_node(&leaf).ok()).map(|peer| peer.node));
    let unknown = nodes.is_empty() && (file.exists() || paths.database().exists());
    let problem = unknown.then(|| Problem {
        what: format!("{} cannot be read, and nothing else says which node this machine was", file.display()),
        by_hand: "`lattice node ls` on the server names it: `lattice-agent reset --node ID --yes` removes what it has in the engine".to_owned(),
    });
    (nodes, problem)
}

/// A container engine that an agent used.
#[derive(Clone)]
pub struct Engine {
    /// Where it is, for people.
    pub socket: String,
    /// The way to it, or why there is none.
    pub runtime: Result<Arc<dyn Runtime>, String>,
    /// Tables in its network namespace, which may be another than ours.
    pub firewall: Arc<dyn Firewall>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Engine {
    fn at(socket: String) -> Self {
        let runtime = Docker::new(&socket).map(|docker| Arc::new(docker) as Arc<dyn Runtime>);
        Self { runtime: runtime.map_err(|error| chain(&error)), firewall: firewall(&socket), socket }
    }
}

fn firewall(socket: &str) -> Arc<dyn Firewall> {
    #[cfg(target_os = "linux")]
    return Arc::new(Nftables::new(socket));
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Arc::new(NoFirewall("this agent makes no tables on this system".into()))
    }
}

/// The engines that may have something of this agent, the one that it used last first: what a person says
/// now and what the agent noted; before it ran for the first time, what `agent.toml` says, be the rest of that
/// file as broken as it may.
pub fn engines(paths: &HomePaths, said: Option<&str>) -> Vec<Engine> {
    let plain = |socket: &str| socket.strip_prefix("unix://").unwrap_or(socket).to_owned();
    let mut sockets: Vec<String> = Vec::new();
    for socket in said.map(plain).into_iter().chain(elsewhere(paths).engines) {
        if !sockets.contains(&socket) {
            sockets.push(socket);
        }
    }
    if sockets.is_empty() {
        let socket = AgentConfig::load(&paths.config()).map(|config| config.docker_host(None));
        sockets
            .push(plain(&socket.ok().or_else(|| readable_host(paths)).unwrap_or(DOCKER_SOCKET.to_owned())));
    }
    sockets.into_iter().map(Engine::at).collect()
}

/// The socket that a broken `agent.toml` names.
fn readable_host(paths: &HomePaths) -> Option<String> {
    let text = read(&paths.config())?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("docker_host"))?;
    Some(line.trim().strip_prefix('=')?.trim().trim_matches(['"', '\'']).to_owned())
}
