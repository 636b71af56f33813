//! A fleet of hosts that come and go, and jobs that need one to stay.
//!
//! Lifetimes of hosts follow published fits (Javadi et al., IEEE TPDS 22, 2011; the data sets Microsoft99 and Nd07cpu
//! of the Failure Trace Archive); others have daily hours. [`run`] plays the same comings, goings and jobs to each
//! [`Policy`], so that only the choice of hosts differs.

use crate::{History, Population, Stretch, Zone};
use lattice_model::{Duration, Timestamp};

const HOUR: f64 = 3_600_000.0;
/// A Monday, in milliseconds.
const BEGIN: i64 = 1_795_392_000_000;

/// A small generator of numbers (SplitMix64): the same for the same seed, on every machine.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0 and below 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn weibull(&mut self, shape: f64, scale: f64) -> f64 {
        scale * (-self.uniform().ln()).powf(1.0 / shape)
    }
}

/// How a host comes and goes. All times are hours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Lifetimes and absences of Weibull distributions, each as shape and scale.
    Weibull {
        /// While it is there.
        up: (f64, f64),
        /// While it is away.
        down: (f64, f64),
    },
    /// There each day between two hours of the clock, give or take [`JITTER`], with a break now and then.
    Daily {
        /// When it comes.
        from: f64,
        /// When it leaves; more than 24 is the next day.
        to: f64,
        /// Only from Monday to Friday.
        weekdays: bool,
    },
}

/// How far, as a standard deviation, a daily host is off its hours.
pub const JITTER: f64 = 1.0 / 6.0;
/// How long a daily host runs without a break, on average.
const BREAK_EVERY: f64 = 100.0;

/// Office PCs, by the fit of Microsoft99.
pub const OFFICE: Kind = Kind::Weibull { up: (0.55, 35.30), down: (0.60, 9.34) };
/// A desktop grid, by the fit of Nd07cpu.
pub const GRID: Kind = Kind::Weibull { up: (0.45, 4.16), down: (0.51, 0.74) };

/// A host with all its stretches.
#[derive(Clone, Debug)]
pub struct Host {
    /// What is true of it, where that is known.
    pub kind: Option<Kind>,
    /// When it is there, from and to, in order.
    pub there: Vec<(Timestamp, Timestamp)>,
}

fn at(hours: f64) -> Timestamp {
    Timestamp(BEGIN + (hours * HOUR) as i64)
}

impl Kind {
    /// So much better or worse than its kind.
    fn of_quality(self, factor: f64) -> Self {
        match self {
            Self::Weibull { up: (shape, scale), down } => Self::Weibull { up: (shape, scale * factor), down },
            daily => daily,
        }
    }

    fn stretches(self, hours: f64, dice: &mut Dice) -> Vec<(Timestamp, Timestamp)> {
        let mut there = Vec::new();
        match self {
            Self::Weibull { up, down } => {
                // Some begin in the middle of an absence, so that not all come at once.
                let mut now = dice.uniform() * 24.0 - 24.0;
                while now < hours {
                    let end = now + dice.weibull(up.0, up.1);
                    if end > 0.0 {
                        there.push((at(now.max(0.0)), at(end.min(hours))));
                    }
                    now = end + dice.weibull(down.0, down.1).max(1.0 / 60.0);
                }
            }
            Self::Daily { from, to, weekdays } => {
                for day in 0..(hours / 24.0) as u32 {
                    if weekdays && day % 7 >= 5 {
                        continue;
                    }
                    let midnight = f64::from(day) * 24.0;
                    let mut now = midnight + from + JITTER * dice.normal();
                    let end = midnight + to + JITTER * dice.normal();
                    while now < end {
                        let pause = now - BREAK_EVERY * dice.uniform().ln();
                        there.push((at(now.max(0.0)), at(end.min(pause).min(hours))));
                        now = pause + 0.25;
                    }
                }
                there.retain(|(from, to)| from < to);
            }
        }
        there
    }

