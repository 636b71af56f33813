//! What whoever asks may do, as permissions by their names.
//!
//! A client asks by it what to offer and what to show as not allowed; each request is judged by the server anew.

use lattice_model::{PoolName, ProjectName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Permissions by their names, such as `stack.change`, and where they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rights {
    /// What they may do to everything in the cluster.
    #[serde(default)]
    pub cluster: Vec<String>,
    /// What they may do in a project: all of it, also what they may everywhere. A project that is not named here is
    /// as the cluster.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub projects: BTreeMap<ProjectName, Vec<String>>,
    /// The same for pools and their nodes.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub pools: BTreeMap<PoolName, Vec<String>>,
    /// What they may do to nodes that they lend, wherever those are.
    #[serde(default)]
    pub own_nodes: Vec<String>,
    /// The same in a pool, where it is more.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub own_nodes_in: BTreeMap<PoolName, Vec<String>>,
}
