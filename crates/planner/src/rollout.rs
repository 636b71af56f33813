//! How the replicas of a workload are filled, moved and replaced by turns: its update policy.
//!
//! A slot is *settled* when its own replica is of the present version, where it may stay, and has
//! served for as long as the policy watches it. No more slots than the policy's parallelism are
//! unsettled by us at a time; what does not serve anyway is replaced without waiting for a turn. Moves off a
//! node that is emptied take turns in the same way.
//!
//! An update is under way from the deployment of a generation until every slot has settled once
//! ([`Workload::settled`]). When more of its replicas fail than the policy allows, it pauses as long as they
//! do, goes on, or the last generation that settled comes back. Rejected: a pause after a failure that lasts
//! until somebody ends it; a service that fails once because its database starts later would need a
//! person each time. Which version a slot is to have is decided in `stage`, what fails in `progress`.
//!
//! A node that is away blocks nobody: what is there of a former version is left alone, and gets the present one
//! when the node is back, or elsewhere when it is lost.

use crate::{
    cluster::{Cluster, Row},
    gang::{gang, place_gang},
    home::{Home, fits, is_connected, must_leave, no_place},
    ledger::{gpu_share, holds_gpus},
    place::{How, Vacancy, place},
    plan::Step,
    planning::Planning,
    progress::{policy_of, settles_at},
    rebalance::rebalance,
    slots::{Slot, has_ended, is_available, is_current, moves_start_first, settle_asides, slots},
    stage::Versions,
    timetable::reconcile_scheduled,
};
pub use crate::{
    progress::{Failing, failing},
    stage::{Trial, kept_until, trial},
};
use lattice_model::{
    NodeId, Timestamp, WorkloadKey,
    goal::DesiredState,
    report::AllocationState,
    resource::{
        Allocation, Approval, Eligibility, Intent, PresenceState, RolledBack, Rollout, Superseded, Workload,
        WorkloadRevision,
    },
    spec::{GpuRequest, Mode, Promote, RestartPolicy, UpdateFailure, UpdateOrder},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The nodes that a workload of [`Mode::Global`] is to run on.
fn takers(cluster: &Cluster, workload: &Workload) -> BTreeSet<NodeId> {
    let has = |node: NodeId| {
        cluster.allocations_of(&workload.key).any(|row| row.node == node && row.intent != Intent::Remove)
    };
    let takes = |node: &&Row<lattice_model::resource::Node>| {
        node.approval == Approval::Approved
            && node.eligibility != Eligibility::Draining
            && !node.is_gone()
            && node.presence.state != PresenceState::New
            && no_place(cluster, &workload.key.project, &workload.spec, node).is_none()
            && (node.takes_work() || has(node.id))
    };
    cluster.nodes.values().filter(takes).map(|node| node.id).collect()
}

/// How many replicas a workload is to have: what was asked for, or the nodes that take it.
pub fn wanted_replicas(cluster: &Cluster, workload: &Workload) -> u32 {
    match workload.spec.mode {
        Mode::Replicated => workload.replicas,
        Mode::Global => u32::try_from(takers(cluster, workload).len()).unwrap_or(u32::MAX),
    }
}

/// The slots to be filled, each with its node where it has one of its own. Replicas of a workload
/// that runs once on each node go where that is over.
fn wanted_slots(planning: &mut Planning<'_>, workload: &Workload) -> BTreeMap<u32, Option<NodeId>> {
    if workload.spec.mode == Mode::Replicated {
        return (1..=workload.replicas).map(|slot| (slot, None)).collect();
    }
    let mut nodes = takers(&planning.cluster, workload);
    let mut wanted = BTreeMap::new();
    let mut used = BTreeSet::new();
    for (slot, Slot { own, aside, .. }) in slots(&planning.cluster, &workload.key) {
        if own.is_some() || !aside.is_empty() {
            used.insert(slot);
        }
        let Some(own) = own else { continue };
        if nodes.remove(&own.node) {
            wanted.insert(slot, Some(own.node));
        } else if planning.cluster.nodes.get(&own.node).is_some_and(|node| node.is_gone()) {
            let why = format!("{}, and nothing takes its place there", planning.gone(own.node));
            planning.update_because(&own, Some(why), |a| a.superseded = Some(Superseded::Lost));
        } else {
            let why = must_leave(planning, workload, own.node).unwrap_or_else(|| "a second one".into());
            planning.update_because(&own, Some(why), |a| a.intent = Intent::Remove);
        }
    }
    let mut free = (1u32..).filter(|slot| !used.contains(slot));
    for node in nodes {
        wanted.extend(free.next().map(|slot| (slot, Some(node))));
    }
    wanted
}

/// What the slots of a workload are in need of.
#[derive(Default)]
pub(crate) struct Needs {
    /// To be filled at once.
    pub(crate) now: Vec<Vacancy>,
    /// To be replaced by turns.
    pub(crate) turns: Vec<Vacancy>,
    /// Slots that are not settled.
    unsettled: u32,
    /// Slots that are settled.
    settled: u32,
    /// Tasks of an array that are to run, as far as there is room among those that do.
    tasks: Vec<Vacancy>,
    /// Tasks that run, or are about to.
    running: u32,
    /// When the last one that is settled became so.
    settled_at: Option<Timestamp>,
    /// When one that is watched settles.
    watched: Option<Timestamp>,
    /// Slots whose data is away.
    pub(crate) away: Vec<u32>,
    /// Slots on nodes that are away, and have not been called lost.
    missing: u32,
    /// When the last of those will have been away for so long that nobody waits for it.
    long_at: Option<Timestamp>,
    /// Slots that keep their old version until their node is back, with its name.
    absent: BTreeMap<String, Vec<u32>>,
    /// Slots that keep their old version as long as the rollout is held back.
    held: Vec<u32>,
}

pub(crate) fn reconcile_workload(planning: &mut Planning<'_>, workload: &Workload, home: &Home) {
    if workload.desired == DesiredState::Stop {
        return;
    }
    if let Some(schedule) = workload.spec.schedule.as_ref().filter(|_| workload.desired == DesiredState::Run)
    {
        return reconcile_scheduled(planning, workload, schedule, home);
    }
    let versions = Versions::of(&planning.cluster, workload);
    settle_asides(planning, workload, home, &versions);
    let wanted = wanted_slots(planning, workload);
    if workload.desired == DesiredState::Hold {
        return hold(planning, workload, home, &wanted);
    }
    let failing = failing(&planning.cluster, workload, planning.now);
    let policy = policy_of(workload);
    if failing.too_many
        && policy.on_failure == UpdateFailure::Rollback
        && workload.rolled_back.is_none()
        && !versions.is_paused()
        && roll_back(planning, workload, &failing)
    {
        return;
    }
    let stack = workload.key.stack_key();
    let mut needs = needs_of(planning, workload, home, &wanted, &failing, &versions);
    start_tasks(planning, workload, &mut needs);
    let Needs {
        mut now,
        mut turns,
        unsettled,
        settled,
        settled_at,
        watched,
        away,
        missing,
        long_at,
        absent,
        held,
        tasks: _,
        running: _,
    } = needs;
    if let Home::Away { why, hint } = home
        && !away.is_empty()
    {
        planning.pending(&workload.key, away, why.clone(), hint);
    }
    for at in watched.into_iter().chain(failing.next) {
        planning.wake(stack.clone(), at);
    }
    let lost: Vec<Row<Allocation>> =
        now.iter().filter(|v| v.how == How::Lost).filter_map(|v| v.old.clone()).collect();
    let gang = match workload.spec.is_gang() {
        true => gang(planning, workload, home, &versions, &mut now, &mut turns),
        false => Vec::new(),
    };
    let quiet = turns.is_empty() && unsettled == 0 && held.is_empty() && !wanted.is_empty();
    let (chosen, waits) = take_turns(planning, workload, turns, &failing, (unsettled, settled_at), &versions);
    now.extend(chosen);
    let nothing_else = now.iter().chain(&gang).all(|vacancy| vacancy.how == How::Lost);
    let (kept, new): (Vec<Vacancy>, Vec<Vacancy>) = now.into_iter().partition(|v| versions.holds(v.slot));
    place(planning, workload, new, home);
    for vacancy in kept {
        let target = versions.target(workload, vacancy.slot);
        place(planning, target, vec![vacancy], home);
    }
    place_gang(planning, workload, &|slot| versions.target(workload, slot), home, gang, &wanted);
    wait(planning, workload, waits);
    for (node, slots) in absent {
        let why = format!("{node} is away; they get the new version there when it is back");
        planning.waits_its_turn(&workload.key, slots, why);
    }
    // What was on a lost node and finds no place keeps nobody waiting.
    let stays_lost = |row: &Row<Allocation>| {
        planning.cluster.allocations().get(&row.id).is_some_and(|row| row.superseded.is_none())
    };
    let mut came_up = quiet
        && nothing_else
        && lost.iter().all(stays_lost)
        && ((lost.is_empty() && missing == 0) || settled > 0);
    if let Some(at) = long_at.filter(|at| came_up && *at > planning.now) {
        came_up = false;
        if workload.is_under_way() {
            planning.wake(stack, at);
        }
    }
    let at_rest = came_up && lost.is_empty() && missing == 0;
    conclude(planning, workload, &versions, held, came_up);
    if at_rest && !workload.is_under_way() && rebalance(planning, workload, home) {
        planning.write_workload(Workload { moved_at: Some(planning.now), ..workload.clone() });
    }
}

/// Lets as many tasks of an array begin as there is room for among those that run.
pub(crate) fn start_tasks(planning: &mut Planning<'_>, workload: &Workload, needs: &mut Needs) {
    let Some(array) = workload.spec.array else { return };
    let most = if array.parallel == 0 { u32::MAX } else { array.parallel };
    let free = most.saturating_sub(needs.running) as usize;
    let waits = needs.tasks.split_off(free.min(needs.tasks.len()));
    needs.now.append(&mut needs.tasks);
    if !waits.is_empty() {
        let slots = waits.iter().map(|task| task.slot).collect();
        let why = format!("at most {most} of its tasks run at the same time");
        planning.waits_its_turn(&workload.key, slots, why);
    }
}

/// Writes down how far the rollout has come, and says what it is held back by.
fn conclude(
    planning: &mut Planning<'_>,
    workload: &Workload,
    versions: &Versions,
    held: Vec<u32>,
    came_up: bool,
) {
    let mut next = workload.clone();
    if workload.is_under_way() && workload.present_rollout().is_none() {
        next.rollout = Some(Rollout::begin(workload.generation, planning.now));
    }
    let stack = &workload.key.stack;
    let pause = workload.present_rollout().and_then(|rollout| rollout.paused.clone());
    if let Some(pause) = pause.filter(|_| versions.is_paused()) {
        let why = format!("{} paused the rollout; `lattice rollout resume {stack}` goes on", pause.by);
        if !held.is_empty() {
            planning.waits_its_turn(&workload.key, held, why);
        }
    } else if let Some(trial) = trial(&planning.cluster, workload) {
        let (all, serving) = (trial.slots.len(), trial.serving);
        let baked = trial.baked_at.filter(|at| *at <= planning.now);
        let nothing_old = trial.alone && serving as usize == all;
        if ((baked.is_some() && trial.promote == Promote::Auto) || nothing_old)
            && let Some(rollout) = &mut next.rollout
        {
            rollout.promoted = Some(planning.now);
            rollout.counted_from = planning.now;
        }
        let why = match (baked, trial.baked_at) {
            (Some(_), _) => format!(
                "{all} of the new version have served for {}; `lattice rollout promote {stack}` lets them take over",
                trial.bake
            ),
            (None, Some(at)) => {
                planning.wake(workload.key.stack_key(), at);
                format!("{all} of the new version are watched for {}", trial.bake)
            }
            (None, None) => format!("{serving} of {all} that are tried of the new version serve"),
        };
        if !held.is_empty() {
            planning.waits_its_turn(&workload.key, held, why);
        }
    } else if came_up && workload.settled != workload.generation {
        next.settled = workload.generation;
        if let Some(kept) = former(&planning.cluster, &workload.key, workload.generation) {
            let kept = WorkloadRevision { came_up: true, ..kept };
            planning.plan.steps.push(Step::Keep(Box::new(kept)));
        }
    }
    if next != *workload {
        planning.write_workload(next);
    }
}

/// Gives each slot its node and nothing else: what is held is neither replaced nor moved.
fn hold(
    planning: &mut Planning<'_>,
    workload: &Workload,
    home: &Home,
    wanted: &BTreeMap<u32, Option<NodeId>>,
) {
    let all = slots(&planning.cluster, &workload.key);
    let empty = wanted.iter().filter(|(slot, _)| all.get(slot).is_none_or(|there| there.own.is_none()));
    let vacancies = empty.map(|(&slot, &node)| {
        let leaving = all.get(&slot).map(|there| there.leaving.clone()).unwrap_or_default();
        Vacancy { slot, old: None, how: How::Fill, moves: None, node, leaving }
    });
    let vacancies = vacancies.collect();
    match workload.spec.is_gang() {
        true => place_gang(planning, workload, &|_| workload, home, vacancies, wanted),
        false => place(planning, workload, vacancies, home),
    }
}

/// Whether a replica that stands still is to run again, and cannot count on the GPUs that it had.
fn needs_gpus_anew(planning: &Planning<'_>, workload: &Workload, row: &Allocation) -> bool {
    if row.gpus.is_empty() || workload.desired != DesiredState::Run {
        return false;
    }
    let others = |other: &&Row<Allocation>| other.id != row.id && holds_gpus(other);
    let used = |id: &String| -> u32 {
        let there = planning.cluster.allocations_on(row.node).filter(others);
        there.filter(|other| other.gpus.contains(id)).map(|other| u32::from(gpu_share(other))).sum()
    };
    let taken = || {
        let most = u32::from(GpuRequest::WHOLE - gpu_share(row));
        row.gpus.iter().any(|id| used(id) > most)
    };
    match row.status.state {
        _ if has_ended(row) => row.restart != workload.restart,
        AllocationState::Stopped => taken(),
        _ => false,
    }
}

pub(crate) fn needs_of(
    planning: &mut Planning<'_>,
    workload: &Workload,
    home: &Home,
    wanted: &BTreeMap<u32, Option<NodeId>>,
    failing: &Failing,
    versions: &Versions,
) -> Needs {
    let policy = policy_of(workload);
    let present = workload;
    let mut needs = Needs::default();
    let all = slots(&planning.cluster, &workload.key);
    let none = Slot::default();
    for (&slot, &node) in wanted {
        let Slot { own, aside, leaving } = all.get(&slot).unwrap_or(&none);
        let (held, workload) = (versions.holds(slot), versions.target(present, slot));
        let vacancy = |how, old: Option<&Row<Allocation>>, moves| Vacancy {
            slot,
            old: old.cloned(),
            how,
            moves,
            node,
            leaving: leaving.clone(),
        };
        let Some(row) = own else {
            needs.unsettled += 1;
            if matches!(home, Home::Away { .. }) {
                needs.away.push(slot);
            } else if workload.spec.array.is_some() {
                needs.tasks.push(vacancy(How::Fill, None, None));
            } else {
                needs.now.push(vacancy(How::Fill, None, None));
            }
            continue;
        };
        let current = versions.is_right(present, row);
        if held && !is_current(present, row) {
            needs.held.push(slot);
        }
        let lost = planning.cluster.nodes.get(&row.node).is_some_and(|node| node.is_gone());
        let (array, scheduled) = (workload.spec.array.is_some(), workload.spec.schedule.is_some());
        if (array || scheduled) && workload.desired == DesiredState::Run {
            // A task that is to run again is another one: so it is known which of them have run.
            if has_ended(row) && (!current || row.restart != workload.restart) {
                needs.unsettled += 1;
                let to = if array { &mut needs.tasks } else { &mut needs.now };
                to.push(vacancy(if lost { How::Lost } else { How::Now }, Some(row), None));
                continue;
            }
            needs.running += u32::from(current && !has_ended(row));
        }
        // Its GPUs were given back when it ended, and may be another's.
        if current && needs_gpus_anew(planning, workload, row) {
            needs.unsettled += 1;
            needs.now.push(vacancy(if lost { How::Lost } else { How::Now }, Some(row), None));
            continue;
        }
        if current && (has_ended(row) || !lost) {
            // Also one that was made for a former generation which was the same.
            planning.update(row, |a| {
                if !held {
                    a.generation = workload.generation;
                }
                a.intent = Intent::Run;
                a.restart = workload.restart;
            });
        }
        if current && has_ended(row) {
            let failed = row.status.state == AllocationState::Failed;
            needs.unsettled += u32::from(failed);
            needs.settled += u32::from(!failed);
            continue;
        }
        if lost {
            if matches!(home, Home::Away { .. }) {
                needs.unsettled += 1;
                needs.away.push(slot);
            } else if row.spec.restart == RestartPolicy::Never && current {
                let why =
                    format!("{}, and a job that may not be started again is not", planning.gone(row.node));
                planning.stays_for_good(row, why);
            } else {
                needs.now.push(vacancy(How::Lost, Some(row), None));
            }
            continue;
        }
        let handover = aside.iter().any(|row| row.superseded == Some(Superseded::Handover));
        let absence = absence_of(planning, row.node).filter(|_| !handover && !has_ended(row));
        if let Some(absence) = absence {
            match absence {
                Absence::Unknown => needs.unsettled += 1,
                Absence::Since(at) => {
                    needs.missing += 1;
                    needs.long_at = needs.long_at.max(Some(at + planning.policy.node_loss_after));
                }
            }
            if !current {
                needs.absent.entry(planning.name(row.node)).or_default().push(slot);
                continue;
            }
        }
        let place = fits(planning, workload, home, row);
        if current && place.is_ok() {
            stays_with_data(planning, home, row);
            match settles_at(row, policy.monitor) {
                _ if absence.is_some() => {}
                _ if handover || !is_available(&planning.cluster, row) => {
                    needs.unsettled += u32::from(handover || !failing.slots.contains_key(&slot));
                }
                Some(at) if at <= planning.now => {
                    needs.settled_at = needs.settled_at.max(Some(at));
                    needs.settled += u32::from(!held);
                }
                at => {
                    needs.unsettled += u32::from(!failing.slots.contains_key(&slot));
                    needs.watched = [needs.watched, at].into_iter().flatten().min();
                }
            }
            continue;
        }
        let order = match (&place, current) {
            (Err(_), true) if moves_start_first(workload) => How::StartFirst,
            (Err(_), true) => How::StopFirst,
            _ if policy.order == UpdateOrder::StartFirst || versions.is_trial() => How::StartFirst,
            _ => How::StopFirst,
        };
        let moves = place.err().filter(|_| current);
        if current && row.spec.restart == RestartPolicy::Never {
            let why = moves.unwrap_or_default();
            planning.stays_for_good(
                row,
                format!("{why}, but it is a job that may not be started again; it stays until it ends"),
            );
            continue;
        }
        let stands_in = aside
            .iter()
            .any(|old| old.superseded == Some(Superseded::Handover) && is_available(&planning.cluster, old));
        if handover && (stands_in || !is_available(&planning.cluster, row)) {
            // What came in its stead is itself not right any more, and nothing is lost with it.
            needs.unsettled += 1;
            needs.now.push(vacancy(How::Now, Some(row), moves));
        } else if !is_available(&planning.cluster, row) {
            needs.unsettled += 1;
            // One that is not heard of may serve well.
            let broken = !row.status.is_serving();
            let to = if broken { &mut needs.now } else { &mut needs.turns };
            to.push(vacancy(order, Some(row), moves));
        } else if moves.is_some() && is_urgent(planning, workload, row) {
            needs.now.push(vacancy(How::Now, Some(row), moves));
        } else {
            needs.turns.push(vacancy(order, Some(row), moves));
        }
    }
    needs
}

/// How long nobody has heard of a node that is not given up.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// The server has just started, or the node is no part of the cluster for now.
    Unknown,
    /// Since then.
    Since(Timestamp),
}