    /// The chance that one which came at `began` and is there now stays for so long: the truth.
    fn stays(self, began: Timestamp, now: Timestamp, time: Duration) -> f64 {
        let age = (now.0 - began.0) as f64 / HOUR;
        let time = time.0 as f64 / HOUR;
        match self {
            Self::Weibull { up: (shape, scale), .. } => {
                ((age / scale).powf(shape) - ((age + time) / scale).powf(shape)).exp()
            }
            Self::Daily { to, .. } => {
                // The end of these hours: the one nearest, as some leave late.
                let clock = ((now.0 - BEGIN) as f64 / HOUR).rem_euclid(24.0);
                let left = (to - clock + 6.0).rem_euclid(24.0) - 6.0;
                let later = |left: f64| normal_tail(-left / JITTER);
                later(left - time) / later(left).max(1e-9) * (-time / BREAK_EVERY).exp()
            }
        }
    }
}

/// The chance that a normal deviate is above `x` (Abramowitz and Stegun, 7.1.26).
fn normal_tail(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let above = poly * (-z * z).exp() / 2.0;
    if x >= 0.0 { above } else { 1.0 - above }
}

/// A fleet of which a third are office PCs, a third a desktop grid, each of its own quality, and a third have daily
/// hours.
pub fn fleet(hosts: u32, weeks: u32, seed: u64) -> Vec<Host> {
    let mut dice = Dice(seed);
    let hours = f64::from(weeks) * 168.0;
    let host = |n: u32| {
        let kind = match n % 6 {
            0 | 1 => OFFICE.of_quality((0.8 * dice.normal()).exp()),
            2 | 3 => GRID.of_quality((0.8 * dice.normal()).exp()),
            4 => {
                let from = 17.0 + 4.0 * dice.uniform();
                Kind::Daily { from, to: from + 8.0 + 6.0 * dice.uniform(), weekdays: false }
            }
            _ => {
                let from = 7.0 + 3.0 * dice.uniform();
                Kind::Daily { from, to: from + 7.0 + 3.0 * dice.uniform(), weekdays: true }
            }
        };
        Host { kind: Some(kind), there: kind.stretches(hours, &mut dice) }
    };
    (0..hosts).map(host).collect()
}

/// Hosts of a recorded series: host, up from and up to in hours, one line each, with or without a heading.
///
/// # Errors
/// The line that is not so, in words.
pub fn recorded(text: &str) -> Result<Vec<Host>, String> {
    let mut hosts = std::collections::BTreeMap::<String, Vec<(f64, f64)>>::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut columns = line.split([',', ';', '\t']).map(str::trim);
        let (name, from, to) = (columns.next(), columns.next(), columns.next());
        match (name, from.map(str::parse::<f64>), to.map(str::parse::<f64>)) {
            (Some(name), Some(Ok(from)), Some(Ok(to)))
                if from <= to && from.is_finite() && to.is_finite() =>
            {
                hosts.entry(name.to_owned()).or_default().push((from, to));
            }
            _ if n == 0 => {}
            _ => {
                return Err(format!(
                    "line {} of the series is {line:?}; it has to be a host, up from, up to, in hours",
                    n + 1
                ));
            }
        }
    }
    let hosts = hosts.into_values().map(|mut there| {
        there.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut merged: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, to) in there.into_iter().filter(|(from, to)| from < to) {
            match merged.last_mut() {
                Some(last) if at(from) <= last.1 => last.1 = last.1.max(at(to)),
                _ => merged.push((at(from), at(to))),
            }
        }
        Host { kind: None, there: merged }
    });
    Ok(hosts.collect())
}

/// How a host is chosen for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The fullest that has room.
    BestFit,
    /// The one that is the likeliest to stay, by what was seen of it until then.
    Learned,
    /// The one that is the likeliest to stay, by its true distribution and hours; of a recorded host, by how long all
    /// its stretches lasted, those that are yet to come among them.
    Informed,
}

/// What became of the jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs that were placed.
    pub placed: u32,
    /// Of these, how many finished before their host left.
    pub finished: u32,
    /// Jobs that found no host with room.
    pub refused: u32,
}

impl Tally {
    /// Share of those that finished.
    pub fn share(&self) -> f64 {
        f64::from(self.finished) / f64::from(self.placed.max(1))
    }
}

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// For the jobs.
    pub seed: u64,
    /// Jobs at the same time on one host, at most.
    pub slots: u32,
    /// Jobs for each host and day, on average.
    pub per_host_day: f64,
    /// Half of the jobs are shorter, in hours; the others up to a day (log-normal, sigma 1).
    pub median: f64,
    /// From which week on jobs are counted.
    pub from_week: u32,
}

impl Default for Work {
    fn default() -> Self {
        Self { seed: 7, slots: 4, per_host_day: 6.0, median: 2.0, from_week: 4 }
    }
}

