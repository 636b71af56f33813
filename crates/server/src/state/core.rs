//! [`Core`]: what every part of the server holds.
//!
//! Writing is always the same: decide on a snapshot, apply with the revisions that were seen, wait
//! until memory shows it ([`Core::commit`]). So whoever gets an answer reads their own write.

use super::{
    live::Live,
    snapshot::{Snapshot, Touched},
};
use crate::{blobs::Blobs, config::ServerConfig, error::ServerError, keys::Keys};
use lattice_api::{ErrorBody, ErrorCode};
use lattice_identity::{CertSlot, CertificateAuthority, ChallengeKey, ServerAddress};
use lattice_link::server::ConnectionRegistry;
use lattice_model::{ClusterId, GoalId, NodeId, ProjectName, SecretName, Timestamp, goal::SecretValue};
use lattice_store::{ApplyError, Op, Revision, Store, StoreError, Transaction, WatchError, WatchStream};
use parking_lot::RwLock;
use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often a decision is taken anew when others were faster.
const ATTEMPTS: usize = 16;
/// How long a change may take from the store to memory.
const CATCH_UP: Duration = Duration::from_secs(10);

/// What every part of the server holds.
pub(crate) struct Core {
    pub(crate) config: ServerConfig,
    pub(crate) store: Arc<dyn Store>,
    /// What this server is called among those of the store.
    pub(crate) server: String,
    pub(crate) cluster: ClusterId,
    pub(crate) incarnation: u64,
    pub(crate) name: String,
    pub(crate) live: Live,
    pub(crate) keys: Keys,
    pub(crate) blobs: Arc<dyn Blobs>,
    /// Layers of uploaded images.
    pub(crate) layers: Arc<dyn Blobs>,
    pub(crate) authority: RwLock<CertificateAuthority>,
    pub(crate) slot: Arc<CertSlot>,
    pub(crate) presented: crate::authority::Presented,
    pub(crate) challenge: ChallengeKey,
    pub(crate) advertised: Vec<ServerAddress>,
    pub(crate) started_at: Timestamp,
    pub(crate) ready: AtomicBool,
    pub(crate) shutdown: CancellationToken,
    pub(crate) api_port: OnceLock<u16>,
    pub(crate) connections: OnceLock<ConnectionRegistry>,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
}

/// A change that was made.
#[derive(Debug)]
pub(crate) struct Committed<T> {
    /// The revision from which on it shows.
    pub(crate) revision: u64,
    /// What was decided.
    pub(crate) value: T,
}

/// Why a change was not made.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The decision itself.
    Body(ErrorBody),
    /// The store.
    Apply(ApplyError),
}

impl From<ErrorBody> for Refused {
    fn from(body: ErrorBody) -> Self {
        Self::Body(body)
    }
}

impl From<Refused> for ErrorBody {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Body(body) => body,
            Refused::Apply(error) => store_refusal(&error),
        }
    }
}

/// What a failure of the store is to whoever asked.
pub(crate) fn store_refusal(error: &ApplyError) -> ErrorBody {
    match error {
        ApplyError::Conflict { .. } => ErrorBody::new(
            ErrorCode::Conflict,
            "others kept changing the same thing, so nothing was changed",
            "look at its present state, then try again",
        ),
        ApplyError::TooLarge { .. } => {
            ErrorBody::new(ErrorCode::TooLarge, error.to_string(), "make it smaller")
        }
        ApplyError::Store(StoreError::Closed) => {
            ErrorBody::new(ErrorCode::Unavailable, "the server is going down", "try again when it is back")
        }
        ApplyError::Store(StoreError::Full) => ErrorBody::new(
            ErrorCode::Unavailable,
            error.to_string(),
            "make room on the server's disk, then try again",
        ),
        ApplyError::Fenced { .. }
        | ApplyError::Invalid { .. }
        | ApplyError::Store(StoreError::Backend { .. }) => {
            tracing::error!(%error, cause = std::error::Error::source(error), "the store failed");
            ErrorBody::new(ErrorCode::Internal, "the store failed", "look at the server's log and its disk")
        }
    }
}

