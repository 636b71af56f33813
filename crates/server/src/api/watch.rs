//! Changes as server-sent events: each change of the store in its order, with the object's view as
//! it is now. A watcher that was away goes on from its last revision, or is told to list again.

use super::{
    cluster::sees_event,
    error::{ApiError, invalid},
    extract::Query,
    guard::object_of_node,
    principal::Principal,
    views,
};
use crate::{
    rows::{self, Event, Stored},
    state::{
        Core, Snapshot,
        open::{Needs, Place, cut_off},
    },
};
use axum::{
    extract::{Extension, State},
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures::Stream;
use lattice_api::{
    Bookmark, ErrorBody, ErrorCode, ObjectKind, SSE_BOOKMARK, SSE_CHANGE, SSE_ERROR, WatchEvent, WatchOp,
    WatchQuery,
};
use lattice_identity::Permission;
use lattice_model::{
    WorkloadKey,
    resource::{Allocation, Node, Stack, Volume, Workload},
};
use lattice_store::{ChangeEvent, EventKind, Revision, WatchError};
use serde::Serialize;
use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How many events may wait for a slow reader; then the store is not read on.
const QUEUE: usize = 64;
/// How often a quiet watch says how far it is.
const BOOKMARK: Duration = Duration::from_secs(10);

pub(crate) async fn watch(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
    Query(query): Query<WatchQuery>,
) -> Result<Response, ApiError> {
    let kinds = query.kinds().map_err(|name| {
        let known = ObjectKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        invalid(format!("there is no kind {name:?}"), format!("the kinds are {known}"))
    })?;
    let kinds: BTreeSet<ObjectKind> = if kinds.is_empty() {
        ObjectKind::ALL.iter().copied().collect()
    } else {
        kinds.into_iter().collect()
    };
    // A browser that reconnects says how far it was.
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let from = last.or(query.from).unwrap_or_else(|| core.snapshot().revision);
    let place = core.live.open.admit(&who, Needs::SameRights)?;
    let stream = core.store.watch(Revision(from)).await.map_err(|error| refusal(&error))?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(follow(core, stream, Reader { who, kinds, place }, sender));
    Ok(Sse::new(events(receiver))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response())
}

fn events(receiver: mpsc::Receiver<sse::Event>) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    futures::stream::unfold(
        receiver,
        |mut receiver| async move { Some((Ok(receiver.recv().await?), receiver)) },
    )
}

fn refusal(error: &WatchError) -> ErrorBody {
    match error {
        WatchError::TooOld { .. } | WatchError::Ahead { .. } => ErrorBody::new(
            ErrorCode::TooOld,
            error.to_string(),
            "list again, then watch from the list's revision",
        ),
        WatchError::Store(_) => {
            ErrorBody::new(ErrorCode::Unavailable, "the server is going down", "watch again when it is back")
        }
    }
}

