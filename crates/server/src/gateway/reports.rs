//! What nodes say happened. Each report takes effect exactly once: its effect and the number of the
//! last report taken are one transaction, and it is acknowledged when that is durable.

use super::{session::claim, unavailable};
use crate::{
    causes,
    rows::{self, Event, JobRun, NodeOutbox},
    state::{Core, Refused, Snapshot},
};
use lattice_link::{Dedup, Refusal, Verdict as DedupVerdict, message::Reported};
use lattice_model::{
    AllocationId, Duration, NodeId, Standing, StandingState, Timestamp, VolumeId,
    health::{self, Condition, Level},
    report::{AllocationState, AllocationStatus, Report, ReportKind},
    resource::{Allocation, Capacity, Intent, Node, NodeFacts, Volume},
    spec::RestartPolicy,
};
use lattice_planner::Row;
use lattice_store::{ApplyError, Op};
use std::collections::BTreeMap;

/// How many reports share a transaction.
const AT_ONCE: usize = 64;
/// The longest reason that a node may give, in characters.
const MAX_REASON: usize = 1000;

/// Takes a batch of a node's reports; gives the number up to which they took effect.
pub(super) async fn take(
    core: &Core,
    node: NodeId,
    session: u64,
    dedup: &mut Dedup,
    batch: Vec<Reported>,
) -> Result<u64, Refusal> {
    let (mut rest, mut at_once) = (&batch[..], AT_ONCE);
    while !rest.is_empty() {
        let (part, later) = rest.split_at(at_once.min(rest.len()));
        let started_at = *dedup;
        let done = core
            .commit(|snapshot| {
                let mut dedup = started_at;
                let Some(row) = snapshot.cluster.nodes.get(&node) else { return Ok((Vec::new(), dedup)) };
                let mut effects = Effects::new(snapshot, row);
                for report in part {
                    match dedup.accept(report.seq()) {
                        DedupVerdict::Duplicate => continue,
                        DedupVerdict::New => {}
                        DedupVerdict::Gap { missing } => {
                            let text = format!(
                                "{missing} of its reports never came; its present state is right all the same"
                            );
                            effects.tell("reports.lost", text, None);
                        }
                    }
                    match report {
                        Reported::Known(report) => effects.report(report),
                        Reported::Unknown { at, kind, .. } => {
                            let text =
                                "its agent is newer and reported something that this server does not know";
                            effects.tell_at(
                                (*at).min(crate::clock::now()),
                                "report.unknown",
                                text.into(),
                                Some(kind.clone()),
                            );
                        }
                    }
                }
                if dedup == started_at {
                    return Ok((Vec::new(), dedup));
                }
                let mut ops = effects.operations();
                // Another session, of another server too, goes on from the same number.
                ops.push(claim(core, snapshot, node, session)?);
                ops.push(rows::put(&NodeOutbox { node, dedup }));
                Ok((ops, dedup))
            })
            .await;
        match done {
            Ok(done) => (*dedup, rest) = (done.value, later),
            // The rows of allocations are as large as their specifications.
            Err(error) if too_large(&error) && part.len() > 1 => at_once = part.len() / 2,
            Err(error) => return Err(unavailable(error)),
        }
    }
    Ok(dedup.last)
}

fn too_large(refused: &Refused) -> bool {
    matches!(refused, Refused::Apply(ApplyError::TooLarge { .. }))
}

/// What runs, as Hello says it, where no reports wait to say the same.
pub(super) async fn reconcile(
    core: &Core,
    node: NodeId,
    session: u64,
    statuses: &BTreeMap<AllocationId, AllocationStatus>,
) -> Result<(), Refusal> {
    let statuses: Vec<_> = statuses.iter().collect();
    let (mut rest, mut at_once) = (&statuses[..], AT_ONCE);
    while !rest.is_empty() {
        let (part, later) = rest.split_at(at_once.min(rest.len()));
        let done = core
            .commit(|snapshot| {
                let Some(row) = snapshot.cluster.nodes.get(&node) else { return Ok((Vec::new(), ())) };
                let mut effects = Effects::new(snapshot, row);
                for (id, status) in part {
                    // What it has from before and is not meant to have any more goes with the next goal.
                    if snapshot.cluster.allocations().get(*id).is_some_and(|known| known.node == node) {
                        effects.status(crate::clock::now(), **id, status);
                    }
                }
                let mut ops = effects.operations();
                if !ops.is_empty() {
                    ops.push(claim(core, snapshot, node, session)?);
                }
                Ok((ops, ()))
            })
            .await;
        match done {
            Ok(_) => rest = later,
            Err(error) if too_large(&error) && part.len() > 1 => at_once = part.len() / 2,
            Err(error) => return Err(unavailable(error)),
        }
    }
    Ok(())
}

