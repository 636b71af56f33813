//! What led to what: an event is written down with what caused it.
//!
//! Three ways lead to a cause, each known to whoever writes the event:
//! - somebody asked: the audit entry of the same transaction, added to its events by [`asked`];
//! - a step of a plan: the loss or the emptying of the node that a replica leaves, or else what was last asked of its
//!   service or stack ([`of_step`]);
//! - a report: the step by which the instance is where it is ([`of_report`]).
//!
//! Events are looked for from the newest back, a bounded number of them; a cause that is not found is not guessed at.
//! Rejected: to infer causes when events are read, since a deployment of last week would then have caused all that
//! happened since.

use crate::{
    rows::{Audit, Event, Stored},
    state::Snapshot,
};
use lattice_api::{CauseKind, CauseRef, EventLevel};
use lattice_model::{
    NodeId, WorkloadKey,
    resource::{Allocation, Approval, Intent},
};
use lattice_store::Op;
use serde::{Deserialize, Serialize};

/// How many events are looked through for a cause.
const LOOKED_THROUGH: usize = 4096;

/// The longest words of a cause, in characters.
const MAX_WHAT: usize = 200;

/// What led to an event, as it is stored with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// The event; the audit entry of the same transaction where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<u64>,
    /// What it was, in short.
    pub(crate) what: String,
}

impl Cause {
    fn event(id: u64, event: &Event) -> Self {
        Self { event: Some(id), what: short(&format!("{} {}", event.kind, event.subject)) }
    }

    /// As the API shows it, of an event of a revision.
    pub(crate) fn view(&self, revision: u64) -> CauseRef {
        let (kind, id) = match self.event {
            Some(id) => (CauseKind::Event, id),
            None => (CauseKind::Audit, revision),
        };
        CauseRef { kind, id, what: self.what.clone() }
    }
}

fn short(text: &str) -> String {
    text.chars().take(MAX_WHAT).collect()
}

/// Where a transaction has an audit entry, its events are because of it, unless they say of what else.
pub(crate) fn asked(ops: &mut [Op]) {
    let audit = ops.iter().find_map(|op| match op {
        Op::Create { key, body, .. } if key.kind == Audit::KIND => serde_json::from_str::<Audit>(body).ok(),
        _ => None,
    });
    let Some(Audit { who, action, subject, .. }) = audit else { return };
    let what = short(&format!("{who}: {action} {subject}"));
    for op in ops {
        let Op::Create { key, body, .. } = op else { continue };
        if key.kind != Event::KIND {
            continue;
        }
        let Ok(mut event) = serde_json::from_str::<Event>(body) else { continue };
        if event.caused_by.is_none() {
            event.caused_by = Some(Cause { event: None, what: what.clone() });
            *body = crate::rows::body(&event);
        }
    }
}

fn last(snapshot: &Snapshot, fits: impl Fn(&Event) -> bool) -> Option<Cause> {
    let mut newest = snapshot.events.iter().rev().take(LOOKED_THROUGH);
    newest.find(|(_, event)| fits(event)).map(|(id, event)| Cause::event(*id, event))
}

/// Why a node counts as lost: its link went down.
pub(crate) fn of_loss(snapshot: &Snapshot, node: NodeId) -> Option<Cause> {
    let gone = ["node.disconnected", "node.away", "node.asleep"];
    last(snapshot, |event| event.node == Some(node) && gone.contains(&event.kind.as_str()))
}

/// Why a replica leaves its node: the node is lost, is emptied or thrown out.
fn of_leaving(snapshot: &Snapshot, allocation: &Allocation) -> Option<Cause> {
    let node = snapshot.cluster.nodes.get(&allocation.node)?;
    let kinds: &[&str] = match () {
        () if node.is_lost() => &["node.lost"],
        () if node.drain.is_some() => &["node.draining"],
        () if node.approval != Approval::Approved => &["node.revoked", "node.quarantined"],
        () if node.standing.stands_still() => &["node.suspended", "node.asleep", "node.away"],
        () => return None,
    };
    last(snapshot, |event| event.node == Some(node.id) && kinds.contains(&event.kind.as_str()))
}

/// What was last asked of a service, or of its whole stack.
fn of_wish(snapshot: &Snapshot, workload: &WorkloadKey) -> Option<Cause> {
    let stack = workload.stack_key();
    let wish = |kind: &str| {
        let (subject, rest) = kind.split_once('.').unwrap_or_default();
        matches!(subject, "stack" | "rollout" | "job")
            || subject == "workload" && !matches!(rest, "pending" | "placed")
    };
    last(snapshot, |event| {
        event.stack.as_ref() == Some(&stack)
            && event.workload.as_ref().is_none_or(|own| own == workload)
            && wish(&event.kind)
    })
}

/// Why a plan does something with a replica of a service. What the planner does of its own accord, such as moving a
/// replica to a better place, has no cause but the reason that its event states.
pub(crate) fn of_step(snapshot: &Snapshot, allocation: &Allocation) -> Option<Cause> {
    if snapshot.cluster.allocations().contains_key(&allocation.id) {
        let wished = || is_wished_away(snapshot, allocation);
        return of_leaving(snapshot, allocation)
            .or_else(|| wished().then(|| of_wish(snapshot, &allocation.workload)).flatten());
    }
    let others = snapshot.cluster.allocations_of(&allocation.workload);
    let former: Vec<_> = others.filter(|row| row.slot == allocation.slot).collect();
    let moved = former.iter().any(|row| row.generation == allocation.generation && row.intent == Intent::Run);
    let left = former.iter().find_map(|row| of_leaving(snapshot, row));
    left.or_else(|| if moved { None } else { of_wish(snapshot, &allocation.workload) })
}

/// Whether somebody wants it to be otherwise: another version, fewer replicas, or nothing of it.
fn is_wished_away(snapshot: &Snapshot, allocation: &Allocation) -> bool {
    let Some(workload) = snapshot.cluster.workloads().get(&allocation.workload) else { return true };
    let stack = snapshot.cluster.stacks.get(&allocation.workload.stack_key());
    allocation.generation < workload.generation
        || stack.is_none_or(|stack| stack.deleting)
        || allocation.slot > lattice_planner::rollout::wanted_replicas(&snapshot.cluster, workload)
}

/// Why replicas of a service wait: some had to leave their nodes, or somebody wants them.
pub(crate) fn of_waiting(snapshot: &Snapshot, workload: &WorkloadKey, slots: &[u32]) -> Option<Cause> {
    let mut former = snapshot.cluster.allocations_of(workload).filter(|row| slots.contains(&row.slot));
    former.find_map(|row| of_leaving(snapshot, row)).or_else(|| of_wish(snapshot, workload))
}

/// Why a new version is taken back: what its replicas said last that was not well.
pub(crate) fn of_rollback(snapshot: &Snapshot, workload: &WorkloadKey) -> Option<Cause> {
    last(snapshot, |event| {
        event.workload.as_ref() == Some(workload)
            && event.kind.starts_with("allocation.")
            && EventLevel::of(&event.kind) > EventLevel::Info
    })
    .or_else(|| of_wish(snapshot, workload))
}

/// Why an instance does what its node reports: by the step that put it there, or told it to go.
pub(crate) fn of_report(snapshot: &Snapshot, allocation: &Allocation, subject: &str) -> Option<Cause> {
    let steps = ["allocation.placed", "allocation.removing", "allocation.retired"];
    last(snapshot, |event| {
        event.node == Some(allocation.node)
            && event.subject == subject
            && steps.contains(&event.kind.as_str())
    })
}
