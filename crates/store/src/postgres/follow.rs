//! Other servers' commits: what makes the watch of this server show them, in order and once.
//!
//! `LISTEN` says that there is something, sooner than asking would; a hint that is lost costs a
//! second. What is shown comes from this server's own commits or from the change log, whichever is
//! first; [`Publisher`] takes only what follows on what it has shown.

use super::{
    Fault, SCHEMA,
    options::Target,
    read::Readers,
    session::{answer, chain, connect},
    trouble,
};
use crate::{Change, ChangeLog as _, Feed, Revision, StoreError, WatchError};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time,
};

/// How often it asks by itself.
const POLL: Duration = Duration::from_secs(1);
/// How long this server's own commit may take from the database's hint to its own word about it.
const OWN: Duration = Duration::from_millis(2);
/// How long before it listens again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// The most changes read at once.
const PAGE: usize = 256;

/// What this server has shown of the change log, and what it has been told of.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) feed: Arc<Feed>,
    shown: Mutex<Revision>,
    hinted: AtomicU64,
    hint: Notify,
    failed: Mutex<Option<StoreError>>,
}

impl Publisher {
    /// Shows what comes after `head`.
    pub(super) fn new(head: Revision) -> Self {
        Self {
            feed: Arc::new(Feed::new(head)),
            shown: Mutex::new(head),
            hinted: AtomicU64::new(head.0),
            hint: Notify::new(),
            failed: Mutex::new(None),
        }
    }

    /// The newest revision that is shown.
    pub(super) fn shown(&self) -> Revision {
        *self.shown.lock()
    }

    /// Shows what is new of these consecutive changes; false when some between are missing.
    pub(super) fn offer(&self, changes: &[Arc<Change>]) -> bool {
        // Held until they are shown, so that two who offer do not overtake each other.
        let mut shown = self.shown.lock();
        let before = *shown;
        let mut new = changes.iter().skip_while(|change| change.revision <= before).peekable();
        match new.peek() {
            None => return true,
            Some(first) if first.revision != before.next() => return false,
            Some(_) => {}
        }
        *shown = changes.last().map_or(before, |change| change.revision);
        self.feed.publish(new.cloned());
        true
    }

    /// The changes up to `head` cannot be shown any more.
    pub(super) fn restart(&self, head: Revision) {
        let mut shown = self.shown.lock();
        if head > *shown {
            *shown = head;
            self.feed.restart(head);
        }
    }

    /// There may be something new.
    pub(super) fn wake(&self, revision: Revision) {
        self.hinted.fetch_max(revision.0, Ordering::SeqCst);
        self.hint.notify_one();
    }

    /// Nothing more is written or shown, until somebody has looked at it.
    pub(super) fn fail(&self, error: StoreError) {
        let mut failed = self.failed.lock();
        if failed.is_none() {
            tracing::error!(error = chain(&error), "the store takes no more writes from this server");
            self.feed.end(error.clone());
            *failed = Some(error);
        }
    }

    /// Why nothing is written.
    pub(super) fn failed(&self) -> Option<StoreError> {
        self.failed.lock().clone()
    }
}

/// The database lacks what it acknowledged.
pub(super) fn lost_writes(seen: Revision, found: Revision) -> StoreError {
    let text = format!(
        "the database is at revision {found} without what this server had written or seen up to {seen}: it was \
         restored, or a replica was promoted that lacked acknowledged writes; if that is what you want, start the \
         servers again with --accept-older-store"
    );
    StoreError::Backend { doing: "comparing it with what it acknowledged", source: Arc::from(trouble(text)) }
}

/// A newer program has migrated the database under this one.
pub(super) fn newer_schema(found: u32) -> StoreError {
    let text = format!(
        "it has schema {found} now, and this program knows schemas up to {SCHEMA}: install the newer version on this \
         server, too"
    );
    StoreError::Backend { doing: "reading its schema", source: Arc::from(trouble(text)) }
}

/// Shows what others commit, until `closing`.
pub(super) async fn follow(
    publisher: Arc<Publisher>,
    readers: Arc<Readers>,
    mut closing: watch::Receiver<bool>,
) {
    let mut told = false;
    loop {
        tokio::select! {
            () = closed(&mut closing) => return,
            () = publisher.hint.notified() => {
                // Most often the hint is of this server's own commit, which shows itself.
                if publisher.hinted.load(Ordering::SeqCst) > publisher.shown().0 {
                    time::sleep(OWN).await;
                }
                if publisher.hinted.load(Ordering::SeqCst) <= publisher.shown().0 {
                    continue;
                }
            }
            () = time::sleep(POLL) => {}
        }
        let looked = tokio::select! {
            () = closed(&mut closing) => return,
            looked = look(&publisher, &readers) => looked,
        };
        match looked {
            Ok(()) => told = false,
            Err(error) if !told => {
                told = true;
                tracing::warn!(
                    error = chain(&error),
                    "what other servers write is not seen now; it is tried again"
                );
            }
            Err(error) => tracing::debug!(error = chain(&error), "what other servers write is not seen yet"),
        }
    }
}

async fn look(publisher: &Publisher, readers: &Readers) -> Result<(), StoreError> {
    // Before asking, so that a commit in between is not taken for a loss.
    let before = publisher.shown();
    let (head, _, schema) = readers.head().await?;
    if schema > SCHEMA {
        publisher.fail(newer_schema(schema));
    } else if head < before {
        publisher.fail(lost_writes(before, head));
    } else {
        catch_up(publisher, readers, head).await?;
    }
    Ok(())
}

/// Shows what the change log has up to `head`.
pub(super) async fn catch_up(
    publisher: &Publisher,
    readers: &Readers,
    head: Revision,
) -> Result<(), StoreError> {
    while publisher.shown() < head {
        match readers.read_after(publisher.shown(), PAGE).await {
            Ok(changes) if changes.is_empty() => {
                let text = "the change log ends before the revision that the store is at: it is damaged";
                return Err(StoreError::Backend { doing: "watching", source: Arc::from(trouble(text)) });
            }
            Ok(changes) => drop(publisher.offer(&changes)),
            Err(WatchError::TooOld { .. } | WatchError::Ahead { .. }) => publisher.restart(head),
            Err(WatchError::Store(error)) => return Err(error),
        }
    }
    Ok(())
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the store is gone.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// The channel on which the servers of a store tell each other that there is something.
pub(super) fn channel(schema: &str) -> String {
    format!("lattice_{schema}").chars().take(63).collect()
}

/// Hears hints, until `closing`.
pub(super) async fn listen(publisher: Arc<Publisher>, target: Target, mut closing: watch::Receiver<bool>) {
    loop {
        let listening = async {
            let told = Arc::clone(&publisher);
            let heard = move |text: &str| {
                if let Ok(revision) = text.parse() {
                    told.wake(Revision(revision));
                }
            };
            let (client, drive) = connect(&target, Some(Box::new(heard))).await?;
            answer(client.batch_execute(&format!("LISTEN \"{}\"", channel(&target.schema)))).await?;
            // What was said before this has to be asked for; the next poll is soon.
            let _ = drive.await;
            drop(client);
            Ok::<(), Fault>(())
        };
        tokio::select! {
            () = closed(&mut closing) => return,
            ended = listening => if let Err(fault) = ended {
                tracing::debug!(?fault, "no hints from the store's database now");
            }
        }
        tokio::select! {
            () = closed(&mut closing) => return,
            () = time::sleep(LISTEN_AGAIN) => {}
        }
    }
}
