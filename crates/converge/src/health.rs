//! How the machine is, as a step function: samples in, conditions out.
//!
//! Each condition has a rule ([`RULES`], and the table in `docs/health.md` that a test compares with it):
//! a worse state is taken when its samples said so for as long as `worsens` says, a better one after
//! `betters`. Besides, the thresholds to enter a state lie apart from those to leave it, so a value
//! that dwells at one changes nothing. Between two changes of a condition there is at least the
//! shorter of its two spans: it cannot flap, whatever the samples do.
//!
//! Time is that of a clock that nobody sets; the system's clock only dates what people see.

use lattice_model::{
    Bytes, Duration, Timestamp,
    health::{Condition, ConditionKind, Level, Reason},
};
use std::collections::{BTreeMap, BTreeSet};

/// What was measured at one moment. What could not be measured is `None`; what is never measured gets
/// no condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The container engine.
    pub docker: Option<DockerSample>,
    /// Processors.
    pub cpu: Option<CpuSample>,
    /// Memory.
    pub memory: Option<MemorySample>,
    /// Disk space where the engine keeps its data.
    pub disk: Option<DiskSample>,
    /// Errors of disks.
    pub disk_errors: Option<DiskErrors>,
    /// The network.
    pub network: Option<NetworkSample>,
    /// How far the clock is ahead of the server's, in milliseconds, and how far that may be wrong.
    pub clock: Option<ClockSample>,
    /// GPUs; `None` where there never was one.
    pub gpu: Option<GpuSample>,
    /// The hottest place.
    pub temperature: Option<TemperatureSample>,
}

/// How the engine took a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerSample {
    /// It answered, after so long.
    Answered(Duration),
    /// Its socket took the call, and it did not answer within so long.
    NoAnswer(Duration),
    /// Its socket did not take the call.
    Unreachable(String),
    /// It answered with an error.
    Refused(String),
}

/// Processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSample {
    /// In use, in thousandths of all.
    pub busy_permille: u32,
    /// Of the last minute, the hundredths of a percent in which some program waited for one.
    pub waited: Option<u32>,
}

/// Memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySample {
    /// What programs may have without anybody losing something.
    pub available: Bytes,
    /// All.
    pub total: Bytes,
    /// Of the last ten seconds, the hundredths of a percent in which every program waited for it.
    pub stalled: Option<u32>,
}

/// Disk space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSample {
    /// What may still be written.
    pub free: Bytes,
    /// All.
    pub total: Bytes,
    /// Files that it can hold still, in thousandths of all.
    pub inodes_free_permille: Option<u32>,
}

/// What disks say about themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskErrors {
    /// Whether the engine's file system takes no writes.
    pub read_only: bool,
    /// Errors counted, by who counts.
    pub counts: BTreeMap<String, u64>,
    /// Mirrors that miss a disk.
    pub degraded: BTreeSet<String>,
}

/// The network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkSample {
    /// Whether something leads out of the machine.
    pub way_out: Option<bool>,
    /// Whether there is a link to the server.
    pub linked: bool,
    /// There and back to the server.
    pub round_trip: Option<Duration>,
    /// Packets through the machine's own ports since boot.
    pub packets: u64,
    /// Those of them that went wrong.
    pub wrong: u64,
}

/// The clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// How far it is ahead of the server's, in milliseconds.
    pub ahead_ms: i64,
    /// How far that may be wrong, in milliseconds.
    pub uncertain_ms: u64,
}

/// GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuSample {
    /// Those that were there and are not.
    pub lost: Vec<String>,
    /// Whether their driver does not answer.
    pub hung: bool,
    /// Errors of memory that were not corrected since the agent started, where there were any.
    pub errors: BTreeMap<String, u64>,
    /// One that is lent and that no container can use, and why.
    pub unproven: Option<(String, String)>,
}

/// Heat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemperatureSample {
    /// The hottest place, in degrees Celsius.
    pub hottest: i32,
}

