//! Fuzz targets with a fixed budget. What comes from outside is taken whole or refused with a reason; no input makes
//! a reader panic, take long, answer with a 5xx, write outside of its folder, or go beyond what an owner lends.
//!
//! | target | what comes from outside |
//! |---|---|
//! | `compose` | a Compose file with what it includes, extends and reads |
//! | `tokens`, `words` | tokens; every word with a hand-written parser |
//! | `certificates` | certificates and signing requests |
//! | `messages` | what agent and server say to each other |
//! | `measurements` | what a machine says while it is measured |
//! | `goals` | goals, as a server that means harm would send them |
//! | `archives` | archives of files that travel with a deployment |
//! | `documents` | configuration, and what an agent finds at its start |
//! | `rules` | what services ask of nodes, planned by the real planner |
//! | `requests` | requests to every endpoint of a real server that has a node |
//!
//! Enter at [`run`]; each target is a [`Subject`]. Inputs are made from what is good (the corpora of the crate
//! compose, the schemas of the OpenAPI document, a message of each kind) by changes that keep most of it. What is
//! found is made small and written to `cases/`, whose files are judged in each run before anything new is tried.
//!
//! `cargo nextest run -p lattice-fuzz` tries each target for 3 seconds; `LATTICE_FUZZ_SECONDS` and
//! `LATTICE_FUZZ_INPUTS` set another budget, and `BOLERO_RANDOM_SEED` repeats one input. Where `cargo-bolero` is
//! installed the same targets run by coverage: `cargo bolero test -p lattice-fuzz --sanitizer NONE compose`.
//!
//! Rejected: cargo-fuzz, whose targets are programs apart from the tests and want a nightly compiler for most of what
//! they can; proptest, which gives up shrinking where one choice decides over the meaning of the next.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod blob;
mod budget;
mod corpus;
mod disk;
mod draw;
mod json;
mod run;
mod schema;
mod shrink;
pub mod subjects;
mod text;
mod wire;
mod world;

pub use blob::Blob;
pub use budget::Budget;
pub use draw::Draw;
pub use run::{Subject, Target, run};
