//! Rows as they are read ([`Record`], [`Listing`]) and changes as they are watched ([`Change`]).
//!
//! Everything is behind `Arc`: one body is shared by the writer, the ring of recent changes and
//! every watcher.

use crate::{Key, Revision};
use std::sync::Arc;

/// A row as one transaction left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// The transaction that wrote it last; what an update has to expect.
    pub revision: Revision,
    /// The transaction that created it; a row deleted and created again is another one.
    pub created: Revision,
    /// The project that it belongs to, for authorisation and for listing.
    pub project: Option<Arc<str>>,
    /// The person that it belongs to.
    pub owner: Option<Arc<str>>,
    /// JSON text, at most [`crate::MAX_BODY_BYTES`]; the store does not read it.
    pub body: Arc<str>,
}

/// Rows by kind and id, all as of one revision.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The state that the rows show: watch from here to miss nothing.
    pub revision: Revision,
    /// The rows, ordered by kind and id.
    pub records: Vec<Arc<Record>>,
}

/// Which rows of a kind a page has, by when they were created; those of one transaction come by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The first ones that were created after a revision.
    After(Revision),
    /// The last ones that were created before a revision.
    Before(Revision),
    /// The last ones.
    Last,
}

/// What one transaction changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The transaction.
    pub revision: Revision,
    /// Each key that it changed, once, in the order of its operations; never empty.
    pub events: Vec<ChangeEvent>,
}

/// What happened to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeEvent {
    /// The row.
    pub key: Key,
    /// What happened to it.
    pub kind: EventKind,
}

/// The two things that can happen to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was created (`created == revision`) or replaced, and is now so.
    Put(Arc<Record>),
    /// It was deleted; this is what it was, without the body.
    Delete(Prior),
}

/// What a deleted row was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prior {
    /// Its last revision before the deletion.
    pub revision: Revision,
    /// The transaction that had created it.
    pub created: Revision,
    /// Its project.
    pub project: Option<Arc<str>>,
    /// Its owner.
    pub owner: Option<Arc<str>>,
}

impl Change {
    /// About how many bytes of memory it holds.
    pub(crate) fn weight(&self) -> usize {
        let body = |event: &ChangeEvent| match &event.kind {
            EventKind::Put(record) => record.body.len(),
            EventKind::Delete(_) => 0,
        };
        self.events.iter().map(|event| 256 + body(event)).sum()
    }
}
