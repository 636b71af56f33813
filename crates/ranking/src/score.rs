//! [`Score`]: one number, by parts that say where they come from.

use crate::{Figures, History, Mark, REFERENCE, REFERENCE_GPU, Runs, runs::ENOUGH};
use lattice_model::{Bytes, Timestamp};
use serde::{Deserialize, Serialize};

/// The most points.
pub const MOST: u16 = 1000;
/// Hours that a newcomer has to be seen.
const PROBATION_HOURS: u64 = 72;
/// The most points before that.
const PROBATION_MOST: f64 = 300.0;
/// The most points for a GPU.
const GPU_MOST: f64 = 100.0;

/// What points are given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// It was there when it had promised to be, and did not fail its work.
    Reliability,
    /// How fast it is.
    Performance,
    /// How much it has.
    Capacity,
    /// How near it is, and how much passes.
    Network,
    /// How fast its GPU is, on top of the others: who has none lacks nothing.
    Gpu,
}

impl PartKind {
    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reliability => "reliability",
            Self::Performance => "performance",
            Self::Capacity => "capacity",
            Self::Network => "network",
            Self::Gpu => "gpu",
        }
    }
}

/// Points for one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// For what.
    pub kind: PartKind,
    /// How many.
    pub points: f64,
    /// Of how many.
    pub most: f64,
    /// Why, in words.
    pub why: String,
}

/// How good a node is.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// From 0 to [`MOST`].
    pub points: u16,
    /// The same without its GPU, for work that asks for none.
    pub general: u16,
    /// The same for work that asks for a GPU: half is the GPU's.
    pub with_gpu: u16,
    /// What they are made of. On probation the points may be fewer than their sum.
    pub parts: Vec<Part>,
    /// What a newcomer still lacks; absent where nothing is lacking.
    pub probation: Option<String>,
    /// What is held against it.
    pub marks: Vec<Mark>,
}

/// Half of the points at `half`, all of them at infinity.
fn saturating(own: f64, half: f64) -> f64 {
    own.max(0.0) / (own.max(0.0) + half)
}

impl Score {
    /// Of what was seen and measured of a node. `history` is nothing for one that was never seen.
    pub fn of(history: Option<&History>, runs: &Runs, now: Timestamp) -> Self {
        let marks = runs.marks(now);
        let (figures, fresh) = (runs.figures(), runs.weight(now));
        // Whether a machine claims too much is known after so many runs; who does has no capacity.
        let claims = marks.iter().any(|mark| matches!(mark, Mark::Cores | Mark::Memory));
        let bears_out = runs.total() >= ENOUGH && !claims;
        let mut parts = vec![
            reliability(history, now),
            performance(figures.as_ref(), fresh),
            capacity(figures.as_ref().filter(|_| bears_out), fresh),
            network(figures.as_ref(), fresh),
        ];
        let probation = probation(history, runs);
        let rounded = |sum: f64| {
            let points = if probation.is_some() { sum.min(PROBATION_MOST) } else { sum };
            (points.floor() as u16).min(MOST)
        };
        let sum: f64 = parts.iter().map(|part| part.points).sum();
        let gpu = figures.as_ref().and_then(|figures| gpu(figures, runs.gpu_weight(now)));
        let of_gpu = gpu.as_ref().map_or(0.0, |part| part.points);
        let with_gpu = sum / 2.0 + f64::from(MOST) / 2.0 * (of_gpu / GPU_MOST);
        let (points, general, with_gpu) = (rounded(sum + of_gpu), rounded(sum), rounded(with_gpu));
        parts.extend(gpu);
        Self { points, general, with_gpu, parts, probation, marks }
    }
}

fn probation(history: Option<&History>, runs: &Runs) -> Option<String> {
    let hours = history.map_or(0, History::trials);
    let mut lacks = Vec::new();
    if hours < PROBATION_HOURS {
        lacks.push(format!("{} more promised hours", PROBATION_HOURS - hours));
    }
    if runs.total() < ENOUGH {
        lacks.push(format!("{} more measurements", ENOUGH - runs.total()));
    }
    (!lacks.is_empty())
        .then(|| format!("a newcomer, {PROBATION_MOST} points at the most: needs {}", lacks.join(" and ")))
}

