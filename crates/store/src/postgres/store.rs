//! [`PostgresStore`]: the port on top of the batcher, the readers and the follower.

use super::{
    batcher::Batcher,
    command::Command,
    follow::{Publisher, follow, listen},
    options::{PostgresError, PostgresOptions},
    read::Readers,
    schema, session,
};
use crate::{
    Applied, ApplyError, ChangeLog, ClusterMeta, ImportError, Key, Kind, Lease, LeaseError, Listing, Page,
    Record, Revision, Store, StoreDump, StoreError, Transaction, WatchError, WatchStream, lease::LeaseOp,
};
use lattice_model::{Duration, RequestId};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// How many commands may wait for the batcher; beyond it callers wait to hand theirs over.
const QUEUE: usize = 1024;

/// The store in a PostgreSQL database, for any number of servers at once. Dropping it finishes what
/// was accepted, in the background; [`Store::close`] waits for that.
#[derive(Debug)]
pub struct PostgresStore {
    commands: mpsc::Sender<Command>,
    readers: Arc<Readers>,
    publisher: Arc<Publisher>,
    closing: watch::Sender<bool>,
}

impl PostgresStore {
    /// Opens the store, or makes it in a database that is there; migrates an older schema. Waits
    /// up to 20 seconds for a database that cannot be reached.
    ///
    /// # Errors
    /// [`PostgresError`]; nothing was changed then.
    pub async fn open(options: &PostgresOptions) -> Result<Self, PostgresError> {
        Self::start(options, true).await
    }

    /// Opens a store that is there; makes none.
    ///
    /// # Errors
    /// [`PostgresError`]; nothing was changed then.
    pub async fn open_existing(options: &PostgresOptions) -> Result<Self, PostgresError> {
        Self::start(options, false).await
    }

    async fn start(options: &PostgresOptions, make: bool) -> Result<Self, PostgresError> {
        let target = options.resolve()?;
        let writer = Uuid::new_v4();
        let mut client = session::first(&target).await?;
        schema::prepare(&mut client, &target, writer, make).await?;
        drop(client);
        let readers = Arc::new(Readers::new(target.clone()));
        let head = readers.head().await;
        let (head, _, _) = head.map_err(|error| PostgresError::Database {
            store: target.name.clone(),
            source: Box::new(error),
        })?;
        let publisher = Arc::new(Publisher::new(head));
        let (commands, queue) = mpsc::channel(QUEUE);
        let (closing, closed) = watch::channel(false);
        let batcher = Batcher::new(target.clone(), writer, Arc::clone(&readers), Arc::clone(&publisher));
        // Each ends by itself: the first when nobody can ask it, the others when the store is gone.
        tokio::spawn(batcher.run(queue));
        tokio::spawn(follow(Arc::clone(&publisher), Arc::clone(&readers), closed.clone()));
        tokio::spawn(listen(Arc::clone(&publisher), target, closed));
        Ok(Self { commands, readers, publisher, closing })
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
impl Store for PostgresStore {
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
        let (head, oldest, _) = self.readers.head().await?;
        if from < oldest {
            return Err(WatchError::TooOld { from, oldest });
        }
        if from > head {
            return Err(WatchError::Ahead { from, head });
        }
        // What another server has just written may not be shown here yet.
        self.publisher.wake(head);
        let log: Arc<dyn ChangeLog> = self.readers.clone();
        Ok(WatchStream::new(Arc::clone(&self.publisher.feed), log, from))
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
        self.readers.lease(name).await
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
        // An error means that it was closed before.
        let _ = self.ask(Command::Stop).await;
        self.closing.send_replace(true);
        self.readers.close();
    }
}
