//! What kinds of GPU work arrive: [`Mix`], learned as it comes, and what a node is worth to it.
//!
//! A GPU that is free and that nobody who usually comes could use is a fragment. [`Mix::loss`] is how much of a node's
//! free GPUs is lost to the usual asks, each weighted by how often it comes; an allocation goes where it makes that
//! grow least. This is the gradient of fragmentation of the FGD paper (Weng and others, USENIX ATC 2023), with three
//! differences:
//!
//! * the mix is learned: at most [`SHAPES`] kinds of ask are counted, the rarest gives way to one that is new and leaves
//!   it its count (Metwally's *space saving*), and all counts are halved at [`MEMORY`], so that the past fades;
//! * it looks ahead: besides what an ask cannot use at once, a quarter of what copies of it could not fill counts, as
//!   processor and memory run out. That shows what is going to be stranded before it is;
//! * GPUs that some can use only because of their model have a price, by how much of them those ask for
//!   ([`Mix::price`]).
//!
//! The gain is rounded to [`STEP`]: what differs by less is the same, and then the first node is taken, which keeps
//! whole nodes free for what is large. Integers alone, so that every machine decides alike.
//!
//! Rejected: weights by size instead of number (half a point less on the trace of `docs/benchmarks.md`), finer steps
//! (large asks are refused earlier), a finer step when the cluster is nearly full (no gain).

use super::need::{GpuNeed, WHOLE};
use std::collections::BTreeMap;

/// The most kinds of ask that are counted.
pub(crate) const SHAPES: usize = 256;
/// The sum of the counts at which all are halved.
pub(crate) const MEMORY: u64 = 1 << 14;
/// The share of what arrives, in percent, that counts as usual: the rare would cost time and add noise.
const USUAL: u64 = 95;
/// Differences below this are none, in thousandths of a GPU.
const STEP: i64 = 140;
/// One in so many of what copies cannot fill counts beside what one cannot use.
const AHEAD: i64 = 4;

/// A kind of GPU ask. `models` are ids of the fleet's table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) count: u16,
    pub(crate) share: u16,
    pub(crate) least: u64,
    pub(crate) models: Vec<u16>,
}

impl Shape {
    #[inline]
    pub(crate) fn suits(&self, unit: &Unit) -> bool {
        unit.usable
            && unit.memory >= self.least
            && (self.models.is_empty() || self.models.contains(&unit.model))
    }

    fn sum(&self) -> i64 {
        i64::from(self.count) * i64::from(self.share)
    }
}

/// A GPU of a node, or an instance of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Unit {
    pub(crate) model: u16,
    pub(crate) memory: u64,
    /// Those of the node that it reaches directly, as bits.
    pub(crate) links: u64,
    /// Whether it may be given to anybody.
    pub(crate) usable: bool,
}

/// What is free on a node: processor, memory, and thousandths of each GPU.
#[derive(Clone, Copy)]
pub(crate) struct Free<'a> {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
    pub(crate) units: &'a [Unit],
    pub(crate) free: &'a [u16],
}

impl Free<'_> {
    fn sum(&self) -> i64 {
        self.free.iter().map(|free| i64::from(*free)).sum()
    }

    /// What of it is lost to one kind of ask, in `1/AHEAD` thousandths of a GPU.
    fn lost(&self, shape: &Shape, sum: i64) -> i64 {
        // In one pass: what is too small for it, and how often it goes into the rest.
        let (mut small, mut times, mut whole) = (0i64, 0i64, 0i64);
        for (unit, free) in self.units.iter().zip(self.free) {
            let free = *free;
            if !shape.suits(unit) || free < shape.share {
                small += i64::from(free);
            } else {
                whole += 1;
                times += i64::from(free / shape.share.max(1));
            }
        }
        let count = i64::from(shape.count.max(1));
        if whole < count || self.cpu < shape.cpu || self.memory < shape.memory {
            return sum * (AHEAD + 1);
        }
        let mut fill = if count > 1 { times / count * shape.sum() } else { times * shape.sum() };
        for (free, ask) in [(self.cpu, shape.cpu), (self.memory, shape.memory)] {
            let sum = shape.sum().unsigned_abs();
            // Where the product is too large, there is more than anybody has.
            let most = free.saturating_mul(sum).checked_div(ask);
            fill = most.and_then(|most| i64::try_from(most).ok()).map_or(fill, |most| fill.min(most));
        }
        AHEAD * small + (sum - fill).max(0)
    }
}

/// What usually arrives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mix {
    counts: BTreeMap<Shape, u64>,
    total: u64,
    /// What is decided by: the usual shapes with their counts, as they were when it was made.
    usual: Vec<(Shape, i64)>,
    weight: i64,
    /// For each model, what using it costs others, in thousandths.
    prices: Vec<i64>,
    /// Arrivals, and at how many it is made anew.
    arrived: u64,
    due: u64,
}

impl Mix {
    /// Takes note of an arrival. True when enough has come for [`Mix::renew`].
    pub(crate) fn learn(&mut self, shape: Shape) -> bool {
        self.arrived += 1;
        self.total += 1;
        if let Some(count) = self.counts.get_mut(&shape) {
            *count += 1;
        } else {
            let mut count = 1;
            if self.counts.len() >= SHAPES {
                let rarest = self.counts.iter().min_by_key(|(_, count)| **count);
                if let Some((rarest, had)) = rarest.map(|(shape, count)| (shape.clone(), *count)) {
                    self.counts.remove(&rarest);
                    count += had;
                }
            }
            self.counts.insert(shape, count);
        }
        if self.total >= MEMORY {
            self.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
            self.total = self.counts.values().sum();
        }
        self.arrived > self.due
    }

