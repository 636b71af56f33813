//! Alerts: the server that plans reads every node now and then, and what [`Board`] makes of that is written down: a row
//! for each alert that fires, an event when one begins and when it is over. The next server to plan goes on from the rows,
//! so nothing fires a second time. What is pending is in memory alone; most of it is known by its own beginning anyway.

use crate::{
    clock,
    rows::{self, AlertRow, Event, alert_id},
    state::{Core, Snapshot},
};
use lattice_alert::{Board, Reading, Rule, Transition, Value, builtin, node};
use lattice_model::{
    Duration, NodeId, Timestamp,
    alert::{AlertState, SubjectKind},
    resource::Node,
};
use lattice_store::{Op, Transaction};
use std::collections::BTreeMap;

/// How often everything is read.
const EVERY: Duration = Duration::from_secs(5);
/// How many transitions are written in one transaction.
const CHUNK: usize = 200;

/// The rules by their ids.
pub(crate) fn rules() -> BTreeMap<String, Rule> {
    builtin().into_iter().map(|rule| (rule.id.clone(), rule)).collect()
}

/// What it remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    rules: BTreeMap<String, Rule>,
    /// None: what is in the store was not read yet.
    board: Option<Board>,
    last: Option<Timestamp>,
}

impl Watcher {
    /// Reads everything, where it is time to.
    pub(crate) async fn look(&mut self, core: &Core) {
        if core.live.leads_since.lock().is_none() || core.live.behind().is_some() {
            *self = Self::default();
            return;
        }
        let now = clock::now();
        if self.last.is_some_and(|last| now >= last && now.since(last) < EVERY) {
            return;
        }
        self.last = Some(now);
        let mut board = match self.board.take() {
            Some(board) => board,
            None => {
                self.rules = rules();
                match core.stored::<AlertRow>().await {
                    Ok(rows) => Board::of(rows.into_iter().map(|(_, row)| row.0)),
                    Err(error) => {
                        return tracing::warn!(error = error.message, "the alerts were not read");
                    }
                }
            }
        };
        let snapshot = core.snapshot();
        let changed = board.step(&self.rules, &readings(core, &snapshot, &board), now);
        if write(core, &snapshot, &self.rules, &changed).await {
            self.board = Some(board);
        }
        // Else the rows say what was told, and the next look decides from them anew.
    }
}

fn readings(core: &Core, snapshot: &Snapshot, board: &Board) -> Vec<Reading> {
    let loads = core.live.loads.lock();
    let load = |row: &Node| {
        let (load, facts) = (loads.get(&row.id)?, &row.facts);
        let share =
            |used: u64, whole: u64| if whole == 0 { f64::NAN } else { used as f64 * 100.0 / whole as f64 };
        let cpu = share(u64::from(load.cpu.0), u64::from(facts.cpus) * 1000);
        Some(node::Load { cpu, memory: share(load.memory.0, facts.memory.0) })
    };
    let mut all: Vec<Reading> =
        snapshot.cluster.nodes.values().flat_map(|row| node::readings(row, load(row))).collect();
    let forgotten = board.open().filter(|alert| {
        let id = alert.subject.id.parse().ok();
        alert.subject.kind == SubjectKind::Node
            && id.is_none_or(|id: NodeId| !snapshot.cluster.nodes.contains_key(&id))
    });
    all.extend(forgotten.map(|alert| Reading {
        rule: alert.rule.clone(),
        subject: alert.subject.clone(),
        value: Value::Gone,
        since: None,
        text: String::new(),
    }));
    all
}

/// Writes what fires and what is over; whether all of it was written.
async fn write(
    core: &Core,
    snapshot: &Snapshot,
    rules: &BTreeMap<String, Rule>,
    changed: &[Transition],
) -> bool {
    let told: Vec<&Transition> = changed
        .iter()
        .filter(|one| matches!(one.to, Some(AlertState::Firing | AlertState::Resolved)))
        .collect();
    for chunk in told.chunks(CHUNK) {
        let mut ops: Vec<Op> = chunk
            .iter()
            .map(|one| match one.to {
                Some(AlertState::Firing) => rows::put(&AlertRow(one.alert.clone())),
                _ => rows::delete::<AlertRow>(alert_id(&one.alert), None),
            })
            .collect();
        ops.extend(rows::events(chunk.iter().map(|one| event(snapshot, rules, one))));
        if let Err(error) = core.store.apply(Transaction::new(ops)).await {
            tracing::warn!(%error, "alerts were not written down");
            return false;
        }
    }
    true
}

fn event(snapshot: &Snapshot, rules: &BTreeMap<String, Rule>, one: &Transition) -> Event {
    let alert = &one.alert;
    let title = rules.get(&alert.rule).map_or(alert.rule.as_str(), |rule| rule.title.as_str());
    let event = match one.to {
        Some(AlertState::Firing) => {
            let text = format!("{} alert: {title}", alert.severity);
            Event::new("alert.firing", &alert.subject.name, text).because(Some(alert.text.clone()))
        }
        _ => Event::new("alert.resolved", &alert.subject.name, format!("alert over: {title}")),
    };
    match alert.subject.id.parse().ok().and_then(|id: NodeId| snapshot.cluster.nodes.get(&id)) {
        Some(node) => event.on(node),
        None => event,
    }
}