/// How a machine is whose disk takes no reports: said by its heartbeats, and written down where it is news.
pub(super) async fn untold(
    core: &Core,
    node: NodeId,
    session: u64,
    conditions: &[Condition],
) -> Result<(), Refusal> {
    let same = |known: &[Condition]| {
        let plain = |one: &Condition| (one.kind, one.level, one.reason, one.message.clone());
        let said = health::bounded(conditions);
        known.iter().map(plain).eq(said.iter().map(plain))
    };
    if core.snapshot().cluster.nodes.get(&node).is_some_and(|row| same(&row.conditions)) {
        return Ok(());
    }
    core.commit(|snapshot| {
        let Some(row) = snapshot.cluster.nodes.get(&node) else { return Ok((Vec::new(), ())) };
        let mut effects = Effects::new(snapshot, row);
        effects.health(crate::clock::now(), conditions);
        let mut ops = effects.operations();
        if !ops.is_empty() {
            ops.push(claim(core, snapshot, node, session)?);
        }
        Ok((ops, ()))
    })
    .await
    .map(drop)
    .map_err(unavailable)
}

/// A row as it was and as it is to be; `None` is gone.
struct Edit<T> {
    revision: u64,
    id: String,
    before: T,
    after: Option<T>,
}

impl<T: rows::Stored + PartialEq> Edit<T> {
    fn operation(self) -> Option<Op> {
        match self.after {
            None => Some(rows::delete::<T>(self.id, Some(self.revision))),
            Some(after) if after != self.before => Some(rows::update(&after, self.revision)),
            Some(_) => None,
        }
    }
}

/// The effects of several reports, so that a row is written once.
struct Effects<'a> {
    snapshot: &'a Snapshot,
    node: &'a Row<Node>,
    allocations: BTreeMap<AllocationId, Edit<Allocation>>,
    volumes: BTreeMap<VolumeId, Edit<Volume>>,
    events: Vec<Event>,
    runs: Vec<JobRun>,
    /// The node itself, where it is another than before.
    machine: Option<Node>,
}

impl<'a> Effects<'a> {
    fn new(snapshot: &'a Snapshot, node: &'a Row<Node>) -> Self {
        let (allocations, volumes) = (BTreeMap::new(), BTreeMap::new());
        Self { snapshot, node, allocations, volumes, events: Vec::new(), runs: Vec::new(), machine: None }
    }

    fn operations(self) -> Vec<Op> {
        let Self { snapshot: _, node, allocations, volumes, events, runs, machine } = self;
        let mut ops: Vec<Op> = allocations.into_values().filter_map(Edit::operation).collect();
        ops.extend(volumes.into_values().filter_map(Edit::operation));
        ops.extend(machine.filter(|now| *now != *node.value).map(|now| rows::update(&now, node.revision)));
        ops.extend(rows::events(events));
        ops.extend((0..).zip(runs).map(|(n, run)| rows::create(&JobRun { n, ..run })));
        ops
    }

    fn report(&mut self, report: &Report) {
        // Of a node whose clock is ahead nothing has happened later than now.
        let at = report.at.min(crate::clock::now());
        match &report.kind {
            ReportKind::Allocation { id, status } => self.status(at, *id, status),
            ReportKind::AllocationGone { id } => self.gone(at, *id),
            ReportKind::VolumeCreated { id } => self.volume(at, *id, "volume.created", |volume| {
                let new = !volume.exists && !volume.deleting;
                volume.exists |= new;
                new.then_some("created, empty")
            }),
            ReportKind::VolumeMissing { id } => self.volume(at, *id, "volume.missing", |volume| {
                let new = volume.exists && !volume.missing;
                volume.missing |= new;
                new.then_some("it should be there and is not: its data may be lost")
            }),
            ReportKind::VolumeFound { id } => self.volume(at, *id, "volume.found", |volume| {
                std::mem::take(&mut volume.missing).then_some("it is there again")
            }),
            ReportKind::VolumeDeleted { id } => self.volume_deleted(at, *id),
            ReportKind::RuntimeLost { reason } => {
                self.tell_at(
                    at,
                    "node.runtime_lost",
                    "its container engine does not answer".into(),
                    Some(reason.clone()),
                );
            }
            ReportKind::RuntimeBack => {
                self.tell_at(at, "node.runtime_back", "its container engine answers again".into(), None);
            }
            ReportKind::GoalRefused { goal, reason } => {
                self.tell_at(
                    at,
                    "node.goal_refused",
                    format!("it refused goal {goal}"),
                    Some(reason.clone()),
                );
            }
            ReportKind::OutboxOverflowed { dropped } => {
                let text =
                    format!("{dropped} of its reports had no room while it was away; states were sent anew");
                self.tell_at(at, "node.outbox_overflowed", text, None);
            }
            ReportKind::Standing { standing } => self.standing(at, standing.clone().bounded()),
            ReportKind::AgentStarted { version } => {
                self.tell_at(at, "node.agent_started", format!("its agent {version} started"), None);
            }
            ReportKind::Health { conditions } => self.health(at, conditions),
            ReportKind::Facts { facts, capacity } => self.facts(facts, *capacity),
        }
    }

