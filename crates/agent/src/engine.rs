//! Watches the container engine: its events, each followed by a look at the container, and a full
//! listing at the beginning and now and then. A lost engine is told once and sought with a pause
//! that grows; events are subscribed to before the listing, so that there is no gap.

use crate::{
    clock,
    error::chain,
    event::{Event, Tickets},
    last_words::LastWords,
    trees::Trees,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use lattice_converge::Listing;
use lattice_model::{
    NodeId, Timestamp,
    container::{ContainerId, LABEL_BUILD},
};
use lattice_runtime::{EngineEventKind, Result, Runtime, RuntimeError};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep},
};
use tracing::{info, warn};

/// Between two full listings, in case an event was lost.
const LISTING: Duration = Duration::from_secs(30);
/// Before a listing that is wanted because a look failed.
const SOON: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Whether the engine answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// It does.
    pub ok: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Since when, by this machine's clock.
    pub since: Timestamp,
}

impl EngineStatus {
    pub(crate) fn unknown() -> Self {
        Self { ok: false, reason: Some("it has not been asked yet".into()), since: clock::now() }
    }
}

pub(crate) struct Watcher {
    pub(crate) node: NodeId,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) trees: Arc<Trees>,
    pub(crate) tickets: Tickets,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) relist: Arc<Notify>,
    pub(crate) status: watch::Sender<EngineStatus>,
    pub(crate) words: LastWords,
}

type Looked = (ContainerId, u64, Result<Option<lattice_model::container::ContainerSeen>>);

impl Watcher {
    /// Watches for ever; ends when nobody takes events any more.
    pub(crate) async fn run(self) {
        let mut pause = PAUSE;
        let mut told = false;
        while !self.events.is_closed() {
            let began = Instant::now();
            let reason = match self.watch().await {
                Ok(()) => return,
                Err(error) => chain(&error),
            };
            if self.status.borrow().ok || !told {
                warn!(reason, "the container engine is lost; what runs, runs on, and it is sought again");
                self.status.send_replace(EngineStatus {
                    ok: false,
                    reason: Some(reason.clone()),
                    since: clock::now(),
                });
                told = true;
                if self.events.send(Event::RuntimeLost(reason)).await.is_err() {
                    return;
                }
            }
            if began.elapsed() > MAX_PAUSE {
                pause = PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Until the engine is lost; `Ok` when nobody listens any more.
    async fn watch(&self) -> Result<()> {
        // Asked each time: another engine may have come up behind the same socket.
        if let Some(message) = self.runtime.info().await?.unfit() {
            return Err(RuntimeError::Refused { what: "the container engine".into(), message });
        }
        let mut stream = self.runtime.events(self.node).await?;
        let mut looks: FuturesUnordered<BoxFuture<'_, Looked>> = FuturesUnordered::new();
        // Under way by container; `true` when something happened to it since.
        let mut under_way: HashMap<ContainerId, bool> = HashMap::new();
        let mut listing: Option<BoxFuture<'_, Result<(u64, Listing)>>> = Some(self.list().boxed());
        let mut next_listing = Instant::now() + LISTING;
        loop {
            tokio::select! {
                biased;
                event = stream.next() => {
                    let gone = |reason: &str| RuntimeError::Unreachable {
                        socket: "its socket".into(),
                        reason: reason.to_owned(),
                        hint: "it is asked again by itself",
                    };
                    let event = event.ok_or_else(|| gone("its stream of events ended"))??;
                    if event.kind == EngineEventKind::Destroyed {
                        let gone = Event::Looked { ticket: self.tickets.take(), id: event.id, seen: None };
                        if self.events.send(gone).await.is_err() {
                            return Ok(());
                        }
                        continue;
                    }
                    match under_way.entry(event.id) {
                        Entry::Occupied(mut dirty) => *dirty.get_mut() = true,
                        Entry::Vacant(vacant) => {
                            looks.push(self.look(vacant.key().clone()).boxed());
                            vacant.insert(false);
                        }
                    }
                }
                Some((id, ticket, result)) = looks.next(), if !looks.is_empty() => {
                    let dirty = under_way.remove(&id).unwrap_or(false);
                    if dirty {
                        looks.push(self.look(id.clone()).boxed());
                        under_way.insert(id.clone(), false);
                    }
                    match result {
                        Ok(seen) => {
                            let looked = Event::Looked { ticket, id, seen: seen.map(Box::new) };
                            if self.events.send(looked).await.is_err() {
                                return Ok(());
                            }
                        }
                        Err(error) => {
                            warn!(container = id.0, error = chain(&error), "a container could not be looked at");
                            next_listing = next_listing.min(Instant::now() + SOON);
                        }
                    }
                }
                result = async { match &mut listing { Some(list) => list.await, None => std::future::pending().await } } => {
                    listing = None;
                    next_listing = Instant::now() + LISTING;
                    let (ticket, found) = result?;
                    if !self.status.borrow().ok {
                        info!(containers = found.containers.len(), "the container engine answers");
                        self.status.send_replace(EngineStatus { ok: true, reason: None, since: clock::now() });
                    }
                    if self.events.send(Event::Listed { ticket, listing: found }).await.is_err() {
                        return Ok(());
                    }
                }
                () = self.relist.notified() => next_listing = next_listing.min(Instant::now() + SOON),
                () = tokio::time::sleep_until(next_listing), if listing.is_none() => {
                    listing = Some(self.list().boxed());
                }
            }
        }
    }

    async fn look(&self, id: ContainerId) -> Looked {
        let ticket = self.tickets.take();
        let mut seen = self.runtime.inspect(&id).await;
        if let Ok(Some(seen)) = &mut seen {
            self.words.put(&*self.runtime, seen).await;
        }
        (id, ticket, seen)
    }

    async fn list(&self) -> Result<(u64, Listing)> {
        let ticket = self.tickets.take();
        let (mut containers, networks, volumes) = futures::try_join!(
            self.runtime.list(self.node),
            self.runtime.list_networks(self.node),
            self.runtime.list_volumes(self.node),
        )?;
        self.words.put_all(&*self.runtime, &mut containers).await;
        // Those of builds are nobody's in a goal, and go with their build.
        let networks = networks.into_iter().filter(|n| !n.labels.contains_key(LABEL_BUILD)).collect();
        let trees = Arc::clone(&self.trees);
        let trees = tokio::task::spawn_blocking(move || trees.list()).await.unwrap_or_default();
        Ok((ticket, Listing { containers, networks, volumes, trees }))
    }
}
