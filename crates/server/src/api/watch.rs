//! Changes as server-sent events: each change of the store in its order, with the object's view as
//! it is now. A watcher that was away goes on from its last revision, or is told to list again.
//!
//! Views tell of more than their rows: a workload of its instances, an instance of its node's presence, a stack of how
//! many of its workloads are settled. So what hangs on a row that changed is told with it, a stack of which
//! only that changed when its view is another one than was told last.

use super::{
    cluster::sees_event,
    error::{ApiError, invalid},
    extract::Query,
    guard::object_of_node,
    principal::Principal,
    views,
};
use crate::{
    rows::{self, AlertRow, Event, ProjectRow, Stored},
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
    Bookmark, ErrorBody, ErrorCode, Loads, ObjectKind, SSE_BOOKMARK, SSE_CHANGE, SSE_ERROR, SSE_LOAD,
    StackView, WatchEvent, WatchOp, WatchQuery,
};
use lattice_identity::{Object, Permission};
use lattice_model::{
    NodeId, NodeName, PoolName, StackKey, Timestamp, WorkloadKey,
    resource::{Allocation, Approval, Node, Pool, PresenceState, Stack, Volume, Workload},
};
use lattice_store::{ChangeEvent, EventKind, Revision, WatchError};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// How many events may wait for a slow reader; then the store is not read on.
const QUEUE: usize = 64;
/// How often a quiet watch says how far it is.
const BOOKMARK: Duration = Duration::from_secs(10);
/// How often what nodes use is told to whoever asked for it: as often as nodes say it.
const LOADS: Duration = Duration::from_secs(5);

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
    tokio::spawn(follow(core, stream, Reader { who, kinds, loads: query.loads, place }, sender));
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
    loads: bool,
    place: Place,
}

/// What a reader was told, where a change is only told when it shows. As large as what there is to see.
#[derive(Default)]
struct Told {
    stacks: HashMap<StackKey, StackView>,
    /// What instances on a node say of it.
    nodes: HashMap<NodeId, (bool, bool, NodeName)>,
    loads_until: Timestamp,
}

