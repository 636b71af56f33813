//! Looks over the whole engine, for who takes Lattice off a machine: which nodes have something here,
//! and how large volumes are.

use super::{
    client::{Docker, QUICK},
    wire::query_value,
};
use crate::error::{Result, RuntimeError};
use http::Method;
use lattice_model::{Bytes, Duration, NodeId, container::LABEL_NODE};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The engine walks through every file of every volume; who only wants to see does not wait for that long.
const WALK: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Labelled {
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

/// Every node that has something here.
pub(super) async fn nodes(engine: &Docker) -> Result<BTreeSet<NodeId>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Volumes {
        #[serde(default)]
        volumes: Option<Vec<Labelled>>,
    }
    let filters = query_value(&json!({ "label": [LABEL_NODE] }).to_string());
    let list = |path: String| async move {
        let call = engine.wire().call::<Vec<Labelled>, ()>(Method::GET, &path, None);
        engine.within(QUICK, || "list of what nodes have".to_owned(), call).await
    };
    let mut found = list(format!("/containers/json?all=1&filters={filters}")).await?;
    found.extend(list(format!("/networks?filters={filters}")).await?);
    let path = format!("/volumes?filters={filters}");
    let call = engine.wire().call::<Volumes, ()>(Method::GET, &path, None);
    let volumes = engine.within(QUICK, || "list of volumes".to_owned(), call).await?;
    found.extend(volumes.volumes.unwrap_or_default());
    let node = |labelled: &Labelled| labelled.labels.as_ref()?.get(LABEL_NODE)?.parse().ok();
    Ok(found.iter().filter_map(node).collect())
}

/// A volume, as the engine counts it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Counted {
    pub(super) name: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    usage_data: Option<Size>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    size: i64,
}

impl Counted {
    /// Its bytes; nothing where the engine did not count them, which it says as -1.
    pub(super) fn bytes(&self) -> Option<u64> {
        u64::try_from(self.usage_data.as_ref()?.size).ok()
    }
}

/// Every volume of the engine with its size; engines before API 1.42 count everything else, too.
pub(super) async fn counted(engine: &Docker, patience: Duration) -> Result<Vec<Counted>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Usage {
        #[serde(default)]
        volumes: Option<Vec<Counted>>,
    }
    let call = engine.wire().call::<Usage, ()>(Method::GET, "/system/df?type=volume", None);
    let usage = engine.within(patience, || "the sizes of volumes".to_owned(), call).await?;
    Ok(usage.volumes.unwrap_or_default())
}

/// The sizes of a node's volumes; none where the engine does not say them soon.
pub(super) async fn volume_sizes(engine: &Docker, node: NodeId) -> Result<BTreeMap<String, Bytes>> {
    let volumes = match counted(engine, WALK).await {
        Ok(volumes) => volumes,
        // It does not know the question, or has too much to count.
        Err(RuntimeError::Timeout { .. } | RuntimeError::NotFound { .. } | RuntimeError::Refused { .. }) => {
            return Ok(BTreeMap::new());
        }
        Err(error) => return Err(error),
    };
    let node = node.to_string();
    let ours = |volume: &Counted| {
        volume.labels.as_ref().and_then(|labels| labels.get(LABEL_NODE)).is_some_and(|label| *label == node)
    };
    let sized = |volume: Counted| Some((volume.name.clone(), Bytes(volume.bytes()?)));
    Ok(volumes.into_iter().filter(ours).filter_map(sized).collect())
}
