//! [`SqliteStore`]: the port on top of the writer and the readers.

use super::{
    OpenError, SqliteOptions,
    checkpoint::Checkpointer,
    open::{self, Lock},
    read::Readers,
    writer::{Command, Writer},
};
use crate::{
    Applied, ApplyError, ChangeLog, ClusterMeta, Feed, ImportError, Key, Kind, Lease, LeaseError, Listing,
    Page, Record, Revision, Store, StoreDump, StoreError, Transaction, WatchError, WatchStream,
    lease::LeaseOp,
};
use lattice_model::{Duration, RequestId};
use std::{path::Path, sync::Arc, thread};
use tokio::sync::{mpsc, oneshot};

/// How many commands may wait for the writer; beyond it callers wait to hand theirs over.
const QUEUE: usize = 1024;

/// The store in one SQLite file. Dropping it finishes what was accepted, in the background;
/// [`Store::close`] waits for that.
#[derive(Debug)]
pub struct SqliteStore {
    commands: mpsc::Sender<Command>,
    readers: Arc<Readers>,
    feed: Arc<Feed>,
    lock: Arc<Lock>,
}

impl SqliteStore {
    /// Opens the store at `path`, or makes it there (mode 0600) if its folder exists; migrates an
    /// older schema. Blocks for a few disk syncs.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed then.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let (lock, connection) = open::open(path, &options)?;
        let lock = Arc::new(lock);
        let database = |error| OpenError::database(path, error);
        let checkpointer =
            Checkpointer::start(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let writer = Writer::new(connection, checkpointer, options.clock).map_err(database)?;
        let feed = writer.feed();
        let (commands, queue) = mpsc::channel(QUEUE);
        let held = Arc::clone(&lock);
        let run = move || {
            writer.run(queue);
            drop(held);
        };
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(run);
        thread.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let readers = Arc::new(Readers::new(path.to_owned()));
        Ok(Self { commands, readers, feed, lock })
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)
    }

    async fn ask_lease(&self, op: LeaseOp) -> Result<Option<Lease>, LeaseError> {
        self.ask(|reply| Command::Lease(op, reply)).await?
    }
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn apply(&self, transaction: Transaction) -> Result<Applied, ApplyError> {
        transaction.validate()?;
        self.ask(|reply| Command::Apply(transaction, reply)).await?
    }

    async fn settled(&self, request: RequestId) -> Result<Option<Applied>, StoreError> {
        self.readers.settled(request).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.readers.get(key).await
    }

    async fn list(&self, kind: Kind, project: Option<&str>) -> Result<Listing, StoreError> {
        self.readers.list(Some(kind), project).await
    }

    async fn page(&self, kind: Kind, page: Page, limit: usize) -> Result<Listing, StoreError> {
        self.readers.page(kind, page, limit).await
    }

    async fn list_all(&self) -> Result<Listing, StoreError> {
        self.readers.list(None, None).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.readers.head().await?.0)
    }

    async fn watch(&self, from: Revision) -> Result<WatchStream, WatchError> {
        let (head, oldest) = self.readers.head().await?;
        if from < oldest {
            return Err(WatchError::TooOld { from, oldest });
        }
        if from > head {
            return Err(WatchError::Ahead { from, head });
        }
        let log: Arc<dyn ChangeLog> = Arc::new(Arc::clone(&self.readers));
        Ok(WatchStream::new(Arc::clone(&self.feed), log, from))
    }

    async fn compact(&self, keep_after: Revision) -> Result<Revision, StoreError> {
        self.ask(|reply| Command::Compact(keep_after, reply)).await?
    }

    async fn acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Lease, LeaseError> {
        let op = LeaseOp::Acquire { name: name.to_owned(), holder: holder.to_owned(), ttl };
        self.ask_lease(op).await?.ok_or(LeaseError::Store(StoreError::Closed))
    }

    async fn renew_lease(&self, name: &str, epoch: u64, ttl: Duration) -> Result<Lease, LeaseError> {
        let op = LeaseOp::Renew { name: name.to_owned(), epoch, ttl };
        self.ask_lease(op).await?.ok_or(LeaseError::Store(StoreError::Closed))
    }

    async fn release_lease(&self, name: &str, epoch: u64) -> Result<(), LeaseError> {
        self.ask_lease(LeaseOp::Release { name: name.to_owned(), epoch }).await.map(drop)
    }

    async fn lease(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        match self.ask_lease(LeaseOp::Look { name: name.to_owned() }).await {
            Ok(lease) => Ok(lease),
            Err(LeaseError::Store(error)) => Err(error),
            // A name that cannot be acquired is held by nobody.
            Err(LeaseError::Held { .. } | LeaseError::Lost { .. } | LeaseError::Invalid { .. }) => Ok(None),
        }
    }

    async fn cluster(&self) -> Result<ClusterMeta, StoreError> {
        self.readers.cluster().await
    }

    async fn raise_incarnation(&self) -> Result<ClusterMeta, StoreError> {
        self.ask(Command::RaiseIncarnation).await?
    }

    async fn import(&self, dump: StoreDump) -> Result<(), ImportError> {
        dump.validate()?;
        self.ask(|reply| Command::Import(dump, reply)).await?
    }

    async fn close(&self) {
        // First the readers: the last connection to be closed folds the write-ahead log into the file.
        self.readers.close().await;
        if self.ask(Command::Stop).await.is_ok() {
            self.lock.unlock();
        }
    }
}
