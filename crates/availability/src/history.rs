//! What was seen of one node.

use crate::{
    ages::{Ages, Population, Rates, faded},
    outlook::{Outlook, PRIOR, VIEWS, Views},
    week::{DAY, WEEK, Zone},
};
use lattice_model::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// How well the four did is forgotten sooner: two weeks.
const TRUST_HALF_LIFE: f64 = 2.0 * 7.0 * 24.0 * 3_600_000.0;
/// What a foretelling costs at most, in nats.
const WORST: f64 = 6.0;

/// How often a node was there in a slot, and left in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub(crate) struct Visits {
    pub(crate) there: f32,
    pub(crate) left: f32,
}

// Kept in thousandths: one history has some 400 of them, and is written down twice an hour.
impl From<Visits> for (u32, u32) {
    fn from(visits: Visits) -> Self {
        ((visits.there * 1000.0).round() as u32, (visits.left * 1000.0).round() as u32)
    }
}

impl From<(u32, u32)> for Visits {
    fn from((there, left): (u32, u32)) -> Self {
        Self { there: there as f32 / 1000.0, left: left.min(there) as f32 / 1000.0 }
    }
}

/// A time that a node was there without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// When it came.
    pub began: Timestamp,
    /// From when on it was not told yet; [`Self::began`] or later.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// Whether it left then; otherwise it is still there.
    pub left: bool,
}

/// What was seen of one node, in some 3 KiB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    ages: Ages,
    day: Vec<Visits>,
    week: Vec<Visits>,
    /// How well each of the four foretold, in nats, the best is 0.
    trust: [f32; VIEWS],
    /// The end of the last stretch.
    at: Option<Timestamp>,
    zone: Zone,
}

impl History {
    /// Of a node that nothing is known of.
    pub fn new(zone: Zone) -> Self {
        Self {
            ages: Ages::default(),
            day: vec![Visits::default(); DAY],
            week: vec![Visits::default(); WEEK],
            trust: [0.0; VIEWS],
            at: None,
            zone,
        }
    }

    /// Takes in that it was there. A long stretch may be told in parts, in order, each from where the last ended; what
    /// was told before, or ends before it begins, is passed over.
    pub fn observe(&mut self, population: &mut Population, stretch: Stretch) {
        let from = stretch.from.max(stretch.began).max(self.at.unwrap_or(stretch.from));
        if stretch.to < from || (stretch.to == from && !stretch.left) {
            return;
        }
        self.fade(from);
        let rates = (Rates::everybody(population), Rates::of(&self.ages, population));
        let mut at = from;
        loop {
            let end = self.zone.slot_end(at);
            let leaves = stretch.left && stretch.to < end;
            let until = end.min(stretch.to);
            // A part of a slot whose end is not known yet says nothing about it.
            if leaves || until == end {
                self.trial(&rates, stretch.began, at, end, leaves);
            }
            at = until;
            if at >= stretch.to {
                break;
            }
        }
        let age = |at: Timestamp| at.0.saturating_sub(stretch.began.0);
        self.ages.add(age(from), age(stretch.to), stretch.left);
        population.add(stretch.began, from, stretch.to, stretch.left);
        self.at = Some(stretch.to);
    }

    /// One slot, from `at` to its end: who foretold it, and what came.
    fn trial(&mut self, rates: &(Rates, Rates), began: Timestamp, at: Timestamp, end: Timestamp, left: bool) {
        let foretold = Views { history: self, everybody: &rates.0, own: &rates.1 }.stay(began, at, end);
        for (trust, stays) in self.trust.iter_mut().zip(foretold) {
            let chance = if left { 1.0 - stays } else { stays };
            *trust += chance.max(f64::MIN_POSITIVE).ln().max(-WORST) as f32;
        }
        let best = self.trust.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for trust in &mut self.trust {
            *trust -= best;
        }
        let slot = self.zone.slot(at);
        for visits in [&mut self.day[slot % DAY], &mut self.week[slot]] {
            visits.there += 1.0;
            visits.left += f32::from(u8::from(left));
        }
    }

    fn fade(&mut self, now: Timestamp) {
        let Some(last) = self.at else { return };
        let passed = now.0.saturating_sub(last.0).max(0) as f64;
        let factor = faded(last, now);
        self.ages.fade(factor);
        for visits in self.day.iter_mut().chain(&mut self.week) {
            visits.there *= factor;
            visits.left *= factor;
        }
        let factor = (-passed / TRUST_HALF_LIFE * std::f64::consts::LN_2).exp() as f32;
        for trust in &mut self.trust {
            *trust *= factor;
        }
    }

    /// What to expect of it now, being there since `began`.
    pub fn outlook(&self, population: &Population, began: Timestamp, now: Timestamp) -> Outlook<'_> {
        Outlook {
            history: self,
            everybody: Rates::everybody(population),
            own: Rates::of(&self.ages, population),
            began,
            now,
            until: None,
        }
    }

    /// How often it left, as far as that is remembered.
    pub fn departures(&self) -> f32 {
        self.ages.0.iter().map(|seen| seen.left).sum()
    }

    /// For how long it was seen, as far as that is remembered.
    pub fn seen(&self) -> Duration {
        let hours: f32 = self.ages.0.iter().map(|seen| seen.hours).sum();
        Duration((f64::from(hours) * 3_600_000.0) as u64)
    }

    /// The visits of a slot: of its day, and of its week.
    pub(crate) fn visits(&self, slot: usize) -> (Visits, Visits) {
        (self.day[slot % DAY], self.week[slot])
    }

    /// What the four are worth, together 1.
    pub(crate) fn weights(&self) -> [f64; VIEWS] {
        let raw: [f64; VIEWS] = std::array::from_fn(|view| PRIOR[view] * f64::from(self.trust[view]).exp());
        let sum: f64 = raw.iter().sum();
        raw.map(|one| one / sum)
    }

    pub(crate) fn zone(&self) -> Zone {
        self.zone
    }

    /// How much two nodes leave at the same times of the day, from 0 (never) to 1 (always). Replicas of one service are
    /// better apart where this is large.
    pub fn leaves_with(&self, other: &Self) -> f64 {
        let shares = |history: &Self| -> Vec<f64> {
            // An hour and a half is the same time.
            let left = |n: usize| {
                (0..3).map(|by| f64::from(history.day[(n + DAY + by - 1) % DAY].left)).sum::<f64>()
            };
            // Who was never seen to leave has no time.
            let total: f64 = (0..DAY).map(left).sum();
            (0..DAY).map(|n| (left(n) + 0.5) / (total + 0.5 * DAY as f64)).collect()
        };
        let (own, its) = (shares(self), shares(other));
        // An even distribution is shared with everybody: it counts for nothing.
        let even = 1.0 / DAY as f64;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - even) * (b - even)).sum::<f64>();
        let norm = (dot(&own, &own) * dot(&its, &its)).sqrt();
        let habit = |shares: &[f64]| shares.iter().map(|share| (share - even).max(0.0)).sum::<f64>();
        if norm <= f64::EPSILON {
            0.0
        } else {
            (dot(&own, &its) / norm).clamp(0.0, 1.0) * habit(&own).min(habit(&its))
        }
    }
}
