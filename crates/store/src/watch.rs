//! The watch: one ring of recent changes that all watchers of a server read at their own
//! position, and the change log in the database for whoever is behind the ring.
//!
//! Rejected: a queue for each watcher. A slow one would need a bound and then a rule for what is
//! dropped; here it costs nothing, and being slow only means reading from the log.
//! Revisions are consecutive, so the stream proves by itself that nothing is missing.

use crate::{Change, Revision, StoreError, WatchError};
use parking_lot::Mutex;
use std::{collections::VecDeque, error::Error, sync::Arc};
use tokio::sync::watch;

/// The most changes that the ring keeps.
const RING_CHANGES: usize = 4096;
/// The most bytes that the ring keeps, though always the newest change.
const RING_BYTES: usize = 8 << 20;
/// The most changes taken at once from ring or log.
const PAGE: usize = 256;

/// Where a watcher reads what the ring has no more: the change log in the database.
#[async_trait::async_trait]
pub trait ChangeLog: Send + Sync {
    /// Up to `limit` changes after `after`, in order; at least one if there is one.
    ///
    /// # Errors
    /// [`WatchError::TooOld`] when changes after `after` were compacted.
    async fn read_after(&self, after: Revision, limit: usize) -> Result<Vec<Arc<Change>>, WatchError>;
}

/// Hands committed changes to the watchers of this process.
#[derive(Debug)]
pub struct Feed {
    ring: Mutex<Ring>,
    head: watch::Sender<Head>,
}

#[derive(Debug)]
struct Ring {
    /// The ring has every change after this one.
    base: Revision,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Head {
    revision: Revision,
    /// Why nothing more will come.
    ended: Option<StoreError>,
}

enum Found {
    Changes,
    Nothing,
    Behind,
}

impl Feed {
    /// An empty ring of a store that is at `head`.
    pub fn new(head: Revision) -> Self {
        Self {
            ring: Mutex::new(Ring { base: head, changes: VecDeque::new(), bytes: 0 }),
            head: watch::Sender::new(Head { revision: head, ended: None }),
        }
    }

    /// Shows committed changes, which follow the last ones that were shown.
    pub fn publish(&self, changes: impl IntoIterator<Item = Arc<Change>>) {
        let newest = {
            let ring = &mut *self.ring.lock();
            for change in changes {
                debug_assert_eq!(change.revision, ring.head().next(), "the feed is fed in order");
                ring.bytes += change.weight();
                ring.changes.push_back(change);
            }
            while ring.changes.len() > RING_CHANGES || (ring.bytes > RING_BYTES && ring.changes.len() > 1) {
                if let Some(old) = ring.changes.pop_front() {
                    ring.bytes -= old.weight();
                    ring.base = old.revision;
                }
            }
            ring.head()
        };
        self.head.send_modify(|head| head.revision = newest);
    }

    /// Begins anew at `head`, as after an import: whoever watched from before it reads in the log
    /// that this is too old.
    pub fn restart(&self, head: Revision) {
        *self.ring.lock() = Ring { base: head, changes: VecDeque::new(), bytes: 0 };
        self.head.send_modify(|known| known.revision = head);
    }

    /// Ends all watches once they have read what was published.
    pub fn close(&self) {
        self.end(StoreError::Closed);
    }

    /// The same, with another reason; the first one stays.
    pub fn end(&self, why: StoreError) {
        self.head.send_modify(|head| {
            head.ended.get_or_insert(why);
        });
    }

    fn take(&self, after: Revision, into: &mut VecDeque<Arc<Change>>) -> Found {
        let ring = self.ring.lock();
        if after < ring.base {
            return Found::Behind;
        }
        let skip = usize::try_from(after.0 - ring.base.0).unwrap_or(usize::MAX);
        if skip >= ring.changes.len() {
            return Found::Nothing;
        }
        into.extend(ring.changes.range(skip..).take(PAGE).cloned());
        Found::Changes
    }
}

impl Ring {
    fn head(&self) -> Revision {
        self.changes.back().map_or(self.base, |change| change.revision)
    }
}

/// Changes in revision order, without a gap, until an error ends them.
pub struct WatchStream {
    feed: Arc<Feed>,
    log: Arc<dyn ChangeLog>,
    head: watch::Receiver<Head>,
    position: Revision,
    ready: VecDeque<Arc<Change>>,
    ended: bool,
}

impl WatchStream {
    /// Watches from `from`, which the store has found to be neither compacted nor ahead.
    pub fn new(feed: Arc<Feed>, log: Arc<dyn ChangeLog>, from: Revision) -> Self {
        let head = feed.head.subscribe();
        Self { feed, log, head, position: from, ready: VecDeque::new(), ended: false }
    }

    /// The revision of the last change that was given out: where to watch from again.
    pub fn position(&self) -> Revision {
        self.position
    }

    /// The next change; waits for it. `None` after the error that ended the watch. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Arc<Change>, WatchError>> {
        match self.fill().await? {
            Ok(()) => self.pop().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }

    /// All changes that are at hand, at least one, at most 256; otherwise as [`Self::next`].
    pub async fn next_batch(&mut self) -> Option<Result<Vec<Arc<Change>>, WatchError>> {
        match self.fill().await? {
            Ok(()) => Some(Ok(std::iter::from_fn(|| self.pop()).collect())),
            Err(error) => Some(Err(error)),
        }
    }

    /// The same as a [`futures::Stream`].
    pub fn into_stream(self) -> impl futures::Stream<Item = Result<Arc<Change>, WatchError>> + Send {
        futures::stream::unfold(self, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        })
    }

    fn pop(&mut self) -> Option<Arc<Change>> {
        let change = self.ready.pop_front()?;
        self.position = change.revision;
        Some(change)
    }

    /// Waits until something is ready.
    async fn fill(&mut self) -> Option<Result<(), WatchError>> {
        while self.ready.is_empty() {
            if self.ended {
                return None;
            }
            if let Err(error) = self.advance().await {
                self.ended = true;
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    async fn advance(&mut self) -> Result<(), WatchError> {
        // Marked as seen before the look, so that a change in between wakes us again.
        let ended = self.head.borrow_and_update().ended.clone();
        match (self.feed.take(self.position, &mut self.ready), ended) {
            (Found::Changes, _) => {}
            (Found::Nothing, Some(why)) => return Err(why.into()),
            (Found::Nothing, None) => self.head.changed().await.map_err(|_| StoreError::Closed)?,
            (Found::Behind, _) => {
                self.ready = self.log.read_after(self.position, PAGE).await?.into();
                if self.ready.is_empty() {
                    return Err(gap(self.position, None));
                }
            }
        }
        match self.ready.front() {
            Some(first) if first.revision != self.position.next() => {
                Err(gap(self.position, self.ready.drain(..).next()))
            }
            _ => Ok(()),
        }
    }
}

fn gap(after: Revision, found: Option<Arc<Change>>) -> WatchError {
    let found = found.map_or_else(|| "nothing".to_owned(), |change| format!("change {}", change.revision));
    let source =
        format!("after revision {after} the change log has {found}: it is damaged; restore a backup");
    StoreError::Backend { doing: "watching", source: Arc::from(Box::<dyn Error + Send + Sync>::from(source)) }
        .into()
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").field("position", &self.position).field("ended", &self.ended).finish()
    }
}
