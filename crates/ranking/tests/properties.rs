//! What the score promises, for every history.

#![allow(clippy::unwrap_used)]

use lattice_model::{Bytes, Cpu, Duration, NodeId, Timestamp, resource::NodeFacts};
use lattice_ranking::{
    Badge, Board, Class, Entry, GpuSpeed, History, MOST, Mark, PartKind, Run, Runs, Score, Sight,
    placement_weight, wilson,
};
use proptest::{collection::vec, prelude::*};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const BEGIN: Timestamp = Timestamp(20_000 * DAY);

const WORKS: Sight = Sight::There { working: true, failing: false, until: None };
const IDLE: Sight = Sight::There { working: false, failing: false, until: None };

/// A while in which the same is seen.
fn stretch() -> impl Strategy<Value = (Sight, u16)> {
    let sight = prop_oneof![
        4 => Just(WORKS),
        4 => Just(IDLE),
        1 => Just(Sight::There { working: true, failing: true, until: None }),
        2 => Just(Sight::Excused),
        2 => Just(Sight::Missing),
        1 => Just(Sight::Unknown),
    ];
    (sight, 1u16..2000)
}

fn life(most: usize) -> impl Strategy<Value = Vec<(Sight, u16)>> {
    vec(stretch(), 1..most)
}

/// Plays a life, a look every two minutes; gives when it ended.
fn play(history: &mut History, life: &[(Sight, u16)], from: Timestamp) -> Timestamp {
    let mut now = from;
    for (sight, minutes) in life {
        for _ in 0..minutes / 2 {
            history.see(*sight, now);
            now = Timestamp(now.0 + 2 * MINUTE);
        }
    }
    now
}

fn lived(life: &[(Sight, u16)]) -> (History, Timestamp) {
    let mut history = History::new(BEGIN);
    let end = play(&mut history, life, BEGIN);
    (history, end)
}

/// Goes to the beginning of the next hour, with nothing open.
fn next_hour(history: &mut History, now: Timestamp) -> Timestamp {
    let next = Timestamp((now.0 / (60 * MINUTE) + 1) * 60 * MINUTE);
    history.see(Sight::Unknown, next);
    next
}

fn run() -> impl Strategy<Value = Run> {
    let speed = |(compute, memory)| GpuSpeed { compute, memory };
    let gpu = proptest::option::of((0.0..2e13f64, 0.0..4e12f64).prop_map(speed));
    let rest = (0.0..500.0f64, 0.0..20.0f64, 0.0..50e9f64, 0u64..5, 0.0..2e9f64, 0u64..400_000, 0u32..128);
    (rest, gpu).prop_map(|((one, cores, memory, block, disk, round_trip_us, claimed), gpu)| Run {
        at: BEGIN,
        cpu_one: one,
        cpu_all: one * cores,
        memory,
        block: Bytes(block << 27),
        block_asked: Bytes(2 << 27),
        disk_write: disk,
        disk_read: disk,
        disk_sync: disk / 1e6,
        round_trip_us,
        up: disk / 100.0,
        claimed_cpu: Cpu(claimed * 1000),
        gpu,
    })
}

fn measured(runs: &[Run]) -> Runs {
    let mut all = Runs::default();
    runs.iter().for_each(|run| all.add(*run));
    all
}

