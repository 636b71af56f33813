//! Which node one ask goes to: filter what cannot hold it, score what can, pick the best.
//!
//! Hard exclusion ([`filter`]) and soft score ([`score`]) are apart. The answer always explains
//! itself: a refusal carries counted reasons, a choice its score and the runners-up. The
//! scheduler knows no store, no clock and no workloads: only asks and what nodes have left.
//!
//! [`fleet`] is the same for whole clusters: it keeps what all nodes have left, decides in microseconds, packs GPUs by the
//! work that usually comes, and knows shares of GPUs, neighbours, failure domains, priorities and gangs. `docs/scheduling.md`
//! describes it.

mod filter;
pub mod fleet;
mod gpu;
mod pick;
mod score;

pub use filter::{PortClaim, Refusal, holds, unsuitable};
pub use gpu::assign;
pub use pick::{Ask, Candidate, Choice, Explanation, Tally, pick};
pub use score::{Score, Strategy};
