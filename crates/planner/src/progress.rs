//! How a new version fares: which of its replicas fail, and when one that serves has served for long enough.
//!
//! A replica fails when it cannot run, ends, is not healthy, or does not serve by its deadline; what nobody places
//! by then counts too, so that no update hangs. What is on a node that is away is nobody's failure.

use crate::{
    cluster::{Cluster, Row},
    home::is_connected,
    slots::{Slot, is_current, slots},
    stage::Versions,
};
use lattice_model::{
    Duration, Timestamp,
    goal::DesiredState,
    report::{AllocationState, Health},
    resource::{Allocation, Intent, Workload},
    spec::{Mode, UpdatePolicy, UpdateStrategy},
};
use std::collections::BTreeMap;

/// How long a replica that was started again has to serve before it counts: one that crashes in a
/// row looks well in between.
const PROOF: Duration = Duration::from_secs(10);

/// The policy that holds for the present generation. What somebody goes back to is tried no second time.
pub(crate) fn policy_of(workload: &Workload) -> UpdatePolicy {
    let policy = match &workload.rolled_back {
        Some(_) => workload.spec.rollback.unwrap_or(workload.spec.update),
        None => workload.spec.update,
    };
    let undo = workload.present_rollout().is_some_and(|rollout| rollout.undo);
    match workload.rolled_back.is_some() || undo {
        true => UpdatePolicy { strategy: UpdateStrategy::Rolling, ..policy },
        false => policy,
    }
}

/// The replicas of an update that fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failing {
    /// Their slots, each with what is wrong.
    pub slots: BTreeMap<u32, String>,
    /// Whether they are more than the policy allows.
    pub too_many: bool,
    /// What fails is that no node takes it: it is tried on, as that may change.
    pub(crate) unplaced: bool,
    /// When the next one fails that neither serves nor fails yet.
    pub next: Option<Timestamp>,
}

/// Which replicas of an update fail; none when no update is under way.
pub fn failing(cluster: &Cluster, workload: &Workload, now: Timestamp) -> Failing {
    let policy = policy_of(workload);
    let mut failing = Failing::default();
    if !workload.is_under_way() || workload.desired != DesiredState::Run {
        return failing;
    }
    let counted_from = workload.present_rollout().map_or(now, |one| one.counted_from);
    let own = |row: &&Row<Allocation>| {
        row.intent == Intent::Run && row.superseded.is_none() && row.generation == workload.generation
    };
    let (mut all, mut coming) = (0u64, false);
    let mut last = counted_from;
    for row in cluster.allocations_of(&workload.key).filter(|row| row.intent != Intent::Remove) {
        all += u64::from(row.superseded.is_none());
        if !own(&row) {
            continue;
        }
        last = last.max(row.placed_at).max(row.serving_since.unwrap_or(row.placed_at));
        if let Some(why) = failure(row, policy.monitor, now) {
            failing.slots.insert(row.slot, why);
        } else if is_late_one(row) && is_connected(cluster, row.node) {
            coming = true;
            let due = row.placed_at.max(counted_from) + policy.deadline();
            if due <= now {
                let why = match &row.status.reason {
                    Some(reason) => format!("it has not come up within {}: {reason}", policy.deadline()),
                    None => format!("it has not come up within {}", policy.deadline()),
                };
                failing.slots.insert(row.slot, why);
            } else {
                failing.next = [failing.next, Some(due)].into_iter().flatten().min();
            }
        }
    }
    let versions = Versions::of(cluster, workload);
    if !coming
        && failing.slots.is_empty()
        && !versions.is_paused()
        && let Some(slot) = unplaced(cluster, workload, &versions)
    {
        let due = last + policy.deadline() + policy.delay + policy.monitor;
        if due <= now {
            let why = format!("nothing has taken the new version for {}", policy.deadline());
            failing.slots.insert(slot, why);
            failing.unplaced = true;
        } else {
            failing.next = [failing.next, Some(due)].into_iter().flatten().min();
        }
    }
    let all = match (versions.on_trial(), workload.spec.mode) {
        (Some(some), _) => some.len() as u64,
        (None, Mode::Replicated) => u64::from(workload.replicas),
        (None, Mode::Global) => all,
    };
    failing.too_many = failing.slots.len() as u64 * 1000 > u64::from(policy.max_failure_permille) * all;
    failing
}

/// Whether it is on its way to serve.
fn is_late_one(row: &Allocation) -> bool {
    !row.status.is_serving() && !matches!(row.status.state, AllocationState::Completed)
}

/// A slot that is to have the new version and keeps an old one, on a node that answers. One that had none before
/// says nothing about the version.
fn unplaced(cluster: &Cluster, workload: &Workload, versions: &Versions) -> Option<u32> {
    let all = slots(cluster, &workload.key);
    let outdated = |own: &Row<Allocation>| !is_current(workload, own) && is_connected(cluster, own.node);
    let lacks = |there: &Slot| there.own.as_ref().is_some_and(outdated);
    all.iter().find(|(slot, there)| !versions.holds(**slot) && lacks(there)).map(|(slot, _)| *slot)
}

/// What is wrong with a replica, where something is.
fn failure(row: &Allocation, monitor: Duration, now: Timestamp) -> Option<String> {
    let status = &row.status;
    let because = |text: &str| match &status.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text.to_owned(),
    };
    match status.state {
        AllocationState::Failed => Some(because("it cannot run")),
        AllocationState::BackingOff => Some(because("it fails and is tried again")),
        AllocationState::Running if status.health == Health::Unhealthy => Some(because("it is not healthy")),
        _ if status.restarts > 0 && settles_at(row, monitor).is_none_or(|at| at > now) => {
            let ended = status.exit_code.map(|code| format!("it ended with exit code {code}, and "));
            let again = match status.restarts {
                1 => "was started again".to_owned(),
                n => format!("was started again {n} times"),
            };
            Some(format!("{}{again}", ended.unwrap_or_else(|| "it ".into())))
        }
        _ => None,
    }
}

/// When a replica that serves has served for long enough; `None` while it does not serve.
pub(crate) fn settles_at(row: &Allocation, monitor: Duration) -> Option<Timestamp> {
    if row.status.state == AllocationState::Completed {
        return Some(Timestamp(i64::MIN));
    }
    if !row.status.is_serving() {
        return None;
    }
    let proof = if row.status.restarts > 0 { monitor.max(PROOF) } else { monitor };
    // Rows of former versions do not say since when.
    Some(row.serving_since.map_or(Timestamp(i64::MIN), |since| since + proof))
}
