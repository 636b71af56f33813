//! What reaches the main loop, in one bounded queue, and how stale looks at the engine are told
//! from fresh ones.
//!
//! Whoever looks at the engine takes a [`Tickets`] number *before* it asks. An answer that comes
//! after a later look at the same container says nothing new; without this rule a listing that
//! began before a container died could bring it back to life in the reconciler's view.

use crate::{agent::Snapshot, owner::Judgement};
use lattice_converge::{Failure, Listing, NodePolicy, OperationId, Outcome, Pressure};
use lattice_model::{
    AllocationId, Bytes, SealedGoal, VolumeName,
    container::{ContainerId, ContainerSeen},
    report::ReportKind,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::oneshot;

/// How many events wait for the main loop; whoever has one more waits with it.
pub(crate) const QUEUE: usize = 256;

/// One event.
#[derive(Debug)]
pub(crate) enum Event {
    /// A container was looked at; `None` when it is gone.
    Looked { ticket: u64, id: ContainerId, seen: Option<Box<ContainerSeen>> },
    /// The engine was listed.
    Listed { ticket: u64, listing: Listing },
    /// The owner's word changed.
    Policy(NodePolicy),
    /// The owner's rules let work run, or no more.
    Owner(Judgement),
    /// There is a link to the server again.
    Linked,
    /// The machine is short of something, or not any more.
    Pressure(Pressure),
    /// The server is to be told.
    Tell(ReportKind),
    /// The engine does not answer.
    RuntimeLost(String),
    /// How far fetching an image is.
    Progress { id: OperationId, here: Bytes, total: Bytes },
    /// The images that allocations of the goal ask for.
    ImagesInUse(oneshot::Sender<BTreeSet<String>>),
    /// An operation ended, and the container was seen so.
    Done { ticket: u64, id: OperationId, result: Result<Outcome, Failure>, seen: Sight },
    /// The server gave a goal; the answer says whether it is kept.
    Goal { sealed: SealedGoal, taken: oneshot::Sender<bool> },
    /// Somebody wants to know the state.
    Snapshot(oneshot::Sender<Snapshot>),
    /// The container of an allocation of the goal, for a stream.
    Container { allocation: AllocationId, answer: oneshot::Sender<Option<ContainerId>> },
    /// What the engine calls a volume of an allocation of the goal, for a stream.
    Volume { allocation: AllocationId, volume: VolumeName, answer: oneshot::Sender<Option<String>> },
}

/// What an operation showed of a container: nothing, or its present state.
pub(crate) type Sight = Option<(ContainerId, Option<Box<ContainerSeen>>)>;

/// Orders looks at the engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tickets(Arc<AtomicU64>);

impl Tickets {
    pub(crate) fn take(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The latest look at each container since the last listing.
#[derive(Debug, Default)]
pub(crate) struct Freshness(HashMap<ContainerId, (u64, Option<Box<ContainerSeen>>)>);

impl Freshness {
    /// Notes a look; `false` when a later one is known already.
    pub(crate) fn note(&mut self, ticket: u64, id: &ContainerId, seen: Option<Box<ContainerSeen>>) -> bool {
        match self.0.get(id) {
            Some((known, _)) if *known > ticket => false,
            _ => {
                self.0.insert(id.clone(), (ticket, seen));
                true
            }
        }
    }

    /// The latest look.
    pub(crate) fn latest(&self, id: &ContainerId) -> Option<Option<Box<ContainerSeen>>> {
        self.0.get(id).map(|(_, seen)| seen.clone())
    }

    /// Puts later looks into a listing, and forgets those that it outdates.
    pub(crate) fn correct(&mut self, ticket: u64, listing: &mut Listing) {
        self.0.retain(|_, (known, _)| *known > ticket);
        listing.containers.retain(|seen| !self.0.contains_key(&seen.id));
        listing.containers.extend(self.0.values().filter_map(|(_, seen)| seen.as_deref().cloned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::{container::ContainerState, report::Health};

    fn seen(id: &str, state: ContainerState) -> ContainerSeen {
        ContainerSeen {
            id: ContainerId(id.into()),
            name: id.into(),
            labels: Default::default(),
            state,
            health: Health::None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            out_of_memory: false,
            error: None,
            ports: vec![],
            last_words: None,
        }
    }

    #[test]
    fn a_listing_that_began_earlier_does_not_undo_a_later_look() {
        let mut fresh = Freshness::default();
        let id = |name: &str| ContainerId(name.into());
        let dead = seen("a", ContainerState::Exited);
        assert!(fresh.note(5, &id("a"), Some(Box::new(dead.clone()))));
        assert!(!fresh.note(4, &id("a"), Some(Box::new(seen("a", ContainerState::Running)))));
        assert!(fresh.note(6, &id("gone"), None));
        let new = seen("new", ContainerState::Created);
        assert!(fresh.note(7, &id("new"), Some(Box::new(new.clone()))));
        let running = |name| seen(name, ContainerState::Running);
        let mut listing =
            Listing { containers: vec![running("a"), running("b"), running("gone")], ..Listing::default() };
        fresh.correct(3, &mut listing);
        listing.containers.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(listing.containers, vec![dead, running("b"), new]);
        let mut later = Listing { containers: vec![running("a")], ..Listing::default() };
        fresh.correct(9, &mut later);
        assert_eq!(later.containers, vec![running("a")]);
        assert_eq!(fresh.latest(&id("a")), None);
    }
}
