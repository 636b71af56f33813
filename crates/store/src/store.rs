//! The port itself. Written so that SQLite (one writer thread) and PostgreSQL (one batcher per
//! server, the revision row locked until commit, the database's clock for leases) can both be it.

use crate::{
    Applied, ApplyError, ImportError, Key, Kind, LeaseError, Listing, Page, Record, Revision, StoreDump,
    StoreError, Transaction, WatchError, WatchStream,
};
use lattice_model::{ClusterId, Duration, RequestId};
use std::sync::Arc;

/// What Lattice remembers; used as `Arc<dyn Store>`.
///
/// Every method may be called from any task at any time. Reads that begin after a write was
/// acknowledged by the same server see it.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies a transaction: durably, whole or not at all, and judged inside the database against
    /// its expectations and its guard. The order is: request id kept → its answer; guard; then the
    /// expectations in order.
    ///
    /// Dropping the future does not take the transaction back. Only successes that changed
    /// something are kept under the request id: at least 24 hours, unless 65,536 newer ones push it out.
    ///
    /// # Errors
    /// [`ApplyError`]; conflicts and fencing are ordinary results, not failures.
    async fn apply(&self, transaction: Transaction) -> Result<Applied, ApplyError>;

    /// The answer that a request id got, if it is kept: for a caller that wants to know before it
    /// decides again.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn settled(&self, request: RequestId) -> Result<Option<Applied>, StoreError>;

    /// One row, as it is now.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError>;

    /// The rows of a kind, of one project or of all, by id, as of one revision.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn list(&self, kind: Kind, project: Option<&str>) -> Result<Listing, StoreError>;

    /// At most `limit` rows of a kind in the order in which they were created, as of one revision. It costs
    /// what the page holds, however many rows there are. A page may end within a transaction that created
    /// several.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn page(&self, kind: Kind, page: Page, limit: usize) -> Result<Listing, StoreError>;

    /// All rows, by kind and id, as of one revision.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn list_all(&self) -> Result<Listing, StoreError>;

    /// The revision of the newest committed transaction.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Every change after `from`, in order and without a gap. A watcher may be as slow as it
    /// likes: it goes on from the change log, and ends only when that is compacted past it.
    ///
    /// # Errors
    /// [`WatchError::TooOld`] when compacted, [`WatchError::Ahead`] when the store is not there yet.
    async fn watch(&self, from: Revision) -> Result<WatchStream, WatchError>;

    /// Forgets the changes up to and including `keep_after` (at most those that exist); rows stay.
    /// Gives the revision that is now the oldest to watch from. The log grows until this is called.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer; what was compacted until then stays so.
    async fn compact(&self, keep_after: Revision) -> Result<Revision, StoreError>;

    /// Takes a lease that nobody else holds. Each holding has an epoch of its own, one above the
    /// last, also when the same holder takes it again: a holder that acquires says that its
    /// earlier holding is over, so a restarted server need not wait for itself.
    ///
    /// # Errors
    /// [`LeaseError::Held`] by another holder, [`LeaseError::Invalid`] for an empty or overlong
    /// name or a `ttl` outside 1 ms to 24 h.
    async fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease, LeaseError>;

    /// Makes a holding last `ttl` from now.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when it is over, also by its own end with no successor.
    async fn renew_lease(&self, name: &str, epoch: u64, ttl: Duration) -> Result<Lease, LeaseError>;

    /// Ends a holding now.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] when it is over already.
    async fn release_lease(&self, name: &str, epoch: u64) -> Result<(), LeaseError>;

    /// Who holds a lease now.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn lease(&self, name: &str) -> Result<Option<Lease>, StoreError>;

    /// Which cluster this is the store of.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn cluster(&self) -> Result<ClusterMeta, StoreError>;

    /// Raises the incarnation by one: after a restore, so that agents tell old goals from new.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    async fn raise_incarnation(&self) -> Result<ClusterMeta, StoreError>;

    /// Takes in a dump, whole or not at all: cluster, incarnation, revision and rows exactly as they
    /// are in it. Only into a store that is empty and in which no lease is held. The change log then
    /// begins at the dump's revision, so a watch from before it is too old.
    ///
    /// # Errors
    /// [`ImportError`]; when its connection or disk failed, [`Store::revision`] tells whether it
    /// happened.
    async fn import(&self, dump: StoreDump) -> Result<(), ImportError>;

    /// Finishes what was accepted, ends watches with [`StoreError::Closed`] and lets go of the
    /// database. Later calls get [`StoreError::Closed`]; closing again does nothing.
    async fn close(&self);
}

/// A right that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is a right to.
    pub name: String,
    /// Who has it.
    pub holder: String,
    /// The number of this holding; goes into a [`crate::Guard`].
    pub epoch: u64,
    /// How long it lasted when the store answered. A holder counts from before it asked.
    pub expires_in: Duration,
}

/// Which store this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterMeta {
    /// Drawn when the store was made; stays through restores.
    pub cluster_id: ClusterId,
    /// 1 for a new store; raised by each restore.
    pub incarnation: u64,
    /// The version of the store's schema.
    pub schema: u32,
}
