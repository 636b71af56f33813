//! Soft score: the derived order of [`Score`] is the policy, greater is better.

use crate::pick::{Ask, Candidate};
use lattice_model::NodeId;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// How well a node suits an ask. Members are compared from first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score {
    /// What is left in the scarcer of processor and memory after placement, in thousandths of
    /// the node: the least loaded machine wins, which keeps other people's laptops quiet.
    pub headroom: u32,
    /// Ties are stable: the smallest id wins.
    pub id: Reverse<NodeId>,
}

pub(crate) fn score(ask: &Ask, node: &Candidate<'_>) -> Score {
    let share = |free: u64, ask: u64, total: u64| {
        let left = free.saturating_sub(ask).saturating_mul(1000);
        left.checked_div(total).map_or(0, |share| u32::try_from(share.min(1000)).unwrap_or(1000))
    };
    let capacity = &node.node.capacity;
    let cpu = share(node.free_cpu.0.into(), ask.cpu.0.into(), capacity.cpu.0.into());
    let memory = share(node.free_memory.0, ask.memory.0, capacity.memory.0);
    Score { headroom: cpu.min(memory), id: Reverse(node.node.id) }
}