    /// Decides by what has come until now; `capacity` is what the fleet has of each model, in thousandths.
    pub(crate) fn renew(&mut self, capacity: &[u64]) {
        self.due = self.arrived + self.total / 10 + 8;
        let mut all: Vec<(&Shape, u64)> = self.counts.iter().map(|(shape, count)| (shape, *count)).collect();
        // Stable: of equals the smaller shape is first.
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let (enough, mut had) = (self.total * USUAL, 0);
        let taken = all.iter().take_while(|(_, count)| {
            let more = had * 100 < enough;
            had += count;
            more
        });
        self.usual = taken
            .map(|(shape, count)| ((*shape).clone(), i64::try_from(*count).unwrap_or(i64::MAX)))
            .collect();
        self.weight = self.usual.iter().map(|(_, count)| count).sum::<i64>().max(1);
        self.prices = vec![0; capacity.len()];
        let all: u64 = capacity.iter().sum();
        let asked: i64 = self.usual.iter().map(|(shape, count)| count * shape.sum()).sum::<i64>().max(1);
        for (shape, count) in &self.usual {
            let of = |model: usize| shape.models.iter().any(|wanted| usize::from(*wanted) == model);
            let set: u64 = (0..capacity.len()).filter(|model| of(*model)).map(|model| capacity[model]).sum();
            if shape.models.is_empty() || set == 0 {
                continue;
            }
            let price = i128::from(count * shape.sum()) * i128::from(all) * 1000
                / (i128::from(set) * i128::from(asked));
            let price = i64::try_from(price).unwrap_or(i64::MAX).min(1_000_000);
            for model in (0..capacity.len()).filter(|model| of(*model)) {
                self.prices[model] += price;
            }
        }
    }

    /// How much of what is free is lost to the usual asks.
    pub(crate) fn loss(&self, free: &Free<'_>) -> i64 {
        let sum = free.sum();
        if sum == 0 { 0 } else { self.usual.iter().map(|(shape, count)| count * free.lost(shape, sum)).sum() }
    }

    /// What an allocation costs others on a node, in steps: by how much the loss grows from `before` to `after`, and
    /// half of the price of what it takes.
    pub(crate) fn cost(&self, before: i64, after: i64, model: Option<u16>, sum: u64) -> i64 {
        let grows = (after - before) / (AHEAD * self.weight.max(1));
        let price = model.and_then(|model| self.prices.get(usize::from(model))).copied().unwrap_or(0);
        let taken = i64::try_from(sum).unwrap_or(0).max(100);
        (grows + price * taken / 2000 + STEP / 2).div_euclid(STEP)
    }
}

/// Which units an ask gets, as bits, and the loss of the node afterwards; the one with the least. Those in `barred` are
/// given to nobody.
pub(crate) fn assign(
    mix: &Mix,
    need: &GpuNeed,
    shape: &Shape,
    node: &Free<'_>,
    barred: u64,
    scratch: &mut Vec<u16>,
) -> Option<(u64, i64)> {
    let fits =
        |at: &usize| node.free[*at] >= need.each() && shape.suits(&node.units[*at]) && barred >> at & 1 == 0;
    scratch.clear();
    scratch.extend_from_slice(node.free);
    let linked = |at: usize| {
        let whole = |other: &usize| node.free[*other] == WHOLE && node.units[at].links >> other & 1 == 1;
        (0..node.units.len()).filter(whole).count()
    };
    match need.count {
        0 => Some((0, mix.loss(node))),
        1 => {
            // Units of one kind that are equally free are equal, but for their links.
            let mut best: Option<(i64, u16, usize, usize)> = None;
            let mut seen: Vec<(u16, u16, u64, i64)> = Vec::with_capacity(8);
            for at in (0..node.units.len()).filter(fits) {
                let (unit, free) = (&node.units[at], node.free[at]);
                let known = seen
                    .iter()
                    .find(|(f, model, memory, _)| (*f, *model, *memory) == (free, unit.model, unit.memory));
                let loss = if let Some((.., loss)) = known {
                    *loss
                } else {
                    scratch[at] -= need.each();
                    let loss = mix.loss(&Free { free: scratch, ..*node });
                    scratch[at] = free;
                    seen.push((free, unit.model, unit.memory, loss));
                    loss
                };
                let found = (loss, free, linked(at), at);
                if best.is_none_or(|best| found < best) {
                    best = Some(found);
                }
            }
            best.map(|(loss, .., at)| (1 << at, loss))
        }
        count => {
            let usable: Vec<usize> = (0..node.units.len()).filter(fits).collect();
            let count = usize::from(count);
            if usable.len() < count {
                return None;
            }
            let links = |at: usize, set: u64| (node.units[at].links & set).count_ones();
            let grow = |start: usize| {
                let mut set = 1u64 << start;
                while (set.count_ones() as usize) < count {
                    let left = usable.iter().rev().filter(|at| set >> **at & 1 == 0);
                    let Some(next) = left.max_by_key(|at| links(**at, set)) else { break };
                    set |= 1 << next;
                }
                set
            };
            let all: u64 = usable.iter().map(|at| 1 << at).sum();
            let worth = |set: u64| {
                let of = |mask: u64| -> u32 {
                    usable.iter().filter(|at| set >> **at & 1 == 1).map(|at| links(*at, mask)).sum()
                };
                (of(set), std::cmp::Reverse(of(all & !set)))
            };
            let unlinked = usable.iter().all(|at| node.units[*at].links == 0);
            let set = if unlinked {
                grow(usable[0])
            } else {
                usable.iter().rev().map(|start| grow(*start)).max_by_key(|set| worth(*set))?
            };
            for at in usable.iter().filter(|at| set >> **at & 1 == 1) {
                scratch[*at] = 0;
            }
            Some((set, mix.loss(&Free { free: scratch, ..*node })))
        }
    }
}
