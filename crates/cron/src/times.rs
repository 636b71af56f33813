//! A schedule that has been read: enter at [`Times::of`].

use crate::CronError;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Zoned, civil::DateTime, tz::TimeZone};
use lattice_model::{Duration, Timestamp, spec::Schedule};

/// What `@names` mean. `@reboot` is not among them: no machine is meant.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * SUN"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// From where it is tried whether an expression is ever due: any instant would do, as it names no year.
const TRIED_FROM: Timestamp = Timestamp(1_704_067_200_000);

/// How many times in a row are tried for their distance: more than there are within two minutes.
const TRIED: usize = 130;

/// The most times that are counted one by one.
const COUNTED: u32 = 1000;

/// The most civil times that one search looks at: a repeated hour has at most so many of the shortest distance.
const LOOKED_AT: usize = 10_000;

/// When a job is due.
#[derive(Clone, Debug)]
pub struct Times {
    cron: Cron,
    zone: TimeZone,
    /// The field of the hours is `*`: it goes by the time that passes.
    every_hour: bool,
}

/// What was due within a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The first time.
    pub first: Timestamp,
    /// The last one before `last`; `None` where that is the only one.
    pub before_last: Option<Timestamp>,
    /// The last time.
    pub last: Timestamp,
    /// How many, `last` among them: at most 1000 are counted.
    pub count: u32,
    /// Whether there are more.
    pub more: bool,
}

impl Times {
    /// The least distance of two times that are due.
    pub const LEAST: Duration = Duration::from_secs(10);

    /// Reads a schedule.
    ///
    /// # Errors
    /// What is wrong with it, in words for whoever wrote it.
    pub fn of(schedule: &Schedule) -> Result<Self, CronError> {
        let Schedule { cron, zone, overlap: _, catch_up, suspended: _ } = schedule;
        if *catch_up > Schedule::MAX_CATCH_UP {
            return Err(CronError::CatchUp { most: Schedule::MAX_CATCH_UP });
        }
        let times = Self::read(cron, zone)?;
        let mut at = times.after(TRIED_FROM).ok_or(CronError::Never)?;
        for _ in 0..TRIED {
            let Some(next) = times.after(at) else { break };
            if next.since(at) < Self::LEAST {
                return Err(CronError::TooOften { least: Self::LEAST });
            }
            at = next;
        }
        Ok(times)
    }

