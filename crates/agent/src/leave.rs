//! Taking Lattice off a machine again: what is there that carries this node's label, and its
//! removal. What lacks the label is not even listed.

use crate::{
    error::Result,
    home::Home,
    lan::{Firewall, remove_lan_table},
    secrets::SecretsDir,
};
use lattice_model::{Duration, NodeId, container::ContainerState};
use lattice_runtime::Runtime;
use serde::{Deserialize, Serialize};
use tracing::warn;

/// What this node has in the engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Belongings {
    /// Containers by name, with whether they run.
    pub containers: Vec<(String, bool)>,
    /// Networks by name.
    pub networks: Vec<String>,
    /// Volumes by name. Their data goes with them.
    pub volumes: Vec<String>,
}

impl Belongings {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty() && self.volumes.is_empty()
    }
}

/// Lists what carries this node's label.
///
/// # Errors
/// What the engine says.
pub async fn belongings(runtime: &dyn Runtime, node: NodeId) -> Result<Belongings> {
    let containers = runtime.list(node).await?;
    let runs = |state| matches!(state, ContainerState::Running | ContainerState::Paused);
    Ok(Belongings {
        containers: containers.into_iter().map(|c| (c.name, runs(c.state))).collect(),
        networks: runtime.list_networks(node).await?.into_iter().map(|n| n.name).collect(),
        volumes: runtime.list_volumes(node).await?.into_iter().map(|v| v.name).collect(),
    })
}

/// Removes this node's containers and networks, images that it brought and nothing uses, and its volumes where `data` says so. Containers
/// get ten seconds to end. Holding the home means that no agent puts them back.
///
/// # Errors
/// What the engine says; what was removed before stays removed.
pub async fn remove_belongings(
    home: &Home,
    runtime: &dyn Runtime,
    firewall: &dyn Firewall,
    node: NodeId,
    data: bool,
) -> Result<()> {
    let containers = runtime.list(node).await?;
    futures::future::try_join_all(containers.iter().map(|container| async move {
        runtime.stop(&container.id, Duration::from_secs(10)).await?;
        runtime.remove(&container.id, true).await
    }))
    .await?;
    runtime.clear_builds(node).await?;
    for network in runtime.list_networks(node).await? {
        runtime.remove_network(node, &network.name).await?;
    }
    // After the last container: as long as one runs, the owner's network is closed to it.
    if let Err(why) = remove_lan_table(firewall, node).await {
        warn!(why, table = crate::lan::table_name(node), "a table of the firewall may be left");
    }
    crate::gpu::remove_leftovers(runtime, node).await;
    crate::images::remove_brought(&home.paths().images(), runtime).await?;
    if data {
        for volume in runtime.list_volumes(node).await? {
            runtime.remove_volume(node, &volume.name).await?;
        }
    }
    if let Ok(secrets) = SecretsDir::find(node) {
        secrets.erase();
    }
    Ok(())
}
