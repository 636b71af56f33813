//! A node as somebody sees it who looks now and then.

use crate::{History, Outlook, Population, Stretch, Zone};
use lattice_model::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// Who is back so soon was not away: a link breaks, an agent is restarted.
const BRIEF: Duration = Duration::from_secs(5 * 60);
/// What came back after so long was there meanwhile, when nobody saw it leave: whoever looks was away himself.
const BLIND: Duration = Duration::from_secs(3600);

/// What is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It can work, and could since then.
    There {
        /// Since when.
        since: Timestamp,
    },
    /// It cannot.
    Away {
        /// Since when.
        since: Timestamp,
        /// Whether it said so before: then it is not back soon.
        announced: bool,
    },
    /// Nobody can tell.
    Unknown,
}

/// The history of a node, and where it stands in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Track {
    history: History,
    /// When the stretch began that it is in.
    began: Option<Timestamp>,
    /// Since when it has been away, as long as that may be brief.
    gone: Option<Timestamp>,
    /// Until when its history was told.
    told: Timestamp,
    /// When it was seen there last.
    #[serde(skip)]
    seen: Option<Timestamp>,
    zone: Zone,
}

impl Track {
    /// Of a node that is seen for the first time.
    pub fn new(zone: Zone, now: Timestamp) -> Self {
        Self { history: History::new(zone), began: None, gone: None, told: now, seen: None, zone }
    }

    /// Takes in what is seen now. Returns whether its history has changed, at most twice an hour while nothing happens.
    pub fn see(&mut self, population: &mut Population, sight: Sight, now: Timestamp) -> bool {
        match sight {
            Sight::Unknown => false,
            Sight::There { since } => self.there(population, since.min(now), now),
            Sight::Away { since, announced } => {
                if self.began.is_none() {
                    return false;
                }
                let gone = *self.gone.get_or_insert(since.min(now).max(self.told));
                (announced || now.since(gone) >= BRIEF) && self.leave(population, gone)
            }
        }
    }

    fn there(&mut self, population: &mut Population, since: Timestamp, now: Timestamp) -> bool {
        let mut changed = false;
        if let Some(gone) = self.gone.take()
            && since.since(gone) >= BRIEF
        {
            changed |= self.leave(population, gone);
        }
        let seen = self.seen.unwrap_or(self.told);
        if self.began.is_some() && since.since(seen) >= BLIND {
            // Nobody knows how it ended.
            changed |= self.tell(population, seen, false);
            self.began = None;
        }
        if self.began.is_none() {
            let began = since.max(self.told);
            (self.began, self.told, changed) = (Some(began), began, true);
        }
        self.seen = Some(now);
        if self.zone.slot_end(self.told) <= now {
            changed |= self.tell(population, now, false);
        }
        changed
    }

    fn leave(&mut self, population: &mut Population, at: Timestamp) -> bool {
        let changed = self.tell(population, at, true);
        (self.began, self.gone, self.seen) = (None, None, None);
        changed
    }

    fn tell(&mut self, population: &mut Population, to: Timestamp, left: bool) -> bool {
        let Some(began) = self.began else { return false };
        self.history.observe(population, Stretch { began, from: self.told, to, left });
        self.told = to.max(self.told);
        true
    }

    /// What to expect of it now; nothing while it is away.
    pub fn outlook(&self, population: &Population, now: Timestamp) -> Option<Outlook<'_>> {
        let began = self.began.filter(|_| self.gone.is_none())?;
        Some(self.history.outlook(population, began, now))
    }

    /// Its history.
    pub fn history(&self) -> &History {
        &self.history
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;

    fn at(minutes: i64) -> Timestamp {
        Timestamp(1_795_392_000_000 + minutes * MINUTE)
    }

    struct Watched(Track, Population);

    impl Watched {
        fn there(&mut self, since: i64, now: i64) -> bool {
            self.0.see(&mut self.1, Sight::There { since: at(since) }, at(now))
        }

        fn away(&mut self, since: i64, announced: bool, now: i64) -> bool {
            self.0.see(&mut self.1, Sight::Away { since: at(since), announced }, at(now))
        }

        fn departures(&self) -> f32 {
            self.0.history().departures()
        }
    }

    fn watched() -> Watched {
        Watched(Track::new(Zone(0), at(0)), Population::default())
    }

    #[test]
    fn it_is_told_twice_an_hour_and_at_once_when_it_leaves() {
        let mut one = watched();
        let told: Vec<i64> = (0..=70).filter(|now| one.there(0, *now)).collect();
        assert_eq!(told, [0, 30, 60]);
        assert!(one.away(71, true, 71) && one.0.outlook(&one.1, at(72)).is_none());
        assert!((one.departures() - 1.0).abs() < 0.01);
        assert!(!one.away(71, true, 72), "once");
    }

    #[test]
    fn a_link_that_breaks_for_a_moment_is_no_departure() {
        let mut one = watched();
        one.there(0, 10);
        assert!(!one.away(12, false, 13) && one.0.outlook(&one.1, at(13)).is_none());
        one.there(14, 15);
        assert!(one.departures() < 0.01 && one.0.outlook(&one.1, at(15)).is_some());
        // Five minutes are, from when it broke on.
        assert!(!one.away(20, false, 24) && one.away(20, false, 25));
        assert!((one.departures() - 1.0).abs() < 0.01);
        // So are they when it is back before anybody looked.
        one.there(30, 31);
        one.away(40, false, 41);
        assert!(one.there(46, 47));
        assert!((one.departures() - 2.0).abs() < 0.01);
    }

    #[test]
    fn what_nobody_saw_is_no_departure() {
        let mut one = watched();
        one.there(0, 100);
        // The server was away for half an hour: everybody's link is new.
        one.there(130, 131);
        assert!(one.departures() < 0.01);
        // It was for a day: a new stretch begins.
        one.there(1600, 1601);
        let fresh = one.0.outlook(&one.1, at(1601)).unwrap();
        assert!(one.departures() < 0.01 && fresh.age() < Duration(2 * MINUTE as u64));
        // A server that starts knows what was written down, and not when it saw it last.
        let read: Track = serde_json::from_str(&serde_json::to_string(&one.0).unwrap()).unwrap();
        assert_eq!(read.seen, None);
        assert!(at(0).since(at(HOUR)).0 == 0, "time that runs backwards is none");
    }
}
