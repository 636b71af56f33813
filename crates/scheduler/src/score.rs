//! Soft score: the derived order of [`Score`] is the policy, greater is better.
//!
//! First the taints for which a node is avoided: it is for what has no other place. Then spread: a node that vanishes
//! takes few replicas of a service with it. Then how full a node is, by the [`Strategy`] that the operator chose.

use crate::pick::{Ask, Candidate};
use lattice_model::{
    NodeId,
    taint::{Taint, TaintEffect},
};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Which of two nodes is better when replicas are spread equally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one that has more left: other people's laptops stay quiet, and a loss is small.
    #[default]
    Spread,
    /// The one that has less left: large nodes stay free for what is large.
    Pack,
}

/// How well a node suits an ask. Members are compared from first to last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// Taints for which it is avoided and that the ask does not bear.
    pub avoided: Reverse<u32>,
    /// Replicas of it on all nodes that share the value of an attribute to spread over, one count for each such
    /// attribute.
    pub among: Vec<Reverse<u32>>,
    /// Replicas of it on the node.
    pub siblings: Reverse<u32>,
    /// By the strategy: what is left, or how little.
    pub room: i64,
    /// Ties are stable: the smallest id wins.
    pub id: Reverse<NodeId>,
}

/// What is left in the scarcer of processor and memory after placement, in thousandths of the node.
pub(crate) fn headroom(ask: &Ask, node: &Candidate<'_>) -> u32 {
    let share = |free: u64, ask: u64, total: u64| {
        let left = free.saturating_sub(ask).saturating_mul(1000);
        left.checked_div(total).map_or(0, |share| u32::try_from(share.min(1000)).unwrap_or(1000))
    };
    let capacity = &node.node.capacity;
    let cpu = share(node.free_cpu.0.into(), ask.cpu.0.into(), capacity.cpu.0.into());
    let memory = share(node.free_memory.0, ask.memory.0, capacity.memory.0);
    cpu.min(memory)
}

pub(crate) fn score(ask: &Ask, node: &Candidate<'_>, among: Vec<u32>) -> Score {
    let left = i64::from(headroom(ask, node));
    let room = match ask.strategy {
        Strategy::Spread => left,
        Strategy::Pack => -left,
    };
    let borne = |taint: &Taint| ask.tolerates.iter().any(|one| one.bears(taint));
    let avoided = node.taints.iter().filter(|taint| taint.effect == TaintEffect::Avoid && !borne(taint));
    Score {
        avoided: Reverse(u32::try_from(avoided.count()).unwrap_or(u32::MAX)),
        among: among.into_iter().map(Reverse).collect(),
        siblings: Reverse(node.siblings),
        room,
        id: Reverse(node.node.id),
    }
}