fn points(history: &History, runs: &Runs, now: Timestamp) -> u16 {
    Score::of(Some(history), runs, now).points
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Bounded, by parts that are bounded, and the same whenever it is asked for.
    #[test]
    fn it_is_bounded_and_deterministic(life in life(12), runs in vec(run(), 0..9)) {
        let (history, now) = lived(&life);
        let runs = measured(&runs);
        let score = Score::of(Some(&history), &runs, now);
        prop_assert!(score.points <= MOST);
        for part in &score.parts {
            prop_assert!((0.0..=part.most).contains(&part.points), "{part:?}");
            prop_assert!(!part.why.is_empty());
        }
        let basic = score.parts.iter().filter(|part| part.kind != PartKind::Gpu);
        prop_assert!(basic.map(|part| part.most).sum::<f64>() <= f64::from(MOST));
        prop_assert_eq!(Score::of(Some(&lived(&life).0), &runs, now), score);
    }

    /// Whatever a node has behind it: by leaving and coming as somebody else it gains nothing, now or later, also when it
    /// is measured alike. Nor does an answer that was made up ever pay.
    #[test]
    fn to_begin_anew_never_pays(
        past in life(12),
        future in life(12),
        runs in vec(run(), 0..9),
        caught in any::<bool>(),
    ) {
        // At the beginning of an hour: of one that is under way, the rest may be kept by somebody else.
        let (mut old, now) = lived(&past);
        let now = next_hour(&mut old, now);
        let mut new = History::new(now);
        let runs = measured(&runs);
        if caught {
            let innocent = points(&old, &runs, now);
            old.catch(now);
            prop_assert!(points(&old, &runs, now) <= innocent);
        }
        prop_assert!(points(&old, &runs, now) >= points(&new, &runs, now));
        let mut now = now;
        for part in &future {
            play(&mut old, &[*part], now);
            now = play(&mut new, &[*part], now);
            prop_assert!(points(&old, &runs, now) >= points(&new, &runs, now));
        }
    }

    /// A made-up answer leaves nothing of what was measured.
    #[test]
    fn who_is_caught_has_shown_nothing(life in life(6), runs in vec(run(), 1..9)) {
        let (history, now) = lived(&life);
        let mut runs = measured(&runs);
        let before = points(&history, &runs, now);
        runs.make_up(now);
        prop_assert!(points(&history, &runs, now) <= before);
        prop_assert_eq!(runs.figures(), None);
        prop_assert!(runs.marks(now).contains(&Mark::MadeUp));
    }

    /// A GPU only helps: without it a node has what it would have had, and neither the claim to have one nor one that
    /// breaks off gives anything. A run more with a slower one never helps.
    #[test]
    fn a_gpu_only_helps_and_only_what_it_did(life in life(6), runs in vec(run(), 1..9), slower in 0.0..1.0f64) {
        let (history, now) = lived(&life);
        let score = |runs: &[Run]| Score::of(Some(&history), &measured(runs), now);
        let each = |gpu: fn(Option<GpuSpeed>) -> Option<GpuSpeed>| -> Vec<Run> {
            runs.iter().map(|run| Run { gpu: gpu(run.gpu), ..*run }).collect()
        };
        let (own, none) = (score(&runs), score(&each(|_| None)));
        prop_assert!(own.points >= none.points);
        prop_assert_eq!((own.general, none.general), (none.points, none.points));
        prop_assert!(none.parts.iter().all(|part| part.kind != PartKind::Gpu));
        let broken = score(&each(|gpu| gpu.map(|_| GpuSpeed::default())));
        prop_assert_eq!(broken.points, none.points);
        let half = score(&each(|gpu| gpu.map(|gpu| GpuSpeed { memory: 0.0, ..gpu })));
        prop_assert_eq!(half.points, none.points, "one that never ended counts for nothing");
        let lazy: Vec<Run> = runs
            .iter()
            .map(|run| Run {
                gpu: run.gpu.map(|gpu| GpuSpeed { compute: gpu.compute * slower, ..gpu }),
                ..*run
            })
            .collect();
        prop_assert!(score(&lazy).points <= own.points);
        prop_assert!(score(&lazy).with_gpu <= own.with_gpu);
        prop_assert!(own.with_gpu <= MOST);
    }

    /// One more hour that is kept never takes a point, and one that is broken never gives one.
    #[test]
    fn promises_count_as_they_should(life in life(12), runs in vec(run(), 0..9)) {
        let (mut history, now) = lived(&life);
        let runs = measured(&runs);
        let now = next_hour(&mut history, now);
        let hour = |sight| {
            let mut history = history.clone();
            let end = play(&mut history, &[(sight, 60)], now);
            history.see(Sight::Unknown, end);
            (points(&history, &runs, end), end)
        };
        let (idle, end) = hour(IDLE);
        let before = points(&history, &runs, end);
        prop_assert!(idle >= before, "kept: {before} to {idle}");
        let (works, _) = hour(WORKS);
        prop_assert!(works >= idle, "worked: {idle} to {works}");
        let (failed, _) = hour(Sight::There { working: true, failing: true, until: None });
        prop_assert!(failed <= works);
        let (missing, _) = hour(Sight::Missing);
        // It may end the probation of one that is fast.
        prop_assert!(missing <= before || Score::of(Some(&history), &runs, end).probation.is_some());
        let (excused, _) = hour(Sight::Excused);
        prop_assert_eq!(excused, before);
    }

    /// To claim more raises nothing, when the same is shown.
    #[test]
    fn claims_raise_nothing(life in life(6), runs in vec(run(), 0..9), more in 1u32..100) {
        let (history, now) = lived(&life);
        let boast = |run: &Run| Run {
            claimed_cpu: Cpu(run.claimed_cpu.0 + more * 1000),
            block_asked: Bytes(run.block_asked.0 + (u64::from(more) << 20)),
            ..*run
        };
        let boasting: Vec<Run> = runs.iter().map(boast).collect();
        prop_assert!(points(&history, &measured(&boasting), now) <= points(&history, &measured(&runs), now));
    }

    /// Who is not seen any more falls, and never rises.
    #[test]
    fn it_fades(life in life(12), runs in vec(run(), 0..9), days in vec(1i64..100, 1..6)) {
        let (history, mut now) = lived(&life);
        let runs = measured(&runs);
        let mut last = points(&history, &runs, now);
        for days in days {
            now = Timestamp(now.0 + days * DAY);
            let next = points(&history, &runs, now);
            prop_assert!(next <= last, "{last} to {next}");
            last = next;
        }
        prop_assert!(points(&history, &runs, Timestamp(now.0 + 4000 * DAY)) <= 5);
    }

    /// A restart of the agent, a minute now and then, changes nothing; that a server begins anew raises nothing.
    #[test]
    fn restarts_change_nothing(hours in 2u16..300, every in 1u16..30) {
        let whole = [(WORKS, hours * 60)];
        let (quiet, now) = lived(&whole);
        let mut restarted = History::new(BEGIN);
        let mut at = BEGIN;
        for hour in 0..hours {
            for minute in (0..60).step_by(2) {
                let gone = hour % every == 0 && minute == 30;
                restarted.see(if gone { Sight::Missing } else { WORKS }, at);
                at = Timestamp(at.0 + 2 * MINUTE);
            }
        }
        prop_assert_eq!(at, now);
        prop_assert_eq!(points(&restarted, &Runs::default(), now), points(&quiet, &Runs::default(), now));
        let mut reread = History::new(BEGIN);
        let mut at = BEGIN;
        for _ in 0..hours {
            at = play(&mut reread, &[(WORKS, 60)], at);
            reread = serde_json::from_str(&serde_json::to_string(&reread).unwrap()).unwrap();
        }
        prop_assert!(points(&reread, &Runs::default(), now) <= points(&quiet, &Runs::default(), now));
    }

    /// What was earned stays, whatever comes.
    #[test]
    fn badges_stay(past in life(12), future in life(12)) {
        let (mut history, now) = lived(&past);
        let before = history.badges().to_vec();
        let now = play(&mut history, &future, now);
        history.catch(now);
        prop_assert_eq!(&history.badges()[..before.len()], &before[..]);
    }

    /// Placement gets steps, near to the points, and no other one for a small change.
    #[test]
    fn placement_is_calm(points in 0u16..=1000, before in proptest::option::of(0u8..=20), shift in -10i32..=10) {
        let before = before.map(|step| step * 5);
        let weight = placement_weight(points, before);
        prop_assert!(weight <= 100 && weight.is_multiple_of(5));
        let exact = f64::from(points) / 10.0;
        prop_assert!((f64::from(weight) - exact).abs() <= 6.0, "{weight} of {points}");
        let moved = u16::try_from((i32::from(points) + shift).clamp(0, 1000)).unwrap();
        let fresh = placement_weight(points, None);
        prop_assert_eq!(placement_weight(moved, Some(fresh)), fresh);
    }

    /// More good trials, or fewer bad ones, never lower the bound; it is below the share.
    #[test]
    fn wilsons_bound_is_one(good in 0.0..500.0f64, bad in 0.0..500.0f64, more in 0.0..50.0f64) {
        let bound = wilson(good, good + bad);
        prop_assert!((0.0..=1.0).contains(&bound));
        prop_assert!(bound <= good / (good + bad).max(1e-9) + 1e-9);
        prop_assert!(wilson(good + more, good + more + bad) + 1e-9 >= bound);
        prop_assert!(wilson(good, good + bad + more) <= bound + 1e-9);
    }

    /// Places are a competition's: as many are before one as its place says, in class and over all.
    #[test]
    fn places_count_who_is_before(points in vec((0u16..20, 0usize..4, any::<bool>()), 1..30)) {
        let entry = |(n, (points, class, probation)): (usize, &(u16, usize, bool))| Entry {
            node: NodeId::from_random(n as u128 + 1),
            class: Class::ALL[*class],
            points: *points,
            probation: *probation,
            speed: f64::from(*points),
        };
        let entries: Vec<Entry> = points.iter().enumerate().map(entry).collect();
        let board = Board::new(entries.clone());
        for one in &entries {
            let place = board.place(one.node).unwrap();
            let before = |other: &&Entry| {
                (one.probation && !other.probation)
                    || (one.probation == other.probation && other.points > one.points)
            };
            let of_class = |other: &&Entry| other.class == one.class;
            prop_assert_eq!(place.overall as usize, 1 + entries.iter().filter(before).count());
            prop_assert_eq!(place.in_class as usize, 1 + entries.iter().filter(of_class).filter(before).count());
            prop_assert_eq!(place.class_size as usize, entries.iter().filter(of_class).count());
        }
    }
}

