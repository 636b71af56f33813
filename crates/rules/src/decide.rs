//! The one decision: may this machine work now, and if not, why.
//!
//! The gates, in order of precedence (see [`Reason::ALL`]): the owner's pause; rules that cannot be
//! read; a network of the owner that cannot be closed to containers; hours; then each policy on what was measured. The first that holds is the reason; the others
//! that hold too are named beside it, so that nobody ends a pause in vain.
//!
//! Each measured policy has a latch with two thresholds. It closes at the stop threshold and opens at
//! the start threshold; in between it stays as it is, and at the very beginning it is closed there:
//! work begins beyond the start threshold alone. A fact that is not known leaves a latch as it is, and
//! open at the beginning.

use crate::{
    battery::Discharge,
    facts::{Facts, LanFact, Moment, PowerSource, Reading},
    pause::{Pause, PauseKind},
    reason::Reason,
    rules::{Band, Checked, OnMetered, RunOn},
};
use lattice_model::{Bytes, Duration, Timestamp, machine::LanState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Input within so long means that somebody uses the machine.
const ACTIVE: Duration = Duration::from_secs(10);
/// How long a network must be free of charge before work goes on.
const FREE_FOR: Duration = Duration::from_secs(10);

/// What the owner's file says.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Rules.
    Rules(Box<Checked>),
    /// Nothing that can be understood, and why.
    Broken(String),
}

/// One policy's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latch {
    /// Whether it keeps work from running.
    pub closed: bool,
    /// Since when, by the boot clock, it could open, where it waits for that to last.
    pub good_since: Option<Duration>,
}

/// What the next decision has to know of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    latches: BTreeMap<Reason, Latch>,
    /// The reason now, and since when.
    standing: Option<(Option<Reason>, Timestamp)>,
    /// What was seen of the battery since the mains went.
    discharge: Option<Discharge>,
}

/// Why nothing runs, or nothing new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// For programs.
    pub reason: Reason,
    /// In a sentence.
    pub why: String,
    /// What the owner can do.
    pub todo: String,
    /// Since when, by the wall clock.
    pub since: Timestamp,
    /// When it ends by itself, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A rule that cannot be kept, since what it rests on is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsure {
    /// Which rule, as it is written.
    pub rule: String,
    /// Why not.
    pub why: String,
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Why nothing runs; nothing where work may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    /// Why nothing new is taken, while what runs may end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finishing: Option<Suspension>,
    /// What else would suspend it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Reason>,
    /// Rules that rest on what is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsure: Vec<Unsure>,
    /// Since when it is so, by the wall clock.
    pub since: Timestamp,
    /// When time alone may change it, by the wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_change: Option<Timestamp>,
    /// While it works: when the owner's hours end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours_end: Option<Timestamp>,
    /// While it works on battery: when that has to end, in whole quarters of an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub battery_ends: Option<Timestamp>,
}

impl Verdict {
    /// Whether what runs may run.
    pub const fn allowed(&self) -> bool {
        self.suspended.is_none()
    }

    /// Whether new work may begin.
    pub const fn takes_new(&self) -> bool {
        self.suspended.is_none() && self.finishing.is_none()
    }

    /// While it works: when it probably will not any more, as far as that is known.
    pub fn ends(&self) -> Option<Timestamp> {
        [self.hours_end, self.battery_ends].into_iter().flatten().min()
    }

    /// What there is to say about it.
    pub fn standing(&self) -> Option<&Suspension> {
        self.suspended.as_ref().or(self.finishing.as_ref())
    }
}

/// Where a fact stands to a policy's thresholds.
enum Signal {
    Stop,
    Start,
    Between,
    Unknown,
}

/// One policy, looked at.
struct Look {
    reason: Reason,
    signal: Signal,
    hold: Duration,
    until: Option<Timestamp>,
    why: String,
}

