//! What should run where: `(cluster snapshot, stacks that changed, now, rng) → (plan, report)`.
//!
//! [`plan()`] reconciles each changed stack: desired slots against allocations, then placement of
//! what is missing, then removal of what is too much. A plan is immutable data; carrying it out
//! makes no choices, and a plan that has become stale fails as a whole, since every step names
//! the revision that it was decided on. [`invariants`] says what every plan keeps; tests check it
//! on each plan they make. [`goal`] turns a snapshot into what one node is told.
//!
//! The planner knows no store, no link and no clock.

mod ask;
mod build;
pub mod cluster;
mod explain;
pub mod forecast;
mod gang;
pub mod goal;
mod group;
mod home;
pub mod invariants;
mod ledger;
mod place;
mod plan;
mod planning;
mod policy;
pub mod pools;
pub mod presence;
mod progress;
pub mod rebalance;
mod reconcile;
pub mod rollout;
mod slots;
mod stage;
mod timetable;

pub use build::{BuildAsk, place_build};
pub use cluster::{Cluster, Row};
pub use explain::{Explained, explain};
pub use home::{bound_globals, may_use};
pub use lattice_scheduler::{
    Strategy,
    fleet::{Account, Outlook, Parts, Ranked},
};
pub use ledger::Ledger;
pub use plan::{Pending, Placement, Plan, PlanReport, Stay, Step, plan};
pub use policy::{ManyNodes, Policy, Rebalance};
pub use timetable::next_due;
