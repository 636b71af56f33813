//! A plan in the making: a working copy of the cluster on which each step takes effect at once, so
//! that the next decision sees it.

use crate::{
    ask::Ask,
    cluster::{Cluster, Row},
    ledger::Ledger,
    plan::{Pending, Plan, PlanReport, Stay, Step},
    policy::Policy,
};
use lattice_model::{
    AllocationId, NodeId, StackKey, Timestamp, WorkloadKey,
    resource::{Allocation, Workload},
    spec::WorkloadSpec,
};
use lattice_scheduler::{
    PortClaim, Refusal,
    fleet::{Account, Found},
};
use std::{
    cell::{RefCell, RefMut},
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(crate) struct Planning<'a> {
    /// As it is in the store.
    pub(crate) base: &'a Cluster,
    /// As it is to be.
    pub(crate) cluster: Cluster,
    /// The same for the scheduler: a cache, brought up to date before it is asked.
    ledger: RefCell<&'a mut Ledger>,
    pub(crate) policy: &'a Policy,
    pub(crate) now: Timestamp,
    pub(crate) random: &'a mut dyn FnMut() -> u128,
    pub(crate) plan: Plan,
    pub(crate) report: PlanReport,
    /// Allocations whose ports stand in nobody's way, since this plan replaces them.
    pub(crate) yielding: BTreeSet<AllocationId>,
    /// Where the steps of the present stack begin.
    stack_begins: usize,
    /// The step of each allocation that was updated.
    updated: BTreeMap<AllocationId, usize>,
}

/// A plan in the making as it was at one moment, to go back to.
pub(crate) struct Mark {
    cluster: Cluster,
    steps: Vec<Step>,
    updated: BTreeMap<AllocationId, usize>,
    relies_on: usize,
    placed: usize,
    pending: usize,
    stays: usize,
    next: BTreeMap<StackKey, Timestamp>,
}

impl<'a> Planning<'a> {
    pub(crate) fn new(
        ledger: &'a mut Ledger,
        base: &'a Cluster,
        policy: &'a Policy,
        now: Timestamp,
        random: &'a mut dyn FnMut() -> u128,
    ) -> Self {
        let (plan, report, yielding, updated) = Default::default();
        let (cluster, ledger) = (base.clone(), RefCell::new(ledger));
        Self { base, ledger, cluster, policy, now, random, plan, report, yielding, stack_begins: 0, updated }
    }

    /// What is decided from here on is about another stack.
    pub(crate) fn begin_stack(&mut self) {
        self.stack_begins = self.plan.steps.len();
        self.updated.clear();
    }

    pub(crate) fn mark(&self) -> Mark {
        let PlanReport { placed, pending, stays, next } = &self.report;
        Mark {
            cluster: self.cluster.clone(),
            steps: self.plan.steps[self.stack_begins..].to_vec(),
            updated: self.updated.clone(),
            relies_on: self.plan.relies_on.len(),
            placed: placed.len(),
            pending: pending.len(),
            stays: stays.len(),
            next: next.clone(),
        }
    }

    pub(crate) fn go_back(&mut self, mark: &Mark) {
        let Mark { cluster, steps, updated, relies_on, placed, pending, stays, next } = mark;
        self.cluster = cluster.clone();
        self.plan.steps.truncate(self.stack_begins);
        self.plan.steps.extend(steps.iter().cloned());
        self.updated.clone_from(updated);
        self.plan.relies_on.truncate(*relies_on);
        self.report.placed.truncate(*placed);
        self.report.pending.truncate(*pending);
        self.report.stays.truncate(*stays);
        self.report.next.clone_from(next);
    }

    pub(crate) fn finish(mut self) -> (Plan, PlanReport) {
        // What was changed there and back again is no change.
        let base = self.base;
        self.plan.steps.retain(|step| match step {
            Step::Update { allocation, .. } => {
                base.allocations().get(&allocation.id).is_none_or(|row| *row.value != **allocation)
            }
            _ => true,
        });
        (self.plan, self.report)
    }

    pub(crate) fn forget(&mut self, row: &Row<Allocation>, why: String) {
        self.plan.steps.push(Step::Forget { expected: row.revision, id: row.id, why });
        self.cluster.remove_allocation(row.id);
    }

    /// Writes an allocation down as it is to be.
    pub(crate) fn update(&mut self, row: &Row<Allocation>, change: impl FnOnce(&mut Allocation)) {
        self.update_because(row, None, change);
    }