fn absence_of(planning: &Planning<'_>, node: NodeId) -> Option<Absence> {
    if is_connected(&planning.cluster, node) {
        return None;
    }
    let presence = planning.cluster.nodes.get(&node).map(|row| row.presence);
    let since = presence.filter(|presence| presence.state == PresenceState::Disconnected);
    Some(since.map_or(Absence::Unknown, |presence| Absence::Since(presence.since)))
}

/// Whether the node of a replica should have been empty by now.
fn is_urgent(planning: &mut Planning<'_>, workload: &Workload, row: &Allocation) -> bool {
    let drain = planning.cluster.nodes.get(&row.node).filter(|n| n.eligibility == Eligibility::Draining);
    let Some(deadline) = drain.and_then(|node| node.drain).and_then(|drain| drain.deadline) else {
        return false;
    };
    planning.wake(workload.key.stack_key(), deadline);
    deadline <= planning.now
}

/// What is bound to its node says so when that is emptied.
fn stays_with_data(planning: &mut Planning<'_>, home: &Home, row: &Row<Allocation>) {
    let (why, for_good) = match home {
        Home::Pinned(_, why) => (why.clone(), true),
        Home::Blocked { why, .. } | Home::Full { why, .. } => (why.clone(), false),
        Home::Away { .. } | Home::Free | Home::Each => return,
    };
    let node = planning.cluster.nodes.get(&row.node);
    if let Some(node) = node.filter(|node| node.eligibility == Eligibility::Draining) {
        let why = format!("{} is being emptied, but {why}", node.name);
        match for_good {
            true => planning.stays_for_good(row, why),
            false => planning.stays(row, why),
        }
    }
}

