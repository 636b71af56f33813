//! Projects: who works in them, and what they may use.

use lattice_model::{Binding, ProjectName, Quota, Timestamp, Usage, UserName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    /// Its name.
    pub name: ProjectName,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it may use at the most.
    pub quota: Quota,
    /// What it uses.
    pub used: Usage,
    /// Who has a role in this project alone; roles in the whole cluster count here too and are not listed.
    pub members: Vec<Member>,
    /// Somebody asked for its removal: nothing new comes into it.
    #[serde(default)]
    pub deleting: bool,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// Somebody with roles in a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Who.
    pub user: UserName,
    /// As what.
    pub roles: Vec<Binding>,
}

/// Makes a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectCreate {
    /// Its name.
    pub name: ProjectName,
    /// For people, at most 200 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it may use at the most; no bounds where absent.
    #[serde(default)]
    pub quota: Quota,
}

/// Sets what a project may use at the most: the whole quota anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// The quota; what is absent in it is without bound.
    pub quota: Quota,
}
