//! A node's session, from Hello to Goodbye.
//!
//! The gates of a Hello, in order: 1. the certificate is of a node that is known, with its
//! registered key; 2. the node is approved; 3. no newer connection of it came meanwhile, to this
//! server or another one: each takes a number in the store as it comes, and is judged in a
//! transaction in which its number is still the last;
//! 4. the ratchet moves, or the node is set apart. What Hello tells is written down before Welcome.
//! Then the session goes on until either side ends it, a newer
//! session takes its place, or the node loses its right to one.

use super::{admitted, code, identify, reports, unavailable, unknown};
use crate::{
    clock,
    controllers::{goals, presence, ranking},
    rows::{self, Audit, Event, NodeIdentity, NodeOutbox, NodeSession},
    state::{Core, Refused, Snapshot, live::Behind},
};
use lattice_api::{ErrorBody, ErrorCode, NodeLoad};
use lattice_identity::{CLOCK_SKEW, PeerIdentity, RatchetValue, StaleSession, Verdict, peer_node};
use lattice_link::{
    Dedup, LinkError, Refusal,
    message::{AgentMessage, HEARS_RANK, Heartbeat, Hello, Notice, Secret, ServerMessage, Welcome},
    server::{CertifiedPeer, Session, SessionSender},
};
use lattice_model::{
    Bytes, Cpu, NodeId,
    resource::{Approval, Eligibility, Node, Presence, PresenceState},
};
use lattice_planner::Row;
use lattice_store::Op;
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long an agent has to read its Goodbye before its connections are cut.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often a node is told its rank, where that is another than before.
const TELL_RANK: Duration = Duration::from_secs(60);
/// When it is looked again for the rank of a node that has none yet.
const NO_RANK_YET: Duration = Duration::from_secs(6);

/// An open session, as others see it.
pub(crate) struct SessionHandle {
    number: u64,
    capabilities: Vec<String>,
    sender: SessionSender,
    wake: Notify,
    ended: CancellationToken,
    why: Mutex<Option<Refusal>>,
}

impl SessionHandle {
    /// Something of the node changed: its goal or its right to a session.
    pub(crate) fn poke(&self) {
        self.wake.notify_one();
    }

    /// Whether the agent says that it can do something.
    pub(crate) fn can(&self, what: &str) -> bool {
        self.capabilities.iter().any(|capability| capability == what)
    }

    /// Sends a message to the agent.
    pub(crate) async fn send(&self, message: ServerMessage) -> Result<(), LinkError> {
        tokio::select! {
            sent = self.sender.send(message) => sent,
            () = self.ended.cancelled() => Err(LinkError::Closed(lattice_link::CloseReason::Cut)),
        }
    }

    fn end(&self, why: Refusal) {
        self.why.lock().get_or_insert(why);
        self.ended.cancel();
    }
}

/// What was decided about a Hello.
enum Opening {
    Accepted {
        next: RatchetValue,
        dedup: Dedup,
        outdated: bool,
    },
    Stale(StaleSession),
    /// The store is older than the node: that its session value is newer is no sign of a copy.
    Behind,
    Refused(Refusal),
}

