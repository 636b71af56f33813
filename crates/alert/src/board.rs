//! The alerts that are open, and how they change.
//!
//! One step takes what was read of everything now. What was not read of a thing that has an open alert is *gone* if its
//! rule was read at all, else it is not known; both are said by the caller, by [`Value`], so that nothing is guessed:
//! a reading that is missing changes nothing.

use crate::rule::Rule;
use lattice_model::{
    Duration, Timestamp,
    alert::{AlertState, Severity, Subject, SubjectKind},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The most alerts that are open at once. Beyond them none opens until one is over: whoever has ten thousand alerts has
/// one problem, not ten thousand and one.
pub const MAX_OPEN: usize = 10_000;
/// How often something may fire within [`FLAP_SPAN`] before it counts as flapping.
pub const FLAPS: usize = 3;
/// The span in which firings are counted.
pub const FLAP_SPAN: Duration = Duration::from_secs(3600);
/// For how long what flaps must not be so before it is over.
pub const FLAP_CLEAR: Duration = Duration::from_secs(900);
/// The most things of which former firings are remembered.
const MAX_PAST: usize = 20_000;

/// What was read of one thing for one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The rule's id.
    pub rule: String,
    /// The thing.
    pub subject: Subject,
    /// What it is.
    pub value: Value,
    /// Since when it is so, where somebody knows better than that it was not so at the step before.
    pub since: Option<Timestamp>,
    /// What is so, in a sentence for people.
    pub text: String,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number, for a rule with a mark.
    Number(f64),
    /// Yes or no, for a rule without.
    Is(bool),
    /// It was not to be found out: everything stays as it is.
    Unknown,
    /// The thing is no more: its alerts are over at once.
    Gone,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The rule's id.
    pub rule: String,
    /// What it is about.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// How far it is.
    pub state: AlertState,
    /// Since when what the rule asks for is so.
    pub since: Timestamp,
    /// When it began to fire.
    pub fired_at: Option<Timestamp>,
    /// Since when it is not so any more, while it still counts as firing.
    pub clear_since: Option<Timestamp>,
    /// The number that was read last, where numbers are read.
    pub number: Option<f64>,
    /// What is so, in a sentence for people.
    pub text: String,
    /// Whether it comes and goes, so that it has to hold still for longer before it is over.
    pub flapping: bool,
}

/// That an alert is in another state.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The state before; none: it is new.
    pub from: Option<AlertState>,
    /// The state now. None: it was pending, and came to nothing.
    pub to: Option<AlertState>,
    /// The alert as it is now.
    pub alert: Alert,
}

type Key = (String, SubjectKind, String);

/// The alerts that are open. It can be written down and taken up again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Board {
    open: BTreeMap<Key, Alert>,
    /// When things fired, the oldest first.
    past: BTreeMap<Key, VecDeque<Timestamp>>,
}

/// A board as it is written down: JSON has no maps with such keys.
#[derive(Clone, Serialize, Deserialize)]
struct Written {
    open: Vec<Alert>,
    past: Vec<(Key, VecDeque<Timestamp>)>,
}

impl From<Written> for Board {
    fn from(Written { open, past }: Written) -> Self {
        Self {
            open: open.into_iter().map(|alert| (key(&alert.rule, &alert.subject), alert)).collect(),
            past: past.into_iter().collect(),
        }
    }
}

impl From<Board> for Written {
    fn from(Board { open, past }: Board) -> Self {
        Self { open: open.into_values().collect(), past: past.into_iter().collect() }
    }
}

fn key(rule: &str, subject: &Subject) -> Key {
    (rule.to_owned(), subject.kind, subject.id.clone())
}

impl Board {
    /// A board on which these alerts are open, as somebody kept them.
    pub fn of(open: impl IntoIterator<Item = Alert>) -> Self {
        let open = open.into_iter().map(|alert| (key(&alert.rule, &alert.subject), alert));
        Self { open: open.collect(), past: BTreeMap::new() }
    }

