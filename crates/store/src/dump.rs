//! All that a store remembers for good, as one value ([`StoreDump`]): what a backup holds, and what
//! moves an installation from one part to another.
//!
//! Rows keep their revisions, so that whatever was decided on them stays valid. What a dump leaves
//! behind is what ends by itself: the change log (a watch goes on from the dump's revision), leases
//! with their epochs, and request ids. Rejected: replaying rows through [`Store::apply`], which
//! would number them anew.

use crate::{ClusterMeta, ImportError, Record, Revision, Store, StoreError, transaction};
use std::sync::Arc;

/// A store as of one revision; goes into an empty store by [`Store::import`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDump {
    /// Which cluster it is, and how often it was restored. The schema is the one of the store that
    /// it came from, and is not imported: bodies are the same in all.
    pub cluster: ClusterMeta,
    /// The state that the rows show; the store that takes the dump goes on with the next number.
    pub revision: Revision,
    /// All rows, by kind and id.
    pub records: Vec<Arc<Record>>,
}

impl StoreDump {
    /// Reads a store. Writers may go on meanwhile: the rows are all as of one revision.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let cluster = store.cluster().await?;
        let listing = store.list_all().await?;
        Ok(Self { cluster, revision: listing.revision, records: listing.records })
    }

    /// Holds it against what a store can have written; every part calls this first.
    ///
    /// # Errors
    /// [`ImportError::Invalid`] with the first row that no store has written.
    pub fn validate(&self) -> Result<(), ImportError> {
        let mut last = None;
        for record in &self.records {
            let Record { key, revision, created, project, owner, body } = &**record;
            let refuse = |why: String| ImportError::Invalid { row: key.to_string(), why };
            if last.is_some_and(|last| last >= key) {
                return Err(refuse("it is there twice, or the rows are not in order".to_owned()));
            }
            if *created == Revision::ZERO || created > revision || *revision > self.revision {
                return Err(refuse(format!(
                    "created at {created} and written at {revision}, it does not fit a store at {}",
                    self.revision
                )));
            }
            transaction::row(key, project.as_deref(), owner.as_deref(), body)
                .map_err(|error| refuse(error.to_string()))?;
            last = Some(key);
        }
        Ok(())
    }
}
