//! What is known of nodes around a server's start, as a decision over the snapshot (laws 3 and 5).
//!
//! A server that starts knows nothing: who was connected is *unknown* until it says hello. Who
//! has not done so when the grace is over is *disconnected*. Neither moves anything.

use crate::cluster::{Cluster, Row};
use lattice_model::{
    NodeId, Timestamp,
    resource::{Node, Presence, PresenceState},
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
    let changed = concerned.take(limit).map(|row| {
        let node = Node { presence: Presence { state: to, since: now }, ..(*row.value).clone() };
        Row { revision: row.revision, value: Arc::new(node) }
    });
    changed.collect()
}
