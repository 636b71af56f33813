//! Nodes: computers, from the request to join to their removal.

use crate::RankView;
use lattice_model::{
    NodeId, NodeName, OwnerName, PoolName, ProjectName, StackName, Standing, Timestamp, TokenId,
    WorkloadName,
    health::Condition,
    resource::{Approval, Capacity, Drain, Eligibility, Node, NodeFacts, Presence, Taint, TaintEffect},
    unit::{BitRate, Bytes, Cpu},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::{IntoParams, ToSchema};

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
    /// Whether somebody put it there, so that no rule of a pool moves it.
    pub pool_fixed: bool,
    /// Where it belongs while no rule takes it.
    pub home_pool: PoolName,
    /// Why it is in its pool, or belongs to another.
    #[serde(default)]
    pub pool_why: String,
    /// Why it is not yet in the pool to which it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_stays: Option<String>,
    /// Whether it belongs to the cluster.
    pub approval: Approval,
    /// Whether it takes new work.
    pub eligibility: Eligibility,
    /// Whether the link is up, and since when.
    pub presence: Presence,
    /// How the machine is, by its agent's last word; empty before the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// What its owner has it do, as it said last.
    #[serde(default)]
    pub standing: Standing,
    /// Whether it stays, by what was seen of it; absent before it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<OutlookView>,
    /// How good it is; absent before it belongs to the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<RankView>,
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
    /// What the operator has against work there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taints: BTreeSet<Taint>,
    /// How far emptying it has come, while somebody has asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainView>,
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

/// The chance that a node can work for all of the next while, in per cent, learned from when it came and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutlookView {
    /// Since when it can, without a break; absent while it cannot, and then the chances are 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// For the next hour.
    pub hour: u8,
    /// For the next eight hours.
    pub eight_hours: u8,
    /// For the next 24 hours.
    pub day: u8,
    /// For how many hours it was seen, of late. Who was hardly seen is judged by what others do.
    pub seen_hours: u32,
    /// How often it left, of late.
    pub departures: u32,
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

/// How far emptying a node has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainView {
    /// Since when.
    pub since: Timestamp,
    /// From then on nothing waits for its turn or its successor; absent is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Replicas that still have to move.
    pub moving: u32,
    /// Replicas that stay for good, or wait for room or for their turn.
    #[serde(default)]
    pub staying: Vec<StayView>,
}

impl DrainView {
    /// Whether all has moved that can.
    pub fn is_done(&self) -> bool {
        self.moving == 0
    }
}

/// A replica on a node that is emptied, which does not move or not yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StayView {
    /// The project.
    pub project: ProjectName,
    /// The stack.
    pub stack: StackName,
    /// The service.
    pub workload: WorkloadName,
    /// Which replica, from 1.
    pub slot: u32,
    /// Why.
    pub why: String,
    /// Whether nothing but a person, or its own end, changes that.
    pub for_good: bool,
}

/// Empties a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainNode {
    /// After so many milliseconds nothing waits for its turn or its successor; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Only say what would move, and where.
    #[serde(default)]
    pub dry_run: bool,
}

/// What emptying a node does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DrainResult {
    /// The node.
    pub node: NodeView,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// What becomes of each replica, as it looks now.
    pub moves: Vec<DrainMove>,
}

/// What becomes of a replica on a node that is emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainMove {
    /// The project.
    pub project: ProjectName,
    /// The stack.
    pub stack: StackName,
    /// The service.
    pub workload: WorkloadName,
    /// Which replica, from 1.
    pub slot: u32,
    /// What becomes of it.
    pub fate: DrainFate,
    /// Where it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeName>,
    /// Why there, or why not.
    pub why: String,
}

/// What becomes of a replica on a node that is emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainFate {
    /// It moves.
    Moves,
    /// It goes, and nothing takes its place: it runs once on each node.
    Goes,
    /// It stays for good: its data is here, or it is a job that is not started again.
    Stays,
    /// It stays until there is room.
    Waits,
}

/// Query of [`paths::NODE`](crate::paths::NODE) with `DELETE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeleteNodeQuery {
    /// The node's name, typed once more: give up the volumes whose data is only there, for ever. Services
    /// that use them begin with empty ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lose_volumes: Option<String>,
}

/// What is set aside on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reserved {
    /// Processors, in thousandths of a core.
    pub cpu: Cpu,
    /// Memory in bytes.
    pub memory: Bytes,
    /// Disk space in bytes, of those that ask for some.
    #[serde(default)]
    pub disk: Bytes,
    /// Network in bits a second each way, of those that ask for some.
    #[serde(default)]
    pub bandwidth: BitRate,
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
    /// Why it is in its pool, or belongs to another.
    pub pool_why: String,
    /// Why it is not yet there.
    pub pool_stays: Option<String>,
    /// Sum of what its allocations reserve.
    pub reserved: Reserved,
    /// Of the last heartbeat.
    pub load: Option<NodeLoad>,
    /// Whether it stays.
    pub outlook: Option<OutlookView>,
    /// How good it is.
    pub rank: Option<RankView>,
    /// Placed there.
    pub allocations: u32,
    /// Replicas that have to move while it is emptied.
    pub moving: u32,
    /// Replicas that do not, or not yet.
    pub staying: Vec<StayView>,
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
        let home_pool = node.home().clone();
        let Node {
            id,
            name,
            owner,
            pool,
            pool_fixed,
            home_pool: _,
            pool_since: _,
            approval,
            eligibility,
            capacity,
            facts,
            labels,
            taints,
            drain,
            presence,
            conditions,
            standing,
            joined_at,
        } = node.clone();
        let NodeLive {
            presence: known,
            pool_why,
            pool_stays,
            reserved,
            load,
            outlook,
            rank,
            allocations,
            moving,
            staying,
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
            pool_fixed,
            home_pool,
            pool_why,
            pool_stays,
            approval,
            eligibility,
            presence: known.unwrap_or(presence),
            conditions,
            standing,
            outlook,
            rank,
            capacity,
            reserved,
            load,
            allocations,
            facts,
            labels,
            taints,
            drain: drain.map(|Drain { since, deadline }| DrainView { since, deadline, moving, staying }),
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

/// Changes what an operator says of a node; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeChange {
    /// Another pool: what may not run there moves away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// Let the rules of pools say where it belongs; not together with `pool`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_pool: bool,
    /// Labels to set; one without a value goes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// Taints to set; another of the same key and effect goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taint: Vec<Taint>,
    /// Taints to take away, before those of `taint` are set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untaint: Vec<Untaint>,
}

/// What a change of a node would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePreview {
    /// The node.
    pub node: NodeName,
    /// The pool that it is in.
    pub from: PoolName,
    /// The pool in which it ends.
    pub to: PoolName,
    /// Why it stays although rules say that it belongs elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
    /// What becomes of the replicas there that do not simply stay.
    pub moves: Vec<DrainMove>,
}

/// Taints to take away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Untaint {
    /// What they are called.
    pub key: String,
    /// Those of this effect alone; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

impl Untaint {
    /// Whether it means a taint.
    pub fn means(&self, taint: &Taint) -> bool {
        self.key == taint.key && self.effect.is_none_or(|effect| effect == taint.effect)
    }
}

/// Why a node is rejected or revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeReason {
    /// For the owner, and for the audit entry; may be empty.
    #[serde(default)]
    pub reason: String,
}
