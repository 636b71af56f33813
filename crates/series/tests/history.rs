//! The history as its user sees it: what was written is found, in every grid, after ends of all kinds.

#![allow(clippy::unwrap_used)]

use lattice_model::{
    AllocationId, NodeId, Timestamp,
    metric::{Entity, Metric},
};
use lattice_series::{Config, History, Select, Tier};
use std::{fs, path::Path};

/// A midnight, where all grids begin.
const BEGIN: i64 = 20_000 * 86_400_000;
const CONFIG: Config = Config { series: 10_000, bytes: 1 << 30 };

fn node(n: u128) -> Entity {
    Entity::Node(NodeId::new(uuid::Uuid::from_u128(n)))
}

fn open(folder: &Path, at: i64) -> History {
    History::open(folder, CONFIG, Timestamp(at)).unwrap()
}

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal, of variance 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// A walk with noise on top, as processors and memory have it.
fn fill(history: &History, entity: Entity, from: i64, to: i64) -> Vec<f64> {
    let (mut chance, mut level, mut said) = (Chance(7), 0.4f64, Vec::new());
    for at in (from..to).step_by(10_000) {
        level = (level + 0.01 * chance.normal()).clamp(0.05, 0.95);
        let value = (level + 0.02 * chance.normal()).clamp(0.0, 1.0);
        said.push(value);
        history.write(entity, "n1", Timestamp(at + 5000), [(Metric::NodeCpu, "", value)]);
        if at % 60_000 == 0 {
            history.maintain(Timestamp(at + 5000)).unwrap();
        }
    }
    said
}

fn averages(
    history: &History,
    entity: Entity,
    from: i64,
    to: i64,
    points: u32,
    now: i64,
) -> (i64, Vec<Option<f64>>) {
    let found = history.range(
        &Select::One(entity),
        &[Metric::NodeCpu],
        Timestamp(from),
        Timestamp(to),
        points,
        Timestamp(now),
    );
    let points = found.series.first().map(|series| series.points.iter().map(|p| p.map(|p| p.avg)).collect());
    (found.step, points.unwrap_or_default())
}

/// Each grid shows the averages of what was said, whatever of it is in memory, in fine and in coarse blocks.
#[test]
fn every_grid_agrees_with_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), BEGIN);
    let end = BEGIN + 31 * 3_600_000;
    let said = fill(&history, node(1), BEGIN, end);
    for (hours, points, step) in
        [(1, 360, 10_000), (2, 240, 30_000), (6, 360, 60_000), (24, 144, 600_000), (30, 180, 600_000)]
    {
        let from = end - hours * 3_600_000;
        let (got, values) = averages(&history, node(1), from, end, points, end);
        assert_eq!((got, values.len()), (step, points as usize), "{hours} h");
        let first = ((from - BEGIN) / 10_000) as usize;
        for (index, (value, part)) in
            values.iter().zip(said[first..].chunks((step / 10_000) as usize)).enumerate()
        {
            let mean = part.iter().sum::<f64>() / part.len() as f64;
            let value = value.unwrap_or_else(|| panic!("{hours} h: point {index} is missing"));
            assert!((value - mean).abs() < 0.0021, "{hours} h, point {index}: {value} is not {mean}");
        }
    }
    let found = history.range(
        &Select::One(node(1)),
        &[Metric::NodeCpu],
        Timestamp(end - 86_400_000),
        Timestamp(end),
        144,
        Timestamp(end),
    );
    assert!(found.series[0].points.iter().flatten().all(|p| p.max >= p.avg));
}

/// An end at any moment leaves what was saved: files cut anywhere are set aside, and the others are read.
#[test]
fn what_is_cut_or_flipped_is_set_aside_and_the_rest_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let end = BEGIN + 3 * 3_600_000;
    {
        let history = open(folder.path(), BEGIN);
        fill(&history, node(1), BEGIN, end);
        history.save(Timestamp(end)).unwrap();
    }
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        let whole = fs::read(folder.path().join(name)).unwrap();
        let cuts = (0..whole.len()).step_by(whole.len() / 12 + 1).map(|at| (at, true));
        for (at, cut) in cuts.chain((0..whole.len()).step_by(whole.len() / 12 + 1).map(|at| (at, false))) {
            let other = tempfile::tempdir().unwrap();
            for copied in &names {
                fs::copy(folder.path().join(copied), other.path().join(copied)).unwrap();
            }
            let mut bytes = whole.clone();
            if cut {
                bytes.truncate(at)
            } else {
                bytes[at] ^= 16
            }
            fs::write(other.path().join(name), &bytes).unwrap();
            fs::write(other.path().join("10s-5.part"), b"half").unwrap();
            let history = open(other.path(), end);
            let (_, values) = averages(&history, node(1), BEGIN, end, 180, end);
            let known = values.iter().flatten().count();
            assert!(known >= 50, "{name:?} at {at}: only {known} of {} are known", values.len());
            assert!(!other.path().join("10s-5.part").exists());
        }
    }
    let history = open(folder.path(), end);
    let (_, values) = averages(&history, node(1), BEGIN, end, 180, end);
    assert!(values.iter().all(Option::is_some), "an orderly end loses nothing");
}

