//! The planning loop: stacks that changed → plan → store, at once and one plan at a time.
//!
//! States: not leading (asks for the lease), behind (an agent has seen more than the store: plans
//! nothing until a person decides), planning. A plan is made on one snapshot; its steps carry the
//! revisions that it saw, so that a stale one fails as a whole and is made anew. The next plan
//! waits until memory shows the last one.
//!
//! Rejected: collecting changes for a while before planning. The store batches by itself, and
//! whoever deploys waits for this loop.

use super::leader::{Leader, RENEW};
use crate::{
    causes, clock,
    rows::{self, Event},
    state::{Core, Snapshot},
};
use lattice_model::{
    StackKey, Timestamp,
    resource::{Intent, StackRevision, Superseded, Workload, WorkloadRevision},
};
use lattice_planner::{Ledger, Pending, Plan, PlanReport, Step, invariants};
use lattice_store::{ApplyError, LeaseError, Op, Transaction};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// The most operations of one transaction: the steps of one plan and their events.
const CHUNK: usize = 400;
/// The most bytes of one transaction.
const CHUNK_BYTES: usize = 4 << 20;
/// How long a failed store is left alone.
const PAUSE: Duration = Duration::from_millis(500);

/// How many plans in a row may come too late before there is a pause.
const TOO_OFTEN: u32 = 16;

/// The shortest wait for an instant.
const LEAST: Duration = Duration::from_millis(5);

/// What became of one round.
enum Round {
    Done,
    /// Somebody was faster.
    Again,
    /// The lease is over.
    Fenced,
    /// The store failed.
    Failed,
}

/// Plans until the server goes down.
pub(crate) async fn run(core: Arc<Core>) {
    let mut leader: Option<Leader> = None;
    let mut ledger = Ledger::default();
    let mut in_vain = 0u32;
    let mut renewal = tokio::time::interval(RENEW);
    renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let rebalance = core.config.planning.rebalance;
    let every = rebalance.map_or(LEAST, |policy| policy.every.as_std().max(LEAST));
    let mut uneven = tokio::time::interval(every);
    uneven.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = core.live.planner.lock().next.values().min().copied();
        tokio::select! {
            () = core.shutdown.cancelled() => break,
            () = until(due) => {
                let now = clock::now();
                let due: Vec<StackKey> = {
                    let mut memory = core.live.planner.lock();
                    memory.next.extract_if(.., |_, at| *at <= now).map(|(stack, _)| stack).collect()
                };
                core.live.want_plan(due);
            }
            _ = renewal.tick() => keep(&core, &mut leader).await,
            _ = uneven.tick(), if leader.is_some() && rebalance.is_some() => {
                let snapshot = core.snapshot();
                let stacks = lattice_planner::rebalance::uneven(&snapshot.cluster, rebalance, clock::now());
                if !stacks.is_empty() {
                    core.live.want_plan(stacks);
                }
            }
            () = core.live.plan_wanted(), if leader.is_some() && core.live.behind().is_none() => {
                let Some(current) = leader.as_ref().filter(|leader| leader.holds()) else {
                    leader = None;
                    renewal.reset_immediately();
                    continue;
                };
                // It may have been found out while this waited.
                if core.live.behind().is_some() {
                    continue;
                }
                let changed = core.live.take_dirty();
                let done = round(&core, current, &mut ledger, &changed).await;
                if !matches!(done, Round::Done) {
                    // What was new about them was not written down, so it is new again.
                    core.live.planner.lock().pending.retain(|stack, _| !changed.contains(stack));
                    core.live.want_plan(changed);
                }
                in_vain = if matches!(done, Round::Again) { in_vain + 1 } else { 0 };
                match done {
                    // Others are faster once or twice; what never fits must not keep a processor busy.
                    Round::Again if in_vain >= TOO_OFTEN => {
                        tracing::warn!(in_vain, "a plan does not fit the store again and again");
                        tokio::time::sleep(PAUSE).await;
                    }
                    Round::Done | Round::Again => {}
                    Round::Fenced => {
                        leader = None;
                        renewal.reset_immediately();
                    }
                    Round::Failed => tokio::time::sleep(PAUSE).await,
                }
            }
        }
    }
    if let Some(leader) = leader {
        leader.release(&core).await;
    }
}

/// Waits for an instant, for ever without one.
pub(crate) async fn until(at: Option<Timestamp>) {
    match at {
        // Never in haste, should the clock and the instant disagree about now.
        Some(at) => tokio::time::sleep(at.since(clock::now()).as_std().max(LEAST)).await,
        None => std::future::pending().await,
    }
}

