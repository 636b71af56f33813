//! What is foretold of nodes, and what that is worth.

#![allow(clippy::unwrap_used, missing_docs)]

use lattice_availability::{
    History, Population, Stretch, Zone,
    simulation::{Policy, Work, fleet, recorded, run},
};
use lattice_model::{Duration, Timestamp};
use proptest::prelude::*;

/// A Monday, 0:00 UTC.
const MONDAY: i64 = 1_795_392_000_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

fn at(day: i64, hour: i64) -> Timestamp {
    Timestamp(MONDAY + day * 24 * HOUR + hour * HOUR)
}

/// There each day from one hour to another, give or take some minutes.
fn daily(days: std::ops::Range<i64>, from: i64, to: i64) -> impl Iterator<Item = Stretch> {
    days.map(move |day| {
        let began = Timestamp(at(day, from).0 + day * 7 % 13 * MINUTE);
        Stretch { began, from: began, to: Timestamp(at(day, to).0 - day * 5 % 11 * MINUTE), left: true }
    })
}

fn seen(stretches: impl IntoIterator<Item = Stretch>) -> (History, Population) {
    let (mut history, mut population) = (History::new(Zone(0)), Population::default());
    for stretch in stretches {
        history.observe(&mut population, stretch);
    }
    (history, population)
}

#[test]
fn who_leaves_at_eight_each_morning_is_known_after_two_weeks() {
    let (history, population) = seen(daily(0..14, 18, 32));
    let tonight = history.outlook(&population, at(14, 18), at(14, 22));
    assert!(tonight.stays(hours(8)) > 0.8, "{}", tonight.stays(hours(8)));
    assert!(tonight.stays(hours(11)) < 0.25, "{}", tonight.stays(hours(11)));
}

#[test]
fn a_new_habit_replaces_the_old_one_within_weeks() {
    let (history, population) = seen(daily(0..60, 18, 32).chain(daily(60..88, 8, 17)));
    let morning = history.outlook(&population, at(88, 8), at(88, 9));
    assert!(morning.stays(hours(6)) > 0.7, "{}", morning.stays(hours(6)));
    assert!(morning.stays(hours(10)) < 0.25, "{}", morning.stays(hours(10)));
}

#[test]
fn who_was_up_for_long_stays_longer_and_a_newcomer_is_judged_by_the_others() {
    let mut population = Population::default();
    let mut others = History::new(Zone(0));
    // Most leave within minutes, some stay for days.
    let mut now = MONDAY;
    for n in 0..200 {
        let length = if n % 4 == 0 { 60 * HOUR + 7 * n * MINUTE } else { 9 * MINUTE + n * MINUTE / 60 };
        let (began, to) = (Timestamp(now), Timestamp(now + length));
        others.observe(&mut population, Stretch { began, from: began, to, left: true });
        now = to.0 + 3 * HOUR + 11 * MINUTE;
    }
    let newcomer = History::new(Zone(0));
    let after =
        |age: i64| newcomer.outlook(&population, Timestamp(now), Timestamp(now + age)).stays(hours(4));
    assert!(after(0) < 0.5 && after(6 * HOUR) > 0.85, "{} {}", after(0), after(6 * HOUR));
}

#[test]
fn what_was_announced_outranks_what_was_learned() {
    let (history, population) = seen(daily(0..14, 0, 24));
    let soon = history.outlook(&population, at(14, 0), at(14, 1)).leaving(Some(at(14, 3)));
    assert!(soon.stays(hours(2)) > 0.5);
    assert_eq!(soon.stays(Duration(hours(2).0 + 1)).to_bits(), 0f64.to_bits());
}

#[test]
fn those_who_leave_together_are_told_apart_from_others() {
    let (evening, _) = seen(daily(0..21, 18, 32));
    let (also, _) = seen(daily(0..21, 20, 32));
    let (office, _) = seen(daily(0..21, 8, 17));
    let unknown = History::new(Zone(0));
    assert!(evening.leaves_with(&also) > 0.5, "{}", evening.leaves_with(&also));
    assert!(evening.leaves_with(&office) < 0.1);
    assert!(evening.leaves_with(&unknown) < 0.01);
}

