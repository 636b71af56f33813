//! What the fleet knows, and how it changes: [`Fleet`].

use super::{
    class::{Class, Key, NOWHERE, Tags, named},
    machine::{Likeness, Machine, Slot},
    mix::{Mix, Shape, Unit},
    need::{GpuNeed, Need, Over, Pull, WHOLE},
    room::Room,
};
use crate::{filter::Refusal, gpu::Taken, strategy::Strategy};
use lattice_model::{AllocationId, NodeId, resource::Node};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The most verdicts that are kept: with 10,000 nodes those of 200 kinds of ask, about 70 MB.
pub const CELLS: usize = 2_000_000;
/// The most refusals in words that are kept before they are forgotten.
const REFUSALS: usize = 100_000;
/// The most counts over nodes and domains that are kept before those are dropped that nobody uses.
const COUNTS: usize = 2_000_000;

/// Why the fleet did not take what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// Tell of the node first.
    #[error("there is no node {0}: tell the fleet of the node before what is on it")]
    NoNode(NodeId),
    /// An id is used once.
    #[error("the allocation {0} is placed already: release it first, or use another id")]
    Placed(AllocationId),
    /// It is refused; the account says why.
    #[error("no node can hold it: {0}")]
    NoFit(Box<super::Account>),
}

/// Where an allocation was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// On which node.
    pub node: NodeId,
    /// Which of its GPUs it gets, by their place in the machine's list.
    pub gpus: Vec<u8>,
    /// The score that it won by.
    pub score: i64,
}

/// Where an ask would go, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub placed: Placed,
    /// Why.
    pub account: super::Account,
}

/// An allocation on a node.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: AllocationId,
    pub(crate) need: Arc<Need>,
    pub(crate) tags: Tags,
    pub(crate) slot: u32,
    pub(crate) units: u64,
}

/// The values of an attribute, numbered.
#[derive(Clone, Debug)]
pub(crate) struct Domains {
    pub(crate) key: Over,
    numbers: HashMap<String, u32>,
    /// By node.
    pub(crate) of: Vec<u32>,
}

/// How many allocations with a tag there are, by node or by domain; or how many that want none with it near.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    tag: Arc<str>,
    over: Option<usize>,
    unwanted: bool,
    counts: Vec<u32>,
    /// Those on nodes that are in no domain.
    nowhere: u32,
    pub(crate) total: u32,
}

impl Counter {
    pub(crate) fn at(&self, domain: u32) -> u32 {
        match domain {
            NOWHERE => self.nowhere,
            domain => self.counts.get(domain as usize).copied().unwrap_or(0),
        }
    }
}

/// All nodes and what is on them. See the module for what it does.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub(crate) strategy: Strategy,
    pub(crate) slots: Vec<Slot>,
    pub(crate) by_id: BTreeMap<NodeId, u32>,
    vacant: Vec<u32>,
    pub(crate) held: Vec<Option<Held>>,
    vacant_held: Vec<u32>,
    pub(crate) by_key: HashMap<AllocationId, u32>,
    pub(crate) domains: Vec<Domains>,
    pub(crate) counters: Vec<Counter>,
    pub(crate) counters_of: HashMap<Arc<str>, Vec<usize>>,
    tagged: HashMap<Arc<str>, u32>,
    models: Vec<String>,
    pub(crate) mix: Mix,
    pub(crate) mix_version: u64,
    pub(crate) layout: u64,
    /// Touched nodes, times two, and one more where that concerns what does not change with what runs.
    pub(crate) journal: Vec<u32>,
    pub(crate) journal_base: u64,
    pub(crate) classes: Vec<Option<Box<Class>>>,
    pub(crate) class_of: HashMap<Key, usize>,
    pub(crate) cells: usize,
    pub(crate) tick: u64,
    pub(crate) scratch: Vec<u16>,
    /// The sets of GPUs that nodes have, numbered.
    kinds: HashMap<Vec<Unit>, u32>,
    /// Why nodes refuse whatever runs there, numbered.
    refusals: Vec<Refusal>,
    numbers: HashMap<Refusal, u32>,
    /// While all nodes are judged for one kind of ask: what it costs on those that were alike.
    pub(crate) alike: Option<HashMap<Likeness, Option<(u64, i64)>>>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new(Strategy::default())
    }
}