/// A laptop that is there each evening, as it says, comes as near to all points for reliability as a server, only later.
#[test]
fn a_laptop_can_win() {
    let hours = |there: u16, days: usize| {
        let day = [(WORKS, there * 60), (Sight::Excused, (24 - there) * 60)];
        let (history, now) = lived(&day.repeat(days));
        let score = Score::of(Some(&history), &Runs::default(), now);
        score.parts[0].points
    };
    assert!(hours(6, 120) > 520.0, "{}", hours(6, 120));
    // A server that vanishes for an hour each day is behind it.
    let flaky = [(WORKS, 23 * 60), (Sight::Missing, 60)].repeat(120);
    let (history, now) = lived(&flaky);
    assert!(Score::of(Some(&history), &Runs::default(), now).parts[0].points < hours(6, 120) - 20.0);
}

#[test]
fn an_end_that_was_told_in_time_breaks_nothing_and_one_made_up_does() {
    let vanish = |told_hours: i64, until_hours: i64| {
        let mut history = History::new(BEGIN);
        let until = Timestamp(BEGIN.0 + until_hours * 60 * MINUTE);
        let mut now = BEGIN;
        while now < until {
            let known = until.since(now) <= Duration::from_secs(told_hours as u64 * 3600);
            let until = known.then_some(until);
            history.see(Sight::There { working: false, failing: false, until }, now);
            now = Timestamp(now.0 + 2 * MINUTE);
        }
        play(&mut history, &[(Sight::Missing, 600)], now);
        history.broken()
    };
    assert_eq!(vanish(8, 8), 0);
    assert!(vanish(0, 8) > 5);
}

