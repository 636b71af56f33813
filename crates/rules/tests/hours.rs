//! Hours against an oracle that knows nothing but the clock on the wall: minute by minute, over
//! every kind of day that a calendar has.

#![allow(clippy::unwrap_used)]

use jiff::{civil::DateTime, tz::TimeZoneDatabase};
use lattice_model::Timestamp;
use lattice_rules::{Hours, Rules, Schedule};
use proptest::prelude::*;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60;

/// What the clock shows at an instant.
fn wall(zone: &jiff::tz::TimeZone, at: i64) -> DateTime {
    zone.to_datetime(jiff::Timestamp::from_millisecond(at).unwrap())
}

fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// Around changes of clocks: by an hour, by half an hour, at midnight, and a day that was left out.
const CHANGES: [(&str, &str); 8] = [
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Asia/Beirut", "2026-03-28T22:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
];

/// The windows of `ranges` (start and length in minutes, every day) by walking through the minutes:
/// a range begins at the first minute at which the clock shows its start or later.
fn oracle(zone: &jiff::tz::TimeZone, ranges: &[(i64, i64)], from: i64, minutes: i64) -> Vec<bool> {
    let walk: Vec<DateTime> = (0..minutes).map(|n| wall(zone, from + n * MINUTE)).collect();
    let first = |civil: DateTime| walk.iter().position(|shown| *shown >= civil);
    let mut open = vec![false; walk.len()];
    let days = minutes / DAY;
    let begin = walk[0].date();
    for day in 0..=days {
        let date = begin.checked_add(jiff::Span::new().days(day)).unwrap();
        for (start, length) in ranges {
            let midnight = date.at(0, 0, 0, 0);
            let civil = |n: i64| midnight.checked_add(jiff::Span::new().minutes(n)).unwrap();
            let (Some(a), b) = (first(civil(*start)), first(civil(start + length))) else { continue };
            // What began before the walk is not seen whole.
            if a > 0 {
                (a..b.unwrap_or(walk.len())).for_each(|n| open[n] = true);
            }
        }
    }
    open
}

fn clock(minutes: i64) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn schedule(ranges: &[(i64, i64)], zone: &str) -> Option<Schedule> {
    let texts: Vec<_> = ranges
        .iter()
        .map(|(start, length)| {
            clock(*start) + "-" + &clock(if start + length == DAY { DAY } else { (start + length) % DAY })
        })
        .map(|text| text.parse().unwrap())
        .collect();
    Schedule::new(Hours { daily: Some(texts), ..Hours::default() }, zone).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Over every change of clocks the hours are what the clock on the wall says, and the next change
    /// is the next minute at which they are not.
    #[test]
    fn hours_are_those_of_the_wall(
        which in 0..CHANGES.len(),
        ranges in prop::collection::vec((0..DAY, 1..DAY), 1..3),
    ) {
        let (name, change) = CHANGES[which];
        let Some(schedule) = schedule(&ranges, name) else { return Ok(()) };
        let zone = TimeZoneDatabase::bundled().get(name).unwrap();
        // Four days before and two after, so that what began before the walk has ended.
        let from = at(change) - 4 * DAY * MINUTE;
        let open = oracle(&zone, &ranges, from, 6 * DAY);
        for n in (2 * DAY..5 * DAY).step_by(11) {
            let now = Timestamp(from + n * MINUTE);
            let (is, until) = schedule.look(now);
            prop_assert_eq!(is, open[usize::try_from(n).unwrap()], "{} {}", name, wall(&zone, now.0));
            if let Some(until) = until {
                prop_assert!(until > now);
                let k = (until.0 - from) / MINUTE;
                prop_assert_eq!((until.0 - from) % MINUTE, 0);
                for m in n..k.min(6 * DAY) {
                    prop_assert_eq!(open[usize::try_from(m).unwrap()], is, "{} {}", name, wall(&zone, from + m * MINUTE));
                }
                if k < 6 * DAY {
                    prop_assert_eq!(open[usize::try_from(k).unwrap()], !is);
                }
            }
        }
    }

    /// Wherever the clock jumps, the answer is that of the new time: nothing is remembered.
    #[test]
    fn a_clock_that_jumps_finds_the_hours_of_its_new_time(a in 0i64..4_000_000_000, b in 0i64..4_000_000_000) {
        let schedule = schedule(&[(18 * 60, 12 * 60)], "Europe/Berlin").unwrap();
        let before = schedule.look(Timestamp(a * 1000));
        let _ = schedule.look(Timestamp(b * 1000));
        prop_assert_eq!(schedule.look(Timestamp(a * 1000)), before);
        let (open, until) = before;
        prop_assert_eq!(schedule.look(until.unwrap()).0, !open);
    }
}