    /// The same with a reason; the last one counts.
    pub(crate) fn update_because(
        &mut self,
        row: &Row<Allocation>,
        why: Option<String>,
        change: impl FnOnce(&mut Allocation),
    ) {
        let present = self.cluster.allocations().get(&row.id).unwrap_or(row);
        let (revision, mut allocation) = (present.revision, (*present.value).clone());
        change(&mut allocation);
        if allocation == *present.value {
            return;
        }
        self.cluster.put_allocation(Row { revision, value: Arc::new(allocation.clone()) });
        let step = Step::Update { expected: revision, allocation: Box::new(allocation), why };
        // A row is written once in a plan.
        match self.updated.get(&row.id) {
            Some(at) => self.plan.steps[*at] = step,
            None => {
                self.updated.insert(row.id, self.plan.steps.len());
                self.plan.steps.push(step);
            }
        }
    }

    pub(crate) fn write_workload(&mut self, workload: Workload) {
        let Some(row) = self.base.workloads().get(&workload.key) else { return };
        let expected = row.revision;
        self.cluster.put_workload(Row { revision: expected, value: Arc::new(workload.clone()) });
        self.plan.steps.push(Step::Workload { expected, workload: Box::new(workload) });
    }

    pub(crate) fn pending(
        &mut self,
        workload: &WorkloadKey,
        slots: Vec<u32>,
        why: impl Into<String>,
        hint: &str,
    ) {
        let (why, hint) = (why.into(), hint.to_owned());
        self.report.pending.push(Pending { workload: workload.clone(), slots, why, hint, turn: false });
    }

    /// Nothing stands against these but that others come first.
    pub(crate) fn waits_its_turn(&mut self, workload: &WorkloadKey, slots: Vec<u32>, why: String) {
        let hint = String::new();
        self.report.pending.push(Pending { workload: workload.clone(), slots, why, hint, turn: true });
    }

    /// Something stays where it should not, for the time being.
    pub(crate) fn stays(&mut self, row: &Allocation, why: impl Into<String>) {
        self.stays_so(row, why.into(), false);
    }

    /// Something stays where it should not, and that is so until a person decides otherwise.
    pub(crate) fn stays_for_good(&mut self, row: &Allocation, why: impl Into<String>) {
        self.stays_so(row, why.into(), true);
    }

    fn stays_so(&mut self, row: &Allocation, why: String, for_good: bool) {
        self.report.stays.push(Stay {
            allocation: row.id,
            workload: row.workload.clone(),
            slot: row.slot,
            node: row.node,
            why,
            for_good,
        });
    }

    /// Asks for a stack to be planned again then.
    pub(crate) fn wake(&mut self, stack: StackKey, at: Timestamp) {
        if at > self.now {
            self.report.next.entry(stack).and_modify(|known| *known = at.min(*known)).or_insert(at);
        }
    }

    /// What people call a node.
    pub(crate) fn name(&self, node: NodeId) -> String {
        self.cluster.nodes.get(&node).map_or_else(|| node.short(), |row| row.name.to_string())
    }

    /// A node that is gone, and how: `desk is lost`.
    pub(crate) fn gone(&self, node: NodeId) -> String {
        let row = self.cluster.nodes.get(&node).filter(|row| row.standing.stands_still());
        let how = row.map_or_else(|| "lost".to_owned(), |row| row.standing.in_words());
        format!("{} is {how}", self.name(node))
    }

    /// The best node for an ask, without one that makes room and not where `accepts` says no.
    pub(crate) fn find(
        &self,
        ask: &Ask,
        leaves: Option<AllocationId>,
        accepts: &dyn Fn(NodeId) -> Result<(), Refusal>,
    ) -> Result<Found, Box<Account>> {
        self.ledger().find(ask, leaves, accepts)
    }

    /// The GPUs that an ask gets on a node, or why it cannot go there.
    pub(crate) fn admit(
        &self,
        ask: &Ask,
        leaves: Option<AllocationId>,
        node: NodeId,
    ) -> Result<Vec<String>, Refusal> {
        self.ledger().admit(ask, leaves, node)
    }

    /// The fleet as it is by now.
    pub(crate) fn ledger(&self) -> RefMut<'_, &'a mut Ledger> {
        let mut ledger = self.ledger.borrow_mut();
        ledger.sync(&self.cluster, &self.yielding, self.policy.strategy);
        ledger
    }
}

/// The ports of the node that a spec asks for by number.
pub(crate) fn claims(spec: &WorkloadSpec) -> impl Iterator<Item = PortClaim> {
    // Of a range the node chooses one that is free.
    spec.ports.iter().filter(|port| port.published_to.is_none()).filter_map(|port| {
        Some(PortClaim { port: port.published?, protocol: port.target.protocol, ip: port.host_ip })
    })
}