pub(super) async fn serve(
    core: Arc<Core>,
    peer: CertifiedPeer,
    hello: Hello,
    session: Session,
) -> Result<(), Refusal> {
    // 1.
    let who = identify(&core, &peer)?;
    let node = who.node;
    let number = arrive(&core, node).await?;
    let turn = core.live.turn(node);
    let Session { send, mut recv, protocol } = session;
    let (handle, next, dedup, outdated) = {
        // 3. Hellos of one node are judged one by one, and a late one concludes nothing. What is
        // accepted is in the books before the next one is judged, and before anybody can write that
        // the node is gone.
        let mut newest = turn.lock().await;
        if *newest > number {
            return Err(Refusal::new(code::REPLACED, "a newer connection of this node was taken", ""));
        }
        *newest = number;
        let (next, dedup, outdated) = match open(&core, node, number, &hello).await? {
            Opening::Accepted { next, dedup, outdated } => (next, dedup, outdated),
            Opening::Refused(refusal) => return Err(refusal),
            Opening::Behind => {
                check_behind(&core, node, &hello).await;
                let text = "the server's store is an older copy, from before this node's last session";
                let hint = "an operator starts the server on the newer store, or with --accept-older-store";
                let after = lattice_model::Duration::from_secs(30);
                return Err(Refusal::new(code::BEHIND, text, hint).after(after));
            }
            Opening::Stale(stale) => {
                if let Some(other) = core.live.sessions.lock().remove(&node) {
                    other.end(Refusal::new(code::QUARANTINED, stale.to_string(), ""));
                }
                cut(&core, node);
                return Err(Refusal::new(code::QUARANTINED, stale.to_string(), ""));
            }
        };
        let handle = Arc::new(SessionHandle {
            number,
            capabilities: hello.capabilities.clone(),
            sender: send.clone(),
            wake: Notify::new(),
            ended: CancellationToken::new(),
            why: Mutex::new(None),
        });
        let before = core.live.sessions.lock().insert(node, Arc::clone(&handle));
        if let Some(before) = before {
            before.end(Refusal::new(code::REPLACED, "a newer session of this node took over", ""));
        }
        (handle, next, dedup, outdated)
    };
    let minimum = core.config.min_agent_version.clone().unwrap_or_default();
    let notice = outdated.then(|| Notice {
        code: lattice_link::code::OUTDATED.into(),
        message: format!(
            "this agent is {}, and the cluster wants at least {minimum}: it gets no new work",
            hello.agent_version
        ),
        hint: "update the agent; what runs goes on".into(),
    });
    let welcome = Welcome {
        protocol,
        server_version: env!("CARGO_PKG_VERSION").into(),
        heartbeat: core.config.heartbeat,
        ratchet_next: Some(Secret::new(String::from(next.clone()).into_bytes())),
        ack_up_to: dedup.last,
        notice,
        server_time: Some(clock::now()),
    };
    let result = async {
        // Where reports wait, they tell the same in the right order.
        if hello.outbox.first >= hello.outbox.next {
            reports::reconcile(&core, node, number, &hello.statuses).await?;
        }
        send.send(ServerMessage::Welcome(welcome)).await?;
        tracing::info!(%node, address = %peer.addr, agent = hello.agent_version, "a node is connected");
        check_behind(&core, node, &hello).await;
        converse(&core, &who, &handle, &mut recv, &next, dedup, hello.goal.map(|(_, hash)| hash)).await
    }
    .await;
    finish(&core, node, &handle, &result).await;
    result
}

/// Takes a number for a connection, in the order in which they come, over all servers. Memory then
/// shows at least what any server knew before.
async fn arrive(core: &Core, node: NodeId) -> Result<u64, Refusal> {
    core.commit(|snapshot| {
        if !snapshot.cluster.nodes.contains_key(&node) {
            return Ok((Vec::new(), 0));
        }
        Ok(match snapshot.sessions.get(&node) {
            Some(row) => {
                let arrivals = row.arrivals + 1;
                let next = NodeSession { arrivals, ..(*row.value).clone() };
                (vec![rows::update(&next, row.revision)], arrivals)
            }
            None => (vec![rows::create(&NodeSession { node, arrivals: 1, server: None, number: 0 })], 1),
        })
    })
    .await
    .map(|done| done.value)
    .map_err(unavailable)
}

/// What holds as long as connection `number` has the node's session, for what it writes.
pub(super) fn claim(core: &Core, snapshot: &Snapshot, node: NodeId, number: u64) -> Result<Op, Refused> {
    match snapshot.sessions.get(&node) {
        Some(row) if row.number == number && row.server.as_ref() == Some(&core.server) => {
            Ok(rows::check::<NodeSession>(node, Some(row.revision)))
        }
        _ => Err(Refusal::new(code::REPLACED, "a newer session of this node took over", "").into()),
    }
}