/// How a condition changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which.
    pub kind: ConditionKind,
    /// For how long samples have to be worse before it is.
    pub worsens: Duration,
    /// For how long they have to be better before it is.
    pub betters: Duration,
    /// What is bad, for people.
    pub bad: &'static str,
    /// What is a warning, for people.
    pub warning: &'static str,
    /// When a state is left, for people.
    pub leaves: &'static str,
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// All rules, in the order of [`ConditionKind::ALL`].
pub const RULES: [Rule; 9] = [
    Rule {
        kind: ConditionKind::Docker,
        worsens: secs(8),
        betters: secs(10),
        bad: "a call that its socket took is not answered within 10 s; its socket takes none; it answers with an error",
        warning: "it answers after more than 3 s",
        leaves: "it answers within 1 s",
    },
    Rule {
        kind: ConditionKind::Cpu,
        worsens: secs(120),
        betters: secs(60),
        bad: "never",
        warning: "95 % busy, and some program waited 60 % of the last minute (where the kernel tells)",
        leaves: "85 % busy",
    },
    Rule {
        kind: ConditionKind::Memory,
        worsens: secs(10),
        betters: secs(60),
        bad: "less than 4 % available; or less than 15 % while everything waits for it 40 % of the time",
        warning: "less than 10 % available; or less than 20 % while everything waits for it 10 % of the time",
        leaves: "8 % available for bad, 14 % for a warning, and waiting halved",
    },
    Rule {
        kind: ConditionKind::Disk,
        worsens: secs(5),
        betters: secs(30),
        bad: "less than 5 % or 5 GiB free, whichever is less; less than 2 % of its files",
        warning: "less than 10 % or 20 GiB free, whichever is less; less than 5 % of its files",
        leaves: "8 % or 8 GiB for bad, 12 % or 24 GiB for a warning; 3 % and 7 % of its files",
    },
    Rule {
        kind: ConditionKind::DiskErrors,
        worsens: secs(5),
        betters: secs(3600),
        bad: "the engine's file system takes no writes",
        warning: "an error was counted since the agent started; a mirror misses a disk",
        leaves: "no new error for an hour, every mirror whole",
    },
    Rule {
        kind: ConditionKind::Network,
        worsens: secs(30),
        betters: secs(60),
        bad: "no route leads out and there is no link",
        warning: "the server answers after more than 1 s; more than 1 % of packets went wrong on the machine's own ports",
        leaves: "a route or a link; 0.5 s; 0.2 %",
    },
    Rule {
        kind: ConditionKind::Clock,
        worsens: secs(5),
        betters: secs(30),
        bad: "5 min off, which certificates do not bear",
        warning: "10 s off",
        leaves: "4 min for bad, 5 s for a warning",
    },
    Rule {
        kind: ConditionKind::Gpu,
        worsens: secs(10),
        betters: secs(60),
        bad: "one that was there since the agent started is gone; the driver does not answer within 10 s",
        warning: "the memory of one had errors that were not corrected since the agent started; one that is lent cannot be used by a container",
        leaves: "all are back and the driver answers; a restart of the agent; a container uses it",
    },
    Rule {
        kind: ConditionKind::Temperature,
        worsens: secs(30),
        betters: secs(120),
        bad: "97 °C at the hottest place",
        warning: "90 °C",
        leaves: "92 °C for bad, 85 °C for a warning",
    },
];

/// After so long without a sample it is unknown how it is.
pub const STALE: Duration = Duration::from_secs(120);

/// The rule of a condition.
pub fn rule(kind: ConditionKind) -> Rule {
    RULES.into_iter().find(|rule| rule.kind == kind).unwrap_or(RULES[0])
}

/// A state of a condition.
type State = (Level, Reason);

const FINE: State = (Level::Good, Reason::Fine);

/// One condition in the making.
#[derive(Clone, Debug)]
struct Track {
    /// What holds, since when, and in which words.
    held: Option<Condition>,
    /// What samples say instead, and since when by the clock that nobody sets.
    instead: Option<(State, Duration)>,
    /// When it was measured last.
    measured: Duration,
}

/// Follows all conditions of a machine.
#[derive(Clone, Debug, Default)]
pub struct Assessor {
    tracks: BTreeMap<ConditionKind, Track>,
    /// Error counts as they were when each was first seen.
    first_counts: BTreeMap<String, u64>,
    /// When an error count rose last, and which.
    last_error: Option<(Duration, String)>,
    /// Of the last sample.
    packets: Option<(u64, u64)>,
}

