//! When jobs are due, across changes of the clock and in general.

#![allow(clippy::unwrap_used, missing_docs)]

use jiff::civil::date;
use lattice_cron::{CronError, Times};
use lattice_model::{Duration, Timestamp, spec::Schedule};
use proptest::prelude::*;

fn times(cron: &str, zone: &str) -> Times {
    Times::of(&Schedule { zone: zone.into(), ..Schedule::of(cron) }).unwrap()
}

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn error(cron: &str) -> String {
    Times::of(&Schedule::of(cron)).unwrap_err().to_string()
}

/// So many times after an instant, on the wall of a zone.
fn walls(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let times = times(cron, zone);
    let mut now = at(from);
    let next = |_| {
        now = times.after(now).unwrap();
        jiff::Timestamp::from_millisecond(now.0)
            .unwrap()
            .in_tz(zone)
            .unwrap()
            .strftime("%d %H:%M%:z")
            .to_string()
    };
    (0..count).map(next).collect()
}

#[test]
fn what_people_write_is_due_when_they_mean() {
    for (cron, next) in [
        ("*/5 * * * *", "2026-11-23T20:25:00Z"),
        ("@hourly", "2026-11-23T21:00:00Z"),
        ("@DAILY", "2026-11-24T00:00:00Z"),
        ("@midnight", "2026-11-24T00:00:00Z"),
        ("@weekly", "2026-11-29T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("30 2 * * MON-FRI", "2026-11-24T02:30:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("*/15 * * * * *", "2026-11-23T20:24:15Z"),
        // As in cron, one of day and weekday is enough where both are said.
        ("0 0 13 * FRI", "2026-11-27T00:00:00Z"),
    ] {
        assert_eq!(times(cron, "UTC").after(at("2026-11-23T20:24:00.250Z")), Some(at(next)), "{cron}");
    }
    let due = times("@hourly", "UTC").due(at("2026-11-23T20:00:00Z"), at("2026-11-23T23:00:00Z")).unwrap();
    assert_eq!((due.first, due.last, due.count), (at("2026-11-23T21:00:00Z"), at("2026-11-23T23:00:00Z"), 3));
    assert_eq!(due.before_last, Some(at("2026-11-23T22:00:00Z")));
    assert_eq!(times("@hourly", "UTC").due(at("2026-11-23T20:00:00Z"), at("2026-11-23T20:59:59Z")), None);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for cron in ["0 0 31 2 *", "0 0 30 FEB *", "0 0 31 4,6,9,11 *"] {
        assert_eq!(Times::of(&Schedule::of(cron)).unwrap_err(), CronError::Never, "{cron}");
    }
    for cron in ["* * * * * *", "*/5 * * * * *", "0,55 * * * * *"] {
        let error = Times::of(&Schedule::of(cron)).unwrap_err();
        assert_eq!(error, CronError::TooOften { least: Duration::from_secs(10) }, "{cron}");
    }
    assert!(error("").contains("from 1 to 200 characters"));
    assert!(error(&"1,".repeat(150)).contains("from 1 to 200 characters"));
    assert!(error("@reboot").contains("\"@reboot\" is no time"));
    assert!(error("* * *").contains("it has 3 fields"));
    assert!(error("0 0 1 1 * * 2030").contains("it has 7 fields"));
    for cron in ["61 * * * *", "* 24 * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1-2 * * * *"] {
        assert!(error(cron).contains("a field is `*`, a number"), "{cron}: {}", error(cron));
    }
    for zone in ["Mars/Olympus", "", "EST5EDT,M3.2.0,M11.1.0", "../etc/passwd"] {
        let schedule = Schedule { zone: zone.into(), ..Schedule::of("@daily") };
        assert!(Times::of(&schedule).unwrap_err().to_string().contains("no time zone"), "{zone}");
    }
    let late = Schedule { catch_up: Duration::from_secs(8 * 86_400), ..Schedule::of("@daily") };
    assert!(Times::of(&late).unwrap_err().to_string().contains("at most 7d late"));
}

/// 29 March 2026 in Berlin: 02:00 becomes 03:00.
#[test]
fn a_time_that_does_not_exist_is_due_when_the_clock_jumps_over_it() {
    let berlin = |cron, count| walls(cron, "Europe/Berlin", "2026-03-28T22:00:00Z", count);
    assert_eq!(berlin("30 2 * * *", 3), ["29 03:00+02:00", "30 02:30+02:00", "31 02:30+02:00"]);
    assert_eq!(berlin("0 2,14 * * *", 3), ["29 03:00+02:00", "29 14:00+02:00", "30 02:00+02:00"]);
    assert_eq!(berlin("*/20 2,3 * * *", 4)[..3], ["29 03:00+02:00", "29 03:20+02:00", "29 03:40+02:00"]);
    assert_eq!(
        berlin("0 * * * *", 4),
        ["29 00:00+01:00", "29 01:00+01:00", "29 03:00+02:00", "29 04:00+02:00"]
    );
    // Samoa had no 30 December 2011.
    let samoa = walls("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3);
    assert_eq!(samoa, ["29 12:00-10:00", "31 00:00+14:00", "31 12:00+14:00"]);
}

/// 25 October 2026 in Berlin: 03:00 becomes 02:00.
#[test]
fn a_time_that_exists_twice_is_due_once_and_every_hour_is_every_hour() {
    let berlin = |cron, count| walls(cron, "Europe/Berlin", "2026-10-24T23:30:00Z", count);
    assert_eq!(berlin("30 2 * * *", 2), ["25 02:30+02:00", "26 02:30+01:00"]);
    assert_eq!(berlin("0 2,14 * * *", 2), ["25 02:00+02:00", "25 14:00+01:00"]);
    assert_eq!(
        berlin("*/30 * * * *", 5),
        ["25 02:00+02:00", "25 02:30+02:00", "25 02:00+01:00", "25 02:30+01:00", "25 03:00+01:00"]
    );
    // From within the second half, what was due in the first is over.
    assert_eq!(walls("45 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["26 02:45+01:00"]);
}

#[test]
fn a_year_of_times_is_soon_gone_through() {
    let began = std::time::Instant::now();
    for cron in ["*/10 * * * * *", "*/10 * 3 * * *", "* * * * *", "@yearly"] {
        let due =
            times(cron, "Europe/Berlin").due(at("2025-01-01T00:00:00Z"), at("2027-01-01T12:00:05Z")).unwrap();
        assert_eq!(due.more, cron != "@yearly", "{cron}");
        assert!(due.before_last.unwrap() < due.last, "{cron}");
        assert!(due.last <= at("2027-01-01T12:00:05Z"));
    }
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

fn cron() -> impl Strategy<Value = String> {
    let field = |least: u32, most: u32| {
        prop_oneof![
            3 => Just("*".to_owned()),
            2 => (least..=most).prop_map(|n| n.to_string()),
            1 => (1u32..=most.min(20)).prop_map(|n| format!("*/{n}")),
            1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{a},{b}")),
            1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        ]
    };
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
        .prop_map(|(a, b, c, d, e)| format!("{a} {b} {c} {d} {e}"))
}

const ZONES: [&str; 5] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Times are later than what they follow, and it does not matter from where in between one asks.
    #[test]
    fn times_rise_and_do_not_depend_on_who_asks(
        cron in cron(), zone in 0usize..5, from in 0i64..2_000_000_000_000, between in 0.0f64..1.0,
    ) {
        let Ok(times) = Times::of(&Schedule { zone: ZONES[zone].into(), ..Schedule::of(cron) }) else { return Ok(()) };
        let mut now = Timestamp(from);
        for _ in 0..20 {
            let next = times.after(now).unwrap();
            prop_assert!(next > now);
            let middle = Timestamp(now.0 + ((next.0 - now.0 - 1) as f64 * between) as i64);
            prop_assert_eq!(times.after(middle), Some(next));
            now = next;
        }
        let due = times.due(Timestamp(from), now).unwrap();
        prop_assert_eq!((due.count, due.last, due.more), (20, now, false));
        prop_assert_eq!(due.first, times.after(Timestamp(from)).unwrap());
    }

    /// What is found by looking back is what is found by going through all.
    #[test]
    fn the_last_is_the_last(minutes in 1u32..30, from in 0i64..2_000_000_000_000) {
        let times = times(&format!("*/{minutes} * * * *"), "Europe/Berlin");
        let now = Timestamp(from + 100 * 3_600_000);
        let due = times.due(Timestamp(from), now).unwrap();
        prop_assert!(times.after(due.last).unwrap() > now);
        prop_assert_eq!(times.after(due.before_last.unwrap()), Some(due.last));
    }
}

#[test]
fn dates_are_those_of_the_zone() {
    let tokyo = times("0 0 1 * *", "Asia/Tokyo").after(at("2026-11-23T20:24:00Z")).unwrap();
    let wall = date(2026, 12, 1).at(0, 0, 0, 0).in_tz("Asia/Tokyo").unwrap();
    assert_eq!(tokyo.0, wall.timestamp().as_millisecond());
}