struct Place<'a> {
    host: &'a Host,
    next: usize,
    told: Option<Timestamp>,
    history: History,
    /// When its jobs end.
    jobs: Vec<Timestamp>,
}

impl Place<'_> {
    /// The stretch that it is in.
    fn now(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        self.host.there.get(self.next).copied().filter(|(from, _)| *from <= now)
    }

    /// Passes time: what ended is over, and what was seen is told.
    fn pass(&mut self, now: Timestamp, population: &mut Population) {
        while let Some((began, to)) = self.host.there.get(self.next).copied() {
            if began > now {
                break;
            }
            let from = self.told.unwrap_or(began);
            let left = to <= now;
            self.history.observe(population, Stretch { began, from, to: to.min(now), left });
            if !left {
                self.told = Some(now);
                break;
            }
            (self.told, self.next) = (None, self.next + 1);
            self.jobs.clear();
        }
        self.jobs.retain(|end| *end > now);
    }

    /// Of a recorded host: how many of its stretches that lasted this long lasted so much longer.
    fn recorded(&self, began: Timestamp, now: Timestamp, time: Duration) -> f64 {
        let age = now.0 - began.0;
        let lasted =
            |least: i64| self.host.there.iter().filter(|(from, to)| to.0 - from.0 >= least).count() as f64;
        let time = i64::try_from(time.0).unwrap_or(i64::MAX);
        lasted(age.saturating_add(time)) / lasted(age).max(1.0)
    }
}

/// Plays jobs on a fleet under a policy.
pub fn run(fleet: &[Host], work: &Work, policy: Policy) -> Tally {
    let mut dice = Dice(work.seed);
    let end = fleet.iter().filter_map(|host| host.there.last()).map(|(_, to)| to.0).max().unwrap_or(BEGIN);
    let counted = BEGIN + (f64::from(work.from_week) * 168.0 * HOUR) as i64;
    let mut population = Population::default();
    let mut places: Vec<Place<'_>> = fleet
        .iter()
        .map(|host| Place { host, next: 0, told: None, history: History::new(Zone(0)), jobs: Vec::new() })
        .collect();
    let mut tally = Tally::default();
    let gap = 24.0 * HOUR / (work.per_host_day * fleet.len().max(1) as f64);
    let mut clock = BEGIN as f64;
    let mut told = BEGIN;
    loop {
        clock -= gap * dice.uniform().ln();
        let length = (work.median * dice.normal().exp()).clamp(1.0 / 12.0, 24.0) * HOUR;
        let now = Timestamp(clock as i64);
        // One whose end nobody can see is not begun.
        if now.0 + length as i64 > end {
            return tally;
        }
        let time = Duration(length as u64);
        // Whether a host is there is seen at once; how long it was is told twice an hour.
        let tell = now.0 - told >= 30 * 60_000;
        if tell {
            told = now.0;
        }
        for place in &mut places {
            let ended = place.host.there.get(place.next).is_some_and(|(_, to)| *to <= now);
            if ended || tell {
                place.pass(now, &mut population);
            } else {
                place.jobs.retain(|end| *end > now);
            }
        }
        let free = |place: &Place<'_>| (work.slots as usize).saturating_sub(place.jobs.len());
        let worth = |place: &Place<'_>, began: Timestamp| match (policy, place.host.kind) {
            (Policy::BestFit, _) => 0.0,
            (Policy::Learned, _) => place.history.outlook(&population, began, now).stays(time),
            (Policy::Informed, Some(kind)) => kind.stays(began, now, time),
            (Policy::Informed, None) => place.recorded(began, now, time),
        };
        let fits = places.iter().enumerate().filter_map(|(n, place)| {
            let (began, to) = place.now(now).filter(|_| free(place) > 0)?;
            Some((n, worth(place, began), free(place), to))
        });
        let best = fits.max_by(|a, b| a.1.total_cmp(&b.1).then(b.2.cmp(&a.2)).then(b.0.cmp(&a.0)));
        let counts = now.0 >= counted;
        match best {
            None => tally.refused += u32::from(counts),
            Some((n, _, _, to)) => {
                let done = Timestamp(now.0 + length as i64);
                places[n].jobs.push(done);
                tally.placed += u32::from(counts);
                tally.finished += u32::from(counts && done <= to);
            }
        }
    }
}