/// Those whose turn it is not, and why.
#[derive(Default)]
struct Waits {
    who: Vec<Vacancy>,
    why: String,
    /// Nothing but time stands against it.
    turn: bool,
}

/// Whose turn it is, who waits, and for what.
fn take_turns(
    planning: &mut Planning<'_>,
    workload: &Workload,
    turns: Vec<Vacancy>,
    failing: &Failing,
    needs: (u32, Option<Timestamp>),
    versions: &Versions,
) -> (Vec<Vacancy>, Waits) {
    let (unsettled, settled_at) = needs;
    let policy = policy_of(workload);
    if turns.is_empty() {
        return Default::default();
    }
    let updates = turns.iter().any(|vacancy| vacancy.moves.is_none());
    if updates && failing.too_many && !failing.unplaced && policy.on_failure != UpdateFailure::Continue {
        let (slot, what) =
            failing.slots.first_key_value().map_or((0, ""), |(slot, why)| (*slot, why.as_str()));
        let why = format!("the update is paused since #{slot} of the new version fails: {what}");
        return (Vec::new(), Waits { who: turns, why, turn: false });
    }
    // All that are tried beside the old ones come at once: they take nothing away.
    let (mut beside, turns): (Vec<Vacancy>, Vec<Vacancy>) =
        turns.into_iter().partition(|vacancy| versions.is_trial() && !versions.holds(vacancy.slot));
    if turns.is_empty() {
        return (beside, Waits::default());
    }
    if let Some(since) = settled_at.filter(|at| policy.delay.0 > 0 && at.0 > i64::MIN) {
        let next = since + policy.delay;
        if next > planning.now {
            planning.wake(workload.key.stack_key(), next);
            let why = format!("the update waits {} between two batches", policy.delay);
            return (beside, Waits { who: turns, why, turn: true });
        }
    }
    let most = if policy.parallelism == 0 { u32::MAX } else { policy.parallelism };
    let free = most.saturating_sub(unsettled) as usize;
    let mut chosen = turns;
    let who = chosen.split_off(free.min(chosen.len()));
    let at_a_time = match policy.parallelism {
        1 => "one at a time is replaced".to_owned(),
        n => format!("{n} at a time are replaced"),
    };
    let why = format!("the replicas before it are not serving yet, and {at_a_time}");
    beside.extend(chosen);
    (beside, Waits { who, why, turn: true })
}

