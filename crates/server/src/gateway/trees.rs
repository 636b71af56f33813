//! Trees of files: given to nodes whose goal names them, and to no others, whoever knows the digest.

use crate::state::{Core, Snapshot};
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_link::{Refusal, message::TreeRequest, server::TreeBytes};
use lattice_model::{Duration, NodeId, resource::Intent, spec::TreeDigest};

/// When an agent should ask again for what this server lacks.
const LATER: Duration = Duration::from_secs(10);

/// The archive from the offset on.
pub(super) async fn give(core: &Core, node: NodeId, request: TreeRequest) -> Result<TreeBytes, Refusal> {
    let TreeRequest { digest, offset } = request;
    if !named(&core.snapshot(), node, digest) {
        tracing::warn!(%node, %digest, "a node asked for files that its goal does not name");
        let text = "the goal of this node names no such files";
        return Err(Refusal::new(
            lattice_link::code::TREE_UNKNOWN,
            text,
            "nothing is to be done; the next goal may",
        ));
    }
    let lacking = |text: &str| {
        let hint = "deploy the stack again; where several servers share a store, they must share the folder in blobs.path";
        Err(Refusal::new(lattice_link::code::TREE_UNKNOWN, text, hint).after(LATER))
    };
    match core.blobs.read(digest, offset).await {
        Ok(Some((size, body))) => {
            tracing::debug!(%node, %digest, offset, size, "files are given to a node");
            let bytes = body.map_err(move |error| {
                tracing::error!(%digest, %error, "an archive cannot be read");
                Refusal::new(
                    super::code::UNAVAILABLE,
                    "the server cannot read the files",
                    "the agent tries again by itself",
                )
            });
            Ok(TreeBytes { size, bytes: bytes.boxed() })
        }
        Ok(None) => {
            tracing::error!(%digest, "an archive is not where this server keeps them");
            lacking("this server does not have the files that the goal names")
        }
        Err(error) => {
            tracing::error!(%digest, %error, "an archive cannot be read");
            lacking("this server cannot read the files that the goal names")
        }
    }
}

/// Whether the node's goal names a tree.
fn named(snapshot: &Snapshot, node: NodeId, digest: TreeDigest) -> bool {
    snapshot
        .cluster
        .allocations_on(node)
        .any(|row| row.intent != Intent::Remove && row.spec.trees.iter().any(|mount| mount.tree == digest))
}
