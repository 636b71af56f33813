//! The plan: what changes, decided once and carried out without further choices.

use crate::{
    cluster::Cluster,
    reconcile::{Planning, reconcile_stack},
};
use lattice_model::{
    AllocationId, NodeId, StackKey, Timestamp, VolumeKey, WorkloadKey,
    resource::{Allocation, Volume},
};
use std::collections::BTreeSet;

/// One change to the store. Every change of a row names the revision that it was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new allocation.
    Create(Box<Allocation>),
    /// An allocation with another intent or restart count.
    Update {
        /// The revision that the decision saw.
        expected: u64,
        /// The whole row as it is to be.
        allocation: Box<Allocation>,
    },
    /// An allocation that nobody will report on any more.
    Forget {
        /// The revision that the decision saw.
        expected: u64,
        /// Which.
        id: AllocationId,
        /// Why, for the event.
        why: String,
    },
    /// A volume gets its node, under a new epoch.
    Claim {
        /// The revision that the decision saw.
        expected: u64,
        /// The whole row as it is to be.
        volume: Box<Volume>,
    },
    /// A volume that was asked to be deleted and has no data anywhere.
    ForgetVolume {
        /// The revision that the decision saw.
        expected: u64,
        /// Which.
        key: VolumeKey,
    },
    /// A stack that was asked to be deleted and of which nothing is left.
    ForgetStack {
        /// The revision that the decision saw.
        expected: u64,
        /// Which.
        key: StackKey,
    },
}

/// What to change, in order; all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub steps: Vec<Step>,
    /// Workloads that steps rely on, with the revision that the decision saw.
    pub relies_on: Vec<(WorkloadKey, u64)>,
}

/// What was done and what waits, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanReport {
    /// New allocations.
    pub placed: Vec<Placement>,
    /// Replicas that could not be placed, or wait their turn.
    pub pending: Vec<Pending>,
}

/// A replica that was placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its workload.
    pub workload: WorkloadKey,
    /// Which of the replicas.
    pub slot: u32,
    /// Where.
    pub node: NodeId,
    /// Why there.
    pub why: String,
}

/// Replicas that are not placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Their workload.
    pub workload: WorkloadKey,
    /// Which of the replicas.
    pub slots: Vec<u32>,
    /// What stands against it.
    pub why: String,
    /// What would change that.
    pub hint: String,
}

/// Plans the stacks in `changed`. `random` gives 128 fresh random bits for each new allocation.
pub fn plan(
    cluster: &Cluster,
    changed: &BTreeSet<StackKey>,
    now: Timestamp,
    random: &mut dyn FnMut() -> u128,
) -> (Plan, PlanReport) {
    let mut planning = Planning::new(cluster, now, random);
    for stack in changed {
        reconcile_stack(&mut planning, stack);
    }
    planning.finish()
}
