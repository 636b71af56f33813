//! The cluster as the planner sees it: every row that matters, with its revision, in maps that
//! are cheap to clone, so that a plan is made on a snapshot that nobody changes.

use imbl::{OrdMap, OrdSet};
use lattice_model::{
    AllocationId, NodeId, PoolName, StackKey, VolumeKey, WorkloadKey,
    resource::{Allocation, Capacity, Node, Pool, Stack, Taint, Volume, Workload, WorkloadRevision},
    spec::Mode,
};
use lattice_scheduler::fleet::Outlook;
use std::sync::Arc;

/// A row with the revision at which it was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// Of the store, when the row was written last.
    pub revision: u64,
    /// What it says.
    pub value: Arc<T>,
}

impl<T> Clone for Row<T> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, value: Arc::clone(&self.value) }
    }
}

impl<T> std::ops::Deref for Row<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A snapshot of the cluster. Cloning is cheap; clones do not see each other's changes.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Every node that ever asked to join and was not removed.
    pub nodes: OrdMap<NodeId, Row<Node>>,
    /// Every stack.
    pub stacks: OrdMap<StackKey, Row<Stack>>,
    /// Every volume.
    pub volumes: OrdMap<VolumeKey, Row<Volume>>,
    /// Every pool that somebody made; one that is not here is for all, and trusted.
    pub pools: OrdMap<PoolName, Row<Pool>>,
    /// What is expected of nodes, in coarse steps; of one that is not here nothing is known.
    pub outlooks: OrdMap<NodeId, Outlook>,
    /// What kept generations of services were.
    pub revisions: OrdMap<(WorkloadKey, u64), Row<WorkloadRevision>>,
    /// Workloads of [`Mode::Global`], which every change of a node concerns.
    globals: OrdSet<WorkloadKey>,
    workloads: OrdMap<WorkloadKey, Row<Workload>>,
    allocations: OrdMap<AllocationId, Row<Allocation>>,
    by_workload: OrdMap<WorkloadKey, OrdSet<AllocationId>>,
    by_node: OrdMap<NodeId, OrdSet<AllocationId>>,
}

impl Cluster {
    /// Every workload.
    pub const fn workloads(&self) -> &OrdMap<WorkloadKey, Row<Workload>> {
        &self.workloads
    }

    /// Every allocation.
    pub const fn allocations(&self) -> &OrdMap<AllocationId, Row<Allocation>> {
        &self.allocations
    }

    /// The workloads of a stack.
    pub fn workloads_of(&self, stack: &StackKey) -> impl Iterator<Item = &Row<Workload>> {
        in_stack(&self.workloads, stack)
    }

    /// The volumes of a stack.
    pub fn volumes_of(&self, stack: &StackKey) -> impl Iterator<Item = &Row<Volume>> {
        in_stack(&self.volumes, stack)
    }

    /// The allocations of a stack, those of workloads that are gone among them.
    pub fn allocations_of_stack(&self, stack: &StackKey) -> impl Iterator<Item = &Row<Allocation>> {
        in_stack(&self.by_workload, stack)
            .flat_map(|ids| ids.iter())
            .filter_map(|id| self.allocations.get(id))
    }

    /// The allocations of a workload.
    pub fn allocations_of(&self, workload: &WorkloadKey) -> impl Iterator<Item = &Row<Allocation>> {
        self.by_workload.get(workload).into_iter().flatten().filter_map(|id| self.allocations.get(id))
    }

    /// The allocations on a node.
    pub fn allocations_on(&self, node: NodeId) -> impl Iterator<Item = &Row<Allocation>> {
        self.by_node.get(&node).into_iter().flatten().filter_map(|id| self.allocations.get(id))
    }

    /// What is promised of a node: what it lends, by the policy of its pool.
    pub fn promised(&self, node: &Node) -> Capacity {
        self.pools.get(&node.pool).map_or(node.capacity, |pool| pool.promised(&node.capacity))
    }

    /// The taints of a node, its own and its pool's.
    pub fn taints_of<'c>(&'c self, node: &'c Node) -> impl Iterator<Item = &'c Taint> {
        node.taints.iter().chain(self.pools.get(&node.pool).into_iter().flat_map(|pool| &pool.taints))
    }

    /// The workloads that run once on each node.
    pub fn globals(&self) -> impl Iterator<Item = &WorkloadKey> {
        self.globals.iter()
    }

    /// Takes in a workload, new or changed.
    pub fn put_workload(&mut self, row: Row<Workload>) {
        match row.spec.mode {
            Mode::Global => drop(self.globals.insert(row.key.clone())),
            Mode::Replicated => drop(self.globals.remove(&row.key)),
        }
        self.workloads.insert(row.key.clone(), row);
    }

    /// Forgets a workload; its allocations stay until they are removed.
    pub fn remove_workload(&mut self, key: &WorkloadKey) {
        self.workloads.remove(key);
        self.globals.remove(key);
    }

    /// Takes in an allocation, new or changed.
    pub fn put_allocation(&mut self, row: Row<Allocation>) {
        let (id, workload, node) = (row.id, row.workload.clone(), row.node);
        if let Some(old) = self.allocations.insert(id, row)
            && old.node == node
        {
            return;
        }
        self.by_workload.entry(workload).or_default().insert(id);
        self.by_node.entry(node).or_default().insert(id);
    }

    /// Forgets an allocation.
    pub fn remove_allocation(&mut self, id: AllocationId) {
        let Some(row) = self.allocations.remove(&id) else { return };
        forget(&mut self.by_workload, &row.workload, id);
        forget(&mut self.by_node, &row.node, id);
    }
}

fn forget<K: Ord + Clone>(index: &mut OrdMap<K, OrdSet<AllocationId>>, key: &K, id: AllocationId) {
    let Some(ids) = index.get_mut(key) else { return };
    ids.remove(&id);
    if ids.is_empty() {
        index.remove(key);
    }
}

/// A key that sorts by project, then stack, so that a stack's keys are neighbours.
trait InStack: Ord + Clone {
    fn first_of(stack: &StackKey) -> Self;
    fn is_of(&self, stack: &StackKey) -> bool;
}

/// Names begin with a letter or digit, so none sorts before this one.
#[allow(clippy::expect_used)]
fn first_name<N: std::str::FromStr<Err = lattice_model::InvalidName>>() -> N {
    "0".parse().expect("a digit is a name")
}

impl InStack for WorkloadKey {
    fn first_of(stack: &StackKey) -> Self {
        stack.workload(first_name())
    }

    fn is_of(&self, stack: &StackKey) -> bool {
        self.project == stack.project && self.stack == stack.stack
    }
}

impl InStack for VolumeKey {
    fn first_of(stack: &StackKey) -> Self {
        stack.volume(first_name())
    }

    fn is_of(&self, stack: &StackKey) -> bool {
        self.project == stack.project && self.stack == stack.stack
    }
}

fn in_stack<'a, K: InStack, V: Clone>(
    map: &'a OrdMap<K, V>,
    stack: &StackKey,
) -> impl Iterator<Item = &'a V> {
    let stack = stack.clone();
    map.range(K::first_of(&stack)..).take_while(move |(key, _)| key.is_of(&stack)).map(|(_, value)| value)
}