/// Says who waits: an old version as pending, one that only has to move as staying.
fn wait(planning: &mut Planning<'_>, workload: &Workload, waits: Waits) {
    let Waits { who, why, turn } = waits;
    let mut slots = Vec::new();
    for vacancy in who {
        match (&vacancy.moves, &vacancy.old) {
            (Some(moves), Some(old)) => planning.stays(old, format!("{moves}; {why}")),
            _ => slots.push(vacancy.slot),
        }
    }
    let hint =
        format!("deploy a corrected version, or go back: `lattice rollout undo {}`", workload.key.stack);
    match (slots.is_empty(), turn) {
        (true, _) => {}
        (false, true) => planning.waits_its_turn(&workload.key, slots, why),
        (false, false) => planning.pending(&workload.key, slots, why, &hint),
    }
}

/// Brings the last generation back that came up. Not where what it needs is no longer there.
fn roll_back(planning: &mut Planning<'_>, workload: &Workload, failing: &Failing) -> bool {
    let Some(former) = former(&planning.cluster, &workload.key, workload.settled) else { return false };
    let stack = workload.key.stack_key();
    let Some(networks) = planning.cluster.stacks.get(&stack).map(|row| {
        let networks = row.networks.iter().map(|(name, network)| (name.clone(), network.id));
        networks.collect::<BTreeMap<_, _>>()
    }) else {
        return false;
    };
    let there = former.spec.networks.keys().all(|name| networks.contains_key(name))
        && former
            .spec
            .mounts
            .iter()
            .all(|mount| planning.cluster.volumes.contains_key(&stack.volume(mount.volume.clone())));
    if !there {
        return false;
    }
    let same = former.spec.networks.keys().all(|name| networks.get(name) == former.networks.get(name));
    let (slot, what) = failing.slots.first_key_value().map_or((0, ""), |(slot, why)| (*slot, why.as_str()));
    let generation = workload.generation + 1;
    let networks_now = networks_of(&former, &networks);
    let kept = WorkloadRevision { generation, networks: networks_now, came_up: false, ..former.clone() };
    planning.plan.steps.push(Step::Keep(Box::new(kept)));
    planning.write_workload(Workload {
        spec: Arc::clone(&former.spec),
        generation,
        alike: if same { vec![former.generation] } else { Vec::new() },
        rollout: Some(Rollout::begin(generation, planning.now)),
        rolled_back: Some(RolledBack {
            from: workload.generation,
            to: former.generation,
            why: format!("#{slot} of the new version failed: {what}"),
            at: planning.now,
        }),
        ..workload.clone()
    });
    true
}

fn networks_of(
    former: &WorkloadRevision,
    present: &BTreeMap<lattice_model::NetworkName, lattice_model::NetworkId>,
) -> BTreeMap<lattice_model::NetworkName, lattice_model::NetworkId> {
    let own = former.spec.networks.keys().filter_map(|name| Some((name.clone(), *present.get(name)?)));
    own.collect()
}

pub(crate) fn former(cluster: &Cluster, key: &WorkloadKey, generation: u64) -> Option<WorkloadRevision> {
    cluster.revisions.get(&(key.clone(), generation)).map(|row| (*row.value).clone())
}
