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
