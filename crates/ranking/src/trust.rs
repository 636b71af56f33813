//! [`Trust`]: the share of trials that went well, with what is not known counted against it.

use lattice_model::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// How many trials it remembers. Half of what it knew is forgotten after 83 further ones.
const MEMORY: f64 = 120.0;
/// After so long without a trial half of what it knew is forgotten, good and bad alike.
const HALF_LIFE: Duration = Duration::from_secs(60 * 24 * 3600);
/// One-sided, 95 %.
const Z: f64 = 1.644_853_627;

/// The lower end of Wilson's score interval, one-sided with 95 % confidence: the share of `good` among `all` that can be
/// vouched for. 0 where nothing is known.
pub fn wilson(good: f64, all: f64) -> f64 {
    if all <= 0.0 {
        return 0.0;
    }
    let (share, z2) = ((good / all).clamp(0.0, 1.0), Z * Z);
    let middle = share + z2 / (2.0 * all);
    let spread = Z * (share * (1.0 - share) / all + z2 / (4.0 * all * all)).sqrt();
    ((middle - spread) / (1.0 + z2 / all)).clamp(0.0, 1.0)
}

/// Trials that went well and others, older ones counting for less.
///
/// A new one has as many bad trials as it can ever have, and no good one. Each trial makes what was before a little
/// smaller, so these dues go by being there. As every trial treats all in the same way, nobody with any past is ever
/// behind a newcomer to whom the same happens: beginning anew never pays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    good: f64,
    bad: f64,
    /// As of when.
    at: Timestamp,
}

impl Trust {
    /// Of somebody who is not known.
    pub const fn new(now: Timestamp) -> Self {
        Self { good: 0.0, bad: MEMORY, at: now }
    }

    /// Takes in a trial.
    pub fn trial(&mut self, good: bool, now: Timestamp) {
        *self = self.faded(now);
        let keep = 1.0 - 1.0 / MEMORY;
        (self.good, self.bad) = (self.good * keep, self.bad * keep);
        *(if good { &mut self.good } else { &mut self.bad }) += 1.0;
    }

    fn faded(&self, now: Timestamp) -> Self {
        let age = now.since(self.at).0 as f64 / HALF_LIFE.0 as f64;
        let left = (-age).exp2();
        Self { good: self.good * left, bad: self.bad * left, at: self.at.max(now) }
    }

    /// The share of good ones that can be vouched for, from 0 to 1.
    pub fn bound(&self, now: Timestamp) -> f64 {
        let Self { good, bad, at: _ } = self.faded(now);
        wilson(good, good + bad)
    }
}
