//! Takes away what is there. Everything may be begun again at any point: what is gone is fine.

use super::{
    outside,
    survey::{Item, ItemKind, bridges, logs, survey, tables},
    traces::{self, Engine},
};
use crate::{
    error::{Result, chain},
    home::Hold,
    images,
};
use futures::{StreamExt as _, stream};
use lattice_model::{Duration, NodeId};
use lattice_runtime::{BuildLeft, Runtime, RuntimeError};
use std::{collections::BTreeSet, fs, io, path::Path};

/// How long a container has to end.
const GRACE: Duration = Duration::from_secs(10);
/// How many containers are ended at the same time.
const AT_ONCE: usize = 16;
/// What a killed agent had asked for may still be made a moment later.
const PASSES: usize = 3;

/// What a person may say.
#[derive(Clone, Debug, Default)]
pub struct ResetOptions {
    /// Nodes that are this machine's too, whatever the folder says.
    pub nodes: BTreeSet<NodeId>,
    /// Volumes stay.
    pub keep_data: bool,
    /// An engine that does not answer is gone for good.
    pub without_engine: bool,
}

/// Hears of each thing that is gone.
pub type Tell<'a> = &'a mut (dyn FnMut(&Item) + Send);

/// What is left, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What.
    pub item: String,
    /// Why.
    pub why: String,
    /// What a person can do.
    pub by_hand: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many things are gone.
    pub removed: usize,
    /// Volumes that stay because they were to.
    pub kept: Vec<String>,
    /// What could not be removed. The folder then keeps what the next reset needs.
    pub left: Vec<Left>,
}

/// Removes everything. The lock is held, so no agent puts anything back.
///
/// # Errors
/// When the folder cannot be written: then it is not begun, as it could not be gone on with.
pub async fn reset(
    hold: Hold,
    engines: &[Engine],
    options: &ResetOptions,
    tell: Tell<'_>,
) -> Result<Outcome> {
    let paths = hold.paths().clone();
    let (mut nodes, _) = traces::nodes(&paths);
    nodes.extend(&options.nodes);
    // Whatever happens from here on, the next reset knows what to look for.
    if !nodes.is_empty() {
        traces::remember(&paths, &nodes)?;
    }
    let mut outcome = Outcome::default();
    for _ in 0..PASSES {
        outcome.left.clear();
        let before = outcome.removed;
        for (at, engine) in engines.iter().enumerate() {
            let Ok(runtime) = &engine.runtime else { continue };
            let runtime = &**runtime;
            for node in &nodes {
                node_in_engine(runtime, &engine.socket, *node, options.keep_data, &mut outcome, tell).await;
            }
            if at == 0 {
                images_of(runtime, &paths.images(), &engine.socket, &mut outcome, tell).await;
            }
        }
        if outcome.removed == before {
            break;
        }
        let still = survey(&paths, engines, &options.nodes).await;
        let stays = |item: &&Item| {
            let kept = options.keep_data && item.kind == ItemKind::Volume;
            item.kind <= ItemKind::Image && !kept
        };
        if still.items.iter().filter(stays).count() == 0 {
            break;
        }
    }
    // After the last container: as long as one runs, the owner's network is closed to it.
    for engine in engines {
        for item in tables(&*engine.firewall, &nodes).await {
            let name = item.name.split_whitespace().last().unwrap_or_default();
            let result = engine.firewall.remove(name).await.map_err(io::Error::other);
            let by_hand =
                format!("nft delete {}, as root, in the network namespace of the engine", item.name);
            note(&mut outcome, tell, item, result, by_hand);
        }
        for item in bridges(engine, &nodes).await {
            let result = engine.firewall.remove_interface(&item.name).await.map_err(io::Error::other);
            let by_hand =
                format!("ip link delete {}, as root, in the network namespace of the engine", item.name);
            note(&mut outcome, tell, item, result, by_hand);
        }
    }
    for outside in outside::all() {
        for item in outside.found(&nodes).unwrap_or_default() {
            let (by_hand, result) = (outside.by_hand(&item), outside.remove(&item));
            note(&mut outcome, tell, item, result, by_hand);
        }
    }
    for log in logs(&paths) {
        let item = Item::new(ItemKind::Log, log.display());
        let by_hand = format!("rm {}", log.display());
        note(&mut outcome, tell, item, gone_is_fine(fs::remove_file(&log)), by_hand);
    }
    // Looked at anew: what was removed may have come back, and what nobody could look at counts too.
    let last = survey(&paths, engines, &options.nodes).await;
    for item in &last.items {
        let name = format!("{} {}", item.kind, item.name);
        if item.kind == ItemKind::Volume && options.keep_data {
            outcome.kept.push(item.name.clone());
        } else if item.kind != ItemKind::Folder && outcome.left.iter().all(|left| left.item != name) {
            let by_hand = "`lattice-agent reset --yes` again".to_owned();
            outcome.left.push(Left { item: name, why: "it is still there".to_owned(), by_hand });
        }
    }
    let gone = |what: &str| options.without_engine && what.starts_with("the container engine");
    for problem in last.problems.into_iter().filter(|problem| !gone(&problem.what)) {
        outcome.left.push(Left {
            item: "what is unknown".to_owned(),
            why: problem.what,
            by_hand: problem.by_hand,
        });
    }
    if outcome.left.is_empty() {
        let item = Item::new(ItemKind::Folder, paths.dir().display());
        let by_hand = format!("rm -r {}", paths.dir().display());
        let made = traces::made(&paths);
        note(&mut outcome, tell, item, hold.erase(made.as_deref()), by_hand);
    } else {
        hold.strip();
    }
    Ok(outcome)
}