async fn keep(core: &Core, leader: &mut Option<Leader>) {
    let lost = match leader {
        Some(leader) => leader.renew(core).await.err(),
        None => None,
    };
    if let Some(error) = lost {
        tracing::warn!(%error, "this server no longer plans");
        *leader = None;
        *core.live.leads_since.lock() = None;
    }
    if leader.is_none() {
        match Leader::acquire(core, &core.server).await {
            Ok(acquired) => {
                *leader = Some(acquired);
                *core.live.leads_since.lock() = Some(clock::now());
                core.live.presence.notify_one();
            }
            Err(LeaseError::Held { by, .. }) => tracing::debug!(by, "another server plans"),
            Err(error) => tracing::warn!(%error, "the leader's lease was not given"),
        }
    }
}

async fn round(core: &Core, leader: &Leader, ledger: &mut Ledger, changed: &BTreeSet<StackKey>) -> Round {
    let snapshot = core.snapshot();
    let now = clock::now();
    let cluster = core.live.foresight.on(&snapshot, now);
    let (plan, report) = ledger.plan(&cluster, changed, &core.config.planning, now, &mut clock::random_bits);
    let broken = invariants::broken(&snapshot.cluster, &plan);
    if !broken.is_empty() {
        refuse_broken(core, &broken).await;
        return Round::Done;
    }
    let news = remember(core, &snapshot, changed, &report);
    let ops = operations(&snapshot, &plan);
    if ops.is_empty() && news.is_empty() {
        return Round::Done;
    }
    let started = std::time::Instant::now();
    let mut revision = 0;
    let whole = chunks(ops, rows::events(news.into_iter().chain(told(&snapshot, &plan)).take(200)));
    for ops in whole {
        match core.store.apply(Transaction::new(ops).with_guard(leader.guard())).await {
            Ok(applied) => revision = applied.revision.0,
            Err(ApplyError::Conflict { .. }) => {
                let head = core.store.revision().await.map_or(0, |head| head.0);
                core.caught_up(head.max(revision)).await;
                return Round::Again;
            }
            Err(ApplyError::Fenced { .. }) => return Round::Fenced,
            Err(error @ (ApplyError::TooLarge { .. } | ApplyError::Invalid { .. })) => {
                tracing::error!(%error, "a plan cannot be written down");
                warn(core, "a plan cannot be written down: look at the server's log");
                return Round::Done;
            }
            Err(ApplyError::Store(error)) => {
                tracing::error!(%error, "a plan was not written down");
                return Round::Failed;
            }
        }
    }
    core.caught_up(revision).await;
    tracing::debug!(steps = plan.steps.len(), revision, took = ?started.elapsed(), "a plan was carried out");
    Round::Done
}

/// Keeps what could not be placed, and says what is new about it.
fn remember(
    core: &Core,
    snapshot: &Snapshot,
    changed: &BTreeSet<StackKey>,
    report: &PlanReport,
) -> Vec<Event> {
    let mut memory = core.live.planner.lock();
    let mut news = Vec::new();
    for stack in changed {
        let now: Vec<Pending> =
            report.pending.iter().filter(|p| p.workload.stack_key() == *stack).cloned().collect();
        let before = memory.pending.remove(stack).unwrap_or_default();
        memory.stays.remove(stack);
        match report.next.get(stack) {
            Some(at) => drop(memory.next.insert(stack.clone(), *at)),
            None => drop(memory.next.remove(stack)),
        }
        // Whose turn comes by itself is no news.
        for pending in now.iter().filter(|pending| !pending.turn) {
            let known = before.iter().any(|old| old.workload == pending.workload && old.why == pending.why);
            if !known {
                let message = format!("{} of its replicas wait: {}", pending.slots.len(), pending.why);
                let event = Event::new("workload.pending", pending.workload.to_string(), message);
                let cause = causes::of_waiting(snapshot, &pending.workload, &pending.slots);
                news.push(event.of(&pending.workload).because(Some(pending.hint.clone())).caused_by(cause));
            }
        }
        let stuck =
            |workload: &lattice_model::WorkloadKey| now.iter().any(|p| p.workload == *workload && !p.turn);
        for old in before.iter().filter(|old| !old.turn && !stuck(&old.workload)) {
            if snapshot.cluster.workloads().contains_key(&old.workload) {
                let event = Event::new(
                    "workload.placed",
                    old.workload.to_string(),
                    "none of its replicas waits any more",
                );
                news.push(event.of(&old.workload));
            }
        }
        if !now.is_empty() {
            memory.pending.insert(stack.clone(), now);
        }
    }
    for stay in &report.stays {
        memory.stays.entry(stay.workload.stack_key()).or_default().push(stay.clone());
    }
    memory.last_run = Some(clock::now());
    memory.planned_to = snapshot.revision;
    memory.warnings.clear();
    news
}

