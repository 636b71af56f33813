//! Taking all of Lattice's agent off a machine: what is there, its removal, and what is left.
//!
//! Enter at [`survey`], which looks and changes nothing, and at [`reset`], which needs the folder's
//! lock ([`Hold`]) and nothing else of it: no key, no database, no rule has to be readable, and the
//! engine may be away. What could not be removed is in [`Outcome::left`], each with what to do by hand.
//!
//! | file | what |
//! |---|---|
//! | `traces` | which node this machine was, where its engine and its logs are: what is kept for a reset |
//! | `survey` | what is there |
//! | `remove` | takes it away |
//! | `outside` | what is neither in the engine nor in the folder: secrets in memory |
//!
//! The order: containers, networks, volumes, images, what is outside, logs, the folder. What tells the
//! next reset what is Lattice's goes last, so that one that was killed is simply begun again.
//! Rejected: removing whatever has a label of Lattice's, as several agents may share an engine; what is
//! of a node that this folder does not know is named, and removed when asked for by that name.

mod outside;
mod remove;
mod survey;
mod traces;

pub use remove::{Left, Outcome, ResetOptions, Tell, reset};
pub use survey::{Item, ItemKind, Problem, Survey, survey};
#[cfg(test)]
pub(crate) use traces::made;
pub use traces::note_elsewhere;
pub use traces::{Engine, engines};
pub(crate) use traces::{note_made, remember};