fn note(outcome: &mut Outcome, tell: Tell<'_>, item: Item, result: io::Result<()>, by_hand: String) {
    match result {
        Ok(()) => gone(outcome, tell, &item),
        Err(error) => stays(outcome, &item, error.to_string(), by_hand),
    }
}

fn gone(outcome: &mut Outcome, tell: Tell<'_>, item: &Item) {
    outcome.removed += 1;
    tell(item);
}

fn stays(outcome: &mut Outcome, item: &Item, why: String, by_hand: String) {
    let item = format!("{} {}", item.kind, item.name);
    outcome.left.push(Left { item, why, by_hand });
}

/// Containers, then networks, then volumes of a node. What cannot be listed, the last look says.
async fn node_in_engine(
    runtime: &dyn Runtime,
    socket: &str,
    node: NodeId,
    keep_data: bool,
    outcome: &mut Outcome,
    tell: Tell<'_>,
) {
    let hand = |verb: &str, name: &str| format!("docker -H unix://{socket} {verb} {name}");
    let containers = runtime.list(node).await.unwrap_or_default();
    let ends = containers.into_iter().map(|container| async move {
        let ended = runtime.stop(&container.id, GRACE).await;
        // One that does not end is killed by its removal.
        let removed = runtime.remove(&container.id, true).await;
        (container.name, removed.map_err(|error| chain(&ended.err().unwrap_or(error))))
    });
    let mut ends = stream::iter(ends).buffer_unordered(AT_ONCE);
    while let Some((name, result)) = ends.next().await {
        let by_hand = hand("rm -fv", &name);
        note(outcome, tell, Item::new(ItemKind::Container, name), result.map_err(io::Error::other), by_hand);
    }
    let BuildLeft { containers, images } = runtime.builds_left(node).await.unwrap_or_default();
    let cleared = runtime.clear_builds(node).await;
    for (kind, verb, name) in containers
        .into_iter()
        .map(|container| (ItemKind::Container, "rm -fv", container.0))
        .chain(images.into_iter().map(|(image, _)| (ItemKind::Image, "rmi", image)))
    {
        let by_hand = hand(verb, &name);
        note(outcome, tell, Item::new(kind, name), said(cleared.clone()), by_hand);
    }
    for network in runtime.list_networks(node).await.unwrap_or_default() {
        let result = runtime.remove_network(node, &network.name).await;
        let by_hand = format!(
            "{}, after what else is in it was taken out (docker network disconnect)",
            hand("network rm", &network.name)
        );
        note(outcome, tell, Item::new(ItemKind::Network, network.name), said(result), by_hand);
    }
    if keep_data {
        return;
    }
    for volume in runtime.list_volumes(node).await.unwrap_or_default() {
        let result = runtime.remove_volume(node, &volume.name).await;
        let by_hand = format!("{}, after whatever else mounts it is gone", hand("volume rm", &volume.name));
        note(outcome, tell, Item::new(ItemKind::Volume, volume.name), said(result), by_hand);
    }
}

/// What was brought, and nobody else uses.
async fn images_of(
    runtime: &dyn Runtime,
    folder: &Path,
    socket: &str,
    outcome: &mut Outcome,
    tell: Tell<'_>,
) {
    crate::gpu::remove_image(runtime).await;
    for image in images::brought(folder) {
        let item = Item::new(ItemKind::Image, &image.name);
        let by_hand = format!("docker -H unix://{socket} rmi {}", image.name);
        match runtime.image(&image.name).await {
            // It was removed by somebody else, or has never come.
            Ok(None) => drop(images::strike(folder, &image.name)),
            Ok(Some(_)) => match images::remove(runtime, &image.name).await {
                Ok(true) => {
                    drop(images::strike(folder, &image.name));
                    gone(outcome, tell, &item);
                }
                Ok(false) => {
                    let why = "a container that is not Lattice's uses it".to_owned();
                    let by_hand = format!("leave it if you use it, else {by_hand}");
                    stays(outcome, &item, why, by_hand);
                }
                Err(error) => stays(outcome, &item, chain(&error), by_hand),
            },
            // The last look says so.
            Err(_) => return,
        }
    }
}

fn said(result: Result<(), RuntimeError>) -> io::Result<()> {
    result.map_err(|error| io::Error::other(chain(&error)))
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
