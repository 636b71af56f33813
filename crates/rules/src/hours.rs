//! Hours: on which days, from when to when, by the clock of the owner's place.
//!
//! A range begins the first moment at which the clock shows its start or later, and ends the first
//! moment at which it shows its end or later. So when clocks go forward over a start, work begins
//! with the jump, and over an end, it ends with it; when clocks go back, the first of two equal
//! times counts, and nothing begins or ends twice. Ranges that meet or overlap are one.

use crate::error::RulesError;
use jiff::{
    ToSpan as _,
    civil::{Date, Weekday},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use lattice_model::{Duration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

const DAY: u16 = 24 * 60;
/// More ranges on a day than anybody means.
const MAX_RANGES: usize = 8;
/// How far the next change is looked for: a weekly range may fall into the hour that a change of
/// clocks leaves out.
const HORIZON_DAYS: i64 = 15;

/// From when to when on a day, in minutes; an end that is not after the start is on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeRange {
    start: u16,
    end: u16,
}

impl TimeRange {
    /// The end in minutes of the day on which it began.
    const fn end_of_start_day(self) -> u16 {
        if self.end > self.start { self.end } else { self.end + DAY }
    }
}

impl FromStr for TimeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = |what: &str| {
            let shown: String = text.chars().take(40).collect();
            format!("{shown:?} {what}; write e.g. \"18:00-23:30\" or, over midnight, \"22:00-06:00\"")
        };
        let (start, end) = text.split_once('-').ok_or_else(|| fail("is no range of times"))?;
        let minutes = |text: &str| -> Option<u16> {
            let (hour, minute) = text.trim().split_once(':')?;
            let plain =
                |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            if !plain(hour) || minute.len() != 2 || !plain(minute) {
                return None;
            }
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (minute < 60 && (hour < 24 || (hour == 24 && minute == 0))).then_some(hour * 60 + minute)
        };
        let start = minutes(start).filter(|at| *at < DAY).ok_or_else(|| fail("has no start"))?;
        let end = minutes(end).ok_or_else(|| fail("has no end"))?;
        if start == end {
            return Err(fail("has no length (a whole day is 00:00-24:00)"));
        }
        Ok(Self { start, end })
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end } = self;
        f.pad(&format!("{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60))
    }
}

impl Serialize for TimeRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// When the machine works. A day by its name counts more than its group, and a group more than
/// `daily`; a day that nothing names has no hours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hours {
    /// Every day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<Vec<TimeRange>>,
    /// Monday to Friday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekdays: Option<Vec<TimeRange>>,
    /// Saturday and Sunday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekend: Option<Vec<TimeRange>>,
    /// That day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monday: Option<Vec<TimeRange>>,
    /// That day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuesday: Option<Vec<TimeRange>>,
    /// That day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wednesday: Option<Vec<TimeRange>>,
    /// That day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thursday: Option<Vec<TimeRange>>,
    /// That day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub friday: Option<Vec<TimeRange>>,
    /// That day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saturday: Option<Vec<TimeRange>>,
    /// That day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sunday: Option<Vec<TimeRange>>,
}

impl Hours {
    /// The ranges that begin on a day.
    fn on(&self, day: Weekday) -> &[TimeRange] {
        let (own, group) = match day {
            Weekday::Monday => (&self.monday, &self.weekdays),
            Weekday::Tuesday => (&self.tuesday, &self.weekdays),
            Weekday::Wednesday => (&self.wednesday, &self.weekdays),
            Weekday::Thursday => (&self.thursday, &self.weekdays),
            Weekday::Friday => (&self.friday, &self.weekdays),
            Weekday::Saturday => (&self.saturday, &self.weekend),
            Weekday::Sunday => (&self.sunday, &self.weekend),
        };
        own.as_ref().or(group.as_ref()).or(self.daily.as_ref()).map_or(&[], Vec::as_slice)
    }

