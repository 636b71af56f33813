//! What is known about nodes. After a start (laws 3 and 5): nothing, until they say hello or the
//! grace is over. Later: who is away for too long is lost, unless many are. The planner's [`presence`]
//! decides; that a node is lost is stored, and the planner moves its work on that.

use super::servers;
use crate::{
    causes, clock,
    controllers::planning::until,
    rows::{self, Event, NodeSession},
    state::{Core, Refused, Snapshot},
};
use lattice_model::{
    Duration, NodeId, Timestamp,
    resource::{Approval, Node, Presence, PresenceState},
};
use lattice_planner::{
    Row,
    presence::{self, Held, Losses, Moment},
};
use lattice_store::Op;
use std::sync::Arc;

/// How many nodes change in one transaction.
const CHUNK: usize = 250;
/// After a failure of the store.
const RETRY: Duration = Duration::from_secs(1);

/// What was connected when the server stopped is unknown now.
pub(crate) async fn forget(core: &Core) {
    shift(core, Moment::Started).await;
}

/// Of what is unknown, what no server that lives has heard of is disconnected.
pub(crate) async fn give_up(core: &Core) {
    shift(core, Moment::GraceOver).await;
}

/// After the grace, what did not say hello is disconnected.
pub(crate) async fn settle(core: Arc<Core>) {
    tokio::select! {
        () = core.shutdown.cancelled() => return,
        () = tokio::time::sleep(core.config.presence_grace.as_std()) => {}
    }
    give_up(&core).await;
}

/// Calls nodes lost when their time is over; runs until the server goes down.
pub(crate) async fn watch_losses(core: Arc<Core>) {
    loop {
        let changed = core.live.presence.notified();
        // One server decides, and after a failover it waits as after a start.
        let leads = *core.live.leads_since.lock();
        let losses = match leads {
            Some(since) => call_lost(&core, since.max(core.started_at) + core.config.presence_grace).await,
            None => Ok(None),
        };
        let next = match losses {
            Ok(next) => next,
            Err(refused) => {
                tracing::warn!(?refused, "that nodes are lost was not written down");
                Some(clock::now() + RETRY)
            }
        };
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            () = changed => {}
            () = until(next) => {}
        }
    }
}

async fn call_lost(core: &Core, settled_at: Timestamp) -> Result<Option<Timestamp>, Refused> {
    loop {
        // A store that is behind says nothing about who is there.
        if core.live.behind().is_some() {
            return Ok(Some(clock::now() + RETRY));
        }
        let policy = &core.config.planning;
        let done = core
            .commit(|snapshot| {
                let has_session = |row: &Row<Node>| core.live.session(row.id).is_some();
                let mut losses = presence::losses(&snapshot.cluster, policy, settled_at, clock::now(), CHUNK);
                losses.lost.retain(|row| !has_session(row));
                let mut ops: Vec<Op> =
                    losses.lost.iter().map(|row| rows::update(&*row.value, row.revision)).collect();
                let event = |row: &Row<Node>| {
                    let text = "nobody hears of it any more; what can run elsewhere is placed there";
                    let why =
                        format!("its link has been down for {}", clock::now().since(row.presence.since));
                    Event::new("node.lost", row.name.to_string(), text)
                        .on(row)
                        .because(Some(why))
                        .caused_by(causes::of_loss(snapshot, row.id))
                };
                let mut news: Vec<Event> = losses.lost.iter().map(event).collect();
                news.extend(held_news(core, snapshot, &losses));
                ops.extend(rows::events(news));
                Ok((ops, losses))
            })
            .await?;
        let losses = done.value;
        let many = losses.lost.len() == CHUNK;
        *core.live.held.lock() = losses.held;
        if !many {
            return Ok(losses.next);
        }
    }
}

/// That many nodes are away at once is told once.
fn held_news(core: &Core, snapshot: &Snapshot, losses: &Losses) -> Option<Event> {
    let known = core.live.held.lock().is_some();
    match (&losses.held, known) {
        (Some(held), false) => {
            let names = held_names(snapshot, held);
            let text = format!("{} nodes vanished at once, so nothing is placed elsewhere", held.together);
            tracing::error!(together = held.together, present = held.present, "many nodes vanished at once");
            Some(Event::new("nodes.held", "nodes", text).because(Some(names)))
        }
        (None, true) => {
            Some(Event::new("nodes.released", "nodes", "nodes that vanished at once are no longer many"))
        }
        _ => None,
    }
}

/// The names of nodes that are held, a few of them.
pub(crate) fn held_names(snapshot: &Snapshot, held: &Held) -> String {
    let names = held.nodes.iter().filter_map(|node| snapshot.cluster.nodes.get(node));
    let mut text = names.take(5).map(|row| row.name.to_string()).collect::<Vec<_>>().join(", ");
    if held.nodes.len() > 5 {
        text.push_str(&format!(" and {} others", held.nodes.len() - 5));
    }
    text
}

