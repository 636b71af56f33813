//! The plan: what changes, decided once and carried out without further choices.

use crate::{
    cluster::Cluster, ledger::Ledger, planning::Planning, policy::Policy, reconcile::reconcile_stack,
};
use lattice_model::{
    AllocationId, NodeId, StackKey, Timestamp, VolumeKey, WorkloadKey,
    resource::{Allocation, MissedRuns, Volume, Workload, WorkloadRevision},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

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
        /// Why, for the event; nothing where somebody asked for just that.
        why: Option<String>,
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
    /// A workload whose version has come up, or is taken back.
    Workload {
        /// The revision that the decision saw.
        expected: u64,
        /// The whole row as it is to be.
        workload: Box<Workload>,
    },
    /// What a new generation is, kept to come back to.
    Keep(Box<WorkloadRevision>),
    /// Times at which a job was due and did not run, to be remembered.
    Missed(Box<MissedRuns>),
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
    /// What runs on where it should not stay.
    pub stays: Vec<Stay>,
    /// When a stack has to be planned again, should nothing change before.
    pub next: BTreeMap<StackKey, Timestamp>,
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
    /// Nothing stands against it but that others come first.
    pub turn: bool,
}

/// A replica that runs on a node that is emptied, or is no place for it any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Which.
    pub allocation: AllocationId,
    /// Its workload.
    pub workload: WorkloadKey,
    /// Which of the replicas.
    pub slot: u32,
    /// Where.
    pub node: NodeId,
    /// Why it does not move, or not yet.
    pub why: String,
    /// Whether nothing but a person, or its own end, changes that.
    pub for_good: bool,
}

/// Plans the stacks in `changed`. `random` gives 128 fresh random bits for each new allocation.
///
/// Whoever plans again and again keeps a [`Ledger`] and calls [`Ledger::plan`]: it need not be made anew each time.
pub fn plan(
    cluster: &Cluster,
    changed: &BTreeSet<StackKey>,
    policy: &Policy,
    now: Timestamp,
    random: &mut dyn FnMut() -> u128,
) -> (Plan, PlanReport) {
    Ledger::default().plan(cluster, changed, policy, now, random)
}

impl Ledger {
    /// What [`plan()`] does, in the time of what has changed.
    pub fn plan(
        &mut self,
        cluster: &Cluster,
        changed: &BTreeSet<StackKey>,
        policy: &Policy,
        now: Timestamp,
        random: &mut dyn FnMut() -> u128,
    ) -> (Plan, PlanReport) {
        let mut planning = Planning::new(self, cluster, policy, now, random);
        // What is more important chooses first, so that nothing is placed only to make way.
        let most = |stack: &&StackKey| cluster.workloads_of(stack).map(|w| w.spec.placement.priority).max();
        let mut order: Vec<&StackKey> = changed.iter().collect();
        order.sort_by_key(|stack| Reverse(most(stack)));
        for stack in order {
            reconcile_stack(&mut planning, stack);
        }
        planning.finish()
    }
}
