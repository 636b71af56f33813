//! What is to be expected of a node.

use crate::{
    ages::Rates,
    history::{History, Visits},
};
use lattice_model::{Duration, Timestamp};

/// Nobody foretells further than this, in milliseconds: what comes after counts as the last half hour of it.
const HORIZON: i64 = 14 * 24 * 3_600_000;
/// How many visits of a slot the coarser view weighs.
const DAY_WEIGHT: f64 = 2.0;
const WEEK_WEIGHT: f64 = 2.0;
/// Nobody is sure.
const SURE: f64 = 0.9999;

/// How many ways of looking at a node there are.
pub(crate) const VIEWS: usize = 4;
/// What each is worth before it has foretold anything.
pub(crate) const PRIOR: [f64; VIEWS] = [0.2, 0.5, 0.2, 0.1];

/// The four ways of looking at a node.
pub(crate) struct Views<'a> {
    pub(crate) history: &'a History,
    pub(crate) everybody: &'a Rates,
    pub(crate) own: &'a Rates,
}

impl Views<'_> {
    /// The chances that one which came at `began` and is there at `at` is there until `end`, in the same slot.
    pub(crate) fn stay(&self, began: Timestamp, at: Timestamp, end: Timestamp) -> [f64; VIEWS] {
        let age = |at: Timestamp| at.0.saturating_sub(began.0);
        let own = self.own.stays(age(at), age(end));
        let (day, week) = self.history.visits(self.history.zone().slot(at));
        let day = blend(day, DAY_WEIGHT, own);
        let week = blend(week, WEEK_WEIGHT, day);
        [self.everybody.stays(age(at), age(end)), own, day, week].map(|stays| stays.clamp(1.0 - SURE, SURE))
    }
}

/// How often it stayed, with a prior.
fn blend(visits: Visits, weight: f64, prior: f64) -> f64 {
    let stayed = f64::from(visits.there - visits.left);
    (stayed + weight * prior) / (f64::from(visits.there) + weight)
}

/// What is to be expected of a node that is there.
#[derive(Clone, Debug)]
pub struct Outlook<'a> {
    pub(crate) history: &'a History,
    pub(crate) everybody: Rates,
    pub(crate) own: Rates,
    pub(crate) began: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) until: Option<Timestamp>,
}

impl Outlook<'_> {
    /// It has said that it leaves then: its owner's hours end, or it is about to sleep.
    #[must_use]
    pub fn leaving(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }

    /// When it came.
    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// For how long it has been there.
    pub fn age(&self) -> Duration {
        self.now.since(self.began)
    }

    /// The chance, from 0 to 1, that it is there for all of the next `time`.
    pub fn stays(&self, time: Duration) -> f64 {
        let time = i64::try_from(time.0).unwrap_or(i64::MAX);
        if self.until.is_some_and(|until| self.now.0.saturating_add(time) > until.0) {
            return 0.0;
        }
        let end = Timestamp(self.now.0.saturating_add(time.min(HORIZON)));
        let views = Views { history: self.history, everybody: &self.everybody, own: &self.own };
        let mut stays = [1.0; VIEWS];
        let mut at = self.now;
        while at < end {
            let slot_end = self.history.zone().slot_end(at);
            let until = slot_end.min(end);
            let whole = views.stay(self.began, at, slot_end);
            let share = (until.0 - at.0) as f64 / (slot_end.0 - at.0) as f64;
            for (all, one) in stays.iter_mut().zip(whole) {
                *all *= if share < 1.0 { one.powf(share) } else { one };
            }
            at = until;
        }
        self.history.weights().iter().zip(stays).map(|(weight, stays)| weight * stays).sum()
    }
}