fn look(hours: &str, zone: &str, now: &str) -> (bool, Option<String>) {
    let rules = Rules::parse(&format!("[hours]\n{hours}")).unwrap().check(Some(zone)).unwrap();
    let (open, until) = rules.hours(Timestamp(at(now)));
    (open, until.map(|at| jiff::Timestamp::from_millisecond(at.0).unwrap().to_string()))
}

fn is(open: bool, until: &str) -> (bool, Option<String>) {
    (open, Some(until.into()))
}

#[test]
fn changes_of_clocks() {
    // Berlin leaves 02:00 to 03:00 out on 29 March: a start in it is the jump, an end in it too.
    assert_eq!(
        look("daily = [\"02:30-05:00\"]", "Europe/Berlin", "2026-03-29T00:30:00Z"),
        is(false, "2026-03-29T01:00:00Z")
    );
    assert_eq!(
        look("daily = [\"22:00-02:30\"]", "Europe/Berlin", "2026-03-28T23:30:00Z"),
        is(true, "2026-03-29T01:00:00Z")
    );
    // A range that is left out whole comes again the next day.
    assert_eq!(
        look("daily = [\"02:10-02:40\"]", "Europe/Berlin", "2026-03-29T00:59:00Z"),
        is(false, "2026-03-30T00:10:00Z")
    );
    // And a week later, where it is on Sundays alone.
    assert_eq!(
        look("sunday = [\"02:10-02:40\"]", "Europe/Berlin", "2026-03-29T00:59:00Z"),
        is(false, "2026-04-05T00:10:00Z")
    );
    // 02:00 to 03:00 comes twice on 25 October: the first one counts, and only once.
    assert_eq!(
        look("daily = [\"02:15-02:45\"]", "Europe/Berlin", "2026-10-25T00:20:00Z"),
        is(true, "2026-10-25T00:45:00Z")
    );
    assert_eq!(
        look("daily = [\"02:15-02:45\"]", "Europe/Berlin", "2026-10-25T01:20:00Z"),
        is(false, "2026-10-26T01:15:00Z")
    );
    // Work goes on through the hour that comes twice.
    assert_eq!(
        look("daily = [\"01:00-04:00\"]", "Europe/Berlin", "2026-10-25T01:05:00Z"),
        is(true, "2026-10-25T03:00:00Z")
    );
    // Lord Howe moves by half an hour.
    assert_eq!(
        look("daily = [\"02:15-06:00\"]", "Australia/Lord_Howe", "2026-10-03T15:00:00Z"),
        is(false, "2026-10-03T15:30:00Z")
    );
}

#[test]
fn days_and_groups() {
    let week = "weekdays = [\"18:00-08:00\"]\nweekend = [\"00:00-24:00\"]\nfriday = []";
    // Thursday's hours go on into Friday, which has none of its own until Saturday.
    assert_eq!(look(week, "UTC", "2026-11-26T23:00:00Z"), is(true, "2026-11-27T08:00:00Z"));
    assert_eq!(look(week, "UTC", "2026-11-27T20:00:00Z"), is(false, "2026-11-28T00:00:00Z"));
    // Saturday and Sunday are one, until Monday begins.
    assert_eq!(look(week, "UTC", "2026-11-28T12:00:00Z"), is(true, "2026-11-30T00:00:00Z"));
    // Hours that never end have no next change.
    assert_eq!(look("daily = [\"00:00-24:00\"]", "Europe/Berlin", "2026-03-28T12:00:00Z"), (true, None));
}