    /// What its owner has it do.
    fn standing(&mut self, at: Timestamp, standing: Standing) {
        let (kind, text) = match standing.state {
            StandingState::Working => ("node.working", "its owner's rules let it work"),
            StandingState::Finishing => ("node.finishing", "it ends what it has begun and takes nothing new"),
            StandingState::Suspended => ("node.suspended", "its owner's rules let nothing run there now"),
            StandingState::Asleep => ("node.asleep", "it goes to sleep"),
            StandingState::Away => ("node.away", "it is shut down, or its agent is"),
        };
        // A later one tells nothing but when it ends.
        if at.since(standing.since) < Duration::from_secs(5) {
            self.tell_at(at, kind, text.into(), standing.why.clone());
        }
        self.machine.get_or_insert_with(|| (*self.node.value).clone()).standing = standing;
    }

    fn tell(&mut self, kind: &str, text: String, cause: Option<String>) {
        self.tell_at(crate::clock::now(), kind, text, cause);
    }

    fn tell_at(&mut self, at: Timestamp, kind: &str, text: String, cause: Option<String>) {
        let event = Event::new(kind, self.node.name.to_string(), text).on(self.node).because(cause).at(at);
        self.events.push(event);
    }

    /// How the machine is. What became worse or well again is told, once.
    fn health(&mut self, at: Timestamp, conditions: &[Condition]) {
        let now = crate::clock::now();
        let node = self.machine.get_or_insert_with(|| (*self.node.value).clone());
        let mut conditions = health::bounded(conditions);
        // A clock that is ahead would let it be so for less than nothing.
        conditions.iter_mut().for_each(|one| one.since = one.since.min(now));
        let before = std::mem::replace(&mut node.conditions, conditions.clone());
        for one in conditions {
            let was = before.iter().find(|was| was.kind == one.kind);
            if was.map(|was| (was.level, was.reason)) == Some((one.level, one.reason)) {
                continue;
            }
            let troubled = |level: Level| matches!(level, Level::Warning | Level::Bad);
            if troubled(one.level) {
                let kind = format!("node.condition_{}", one.level);
                self.tell_at(at, &kind, format!("{}: {}", one.kind, one.reason), Some(one.message));
            } else if one.level == Level::Good && was.is_some_and(|was| troubled(was.level)) {
                self.tell_at(at, "node.condition_good", format!("{}: fine again", one.kind), None);
            }
        }
    }

    /// What the machine is.
    fn facts(&mut self, facts: &NodeFacts, capacity: Capacity) {
        let node = self.machine.get_or_insert_with(|| (*self.node.value).clone());
        node.facts = NodeFacts { machine: facts.machine.clone().bounded(), ..facts.clone() };
        node.capacity = capacity;
    }

    /// A node spoke about what is not its own.
    fn foreign(&mut self, what: &str, id: &str) {
        tracing::warn!(node = %self.node.id, what, id, "a node reported for another one; refused");
        self.tell(
            "report.refused",
            format!("it reported for {what} {id}, which is another node's; that had no effect"),
            None,
        );
    }

    /// The allocation, where it is this node's.
    fn own(&mut self, id: AllocationId) -> Option<&mut Edit<Allocation>> {
        if !self.allocations.contains_key(&id) {
            let row = self.snapshot.cluster.allocations().get(&id)?;
            if row.node != self.node.id {
                self.foreign("allocation", &id.to_string());
                return None;
            }
            let value = (*row.value).clone();
            let edit = Edit {
                revision: row.revision,
                id: id.to_string(),
                before: value.clone(),
                after: Some(value),
            };
            self.allocations.insert(id, edit);
        }
        self.allocations.get_mut(&id)
    }

