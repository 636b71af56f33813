//! What an operator chooses about planning: [`Policy`]. There is no default here, as somebody has
//! to choose; the server's configuration says what is usual.

use lattice_model::Duration;
use lattice_scheduler::Strategy;

/// What an operator chooses about planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a node may be disconnected before it is lost and its work is placed elsewhere.
    pub node_loss_after: Duration,
    /// When so many nodes vanish at once that the trouble is more likely ours than theirs.
    pub many_nodes: ManyNodes,
    /// Which of two nodes is better when replicas are spread equally.
    pub strategy: Strategy,
    /// How replicas that are unevenly spread move; `None` is not at all.
    pub rebalance: Option<Rebalance>,
}

/// How replicas move only because the spread is better then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// How long a move counts.
    pub every: Duration,
    /// How many moves may begin in the cluster within that.
    pub moves: u32,
    /// How long a node has to have been there before anything moves onto it.
    pub after: Duration,
}

/// Nodes that vanish within [`Policy::node_loss_after`] of each other are not called lost when they
/// are at least `least`, and more than `percent` of hundred of them and those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManyNodes {
    /// Fewer never wait.
    pub least: u32,
    /// The share, of hundred; with 100 none ever waits.
    pub percent: u32,
}