async fn follow(
    core: Arc<Core>,
    mut stream: lattice_store::WatchStream,
    Reader { who, kinds, loads, place }: Reader,
    sender: mpsc::Sender<sse::Event>,
) {
    let mut position = stream.position().0;
    let mut timer = tokio::time::interval(BOOKMARK);
    timer.reset();
    let mut load_timer = tokio::time::interval(LOADS);
    load_timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Told::default();
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
            _ = load_timer.tick(), if loads => {
                let fresh = fresh_loads(&core, &who, &mut told);
                if !fresh.nodes.is_empty() && sender.send(message(SSE_LOAD, &fresh)).await.is_err() {
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
        for event in translate(&core, &who, &snapshot, position, &change.events, &mut told) {
            if kinds.contains(&event.kind)
                && sender.send(message(SSE_CHANGE, &event).id(position.to_string())).await.is_err()
            {
                return;
            }
        }
    }
}

/// What nodes use that the reader sees, where it was measured since the last time.
fn fresh_loads(core: &Core, who: &Principal, told: &mut Told) -> Loads {
    let snapshot = core.snapshot();
    let measured = core.live.loads.lock().clone();
    let since = told.loads_until;
    let mut fresh = Loads::default();
    for (id, load) in measured {
        let row = snapshot.cluster.nodes.get(&id);
        if load.at > since && row.is_some_and(|row| who.may(Permission::NodeLook, &object_of_node(row))) {
            told.loads_until = told.loads_until.max(load.at);
            fresh.nodes.insert(id, load);
        }
    }
    fresh
}

/// What a transaction changed, as objects of the API. A workload's view tells of its allocations, so
/// it changes with them. What the reader may not see is left out.
fn translate(
    core: &Core,
    who: &Principal,
    snapshot: &Snapshot,
    revision: u64,
    changes: &[ChangeEvent],
    told: &mut Told,
) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    // With whether its own row changed, which is told whatever its view shows.
    let mut stacks: BTreeMap<StackKey, bool> = BTreeMap::new();
    let mut workloads: BTreeSet<WorkloadKey> = BTreeSet::new();
    let mut bare: Vec<(ObjectKind, String, bool)> = Vec::new();
    let mut say = |kind, id: String, object: Option<serde_json::Value>| {
        let op = if object.is_some() { WatchOp::Put } else { WatchOp::Delete };
        events.push(WatchEvent { revision, kind, id, op, object });
    };
    for change in changes.iter().filter(|change| seen(who, snapshot, change)) {
        let id = change.key.id.to_string();
        match change.key.kind {
            kind if kind == Node::KIND => {
                let node = id.parse::<NodeId>().ok();
                let row = node.and_then(|id| snapshot.cluster.nodes.get(&id));
                say(ObjectKind::Node, id.clone(), row.map(|row| json(&views::node(core, snapshot, row))));
                let there = node.filter(|id| told.shows(snapshot, *id));
                for row in there.into_iter().flat_map(|id| snapshot.cluster.allocations_on(id)) {
                    if who.sees(&row.workload.project) {
                        let view = json(&views::allocation(snapshot, row));
                        say(ObjectKind::Allocation, row.id.to_string(), Some(view));
                        workloads.insert(row.workload.clone());
                    }
                }
            }
            kind if kind == Stack::KIND => {
                let key = id.parse::<StackKey>().ok();
                match key.filter(|key| snapshot.cluster.stacks.contains_key(key)) {
                    Some(key) => drop(stacks.insert(key, true)),
                    None => say(ObjectKind::Stack, id.clone(), None),
                }
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
            kind if kind == Pool::KIND => {
                let row = PoolName::new(&id).ok().and_then(|name| snapshot.cluster.pools.get(&name));
                say(ObjectKind::Pool, id.clone(), row.map(|row| json(&super::pools::view(snapshot, row))));
            }
            kind if kind == AlertRow::KIND || kind == ProjectRow::KIND => {
                let is = if kind == AlertRow::KIND { ObjectKind::Alert } else { ObjectKind::Project };
                bare.push((is, id.clone(), matches!(change.kind, EventKind::Put(_))));
            }
            _ => {}
        }
    }
    for key in workloads {
        stacks.entry(key.stack_key()).or_default();
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
    for (key, itself) in stacks {
        let Some(row) = snapshot.cluster.stacks.get(&key) else {
            told.stacks.remove(&key);
            continue;
        };
        let view = views::stack(core, snapshot, row);
        if itself || told.stacks.get(&key) != Some(&view) {
            say(ObjectKind::Stack, key.to_string(), Some(json(&view)));
            told.stacks.insert(key, view);
        }
    }
    // What is to be listed again comes without its object.
    events.extend(bare.into_iter().map(|(kind, id, is_there)| {
        let op = if is_there { WatchOp::Put } else { WatchOp::Delete };
        WatchEvent { revision, kind, id, op, object: None }
    }));
    events
}

impl Told {
    /// Whether what instances on a node say of it is another than was told.
    fn shows(&mut self, snapshot: &Snapshot, id: NodeId) -> bool {
        let Some(row) = snapshot.cluster.nodes.get(&id) else {
            return self.nodes.remove(&id).is_some();
        };
        let heard = row.approval == Approval::Approved && row.presence.state == PresenceState::Connected;
        let now = (heard, row.is_lost(), row.name.clone());
        self.nodes.insert(id, now.clone()) != Some(now)
    }
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
    if change.key.kind == Pool::KIND {
        let pool = change.key.id.parse().ok();
        return pool.is_some_and(|pool| who.may(Permission::PoolLook, &Object::Pool(pool)));
    }
    if change.key.kind == AlertRow::KIND {
        return sees_alert(who, snapshot, change);
    }
    project.and_then(|project| project.parse().ok()).is_some_and(|project| who.sees(&project))
}

/// An alert of a node is seen by whoever sees the node. One that is over is told by its id, which names the node's.
fn sees_alert(who: &Principal, snapshot: &Snapshot, change: &ChangeEvent) -> bool {
    let node = change.key.id.rsplit('/').next().and_then(|id| id.parse::<NodeId>().ok());
    match node.and_then(|id| snapshot.cluster.nodes.get(&id)) {
        Some(row) => who.may(Permission::NodeLook, &object_of_node(row)),
        None => who.may(Permission::ClusterLook, &Object::Cluster),
    }
}

fn json(view: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(view).unwrap_or_default()
}