impl Assessor {
    /// Takes a sample; `at` is a clock that never goes back, `now` the system's. Whether any condition is
    /// another than before.
    pub fn step(&mut self, sample: &Sample, at: Duration, now: Timestamp) -> bool {
        let mut changed = false;
        for kind in ConditionKind::ALL {
            let held = self.tracks.get(&kind).and_then(|track| track.held.as_ref());
            let held = held.map_or(FINE, |held| (held.level, held.reason));
            let found = self.judge(kind, held, sample, at);
            changed |= self.settle(kind, found, at, now);
        }
        if let Some(network) = &sample.network {
            self.packets = Some((network.packets, network.wrong));
        }
        changed
    }

    /// All conditions that were ever measured, in order.
    pub fn conditions(&self) -> Vec<Condition> {
        self.tracks.values().filter_map(|track| track.held.clone()).collect()
    }

    /// How one thing is.
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.tracks.get(&kind)?.held.as_ref()
    }

    /// Whether one thing is bad.
    pub fn is_bad(&self, kind: ConditionKind) -> bool {
        self.condition(kind).is_some_and(|condition| condition.level == Level::Bad)
    }

    /// Takes over what a sample says where it has been so for long enough.
    fn settle(
        &mut self,
        kind: ConditionKind,
        found: Option<(State, String)>,
        at: Duration,
        now: Timestamp,
    ) -> bool {
        let rule = rule(kind);
        let Some((state, message)) = found else {
            let Some(track) = self.tracks.get_mut(&kind) else { return false };
            let Some(held) = track.held.as_mut() else { return false };
            if held.level == Level::Unknown || at.0.saturating_sub(track.measured.0) < STALE.0 {
                return false;
            }
            *held = Condition {
                kind,
                level: Level::Unknown,
                since: now,
                reason: Reason::NotMeasured,
                message: format!("it could not be measured for {STALE}"),
            };
            track.instead = None;
            return true;
        };
        let fresh = Track { held: None, instead: None, measured: at };
        let track = self.tracks.entry(kind).or_insert(fresh);
        track.measured = at;
        let held = track.held.as_ref().map(|held| (held.level, held.reason));
        if held == Some(state) {
            track.instead = None;
            return false;
        }
        // Nothing is known yet, or not any more: what is good is good at once, what is bad has to last.
        let unsettled = held.is_none_or(|(level, _)| level == Level::Unknown);
        let worse = held.map_or(state.0 > Level::Good, |(level, _)| state.0 >= level);
        let wait = match (unsettled, worse) {
            (true, false) => Duration(0),
            (_, true) => rule.worsens,
            (false, false) => rule.betters,
        };
        let since = match track.instead {
            // It went on getting better, or worse, by another way: that is no new beginning.
            Some((before, since)) if same_way(held, before, state) => since,
            _ => at,
        };
        track.instead = Some((state, since));
        if at.0.saturating_sub(since.0) < wait.0 {
            return false;
        }
        let (level, reason) = state;
        track.held = Some(Condition { kind, level, since: now, reason, message });
        track.instead = None;
        true
    }

    /// What a sample says about one thing, given how it is: thresholds to leave a state lie apart from
    /// those to enter it.
    fn judge(
        &mut self,
        kind: ConditionKind,
        held: State,
        sample: &Sample,
        at: Duration,
    ) -> Option<(State, String)> {
        match kind {
            ConditionKind::Docker => sample.docker.as_ref().map(|docker| judge_docker(held, docker)),
            ConditionKind::Cpu => sample.cpu.map(|cpu| judge_cpu(held, cpu)),
            ConditionKind::Memory => sample.memory.map(|memory| judge_memory(held, memory)),
            ConditionKind::Disk => sample.disk.map(|disk| judge_disk(held, disk)),
            ConditionKind::DiskErrors => {
                sample.disk_errors.as_ref().map(|errors| self.judge_errors(errors, at))
            }
            ConditionKind::Network => sample.network.map(|network| self.judge_network(held, network)),
            ConditionKind::Clock => sample.clock.map(|clock| judge_clock(held, clock)),
            ConditionKind::Gpu => sample.gpu.as_ref().map(judge_gpu),
            ConditionKind::Temperature => sample.temperature.map(|heat| judge_temperature(held, heat)),
        }
    }

    fn judge_errors(&mut self, errors: &DiskErrors, at: Duration) -> (State, String) {
        for (who, count) in &errors.counts {
            let first = self.first_counts.entry(who.clone()).or_insert(*count);
            if count > first {
                let text = format!("{who} counted {} errors since the agent started", count - *first);
                let news = self.last_error.as_ref().is_none_or(|(_, before)| *before != text);
                if news {
                    self.last_error = Some((at, text));
                }
            }
        }
        if errors.read_only {
            return bad(
                Reason::ReadOnly,
                "the engine's file system takes no writes; look at the kernel's log, the disk may be dying"
                    .into(),
            );
        }
        if let Some(mirror) = errors.degraded.first() {
            return warning(Reason::IoErrors, format!("the mirror {mirror} misses a disk"));
        }
        match &self.last_error {
            Some((when, text)) if at.0.saturating_sub(when.0) < rule(ConditionKind::DiskErrors).betters.0 => {
                warning(Reason::IoErrors, format!("{text}; copy what matters, and look at the disk"))
            }
            _ => fine("no disk counted an error since the agent started".into()),
        }
    }

    fn judge_network(&self, held: State, network: NetworkSample) -> (State, String) {
        if network.way_out == Some(false) && !network.linked {
            return bad(Reason::NoRoute, "no route leads out of this machine; is it on a network?".into());
        }
        let slow = if held.1 == Reason::SlowLink { 500 } else { 1000 };
        if let Some(trip) = network.round_trip.filter(|trip| trip.0 > slow) {
            return warning(Reason::SlowLink, format!("the server answers after {trip}"));
        }
        let (all, wrong) = self.packets.unwrap_or((network.packets, network.wrong));
        let (all, wrong) = (network.packets.saturating_sub(all), network.wrong.saturating_sub(wrong));
        let most = if held.1 == Reason::PacketErrors { 2 } else { 10 };
        // A hundred packets at least, or one of two would be half of them.
        if all >= 100 && wrong.saturating_mul(1000) > all.saturating_mul(most) {
            return warning(
                Reason::PacketErrors,
                format!(
                    "{wrong} of {all} packets went wrong on the machine's own ports; look at cable or radio"
                ),
            );
        }
        fine("packets come and go".into())
    }
}

