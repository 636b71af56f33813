//! A node as the fleet knows it: [`Machine`] is what is told, [`Slot`] what is kept.

use super::{
    mix::{Free, Unit},
    need::{Need, Taint, WHOLE},
    room::Room,
};
use crate::filter::PortClaim;
use lattice_model::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// What a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Which.
    pub id: NodeId,
    /// What may be promised of it, after its owner's limits and the pool's [`super::Oversubscription`].
    pub capacity: Room,
    /// Its GPUs, or instances of some; at most [`Machine::GPUS`] are handed out.
    pub gpus: Vec<Gpu>,
    /// What terms ask about: `region`, `arch`, `labels.disk`, …
    pub attributes: BTreeMap<String, String>,
    /// What it has against newcomers.
    pub taints: Vec<Taint>,
    /// Why it takes nothing new at present: cordoned, disconnected, outside of its hours.
    pub closed: Option<String>,
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
}

impl Machine {
    /// How many GPUs of one node are handed out at most.
    pub const GPUS: usize = 64;

    /// A node with room and nothing else.
    pub fn new(id: NodeId, capacity: Room) -> Self {
        Self { id, capacity, gpus: Vec::new(), attributes: BTreeMap::new(), taints: Vec::new(), closed: None }
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

    /// Takes what an allocation gets.
    pub(crate) fn take(&mut self, need: &Need, units: u64) {
        self.used = self.used.plus(&need.room);
        self.free = self.machine.capacity.less(&self.used);
        if let Some(gpus) = &need.gpus {
            for at in bits(units) {
                if let Some(free) = self.units_free.get_mut(at) {
                    *free = free.saturating_sub(gpus.each());
                }
            }
        }
        self.ports.extend(need.ports.iter().copied());
        self.loss = None;
    }

    /// Gives it back.
    pub(crate) fn give(&mut self, need: &Need, units: u64) {
        self.used = self.used.less(&need.room);
        self.free = self.machine.capacity.less(&self.used);
        if let Some(gpus) = &need.gpus {
            for at in bits(units) {
                if let Some(free) = self.units_free.get_mut(at) {
                    *free = (*free + gpus.each()).min(WHOLE);
                }
            }
        }
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
