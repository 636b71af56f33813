//! What may be asked of a lease and what comes of it: a pure step that all parts share. Where the
//! rows are and which clock their ends are on is each part's own.

use crate::{Lease, LeaseError, MAX_NAME_BYTES};
use lattice_model::Duration;

/// The longest lease.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// What is asked of the leases.
#[derive(Clone, Debug)]
pub(crate) enum LeaseOp {
    Acquire { name: String, holder: String, ttl: Duration },
    Renew { name: String, epoch: u64, ttl: Duration },
    Release { name: String, epoch: u64 },
    Look { name: String },
}

/// The last holding of a lease.
#[derive(Clone, Debug)]
pub(crate) struct LeaseRow {
    pub(crate) holder: String,
    pub(crate) epoch: u64,
    /// False when it was released.
    pub(crate) held: bool,
    pub(crate) ttl: Duration,
    /// On the part's clock.
    pub(crate) ends: Duration,
}

/// The answer, and the row as it is from now on where it changes.
pub(crate) type Judged = (Result<Option<Lease>, LeaseError>, Option<LeaseRow>);

/// Decides about a lease whose last holding was `row`.
pub(crate) fn judge(op: &LeaseOp, row: Option<&LeaseRow>, now: Duration) -> Judged {
    if let Err(what) = check(op) {
        return (Err(LeaseError::Invalid { what }), None);
    }
    let live = row.filter(|row| row.live(now));
    let next = match op {
        LeaseOp::Look { name } => return (Ok(live.map(|row| row.lease(name, now))), None),
        LeaseOp::Acquire { name, holder, ttl } => {
            if let Some(row) = live.filter(|row| row.holder != *holder) {
                let remaining = Duration(row.ends.0 - now.0);
                let by = row.holder.clone();
                return (Err(LeaseError::Held { name: name.clone(), by, remaining }), None);
            }
            let epoch = row.map_or(0, |row| row.epoch) + 1;
            LeaseRow { holder: holder.clone(), epoch, held: true, ttl: *ttl, ends: Duration(now.0 + ttl.0) }
        }
        LeaseOp::Renew { name, epoch, .. } | LeaseOp::Release { name, epoch } => {
            let Some(row) = live.filter(|row| row.epoch == *epoch) else {
                let actual = live.map(|row| row.epoch);
                return (Err(LeaseError::Lost { name: name.clone(), epoch: *epoch, actual }), None);
            };
            match op {
                LeaseOp::Renew { ttl, .. } => {
                    LeaseRow { ttl: *ttl, ends: Duration(now.0 + ttl.0), ..row.clone() }
                }
                _ => LeaseRow { held: false, ends: now, ..row.clone() },
            }
        }
    };
    (Ok(Some(next.lease(op.name(), now))), Some(next))
}

impl LeaseOp {
    /// Which lease it is about.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Acquire { name, .. }
            | Self::Renew { name, .. }
            | Self::Release { name, .. }
            | Self::Look { name } => name,
        }
    }
}

impl LeaseRow {
    /// Whether it is held.
    pub(crate) fn live(&self, now: Duration) -> bool {
        self.held && now < self.ends
    }

    fn lease(&self, name: &str, now: Duration) -> Lease {
        let expires_in = Duration(self.ends.0.saturating_sub(now.0));
        Lease { name: name.to_owned(), holder: self.holder.clone(), epoch: self.epoch, expires_in }
    }
}

fn check(op: &LeaseOp) -> Result<(), &'static str> {
    let named =
        |text: &str| !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control);
    let (name, holder, ttl) = match op {
        LeaseOp::Acquire { name, holder, ttl } => (name, Some(holder), Some(ttl)),
        LeaseOp::Renew { name, ttl, .. } => (name, None, Some(ttl)),
        LeaseOp::Release { name, .. } | LeaseOp::Look { name } => (name, None, None),
    };
    if !named(name) || !holder.is_none_or(|holder| named(holder)) {
        return Err("its name or holder is empty, too long or has control characters");
    }
    match ttl.is_none_or(|ttl| (1..=MAX_TTL.0).contains(&ttl.0)) {
        true => Ok(()),
        false => Err("its length is outside 1 ms to 24 h"),
    }
}
