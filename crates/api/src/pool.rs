//! Pools: static groups of nodes.

use crate::Untaint;
use lattice_model::{
    PoolName, ProjectName, Timestamp,
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
    /// How many nodes belong to it.
    pub nodes: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

impl PoolView {
    /// The view of a row.
    pub fn of(pool: &Pool, nodes: u32) -> Self {
        let Pool { name, description, labels, trusted, projects, taints, created_at } = pool.clone();
        Self { name, description, labels, trusted, projects, taints, nodes, created_at }
    }
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
}