/// Decides. `pause` that is over counts as none.
pub fn decide(
    word: &Word,
    facts: &Facts,
    now: &Moment,
    before: &State,
    pause: Option<&Pause>,
) -> (Verdict, State) {
    let pause = pause.filter(|pause| !pause.is_over(now));
    let pause_ends = pause.and_then(|pause| pause.left(now)).map(|left| now.wall + left);
    let mut found: Vec<(Reason, String, Option<Timestamp>)> = Vec::new();
    let mut changes: Vec<Timestamp> = pause_ends.into_iter().collect();
    let mut latches = BTreeMap::new();
    let mut unsure = Vec::new();
    let mut hours_end = None;
    let mut discharge = None;
    // 1. What the owner says now.
    if pause.is_some_and(|pause| pause.kind == PauseKind::Pause) {
        found.push((Reason::Paused, Reason::Paused.says().into(), pause_ends));
    }
    match word {
        // 2. Whoever cannot be understood has not allowed anything.
        Word::Broken(problem) => {
            found.push((Reason::RulesBroken, format!("{}: {problem}", Reason::RulesBroken.says()), None));
        }
        Word::Rules(rules) => {
            // 3. The owner's network outranks whatever could run.
            if let Reading::Known(LanFact { state: LanState::Unfenced, why }) = &facts.lan {
                let detail = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                let text = format!("{}{detail}", Reason::LanNotClosed.says());
                found.push((Reason::LanNotClosed, text, None));
            }
            // 4. What the owner said about time.
            let (open, change) = rules.hours(now.wall);
            changes.extend(change);
            if open {
                hours_end = change;
            } else {
                found.push((Reason::OutsideHours, Reason::OutsideHours.says().into(), change));
            }
            let battery = &rules.rules().battery;
            if battery.run == RunOn::Always {
                let known = before.discharge.as_ref();
                discharge = Discharge::after(known, facts, battery.stop_below, now);
            }
            // 5. What was measured.
            for look in looks(rules, facts, now, &mut unsure) {
                let Look { reason, signal, hold, until, why } = look;
                let was = before.latches.get(&reason).copied();
                let latch = turn(was, &signal, hold, now.boot);
                if latch.closed {
                    let opens = latch.good_since.map(|since| {
                        let waited = now.boot.0.saturating_sub(since.0);
                        now.wall + Duration(hold.0.saturating_sub(waited))
                    });
                    changes.extend(opens.or(until));
                    found.push((reason, why, opens.or(until)));
                }
                latches.insert(reason, latch);
            }
        }
    }
    found.sort_by_key(|(reason, ..)| *reason);
    let finishes = pause.is_some_and(|pause| pause.kind == PauseKind::Finish);
    let reason = found.first().map(|(reason, ..)| *reason).or(finishes.then_some(Reason::Finishing));
    let since = match &before.standing {
        Some((same, since)) if *same == reason => *since,
        _ => now.wall,
    };
    let suspension = |reason: Reason, why: String, until| {
        let todo = reason.todo().to_owned();
        Suspension { reason, why, todo, since, until }
    };
    let mut found = found.into_iter();
    let suspended = found.next().map(|(reason, why, until)| suspension(reason, why, until));
    let finishing = (finishes && suspended.is_none())
        .then(|| suspension(Reason::Finishing, Reason::Finishing.says().into(), pause_ends));
    let works = suspended.is_none();
    let verdict = Verdict {
        suspended,
        finishing,
        also: found.map(|(reason, ..)| reason).collect(),
        unsure,
        since,
        next_change: changes.into_iter().filter(|at| *at > now.wall).min(),
        hours_end,
        battery_ends: discharge.as_ref().and_then(Discharge::ends).filter(|_| works),
    };
    (verdict, State { latches, standing: Some((reason, since)), discharge })
}

fn turn(was: Option<Latch>, signal: &Signal, hold: Duration, boot: Duration) -> Latch {
    let shut = Latch { closed: true, good_since: None };
    let open = Latch { closed: false, good_since: None };
    match (signal, was) {
        (Signal::Stop, _) | (Signal::Between, None) => shut,
        (Signal::Unknown, None) => open,
        (Signal::Between | Signal::Unknown, Some(was)) => Latch { good_since: None, ..was },
        (Signal::Start, None) => open,
        (Signal::Start, Some(was)) if !was.closed => open,
        (Signal::Start, Some(was)) => {
            let since = was.good_since.unwrap_or(boot);
            if boot.0.saturating_sub(since.0) >= hold.0 {
                open
            } else {
                Latch { closed: true, good_since: Some(since) }
            }
        }
    }
}