/// Judges a Hello and writes down what it tells.
async fn open(core: &Core, node: NodeId, number: u64, hello: &Hello) -> Result<Opening, Refusal> {
    let text = String::from_utf8_lossy(hello.ratchet.reveal()).into_owned();
    let presented = match text.as_str() {
        "" => RatchetValue::GENESIS,
        text => text.parse().map_err(|_| {
            Refusal::new(
                lattice_link::code::MALFORMED,
                "the session value cannot be read",
                "join again with a new token",
            )
        })?,
    };
    let fresh = clock::random();
    core.commit(|snapshot| {
        let (Some(row), Some(identity)) = (snapshot.cluster.nodes.get(&node), snapshot.identities.get(&node))
        else {
            return Ok((Vec::new(), Opening::Refused(unknown())));
        };
        // 2.
        if let Err(refusal) = admitted(row, identity.reason.as_deref()) {
            return Ok((Vec::new(), Opening::Refused(refusal)));
        }
        // 3.
        let superseded = || Refusal::new(code::REPLACED, "a newer connection of this node was taken", "");
        let Some(session) = snapshot.sessions.get(&node).filter(|row| row.arrivals == number) else {
            return Ok((Vec::new(), Opening::Refused(superseded())));
        };
        let still = rows::check::<NodeSession>(node, Some(session.revision));
        // 4.
        let mut changed = (*identity.value).clone();
        if changed.resume_next {
            changed.ratchet.resume(&presented);
        }
        match changed.ratchet.hello(number, &presented, fresh) {
            Verdict::Accept { next } => {
                (changed.resume_next, changed.clone_warning) = (false, None);
                let taken =
                    NodeSession { server: Some(core.server.clone()), number, ..(*session.value).clone() };
                let ours =
                    [rows::update(&changed, identity.revision), rows::update(&taken, session.revision)];
                Ok(accept(core, snapshot, row, ours, hello, next))
            }
            Verdict::Stale(stale)
                if stale.presented > stale.accepted
                    && hello.goal.is_some_and(|(seen, _)| seen > core.goal_id(snapshot)) =>
            {
                Ok((Vec::new(), Opening::Behind))
            }
            Verdict::Stale(stale) => {
                let mut ops = quarantine(row, identity, &stale);
                ops.push(still);
                Ok((ops, Opening::Stale(stale)))
            }
            Verdict::Superseded => Ok((Vec::new(), Opening::Refused(superseded()))),
        }
    })
    .await
    .map(|done| done.value)
    .map_err(unavailable)
}

fn accept(
    core: &Core,
    snapshot: &Snapshot,
    row: &Row<Node>,
    ours: [Op; 2],
    hello: &Hello,
    next: RatchetValue,
) -> (Vec<Op>, Opening) {
    let node = row.id;
    let minimum = core.config.min_agent_version.as_deref();
    let outdated =
        minimum.is_some_and(|minimum| !lattice_link::agent_version_ok(&hello.agent_version, minimum));
    let eligibility = match (row.eligibility, outdated) {
        (Eligibility::Eligible, true) => Eligibility::Outdated,
        (Eligibility::Outdated, false) => Eligibility::Eligible,
        (as_it_is, _) => as_it_is,
    };
    let mut ops = Vec::from(ours);
    let mut news = Vec::new();
    let connected = row.presence.state == PresenceState::Connected;
    let changed = Node {
        eligibility,
        capacity: hello.capacity,
        facts: hello.facts.clone(),
        standing: hello.standing.clone(),
        presence: if connected {
            row.presence
        } else {
            Presence { state: PresenceState::Connected, since: clock::now() }
        },
        ..(*row.value).clone()
    };
    if changed != *row.value {
        ops.push(rows::update(&changed, row.revision));
    }
    if !connected {
        news.push(Event::new("node.connected", row.name.to_string(), "its link is up").on(row));
    }
    if eligibility != row.eligibility {
        let text = match eligibility {
            Eligibility::Outdated => "its agent is older than the minimum, so it gets no new work",
            _ => "its agent is new enough again",
        };
        news.push(Event::new("node.version", row.name.to_string(), text).on(row));
    }
    let kept = snapshot.outboxes.get(&node);
    let dedup = Dedup::resume(kept.map(|row| row.dedup), &hello.outbox);
    if kept.is_none_or(|kept| kept.dedup != dedup) {
        ops.push(rows::put(&NodeOutbox { node, dedup }));
    }
    ops.extend(rows::events(news));
    (ops, Opening::Accepted { next, dedup, outdated })
}

/// Two machines use one key: nothing is given to either until a person decides.
fn quarantine(row: &Row<Node>, identity: &Row<NodeIdentity>, stale: &StaleSession) -> Vec<Op> {
    let node = Node {
        approval: Approval::Quarantined,
        presence: Presence { state: PresenceState::Disconnected, since: clock::now() },
        ..(*row.value).clone()
    };
    let warned = NodeIdentity { clone_warning: Some(stale.to_string()), ..(*identity.value).clone() };
    let mut ops = vec![
        rows::update(&node, row.revision),
        rows::update(&warned, identity.revision),
        rows::create(&Audit::new("system", "node.quarantine", row.name.to_string(), stale.to_string())),
    ];
    let hint = format!("stop the copy, then run `lattice node approve {}`", row.name);
    ops.extend(rows::events([Event::new("node.quarantined", row.name.to_string(), stale.to_string())
        .on(row)
        .because(Some(hint))]));
    ops
}