async fn shift(core: &Core, moment: Moment) {
    loop {
        let elsewhere = servers::others(core).await;
        let decided = core
            .commit(|snapshot| {
                let theirs = |node| {
                    let row = snapshot.sessions.get(&node);
                    row.and_then(|row| row.server.as_ref()).is_some_and(|server| elsewhere.contains(server))
                };
                let has_session = |node| core.live.session(node).is_some() || theirs(node);
                let changed = presence::settle(&snapshot.cluster, moment, &has_session, clock::now(), CHUNK);
                let mut ops: Vec<Op> =
                    changed.iter().map(|row| rows::update(&*row.value, row.revision)).collect();
                // Unless one got a session meanwhile, which need not change the row of the node.
                ops.extend(changed.iter().map(|row| {
                    let session = snapshot.sessions.get(&row.id);
                    rows::check::<NodeSession>(row.id, session.map(|session| session.revision))
                }));
                if moment == Moment::GraceOver {
                    let text = "it did not connect after the server's start; what runs there goes on";
                    let event =
                        |row: &Row<Node>| Event::new("node.disconnected", row.name.to_string(), text).on(row);
                    ops.extend(rows::events(changed.iter().map(event).collect::<Vec<_>>()));
                }
                Ok((ops, changed.len() == CHUNK))
            })
            .await;
        match decided {
            Ok(done) if done.value => {}
            Ok(_) => return,
            Err(refused) => {
                tracing::warn!(?refused, "the presence of nodes was not written down");
                return;
            }
        }
    }
}

/// Nodes that are connected in the store and have no session, since the end of it could not be
/// written down.
pub(crate) async fn missed(core: &Core) {
    let snapshot = core.snapshot();
    let lost = |row: &&Row<Node>| {
        row.presence.state == PresenceState::Connected
            && core.live.session(row.id).is_none()
            && !of_another(core, &snapshot, row.id)
    };
    let lost: Vec<NodeId> = snapshot.cluster.nodes.values().filter(lost).map(|row| row.id).collect();
    for node in lost {
        if let Err(refused) = ended(core, node, "its link is down; what runs there goes on", None).await {
            return tracing::warn!(%node, ?refused, "that a node is disconnected was not written down");
        }
    }
}

/// Writes down that a node has no session, unless it has one again.
pub(crate) async fn ended(core: &Core, node: NodeId, text: &str, why: Option<String>) -> Result<(), Refused> {
    // Not while a Hello of it is judged, which may have found it connected.
    let turn = core.live.turn(node);
    let _turn = turn.lock().await;
    core.commit(|snapshot| {
        if core.live.session(node).is_some() || of_another(core, snapshot, node) {
            return Ok((Vec::new(), ()));
        }
        let name = snapshot.cluster.nodes.get(&node).map_or_else(String::new, |row| row.name.to_string());
        let event = Event::new("node.disconnected", name, text).because(why.clone());
        let mut ops = change(snapshot, node, PresenceState::Disconnected, event);
        if let Some(row) = snapshot.sessions.get(&node).filter(|_| !ops.is_empty()) {
            ops.push(rows::update(&NodeSession { server: None, ..(*row.value).clone() }, row.revision));
        }
        Ok((ops, ()))
    })
    .await
    .map(drop)
}

/// Whether another server has its session, or had it last: then that one, or whoever finds it dead,
/// says what becomes of it.
fn of_another(core: &Core, snapshot: &Snapshot, node: NodeId) -> bool {
    let row = snapshot.sessions.get(&node);
    row.and_then(|row| row.server.as_ref()).is_some_and(|server| *server != core.server)
}

fn with_presence(node: &Node, state: PresenceState) -> Node {
    Node { presence: Presence { state, since: clock::now() }, ..node.clone() }
}

/// The operations by which a node's presence changes, with its event; none when it is so already.
fn change(snapshot: &Snapshot, node: NodeId, to: PresenceState, event: Event) -> Vec<Op> {
    let Some(row) = snapshot.cluster.nodes.get(&node) else { return Vec::new() };
    // Who announced it is no news to be alarmed by.
    let event = match (to, row.standing.is_announced()) {
        (PresenceState::Disconnected, true) => {
            let text = format!("it is {}, as it said", row.standing.in_words());
            Event::new("node.away", row.name.to_string(), text).because(row.standing.why.clone())
        }
        _ => event,
    };
    // Who is lost is not merely disconnected.
    let lost = (row.presence.state, to) == (PresenceState::Lost, PresenceState::Disconnected);
    if row.presence.state == to || lost || row.approval == Approval::Pending {
        return Vec::new();
    }
    let mut ops = vec![rows::update(&with_presence(row, to), row.revision)];
    ops.extend(rows::events([event.on(row)]));
    ops
}