#[test]
fn badges_are_earned_by_their_rules() {
    let day = [(WORKS, 8 * 60), (Sight::Excused, 16 * 60)];
    let names =
        |life: &[(Sight, u16)]| lived(life).0.badges().iter().map(|earned| earned.badge).collect::<Vec<_>>();
    assert_eq!(names(&day.repeat(7)), []);
    assert_eq!(names(&day.repeat(8)), [Badge::KeptWeek]);
    assert_eq!(names(&day.repeat(32)), [Badge::KeptWeek, Badge::KeptMonth, Badge::FirstMonth]);
    assert_eq!(
        names(&day.repeat(130)),
        [Badge::KeptWeek, Badge::KeptMonth, Badge::FirstMonth, Badge::KeptHundred, Badge::Workhorse]
    );
    let broken = [(WORKS, 60), (Sight::Missing, 26 * 60)];
    let mut life = broken.to_vec();
    life.extend(day.repeat(10));
    assert_eq!(names(&life), [Badge::KeptWeek, Badge::CameBack]);
    // A day that is broken ends a row.
    let mut life = day.repeat(6);
    life.extend([(WORKS, 120), (Sight::Missing, 30), (WORKS, 21 * 60 + 30)]);
    life.extend(day.repeat(6));
    assert_eq!(names(&life), []);
}

