//! [`Runs`]: what was measured of a machine, the last few times.

use lattice_model::{Bytes, Cpu, Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// How many runs are kept; the median of them counts.
const KEPT: usize = 7;
/// How many it takes to say that a machine has not what it claims.
const MARK_RUNS: usize = 3;
/// How many runs it takes until they count in full.
pub(crate) const ENOUGH: u32 = 3;
/// Of the cores that it claims a machine shows at least so much: two threads of one core are hardly more.
const CORES_SHOWN: f64 = 0.4;
/// How long a made-up answer is told of a machine.
const FALSE_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// What was measured stays fresh for so long …
const FRESH: Duration = Duration::from_secs(7 * 24 * 3600);
/// … and then counts for half as much after each of these.
const HALF_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The least that a ratio counts, so that one zero does not make all of them nothing.
const LEAST: f64 = 0.02;
/// The most that it counts.
const HIGHEST: f64 = 32.0;
/// The most that the disk counts: what it did cannot be proven.
const DISK_HIGHEST: f64 = 2.0;

/// What was measured at one time. 0 is what was not done: it was begun and not ended, or could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When.
    pub at: Timestamp,
    /// Segments of work a second, on one core.
    pub cpu_one: f64,
    /// The same on all that are lent, together.
    pub cpu_all: f64,
    /// Memory read and written, in bytes a second.
    pub memory: f64,
    /// How much of it was there.
    pub block: Bytes,
    /// How much of it was asked for.
    pub block_asked: Bytes,
    /// A file written until the disk has it, in bytes a second.
    pub disk_write: f64,
    /// A file read, in bytes a second.
    pub disk_read: f64,
    /// A small piece written until the disk has it, in pieces a second.
    pub disk_sync: f64,
    /// There and back, in microseconds, by the server's clock.
    pub round_trip_us: u64,
    /// What came from the machine in a moment, in bytes a second, as the server counted; 0 where that is not known.
    pub up: f64,
    /// The processor that the machine said it lends.
    pub claimed_cpu: Cpu,
    /// One of its GPUs, drawn by chance; absent where none was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuSpeed>,
}

/// What a GPU did. 0 is what was begun and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GpuSpeed {
    /// Steps of work a second, of two fused multiply-adds and two operations on integers each.
    pub compute: f64,
    /// Its memory read and written, in bytes a second.
    pub memory: f64,
}

impl GpuSpeed {
    /// How fast it is against another: the geometric mean of both ratios. What is not done counts as nothing.
    fn against(&self, other: &Self) -> f64 {
        let ratio = |own: f64, other: f64| (own / other).clamp(0.0, HIGHEST);
        (ratio(self.compute, other.compute) * ratio(self.memory, other.memory)).sqrt()
    }
}

/// What a machine shows, by the median of its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Segments a second on one core.
    pub cpu_one: f64,
    /// The same on all that are lent.
    pub cpu_all: f64,
    /// Bytes a second of memory.
    pub memory: f64,
    /// Bytes of memory that were there, the most of all runs.
    pub block: f64,
    /// Bytes a second written to disk.
    pub disk_write: f64,
    /// Bytes a second read from it.
    pub disk_read: f64,
    /// Small pieces a second that the disk has for sure.
    pub disk_sync: f64,
    /// Microseconds there and back.
    pub round_trip_us: f64,
    /// Bytes a second from the machine to the server; 0 where that is not known.
    pub up: f64,
    /// A GPU, where one was measured in these runs.
    pub gpu: Option<GpuSpeed>,
}

/// What others are compared with: round numbers, near to what a desktop of about 2020 with eight cores and an SSD behind
/// NVMe does (a core of a present EPYC in a cloud did 175 segments a second). They are part of the formula.
pub const REFERENCE: Figures = Figures {
    cpu_one: 200.0,
    cpu_all: 1600.0,
    memory: 20e9,
    block: (256u64 << 20) as f64,
    disk_write: 400e6,
    disk_read: 1e9,
    disk_sync: 500.0,
    round_trip_us: 50_000.0,
    up: 2.5e6,
    gpu: Some(REFERENCE_GPU),
};

/// The GPU of [`REFERENCE`].
pub const REFERENCE_GPU: GpuSpeed = GpuSpeed { compute: 1.5e12, memory: 300e9 };

impl Figures {
    /// How many cores it shows.
    pub fn cores(&self) -> f64 {
        if self.cpu_one > 0.0 { self.cpu_all / self.cpu_one } else { 0.0 }
    }

    /// How fast its GPU is against [`REFERENCE_GPU`]; nothing where none was measured.
    pub fn gpu_speed(&self) -> Option<f64> {
        Some(self.gpu?.against(&REFERENCE_GPU))
    }

    /// How fast it is against [`REFERENCE`], but for its GPU: the geometric mean of one core, all cores, memory and disk, the disk being
    /// the geometric mean of writing, reading and keeping.
    pub fn speed(&self) -> f64 {
        let ratio = |own: f64, reference: f64, most: f64| (own / reference).clamp(LEAST, most).ln();
        let disk = [
            ratio(self.disk_write, REFERENCE.disk_write, DISK_HIGHEST),
            ratio(self.disk_read, REFERENCE.disk_read, DISK_HIGHEST),
            ratio(self.disk_sync, REFERENCE.disk_sync, DISK_HIGHEST),
        ];
        let parts = [
            ratio(self.cpu_one, REFERENCE.cpu_one, HIGHEST),
            ratio(self.cpu_all, REFERENCE.cpu_all, HIGHEST),
            ratio(self.memory, REFERENCE.memory, HIGHEST),
            disk.iter().sum::<f64>() / 3.0,
        ];
        (parts.iter().sum::<f64>() / 4.0).exp()
    }
}