/// Whether the agent has seen a goal that this store has not made: then the store is an older
/// copy, and a plan of it could undo what is newer.
async fn check_behind(core: &Core, node: NodeId, hello: &Hello) {
    let snapshot = core.snapshot();
    let have = core.goal_id(&snapshot);
    let Some((seen, _)) = hello.goal.filter(|(seen, _)| *seen > have) else {
        return core.live.believe_no_more(node);
    };
    // Another server may have told the node what has not come to this one's memory yet.
    let head = core.store.revision().await.map_or(0, |head| head.0);
    if seen.incarnation == core.incarnation && seen.revision <= head {
        core.caught_up(seen.revision).await;
        return core.live.believe_no_more(node);
    }
    let name = snapshot.cluster.nodes.get(&node).map_or_else(|| node.short(), |row| row.name.to_string());
    tracing::error!(%node, %seen, %have, "the store is behind what an agent has seen; nothing is planned");
    if core.live.note_behind(node, Behind { seen, have }) {
        let text = format!(
            "{name} has seen goal {seen}, and this store is at {have}: it is an older copy, so nothing is planned"
        );
        let hint = "start the server on the newer store, or with --accept-older-store to go on from this one; \
                    a node that is not to be believed can be revoked";
        let event = Event::new("store.behind", "store", text).because(Some(hint.into()));
        let _ = core.store.apply(lattice_store::Transaction::new(rows::events([event]))).await;
    }
}

async fn converse(
    core: &Arc<Core>,
    who: &PeerIdentity,
    handle: &SessionHandle,
    recv: &mut lattice_link::server::SessionReceiver,
    offered: &RatchetValue,
    mut dedup: Dedup,
    mut has: Option<[u8; 32]>,
) -> Result<(), Refusal> {
    let node = who.node;
    let life = (who.not_after + CLOCK_SKEW).since(clock::now()).as_std();
    let mut end_of_life = std::pin::pin!(tokio::time::sleep(life));
    let (mut rank, mut tell_rank) = (None, tokio::time::interval(TELL_RANK));
    tell_rank.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    handle.poke();
    loop {
        tokio::select! {
            message = recv.recv() => match message? {
                AgentMessage::Heartbeat(beat) => {
                    heard(core, node, &beat);
                    if beat.ping != 0 {
                        handle.send(ServerMessage::Pong(beat.ping)).await?;
                    }
                    if !beat.conditions.is_empty() {
                        reports::untold(core, node, handle.number, &beat.conditions).await?;
                    }
                }
                AgentMessage::Reports(batch) => {
                    let up_to = reports::take(core, node, handle.number, &mut dedup, batch).await?;
                    handle.send(ServerMessage::Ack(up_to)).await?;
                }
                AgentMessage::GoalAccepted(goal) => tracing::debug!(%node, %goal, "a node has its goal"),
                AgentMessage::RatchetStored => confirm(core, node, offered).await?,
            },
            () = handle.wake.notified() => {
                let snapshot = core.snapshot();
                let row = snapshot.cluster.nodes.get(&node).ok_or_else(unknown)?;
                let reason = snapshot.identities.get(&node).and_then(|row| row.reason.clone());
                admitted(row, reason.as_deref())?;
                if claim(core, &snapshot, node, handle.number).is_err() {
                    return Err(Refusal::new(code::REPLACED, "a newer session of this node took over", ""));
                }
                if core.live.behind().is_some() {
                    continue;
                }
                let goal = match goals::seal(core, &snapshot, node) {
                    None => continue,
                    Some(Err(bytes)) => {
                        too_large(core, row, bytes).await;
                        continue;
                    }
                    Some(Ok(goal)) => goal,
                };
                core.live.too_large.lock().remove(&node);
                if has != Some(*goal.hash()) {
                    has = Some(*goal.hash());
                    tracing::debug!(%node, goal = %goal.id(), bytes = goal.body().len(), "a goal is sent");
                    handle.send(ServerMessage::Goal(goal)).await?;
                }
            }
            _ = tell_rank.tick(), if handle.can(HEARS_RANK) => {
                match ranking::own(core, node) {
                    None => tell_rank.reset_after(NO_RANK_YET),
                    now if now == rank => {}
                    Some(now) => {
                        rank = Some(now.clone());
                        handle.send(ServerMessage::Rank(now)).await?;
                    }
                }
            }
            () = handle.ended.cancelled() => {
                let why = handle.why.lock().take();
                return Err(why.unwrap_or_else(|| Refusal::new(code::REPLACED, "the session was ended", "")));
            }
            () = &mut end_of_life => {
                let text = "the certificate of this session has ended";
                return Err(Refusal::new(code::CERTIFICATE_ENDED, text, "the agent renews it and comes back by itself"));
            }
        }
    }
}