impl Core {
    /// The port of the API; 0 before it listens.
    pub(crate) fn api_port(&self) -> u16 {
        self.api_port.get().copied().unwrap_or(0)
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Waits until memory shows `revision`, at most ten seconds.
    pub(crate) async fn caught_up(&self, revision: u64) -> Option<Arc<Snapshot>> {
        let mut snapshots = self.snapshots.subscribe();
        let shown = snapshots.wait_for(|snapshot| snapshot.revision >= revision);
        tokio::time::timeout(CATCH_UP, shown).await.ok()?.ok().map(|snapshot| snapshot.clone())
    }

    /// Names a goal made from a snapshot.
    pub(crate) const fn goal_id(&self, snapshot: &Snapshot) -> GoalId {
        GoalId { incarnation: self.incarnation, revision: snapshot.revision }
    }

    /// The other server that has the session of a node.
    pub(crate) fn session_elsewhere(&self, node: NodeId) -> Option<String> {
        let server = self.snapshot().sessions.get(&node)?.server.clone()?;
        (server != self.server).then_some(server)
    }

    /// The present value of a secret.
    pub(crate) fn secret(
        &self,
        snapshot: &Snapshot,
        project: &ProjectName,
        name: &SecretName,
    ) -> Option<SecretValue> {
        let id = crate::rows::secret_id(project, name);
        let row = snapshot.secrets.get(&id)?;
        match self.keys.open(row) {
            Ok(value) => Some(SecretValue::new(value.to_vec())),
            Err(error) => {
                tracing::error!(%error, secret = id, "a secret cannot be opened");
                None
            }
        }
    }

    /// Decides on a snapshot, writes, and waits until memory shows it; decides anew where somebody
    /// else was faster. Without operations nothing is written.
    pub(crate) async fn commit<T>(
        &self,
        mut decide: impl FnMut(&Snapshot) -> Result<(Vec<Op>, T), Refused> + Send,
    ) -> Result<Committed<T>, Refused> {
        let mut snapshot = self.snapshot();
        for _ in 0..ATTEMPTS {
            let (mut ops, value) = decide(&snapshot)?;
            crate::causes::asked(&mut ops);
            if ops.is_empty() {
                return Ok(Committed { revision: snapshot.revision, value });
            }
            match self.store.apply(Transaction::new(ops)).await {
                Ok(applied) => {
                    self.caught_up(applied.revision.0).await;
                    return Ok(Committed { revision: applied.revision.0, value });
                }
                Err(error @ ApplyError::Conflict { .. }) => {
                    tracing::debug!(%error, "somebody was faster, so it is decided anew");
                    let head = self.store.revision().await.map_err(|e| Refused::Apply(e.into()))?;
                    snapshot = self.caught_up(head.0.max(snapshot.revision)).await.ok_or_else(behind)?;
                }
                Err(error) => return Err(Refused::Apply(error)),
            }
        }
        Err(Refused::Body(ErrorBody::new(
            ErrorCode::Conflict,
            "others kept changing the same thing, so nothing was changed",
            "look at its present state, then try again",
        )))
    }

    /// Takes in every change of the store, in order, until the store is closed.
    pub(crate) async fn follow(&self, mut watch: WatchStream) -> Result<(), ServerError> {
        loop {
            let changes = match watch.next_batch().await {
                Some(Ok(changes)) => changes,
                None | Some(Err(WatchError::Store(StoreError::Closed))) => return Ok(()),
                Some(Err(WatchError::Store(error))) => return Err(error.into()),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the store is read anew");
                    let listing = self.store.list_all().await?;
                    let snapshot = Snapshot::load(listing.revision, &listing.records)?;
                    let stacks = snapshot.cluster.stacks.keys().cloned().collect();
                    // Those that are no longer there too: their sessions have to see it.
                    let nodes = snapshot.cluster.nodes.keys().copied();
                    let nodes = nodes.chain(self.snapshot().cluster.nodes.keys().copied()).collect();
                    self.snapshots.send_replace(Arc::new(snapshot));
                    self.live.touch(Touched { stacks, nodes, pending: true, presence: true, rights: true });
                    self.review();
                    watch = match self.store.watch(listing.revision).await {
                        Ok(watch) => watch,
                        Err(WatchError::Store(error)) => return Err(error.into()),
                        Err(_) => continue,
                    };
                    continue;
                }
            };
            let mut snapshot = Snapshot::clone(&self.snapshots.borrow());
            let mut touched = Touched::default();
            for change in &changes {
                snapshot.apply(change, &mut touched)?;
            }
            self.snapshots.send_replace(Arc::new(snapshot));
            let rights = touched.rights;
            self.live.touch(touched);
            if rights {
                self.review();
            }
        }
    }

    /// Ends the streams of those who have no right to them any more.
    pub(crate) fn review(&self) {
        self.live.open.review(&self.snapshot(), crate::clock::now());
    }

    /// Rows of one kind straight from the store, for what is not kept in memory.
    pub(crate) async fn stored<T: crate::rows::Stored>(&self) -> Result<Vec<(Revision, T)>, ErrorBody> {
        let listing = self.store.list(T::KIND, None).await.map_err(|e| store_refusal(&e.into()))?;
        Ok(rows_of(&listing))
    }

    /// Some rows of a kind, with the revisions that created them, in that order.
    pub(crate) async fn page<T: crate::rows::Stored>(
        &self,
        page: lattice_store::Page,
        limit: usize,
    ) -> Result<Vec<(Revision, T)>, ErrorBody> {
        let listing = self.store.page(T::KIND, page, limit).await.map_err(|e| store_refusal(&e.into()))?;
        Ok(rows_of(&listing))
    }
}

fn rows_of<T: crate::rows::Stored>(listing: &lattice_store::Listing) -> Vec<(Revision, T)> {
    listing.records.iter().filter_map(|row| Some((row.created, crate::rows::read(row).ok()?))).collect()
}

fn behind() -> Refused {
    Refused::Body(ErrorBody::new(
        ErrorCode::Unavailable,
        "the server does not keep up with its store",
        "try again",
    ))
}
