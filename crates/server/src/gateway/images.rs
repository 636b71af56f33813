//! Parts of uploaded images: given to nodes whose goal names the image, and to no others, whoever
//! knows the digest; a layer only as part of such an image.

use crate::{
    api::images::{blob, has_layer},
    rows::image_id,
    state::{Core, Snapshot},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_link::{Refusal, code::IMAGE_UNKNOWN, message::ImagePartRequest, server::TreeBytes};
use lattice_model::{Duration, NodeId, resource::Intent, spec::ImageDigest};
use lattice_planner::Row;

/// When an agent should ask again for what this server lacks.
const LATER: Duration = Duration::from_secs(10);

/// The part from the offset on.
pub(super) async fn give(core: &Core, node: NodeId, request: ImagePartRequest) -> Result<TreeBytes, Refusal> {
    let ImagePartRequest { image, layer, offset } = request;
    let snapshot = core.snapshot();
    let refused = |text: &str| Refusal::new(IMAGE_UNKNOWN, text, "nothing is to be done; the next goal may");
    let Some(row) = named(&snapshot, node, image) else {
        tracing::warn!(%node, %image, "a node asked for an image that its goal does not name");
        return Err(refused("the goal of this node names no such image"));
    };
    let Some(layer) = layer else {
        let json = Bytes::copy_from_slice(row.config.as_bytes());
        let size = json.len() as u64;
        let rest = json.slice(usize::try_from(offset.min(size)).unwrap_or(json.len())..);
        return Ok(TreeBytes { size, bytes: futures::stream::iter([Ok(rest)]).boxed() });
    };
    if !has_layer(row, layer) {
        tracing::warn!(%node, %image, %layer, "a node asked for a layer that its image does not have");
        return Err(refused("the image has no such layer"));
    }
    let lacking = |text: &str| {
        let hint = "deploy the stack again; where several servers share a store, they must share the folder in blobs.path";
        Err(Refusal::new(IMAGE_UNKNOWN, text, hint).after(LATER))
    };
    match core.layers.read(blob(layer), offset).await {
        Ok(Some((size, body))) => {
            tracing::debug!(%node, %layer, offset, size, "a layer is given to a node");
            let bytes = body.map_err(move |error| {
                tracing::error!(%layer, %error, "a layer cannot be read");
                let hint = "the agent tries again by itself";
                Refusal::new(super::code::UNAVAILABLE, "the server cannot read the layer", hint)
            });
            Ok(TreeBytes { size, bytes: bytes.boxed() })
        }
        Ok(None) => {
            tracing::error!(%layer, "a layer is not where this server keeps them");
            lacking("this server does not have a layer of the image that the goal names")
        }
        Err(error) => {
            tracing::error!(%layer, %error, "a layer cannot be read");
            lacking("this server cannot read a layer of the image that the goal names")
        }
    }
}

/// The image, where the node's goal names it: as that of the project whose work is there.
fn named(snapshot: &Snapshot, node: NodeId, image: ImageDigest) -> Option<&Row<crate::rows::ImageRow>> {
    let mut rows = snapshot.cluster.allocations_on(node);
    let row = rows.find(|row| row.intent != Intent::Remove && row.spec.uploaded_image() == Some(image))?;
    snapshot.images.get(&image_id(&row.workload.project, image))
}
