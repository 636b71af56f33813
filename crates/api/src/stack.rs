//! Stacks, and what a deployment asks and answers.

use crate::{
    volume::VolumeView,
    workload::{WorkloadState, WorkloadView},
};
use lattice_model::{
    NetworkName, NodeName, OwnerName, ProjectName, StackId, StackName, Timestamp, WorkloadName,
    resource::Stack,
    spec::{NetworkSpec, StackSpec, WorkloadSpec},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// The most bytes that the body of a deployment may have.
pub const MAX_DEPLOY_BYTES: usize = 4 << 20;

/// The most bytes that the body of any other request may have.
pub const MAX_REQUEST_BYTES: usize = 256 << 10;

/// A stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StackView {
    /// A stack deleted and deployed again has another one.
    pub id: StackId,
    /// Who it belongs to.
    pub project: ProjectName,
    /// Its name within the project.
    pub name: StackName,
    /// Who deployed it last.
    pub owner: OwnerName,
    /// Rises with each deployment.
    pub version: u64,
    /// When it was deployed last.
    pub deployed_at: Timestamp,
    /// Being removed.
    pub deleting: bool,
    /// How many workloads it has.
    pub workloads: u32,
    /// How many of them are as they should be ([`WorkloadState::is_settled`]).
    pub settled: u32,
}

impl StackView {
    /// The view of a row, with the states of its workloads.
    pub fn of(stack: &Stack, workloads: impl IntoIterator<Item = WorkloadState>) -> Self {
        let Stack { id, key, owner, version, networks: _, deployed_at, deleting } = stack.clone();
        let (mut all, mut settled) = (0, 0);
        for state in workloads {
            all += 1;
            settled += u32::from(state.is_settled());
        }
        Self {
            id,
            project: key.project,
            name: key.stack,
            owner,
            version,
            deployed_at,
            deleting,
            workloads: all,
            settled,
        }
    }
}

/// A stack with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StackDetail {
    /// The stack.
    pub stack: StackView,
    /// Its services.
    pub workloads: Vec<WorkloadView>,
    /// Its volumes.
    pub volumes: Vec<VolumeView>,
    /// Its networks.
    #[schema(value_type = BTreeMap<String, NetworkSpec>)]
    pub networks: BTreeMap<NetworkName, NetworkSpec>,
    /// What was deployed, as [`DeployRequest::source`] said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Query of [`paths::STACKS`](crate::paths::STACKS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct StackQuery {
    /// Only those of a project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Query of [`paths::STACK`](crate::paths::STACK) with `PUT`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeployQuery {
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Give the services nodes, networks and volumes, and start none: data is brought into the
    /// volumes first, then each service is started. Refused where the stack or volumes of it exist.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hold: bool,
}

/// Query of [`paths::STACK`](crate::paths::STACK) with `DELETE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeleteStackQuery {
    /// Delete the data of its volumes, for ever. Without, volumes stay and a stack of the same
    /// name finds them again.
    #[serde(default)]
    pub volumes: bool,
}

/// Deploys a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The whole stack: what is not in it is removed, volumes excepted.
    pub spec: StackSpec,
    /// Where it comes from, for people: the text of the Compose file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Runs one image as a stack with one service of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The project; the default project where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// The stack's name, which must not exist yet. The client makes one up where nobody did.
    pub name: StackName,
    /// What to run.
    pub spec: WorkloadSpec,
}

impl RunRequest {
    /// The stack that it stands for: one service of the stack's name, and the networks it attaches to.
    pub fn stack_spec(&self) -> StackSpec {
        let networks = self.spec.networks.keys().map(|name| (name.clone(), NetworkSpec::default())).collect();
        // A stack's name is a service's name too: both have one grammar.
        let workloads = WorkloadName::new(self.name.as_str()).map(|name| (name, self.spec.clone()));
        StackSpec { workloads: workloads.into_iter().collect(), volumes: BTreeMap::new(), networks }
    }
}

/// What a deployment did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployResult {
    /// The project.
    pub project: ProjectName,
    /// The stack.
    pub stack: StackName,
    /// Of the stack from now on; with `dry_run`, what it would be.
    pub version: u64,
    /// The store's revision of the change: watch from here. With `dry_run`, the present one.
    pub revision: u64,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// What changed, unchanged things included.
    pub changes: Vec<Change>,
    /// Where replicas go, as far as it is known.
    #[serde(default)]
    pub placements: Vec<Placement>,
    /// Replicas that find no node now. They wait.
    #[serde(default)]
    pub pending: Vec<PendingSlot>,
    /// What a person should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One change of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// What happens to it.
    pub kind: ChangeKind,
    /// What it is.
    pub what: ChangedThing,
    /// Its name within the stack.
    pub name: String,
    /// What is different, one thing a line: `image: postgres:15 -> postgres:16`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What happens to a part of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Remove,
    /// It stays as it is.
    Unchanged,
}

/// A part of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangedThing {
    /// A service.
    Workload,
    /// A named volume.
    Volume,
    /// A network.
    Network,
}

/// Where a replica goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    /// The service.
    pub workload: WorkloadName,
    /// Which replica, from 1.
    pub slot: u32,
    /// The node.
    pub node: NodeName,
    /// Why there.
    pub why: String,
}

/// A replica that finds no node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingSlot {
    /// The service.
    pub workload: WorkloadName,
    /// Which replica, from 1.
    pub slot: u32,
    /// Why, counted by reason.
    pub why: String,
    /// What to do about it.
    pub hint: String,
    /// It is only not its turn yet: the replicas before it are replaced first.
    #[serde(default)]
    pub turn: bool,
}
