//! A plan in the making: a working copy of the cluster on which each step takes effect at once, so
//! that the next decision sees it.

use crate::{
    cluster::{Cluster, Row},
    plan::{Pending, Plan, PlanReport, Stay, Step},
    policy::Policy,
    slots::has_ended,
};
use lattice_model::{
    AllocationId, Bytes, Cpu, NodeId, StackKey, Timestamp, WorkloadKey,
    resource::{Allocation, Intent, Node, Workload},
    spec::WorkloadSpec,
};
use lattice_scheduler::{Candidate, PortClaim};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(crate) struct Planning<'a> {
    /// As it is in the store.
    pub(crate) base: &'a Cluster,
    /// As it is to be.
    pub(crate) cluster: Cluster,
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
        base: &'a Cluster,
        policy: &'a Policy,
        now: Timestamp,
        random: &'a mut dyn FnMut() -> u128,
    ) -> Self {
        let (plan, report, yielding, updated) = Default::default();
        let cluster = base.clone();
        Self { base, cluster, policy, now, random, plan, report, yielding, stack_begins: 0, updated }
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

    /// What a node has left without what is replaced. Allocations on their way out no longer count,
    /// but their ports do, since the engine frees a port only when the container is gone; except
    /// between services that are replaced together, whose agent waits for the port. So do their GPUs.
    pub(crate) fn candidate<'n>(
        &self,
        node: &'n Node,
        of: Option<&WorkloadKey>,
        replacing: Option<AllocationId>,
    ) -> Candidate<'n> {
        let (mut cpu, mut memory, mut ports, mut siblings) = (0u64, 0u64, Vec::new(), 0);
        let mut taken_gpus = BTreeSet::new();
        for allocation in self.cluster.allocations_on(node.id) {
            if replacing == Some(allocation.id) {
                continue;
            }
            if holds_gpus(allocation) {
                taken_gpus.extend(allocation.gpus.iter().cloned());
            }
            if allocation.intent != Intent::Remove {
                let (c, m) = allocation.spec.resources.reserved();
                cpu += u64::from(c.0);
                memory = memory.saturating_add(m.0);
                siblings += u32::from(of == Some(&allocation.workload) && allocation.superseded.is_none());
            }
            if !self.yielding.contains(&allocation.id) {
                ports.extend(claims(&allocation.spec));
            }
        }
        let free_cpu =
            Cpu(u32::try_from(u64::from(node.capacity.cpu.0).saturating_sub(cpu)).unwrap_or(u32::MAX));
        let free_memory = Bytes(node.capacity.memory.0.saturating_sub(memory));
        let taints = self.cluster.taints_of(node).cloned().collect();
        Candidate { node, taints, free_cpu, free_memory, ports, taken_gpus, siblings }
    }
}

/// Whether an allocation keeps its GPUs from others. A job that has ended does not; should people start it again, it
/// is placed anew ([`crate::rollout`]).
pub(crate) fn holds_gpus(allocation: &Allocation) -> bool {
    !has_ended(allocation)
}

/// The ports of the node that a spec asks for by number.
pub(crate) fn claims(spec: &WorkloadSpec) -> impl Iterator<Item = PortClaim> {
    // Of a range the node chooses one that is free.
    spec.ports.iter().filter(|port| port.published_to.is_none()).filter_map(|port| {
        Some(PortClaim { port: port.published?, protocol: port.target.protocol, ip: port.host_ip })
    })
}
