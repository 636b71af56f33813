//! What the scheduler knows of the cluster: [`Ledger`], the fleet beside the rows.
//!
//! The fleet is a cache of a [`Cluster`]: [`Ledger::sync`] tells it what differs from the snapshot that it saw last,
//! whichever way that goes, so that a plan that was not carried out, or was taken back half-way, needs no undoing. Snapshots
//! share what did not change, so the difference is found in the time of what changed.

use crate::{
    ask::{Ask, Kinds, ask_of, capacity_of, group_ask, neighbours, room_of, tags_of},
    cluster::{Cluster, Row},
    home::may_be_sent_away,
    planning::claims,
    slots::has_ended,
};
use imbl::ordmap::DiffItem;
use lattice_model::{
    AllocationId, NodeId, WorkloadKey,
    resource::{Allocation, Intent, Node, Workload},
    spec::GpuRequest,
};
use lattice_scheduler::{
    Refusal, Strategy, Taken, assign,
    fleet::{Account, Eviction, Fleet, Found, Gpu, GpuNeed, Kind, Machine, Near, Need, Pull, Room, Tags},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// How many workloads that are no more are remembered before it is tidied up.
const TOLD: usize = 1000;

/// The fleet, and what it was told.
#[derive(Debug, Default)]
pub struct Ledger {
    fleet: Fleet,
    seen: Cluster,
    /// Those whose ports stand in nobody's way.
    yielding: BTreeSet<AllocationId>,
    kinds: Kinds,
    /// For each workload that asks for GPUs: of which run of it how many replicas have been told of.
    told: HashMap<WorkloadKey, (u64, u64, u32)>,
}

impl Ledger {
    /// Brings the fleet to what a cluster is, with these whose ports are free for others.
    pub(crate) fn sync(&mut self, cluster: &Cluster, yielding: &BTreeSet<AllocationId>, strategy: Strategy) {
        if self.fleet.strategy() != strategy {
            *self = Self { fleet: Fleet::new(strategy), ..Self::default() };
        }
        self.see_nodes(cluster);
        let seen = std::mem::replace(&mut self.seen, cluster.clone());
        if !seen.allocations().ptr_eq(cluster.allocations()) {
            for item in seen.allocations().diff(cluster.allocations()) {
                match item {
                    DiffItem::Add(_, row) => {
                        self.hold(row, yielding);
                        self.learn(row);
                    }
                    DiffItem::Update { new: (_, row), .. } => {
                        self.fleet.release(row.id);
                        self.hold(row, yielding);
                    }
                    DiffItem::Remove(id, _) => drop(self.fleet.release(*id)),
                }
            }
        }
        if self.yielding != *yielding {
            let changed: Vec<AllocationId> = self.yielding.symmetric_difference(yielding).copied().collect();
            self.yielding.clone_from(yielding);
            for row in changed.iter().filter_map(|id| cluster.allocations().get(id)) {
                self.fleet.release(row.id);
                self.hold(row, yielding);
            }
        }
    }

    fn see_nodes(&mut self, cluster: &Cluster) {
        let pools = !self.seen.pools.ptr_eq(&cluster.pools);
        let outlooks = !self.seen.outlooks.ptr_eq(&cluster.outlooks);
        if pools || outlooks {
            let same = |node: &Node| {
                self.seen.pools.get(&node.pool) == cluster.pools.get(&node.pool)
                    && self.seen.outlooks.get(&node.id) == cluster.outlooks.get(&node.id)
            };
            let changed: Vec<Arc<Node>> =
                cluster.nodes.values().filter(|row| !same(row)).map(|row| Arc::clone(&row.value)).collect();
            changed.into_iter().for_each(|node| self.put(&node, cluster));
        }
        if self.seen.nodes.ptr_eq(&cluster.nodes) {
            return;
        }
        let seen = self.seen.nodes.clone();
        let gpus = |node: &Node| -> Vec<String> {
            node.facts.machine.gpu_units().iter().map(|unit| unit.id.to_owned()).collect()
        };
        for item in seen.diff(&cluster.nodes) {
            match item {
                DiffItem::Add(id, row) => {
                    self.put(&row.value, cluster);
                    self.hold_again(*id);
                }
                DiffItem::Update { old: (_, old), new: (id, row) } => {
                    self.put(&row.value, cluster);
                    if gpus(old) != gpus(row) {
                        self.hold_again(*id);
                    }
                }
                DiffItem::Remove(id, _) => drop(self.fleet.remove_node(*id)),
            }
        }
    }

    /// Asks for GPUs are what the scheduler learns the usual mix from: each replica of each version counts once, however
    /// often it is placed. After a start of the server those count that are there.
    fn learn(&mut self, row: &Allocation) {
        if row.spec.gpus.is_none() {
            return;
        }
        if self.told.len() > 2 * self.seen.workloads().len() + TOLD {
            let seen = &self.seen;
            self.told.retain(|key, _| seen.workloads().contains_key(key));
        }
        let run = (row.generation, row.restart);
        let told = self.told.entry(row.workload.clone()).or_insert((run.0, run.1, 0));
        if (told.0, told.1) != run {
            *told = (run.0, run.1, 0);
        }
        if row.slot > told.2 {
            told.2 = row.slot;
            self.fleet.learn(&self.kinds.gpus_and_room(&row.spec));
        }
    }

    /// What is on a node that is new, or has other GPUs now.
    fn hold_again(&mut self, node: NodeId) {
        let here: Vec<Row<Allocation>> = self.seen.allocations_on(node).cloned().collect();
        let yielding = std::mem::take(&mut self.yielding);
        for row in here {
            self.fleet.release(row.id);
            self.hold(&row, &yielding);
        }
        self.yielding = yielding;
    }

    fn put(&mut self, node: &Arc<Node>, cluster: &Cluster) {
        let units = node.facts.machine.gpu_units();
        let at: BTreeMap<&str, u8> =
            units.iter().take(Machine::GPUS).enumerate().map(|(at, unit)| (unit.id, at as u8)).collect();
        let mut gpus = Vec::with_capacity(units.len());
        for unit in &units {
            let kind = self.kinds.name(unit);
            let links = units
                .iter()
                .filter(|other| unit.gpu.links.contains(other.id) || other.gpu.links.contains(unit.id));
            let links = links.filter_map(|other| at.get(other.id)).copied().collect();
            let mut names = vec![unit.id.to_owned()];
            if unit.id == unit.gpu.id {
                names.push(unit.gpu.index.to_string());
            }
            gpus.push(Gpu { links, names, usable: unit.is_usable(), ..Gpu::of(kind, unit.memory.0) });
        }
        let capacity = capacity_of(cluster, node);
        self.fleet.put_node(Machine {
            gpus,
            taints: cluster.taints_of(node).cloned().collect(),
            outlook: cluster.outlooks.get(&node.id).copied().unwrap_or_default(),
            ..Machine::of(Arc::clone(node), capacity)
        });
    }

    /// Allocations on their way out no longer count, but their ports do, since the engine frees a port only when the
    /// container is gone; except between services that are replaced together, whose agent waits for the port. So do
    /// their GPUs.
    fn hold(&mut self, row: &Row<Allocation>, yielding: &BTreeSet<AllocationId>) {
        let Some(node) = self.fleet.node(row.node) else { return };
        let units = node.facts.machine.gpu_units();
        let gpus: Vec<u8> = match holds_gpus(row) {
            true => {
                let at = |id: &String| units.iter().position(|unit| unit.id == *id);
                row.gpus.iter().filter_map(at).filter_map(|at| u8::try_from(at).ok()).collect()
            }
            false => Vec::new(),
        };
        // Nobody is above those that stay whatever comes.
        let priority = match may_be_sent_away(&self.seen, row) {
            true => row.spec.placement.priority,
            false => i16::MAX,
        };
        let mut need = Need { priority, ..Need::default() };
        let mut tags = Tags::new();
        if holds_room(row) {
            need.room = room_of(&row.spec, 1);
        }
        if row.intent != Intent::Remove && row.superseded.is_none() {
            tags = tags_of(&row.workload, &row.spec);
            // Who wants somebody far is asked when that one comes later.
            let apart = |near: &Near| near.pull == Pull::MustNot;
            need.near = neighbours(&row.workload, &row.spec).into_iter().filter(apart).collect();
        }
        if !yielding.contains(&row.id) {
            need.ports = claims(&row.spec).collect();
        }
        if !gpus.is_empty() {
            need.gpus = Some(GpuNeed { share: gpu_share(row), ..GpuNeed::whole(gpus.len() as u16) });
        }
        if let Err(error) = self.fleet.restore(row.id, &Arc::new(need), &tags, row.node, &gpus) {
            debug_assert!(false, "{error}");
        }
    }

    /// What one replica of a workload asks for.
    pub(crate) fn ask(&self, workload: &Workload) -> Ask {
        ask_of(&self.seen, workload, &self.kinds)
    }

    /// What a group asks for.
    pub(crate) fn group(&self, wanted: &[&Workload], replicas: &dyn Fn(&Workload) -> u32) -> Ask {
        group_ask(&self.seen, wanted, replicas, &self.kinds)
    }

    /// The best node for an ask, without one that makes room, on one that `accepts` takes.
    pub(crate) fn find(
        &mut self,
        ask: &Ask,
        leaves: Option<AllocationId>,
        accepts: &dyn Fn(NodeId) -> Result<(), Refusal>,
    ) -> Result<Found, Box<Account>> {
        self.without(leaves, |ledger| {
            let fleet = &mut ledger.fleet;
            let Some((requests, constraints)) = &ask.gpus else {
                return fleet.find(&ask.need, &ask.tags, &mut |node| accepts(node));
            };
            // Several containers with GPUs: the fleet knows of the largest alone.
            let taken: HashMap<NodeId, Taken> =
                fleet.node_ids().map(|node| (node, fleet.taken_gpus(node))).collect();
            let nodes: HashMap<NodeId, Arc<Node>> =
                fleet.node_ids().filter_map(|id| Some((id, Arc::clone(fleet.node(id)?)))).collect();
            fleet.find(&ask.need, &ask.tags, &mut |node| {
                accepts(node)?;
                let (Some(row), Some(taken)) = (nodes.get(&node), taken.get(&node)) else { return Ok(()) };
                assign(requests, constraints, row, taken).map(|_| ()).map_err(Refusal::Gpu)
            })
        })
    }

    /// The GPUs that an ask gets on a node, without one that makes room.
    ///
    /// # Errors
    /// Why it cannot go there.
    pub(crate) fn admit(
        &mut self,
        ask: &Ask,
        leaves: Option<AllocationId>,
        node: NodeId,
    ) -> Result<Vec<String>, Refusal> {
        self.without(leaves, |ledger| {
            let units = match ledger.fleet.find_on(&ask.need, &ask.tags, node) {
                Err(Refusal::Room(Kind::Disk | Kind::Bandwidth)) if ledger.inherits(ask, leaves, node) => {
                    let room = Room { disk: 0, bandwidth: 0, ..ask.need.room };
                    let need = Arc::new(Need { room, ..(*ask.need).clone() });
                    ledger.fleet.find_on(&need, &ask.tags, node)?
                }
                other => other?,
            };
            let Some(row) = ledger.fleet.node(node) else { return Ok(Vec::new()) };
            let all = row.facts.machine.gpu_units();
            Ok(units
                .iter()
                .filter_map(|at| all.get(usize::from(*at)))
                .map(|unit| unit.id.to_owned())
                .collect())
        })
    }

    /// Whether one that makes room has as much of disk and network there already: what it wrote is missing from what its
    /// node says is free, and becomes free as it goes.
    fn inherits(&self, ask: &Ask, leaves: Option<AllocationId>, node: NodeId) -> bool {
        let row = leaves.and_then(|id| self.seen.allocations().get(&id)).filter(|row| row.node == node);
        row.is_some_and(|row| {
            let had = room_of(&row.spec, 1);
            had.disk >= ask.need.room.disk && had.bandwidth >= ask.need.room.bandwidth
        })
    }

    /// What alone would have to change for one more node to do, and how many would do then.
    pub(crate) fn would_do(&mut self, ask: &Ask) -> BTreeMap<String, u32> {
        self.fleet.account(&ask.need, &ask.tags).changes
    }

    /// Who would have to make way for an ask: where, and whom.
    pub(crate) fn make_way(&mut self, ask: &Ask) -> Option<Eviction> {
        self.fleet.make_way(&ask.need, &ask.tags)
    }

    fn without<T>(&mut self, leaves: Option<AllocationId>, then: impl FnOnce(&mut Self) -> T) -> T {
        let row = leaves.and_then(|id| self.seen.allocations().get(&id).cloned());
        if let Some(row) = &row {
            self.fleet.release(row.id);
        }
        let found = then(self);
        if let Some(row) = &row {
            let yielding = std::mem::take(&mut self.yielding);
            self.hold(row, &yielding);
            self.yielding = yielding;
        }
        found
    }
}

/// Whether an allocation has processor and memory set aside for it. A job that has ended does not.
pub(crate) fn holds_room(allocation: &Allocation) -> bool {
    allocation.intent != Intent::Remove && !has_ended(allocation)
}

/// What an allocation has of each of its GPUs, in thousandths.
pub(crate) fn gpu_share(allocation: &Allocation) -> u16 {
    allocation.spec.gpus.as_ref().map_or(GpuRequest::WHOLE, GpuRequest::each)
}

/// Whether an allocation keeps its GPUs from others. A job that has ended does not; should people start it again, it
/// is placed anew ([`crate::rollout`]).
pub(crate) fn holds_gpus(allocation: &Allocation) -> bool {
    !has_ended(allocation)
}