    /// Every open alert, by rule and thing.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.open.values()
    }

    /// The firing alert that says all that this one says; of this one nobody need be told.
    pub fn hushed_by(&self, alert: &Alert, rules: &BTreeMap<String, Rule>) -> Option<&Alert> {
        let others = &rules.get(&alert.rule)?.hushed_by;
        others.iter().find_map(|rule| {
            self.open.get(&key(rule, &alert.subject)).filter(|other| other.state == AlertState::Firing)
        })
    }

    /// Takes in what was read now. What a rule that is switched off or gone had open is over.
    pub fn step(
        &mut self,
        rules: &BTreeMap<String, Rule>,
        readings: &[Reading],
        now: Timestamp,
    ) -> Vec<Transition> {
        let mut out = Vec::new();
        let off = |alert: &&Alert| rules.get(&alert.rule).is_none_or(|rule| !rule.enabled);
        let orphans: Vec<Key> = self.open.values().filter(off).map(|a| key(&a.rule, &a.subject)).collect();
        for orphan in orphans {
            self.close(&orphan, &mut out);
        }
        for reading in readings {
            if let Some(rule) = rules.get(&reading.rule).filter(|rule| rule.enabled) {
                self.take(rule, reading, now, &mut out);
            }
        }
        self.past.retain(|_, fired| fired.back().is_some_and(|last| now.since(*last) < FLAP_SPAN));
        out
    }

    fn take(&mut self, rule: &Rule, reading: &Reading, now: Timestamp, out: &mut Vec<Transition>) {
        let key = key(&rule.id, &reading.subject);
        let open = self.open.contains_key(&key);
        let number = match reading.value {
            Value::Number(number) => Some(number),
            Value::Is(_) | Value::Unknown | Value::Gone => None,
        };
        let so = match (reading.value, rule.mark) {
            (Value::Gone, _) => return self.close(&key, out),
            (Value::Is(is), _) => is,
            // What is no number is not known.
            (Value::Number(number), Some(mark)) if !number.is_nan() => mark.holds(number, open),
            (Value::Number(_) | Value::Unknown, _) => return,
        };
        match (so, open) {
            (true, false) => self.begin(rule, reading, key, now, number, out),
            (true, true) => self.go_on(rule, reading, &key, now, number, out),
            (false, true) => self.ease(rule, &key, now, number, out),
            (false, false) => {}
        }
    }

    fn begin(
        &mut self,
        rule: &Rule,
        reading: &Reading,
        key: Key,
        now: Timestamp,
        number: Option<f64>,
        out: &mut Vec<Transition>,
    ) {
        if self.open.len() >= MAX_OPEN {
            return;
        }
        let alert = Alert {
            rule: rule.id.clone(),
            subject: reading.subject.clone(),
            severity: rule.severity,
            state: AlertState::Pending,
            // Nobody knows the future, whatever their clock says.
            since: reading.since.unwrap_or(now).min(now),
            fired_at: None,
            clear_since: None,
            number,
            text: reading.text.clone(),
            flapping: false,
        };
        out.push(Transition { from: None, to: Some(AlertState::Pending), alert: alert.clone() });
        self.open.insert(key.clone(), alert);
        self.fire_if_due(rule, &key, now, out);
    }

    fn go_on(
        &mut self,
        rule: &Rule,
        reading: &Reading,
        key: &Key,
        now: Timestamp,
        number: Option<f64>,
        out: &mut Vec<Transition>,
    ) {
        if let Some(alert) = self.open.get_mut(key) {
            alert.clear_since = None;
            alert.number = number;
            alert.text.clone_from(&reading.text);
            alert.severity = rule.severity;
            alert.subject.clone_from(&reading.subject);
        }
        self.fire_if_due(rule, key, now, out);
    }

    fn fire_if_due(&mut self, rule: &Rule, key: &Key, now: Timestamp, out: &mut Vec<Transition>) {
        let Some(alert) = self.open.get_mut(key) else { return };
        if alert.state != AlertState::Pending || now.since(alert.since) < rule.hold {
            return;
        }
        alert.state = AlertState::Firing;
        alert.fired_at = Some(now);
        if self.past.contains_key(key) || self.past.len() < MAX_PAST {
            let fired = self.past.entry(key.clone()).or_default();
            fired.push_back(now);
            while fired.len() > FLAPS || fired.front().is_some_and(|first| now.since(*first) >= FLAP_SPAN) {
                fired.pop_front();
            }
            alert.flapping = fired.len() >= FLAPS;
        }
        let (from, to) = (Some(AlertState::Pending), Some(AlertState::Firing));
        out.push(Transition { from, to, alert: alert.clone() });
    }

    /// It is not so now: what was pending came to nothing, what fires is over when that lasts.
    fn ease(
        &mut self,
        rule: &Rule,
        key: &Key,
        now: Timestamp,
        number: Option<f64>,
        out: &mut Vec<Transition>,
    ) {
        let Some(alert) = self.open.get_mut(key) else { return };
        if alert.state == AlertState::Firing {
            alert.number = number;
            let since = *alert.clear_since.get_or_insert(now);
            let clear = if alert.flapping { rule.clear.max(FLAP_CLEAR) } else { rule.clear };
            if now.since(since) < clear {
                return;
            }
        }
        self.close(key, out);
    }

    fn close(&mut self, key: &Key, out: &mut Vec<Transition>) {
        let Some(mut alert) = self.open.remove(key) else { return };
        let from = Some(alert.state);
        let to = (alert.state == AlertState::Firing).then_some(AlertState::Resolved);
        alert.state = to.unwrap_or(alert.state);
        out.push(Transition { from, to, alert });
    }
}
