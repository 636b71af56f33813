//! Nodes: computers, from the request to join to their removal.

use lattice_model::{
    NodeId, NodeName, OwnerName, PoolName, Timestamp, TokenId,
    resource::{Approval, Capacity, Eligibility, Node, NodeFacts, Presence},
    unit::{Bytes, Cpu},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A computer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its id; never changes.
    pub id: NodeId,
    /// What people call it; unique.
    pub name: NodeName,
    /// Who lends it.
    pub owner: OwnerName,
    /// The pool that it works in, or asks to.
    pub pool: PoolName,
    /// Whether it belongs to the cluster.
    pub approval: Approval,
    /// Whether it takes new work.
    pub eligibility: Eligibility,
    /// Whether the link is up, and since when.
    pub presence: Presence,
    /// What the owner lends.
    pub capacity: Capacity,
    /// What is set aside there for allocations.
    pub reserved: Reserved,
    /// What the machine uses, by its last heartbeat; absent while the link is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<NodeLoad>,
    /// How many allocations are placed there.
    pub allocations: u32,
    /// What the machine says about itself.
    pub facts: NodeFacts,
    /// Labels by operator and owner.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What a decision about it can rest on.
    pub evidence: Evidence,
    /// When it asked to join.
    pub joined_at: Timestamp,
    /// When its certificate ends; absent before approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires_at: Option<Timestamp>,
    /// Why it was rejected, revoked or set apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Two machines seem to use its key: what was seen, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone_warning: Option<String>,
}

/// What a decision about a node can rest on. Only the fingerprint is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// SHA-256 of the key that the node holds, in lower-case hexadecimal digits.
    pub key_fingerprint: String,
    /// The address that it asked from.
    pub address: String,
    /// The join token that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenId>,
}

/// What is set aside on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reserved {
    /// Processors, in thousandths of a core.
    pub cpu: Cpu,
    /// Memory in bytes.
    pub memory: Bytes,
}

/// What a machine uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeLoad {
    /// When it was measured, by the server's clock.
    pub at: Timestamp,
    /// Processors in use by everything on the machine, in thousandths of a core.
    pub cpu: Cpu,
    /// Memory in use by everything on the machine.
    pub memory: Bytes,
    /// Disk space that is free where the engine keeps its data.
    pub disk_free: Bytes,
    /// Running containers of Lattice's.
    pub containers: u32,
}

/// What only the present and identity know about a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeLive {
    /// The presence to show, where memory knows better than the row.
    pub presence: Option<Presence>,
    /// Sum of what its allocations reserve.
    pub reserved: Reserved,
    /// Of the last heartbeat.
    pub load: Option<NodeLoad>,
    /// Placed there.
    pub allocations: u32,
    /// From its enrolment.
    pub evidence: Evidence,
    /// Of the certificate signed last.
    pub certificate_expires_at: Option<Timestamp>,
    /// Why it was rejected, revoked or set apart.
    pub reason: Option<String>,
    /// What was seen of a clone.
    pub clone_warning: Option<String>,
}

impl NodeView {
    /// The view of a row.
    pub fn of(node: &Node, live: NodeLive) -> Self {
        let Node {
            id,
            name,
            owner,
            pool,
            approval,
            eligibility,
            capacity,
            facts,
            labels,
            presence,
            joined_at,
        } = node.clone();
        let NodeLive {
            presence: known,
            reserved,
            load,
            allocations,
            evidence,
            certificate_expires_at,
            reason,
            clone_warning,
        } = live;
        Self {
            id,
            name,
            owner,
            pool,
            approval,
            eligibility,
            presence: known.unwrap_or(presence),
            capacity,
            reserved,
            load,
            allocations,
            facts,
            labels,
            evidence,
            joined_at,
            certificate_expires_at,
            reason,
            clone_warning,
        }
    }
}

/// Takes a node into the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveNode {
    /// Another name than the one that it proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    /// Another pool than the one that its token proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// The key's fingerprint as the owner reads it out; refused where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// Why a node is rejected or revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeReason {
    /// For the owner, and for the audit entry; may be empty.
    #[serde(default)]
    pub reason: String,
}
