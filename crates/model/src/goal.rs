//! What a node is told to run: the whole desired state, never a difference.
//!
//! A goal travels, is stored and is verified as the exact bytes that the server wrote
//! ([`SealedGoal`]); its SHA-256 names it. Losing a goal is harmless, since the next one says
//! everything again; an older one is refused ([`GoalId`] is ordered).

use crate::{
    id::{AllocationId, NetworkId, VolumeId},
    name::{NetworkName, SecretName, VolumeKey, VolumeName, WorkloadKey},
    spec::{NetworkSpec, WorkloadSpec},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// Orders goals: a restored store raises the incarnation, every change of a goal the revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GoalId {
    /// Of the store; compared first.
    pub incarnation: u64,
    /// Of the store when the goal was made.
    pub revision: u64,
}

impl fmt::Display for GoalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.revision)
    }
}

/// The desired state of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// What should be there. What carries this node's label and is not here is removed.
    pub allocations: BTreeMap<AllocationId, GoalAllocation>,
    /// What should go, until the node has said that it is gone. Naming them makes the answer
    /// certain also for those that the node never heard of.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub remove: BTreeSet<AllocationId>,
    /// The volumes that the allocations use, those to delete, and those that were told to be
    /// missing, so that their return is told too. One that is not here is left alone, always.
    pub volumes: BTreeMap<VolumeId, GoalVolume>,
    /// The networks that the allocations use. One that is not here and not in use is removed.
    pub networks: BTreeMap<NetworkId, GoalNetwork>,
}

/// One allocation of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoalAllocation {
    /// The workload that it is an instance of.
    pub workload: WorkloadKey,
    /// Which of the replicas, from 1.
    pub slot: u32,
    /// Whether it should run or be stopped with its container kept.
    pub desired: DesiredState,
    /// Counts the restarts that people asked for.
    pub restart: u64,
    /// An allocation on this node that must be gone before this one is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<AllocationId>,
    /// What to run.
    pub spec: Arc<WorkloadSpec>,
    /// The volume behind each volume name of the spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<VolumeName, VolumeId>,
    /// The network behind each network name of the spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<NetworkName, NetworkId>,
    /// The values of the spec's secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, SecretValue>,
    /// Who fetches its image, where the registry wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryLogin>,
}

/// Whether an allocation should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// It runs.
    Run,
    /// It is stopped and its container kept.
    Stop,
    /// It has a node, and its volumes and networks are there; nothing of it was ever started. So
    /// data is brought into its volumes first. Goals say [`Stop`](Self::Stop) for it.
    Hold,
}

/// A volume of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoalVolume {
    /// What people call it.
    pub key: VolumeKey,
    /// Whether it has been created here before. Then its absence is the loss of data, and an
    /// empty one is never put in its place.
    pub exists: bool,
    /// The number of this node's right to write to it.
    pub epoch: u64,
    /// Whether somebody asked for its deletion. Nothing else deletes data.
    #[serde(default)]
    pub delete: bool,
    /// Whether the server takes it for missing: should it be here, that is to be said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
}

impl GoalVolume {
    /// What the container engine calls it: readable, and unique by the id.
    pub fn engine_name(&self, id: VolumeId) -> String {
        format!("lattice_{}_{}_{}", self.key.stack, self.key.volume, id.short())
    }
}

/// A network of a goal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoalNetwork {
    /// The stack that it belongs to, as `project/stack`.
    pub stack: crate::name::StackKey,
    /// Its name within the stack.
    pub name: NetworkName,
    /// How it is made.
    pub spec: NetworkSpec,
}

impl GoalNetwork {
    /// What the container engine calls it: readable, and unique by the id.
    pub fn engine_name(&self, id: NetworkId) -> String {
        format!("lattice_{}_{}_{}", self.stack.stack, self.name, id.short())
    }
}

/// The bytes of a secret; `Debug` hides them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// Wraps the bytes.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the one place that writes them into memory of the container.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({} bytes)", self.0.len())
    }
}

/// Who may fetch from a registry; `Debug` hides the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// The user, or what the registry wants in its place.
    pub username: String,
    /// The password or token.
    pub password: SecretValue,
}

/// A goal as it travels and is kept: id, hash and the exact bytes that the hash is of.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedGoal {
    id: GoalId,
    hash: [u8; 32],
    body: Arc<[u8]>,
}

/// Why bytes are not a goal.
#[derive(Debug, thiserror::Error)]
pub enum InvalidGoal {
    /// Damaged on the way or on disk.
    #[error(
        "the goal's bytes do not have the hash that names them; the server sends it again at the next contact"
    )]
    Damaged,
    /// Over [`SealedGoal::MAX_BYTES`].
    #[error("the goal has {0} bytes, more than the {max} that a node takes; put fewer workloads on it", max = SealedGoal::MAX_BYTES)]
    TooLarge(usize),
    /// Written by a newer server, or not a goal.
    #[error("the goal cannot be read by this version ({0}); update the agent")]
    Unreadable(#[source] serde_json::Error),
}

impl SealedGoal {
    /// The most bytes that a goal may have.
    pub const MAX_BYTES: usize = 16 << 20;

    /// Writes a goal down.
    ///
    /// # Panics
    /// Never: a goal's maps have keys that serialise as strings.
    #[allow(clippy::expect_used)]
    pub fn seal(id: GoalId, goal: &Goal) -> Self {
        let body = serde_json::to_vec(goal).expect("a goal serialises");
        Self { id, hash: Sha256::digest(&body).into(), body: body.into() }
    }

    /// Takes what came over the wire or from disk.
    ///
    /// # Errors
    /// [`InvalidGoal`] when the bytes do not have the hash, or are too many.
    pub fn from_parts(id: GoalId, hash: [u8; 32], body: Arc<[u8]>) -> Result<Self, InvalidGoal> {
        if body.len() > Self::MAX_BYTES {
            return Err(InvalidGoal::TooLarge(body.len()));
        }
        if <[u8; 32]>::from(Sha256::digest(&body)) != hash {
            return Err(InvalidGoal::Damaged);
        }
        Ok(Self { id, hash, body })
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`InvalidGoal::Unreadable`] when a newer server wrote something that this version does not know.
    pub fn open(&self) -> Result<Goal, InvalidGoal> {
        serde_json::from_slice(&self.body).map_err(InvalidGoal::Unreadable)
    }

    /// Which goal it is.
    pub const fn id(&self) -> GoalId {
        self.id
    }

    /// SHA-256 of the bytes.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The bytes.
    pub const fn body(&self) -> &Arc<[u8]> {
        &self.body
    }
}

impl fmt::Debug for SealedGoal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedGoal({}, {}, {} bytes)", self.id, hex::encode(&self.hash[..4]), self.body.len())
    }
}