/// The agent would refuse it, so what it has stays, and people are told.
async fn too_large(core: &Core, node: &Node, bytes: usize) {
    if core.live.too_large.lock().insert(node.id, bytes).is_some() {
        return;
    }
    tracing::error!(node = %node.id, bytes, "the goal of a node is too large to be sent");
    let text = format!(
        "what it is to run takes {bytes} bytes to say, and it takes no more than {}; it goes on with what it has",
        lattice_model::SealedGoal::MAX_BYTES
    );
    let hint =
        "run fewer or smaller services there: long variables, labels and secrets count for each replica";
    let event = Event::new("node.goal_too_large", node.name.to_string(), text).on(node);
    let event = event.because(Some(hint.into()));
    let _ = core.store.apply(lattice_store::Transaction::new(rows::events([event]))).await;
}

fn heard(core: &Core, node: NodeId, beat: &Heartbeat) {
    let &Heartbeat { at: _, cpu_millis, memory_bytes, disk_free_bytes, running, ping: _, conditions: _ } =
        beat;
    let load = NodeLoad {
        at: clock::now(),
        cpu: Cpu(cpu_millis),
        memory: Bytes(memory_bytes),
        disk_free: Bytes(disk_free_bytes),
        containers: running,
    };
    core.live.loads.lock().insert(node, load);
}

async fn confirm(core: &Core, node: NodeId, offered: &RatchetValue) -> Result<(), Refusal> {
    core.commit(|snapshot| {
        let Some(identity) = snapshot.identities.get(&node) else { return Ok((Vec::new(), ())) };
        let mut changed = (*identity.value).clone();
        let ops = if changed.ratchet.confirm(offered) {
            vec![rows::update(&changed, identity.revision)]
        } else {
            Vec::new()
        };
        Ok((ops, ()))
    })
    .await
    .map(drop)
    .map_err(unavailable)
}

/// Cuts whatever a node has open, when it had the time to read why.
pub(crate) fn cut(core: &Core, node: NodeId) {
    let Some(connections) = core.connections.get().cloned() else { return };
    tokio::spawn(async move {
        tokio::time::sleep(LAST_WORDS).await;
        let cut = connections.cut(|peer| peer_node(peer.leaf()).is_ok_and(|who| who.node == node));
        tracing::debug!(%node, cut, "connections of a node were cut");
    });
}

/// Takes the session out of the books, and cuts what the node still has open where it lost its right.
async fn finish(core: &Arc<Core>, node: NodeId, handle: &SessionHandle, result: &Result<(), Refusal>) {
    handle.ended.cancel();
    let mine = {
        let mut sessions = core.live.sessions.lock();
        let mine = sessions.get(&node).is_some_and(|present| present.number == handle.number);
        if mine {
            sessions.remove(&node);
        }
        mine
    };
    let thrown_out = matches!(result, Err(refusal) if [code::REVOKED, code::REJECTED, code::QUARANTINED, code::UNKNOWN].contains(&&*refusal.code));
    if thrown_out {
        core.live.believe_no_more(node);
        cut(core, node);
    }
    if !mine {
        return;
    }
    core.live.loads.lock().remove(&node);
    if core.shutdown.is_cancelled() {
        // The next start says that it is unknown.
        return;
    }
    let why = match result {
        Err(refusal) => refusal.message.clone(),
        Ok(()) => "the agent ended the session".into(),
    };
    tracing::info!(%node, why, "a node is disconnected");
    let text = "its link is down; what runs there goes on";
    let written = presence::ended(core, node, text, Some(why)).await;
    if let Err(refused) = written {
        tracing::warn!(%node, ?refused, "that a node is disconnected was not written down");
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Body(ErrorBody::new(ErrorCode::Conflict, refusal.message, refusal.hint))
    }
}