fn message(name: &str, data: &impl Serialize) -> sse::Event {
    sse::Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// Whoever reads a watch, and what of it.
struct Reader {
    who: Principal,
    kinds: BTreeSet<ObjectKind>,
    place: Place,
}

async fn follow(
    core: Arc<Core>,
    mut stream: lattice_store::WatchStream,
    Reader { who, kinds, place }: Reader,
    sender: mpsc::Sender<sse::Event>,
) {
    let mut position = stream.position().0;
    let mut timer = tokio::time::interval(BOOKMARK);
    timer.reset();
    loop {
        let change = tokio::select! {
            () = sender.closed() => return,
            () = place.cut.cancelled() => {
                let _ = sender.send(message(SSE_ERROR, &cut_off())).await;
                return;
            }
            () = core.shutdown.cancelled() => {
                let body = ErrorBody::new(ErrorCode::Unavailable, "the server is going down", "watch again when it is back");
                let _ = sender.send(message(SSE_ERROR, &body)).await;
                return;
            }
            _ = timer.tick() => {
                let bookmark = message(SSE_BOOKMARK, &Bookmark { revision: position }).id(position.to_string());
                if sender.send(bookmark).await.is_err() {
                    return;
                }
                continue;
            }
            change = stream.next() => change,
        };
        let change = match change {
            Some(Ok(change)) => change,
            None => return,
            Some(Err(error)) => {
                let _ = sender.send(message(SSE_ERROR, &refusal(&error))).await;
                return;
            }
        };
        position = change.revision.0;
        let Some(snapshot) = core.caught_up(position).await else { return };
        for event in translate(&core, &who, &snapshot, position, &change.events) {
            if kinds.contains(&event.kind)
                && sender.send(message(SSE_CHANGE, &event).id(position.to_string())).await.is_err()
            {
                return;
            }
        }
    }
}

/// What a transaction changed, as objects of the API. A workload's view tells of its allocations, so
/// it changes with them. What the reader may not see is left out.
fn translate(
    core: &Core,
    who: &Principal,
    snapshot: &Snapshot,
    revision: u64,
    changes: &[ChangeEvent],
) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    let mut workloads: BTreeSet<WorkloadKey> = BTreeSet::new();
    let mut say = |kind, id: String, object: Option<serde_json::Value>| {
        let op = if object.is_some() { WatchOp::Put } else { WatchOp::Delete };
        events.push(WatchEvent { revision, kind, id, op, object });
    };
    for change in changes.iter().filter(|change| seen(who, snapshot, change)) {
        let id = change.key.id.to_string();
        match change.key.kind {
            kind if kind == Node::KIND => {
                let row =
                    id.parse::<lattice_model::NodeId>().ok().and_then(|id| snapshot.cluster.nodes.get(&id));
                say(ObjectKind::Node, id.clone(), row.map(|row| json(&views::node(core, snapshot, row))));
            }
            kind if kind == Stack::KIND => {
                let row = id
                    .parse::<lattice_model::StackKey>()
                    .ok()
                    .and_then(|id| snapshot.cluster.stacks.get(&id));
                say(ObjectKind::Stack, id.clone(), row.map(|row| json(&views::stack(core, snapshot, row))));
            }
            kind if kind == Workload::KIND => {
                workloads.extend(id.parse::<WorkloadKey>().ok());
            }
            kind if kind == Volume::KIND => {
                let row = id.parse::<lattice_model::VolumeId>().ok().and_then(|id| snapshot.volume(id));
                say(ObjectKind::Volume, id.clone(), row.map(|row| json(&views::volume(snapshot, row))));
            }
            kind if kind == Allocation::KIND => {
                let row = id
                    .parse::<lattice_model::AllocationId>()
                    .ok()
                    .and_then(|id| snapshot.cluster.allocations().get(&id));
                if let EventKind::Put(record) = &change.kind
                    && let Ok(allocation) = rows::read::<Allocation>(record)
                {
                    workloads.insert(allocation.workload);
                }
                say(
                    ObjectKind::Allocation,
                    id.clone(),
                    row.map(|row| json(&views::allocation(snapshot, row))),
                );
            }
            kind if kind == Event::KIND => {
                if let EventKind::Put(record) = &change.kind
                    && let Ok(event) = rows::read::<Event>(record)
                {
                    // A workload that waits, or whose allocation is gone, shows it.
                    workloads.extend(event.workload.clone());
                    let number = event.number(record.created);
                    say(ObjectKind::Event, number.to_string(), Some(json(&event.view(number))));
                }
            }
            _ => {}
        }
    }
    for key in workloads {
        let row = snapshot.cluster.workloads().get(&key);
        let deleted = changes
            .iter()
            .any(|change| change.key.kind == Workload::KIND && *change.key.id == key.to_string());
        // A reader of the event that named it sees it too, as both are of one stack.
        if row.is_some() || deleted {
            say(
                ObjectKind::Workload,
                key.to_string(),
                row.map(|row| json(&views::workload(core, snapshot, row))),
            );
        }
    }
    events
}

/// Whether a reader may know of a change. Rows of a project say so themselves, also when they are gone.
fn seen(who: &Principal, snapshot: &Snapshot, change: &ChangeEvent) -> bool {
    let project = match &change.kind {
        EventKind::Put(record) => record.project.as_deref(),
        EventKind::Delete(prior) => prior.project.as_deref(),
    };
    if change.key.kind == Event::KIND {
        return match &change.kind {
            EventKind::Put(record) => {
                rows::read::<Event>(record).is_ok_and(|event| sees_event(who, snapshot, &event))
            }
            EventKind::Delete(_) => false,
        };
    }
    if change.key.kind == Node::KIND {
        let row = change.key.id.parse::<lattice_model::NodeId>().ok();
        return match row.and_then(|id| snapshot.cluster.nodes.get(&id)) {
            Some(row) => who.may(Permission::NodeLook, &object_of_node(row)),
            // Of one that is gone only its id is told, which means nothing to whoever did not see it.
            None => who.may_somewhere(Permission::NodeLook),
        };
    }
    project.and_then(|project| project.parse().ok()).is_some_and(|project| who.sees(&project))
}

fn json(view: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(view).unwrap_or_default()
}
