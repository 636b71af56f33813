//! What [`crate::Store::apply`] takes and gives, and the bounds of it, the same for every part.
//!
//! All expectations are judged against the state before the transaction, and a key may be written
//! once in it; so the order of operations has no meaning, and a part can judge everything before
//! it writes anything.

use crate::{ApplyError, Key, Revision};
use lattice_model::RequestId;
use std::{collections::HashSet, sync::Arc};

/// The largest body of one row, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// The most operations in one transaction.
pub const MAX_OPS: usize = 1024;
/// The largest sum of bodies in one transaction, in bytes.
pub const MAX_TRANSACTION_BYTES: usize = 8 << 20;
/// The longest id, project, owner, lease or holder name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// Operations that happen all together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Settles a lost reply: while the id is kept, the same id again gives the first success and
    /// applies nothing, whatever the operations are (a retry may have decided anew on newer state).
    pub request: Option<RequestId>,
    /// The lease under which the operations were decided.
    pub guard: Option<Guard>,
    /// The operations; at most [`MAX_OPS`], and each key written at most once.
    pub ops: Vec<Op>,
}

/// A lease that has to be held, at this epoch, when the transaction commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The name of the lease.
    pub lease: String,
    /// The epoch that [`crate::Store::acquire_lease`] gave.
    pub epoch: u64,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes a row; a conflict if it exists.
    Create {
        /// The row.
        key: Key,
        /// Its project.
        project: Option<Arc<str>>,
        /// Its owner.
        owner: Option<Arc<str>>,
        /// Its body.
        body: Arc<str>,
    },
    /// Replaces the body of a row that is at `expected`; project and owner stay.
    Update {
        /// The row.
        key: Key,
        /// The revision that the new body was decided on.
        expected: Revision,
        /// The new body.
        body: Arc<str>,
    },
    /// Makes or replaces a row, whatever it was; `created` stays if it exists.
    Put {
        /// The row.
        key: Key,
        /// Its project from now on.
        project: Option<Arc<str>>,
        /// Its owner from now on.
        owner: Option<Arc<str>>,
        /// Its body.
        body: Arc<str>,
    },
    /// Removes a row.
    Delete {
        /// The row.
        key: Key,
        /// The revision it has to be at; `None`: any, and an absent row is no conflict.
        expected: Option<Revision>,
    },
    /// Only asserts, and changes nothing.
    Check {
        /// The row.
        key: Key,
        /// The revision it has to be at; `None`: it has to be absent.
        expected: Option<Revision>,
    },
}

/// The answer to a transaction that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The transaction's number, which its rows carry; when it changed nothing, the number of the
    /// state on which it was judged.
    pub revision: Revision,
    /// True when an earlier transaction with the same request id was found, and this is its answer.
    pub replayed: bool,
}

impl Op {
    /// The row that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. }
            | Self::Update { key, .. }
            | Self::Put { key, .. }
            | Self::Delete { key, .. }
            | Self::Check { key, .. } => key,
        }
    }

    /// The body that it brings, if it brings one.
    pub fn body(&self) -> Option<&Arc<str>> {
        match self {
            Self::Create { body, .. } | Self::Update { body, .. } | Self::Put { body, .. } => Some(body),
            Self::Delete { .. } | Self::Check { .. } => None,
        }
    }

    /// Judges the operation on the revision at which its row is (`None`: absent).
    ///
    /// # Errors
    /// [`ApplyError::Conflict`] when the operation expects another one.
    pub fn judge(&self, actual: Option<Revision>) -> Result<(), ApplyError> {
        let expected = match self {
            Self::Create { .. } => None,
            Self::Update { expected, .. } => Some(*expected),
            Self::Put { .. } | Self::Delete { expected: None, .. } => return Ok(()),
            Self::Delete { expected, .. } | Self::Check { expected, .. } => *expected,
        };
        if expected == actual {
            return Ok(());
        }
        Err(ApplyError::Conflict { key: self.key().clone(), expected, actual })
    }
}

impl Transaction {
    /// A transaction without a request id and without a guard.
    pub fn new(ops: impl IntoIterator<Item = Op>) -> Self {
        Self { request: None, guard: None, ops: ops.into_iter().collect() }
    }

    /// The same under a request id.
    #[must_use]
    pub fn with_request(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// The same under a guard.
    #[must_use]
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// The sum of its bodies, in bytes.
    pub fn weight(&self) -> usize {
        self.ops.iter().filter_map(Op::body).map(|body| body.len()).sum()
    }

    /// Holds it against the bounds; every part calls this first.
    ///
    /// # Errors
    /// [`ApplyError::TooLarge`] or [`ApplyError::Invalid`].
    pub fn validate(&self) -> Result<(), ApplyError> {
        within("the number of operations", self.ops.len(), MAX_OPS)?;
        let mut written = HashSet::new();
        for op in &self.ops {
            let (project, owner) = match op {
                Op::Create { project, owner, .. } | Op::Put { project, owner, .. } => {
                    (project.as_deref(), owner.as_deref())
                }
                Op::Update { .. } | Op::Delete { .. } | Op::Check { .. } => (None, None),
            };
            row(op.key(), project, owner, op.body().map_or("", |body| &**body))?;
            if self.ops.len() > 1 && !matches!(op, Op::Check { .. }) && !written.insert(op.key()) {
                return Err(ApplyError::Invalid { what: "a key is written twice in one transaction" });
            }
        }
        within("the sum of the bodies", self.weight(), MAX_TRANSACTION_BYTES)
    }
}

/// Holds one row against the bounds.
pub(crate) fn row(
    key: &Key,
    project: Option<&str>,
    owner: Option<&str>,
    body: &str,
) -> Result<(), ApplyError> {
    name("an id", &key.id)?;
    within("the body of one row", body.len(), MAX_BODY_BYTES)?;
    if body.contains('\0') {
        return Err(ApplyError::Invalid { what: "a body holds a NUL, which JSON escapes" });
    }
    project.map_or(Ok(()), |text| name("a project", text))?;
    owner.map_or(Ok(()), |text| name("an owner", text))
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), ApplyError> {
    match size > limit {
        true => Err(ApplyError::TooLarge { what, size, limit }),
        false => Ok(()),
    }
}

fn name(what: &'static str, text: &str) -> Result<(), ApplyError> {
    if text.len() > MAX_NAME_BYTES {
        return Err(ApplyError::TooLarge { what, size: text.len(), limit: MAX_NAME_BYTES });
    }
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(ApplyError::Invalid {
            what: "an id, project or owner is empty or has control characters",
        });
    }
    Ok(())
}