#[test]
fn claims_that_are_not_borne_out_are_marked() {
    let run = Run {
        at: BEGIN,
        cpu_one: 100.0,
        cpu_all: 210.0,
        block: Bytes(1 << 26),
        block_asked: Bytes(1 << 26),
        claimed_cpu: Cpu(4000),
        ..Run::default()
    };
    assert_eq!(measured(&[run; 3]).marks(BEGIN), []);
    let boasts = Run { claimed_cpu: Cpu(16_000), ..run };
    assert_eq!(measured(&[boasts; 2]).marks(BEGIN), [], "it takes three");
    assert_eq!(measured(&[boasts; 3]).marks(BEGIN), [Mark::Cores]);
    assert_eq!(measured(&[boasts, boasts, run]).marks(BEGIN), [], "once is enough to show it");
    let short = Run { block: Bytes(0), ..run };
    assert_eq!(measured(&[short; 3]).marks(BEGIN), [Mark::Memory]);
    let capacity = |runs: &Runs| Score::of(None, runs, BEGIN).parts[2].points;
    assert!(capacity(&measured(&[run; 3])) > 0.0);
    assert_eq!(capacity(&measured(&[boasts; 3])), 0.0);
}

#[test]
fn classes_follow_what_a_machine_is_and_shows() {
    let mut facts = NodeFacts { cpus: 8, memory: Bytes(16 << 30), ..NodeFacts::default() };
    assert_eq!(Class::of(&facts, None), Class::Desktop);
    facts.machine.battery = true;
    assert_eq!(Class::of(&facts, Some(7.5)), Class::Laptop);
    assert_eq!(Class::of(&facts, Some(40.0)), Class::Server, "no laptop has forty cores");
    facts.machine.battery = false;
    facts.machine.virtualization = "kvm".into();
    assert_eq!(Class::of(&facts, None), Class::Server);
}

#[test]
fn a_gpu_counts_from_the_third_time_on_and_fades_when_it_is_not_shown() {
    let gpu = Some(lattice_ranking::REFERENCE_GPU);
    let run = Run { at: BEGIN, cpu_one: 200.0, cpu_all: 1600.0, gpu, ..Run::default() };
    let of = |runs: &[Run], days: i64| {
        let score = Score::of(None, &measured(runs), Timestamp(BEGIN.0 + days * DAY));
        score.parts.iter().find(|part| part.kind == PartKind::Gpu).map(|part| part.points.round())
    };
    assert_eq!(of(&[run; 3], 0), Some(50.0), "the reference has half of the points");
    assert_eq!(of(&[run; 1], 0), Some(17.0));
    assert_eq!(of(&[run; 3], 37), Some(25.0), "half of them a month after a week");
    let without = Run { gpu: None, ..run };
    assert_eq!(of(&[run, run, run, without], 0), Some(50.0), "when it was in use nothing is lost");
    let mut gone = vec![run; 3];
    gone.extend([without; 7]);
    assert_eq!(of(&gone, 0), None, "one that is not shown any more is forgotten");
    // A processor that passes itself off as a GPU: 10 GFLOP/s and 20 GB/s.
    let posing = Run { gpu: Some(GpuSpeed { compute: 5e9, memory: 20e9 }), ..run };
    assert_eq!(of(&[posing; 3], 0), Some(1.0));
    // For work that asks for a GPU, half is the GPU's.
    let score = |run: Run| Score::of(None, &measured(&[run; 3]), BEGIN).with_gpu;
    assert!(score(run) > score(posing) + 200, "{} {}", score(run), score(posing));
}
