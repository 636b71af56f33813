//! Secrets: never their values.

use lattice_model::{ProjectName, SecretName, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most bytes that a secret may have.
pub const MAX_SECRET_BYTES: usize = 500 << 10;

/// A secret, without its value: nothing gives that back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// The project.
    pub project: ProjectName,
    /// Its name within the project.
    pub name: SecretName,
    /// Rises with each new value.
    pub version: u64,
    /// When the value was set.
    pub updated_at: Timestamp,
    /// Who set it.
    pub updated_by: String,
    /// Whether the request that this answers made a new version; the value that is there already
    /// makes none. Absent in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
}

/// A value that a secret has or had, without the value itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretVersionView {
    /// Its number.
    pub version: u64,
    /// When it was set.
    pub set_at: Timestamp,
    /// Who set it.
    pub set_by: String,
    /// Whether it is the one that services get.
    pub current: bool,
}

/// Body of [`paths::SECRET_ROLLBACK`](crate::paths::SECRET_ROLLBACK).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRollback {
    /// Whose value becomes that of a new version.
    pub version: u64,
}

/// What became of a rotation of the server's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRotation {
    /// The id of the new key.
    pub key: String,
    /// The file on the server's machine that has it, and the older ones while they are needed.
    pub file: String,
    /// How many stored values are under it now.
    pub rewrapped: u64,
    /// How many are not yet, because others changed them meanwhile; the server goes on by itself.
    pub left: u64,
}
