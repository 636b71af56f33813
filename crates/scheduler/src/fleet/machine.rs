//! A node as the fleet knows it: [`Machine`] is what is told, [`Slot`] what is kept.

use super::{
    mix::{Free, Shape, Unit},
    need::{GpuNeed, Need, Outlook, WHOLE},
    room::Room,
};
use crate::{filter::PortClaim, gpu::Taken};
use lattice_model::{
    NodeId,
    resource::{Node, Taint},
};
use std::{collections::BTreeSet, sync::Arc};

/// What a node is and has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// What rules ask about, and whether it takes new work.
    pub node: Arc<Node>,
    /// What may be promised of it, after its owner's limits and what its pool promises beyond that.
    pub capacity: Room,
    /// Its GPUs, or instances of some; at most [`Machine::GPUS`] are handed out.
    pub gpus: Vec<Gpu>,
    /// What it has against work, its own and its pool's.
    pub taints: Vec<Taint>,
    /// What is expected of it.
    pub outlook: Outlook,
}

/// A GPU of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its model, compared without regard to case.
    pub model: String,
    /// Bytes.
    pub memory: u64,
    /// The GPUs of the machine that it reaches directly (NVLink), by their place in the list.
    pub links: BTreeSet<u8>,
    /// What it is called, where asks name it.
    pub names: Vec<String>,
    /// Whether it may be given to anybody.
    pub usable: bool,
}

impl Gpu {
    /// One that may be given, without links and without a name.
    pub fn of(model: impl Into<String>, memory: u64) -> Self {
        Self { model: model.into(), memory, links: BTreeSet::new(), names: Vec::new(), usable: true }
    }
}

impl Machine {
    /// How many GPUs of one node are handed out at most.
    pub const GPUS: usize = 64;

    /// A node with room and nothing else, which takes work.
    pub fn new(id: NodeId, capacity: Room) -> Self {
        Self::of(Arc::new(Node::blank(id)), capacity)
    }

    /// A node with room.
    pub fn of(node: Arc<Node>, capacity: Room) -> Self {
        Self { node, capacity, gpus: Vec::new(), taints: Vec::new(), outlook: Outlook::default() }
    }

    /// Which.
    pub fn id(&self) -> NodeId {
        self.node.id
    }
}

/// A node and what is on it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) machine: Machine,
    /// Whether it is a node; one that left is a hole until another takes it.
    pub(crate) present: bool,
    pub(crate) used: Room,
    pub(crate) free: Room,
    pub(crate) units: Vec<Unit>,
    /// The same number where the units are the same.
    pub(crate) kind: u32,
    pub(crate) units_free: Vec<u16>,
    /// What is given of each. One that waits for another's end has the same as that one, for a while.
    pub(crate) units_used: Vec<u32>,
    pub(crate) ports: Vec<PortClaim>,
    /// What is there, by the numbers of the fleet's table.
    pub(crate) held: Vec<u32>,
    /// The loss of it as it is, with the mix by which that was found out.
    pub(crate) loss: Option<i64>,
}

/// See [`Slot::likeness`].
pub(crate) type Likeness = (u32, u64, u64, [u16; 8]);

impl Slot {
    pub(crate) fn gpu_state(&self) -> Free<'_> {
        Free { cpu: self.free.cpu, memory: self.free.memory, units: &self.units, free: &self.units_free }
    }

    /// By what two nodes with GPUs that are alike cost an ask the same; none where there are too many GPUs.
    pub(crate) fn likeness(&self) -> Option<Likeness> {
        let mut free = [0; 8];
        free.get_mut(..self.units_free.len())?.copy_from_slice(&self.units_free);
        Some((self.kind, self.free.cpu, self.free.memory, free))
    }

    /// The GPUs that will do for an ask, whether they are free or not.
    pub(crate) fn suiting(&self, ask: &GpuNeed, shape: &Shape) -> u64 {
        let called = |at: usize| {
            ask.ids.is_empty() || self.machine.gpus[at].names.iter().any(|name| ask.ids.contains(name))
        };
        let fits = |at: &usize| shape.suits(&self.units[*at]) && called(*at);
        (0..self.units.len()).filter(fits).fold(0, |set, at| set | 1 << at)
    }

    /// Whether enough of them have enough left, where `free` is what each has.
    pub(crate) fn could(&self, ask: &GpuNeed, shape: &Shape, free: &[u16]) -> bool {
        let suiting = self.suiting(ask, shape);
        let enough = bits(suiting).filter(|at| free[*at] >= ask.each()).count();
        match ask.count {
            0 => true,
            GpuNeed::ALL => enough > 0 && enough == suiting.count_ones() as usize,
            count => enough >= usize::from(count),
        }
    }

    /// How much of each GPU may be given at most.
    pub(crate) fn whole(&self, at: usize) -> u16 {
        if self.units.get(at).is_some_and(|unit| unit.usable) { WHOLE } else { 0 }
    }

    /// What is taken of the GPUs of which somebody has something.
    pub(crate) fn taken_gpus(&self) -> Taken {
        let units = self.machine.node.facts.machine.gpu_units();
        let used = units.iter().zip(&self.units_used).filter(|(_, used)| **used > 0);
        used.map(|(unit, used)| (unit.id.to_owned(), (*used).min(WHOLE.into()) as u16)).collect()
    }

    /// Takes what an allocation gets.
    pub(crate) fn take(&mut self, need: &Need, units: u64) {
        self.used = self.used.plus(&need.room);
        self.free = self.machine.capacity.less(&self.used);
        self.use_units(need, units, u32::saturating_add);
        self.ports.extend(need.ports.iter().copied());
        self.loss = None;
    }

    fn use_units(&mut self, need: &Need, units: u64, how: impl Fn(u32, u32) -> u32) {
        let Some(gpus) = &need.gpus else { return };
        for at in bits(units).filter(|at| *at < self.units.len()) {
            let used = how(self.units_used[at], gpus.each().into());
            self.units_used[at] = used;
            self.units_free[at] = u32::from(self.whole(at)).saturating_sub(used) as u16;
        }
    }

    /// Gives it back.
    pub(crate) fn give(&mut self, need: &Need, units: u64) {
        self.used = self.used.less(&need.room);
        self.free = self.machine.capacity.less(&self.used);
        self.use_units(need, units, u32::saturating_sub);
        for port in &need.ports {
            if let Some(at) = self.ports.iter().position(|had| had == port) {
                self.ports.swap_remove(at);
            }
        }
        self.loss = None;
    }

    /// What is left in the scarcer of processor and memory with this much less, in thousandths of the node.
    pub(crate) fn headroom(&self, need: &Need) -> i64 {
        let share = |free: u64, ask: u64, all: u64| match all {
            0 | u64::MAX => 1000,
            all => (u128::from(free.saturating_sub(ask)) * 1000 / u128::from(all)) as i64,
        };
        let capacity = &self.machine.capacity;
        share(self.free.cpu, need.room.cpu, capacity.cpu).min(share(
            self.free.memory,
            need.room.memory,
            capacity.memory,
        ))
    }
}

/// The places of the bits that are set.
pub(crate) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(at)
    })
}
