//! Which node one ask goes to: filter what cannot hold it, score what can, pick the best.
//!
//! Enter at [`fleet`]: it keeps what all nodes have left, decides in microseconds, packs GPUs by the work that usually
//! comes, and knows rules, shares of GPUs, neighbours, failure domains, priorities and gangs. What a node has to be
//! ([`Rule`]) is apart from what it has left; the answer always explains itself ([`fleet::Account`]): a refusal carries
//! counted reasons, a choice its score by parts and the runners-up. `docs/scheduling.md` describes it.
//!
//! The scheduler knows no store, no clock and no workloads: only asks, and nodes.

mod filter;
pub mod fleet;
mod gpu;
mod strategy;

pub use filter::{PortClaim, Refusal, Rule, holds, unsuitable, value as value_of};
pub use gpu::{Taken, assign, is_such};
pub use strategy::Strategy;