/// The steps as operations, with the workloads that they rely on.
fn operations(snapshot: &Snapshot, plan: &Plan) -> Vec<Op> {
    // A row that is written needs no check, and one transaction has no two words on a row.
    let changed = plan.steps.iter().filter_map(|step| match step {
        Step::Workload { workload, .. } => Some(&workload.key),
        _ => None,
    });
    let written: BTreeSet<&lattice_model::WorkloadKey> = changed.collect();
    let mut ops: Vec<Op> = plan
        .relies_on
        .iter()
        .filter(|(key, _)| !written.contains(key))
        .map(|(key, revision)| rows::check::<lattice_model::resource::Workload>(key, Some(*revision)))
        .collect();
    if plan.steps.is_empty() {
        return Vec::new();
    }
    for step in &plan.steps {
        ops.push(match step {
            Step::Create(allocation) => rows::create(&**allocation),
            Step::Update { expected, allocation, why: _ } => rows::update(&**allocation, *expected),
            Step::Forget { expected, id, .. } => {
                rows::delete::<lattice_model::resource::Allocation>(id, Some(*expected))
            }
            Step::Workload { expected, workload } => rows::update(&**workload, *expected),
            Step::Keep(revision) => rows::put(&**revision),
            Step::Missed(missed) => rows::put(&**missed),
            Step::Claim { expected, volume } => rows::update(&**volume, *expected),
            Step::ForgetVolume { expected, key } => {
                let Some(volume) = snapshot.cluster.volumes.get(key) else { continue };
                rows::delete::<lattice_model::resource::Volume>(volume.id, Some(*expected))
            }
            Step::ForgetStack { expected, key } => {
                rows::delete::<lattice_model::resource::Stack>(key, Some(*expected))
            }
        });
        if let Step::ForgetStack { key, .. } = step {
            ops.push(rows::delete::<rows::StackSource>(key, None));
            let kept = crate::api::rollout::revisions(snapshot, key);
            ops.extend(
                kept.map(|row| {
                    rows::delete::<StackRevision>(rows::stack_revision_id(key, row.version), None)
                }),
            );
            let own = snapshot.cluster.revisions.keys().filter(|(other, _)| other.stack_key() == *key);
            ops.extend(own.map(|(key, generation)| {
                rows::delete::<WorkloadRevision>(rows::workload_revision_id(key, *generation), None)
            }));
        }
    }
    ops
}

