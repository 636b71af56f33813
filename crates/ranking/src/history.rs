//! [`History`]: what is seen of a node, hour by hour and day by day.
//!
//! An hour (of the clock, in UTC) is one trial. It is *promised* where the node was there for half of it, and *broken*
//! where the node was missing without a word for more than [`GRACE`] of it. Work makes a second trial of an hour: it ran
//! there for some minutes, and it failed where the node vanished with it, or its engine did not answer.
//!
//! What is announced breaks nothing: the owner's hours, a pause, sleep, a shutdown.

use crate::{Badge, Earned, Trust};
use lattice_model::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// So much of an hour a node may be missing: a link breaks, an agent is restarted.
pub const GRACE: Duration = Duration::from_secs(120);
/// So much of an hour a node is there when it keeps it.
const HALF: Duration = Duration::from_secs(1800);
/// So long work ran in an hour that counts for it.
const WORKED: Duration = Duration::from_secs(600);
/// What lies further apart than this nobody saw.
const BLIND: Duration = Duration::from_secs(300);
/// The end of its hours counts when a node has told it so long before: not when it was made up on the way out.
const TOLD_BEFORE: Duration = Duration::from_secs(3600);
/// Whoever vanished so long ago promises nothing any more.
const PROMISED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Hours that a day needs to be kept.
const DAY_NEEDS: u16 = 3;

const HOUR: i64 = 3_600_000;

/// What is seen of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is there.
    There {
        /// Whether work runs on it.
        working: bool,
        /// Whether it fails that work: its engine does not answer.
        failing: bool,
        /// When its owner's hours end, where it told that.
        until: Option<Timestamp>,
    },
    /// It is away or stands still, as it said.
    Excused,
    /// It is away without a word.
    Missing,
    /// Nobody can tell.
    Unknown,
}

/// What was seen of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When it was seen for the first time.
    pub(crate) first: Timestamp,
    /// Of promised hours.
    pub(crate) promises: Trust,
    /// Of promised hours, and of hours of work besides.
    pub(crate) work: Trust,
    /// Of all time, for people.
    pub(crate) tally: Tally,
    hour: Hour,
    day: Day,
    /// Days kept in a row.
    pub(crate) streak: u32,
    /// The most of them ever.
    pub(crate) best: u32,
    /// Since when it is missing.
    missing: Option<Missing>,
    /// When its owner's hours end, and since when that is known.
    told: Option<(Timestamp, Timestamp)>,
    /// It was missing for a day or more, and has not made that good yet.
    pub(crate) lapsed: bool,
    pub(crate) badges: Vec<Earned>,
    /// When an answer of it was made up, and how many trials it had then: those count no more.
    #[serde(default)]
    caught: Option<(Timestamp, u64)>,
    #[serde(skip)]
    last: Option<(Sight, Timestamp)>,
}

/// Counts that never fade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) kept: u64,
    pub(crate) broken: u64,
    pub(crate) worked: u64,
    pub(crate) failed: u64,
    pub(crate) days: u32,
}

/// The hour that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Hour {
    /// Which, since 1970.
    n: i64,
    there: Duration,
    missing: Duration,
    worked: Duration,
    failing: Duration,
    /// It vanished with work.
    failed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    n: i64,
    kept: u16,
    broken: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Missing {
    since: Timestamp,
    lasted: Duration,
    /// Work ran there when it vanished.
    working: bool,
}

impl History {
    /// Of a node that is seen for the first time.
    pub fn new(now: Timestamp) -> Self {
        let n = now.0.div_euclid(HOUR);
        Self {
            first: now,
            promises: Trust::new(now),
            work: Trust::new(now),
            tally: Tally::default(),
            hour: Hour { n, ..Hour::default() },
            day: Day { n: n.div_euclid(24), ..Day::default() },
            streak: 0,
            best: 0,
            missing: None,
            told: None,
            lapsed: false,
            badges: Vec::new(),
            caught: None,
            last: None,
        }
    }

    /// Takes in what is seen now; what was seen last held until then. Returns whether that is worth writing down, a few
    /// times in an hour at the most. Time that runs backwards is no time.
    pub fn see(&mut self, sight: Sight, now: Timestamp) -> bool {
        let (before, since) = self.last.unwrap_or((Sight::Unknown, now));
        let now = now.max(since);
        self.last = Some((sight, now));
        let mut changed = false;
        let seen = if now.since(since) > BLIND { Sight::Unknown } else { before };
        let mut from = since;
        while from < now {
            changed |= self.turn(from);
            let end = Timestamp((from.0.div_euclid(HOUR) + 1) * HOUR).min(now);
            // What nobody saw is as long as it likes, and is skipped.
            let end = if seen == Sight::Unknown { now } else { end };
            changed |= self.pass(seen, from, end);
            from = end;
        }
        changed |= self.turn(now);
        match sight {
            Sight::Missing => {
                let working = matches!(seen, Sight::There { working: true, .. });
                self.missing.get_or_insert(Missing { since: now, lasted: Duration(0), working });
            }
            Sight::There { until, .. } => {
                self.told = until.map(|until| match self.told {
                    Some((known, since)) if known == until => (known, since),
                    _ => (until, now),
                });
                changed |= self.missing.take().is_some_and(|missing| missing.lasted > GRACE);
            }
            Sight::Excused => changed |= self.missing.take().is_some_and(|missing| missing.lasted > GRACE),
            Sight::Unknown => {}
        }
        changed
    }

