//! Backups of the control plane: what the server makes by itself, and a dump of it.

use lattice_model::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for a dump of the whole control plane. It holds the master key, so it is encrypted to these
/// recipients and never sent without.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupDump {
    /// X25519 recipients as age writes them (`age1…`); at least one.
    #[serde(default)]
    pub recipients: Vec<String>,
}

/// How the backups are doing that the server makes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupStatus {
    /// Where they go; `None`: the configuration has no `[backup]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// How often, in milliseconds.
    #[serde(default)]
    pub every_ms: u64,
    /// How many are kept.
    #[serde(default)]
    pub keep: u32,
    /// Whether one is being made.
    #[serde(default)]
    pub running: bool,
    /// The last one that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<BackupMade>,
    /// When the last attempt ended, since the server started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempted_at: Option<Timestamp>,
    /// Why the last attempt failed; `None`: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When the next one is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// Whether the last one is more than twice as old as it should be.
    #[serde(default)]
    pub overdue: bool,
}

/// A backup that the server made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupMade {
    /// Its name in its place.
    pub name: String,
    /// When.
    pub at: Timestamp,
    /// The store's revision that it is of.
    pub revision: u64,
    /// How many rows it has.
    pub rows: u64,
    /// Its size, encrypted.
    pub bytes: u64,
}
