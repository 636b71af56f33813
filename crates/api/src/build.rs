//! Images that are built on a node.

use crate::{ErrorBody, ImageView};
use lattice_model::{
    NodeName,
    spec::{Pools, TreeDigest},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use utoipa::ToSchema;

/// Asks for an image to be built on a node. The context is uploaded before, as a tree of the project.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildStart {
    /// The tree that it is built from.
    pub context: TreeDigest,
    /// The Dockerfile's name in it.
    pub dockerfile: String,
    /// The stage that is wanted; the last one unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Variables of the build.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Labels of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it is made for, as `os/arch`; the node's own unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Whether its steps have no network.
    #[serde(default)]
    pub no_network: bool,
    /// Further names for its steps, as `name:address`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    /// The size of `/dev/shm`, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
    /// Whether what it begins from is fetched anew where a registry has it. Then it is built in any case.
    #[serde(default)]
    pub pull: bool,
    /// Whether it is built also where the same was built before.
    #[serde(default)]
    pub no_cache: bool,
    /// The images that it begins from: for these registries the node gets the project's logins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<String>,
    /// The pools whose nodes may build it, the best first; `default` unless said.
    #[serde(default, skip_serializing_if = "Pools::is_unsaid")]
    pub pool: Pools,
    /// The one node that may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

impl fmt::Debug for BuildStart {
    /// Shows the names of the arguments alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildStart")
            .field("context", &self.context)
            .field("dockerfile", &self.dockerfile)
            .field("target", &self.target)
            .field("args", &self.args.keys().collect::<Vec<_>>())
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// One line of the answer of [`paths::BUILDS`](crate::paths::BUILDS). The last one is `done` or `failed`; closing the
/// connection before ends the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildRecord {
    /// A node was chosen.
    Placed {
        /// Which.
        node: NodeName,
        /// Why that one.
        why: String,
    },
    /// Some output of the builder or of a step; what is not UTF-8 is replaced.
    Output {
        /// The text, line ends included.
        text: String,
    },
    /// A layer of the image goes to the server.
    Uploading {
        /// Which, from 1 on.
        layer: u32,
        /// Of how many that the project lacks.
        of: u32,
    },
    /// The project has the image.
    Done {
        /// It.
        image: ImageView,
        /// Whether it was built of the same before, and nothing was done.
        reused: bool,
    },
    /// There is none.
    Failed {
        /// Why.
        error: ErrorBody,
    },
}