    /// An answer to a measurement was made up: it is a newcomer again, once for each. Returns whether that is new.
    pub fn catch(&mut self, at: Timestamp) -> bool {
        if self.caught.is_some_and(|(known, _)| known >= at) {
            return false;
        }
        self.caught = Some((at, self.tally.kept + self.tally.broken));
        (self.promises, self.work, self.streak) = (Trust::new(at), Trust::new(at), 0);
        true
    }

    /// Goes on to the hour of this instant.
    fn turn(&mut self, at: Timestamp) -> bool {
        let n = at.0.div_euclid(HOUR);
        if n <= self.hour.n {
            return false;
        }
        let hour = std::mem::replace(&mut self.hour, Hour { n, ..Hour::default() });
        let end = Timestamp((hour.n + 1) * HOUR);
        let changed = self.close(hour, end);
        let day = n.div_euclid(24);
        if day > self.day.n {
            let closed = std::mem::replace(&mut self.day, Day { n: day, ..Day::default() });
            return self.close_day(closed, Timestamp((closed.n + 1) * 24 * HOUR)) || changed;
        }
        changed
    }

    fn close(&mut self, hour: Hour, end: Timestamp) -> bool {
        let broken = hour.missing > GRACE;
        let promised = broken || hour.there >= HALF;
        if promised {
            self.promises.trial(!broken, end);
            self.work.trial(!broken, end);
            self.tally.kept += u64::from(!broken);
            self.tally.broken += u64::from(broken);
            self.day.kept = self.day.kept.saturating_add(u16::from(!broken));
            self.day.broken = self.day.broken.saturating_add(u16::from(broken));
        }
        let failed = hour.failed || hour.failing > GRACE;
        let worked = failed || hour.worked >= WORKED;
        if worked {
            self.work.trial(!failed, end);
            self.tally.worked += u64::from(!failed);
            self.tally.failed += u64::from(failed);
        }
        promised || worked
    }

    fn close_day(&mut self, day: Day, end: Timestamp) -> bool {
        if day.broken > 0 {
            self.streak = 0;
        } else if day.kept >= DAY_NEEDS {
            self.streak = self.streak.saturating_add(1);
            self.tally.days = self.tally.days.saturating_add(1);
            self.best = self.best.max(self.streak);
        }
        self.earn(end);
        day.kept > 0 || day.broken > 0
    }

    fn earn(&mut self, at: Timestamp) {
        for badge in Badge::ALL {
            if badge.is_earned(self, at) && !self.badges.iter().any(|earned| earned.badge == badge) {
                self.badges.push(Earned { badge, at });
            }
        }
        if self.streak >= Badge::MADE_GOOD {
            self.lapsed = false;
        }
    }

    /// A while within one hour.
    fn pass(&mut self, seen: Sight, from: Timestamp, to: Timestamp) -> bool {
        let span = to.since(from);
        let add = |sum: &mut Duration| sum.0 += span.0;
        match seen {
            Sight::There { working, failing, .. } => {
                add(&mut self.hour.there);
                if failing && working {
                    add(&mut self.hour.failing);
                } else if working {
                    add(&mut self.hour.worked);
                }
                false
            }
            Sight::Missing => {
                if !self.is_promised(from) {
                    return false;
                }
                let before = self.hour.missing;
                add(&mut self.hour.missing);
                if let Some(missing) = &mut self.missing {
                    add(&mut missing.lasted);
                    self.lapsed |= missing.lasted >= Duration::from_secs(24 * 3600);
                    if missing.working && missing.lasted > GRACE {
                        self.hour.failed = true;
                        missing.working = false;
                    }
                }
                // At once, so that the server's end does not make it undone.
                before <= GRACE && self.hour.missing > GRACE
            }
            Sight::Excused | Sight::Unknown => false,
        }
    }

    /// Whether somebody who is missing promised to be there.
    fn is_promised(&self, at: Timestamp) -> bool {
        let Some(missing) = self.missing else { return true };
        let over = |(until, since): (Timestamp, Timestamp)| at >= until && until.since(since) >= TOLD_BEFORE;
        at.since(missing.since) < PROMISED && !self.told.is_some_and(over)
    }

    /// When it was seen for the first time.
    pub const fn first_seen(&self) -> Timestamp {
        self.first
    }

    /// How many promised hours it kept, of all time.
    pub const fn kept(&self) -> u64 {
        self.tally.kept
    }

    /// How many it broke.
    pub const fn broken(&self) -> u64 {
        self.tally.broken
    }

    /// In how many hours work ran there without its fault.
    pub const fn worked(&self) -> u64 {
        self.tally.worked
    }

    /// In how many it failed its work.
    pub const fn failed(&self) -> u64 {
        self.tally.failed
    }

    /// Days kept in a row.
    pub const fn streak(&self) -> u32 {
        self.streak
    }

    /// The most days that it ever kept in a row.
    pub const fn best_streak(&self) -> u32 {
        self.best
    }

    /// What it has earned, the first one first.
    pub fn badges(&self) -> &[Earned] {
        &self.badges
    }

    /// How many promised hours it was seen, kept or broken, since it began or was caught.
    pub fn trials(&self) -> u64 {
        (self.tally.kept + self.tally.broken).saturating_sub(self.caught.map_or(0, |(_, before)| before))
    }
}