fn reliability(history: Option<&History>, now: Timestamp) -> Part {
    let most = 550.0;
    let (points, why) = match history {
        None => (0.0, "never seen".to_owned()),
        Some(history) => {
            let (promises, work) = (history.promises.bound(now), history.work.bound(now));
            let why = format!(
                "promises kept in {:.0} % of its hours, as far as can be vouched for ({} kept, {} broken), and {:.0} % with its work \
                 ({} hours well, {} failed)",
                promises * 100.0,
                history.kept(),
                history.broken(),
                work * 100.0,
                history.worked(),
                history.failed(),
            );
            (most * (0.6 * promises + 0.4 * work), why)
        }
    };
    Part { kind: PartKind::Reliability, points, most, why }
}

fn performance(figures: Option<&Figures>, fresh: f64) -> Part {
    let most = 250.0;
    let (points, why) = match figures {
        None => (0.0, "not measured".to_owned()),
        Some(figures) => {
            let speed = figures.speed();
            let ratio = |own: f64, reference: f64| format!("{:.2}", own / reference);
            let why = format!(
                "{speed:.2} times the reference (one core {}, all {}, memory {}, disk {}/{}/{})",
                ratio(figures.cpu_one, REFERENCE.cpu_one),
                ratio(figures.cpu_all, REFERENCE.cpu_all),
                ratio(figures.memory, REFERENCE.memory),
                ratio(figures.disk_write, REFERENCE.disk_write),
                ratio(figures.disk_sync, REFERENCE.disk_sync),
                ratio(figures.disk_read, REFERENCE.disk_read),
            );
            (most * saturating(speed, 1.0) * fresh, aged(why, fresh))
        }
    };
    Part { kind: PartKind::Performance, points, most, why }
}

fn capacity(figures: Option<&Figures>, fresh: f64) -> Part {
    let most = 100.0;
    let (points, why) = match figures {
        None => (0.0, "nothing was measured so often that it can be counted on".to_owned()),
        Some(figures) => {
            let cores = figures.cores();
            let points = 60.0 * saturating(cores, 8.0) + 40.0 * saturating(figures.block, REFERENCE.block);
            let why = format!("{cores:.1} cores and a block of {} shown", Bytes(figures.block as u64));
            (points * fresh, aged(why, fresh))
        }
    };
    Part { kind: PartKind::Capacity, points, most, why }
}

fn network(figures: Option<&Figures>, fresh: f64) -> Part {
    let most = 100.0;
    let (points, why) = match figures {
        None => (0.0, "not measured".to_owned()),
        Some(figures) => {
            let near = REFERENCE.round_trip_us / (REFERENCE.round_trip_us + figures.round_trip_us);
            let points = 60.0 * near + 40.0 * saturating(figures.up, REFERENCE.up);
            let up = match figures.up {
                up if up > 0.0 => format!("{}/s from it", Bytes(up as u64)),
                _ => "what passes is not measured yet".to_owned(),
            };
            let why = format!("{:.1} ms there and back, {up}", figures.round_trip_us / 1000.0);
            (points * fresh, aged(why, fresh))
        }
    };
    Part { kind: PartKind::Network, points, most, why }
}

fn gpu(figures: &Figures, fresh: f64) -> Option<Part> {
    let (speed, gpu) = (figures.gpu_speed()?, figures.gpu?);
    let why = format!(
        "a GPU of {speed:.2} times the reference (it computes {:.2}, its memory {:.2}), on top of the rest",
        gpu.compute / REFERENCE_GPU.compute,
        gpu.memory / REFERENCE_GPU.memory,
    );
    let points = GPU_MOST * saturating(speed, 1.0) * fresh;
    Some(Part { kind: PartKind::Gpu, points, most: GPU_MOST, why: aged(why, fresh) })
}

fn aged(why: String, fresh: f64) -> String {
    if fresh < 0.995 {
        format!("{why}; measured rarely or long ago, so {:.0} % of it count", fresh * 100.0)
    } else {
        why
    }
}

/// What placement gets: 0 to 100 in steps of 5. It moves from `before` only when the points have left its step by a fifth
/// of one, so that plans do not change with every hour. Its input is [`Score::general`], or for work that asks
/// for GPUs [`Score::with_gpu`].
pub fn placement_weight(points: u16, before: Option<u8>) -> u8 {
    const STEP: i32 = 50;
    const SLACK: i32 = 10;
    let points = i32::from(points.min(MOST));
    let step = points / STEP;
    let step = match before.map(|before| i32::from(before.min(100)) / 5) {
        Some(old) if points >= old * STEP - SLACK && points < (old + 1) * STEP + SLACK => old,
        _ => step,
    };
    u8::try_from(step * 5).unwrap_or(100)
}
