//! Changes as server-sent events: each change of the store in its order, with the object's view as
//! it is now. A watcher that was away goes on from its last revision, or is told to list again.

use super::{
    error::{ApiError, invalid},
    extract::Query,
    views,
};
use crate::{
    rows::{self, Event, Stored},
    state::{Core, Snapshot},
};
use axum::{
    extract::State,
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
    let stream = core.store.watch(Revision(from)).await.map_err(|error| refusal(&error))?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(follow(core, stream, kinds, sender));
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

async fn follow(
    core: Arc<Core>,
    mut stream: lattice_store::WatchStream,
    kinds: BTreeSet<ObjectKind>,
    sender: mpsc::Sender<sse::Event>,
) {
    let mut position = stream.position().0;
    let mut timer = tokio::time::interval(BOOKMARK);
    timer.reset();
    loop {
        let change = tokio::select! {
            () = sender.closed() => return,
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
        for event in translate(&core, &snapshot, position, &change.events) {
            if kinds.contains(&event.kind)
                && sender.send(message(SSE_CHANGE, &event).id(position.to_string())).await.is_err()
            {
                return;
            }
        }
    }
}

/// What a transaction changed, as objects of the API. A workload's view tells of its allocations, so
/// it changes with them.
fn translate(core: &Core, snapshot: &Snapshot, revision: u64, changes: &[ChangeEvent]) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    let mut workloads: BTreeSet<WorkloadKey> = BTreeSet::new();
    let mut say = |kind, id: String, object: Option<serde_json::Value>| {
        let op = if object.is_some() { WatchOp::Put } else { WatchOp::Delete };
        events.push(WatchEvent { revision, kind, id, op, object });
    };
    for change in changes {
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

fn json(view: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(view).unwrap_or_default()
}