fn judge_gpu(gpu: &GpuSample) -> (State, String) {
    match gpu.lost.first() {
        Some(lost) => bad(
            Reason::GpuLost,
            format!("{lost} was there and is not any more; the machine may have to be restarted"),
        ),
        None if gpu.hung => bad(
            Reason::Hung,
            "the driver of the GPUs does not answer; what uses one may hang too, and the machine may have to be restarted".into(),
        ),
        None => match (gpu.errors.first_key_value(), &gpu.unproven) {
            (Some((id, count)), _) => {
                let what = format!("the memory of {id} had {count} errors that were not corrected; what it computes may be wrong");
                warning(Reason::GpuErrors, what)
            }
            (None, Some((id, why))) => warning(
                Reason::GpuUnproven,
                format!("{id} is lent and no container can use it: {why} (`lattice-agent gpu` says what to do)"),
            ),
            (None, None) => fine("all that were there are there".into()),
        },
    }
}

/// Whether two states lie on the same side of what holds.
fn same_way(held: Option<State>, one: State, other: State) -> bool {
    let worse = |state: State| held.map_or(state.0 > Level::Good, |(level, _)| state.0 >= level);
    worse(one) == worse(other)
}

fn fine(message: String) -> (State, String) {
    (FINE, message)
}

fn warning(reason: Reason, message: String) -> (State, String) {
    ((Level::Warning, reason), message)
}

fn bad(reason: Reason, message: String) -> (State, String) {
    ((Level::Bad, reason), message)
}

fn judge_docker(held: State, sample: &DockerSample) -> (State, String) {
    match sample {
        DockerSample::NoAnswer(limit) => bad(
            Reason::Hung,
            format!("its socket takes calls, and none was answered within {limit}; what runs, runs on"),
        ),
        DockerSample::Unreachable(why) => bad(Reason::Down, format!("it cannot be reached: {why}")),
        DockerSample::Refused(why) => bad(Reason::Failing, format!("it answers with an error: {why}")),
        DockerSample::Answered(span) => {
            let slow = if held.1 == Reason::Slow { 1000 } else { 3000 };
            if span.0 > slow {
                warning(Reason::Slow, format!("it answers after {span}"))
            } else {
                fine("it answers".into())
            }
        }
    }
}