    fn status(&mut self, at: Timestamp, id: AllocationId, status: &AllocationStatus) {
        let node = self.node;
        let mut status = status.clone();
        status.reason = status.reason.map(|reason| rows::plain(reason).chars().take(MAX_REASON).collect());
        let Some(allocation) = self.own(id).and_then(|edit| edit.after.as_mut()) else { return };
        let before = std::mem::replace(&mut allocation.status, status);
        let after = allocation.status.clone();
        // By the server's clock: how long it has served decides about others.
        allocation.serving_since =
            after.is_serving().then(|| allocation.serving_since.unwrap_or_else(crate::clock::now));
        // A container that was started anew between two reports serves anew.
        if before.started_at != after.started_at && before.started_at.is_some() && after.is_serving() {
            allocation.serving_since = Some(crate::clock::now());
        }
        let turned =
            (before.state, before.health, before.restarts) != (after.state, after.health, after.restarts);
        let (workload, slot) = (allocation.workload.clone(), allocation.slot);
        let new = after.ended_run.filter(|ended| before.ended_run != Some(*ended));
        let job = allocation.spec.restart != RestartPolicy::Always;
        let run = new.filter(|_| job).map(|ended| JobRun::of(allocation, node, ended));
        self.runs.extend(run);
        if turned {
            let subject = format!("{workload}#{slot}");
            let kind = format!("allocation.{}", after.state.as_str());
            let step = causes::of_report(self.snapshot, &self.allocations[&id].before, &subject);
            let event = Event::new(&kind, subject, sentence(&after))
                .caused_by(step)
                .of(&workload)
                .on(node)
                .because(after.reason.clone())
                .at(at);
            self.events.push(event);
        }
    }

    fn gone(&mut self, at: Timestamp, id: AllocationId) {
        let node = self.node;
        let Some(edit) = self.own(id) else { return };
        let Some(allocation) = edit.after.clone() else { return };
        let subject = format!("{}#{}", allocation.workload, allocation.slot);
        let event = if allocation.intent == Intent::Remove {
            edit.after = None;
            let step = causes::of_report(self.snapshot, &allocation, &subject);
            Event::new("allocation.gone", subject, "its container is removed").caused_by(step)
        } else {
            Event::new(
                "report.refused",
                subject,
                "its node says that it removed it, and nobody had asked for that",
            )
        };
        self.events.push(event.of(&allocation.workload).on(node).at(at));
    }

    fn own_volume(&mut self, id: VolumeId) -> Option<&mut Edit<Volume>> {
        if !self.volumes.contains_key(&id) {
            let row = self.snapshot.volume(id)?;
            if row.node != Some(self.node.id) {
                self.foreign("volume", &id.to_string());
                return None;
            }
            let value = (*row.value).clone();
            let edit = Edit {
                revision: row.revision,
                id: id.to_string(),
                before: value.clone(),
                after: Some(value),
            };
            self.volumes.insert(id, edit);
        }
        self.volumes.get_mut(&id)
    }

    /// Changes a volume of this node; the change says what happened, or nothing when nothing did.
    fn volume(
        &mut self,
        at: Timestamp,
        id: VolumeId,
        kind: &str,
        change: impl FnOnce(&mut Volume) -> Option<&'static str>,
    ) {
        let node = self.node;
        let Some(volume) = self.own_volume(id).and_then(|edit| edit.after.as_mut()) else { return };
        let Some(text) = change(volume) else { return };
        let key = volume.key.clone();
        self.events.push(Event::new(kind, key.to_string(), text).of_stack(&key.stack_key()).on(node).at(at));
    }

    fn volume_deleted(&mut self, at: Timestamp, id: VolumeId) {
        let node = self.node;
        let Some(edit) = self.own_volume(id) else { return };
        let Some(volume) = edit.after.clone() else { return };
        let event = if volume.deleting {
            edit.after = None;
            Event::new("volume.deleted", volume.key.to_string(), "its data is deleted, as somebody asked")
        } else {
            Event::new(
                "report.refused",
                volume.key.to_string(),
                "its node says that it deleted it, and nobody had asked for that",
            )
        };
        self.events.push(event.of_stack(&volume.key.stack_key()).on(node).at(at));
    }
}

fn sentence(status: &AllocationStatus) -> String {
    let mut text = match status.state {
        AllocationState::Assigned => "it is planned".to_owned(),
        AllocationState::Waiting => "it waits".into(),
        AllocationState::Pulling => "its image is fetched".into(),
        AllocationState::Starting => "it starts".into(),
        AllocationState::Running => "it runs".into(),
        AllocationState::BackingOff if status.exit_code.is_none() => {
            "it could not be started and is tried again after a pause".into()
        }
        AllocationState::BackingOff => "it ended and is started again after a pause".into(),
        AllocationState::Stopping => "it is being stopped".into(),
        AllocationState::Stopped => "it is stopped".into(),
        AllocationState::Completed => "it has done its work".into(),
        AllocationState::Failed => "it cannot run".into(),
        AllocationState::Unknown => "nobody knows".into(),
    };
    use lattice_model::report::Health;
    match status.health {
        Health::None => {}
        Health::Starting => text.push_str("; its health check has not answered yet"),
        Health::Healthy => text.push_str(" and is healthy"),
        Health::Unhealthy => text.push_str(" and is not healthy"),
    }
    if let Some(exit) = status.exit_code.filter(|_| status.state != AllocationState::Running) {
        text.push_str(&format!(" (exit code {exit})"));
    }
    text
}