fn above(reading: Option<u32>, Band { stop_at, start_at }: Band) -> Signal {
    match reading {
        None => Signal::Unknown,
        Some(value) if value >= stop_at => Signal::Stop,
        Some(value) if value <= start_at => Signal::Start,
        Some(_) => Signal::Between,
    }
}

/// Every policy that the owner has, with what its fact says.
fn looks(rules: &Checked, facts: &Facts, now: &Moment, unsure: &mut Vec<Unsure>) -> Vec<Look> {
    let mut looks = Vec::new();
    let own = rules.rules();
    let none = Duration::default();
    let mut note = |rule: &str, why: Option<&str>| {
        unsure.extend(why.map(|why| Unsure { rule: rule.to_owned(), why: why.to_owned() }));
    };
    let mut look = |reason: Reason, signal, hold, until, detail: String| {
        looks.push(Look { reason, signal, hold, until, why: format!("{}{detail}", reason.says()) });
    };
    if let Some(band) = own.temperature {
        note("temperature", unknown(&facts.temperature));
        let celsius = facts.temperature.known().map(|value| u32::try_from(*value).unwrap_or(0));
        let detail = format!(": work stops at {} °C and goes on at {} °C", band.stop_at, band.start_at);
        look(Reason::Hot, above(celsius, band), none, None, detail);
    }
    let mains = facts.power.known().map(|source| *source == PowerSource::Mains);
    if let Some((stop, start)) = own.battery.start() {
        // Of a machine on mains the charge does not matter.
        let unknown =
            if mains == Some(true) { None } else { unknown(&facts.charge).or(unknown(&facts.power)) };
        note("battery.stop_below", unknown);
        let signal = match (mains, facts.charge.known()) {
            (Some(true), _) => Signal::Start,
            (None, _) | (_, None) => Signal::Unknown,
            (_, Some(charge)) if *charge < stop => Signal::Stop,
            (_, Some(charge)) if *charge > start => Signal::Start,
            _ => Signal::Between,
        };
        let detail = format!(": work stops below {stop} % and goes on above {start} %, or on mains");
        look(Reason::BatteryLow, signal, none, None, detail);
    }
    if own.battery.run == RunOn::Mains {
        note("battery.run", unknown(&facts.power));
        let hold = own.battery.hold();
        let signal = mains.map_or(Signal::Unknown, |mains| if mains { Signal::Start } else { Signal::Stop });
        look(Reason::OnBattery, signal, hold.0, None, format!(": work goes on {hold} after mains are back"));
    }
    if own.user.stop_when_active {
        note("user.stop_when_active", unknown(&facts.idle));
        let idle_for = own.user.idle();
        let signal = match facts.idle.known() {
            None => Signal::Unknown,
            Some(idle) if *idle >= idle_for.0 => Signal::Start,
            Some(idle) if *idle < ACTIVE => Signal::Stop,
            Some(_) => Signal::Between,
        };
        let detail = format!(": work goes on when nobody has touched it for {idle_for}");
        look(Reason::UserActive, signal, none, None, detail);
    }
    if let Some(band) = own.noise {
        note("noise", unknown(&facts.fan));
        let detail =
            format!(": work stops at {} turns a minute and goes on at {}", band.stop_at, band.start_at);
        look(Reason::Loud, above(facts.fan.known().copied(), band), none, None, detail);
    }
    if own.network.metered == OnMetered::Suspend {
        note("network.metered", unknown(&facts.metered));
        let signal = match facts.metered.known() {
            None => Signal::Unknown,
            Some(true) => Signal::Stop,
            Some(false) => Signal::Start,
        };
        look(Reason::Metered, signal, FREE_FOR, None, String::new());
    }
    if let Some(cap) = rules.data_cap() {
        note("caps.data_per_month", unknown(&facts.data));
        let signal = match facts.data.known() {
            None => Signal::Unknown,
            Some(Bytes(used)) if *used >= cap.0 => Signal::Stop,
            Some(_) => Signal::Start,
        };
        let ends = rules.data_month(now.wall).1;
        look(Reason::DataUsedUp, signal, none, Some(ends), format!(": {cap} of this machine's traffic"));
    }
    looks
}

const fn unknown<T>(reading: &Reading<T>) -> Option<&str> {
    match reading {
        Reading::Known(_) => None,
        Reading::Unknown(why) => Some(why.as_str()),
    }
}
