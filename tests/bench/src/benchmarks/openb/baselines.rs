//! What others do, to show that the replay is theirs: the published means are in `docs/benchmarks.md`.
//!
//! No part of the product. FGD is told the mix beforehand, as in its paper (USENIX ATC 2023): the kinds of task that
//! make up 95 % of the trace, and scores that are rounded to whole numbers after a sigmoid.

use super::{
    replay::Decides,
    trace::{Dice, Trace},
};
use std::collections::BTreeMap;

/// Whose rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// Any node that fits, any GPU that fits.
    Random,
    /// The first node that fits, its tightest GPU.
    FirstFit,
    /// The node with the least left of processor and GPUs, its tightest GPU.
    BestFit,
    /// Fragmentation gradient descent, told the mix.
    Fgd,
}

#[derive(Clone, Copy, Debug)]
struct State {
    cpu: u64,
    memory: u64,
    /// As bits of the task's allowed models.
    model: u64,
    gpus: usize,
    free: [u16; 8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ask {
    cpu: u64,
    memory: u64,
    gpus: u16,
    milli: u16,
    models: u64,
}

impl State {
    fn units(&self) -> &[u16] {
        &self.free[..self.gpus]
    }

    fn fits(&self, ask: &Ask) -> bool {
        let fitting = self.units().iter().filter(|free| **free >= ask.milli).count();
        ask.cpu <= self.cpu
            && ask.memory <= self.memory
            && (ask.models == 0 || ask.models & self.model != 0)
            && fitting >= usize::from(ask.gpus)
    }

    fn sum(&self) -> i64 {
        self.units().iter().map(|free| i64::from(*free)).sum()
    }

    /// All ways of placing it here that differ.
    fn ways(&self, ask: &Ask) -> Vec<Self> {
        let mut left = Self { cpu: self.cpu - ask.cpu, memory: self.memory - ask.memory, ..*self };
        match ask.gpus {
            0 => vec![left],
            1 => {
                let mut seen = Vec::new();
                let mut ways = Vec::new();
                for at in (0..self.gpus).filter(|at| self.free[*at] >= ask.milli) {
                    if !seen.contains(&self.free[at]) {
                        seen.push(self.free[at]);
                        let mut way = left;
                        way.free[at] -= ask.milli;
                        ways.push(way);
                    }
                }
                ways
            }
            n => {
                let whole: Vec<usize> = (0..self.gpus).filter(|at| self.free[*at] == 1000).collect();
                whole.into_iter().take(n.into()).for_each(|at| left.free[at] = 0);
                vec![left]
            }
        }
    }

    /// In its tightest GPU.
    fn tight(&self, ask: &Ask) -> Option<Self> {
        let tightest = |way: &Self| {
            let at = (0..self.gpus).find(|at| way.free[*at] != self.free[*at]);
            at.map(|at| self.free[at])
        };
        self.ways(ask).into_iter().min_by_key(tightest)
    }

    /// What of it one kind of task cannot use.
    fn fragment(&self, ask: &Ask) -> i64 {
        if ask.gpus == 0 || !self.fits(ask) {
            return self.sum();
        }
        self.units().iter().filter(|free| **free < ask.milli).map(|free| i64::from(*free)).sum()
    }
}

/// The nodes under one of the rules.
pub(crate) struct Yard {
    baseline: Baseline,
    states: Vec<State>,
    changed: Vec<u64>,
    asks: Vec<Ask>,
    /// What was found for each kind of ask, with when: the score of each node.
    known: BTreeMap<Ask, Vec<(u64, Option<i64>)>>,
    mix: Vec<(Ask, f64)>,
    dice: Dice,
}

impl Yard {
    pub(crate) fn new(trace: &Trace, hosts: &[usize], baseline: Baseline, seed: u64) -> Self {
        let mut models: Vec<&str> = Vec::new();
        let mut number = |model| {
            let at = models.iter().position(|known| *known == model).unwrap_or_else(|| {
                models.push(model);
                models.len() - 1
            });
            1u64 << at.min(63)
        };
        let states: Vec<State> = hosts
            .iter()
            .map(|at| {
                let host = &trace.hosts[*at];
                let mut free = [0; 8];
                free[..host.gpus.min(8)].fill(1000);
                let (cpu, memory, model) = (host.cpu, host.memory, number(&host.model));
                State { cpu, memory, model, gpus: host.gpus.min(8), free }
            })
            .collect();
        let asks: Vec<Ask> = trace
            .tasks
            .iter()
            .map(|task| Ask {
                cpu: task.cpu,
                memory: task.memory,
                gpus: task.gpus,
                milli: match task.gpus {
                    0 => 0,
                    1 => task.milli,
                    _ => 1000,
                },
                models: task.models.iter().map(|model| number(model)).fold(0, |all, one| all | one),
            })
            .collect();
        let mut counts: BTreeMap<Ask, usize> = BTreeMap::new();
        asks.iter().for_each(|ask| *counts.entry(*ask).or_default() += 1);
        let mut counts: Vec<(Ask, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut had = 0;
        counts.retain(|(_, count)| {
            let usual = had * 100 < asks.len() * 95;
            had += count;
            usual
        });
        let all: usize = counts.iter().map(|(_, count)| count).sum();
        let mix = counts.into_iter().map(|(ask, count)| (ask, count as f64 / all as f64)).collect();
        let changed = vec![1; states.len()];
        Self { baseline, states, changed, asks, known: BTreeMap::new(), mix, dice: Dice(seed ^ 0xD1CE) }
    }

    fn fragments(&self, state: &State) -> f64 {
        self.mix.iter().map(|(ask, share)| share * state.fragment(ask) as f64).sum()
    }

    /// How good a node is, and how it looks then.
    fn judge(&self, at: usize, ask: &Ask) -> Option<(i64, State)> {
        let state = &self.states[at];
        if !state.fits(ask) {
            return None;
        }
        match self.baseline {
            Baseline::Random | Baseline::FirstFit => state.tight(ask).map(|way| (0, way)),
            Baseline::BestFit => {
                let way = state.tight(ask)?;
                // In shares of the largest node.
                Some((-(way.cpu as i64 * 1000 / 128 + way.sum() * 125), way))
            }
            Baseline::Fgd => {
                let before = self.fragments(state);
                let rated = state.ways(ask).into_iter().map(|way| {
                    let grows = self.fragments(&way) - before;
                    ((100.0 / (1.0 + (grows / 1000.0).exp())) as i64, way)
                });
                rated.fold(None, |best: Option<(i64, State)>, found| match best {
                    Some(best) if best.0 >= found.0 => Some(best),
                    _ => Some(found),
                })
            }
        }
    }
}

impl Decides for Yard {
    fn place(&mut self, task: usize) -> bool {
        let ask = self.asks[task];
        if self.baseline == Baseline::Random {
            let fitting: Vec<usize> =
                (0..self.states.len()).filter(|at| self.states[*at].fits(&ask)).collect();
            if fitting.is_empty() {
                return false;
            }
            let at = fitting[self.dice.below(fitting.len())];
            let ways = self.states[at].ways(&ask);
            self.states[at] = ways[self.dice.below(ways.len())];
            return true;
        }
        let mut known = self.known.remove(&ask).unwrap_or_else(|| vec![(0, None); self.states.len()]);
        for (at, entry) in known.iter_mut().enumerate() {
            if entry.0 != self.changed[at] {
                *entry = (self.changed[at], self.judge(at, &ask).map(|(score, _)| score));
            }
        }
        let scores = known.iter().enumerate().filter_map(|(at, (_, score))| Some((at, (*score)?)));
        let best = scores.fold(None, |best: Option<(usize, i64)>, found| match best {
            Some(best) if best.1 >= found.1 => Some(best),
            _ => Some(found),
        });
        self.known.insert(ask, known);
        let Some((at, _)) = best else { return false };
        let Some((_, way)) = self.judge(at, &ask) else { return false };
        self.states[at] = way;
        self.changed[at] += 1;
        true
    }
}
