//! Events: listed, and followed to what led to them and what came of them.

use super::{
    cluster::{bound, read_stack, sees_event},
    error::{ApiError, invalid, not_found},
    extract::{Names, Query},
    nodes::find_seen,
    principal::Principal,
};
use crate::{
    rows::{Audit, Event},
    state::{Core, Snapshot},
};
use axum::{
    Json,
    extract::{Extension, State},
};
use lattice_api::{CauseKind, EventChain, EventQuery, EventView, List};
use lattice_identity::{Object, Permission};
use lattice_store::{Page, Revision};
use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

/// How far a chain is followed back.
const DEEP: usize = 64;
/// How much of what came of an event is told.
const WIDE: usize = 500;

pub(crate) async fn list(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    Query(query): Query<EventQuery>,
) -> Result<Json<List<EventView>>, ApiError> {
    let EventQuery { after, before, limit, stack, node } = query;
    one_way(after, before)?;
    let snapshot = core.snapshot();
    let limit = bound(limit);
    let stack = stack.map(|text| read_stack(&text)).transpose()?;
    let node = node.map(|text| find_seen(&snapshot, &who, &text)).transpose()?;
    let wanted = |event: &Event| {
        sees_event(&who, &snapshot, event)
            && stack.as_ref().is_none_or(|stack| event.stack.as_ref() == Some(stack))
            && node.is_none_or(|node| event.node == Some(node))
    };
    let items = match after {
        Some(after) => {
            let later = snapshot.events.range(after.saturating_add(1)..).filter(|(_, event)| wanted(event));
            later.take(limit).map(|(id, event)| event.view(*id)).collect()
        }
        None => {
            let all = snapshot.events.range((Unbounded, before.map_or(Unbounded, Excluded)));
            let last = all.rev().filter(|(_, event)| wanted(event));
            let mut items: Vec<_> = last.take(limit).map(|(id, event)| event.view(*id)).collect();
            items.reverse();
            items
        }
    };
    Ok(Json(List { items, revision: snapshot.revision }))
}

/// A listing goes one way.
pub(crate) fn one_way(after: Option<u64>, before: Option<u64>) -> Result<(), ApiError> {
    match (after, before) {
        (Some(_), Some(_)) => {
            Err(invalid("`after` and `before` exclude each other", "give one of them").into())
        }
        _ => Ok(()),
    }
}

pub(crate) async fn chain(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
) -> Result<Json<EventChain>, ApiError> {
    let snapshot = core.snapshot();
    let text = names.text("id");
    let found = text.parse::<u64>().ok().and_then(|id| Some((id, snapshot.events.get(&id)?)));
    let seen = found.filter(|(_, event)| sees_event(&who, &snapshot, event));
    let (id, event) = seen.ok_or_else(|| not_found("event", text, "lattice events"))?;
    let (because, asked) = because(&who, &snapshot, event.view(id));
    let audit = match asked.filter(|_| who.may(Permission::AuditLook, &Object::Cluster)) {
        Some(id) => {
            let page = core.page::<Audit>(Page::After(Revision(id.saturating_sub(1))), 1).await?;
            page.into_iter().map(|(created, entry)| entry.view(created)).find(|entry| entry.id == id)
        }
        None => None,
    };
    let mut led_to = led_to(&who, &snapshot, id);
    let more = led_to.len() > WIDE;
    led_to.truncate(WIDE);
    Ok(Json(EventChain { event: event.view(id), because, audit, led_to, more }))
}

/// The events that led to one, the nearest first, and the audit entry that led to the first of them. What the reader
/// may not see ends the chain.
fn because(who: &Principal, snapshot: &Snapshot, mut at: EventView) -> (Vec<EventView>, Option<u64>) {
    let mut chain = Vec::new();
    while let Some(cause) = at.caused_by.as_ref().filter(|_| chain.len() < DEEP) {
        if cause.kind == CauseKind::Audit {
            return (chain, Some(cause.id));
        }
        // A cause comes before what it caused, so this ends.
        let earlier = snapshot.events.get(&cause.id).filter(|_| cause.id < at.id);
        let Some(event) = earlier.filter(|event| sees_event(who, snapshot, event)) else { break };
        at = event.view(cause.id);
        chain.push(at.clone());
    }
    (chain, None)
}

/// What came of an event, directly or not; one more than is told.
fn led_to(who: &Principal, snapshot: &Snapshot, from: u64) -> Vec<EventView> {
    let mut of = BTreeSet::from([from]);
    let mut found = Vec::new();
    for (id, event) in snapshot.events.range((Excluded(from), Unbounded)) {
        let cause = event.caused_by.as_ref().and_then(|cause| cause.event);
        if cause.is_some_and(|cause| of.contains(&cause)) && sees_event(who, snapshot, event) {
            of.insert(*id);
            found.push(event.view(*id));
            if found.len() > WIDE {
                break;
            }
        }
    }
    found
}
