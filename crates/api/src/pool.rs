//! Pools: named groups of nodes, by hand or by rule.

use crate::{DrainMove, Untaint};
use lattice_model::{
    NodeName, PoolName, ProjectName, Timestamp,
    pool::{Oversubscription, PoolQuota, PoolQuotas, PoolRule, PoolUsage, Rule},
    resource::{Pool, Taint},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// For people.
    pub description: String,
    /// For people and programs.
    pub labels: BTreeMap<String, String>,
    /// Whether volumes and secrets may go to its nodes, whose owners can read them.
    pub trusted: bool,
    /// The projects that may use it; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<ProjectName>>,
    /// Taints that its nodes have besides their own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taints: BTreeSet<Taint>,
    /// Which nodes belong to it by themselves; absent is that people say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<PoolRule>,
    /// What a project may use there at the most.
    #[serde(default, skip_serializing_if = "PoolQuotas::is_empty")]
    pub quotas: PoolQuotas,
    /// How much of its nodes is promised.
    #[serde(default)]
    pub oversubscription: Oversubscription,
    /// How many nodes belong to it.
    pub nodes: u32,
    /// Its nodes, and those that belong to it and are not there yet; of one pool alone, not of a listing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<PoolMember>,
    /// What projects use there, as quotas count; of one pool alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<ProjectName, PoolUsage>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl PoolView {
    /// The view of a row.
    pub fn of(pool: &Pool, nodes: u32) -> Self {
        let Pool {
            name,
            description,
            labels,
            trusted,
            projects,
            taints,
            rule,
            quotas,
            oversubscription,
            created_at,
        } = pool.clone();
        Self {
            name,
            description,
            labels,
            trusted,
            projects,
            taints,
            rule,
            quotas,
            oversubscription,
            nodes,
            members: Vec::new(),
            used: BTreeMap::new(),
            created_at,
        }
    }
}

/// A node that is in a pool, or belongs there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolMember {
    /// What people call it.
    pub node: NodeName,
    /// The pool that it is in.
    pub pool: PoolName,
    /// The pool that it belongs to.
    pub belongs: PoolName,
    /// Why it belongs there.
    pub why: String,
    /// Why it is not there yet, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
}

/// What a change of a pool would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolPreview {
    /// The pool as it would be.
    pub pool: PoolView,
    /// The nodes that its rule holds of, that are in it, or that would leave it.
    pub nodes: Vec<PoolPreviewNode>,
    /// What of the replicas on nodes that change their pool would have to move.
    pub moves: Vec<PoolMove>,
}

/// What becomes of a node when a pool is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolPreviewNode {
    /// What people call it.
    pub node: NodeName,
    /// Whether the pool's rule holds of it.
    pub matches: bool,
    /// The pool that it is in.
    pub from: PoolName,
    /// The pool in which it ends.
    pub to: PoolName,
    /// Why it belongs where it belongs.
    pub why: String,
    /// Why it stays although it belongs elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
}

/// What becomes of a replica on a node that changes its pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolMove {
    /// The node.
    pub from: NodeName,
    /// The replica, and what becomes of it.
    pub replica: DrainMove,
}

/// Makes a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolCreate {
    /// Its name.
    pub name: PoolName,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For people and programs.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether volumes and secrets may go there; not unless this says so.
    #[serde(default)]
    pub trusted: bool,
    /// The projects that may use it; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<ProjectName>>,
    /// Taints that its nodes have besides their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taint: Vec<Taint>,
    /// Which nodes belong to it by themselves. Takes the right to change pools in the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<PoolRule>,
    /// What a project may use there at the most.
    #[serde(default, skip_serializing_if = "PoolQuotas::is_empty")]
    pub quotas: PoolQuotas,
    /// How much of its nodes is promised.
    #[serde(default, skip_serializing_if = "Oversubscription::is_default")]
    pub oversubscription: Oversubscription,
}

/// Changes a pool; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolChange {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Labels to set; one without a value goes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// Whether volumes and secrets may go there. What is there stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<bool>,
    /// The projects that may use it from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<ProjectName>>,
    /// All projects may use it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_projects: bool,
    /// Taints to set; another of the same key and effect goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taint: Vec<Taint>,
    /// Taints to take away, before those of `taint` are set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untaint: Vec<Untaint>,
    /// Another rule. Takes, as the next three, the right to change pools in the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rule: Option<Rule>,
    /// No rule any more: its nodes go where they joined, unless somebody put them here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_rule: bool,
    /// Of several rules that hold of a node that of the highest priority counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// What nodes state themselves suffices although the pool is trusted. A trusted pool has a rule only with this, and
    /// it is said anew with each rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusts_claims: Option<bool>,
    /// Quotas to set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<PoolQuotaChange>,
    /// How much of its nodes is promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oversubscription: Option<Oversubscription>,
}

/// Sets a quota of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolQuotaChange {
    /// Of this project; of each that has none of its own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// What it may use; absent takes the project's own away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<PoolQuota>,
}