fn judge_cpu(held: State, CpuSample { busy_permille, waited }: CpuSample) -> (State, String) {
    let (busy, waits) = if held.1 == Reason::Busy { (850, 3000) } else { (950, 6000) };
    if busy_permille > busy && waited.is_none_or(|waited| waited > waits) {
        return warning(
            Reason::Busy,
            format!("processors are {} % busy, and programs wait for them", busy_permille / 10),
        );
    }
    fine("programs get the processors that they ask for".into())
}

fn judge_memory(held: State, MemorySample { available, total, stalled }: MemorySample) -> (State, String) {
    let permille = u128::from(available.0) * 1000 / u128::from(total.0.max(1));
    let stalled = stalled.unwrap_or(0);
    let was_bad = held.0 == Level::Bad;
    let was_warned = held.0 >= Level::Warning;
    let text = |what: &str| format!("{what}: {available} of {total} are available");
    let (least, least_stalled, stalls) = if was_bad { (80, 200, 2000) } else { (40, 150, 4000) };
    if permille < least {
        return bad(Reason::LowMemory, text("memory is nearly used up"));
    }
    if permille < least_stalled && stalled > stalls {
        return bad(
            Reason::MemoryStalls,
            text(&format!("everything waits for memory {} % of the time", stalled / 100)),
        );
    }
    let (least, least_stalled, stalls) = if was_warned { (140, 250, 500) } else { (100, 200, 1000) };
    if permille < least {
        return warning(Reason::LowMemory, text("memory is short"));
    }
    if permille < least_stalled && stalled > stalls {
        return warning(
            Reason::MemoryStalls,
            text(&format!("everything waits for memory {} % of the time", stalled / 100)),
        );
    }
    fine(text("there is enough"))
}

fn judge_disk(held: State, DiskSample { free, total, inodes_free_permille }: DiskSample) -> (State, String) {
    // A share of small disks, an amount of large ones.
    let short = |percent: u64, most: Bytes| free.0 < (total.0 / 100).saturating_mul(percent).min(most.0);
    let few = |permille: u32| inodes_free_permille.is_some_and(|free| free < permille);
    let text = |what: &str| format!("{what}: {free} of {total} are free where the engine keeps its data");
    let gib = |n: u64| Bytes(n << 30);
    let (was_bad, was_warned) = (held.0 == Level::Bad, held.0 >= Level::Warning);
    let (percent, most, files) = if was_bad { (8, gib(8), 30) } else { (5, gib(5), 20) };
    if short(percent, most) {
        return bad(Reason::LowSpace, text("the disk is nearly full"));
    }
    if few(files) {
        return bad(Reason::FewInodes, "the file system can hold hardly any more files".into());
    }
    let (percent, most, files) = if was_warned { (12, gib(24), 70) } else { (10, gib(20), 50) };
    if short(percent, most) {
        return warning(Reason::LowSpace, text("the disk is filling up"));
    }
    if few(files) {
        return warning(Reason::FewInodes, "the file system can hold few more files".into());
    }
    fine(text("there is enough"))
}

/// How much has to be free of a disk that was nearly full for it not to be so any more.
pub fn enough_disk(total: Bytes) -> Bytes {
    Bytes((total.0 / 100).saturating_mul(8).min(8 << 30))
}

fn judge_clock(held: State, ClockSample { ahead_ms, uncertain_ms }: ClockSample) -> (State, String) {
    let off = ahead_ms.unsigned_abs().saturating_sub(uncertain_ms);
    let (worst, least) = match held.0 {
        Level::Bad => (240_000, 5000),
        Level::Warning => (300_000, 5000),
        Level::Good | Level::Unknown => (300_000, 10_000),
    };
    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let text = format!(
        "this machine's clock is {} {way} the server's; let it be set by the network (NTP)",
        Duration(off)
    );
    match off {
        _ if off > worst => bad(Reason::Skewed, text),
        _ if off > least => warning(Reason::Skewed, text),
        _ => fine("it goes with the server's".into()),
    }
}

fn judge_temperature(held: State, TemperatureSample { hottest }: TemperatureSample) -> (State, String) {
    let text = format!("{hottest} °C at the hottest place");
    let worst = if held.0 == Level::Bad { 92 } else { 97 };
    let least = if held.0 >= Level::Warning { 85 } else { 90 };
    match hottest {
        _ if hottest >= worst => bad(Reason::Hot, text),
        _ if hottest >= least => warning(Reason::Hot, text),
        _ => fine(text),
    }
}
