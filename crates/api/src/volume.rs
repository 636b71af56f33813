//! Volumes, and files that travelled with a deployment.

use lattice_model::{
    NodeName, ProjectName, StackName, Timestamp, VolumeId, VolumeName, WorkloadName, resource::Volume,
    spec::TreeDigest,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A named volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    /// Its id.
    pub id: VolumeId,
    /// The project.
    pub project: ProjectName,
    /// The stack.
    pub stack: StackName,
    /// Its name within the stack.
    pub name: VolumeName,
    /// The node that has the data; absent before the first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Where it stands.
    pub state: VolumeState,
    /// The services that mount it.
    #[serde(default)]
    pub used_by: Vec<WorkloadName>,
    /// The number of the present writer's right.
    pub epoch: u64,
    /// When it was first asked for.
    pub created_at: Timestamp,
}

/// Where a volume stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// It has never been used.
    New,
    /// A node has the data.
    Available,
    /// Its node says that the data is not there. An empty one is never put in its place.
    Missing,
    /// Somebody asked for its deletion.
    Deleting,
}

impl VolumeState {
    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Available => "available",
            Self::Missing => "missing",
            Self::Deleting => "deleting",
        }
    }
}

impl VolumeView {
    /// The view of a row, with its node's name and its users.
    pub fn of(volume: &Volume, node: Option<NodeName>, used_by: Vec<WorkloadName>) -> Self {
        let Volume { id, key, node: _, exists, epoch, missing, deleting, created_at } = volume.clone();
        let state = match (deleting, missing, exists) {
            (true, _, _) => VolumeState::Deleting,
            (_, true, _) => VolumeState::Missing,
            (_, _, true) => VolumeState::Available,
            _ => VolumeState::New,
        };
        Self {
            id,
            project: key.project,
            stack: key.stack,
            name: key.volume,
            node,
            state,
            used_by,
            epoch,
            created_at,
        }
    }
}

/// Query of [`paths::VOLUMES`](crate::paths::VOLUMES).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct VolumeQuery {
    /// Only those of a project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those of stacks with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// Files that travelled with a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeView {
    /// The project.
    pub project: ProjectName,
    /// The SHA-256 of the archive.
    pub digest: TreeDigest,
    /// Bytes of the archive.
    pub bytes: u64,
    /// When it was uploaded last.
    pub uploaded_at: Timestamp,
}
