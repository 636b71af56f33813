//! The fleet: what all nodes have left, kept up to date, and decided on at once.
//!
//! Enter at [`Fleet`]. Nodes and allocations are told to it as they come and go; [`Fleet::place`] picks the best node
//! for a [`Need`] and takes what it needs there, [`Fleet::make_way`] says who would have to go, [`Fleet::place_all`]
//! places all or none, [`Fleet::account`] explains. The same tellings in the same order give the same decisions: there
//! is no clock, no randomness, and no number that is not whole.
//!
//! # The score
//!
//! A node that can hold an ask has `wish * 2^32 + room`, compared as one number; of equals the smallest id wins.
//!
//! | part | what | source |
//! |---|---|---|
//! | wish | the weights of what it prefers and the node has (`prefers`) | Kubernetes' preferred node affinity |
//! | wish | the weights of those it wants near and that are there, or in the same domain (`near`) | its inter-pod affinity |
//! | wish | -100,000,000 for each taint that only makes worse and is not borne | its `PreferNoSchedule` |
//! | wish | -weight for each that is in the domain already, those in none being one; of hours of leaving those in none are not (`spread`) | Nomad's spread, Kubernetes' `ScheduleAnyway` |
//! | wish | -weight for each of its like on the node (`crowd`) | Nomad's job anti-affinity |
//! | wish | the weight times the chance that the node stays as long as the ask lasts (`lasts`) | `docs/availability.md` |
//! | wish | the weight times the node's rank (`merit`) | `docs/ranking.md` |
//! | room | -2048 for each step of what is lost of the node's GPUs | fragmentation gradient, see `mix.rs` |
//! | room | 0 to 1000: what is left, or under [`crate::Strategy::Pack`] what is not left, of the scarcer of processor and memory | least allocated, most allocated |
//!
//! Under `Pack` the last part is 0 for nodes with GPUs: of those that are equally good for the GPUs the first is filled.
//!
//! # How it is fast
//!
//! All nodes are looked at in every decision: none is sampled, so the pick is the best there is. Asks that are equal
//! share a class (`class.rs`) with the verdict on each node, and only nodes that were touched since are judged again.
//! At most [`CELLS`] verdicts are kept, those of the classes that were used last.
//!
//! Rejected: sampling nodes (Kubernetes, Nomad), which has regret; floating point, which need not be the same
//! everywhere; a heap per resource, which rules and GPUs do not fit.

mod account;
mod class;
mod evict;
mod judge;
mod machine;
mod mix;
mod need;
mod room;
mod state;
mod tree;

pub use account::{Account, Parts, Ranked};
pub use class::Tags;
pub use evict::Eviction;
pub use machine::{Gpu, Machine};
pub use need::{Crowd, GpuNeed, Lasts, Near, Need, Outlook, Over, Pull, Spread, WHOLE};
pub use room::{Kind, Room};
pub use state::{CELLS, Fleet, FleetError, Found, Placed};
