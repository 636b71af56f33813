//! How often nodes leave, by how long they have been there.

use lattice_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Half of what was counted is forgotten after so long, in milliseconds: six weeks.
const HALF_LIFE: f64 = 6.0 * 7.0 * 24.0 * 3_600_000.0;

/// What is left of what was counted at `then`.
pub(crate) fn faded(then: Timestamp, now: Timestamp) -> f32 {
    let passed = now.0.saturating_sub(then.0).max(0) as f64;
    (-passed / HALF_LIFE * std::f64::consts::LN_2).exp() as f32
}

/// Milliseconds of an hour.
const HOUR: f64 = 3_600_000.0;
/// The first class ends after this many hours; each next is as long as all before it.
const FIRST: f64 = 1.0 / 16.0;
/// Classes of age; the last is open, from 43 days on.
pub(crate) const CLASSES: usize = 16;

/// What was counted in one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Departures.
    pub(crate) left: f32,
    /// Hours that somebody was there.
    pub(crate) hours: f32,
}

/// Counts by age.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ages(pub(crate) Vec<Seen>);

impl Default for Ages {
    fn default() -> Self {
        Self(vec![Seen::default(); CLASSES])
    }
}

/// Where a class ends, in hours.
fn end(class: usize) -> f64 {
    match i32::try_from(class) {
        Ok(n) if class + 1 < CLASSES => FIRST * 2f64.powi(n),
        _ => f64::INFINITY,
    }
}

/// The parts of `from..to`, in milliseconds of age, that lie in each class: the class and hours.
pub(crate) fn parts(from: i64, to: i64) -> impl Iterator<Item = (usize, f64)> {
    let (from, to) = (from.max(0) as f64 / HOUR, to.max(0) as f64 / HOUR);
    (0..CLASSES).filter_map(move |class| {
        let begin = if class == 0 { 0.0 } else { end(class - 1) };
        let hours = to.min(end(class)) - from.max(begin);
        (hours > 0.0).then_some((class, hours))
    })
}

/// The class of an age in milliseconds.
pub(crate) fn class(age: i64) -> usize {
    let hours = age.max(0) as f64 / HOUR;
    (0..CLASSES).find(|class| hours < end(*class)).unwrap_or(CLASSES - 1)
}

impl Ages {
    pub(crate) fn add(&mut self, from: i64, to: i64, left: bool) {
        for (class, hours) in parts(from, to) {
            self.0[class].hours += hours as f32;
        }
        if left {
            self.0[class(to)].left += 1.0;
        }
    }

    pub(crate) fn fade(&mut self, factor: f32) {
        for seen in &mut self.0 {
            seen.left *= factor;
            seen.hours *= factor;
        }
    }
}

/// What was seen of all nodes together. Whoever is new is judged by it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Population {
    ages: Ages,
    /// The end of the last stretch.
    at: Option<Timestamp>,
}

impl Population {
    /// Takes in what was seen of one, which came at `began`.
    pub(crate) fn add(&mut self, began: Timestamp, from: Timestamp, to: Timestamp, left: bool) {
        if let Some(at) = self.at {
            self.ages.fade(faded(at, to));
        }
        self.at = self.at.max(Some(to));
        self.ages.add(from.0.saturating_sub(began.0), to.0.saturating_sub(began.0), left);
    }

    /// Departures per hour in a class of age. Before anything was seen, the hazard of a Weibull distribution of shape 0.5
    /// and scale 10 hours, between what the published fits say of office PCs and of a desktop grid: three of four stay
    /// for an hour, two of five for eight.
    pub(crate) fn rate(&self, class: usize) -> f64 {
        let begin = if class == 0 { 0.0 } else { end(class - 1) };
        let end = if class + 1 < CLASSES { end(class) } else { 2.0 * begin };
        let hazard = |age: f64| (age / 10.0).sqrt();
        let prior = (hazard(end) - hazard(begin)) / (end - begin);
        let seen = self.ages.0[class];
        (f64::from(seen.left) + 1.0) / (f64::from(seen.hours) + 1.0 / prior)
    }
}

/// How many departures everybody's rates weigh in a node's own.
const WEIGHT: f64 = 3.0;
/// How many departures it takes to believe that a node leaves more or less than others.
const BELIEF: f64 = 2.0;

/// Departures per hour of one node, by class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates(pub(crate) [f64; CLASSES]);

impl Rates {
    pub(crate) fn everybody(population: &Population) -> Self {
        Self(std::array::from_fn(|class| population.rate(class)))
    }

    pub(crate) fn of(own: &Ages, population: &Population) -> Self {
        let everybody = Self::everybody(population);
        let mut left = BELIEF;
        let mut expected = BELIEF;
        for (seen, rate) in own.0.iter().zip(everybody.0) {
            left += f64::from(seen.left);
            expected += f64::from(seen.hours) * rate;
        }
        let scale = left / expected;
        Self(std::array::from_fn(|class| {
            let seen = own.0[class];
            (f64::from(seen.left) + WEIGHT) / (f64::from(seen.hours) + WEIGHT / (scale * everybody.0[class]))
        }))
    }

    /// The chance that one of this age, in milliseconds, is there until that age.
    pub(crate) fn stays(&self, from: i64, to: i64) -> f64 {
        (-parts(from, to).map(|(class, hours)| hours * self.0[class]).sum::<f64>()).exp()
    }
}