#[test]
fn what_is_not_believed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let history =
        History::open(folder.path(), Config { series: 2, bytes: 1 << 20 }, Timestamp(BEGIN)).unwrap();
    let write = |entity, at, metric, label, value| {
        history.write(entity, "t", Timestamp(at), [(metric, label, value)]).taken
    };
    assert_eq!(write(node(1), BEGIN, Metric::NodeCpu, "", f64::NAN), 0);
    assert_eq!(write(node(1), BEGIN, Metric::AllocationMemory, "", 1.0), 0, "of another kind of thing");
    assert_eq!(write(node(1), BEGIN - 3_600_000, Metric::NodeCpu, "", 0.5), 0, "too old");
    assert_eq!(write(node(1), BEGIN + 3_600_000, Metric::NodeCpu, "", 0.5), 0, "of a time to come");
    assert_eq!(write(node(1), BEGIN, Metric::NodeCpu, "", 0.5), 1);
    assert_eq!(write(node(1), BEGIN, Metric::NodeDiskRead, "sda", 0.0), 1);
    assert_eq!(write(node(1), BEGIN, Metric::NodeDiskRead, "sdb", 0.0), 0, "one series too many");
    assert_eq!(history.stats().series, 2);
}

/// Counters become rates; one that begins anew has risen from zero.
#[test]
fn counters_become_rates() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), BEGIN);
    let id = Entity::Allocation(AllocationId::new(uuid::Uuid::from_u128(9)));
    for (slot, value) in [(0, 5000.0), (1, 5020.0), (2, 5040.0), (3, 10.0), (4, 30.0)] {
        history.write(id, "p/s/web", Timestamp(BEGIN + slot * 10_000), [(Metric::AllocationCpu, "", value)]);
    }
    let to = Timestamp(BEGIN + 60_000);
    let ask = |tag: &str| {
        history.range(&Select::Tag(tag.into()), &[Metric::AllocationCpu], Timestamp(BEGIN), to, 6, to)
    };
    let found = ask("p/s");
    let values: Vec<_> = found.series[0].points.iter().map(|p| p.map(|p| p.avg)).collect();
    assert_eq!(values.len(), 6);
    assert_eq!(values[0], None);
    for (value, rate) in values[1..5].iter().zip([2.0, 2.0, 1.0, 2.0]) {
        assert!((value.unwrap() - rate).abs() < 0.01, "{values:?}");
    }
    assert!(ask("p/sh").series.is_empty() && ask("p/s/we").series.is_empty());
    let latest = history.latest(&id, |latest| (latest.raw, latest.value));
    assert_eq!(latest, [(30.0, Some(2.0))]);
}

/// What is too much goes, the oldest first, and a point takes two bytes at the most, all files and names counted.
#[test]
fn space_is_bounded_and_points_are_small() {
    let folder = tempfile::tempdir().unwrap();
    let history = open(folder.path(), BEGIN);
    let mut chance = Chance(3);
    let mut levels: Vec<f64> = (0..40).map(|_| chance.next()).collect();
    let hours = 26;
    for at in (BEGIN..BEGIN + hours * 3_600_000).step_by(10_000) {
        for (n, level) in levels.iter_mut().enumerate() {
            *level = (*level + 0.01 * chance.normal()).clamp(0.05, 0.95);
            let cpu = *level + 0.02 * chance.normal();
            let memory = 8e9 * *level + 2e6 * chance.normal();
            let rate = 1e6 * (*level * 2.0 + 0.3 * chance.normal()).exp();
            let values = [
                (Metric::NodeCpu, "", cpu),
                (Metric::NodeMemoryUsed, "", memory),
                (Metric::NodeGpuMemoryUsed, "0", rate),
            ];
            history.write(node(n as u128), "node", Timestamp(at + 5000), values);
        }
        if at % 60_000 == 0 {
            history.maintain(Timestamp(at + 5000)).unwrap();
        }
    }
    for tier in Tier::ALL {
        let start = |name: &str| name.starts_with(&format!("{}-", tier.as_str()));
        let files: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| start(&entry.file_name().to_string_lossy()))
            .collect();
        let bytes: u64 = files.iter().map(|entry| entry.metadata().unwrap().len()).sum();
        let points = files.len() * tier.slots() * 120;
        let each = bytes as f64 / points as f64;
        println!("{}: {} files, {each:.2} bytes per point", tier.as_str(), files.len());
        assert!(!files.is_empty() && each <= 2.0, "{}: {each:.2} bytes per point", tier.as_str());
    }
    let bytes = history.stats().bytes;
    drop(history);
    let less = Config { bytes: bytes / 2, ..CONFIG };
    let now = Timestamp(BEGIN + hours * 3_600_000);
    let history = History::open(folder.path(), less, now).unwrap();
    history.maintain(now).unwrap();
    assert!(history.stats().bytes <= bytes / 2 && history.stats().blocks > 0);
}