    fn check(&self) -> Result<(), RulesError> {
        let week = || Weekday::Monday.cycle_forward().take(7);
        for ranges in week().map(|day| self.on(day)) {
            if ranges.len() > MAX_RANGES {
                return Err(RulesError::value("hours", format!("a day may have {MAX_RANGES} ranges")));
            }
            let mut sorted: Vec<TimeRange> = ranges.to_vec();
            sorted.sort_unstable();
            if let Some(pair) = sorted.windows(2).find(|pair| pair[1].start < pair[0].end_of_start_day()) {
                let problem = format!("{} and {} overlap; write them as one range", pair[0], pair[1]);
                return Err(RulesError::value("hours", problem));
            }
        }
        if week().all(|day| self.on(day).is_empty()) {
            return Err(RulesError::Nothing { key: "hours", why: "no day has any hours" });
        }
        Ok(())
    }
}

/// The zone of this name, from the database inside the program.
pub(crate) fn zone(name: &str) -> Result<TimeZone, RulesError> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| {
        let shown: String = name.chars().take(60).collect();
        let problem = format!(
            "{shown:?} is no time zone; write its name as in the IANA database, e.g. \"Europe/Berlin\" or \"UTC\""
        );
        RulesError::value("time_zone", problem)
    })
}

/// Hours at a place.
#[derive(Clone, Debug)]
pub struct Schedule {
    hours: Hours,
    zone: TimeZone,
}

impl Schedule {
    /// Hours by the clock of `zone`.
    ///
    /// # Errors
    /// Ranges that overlap, no hours at all, a zone that nobody knows.
    pub fn new(hours: Hours, zone_name: &str) -> Result<Self, RulesError> {
        hours.check()?;
        Ok(Self { hours, zone: zone(zone_name)? })
    }

    /// Whether `now` is in the hours, and when that changes; `None` is never, as far as one can see.
    pub fn look(&self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let windows = self.windows(now);
        // A window that goes on to where the look ahead ends has no end: hours repeat every week.
        let far = now + Duration::from_secs((HORIZON_DAYS as u64 - 2) * 86_400);
        match windows.iter().find(|(from, to)| *from <= now && now < *to) {
            Some((_, to)) => (true, Some(*to).filter(|to| *to < far)),
            None => (false, windows.iter().map(|(from, _)| *from).find(|from| *from > now)),
        }
    }

    /// The hours around `now` as instants, in order, those that meet made one.
    fn windows(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let today = local_date(&self.zone, now);
        let mut windows: Vec<(Timestamp, Timestamp)> = Vec::new();
        // One that began the day before yesterday may end today where a day is left out.
        for offset in -2..HORIZON_DAYS {
            let Ok(date) = today.checked_add(offset.days()) else { continue };
            let mut ranges = self.hours.on(date.weekday()).to_vec();
            ranges.sort_unstable();
            for range in ranges {
                let from = first_at(&self.zone, date, range.start);
                let to = first_at(&self.zone, date, range.end_of_start_day());
                if from >= to {
                    continue;
                }
                match windows.last_mut() {
                    Some((_, end)) if from <= *end => *end = to.max(*end),
                    _ => windows.push((from, to)),
                }
            }
        }
        windows
    }
}

pub(crate) fn local_date(zone: &TimeZone, at: Timestamp) -> Date {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    zone.to_datetime(at).date()
}

/// The first moment at which the clock shows `minutes` of `date`, or later.
pub(crate) fn first_at(zone: &TimeZone, date: Date, minutes: u16) -> Timestamp {
    let date = if minutes >= DAY { date.tomorrow().unwrap_or(date) } else { date };
    let minutes = minutes % DAY;
    let (hour, minute) = ((minutes / 60) as i8, (minutes % 60) as i8);
    let civil = date.at(hour, minute, 0, 0);
    let at = match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(civil)
        }
        // By the later offset it lies before the jump; the jump is the next change after that.
        AmbiguousOffset::Gap { after, .. } => after
            .to_timestamp(civil)
            .map(|before| zone.following(before).next().map_or(before, |jump| jump.timestamp())),
    };
    Timestamp(at.map_or(i64::MAX, |at| at.as_millisecond()))
}
