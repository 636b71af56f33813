//! What is there of Lattice's agent. Looking changes nothing and needs no lock: it works beside a running
//! agent, and with one that hangs.

use super::{outside, traces};
use crate::{
    error::chain,
    home::HomePaths,
    images,
    lan::{Firewall, lan_table_present, table_name},
};
use lattice_model::{
    Bytes, NodeId,
    container::{ContainerState, bridge_prefix},
};
use lattice_runtime::{BuildLeft, Runtime, RuntimeError};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, fs, path::Path, time::Duration};
use tokio::time::timeout;

/// How long an engine may take to say that it is there.
const PING: Duration = Duration::from_secs(10);
/// The most files whose size is counted.
const MAX_FILES: u32 = 100_000;

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ItemKind {
    /// Of the engine.
    Container,
    /// Of the engine.
    Network,
    /// Of the engine, with its data.
    Volume,
    /// Of the engine, brought by Lattice.
    Image,
    /// Files in memory.
    Secrets,
    /// A table of rules.
    Firewall,
    /// A bridge whose network the engine forgot.
    Bridge,
    /// A file of the log outside of the folder.
    Log,
    /// The agent's own.
    Folder,
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Image => "image",
            Self::Secrets => "secrets",
            Self::Firewall => "firewall",
            Self::Bridge => "bridge",
            Self::Log => "log",
            Self::Folder => "folder",
        })
    }
}

/// One thing that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// How it is called, or where it is.
    pub name: String,
    /// How much it takes on disk, where that is known soon; what images share is counted with each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// Of a container: whether it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub runs: bool,
}

impl Item {
    /// One of which no more is known.
    pub fn new(kind: ItemKind, name: impl fmt::Display) -> Self {
        Self { kind, name: name.to_string(), bytes: None, runs: false }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} {}", self.kind, self.name)?;
        match (self.runs, self.bytes) {
            (true, _) => f.write_str(" (runs)"),
            (false, Some(bytes)) => write!(f, " ({bytes})"),
            (false, None) => Ok(()),
        }
    }
}

/// What could not be found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What a person can do.
    pub by_hand: String,
}

/// Everything that is there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Survey {
    /// The agent's folder.
    pub folder: String,
    /// The nodes that this machine is or was.
    pub nodes: BTreeSet<NodeId>,
    /// What there is, in the order in which it is removed.
    pub items: Vec<Item>,
    /// What could not be found out.
    pub problems: Vec<Problem>,
    /// Nodes that have something in the engine and that this folder does not know.
    pub strangers: BTreeSet<NodeId>,
}

impl Survey {
    /// The things of one kind.
    pub fn of(&self, kind: ItemKind) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(move |item| item.kind == kind)
    }
}

/// Looks. `more` are nodes that a person names; the engines are [`super::engines`].
pub async fn survey(paths: &HomePaths, engines: &[super::Engine], more: &BTreeSet<NodeId>) -> Survey {
    let (mut nodes, unknown) = traces::nodes(paths);
    nodes.extend(more);
    let mut found =
        Survey { folder: paths.dir().display().to_string(), nodes: nodes.clone(), ..Survey::default() };
    found.problems.extend(unknown.filter(|_| more.is_empty()));
    let brought = images::brought(&paths.images());
    for (at, engine) in engines.iter().enumerate() {
        let images: Vec<&str> = match at {
            0 => brought.iter().map(|image| image.name.as_str()).collect(),
            _ => Vec::new(),
        };
        let answer = match &engine.runtime {
            Ok(runtime) => in_engine(&**runtime, &nodes, &images, &mut found).await.map_err(|e| chain(&e)),
            Err(why) => Err(why.clone()),
        };
        // Where this machine never was a node, the engine matters to nobody.
        let matters = !nodes.is_empty() || !images.is_empty() || !found.problems.is_empty();
        if let Err(why) = answer
            && matters
        {
            found.problems.push(Problem {
                what: format!("the container engine at {} does not answer ({why})", engine.socket),
                by_hand: by_hand(&engine.socket, &nodes, &images),
            });
        }
    }
    for engine in engines {
        let mut there = tables(&*engine.firewall, &nodes).await;
        there.extend(bridges(engine, &nodes).await);
        // Two engines may be in one namespace, and so may we.
        let new: Vec<Item> = there.into_iter().filter(|item| !found.items.contains(item)).collect();
        found.items.extend(new);
    }
    for outside in outside::all() {
        match outside.found(&nodes) {
            Ok(items) => {
                let new: Vec<Item> = items.into_iter().filter(|item| !found.items.contains(item)).collect();
                found.items.extend(new);
            }
            Err(error) => found.problems.push(Problem {
                what: format!("what is outside of the folder cannot be looked at ({error})"),
                by_hand: "`lattice-agent reset` again, with the rights that the agent had".to_owned(),
            }),
        }
    }
    found.items.sort_by_key(|item| item.kind);
    for log in logs(paths) {
        let bytes = fs::metadata(&log).ok().map(|meta| Bytes(meta.len()));
        found.items.push(Item { bytes, ..Item::new(ItemKind::Log, log.display()) });
    }
    if paths.dir().exists() {
        let bytes = Some(Bytes(weigh(paths.dir())));
        found.items.push(Item { bytes, ..Item::new(ItemKind::Folder, paths.dir().display()) });
    }
    found
}