    /// Reads what was found good before, without trying it again.
    ///
    /// # Errors
    /// As [`Times::of`], for what can be seen without looking at times.
    pub fn read(cron: &str, zone: &str) -> Result<Self, CronError> {
        let cron = cron.trim();
        if cron.is_empty() || cron.len() > Schedule::MAX_CRON {
            return Err(CronError::Length { most: Schedule::MAX_CRON });
        }
        let text = match cron.strip_prefix('@') {
            None => cron,
            Some(_) => NICKNAMES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(cron))
                .map(|(_, text)| *text)
                .ok_or_else(|| CronError::Nickname { name: cron.to_owned() })?,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let hours = match fields.len() {
            5 => fields[1],
            6 => fields[2],
            fields => return Err(CronError::Fields { fields }),
        };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let parsed = parser.parse(text).map_err(|error| CronError::Field { why: in_words(&error) })?;
        // Nothing but names of the database: a rule written out would be good for one year.
        let named = zone.len() <= 64 && zone.chars().all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c));
        let known = named.then(|| TimeZone::get(zone).ok()).flatten();
        let zone = known.ok_or_else(|| CronError::Zone { zone: zone.chars().take(64).collect() })?;
        Ok(Self { cron: parsed, zone, every_hour: matches!(hours, "*" | "*/1" | "?") })
    }

    /// An instant on the wall of its zone, for people: `2026-11-23 20:05:00 Europe/Berlin`.
    pub fn wall(&self, at: Timestamp) -> String {
        match jiff::Timestamp::from_millisecond(at.0) {
            Ok(at) => {
                let zone = self.zone.iana_name().unwrap_or("UTC");
                format!("{} {zone}", at.to_zoned(self.zone.clone()).strftime("%F %T"))
            }
            Err(_) => at.0.to_string(),
        }
    }

    /// The first time that is due after an instant; `None` where there is none that a calendar has.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let zoned = jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(self.zone.clone());
        if self.every_hour {
            let next = self.cron.find_next_occurrence(&whole_second(&zoned)?, false).ok()?;
            return Some(instant(&next)).filter(|next| *next > at);
        }
        let mut civil = zoned.datetime().with().subsec_nanosecond(0).build().ok()?;
        for _ in 0..LOOKED_AT {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            let next = self.begins(civil)?;
            if next > at {
                return Some(next);
            }
        }
        None
    }

    /// What was due after `from` and not after `now`.
    pub fn due(&self, from: Timestamp, now: Timestamp) -> Option<Due> {
        let first = self.after(from).filter(|first| *first <= now)?;
        let (mut before_last, mut last, mut count) = (None, first, 1);
        while let Some(next) = self.after(last).filter(|next| *next <= now) {
            if count == COUNTED {
                let last = self.last(last, now);
                return Some(Due { first, before_last: self.before(first, last), last, count, more: true });
            }
            (before_last, last, count) = (Some(last), next, count + 1);
        }
        Some(Due { first, before_last, last, count, more: false })
    }

    /// The last time that is due and not after `now`, where `known` is one. Looks back twice as far each time, so that
    /// a year of ten-second times is not gone through.
    fn last(&self, known: Timestamp, now: Timestamp) -> Timestamp {
        let mut span = 60_000i64;
        while now.0 - span > known.0 {
            let found = self.after(Timestamp(now.0 - span)).filter(|at| *at <= now);
            if let Some(mut last) = found {
                while let Some(next) = self.after(last).filter(|next| *next <= now) {
                    last = next;
                }
                return last;
            }
            span = span.saturating_mul(2);
        }
        let mut last = known;
        while let Some(next) = self.after(last).filter(|next| *next <= now) {
            last = next;
        }
        last
    }

    /// The time before one that is due.
    fn before(&self, known: Timestamp, last: Timestamp) -> Option<Timestamp> {
        (known < last).then(|| self.last(known, Timestamp(last.0 - 1)))
    }

    /// When a time on the wall is first reached: a time that does not exist, when the clock jumps over it.
    fn begins(&self, civil: DateTime) -> Option<Timestamp> {
        use jiff::tz::AmbiguousOffset as A;
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        let at = match ambiguous.offset() {
            A::Unambiguous { .. } | A::Fold { .. } => ambiguous.earlier().ok()?,
            A::Gap { .. } => {
                let before = ambiguous.earlier().ok()?;
                // The change itself: nothing in between is on any clock.
                let around = before.checked_sub(jiff::SignedDuration::from_hours(48)).ok()?;
                let after = ambiguous.later().ok()?;
                let mut changes = self.zone.following(around).map(|change| change.timestamp());
                changes.find(|change| *change >= before.min(after) && *change <= before.max(after))?
            }
        };
        Some(Timestamp(at.as_millisecond()))
    }
}

fn whole_second(at: &Zoned) -> Option<Zoned> {
    at.with().subsec_nanosecond(0).build().ok()
}

fn instant(at: &Zoned) -> Timestamp {
    Timestamp(at.timestamp().as_millisecond())
}

/// What croner found, without its own names of things.
fn in_words(error: &croner::errors::CronError) -> String {
    use croner::errors::CronError as E;
    match error {
        E::InvalidPattern(why) | E::IllegalCharacters(why) | E::ComponentError(why) => {
            let mut why = why.trim_end_matches('.').to_owned();
            if let Some(first) = why.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            why
        }
        E::EmptyPattern | E::InvalidDate | E::InvalidTime | E::TimeSearchLimitExceeded => {
            "it says no times".into()
        }
    }
}
