//! Who makes way: [`Fleet::make_way`].
//!
//! Only allocations of lower priority than the ask's may have to go. Of all nodes the one is taken where the highest
//! priority that goes is lowest; then where the fewest go; then where their priorities sum up to least; then the first.
//! Up to [`EXACT`] candidates of a node all sets are tried, so that no smaller one would have done; where there are
//! more, those that are not needed are spared one by one, the highest priority and the largest first, and every one
//! that goes is needed. Rules over failure domains have to hold while those who go are still counted.

use super::{
    class::{Class, Tags, Why},
    need::{GpuNeed, Need, Pull},
    state::{Fleet, Held},
};
use crate::filter::PortClaim;
use lattice_model::{AllocationId, NodeId};
use std::sync::Arc;

/// Up to so many candidates on a node all sets of them are tried.
const EXACT: usize = 10;

/// Who has to go, for an ask that could be placed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Where the ask could be placed.
    pub node: NodeId,
    /// Who has to go, lowest priority first.
    pub victims: Vec<AllocationId>,
}

impl Fleet {
    /// Who would have to go so that an ask finds a place; none where not even that would do. Nothing is changed: to
    /// carry it out, release the victims and [`Fleet::place`] the ask.
    pub fn make_way(&mut self, need: &Arc<Need>, tags: &Tags) -> Option<Eviction> {
        let at = self.class(need, tags, true);
        let (slot, _) = self.best(at)?;
        let class = self.classes[at].take()?;
        let victims = self.victims(&class, slot as usize);
        let machine = self.slots[slot as usize].machine.id();
        self.classes[at] = Some(class);
        let keys = |held: &u32| self.held[*held as usize].as_ref().map(|held| held.key);
        Some(Eviction { node: machine, victims: victims?.iter().filter_map(keys).collect() })
    }

    /// How cheaply a node could be freed, as a score.
    pub(crate) fn way_out(&mut self, class: &Class, node: usize) -> Result<i64, Why> {
        let victims = self.victims(class, node).ok_or(Why::Priority)?;
        let (most, count, sum) = self.price(&victims);
        Ok(-((most << 40) + (count.min(0xFFFF) << 24) + sum.min(0xFF_FFFF)))
    }

    /// The highest priority from 1 on, 0 where nobody goes; how many; the sum.
    fn price(&self, victims: &[u32]) -> (i64, i64, i64) {
        let priorities = victims
            .iter()
            .filter_map(|held| self.held[*held as usize].as_ref())
            .map(|held| i64::from(held.need.priority) + 32769);
        let (most, sum) =
            priorities.fold((0, 0), |(most, sum), priority| (most.max(priority), sum + priority));
        (most, victims.len() as i64, sum)
    }

    fn victims(&self, class: &Class, node: usize) -> Option<Vec<u32>> {
        let own = class.key.need.priority;
        let mut all: Vec<(&Held, u32)> = self.slots[node]
            .held
            .iter()
            .filter_map(|number| Some((self.held[*number as usize].as_ref()?, *number)))
            .filter(|(held, _)| held.need.priority < own)
            .collect();
        all.sort_by_key(|(held, _)| (held.need.priority, held.key));
        if self.would_fit(class, node, &[]) {
            return Some(Vec::new());
        }
        // The lowest priority up to which all going would do.
        let mut end = 0;
        loop {
            let priority = all.get(end)?.0.need.priority;
            end = all.iter().take_while(|(held, _)| held.need.priority <= priority).count();
            if self.would_fit(class, node, &all[..end]) {
                break;
            }
        }
        let all = &all[..end];
        let chosen: Vec<(&Held, u32)> = if all.len() <= EXACT {
            self.fewest(class, node, all)?
        } else {
            let mut left = all.to_vec();
            let mut order: Vec<u32> = all.iter().map(|(_, number)| *number).collect();
            order.reverse();
            let size = |held: &Held| (held.need.room.cpu, held.need.room.memory);
            order.sort_by_key(|number| {
                let held = all.iter().find(|(_, had)| had == number).map(|(held, _)| *held);
                std::cmp::Reverse(held.map(|held| (held.need.priority, size(held))))
            });
            for spared in order {
                let without: Vec<_> = left.iter().filter(|(_, number)| *number != spared).copied().collect();
                if self.would_fit(class, node, &without) {
                    left = without;
                }
            }
            left
        };
        Some(chosen.into_iter().map(|(_, number)| number).collect())
    }

    /// The smallest set, of equals that with the lowest priorities.
    fn fewest<'h>(
        &self,
        class: &Class,
        node: usize,
        all: &[(&'h Held, u32)],
    ) -> Option<Vec<(&'h Held, u32)>> {
        let mut sets: Vec<u32> = (1..1u32 << all.len()).collect();
        let members = |set: u32| (0..all.len()).filter(move |at| set >> at & 1 == 1);
        let sum = |set: u32| members(set).map(|at| i64::from(all[at].0.need.priority)).sum::<i64>();
        sets.sort_by_key(|set| (set.count_ones(), sum(*set), *set));
        sets.into_iter()
            .map(|set| members(set).map(|at| all[at]).collect::<Vec<_>>())
            .find(|chosen| self.would_fit(class, node, chosen))
    }

    /// Whether an ask would fit on a node without these.
    fn would_fit(&self, class: &Class, node: usize, gone: &[(&Held, u32)]) -> bool {
        let (slot, need) = (&self.slots[node], &*class.key.need);
        let used = gone.iter().fold(slot.used, |used, (held, _)| used.less(&held.need.room));
        if slot.machine.capacity.less(&used).lacks(&need.room).is_some() {
            return false;
        }
        if !need.ports.is_empty() {
            let mut ports = slot.ports.clone();
            for port in gone.iter().flat_map(|(held, _)| &held.need.ports) {
                if let Some(at) = ports.iter().position(|had: &PortClaim| had == port) {
                    ports.swap_remove(at);
                }
            }
            if need.ports.iter().any(|port| ports.iter().any(|taken| taken.collides(port))) {
                return false;
            }
        }
        if !self.gpus_would_do(class, node, gone) {
            return false;
        }
        let counted = |counter: usize| {
            let (tag, over) = self.counted(counter);
            let wanted =
                class.crowd == Some(counter) || class.near_node.iter().any(|(at, ..)| *at == counter);
            let has = |held: &Held| match wanted {
                true => held.tags.iter().any(|had| **had == *tag),
                false => rejects(&held.need, tag),
            };
            if over.is_some() { 0 } else { gone.iter().filter(|(held, _)| has(held)).count() as u32 }
        };
        self.neighbours(class, node, &counted).is_ok()
    }

    fn gpus_would_do(&self, class: &Class, node: usize, gone: &[(&Held, u32)]) -> bool {
        let (Some(ask), Some(shape)) = (&class.key.need.gpus, &class.shape) else { return true };
        let slot = &self.slots[node];
        let mut used = slot.units_used.clone();
        for (held, _) in gone {
            let each = u32::from(held.need.gpus.as_ref().map_or(0, GpuNeed::each));
            for at in super::machine::bits(held.units) {
                if let Some(used) = used.get_mut(at) {
                    *used = used.saturating_sub(each);
                }
            }
        }
        let left = |(at, used): (usize, &u32)| u32::from(slot.whole(at)).saturating_sub(*used) as u16;
        let free: Vec<u16> = used.iter().enumerate().map(left).collect();
        slot.could(ask, shape, &free)
    }
}

fn rejects(need: &Need, tag: &str) -> bool {
    need.near.iter().any(|near| near.over.is_none() && near.pull == Pull::MustNot && near.tag == tag)
}