#[test]
fn learning_gains_nine_tenths_of_what_knowing_does() {
    let works = [
        Work { from_week: 2, ..Work::default() },
        Work { per_host_day: 12.0, median: 3.0, from_week: 1, ..Work::default() },
    ];
    for (seed, work) in (1..).zip(works) {
        let hosts = fleet(48, 6, seed);
        let share = |policy| run(&hosts, &work, policy).share();
        let (blind, learned, informed) =
            (share(Policy::BestFit), share(Policy::Learned), share(Policy::Informed));
        assert!(informed > blind + 0.03, "{blind} {informed}");
        assert!(learned - blind >= 0.9 * (informed - blind), "{blind} {learned} {informed}");
    }
}

#[test]
fn a_recorded_series_is_read_or_refused_with_its_line() {
    let hosts = recorded("host,up from,up to\nb, 0, 5\na,1,2\na,1.5,3\n\nb,7,8.5\n").unwrap();
    assert_eq!(hosts.iter().map(|host| host.there.len()).collect::<Vec<_>>(), [1, 2]);
    let wrong = recorded("host,up from,up to\na,1,2\na,5,4\n").unwrap_err();
    assert!(wrong.contains("line 3"), "{wrong}");
}

proptest! {
    #[test]
    fn a_chance_is_a_chance_and_falls_with_time(
        stretches in prop::collection::vec((-1000i64..200_000, -1000i64..200_000, -1000i64..200_000, any::<bool>()), 0..40),
        began in -5000i64..200_000, age in -100i64..100_000, zone in -900i16..900,
        times in prop::collection::vec(0u64..40_000, 2..6),
    ) {
        let minute = |n: i64| Timestamp(MONDAY + n * MINUTE);
        let (mut history, mut population) = (History::new(Zone(zone)), Population::default());
        for (began, from, to, left) in stretches {
            let stretch = Stretch { began: minute(began), from: minute(from), to: minute(to), left };
            history.observe(&mut population, stretch);
        }
        let outlook = history.outlook(&population, minute(began), minute(began + age));
        let mut times = times;
        times.sort_unstable();
        let chances: Vec<f64> = times.iter().map(|n| outlook.stays(Duration(n * 60_000))).collect();
        prop_assert!(chances.iter().all(|chance| (0.0..=1.0 + 1e-9).contains(chance)), "{chances:?}");
        prop_assert!(chances.windows(2).all(|two| two[1] <= two[0] + 1e-9), "{chances:?}");
        let text = serde_json::to_string(&history).unwrap();
        prop_assert!(text.len() < 12_000, "{}", text.len());
        let read: History = serde_json::from_str(&text).unwrap();
        let again = read.outlook(&population, minute(began), minute(began + age)).stays(Duration(times[0] * 60_000));
        prop_assert!((again - chances[0]).abs() < 0.01, "{again} {}", chances[0]);
    }

    #[test]
    fn told_in_parts_is_told(lengths in prop::collection::vec(20i64..4000, 1..8), every in 1i64..90) {
        let (mut whole, mut parts) = (History::new(Zone(0)), History::new(Zone(0)));
        let (mut one, mut other) = (Population::default(), Population::default());
        let mut now = MONDAY;
        for length in &lengths {
            let (began, to) = (Timestamp(now), Timestamp(now + length * MINUTE));
            whole.observe(&mut one, Stretch { began, from: began, to, left: true });
            let mut from = began;
            while from < to {
                let until = Timestamp((from.0 + every * 30 * MINUTE).min(to.0));
                parts.observe(&mut other, Stretch { began, from, to: until, left: until == to });
                // A second time changes nothing.
                parts.observe(&mut other, Stretch { began, from, to: until, left: false });
                from = until;
            }
            now = to.0 + 77 * MINUTE;
        }
        let ask = |history: &History, population: &Population| {
            history.outlook(population, Timestamp(now), Timestamp(now + 40 * MINUTE)).stays(hours(3))
        };
        let (a, b) = (ask(&whole, &one), ask(&parts, &other));
        prop_assert!((a - b).abs() < 0.05, "{a} {b}");
    }
}
