//! The agent's reconciler as a step function: `(state, input, now, random) → effects`.
//!
//! [`Reconciler`] holds the goal, what the engine shows and what the agent remembers of each
//! allocation. [`Reconciler::step`] takes one input and answers with what to do. It is
//! level-triggered: each step looks at the whole, so a lost event costs time and nothing else,
//! and an operation that failed is decided anew. At most one operation runs for an allocation,
//! a network, a volume or an image at a time.
//!
//! [`config::container_config`] is the one place where a specification becomes a hardened
//! container, and [`policy::NodePolicy`] the one that refuses what the machine's owner forbids.
//! [`health::Assessor`] tells from what the machine shows in which condition it is.
//! Rejected: a queue of commands from server to agent, which would need every message to arrive.

pub mod config;
mod decide;
mod depend;
pub mod health;
pub mod images;
mod outcome;
pub mod policy;
mod pressure;
mod reconciler;
mod record;
mod secrets;
mod surroundings;
mod trees;
mod words;

pub use config::Folders;
pub use policy::{GpuOffer, NodePolicy};
pub use pressure::{Eviction, Pressure};
pub use reconciler::Reconciler;
pub use record::AllocationRecord;
pub use words::{Admission, Effect, Failure, Input, Listing, Operation, OperationId, Outcome, SecretFile};