/// Tables of the nodes in an engine's network namespace. Where nobody may look, [`outside`] says why.
pub(super) async fn tables(firewall: &dyn Firewall, nodes: &BTreeSet<NodeId>) -> Vec<Item> {
    let mut tables = Vec::new();
    for node in nodes {
        if let Ok(true) = lan_table_present(firewall, *node).await {
            tables.push(Item::new(ItemKind::Firewall, format!("table inet {}", table_name(*node))));
        }
    }
    tables
}

/// Bridges of the nodes, in an engine's network namespace, that none of its networks has: one that was restarted after
/// its disk was full, as it made a network, does not know of them. Nothing where it does not answer.
pub(super) async fn bridges(engine: &super::Engine, nodes: &BTreeSet<NodeId>) -> Vec<Item> {
    let Ok(runtime) = &engine.runtime else { return Vec::new() };
    let mut bridges = Vec::new();
    for node in nodes {
        let prefix = bridge_prefix(*node);
        let Ok(here) = engine.firewall.interfaces().await else { continue };
        if !here.iter().any(|name| name.starts_with(&prefix)) {
            continue;
        }
        let Ok(Ok(networks)) = timeout(PING, runtime.list_networks(*node)).await else { continue };
        let known: BTreeSet<String> = networks.into_iter().filter_map(|network| network.bridge).collect();
        let left = here.into_iter().filter(|name| name.starts_with(&prefix) && !known.contains(name));
        bridges.extend(left.map(|name| Item::new(ItemKind::Bridge, name)));
    }
    bridges
}

async fn in_engine(
    runtime: &dyn Runtime,
    nodes: &BTreeSet<NodeId>,
    images: &[&str],
    found: &mut Survey,
) -> Result<(), RuntimeError> {
    if timeout(PING, runtime.ping()).await.is_err() {
        let after = lattice_model::Duration(u64::try_from(PING.as_millis()).unwrap_or(u64::MAX));
        return Err(RuntimeError::Timeout { what: "a sign of life".to_owned(), after });
    }
    found.strangers.extend(runtime.nodes().await?.difference(nodes));
    for node in nodes {
        for container in runtime.list(*node).await? {
            let runs = matches!(container.state, ContainerState::Running | ContainerState::Paused);
            found.items.push(Item { runs, ..Item::new(ItemKind::Container, container.name) });
        }
        let BuildLeft { containers, images } = runtime.builds_left(*node).await?;
        for container in containers {
            found.items.push(Item { runs: true, ..Item::new(ItemKind::Container, container.0) });
        }
        for (image, bytes) in images {
            found.items.push(Item { bytes: Some(bytes), ..Item::new(ItemKind::Image, image) });
        }
        for network in runtime.list_networks(*node).await? {
            found.items.push(Item::new(ItemKind::Network, network.name));
        }
        let volumes = runtime.list_volumes(*node).await?;
        let sizes = if volumes.is_empty() { None } else { runtime.volume_sizes(*node).await.ok() };
        for volume in volumes {
            let bytes = sizes.as_ref().and_then(|sizes| sizes.get(&volume.name).copied());
            found.items.push(Item { bytes, ..Item::new(ItemKind::Volume, volume.name) });
        }
    }
    for image in images {
        if let Some(seen) = runtime.image(image).await?
            && images::is_ours(image, &seen)
        {
            found.items.push(Item { bytes: Some(seen.size), ..Item::new(ItemKind::Image, image) });
        }
    }
    Ok(())
}

/// What a person types where this program cannot.
fn by_hand(socket: &str, nodes: &BTreeSet<NodeId>, images: &[&str]) -> String {
    let mut text = format!(
        "start it and `lattice-agent reset --yes` again; where it is gone for good, add --without-engine. By hand, H being `docker -H unix://{socket}`:"
    );
    for node in nodes {
        let label = format!("--filter label=lattice.node={node}");
        text.push_str(&format!(
            "\n  H rm -fv $(H ps -aq {label}); H network rm $(H network ls -q {label}); H volume rm $(H volume ls -q {label})"
        ));
        // What is left of a build that was cut off.
        let label = format!("--filter label=lattice.build={node}");
        text.push_str(&format!("\n  H rm -fv $(H ps -aq {label}); H rmi $(H images -aq {label})"));
    }
    if !images.is_empty() {
        text.push_str(&format!("\n  H rmi {}", images.join(" ")));
    }
    text
}

/// The log's files outside of the folder, the rotated ones too.
pub(super) fn logs(paths: &HomePaths) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for log in traces::elsewhere(paths).logs {
        if log.starts_with(paths.dir()) {
            continue;
        }
        let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str()))
        else {
            continue;
        };
        let ours = |entry: &std::path::Path| {
            let rest = entry.file_name()?.to_str()?.strip_prefix(name)?;
            let number = rest.strip_prefix('.').is_some_and(|rest| matches!(rest.parse(), Ok(1..=3u8)));
            Some(rest.is_empty() || number)
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        all.extend(entries.filter(|path| ours(path) == Some(true)));
    }
    all.sort();
    all
}

/// How much a folder takes, about.
fn weigh(folder: &Path) -> u64 {
    let (mut bytes, mut left, mut todo) = (0u64, MAX_FILES, vec![folder.to_owned()]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            left = left.saturating_sub(1);
            match meta.is_dir() {
                true if left > 0 => todo.push(entry.path()),
                true => {}
                false => bytes = bytes.saturating_add(meta.len()),
            }
        }
    }
    bytes
}
