//! Why replicas are where they are, and where another one would go.

use crate::PendingSlot;
use lattice_model::{AllocationId, NodeName, ProjectName, StackName, Timestamp, WorkloadName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the planner knows about the places of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainView {
    /// Its project.
    pub project: ProjectName,
    /// Its stack.
    pub stack: StackName,
    /// Its name.
    pub workload: WorkloadName,
    /// How many replicas there should be.
    pub replicas: u32,
    /// Why all of it is bound to one node, or to none, where that is so.
    pub bound: Option<String>,
    /// Those that are there; at most 100.
    pub allocations: Vec<ExplainedAllocation>,
    /// Those that wait, and why.
    pub pending: Vec<PendingSlot>,
    /// Where one more would go, or why nowhere.
    pub another: AccountView,
}

/// Why a replica is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedAllocation {
    /// Which.
    pub id: AllocationId,
    /// Which of the replicas.
    pub slot: u32,
    /// Where it is.
    pub node: NodeName,
    /// When it was placed, by the server's clock.
    pub placed_at: Timestamp,
    /// Why there, as it was decided then.
    pub why: String,
    /// How the nodes are to it now, without itself.
    pub now: AccountView,
}

/// What was found out about the nodes for one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AccountView {
    /// All of it in a sentence.
    pub summary: String,
    /// How many nodes were looked at.
    pub considered: u32,
    /// How many were refused for each reason; the first reason against a node counts.
    pub refused: BTreeMap<String, u32>,
    /// The best three, best first.
    pub ranked: Vec<RankedView>,
    /// What alone would have to change for one more node to do, and how many would do then; where none does.
    pub would_do: BTreeMap<String, u32>,
}

/// A node that can hold it, with its score by parts. More is better; all parts but the last are summed and compared
/// first, the last decides between equals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RankedView {
    /// Which.
    pub node: NodeName,
    /// What is preferred of the node, less taints that only make worse.
    pub prefers: i64,
    /// Who is near.
    pub near: i64,
    /// How full its domains are already.
    pub spread: i64,
    /// How many of its like are there.
    pub crowd: i64,
    /// How likely the node stays long enough.
    pub stays: i64,
    /// The node's rank.
    pub rank: i64,
    /// How well what the node has left is used.
    pub room: i64,
}

impl RankedView {
    /// What is compared first.
    pub fn wish(&self) -> i64 {
        let Self { node: _, prefers, near, spread, crowd, stays, rank, room: _ } = self;
        prefers + near + spread + crowd + stays + rank
    }
}
