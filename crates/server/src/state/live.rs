//! [`Live`]: what only this process knows, and loses without harm.

use super::{
    foresight::Foresight,
    gate::Gate,
    open::OpenStreams,
    snapshot::{PendingByStack, Touched},
};
use crate::gateway::{probe::Probes, session::SessionHandle, streams::Streams};
use lattice_api::NodeLoad;
use lattice_model::{GoalId, NodeId, StackKey, Timestamp, TokenId};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use tokio::sync::Notify;

/// What only this process knows.
#[derive(Default)]
pub(crate) struct Live {
    /// The session of each node that has one.
    pub(crate) sessions: Mutex<HashMap<NodeId, Arc<SessionHandle>>>,
    /// Of the last heartbeat.
    pub(crate) loads: Mutex<HashMap<NodeId, NodeLoad>>,
    /// Nodes whose goal is larger than an agent takes, with its size in bytes.
    pub(crate) too_large: Mutex<BTreeMap<NodeId, usize>>,
    /// What the planner did last.
    pub(crate) planner: Mutex<PlannerMemory>,
    /// Agents that have seen more than the store knows. One that is thrown out is believed no more.
    behind: Mutex<BTreeMap<NodeId, Behind>>,
    /// When each API token was used last.
    pub(crate) token_use: Mutex<HashMap<TokenId, Timestamp>>,
    /// When the last refused attempt was written down.
    pub(crate) last_denied: Mutex<Timestamp>,
    /// The backups that this server makes.
    pub(crate) backups: crate::backups::schedule::Memory,
    /// Who waits for an agent's bulk connection.
    pub(crate) streams: Streams,
    /// Who is before whom, as it was a moment ago.
    pub(crate) board: Mutex<Option<(Timestamp, Arc<lattice_ranking::Board>)>>,
    /// Places for nodes that measure their links.
    pub(crate) probes: Probes,
    /// What stands before the passwords.
    pub(crate) gate: Gate,
    /// What is expected of nodes.
    pub(crate) foresight: Foresight,
    /// Streams of the API.
    pub(crate) open: Arc<OpenStreams>,
    /// Places for uploads.
    pub(crate) uploads: Uploads,
    /// Who builds images on nodes.
    pub(crate) builds: crate::api::builds::Builds,
    dirty: Mutex<BTreeSet<StackKey>>,
    plan: Notify,
    /// Somebody came or went.
    pub(crate) presence: Notify,
    /// Since when this server plans.
    pub(crate) leads_since: Mutex<Option<Timestamp>>,
    /// Nodes that are away for long enough and are not called lost, since they are many.
    pub(crate) held: Mutex<Option<lattice_planner::presence::Held>>,
    /// The newest connection of each node whose Hello was judged.
    turns: Mutex<HashMap<NodeId, Arc<tokio::sync::Mutex<u64>>>>,
}

/// How many uploads come at the same time; one more is told to try again.
const UPLOADS: usize = 8;

/// Places for uploads.
pub(crate) struct Uploads(tokio::sync::Semaphore);

impl Default for Uploads {
    fn default() -> Self {
        Self(tokio::sync::Semaphore::new(UPLOADS))
    }
}

impl std::ops::Deref for Uploads {
    type Target = tokio::sync::Semaphore;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// What the planner did last.
#[derive(Debug, Default)]
pub(crate) struct PlannerMemory {
    pub(crate) pending: PendingByStack,
    /// What runs on where it should not stay, by stack.
    pub(crate) stays: BTreeMap<StackKey, Vec<lattice_planner::Stay>>,
    /// When stacks have to be planned again.
    pub(crate) next: BTreeMap<StackKey, Timestamp>,
    pub(crate) last_run: Option<Timestamp>,
    pub(crate) planned_to: u64,
    pub(crate) warnings: Vec<String>,
}

/// An agent has seen a goal that this store has not made yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) seen: GoalId,
    pub(crate) have: GoalId,
}

impl Live {
    /// Takes in what a change touched: the planner and the sessions concerned wake up.
    pub(crate) fn touch(&self, touched: Touched) {
        let Touched { stacks, pending, presence, nodes, rights: _ } = touched;
        if presence {
            self.presence.notify_one();
        }
        let mut changed = stacks;
        if pending {
            changed.extend(self.planner.lock().pending.keys().cloned());
        }
        if !changed.is_empty() {
            self.want_plan(changed);
        }
        if !nodes.is_empty() {
            let sessions = self.sessions.lock();
            for session in nodes.iter().filter_map(|node| sessions.get(node)) {
                session.poke();
            }
        }
    }

    /// An agent has seen more than the store; `true` for the first one.
    pub(crate) fn note_behind(&self, node: NodeId, what: Behind) -> bool {
        let mut all = self.behind.lock();
        let first = all.is_empty();
        all.insert(node, what);
        first
    }

    /// Takes that back: the node is thrown out, or says something else now. What waited goes on.
    pub(crate) fn believe_no_more(&self, node: NodeId) {
        let last = {
            let mut all = self.behind.lock();
            all.remove(&node).is_some() && all.is_empty()
        };
        if last {
            self.plan.notify_one();
            for session in self.sessions.lock().values() {
                session.poke();
            }
        }
    }

    /// Whether an agent has seen more than the store, and which.
    pub(crate) fn behind(&self) -> Option<(NodeId, Behind)> {
        self.behind.lock().first_key_value().map(|(node, behind)| (*node, *behind))
    }

    /// Asks the planner to look at these stacks.
    pub(crate) fn want_plan(&self, stacks: impl IntoIterator<Item = StackKey>) {
        self.dirty.lock().extend(stacks);
        self.plan.notify_one();
    }

    /// Waits until there is something to plan.
    pub(crate) async fn plan_wanted(&self) {
        loop {
            let notified = self.plan.notified();
            if !self.dirty.lock().is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Whether something waits to be planned.
    pub(crate) fn plan_pending(&self) -> bool {
        !self.dirty.lock().is_empty()
    }

    /// Takes what is to be planned.
    pub(crate) fn take_dirty(&self) -> BTreeSet<StackKey> {
        std::mem::take(&mut *self.dirty.lock())
    }

    /// What lets the Hellos of a node through one by one.
    pub(crate) fn turn(&self, node: NodeId) -> Arc<tokio::sync::Mutex<u64>> {
        Arc::clone(self.turns.lock().entry(node).or_default())
    }

    /// The session of a node.
    pub(crate) fn session(&self, node: NodeId) -> Option<Arc<SessionHandle>> {
        self.sessions.lock().get(&node).cloned()
    }
}