/// Events for what people want to know of a plan.
fn told<'a>(snapshot: &'a Snapshot, plan: &'a Plan) -> impl Iterator<Item = Event> + 'a {
    plan.steps.iter().filter_map(|step| match step {
        Step::Create(allocation) => {
            let node = snapshot.cluster.nodes.get(&allocation.node)?;
            let subject = format!("{}#{}", allocation.workload, allocation.slot);
            let event = Event::new("allocation.placed", subject, format!("placed on {}", node.name));
            let event =
                event.of(&allocation.workload).on(node).caused_by(causes::of_step(snapshot, allocation));
            Some(event.because(Some(allocation.explanation.clone())))
        }
        Step::Forget { id, why, .. } => {
            let row = snapshot.cluster.allocations().get(id)?;
            let event =
                Event::new("allocation.forgotten", format!("{}#{}", row.workload, row.slot), why.clone());
            Some(event.of(&row.workload).caused_by(causes::of_step(snapshot, row)))
        }
        Step::ForgetVolume { key, .. } => {
            let event = Event::new(
                "volume.forgotten",
                key.to_string(),
                "deleted; it had no data on a node of the cluster",
            );
            Some(event.of_stack(&key.stack_key()))
        }
        Step::ForgetStack { key, .. } => {
            Some(Event::new("stack.removed", key.to_string(), "nothing of it is left").of_stack(key))
        }
        Step::Update { allocation, why: Some(why), .. } => {
            let node = snapshot.cluster.nodes.get(&allocation.node)?;
            let subject = format!("{}#{}", allocation.workload, allocation.slot);
            let event = match (allocation.intent, allocation.superseded) {
                (Intent::Remove, _) => {
                    Event::new("allocation.removing", subject, format!("to go from {}", node.name))
                }
                (_, Some(Superseded::Lost)) => Event::new(
                    "allocation.lost",
                    subject,
                    format!("on {}, which is lost; whether it runs is not known", node.name),
                ),
                (_, Some(Superseded::Handover)) => Event::new(
                    "allocation.handover",
                    subject,
                    format!("serves on {} until its successor does", node.name),
                ),
                (_, Some(Superseded::Retired)) => Event::new(
                    "allocation.retired",
                    subject,
                    format!("stopped on {}, and kept to go back to", node.name),
                ),
                (_, None) => Event::new("allocation.kept", subject, format!("stays on {}", node.name)),
            };
            let event =
                event.of(&allocation.workload).on(node).caused_by(causes::of_step(snapshot, allocation));
            Some(event.because(Some(why.clone())))
        }
        Step::Workload { workload, .. } => {
            let before = snapshot.cluster.workloads().get(&workload.key)?;
            if workload.restart != before.restart {
                return begun(workload);
            }
            let promoted = |row: &Workload| row.present_rollout().is_some_and(|one| one.promoted.is_some());
            if promoted(workload) && !promoted(before) {
                let text = "the new version has proved itself and takes over";
                return Some(
                    Event::new("rollout.promoted", workload.key.to_string(), text).of(&workload.key),
                );
            }
            let back = workload.rolled_back.as_ref().filter(|back| back.from + 1 == workload.generation)?;
            if workload.settled == workload.generation {
                return None;
            }
            let text = "the new version failed, so the former one comes back";
            let event = Event::new("workload.rolled_back", workload.key.to_string(), text);
            let cause = causes::of_rollback(snapshot, &workload.key);
            Some(event.of(&workload.key).because(Some(back.why.clone())).caused_by(cause))
        }
        Step::Missed(missed) => {
            let times = match (missed.count, missed.more) {
                (1, false) => "it was due and did not run".to_owned(),
                (count, false) => format!("{count} times it was due and did not run"),
                (count, true) => format!("more than {count} times it was due and did not run"),
            };
            let event = Event::new("job.missed", missed.workload.to_string(), times);
            Some(event.of(&missed.workload).because(Some(missed.why.clone())))
        }
        Step::Update { why: None, .. } | Step::Claim { .. } | Step::Keep(_) => None,
    })
}

/// That a schedule begins a run, for which time, and how late.
fn begun(workload: &Workload) -> Option<Event> {
    let run = workload.timetable.as_ref()?.run.as_ref()?;
    let schedule = workload.spec.schedule.as_ref()?;
    let times = lattice_cron::Times::read(&schedule.cron, &schedule.zone).ok()?;
    let due = run.due?;
    let late = run.begun.since(due);
    let mut why = format!("it was due at {}", times.wall(due));
    if late >= lattice_model::Duration::from_secs(1) {
        why.push_str(&format!(", {late} ago"));
    }
    let event = Event::new("job.begun", workload.key.to_string(), "its schedule begins a run");
    Some(event.of(&workload.key).because(Some(why)))
}

/// Transactions within the store's bounds. Almost always one; a plan of thousands of steps becomes
/// several, each of which is a valid state from which planning goes on.
fn chunks(ops: Vec<Op>, events: Vec<Op>) -> Vec<Vec<Op>> {
    let mut chunks = vec![Vec::new()];
    let mut bytes = 0;
    for op in ops {
        let size = op.body().map_or(0, |body| body.len());
        let full =
            chunks.last().is_some_and(|chunk: &Vec<Op>| chunk.len() >= CHUNK || bytes + size > CHUNK_BYTES);
        if full {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(op);
        }
    }
    if let Some(last) = chunks.last_mut() {
        last.extend(events);
    }
    chunks
}

async fn refuse_broken(core: &Core, broken: &[String]) {
    for rule in broken.iter().take(20) {
        tracing::error!(rule, "a plan breaks a rule and is not carried out; this is a fault in the planner");
    }
    let first = broken.first().cloned().unwrap_or_default();
    warn(core, &format!("a plan was refused because it breaks a rule: {first}"));
    let message = format!("a plan breaks {} rules and was not carried out", broken.len());
    let event = Event::new("planner.refused", "planner", message).because(Some(first));
    if let Err(error) = core.store.apply(Transaction::new(rows::events([event]))).await {
        tracing::warn!(%error, "an event was not written down");
    }
}

fn warn(core: &Core, text: &str) {
    core.live.planner.lock().warnings = vec![text.to_owned()];
}