/// What a machine said and did not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// An answer was made up.
    MadeUp,
    /// It lends more processor than it shows.
    Cores,
    /// It lends memory that is not there when it is asked for.
    Memory,
}

impl Mark {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MadeUp => "made_up",
            Self::Cores => "cores",
            Self::Memory => "memory",
        }
    }

    /// What it means, in a sentence.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::MadeUp => "an answer of it was not computed but made up",
            Self::Cores => "it lends more processor than it shows when it is measured",
            Self::Memory => "memory that it lends was not there when it was asked for",
        }
    }
}

/// What was measured, the last few times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// The newest last.
    last: Vec<Run>,
    /// How many there were since it began, or since an answer was made up.
    total: u32,
    /// When that was.
    made_up: Option<Timestamp>,
}

impl Runs {
    /// Takes in a run.
    pub fn add(&mut self, run: Run) {
        self.total = self.total.saturating_add(1);
        if self.last.len() >= KEPT {
            self.last.remove(0);
        }
        self.last.push(run);
    }

    /// An answer was made up: nothing that the machine showed before is believed, and it begins anew.
    pub fn make_up(&mut self, now: Timestamp) {
        self.last.clear();
        self.total = 0;
        self.made_up = Some(now);
    }

    /// When an answer was made up last.
    pub const fn made_up(&self) -> Option<Timestamp> {
        self.made_up
    }

    /// How many runs there were, since it began or since an answer was made up.
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// The newest run.
    pub fn newest(&self) -> Option<&Run> {
        self.last.last()
    }

    /// The medians; nothing before the first run.
    pub fn figures(&self) -> Option<Figures> {
        let median = |of: fn(&Run) -> f64| {
            let mut all: Vec<f64> = self.last.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            // Of two the lower one.
            all.get((all.len().max(1) - 1) / 2).copied()
        };
        Some(Figures {
            cpu_one: median(|run| run.cpu_one)?,
            cpu_all: median(|run| run.cpu_all)?,
            memory: median(|run| run.memory)?,
            block: self.last.iter().map(|run| run.block.0 as f64).fold(0.0, f64::max),
            disk_write: median(|run| run.disk_write)?,
            disk_read: median(|run| run.disk_read)?,
            disk_sync: median(|run| run.disk_sync)?,
            // Of what took longest where nothing came back.
            round_trip_us: median(|run| if run.round_trip_us == 0 { 1e9 } else { run.round_trip_us as f64 })?,
            up: median(|run| run.up)?,
            gpu: self.gpu(),
        })
    }

    /// The medians of the runs in which a GPU was measured.
    fn gpu(&self) -> Option<GpuSpeed> {
        let median = |of: fn(&GpuSpeed) -> f64| {
            let mut all: Vec<f64> = self.last.iter().filter_map(|run| run.gpu.as_ref()).map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get((all.len().max(1) - 1) / 2).copied()
        };
        Some(GpuSpeed { compute: median(|gpu| gpu.compute)?, memory: median(|gpu| gpu.memory)? })
    }

    /// How much of what its GPU did counts, from 0 to 1, as [`weight`](Self::weight) of all.
    pub fn gpu_weight(&self, now: Timestamp) -> f64 {
        let with = || self.last.iter().filter(|run| run.gpu.is_some());
        let Some(newest) = with().next_back() else { return 0.0 };
        aged(u32::try_from(with().count()).unwrap_or(ENOUGH), newest.at, now)
    }

    /// How much of it counts, from 0 to 1: all from the third run on, and less when the newest one is old.
    pub fn weight(&self, now: Timestamp) -> f64 {
        let Some(newest) = self.newest() else { return 0.0 };
        aged(self.total, newest.at, now)
    }

    /// What is held against it.
    pub fn marks(&self, now: Timestamp) -> Vec<Mark> {
        let mut marks = Vec::new();
        if self.made_up.is_some_and(|at| now.since(at) < FALSE_FOR) {
            marks.push(Mark::MadeUp);
        }
        // Runs that ended: what was broken off says nothing of cores or memory.
        let ended: Vec<&Run> =
            self.last.iter().filter(|run| run.cpu_one > 0.0 && run.cpu_all > 0.0).collect();
        let late = &ended[ended.len().saturating_sub(MARK_RUNS)..];
        if late.len() == MARK_RUNS {
            let shown = |run: &&Run| {
                // More than 64 lanes are not measured.
                let claimed = (f64::from(run.claimed_cpu.0) / 1000.0).min(64.0);
                run.cpu_all / run.cpu_one >= CORES_SHOWN * claimed || claimed <= 1.0
            };
            if !late.iter().any(shown) {
                marks.push(Mark::Cores);
            }
            if !late.iter().any(|run| run.block >= run.block_asked) {
                marks.push(Mark::Memory);
            }
        }
        marks
    }
}

/// How much so many runs count, of which the newest was then.
fn aged(runs: u32, newest: Timestamp, now: Timestamp) -> f64 {
    let many = f64::from(runs.min(ENOUGH)) / f64::from(ENOUGH);
    let stale = now.since(newest).0.saturating_sub(FRESH.0);
    many * (-(stale as f64) / HALF_LIFE.0 as f64).exp2()
}