impl Fleet {
    /// A fleet without nodes.
    pub fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            slots: Vec::new(),
            by_id: BTreeMap::new(),
            vacant: Vec::new(),
            held: Vec::new(),
            vacant_held: Vec::new(),
            by_key: HashMap::new(),
            domains: Vec::new(),
            counters: Vec::new(),
            counters_of: HashMap::new(),
            tagged: HashMap::new(),
            models: Vec::new(),
            mix: Mix::default(),
            mix_version: 0,
            layout: 0,
            journal: Vec::new(),
            journal_base: 0,
            classes: Vec::new(),
            class_of: HashMap::new(),
            cells: 0,
            tick: 0,
            scratch: Vec::new(),
            kinds: HashMap::new(),
            refusals: Vec::new(),
            numbers: HashMap::new(),
            alike: None,
        }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.by_id.len()
    }

    /// How many allocations there are.
    pub fn allocations(&self) -> usize {
        self.by_key.len()
    }

    /// Which of two nodes is better otherwise.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// All nodes.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> {
        self.by_id.keys().copied()
    }

    /// A node as it was told.
    pub fn node(&self, node: NodeId) -> Option<&Arc<Node>> {
        self.by_id.get(&node).map(|slot| &self.slots[*slot as usize].machine.node)
    }

    /// What is taken of a node's GPUs, of which somebody has something.
    pub fn taken_gpus(&self, node: NodeId) -> Taken {
        self.by_id.get(&node).map(|slot| self.slots[*slot as usize].taken_gpus()).unwrap_or_default()
    }

    /// What of a node is not set aside.
    pub fn free(&self, node: NodeId) -> Option<Room> {
        self.by_id.get(&node).map(|slot| self.slots[*slot as usize].free)
    }

    /// Thousandths that are free of each of a node's GPUs.
    pub fn free_gpus(&self, node: NodeId) -> Option<&[u16]> {
        self.by_id.get(&node).map(|slot| &*self.slots[*slot as usize].units_free)
    }

    /// Where an allocation is.
    pub fn node_of(&self, key: AllocationId) -> Option<NodeId> {
        let held = self.held[*self.by_key.get(&key)? as usize].as_ref()?;
        Some(self.slots[held.slot as usize].machine.id())
    }

    /// The number of a refusal.
    pub(crate) fn refusal(&mut self, refusal: Refusal) -> u32 {
        if let Some(number) = self.numbers.get(&refusal) {
            return *number;
        }
        let number = self.refusals.len() as u32;
        self.refusals.push(refusal.clone());
        self.numbers.insert(refusal, number);
        number
    }

    /// What a number of [`Fleet::refusal`] says.
    pub(crate) fn refused(&self, number: u32) -> Option<&Refusal> {
        self.refusals.get(number as usize)
    }

    /// The number of a model.
    pub(crate) fn model(&mut self, name: &str) -> u16 {
        let name = name.to_lowercase();
        let at = self.models.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.models.push(name);
            self.models.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// What an ask for GPUs is to the mix.
    pub(crate) fn shape(&mut self, need: &Need) -> Option<Shape> {
        let gpus = need.gpus.as_ref()?;
        let mut models: Vec<u16> = gpus.models.iter().map(|model| self.model(model)).collect();
        models.sort_unstable();
        let (count, share) = (gpus.count, gpus.each());
        let (cpu, memory) = (need.room.cpu, need.room.memory);
        Some(Shape { cpu, memory, count, share, least: gpus.memory, models })
    }

    /// An ask has arrived. Each is to be told once, whether it can be placed or not: this is all from which the usual
    /// mix of asks is learned.
    pub fn learn(&mut self, need: &Need) {
        let usual = |shape: &Shape| shape.count > 0 && shape.count != GpuNeed::ALL && shape.share > 0;
        let Some(shape) = self.shape(need).filter(usual) else { return };
        if self.mix.learn(shape) {
            let mut capacity = vec![0u64; self.models.len()];
            for slot in self.slots.iter().filter(|slot| slot.present) {
                for unit in &slot.units {
                    capacity[usize::from(unit.model)] += u64::from(WHOLE);
                }
            }
            self.mix.renew(&capacity);
            self.mix_version += 1;
            self.slots.iter_mut().for_each(|slot| slot.loss = None);
        }
    }

    /// A node is new, or is now like this. What is on it stays.
    pub fn put_node(&mut self, machine: Machine) {
        let mut units = Vec::with_capacity(machine.gpus.len());
        for gpu in machine.gpus.iter().take(Machine::GPUS) {
            let links = gpu.links.iter().filter(|to| usize::from(**to) < Machine::GPUS);
            let links = links.fold(0u64, |links, to| links | 1 << to);
            units.push(Unit { model: self.model(&gpu.model), memory: gpu.memory, links, usable: gpu.usable });
        }
        let known = self.by_id.get(&machine.id()).copied();
        let at = known.or_else(|| self.vacant.pop()).unwrap_or(self.slots.len() as u32);
        let kinds = self.kinds.len() as u32;
        let kind = *self.kinds.entry(units.clone()).or_insert(kinds);
        let mut slot = Slot {
            present: true,
            kind,
            used: Room::default(),
            free: machine.capacity,
            units_used: vec![0; units.len()],
            units_free: units.iter().map(|unit| if unit.usable { WHOLE } else { 0 }).collect(),
            units,
            ports: Vec::new(),
            held: Vec::new(),
            loss: None,
            machine,
        };
        let mut same = false;
        if known.is_some() {
            let old = &self.slots[at as usize];
            let domain = |over: &Over| {
                let (old, new) = (&old.machine, &slot.machine);
                over.of(&old.node, &old.outlook) == over.of(&new.node, &new.outlook)
            };
            same = self.domains.iter().all(|domains| domain(&domains.key));
            slot.held.clone_from(&old.held);
            for held in slot.held.clone() {
                let held = self.held[held as usize].as_ref().map(|held| (Arc::clone(&held.need), held.units));
                if let Some((need, units)) = held {
                    slot.take(&need, units);
                }
            }
        }
        self.by_id.insert(slot.machine.id(), at);
        match self.slots.get_mut(at as usize) {
            Some(old) => *old = slot,
            None => self.slots.push(slot),
        }
        if same {
            self.touch(at, true);
        } else {
            self.layout += 1;
            self.place_in_domains(at);
        }
    }

    /// A node has left. Gives what was on it, which the fleet forgets.
    pub fn remove_node(&mut self, node: NodeId) -> Vec<AllocationId> {
        let Some(at) = self.by_id.get(&node).copied() else { return Vec::new() };
        let held = self.slots[at as usize].held.clone();
        let keys: Vec<AllocationId> =
            held.iter().filter_map(|held| self.held[*held as usize].as_ref()).map(|held| held.key).collect();
        for key in &keys {
            self.release(*key);
        }
        self.by_id.remove(&node);
        self.slots[at as usize].present = false;
        self.vacant.push(at);
        self.layout += 1;
        keys
    }

    fn place_in_domains(&mut self, at: u32) {
        // Counts over domains move with the node.
        let moved: Vec<u32> = self.slots[at as usize].held.clone();
        for domains in &mut self.domains {
            let machine = &self.slots[at as usize].machine;
            domains.of.resize(self.slots.len(), NOWHERE);
            domains.of[at as usize] = domains.number(machine);
        }
        if !moved.is_empty() {
            self.recount();
        }
    }

    /// An allocation is on a node already. Whether there is room is not asked: what is, is.
    ///
    /// # Errors
    /// When the fleet does not know the node, or has the allocation.
    pub fn restore(
        &mut self,
        key: AllocationId,
        need: &Arc<Need>,
        tags: &Tags,
        node: NodeId,
        gpus: &[u8],
    ) -> Result<(), FleetError> {
        if self.by_key.contains_key(&key) {
            return Err(FleetError::Placed(key));
        }
        let at = *self.by_id.get(&node).ok_or(FleetError::NoNode(node))?;
        let units =
            gpus.iter().filter(|at| usize::from(**at) < Machine::GPUS).fold(0, |set, at| set | 1 << at);
        self.hold(key, need, tags, at, units);
        Ok(())
    }

    pub(crate) fn hold(&mut self, key: AllocationId, need: &Arc<Need>, tags: &Tags, slot: u32, units: u64) {
        let held = Held { key, need: Arc::clone(need), tags: tags.clone(), slot, units };
        let number = self.vacant_held.pop().unwrap_or(self.held.len() as u32);
        self.count(&held, true);
        match self.held.get_mut(number as usize) {
            Some(hole) => *hole = Some(held),
            None => self.held.push(Some(held)),
        }
        self.by_key.insert(key, number);
        self.slots[slot as usize].take(need, units);
        self.slots[slot as usize].held.push(number);
        self.touch(slot, false);
    }

    /// An allocation has gone. False when there was none.
    pub fn release(&mut self, key: AllocationId) -> bool {
        let Some(number) = self.by_key.remove(&key) else { return false };
        let Some(held) = self.held[number as usize].take() else { return false };
        self.vacant_held.push(number);
        self.count(&held, false);
        let slot = &mut self.slots[held.slot as usize];
        slot.give(&held.need, held.units);
        if let Some(at) = slot.held.iter().position(|had| *had == number) {
            slot.held.swap_remove(at);
        }
        self.touch(held.slot, false);
        true
    }

    fn touch(&mut self, slot: u32, rules: bool) {
        // Whoever is further behind judges all nodes, which is no more work.
        if self.journal.len() > 2 * self.slots.len() + 64 {
            let drop = self.journal.len() / 2;
            self.journal.drain(..drop);
            self.journal_base += drop as u64;
        }
        self.journal.push(slot << 1 | u32::from(rules));
    }

    /// The number of an attribute's domains.
    pub(crate) fn domains_of(&mut self, key: &Over) -> usize {
        if let Some(at) = self.domains.iter().position(|domains| domains.key == *key) {
            return at;
        }
        let mut domains = Domains { key: key.clone(), numbers: HashMap::new(), of: Vec::new() };
        for slot in &self.slots {
            let number = domains.number(&slot.machine);
            domains.of.push(number);
        }
        self.domains.push(domains);
        self.domains.len() - 1
    }

    /// The counter of a tag over nodes or an attribute's domains.
    pub(crate) fn counter(&mut self, tag: &str, over: Option<usize>, unwanted: bool) -> usize {
        let known = self.counters_of.get(tag).into_iter().flatten().find(|at| {
            let counter = &self.counters[**at];
            counter.over == over && counter.unwanted == unwanted
        });
        if let Some(at) = known {
            return *at;
        }
        let tag: Arc<str> = tag.into();
        let at = self.counters.len();
        let (counts, nowhere, total) = Default::default();
        self.counters.push(Counter { tag: Arc::clone(&tag), over, unwanted, counts, nowhere, total });
        if unwanted {
            // Classes that were made before do not look at it.
            self.layout += 1;
        } else if self.tagged.get(&tag).is_some_and(|many| *many > 0) {
            for held in self.held.iter().flatten().filter(|held| held.tags.contains(&tag)) {
                add(&mut self.counters[at], &self.domains, held.slot, true);
            }
        }
        self.counters_of.entry(tag).or_default().push(at);
        at
    }

    fn count(&mut self, held: &Held, comes: bool) {
        for tag in &held.tags {
            let many = self.tagged.entry(Arc::clone(tag)).or_default();
            *many = if comes { *many + 1 } else { many.saturating_sub(1) };
            if *many == 0 {
                self.tagged.remove(tag);
            }
            for at in self.counters_of.get(tag).into_iter().flatten() {
                if !self.counters[*at].unwanted {
                    add(&mut self.counters[*at], &self.domains, held.slot, comes);
                }
            }
        }
        for near in held.need.near.iter().filter(|near| near.pull == Pull::MustNot) {
            let over = near.over.as_ref().map(|key| self.domains_of(key));
            let at = self.counter(&near.tag, over, true);
            add(&mut self.counters[at], &self.domains, held.slot, comes);
        }
    }

    /// All counts anew, without those that nobody needs.
    pub(crate) fn recount(&mut self) {
        self.counters.clear();
        self.counters_of.clear();
        self.tagged.clear();
        self.class_of.clear();
        self.classes.clear();
        self.cells = 0;
        self.refusals.clear();
        self.numbers.clear();
        let held: Vec<Held> = self.held.iter().flatten().cloned().collect();
        for held in held {
            self.count(&held, true);
        }
        self.layout += 1;
    }

    /// Drops what is not used when there is too much of it.
    pub(crate) fn tidy(&mut self) {
        if !self.tick.is_multiple_of(64) {
            return;
        }
        let counts: usize = self.counters.iter().map(|counter| counter.counts.len() + 16).sum();
        if counts > COUNTS || self.refusals.len() > REFUSALS {
            self.recount();
        }
    }

    /// Those of the tags that rules name.
    pub(crate) fn named_tags(&self, need: &Need, tags: &Tags) -> Vec<Arc<str>> {
        let unwanted = |tag: &Arc<str>| {
            self.counters_of.get(tag).into_iter().flatten().any(|at| self.counters[*at].unwanted)
        };
        tags.iter().filter(|tag| named(need, tag) || unwanted(tag)).cloned().collect()
    }

    /// Those that somebody on a node or in a domain does not want near: counter and attribute.
    pub(crate) fn unwanted(&self, tags: &[Arc<str>]) -> Vec<(usize, Option<usize>)> {
        let all = tags.iter().filter_map(|tag| self.counters_of.get(tag)).flatten();
        all.filter(|at| self.counters[**at].unwanted).map(|at| (*at, self.counters[*at].over)).collect()
    }

    /// What a counter counts.
    pub(crate) fn counted(&self, at: usize) -> (&str, Option<usize>) {
        (&self.counters[at].tag, self.counters[at].over)
    }
}

impl Domains {
    fn number(&mut self, machine: &Machine) -> u32 {
        let Some(value) = self.key.of(&machine.node, &machine.outlook) else { return NOWHERE };
        let next = self.numbers.len() as u32;
        *self.numbers.entry(value.into_owned()).or_insert(next)
    }
}

fn add(counter: &mut Counter, domains: &[Domains], slot: u32, comes: bool) {
    let domain = match counter.over {
        None => slot,
        Some(over) => domains[over].of.get(slot as usize).copied().unwrap_or(NOWHERE),
    };
    if domain == NOWHERE {
        // Somewhere that is no domain: it is there all the same.
        let step = |n: u32| if comes { n + 1 } else { n.saturating_sub(1) };
        (counter.nowhere, counter.total) = (step(counter.nowhere), step(counter.total));
        return;
    }
    let at = domain as usize;
    if counter.counts.len() <= at {
        counter.counts.resize(at + 1, 0);
    }
    let count = &mut counter.counts[at];
    (*count, counter.total) = match comes {
        true => (*count + 1, counter.total + 1),
        false => (count.saturating_sub(1), counter.total.saturating_sub(1)),
    };
}
