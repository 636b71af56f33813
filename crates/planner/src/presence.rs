//! What is known of nodes, as decisions over the snapshot (laws 3 and 5).
//!
//! Around a server's start ([`settle`]): a server that starts knows nothing: who was connected is *unknown* until
//! it says hello, and who has not done so when the grace is over is *disconnected*. Neither moves anything.
//!
//! Later ([`losses`]): who is disconnected for too long is *lost*, and its work is placed elsewhere. That
//! waits as long as the server has only just started, and when many nodes vanish at once.

use crate::{
    cluster::{Cluster, Row},
    policy::{ManyNodes, Policy},
};
use lattice_model::{
    NodeId, Timestamp,
    resource::{Approval, Eligibility, Node, Presence, PresenceState},
};
use std::sync::Arc;

/// When it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The server has just started.
    Started,
    /// It has waited for nodes to come back.
    GraceOver,
}

impl Moment {
    const fn transition(self) -> (PresenceState, PresenceState) {
        match self {
            Self::Started => (PresenceState::Connected, PresenceState::Unknown),
            Self::GraceOver => (PresenceState::Unknown, PresenceState::Disconnected),
        }
    }
}

/// The nodes whose presence changes, each as it is to be with the revision that was seen; at most
/// `limit`, so that a large cluster is written in several transactions. A node with a session is
/// left alone: its session says what is so.
pub fn settle(
    cluster: &Cluster,
    moment: Moment,
    has_session: &dyn Fn(NodeId) -> bool,
    now: Timestamp,
    limit: usize,
) -> Vec<Row<Node>> {
    let (from, to) = moment.transition();
    let concerned = cluster.nodes.values().filter(|row| row.presence.state == from && !has_session(row.id));
    concerned.take(limit).map(|row| with_presence(row, Presence { state: to, since: now })).collect()
}

fn with_presence(row: &Row<Node>, presence: Presence) -> Row<Node> {
    let node = Node { presence, ..(*row.value).clone() };
    Row { revision: row.revision, value: Arc::new(node) }
}

/// Who is lost, who would be, and when to ask again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// Nodes that are lost from now on, each as it is to be; its absence still began when it did.
    pub lost: Vec<Row<Node>>,
    /// Nodes that are away for long enough and are not called lost.
    pub held: Option<Held>,
    /// When it may be otherwise, should nothing else change before.
    pub next: Option<Timestamp>,
}

/// Nodes that are not called lost although they are away for long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub nodes: Vec<NodeId>,
    /// How many vanished together, those that are not away for long enough among them.
    pub together: u32,
    /// How many are there.
    pub present: u32,
}

/// Decides who is lost; at most `limit` at once. Before `settled_at`, when a server that has just started has
/// heard of everybody who can be heard of, nobody is.
pub fn losses(
    cluster: &Cluster,
    policy: &Policy,
    settled_at: Timestamp,
    now: Timestamp,
    limit: usize,
) -> Losses {
    let Policy { node_loss_after, many_nodes: ManyNodes { least, percent }, strategy: _, rebalance: _ } =
        *policy;
    let members = || cluster.nodes.values().filter(|row| row.approval == Approval::Approved);
    let present = members()
        .filter(|row| matches!(row.presence.state, PresenceState::Connected | PresenceState::Unknown))
        .count();
    let away = |row: &&Row<Node>| {
        matches!(row.presence.state, PresenceState::Disconnected | PresenceState::Lost)
            && row.eligibility != Eligibility::Draining
            // Who said that it goes did not vanish.
            && !row.standing.is_announced()
    };
    let mut since: Vec<Timestamp> = members().filter(away).map(|row| row.presence.since).collect();
    since.sort_unstable();
    let together = |at: Timestamp| {
        let window = i64::try_from(node_loss_after.0).unwrap_or(i64::MAX);
        let from = since.partition_point(|other| other.0 < at.0.saturating_sub(window));
        let to = since.partition_point(|other| other.0 <= at.0.saturating_add(window));
        to - from
    };
    let mut losses = Losses::default();
    for row in members().filter(|row| row.presence.state == PresenceState::Disconnected) {
        let due = (row.presence.since + node_loss_after).max(settled_at);
        if due > now {
            losses.next = Some(losses.next.map_or(due, |next| next.min(due)));
            continue;
        }
        let wave = together(row.presence.since);
        let many = wave >= least as usize && wave * 100 > percent as usize * (present + wave);
        // Who is emptied was given up by a person.
        if many && row.eligibility != Eligibility::Draining && !row.standing.is_announced() {
            let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let held = losses.held.get_or_insert_with(|| Held {
                nodes: Vec::new(),
                together: count(wave),
                present: count(present),
            });
            held.nodes.push(row.id);
            held.together = held.together.max(count(wave));
        } else if losses.lost.len() < limit {
            losses
                .lost
                .push(with_presence(row, Presence { state: PresenceState::Lost, since: row.presence.since }));
        } else {
            losses.next = Some(now);
        }
    }
    losses
}
