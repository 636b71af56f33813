//! The leader's lease: one server plans at a time, and a plan of an earlier holding is fenced.
//!
//! With an embedded store there is one server and it always gets the lease; the epoch still
//! matters, since it fences what a predecessor has left under way.

use crate::state::Core;
use lattice_model::Duration;
use lattice_store::{Guard, LeaseError};
use tokio::time::Instant;

/// The lease's name.
pub(crate) const LEASE: &str = "leader";
/// How long one holding lasts without renewal.
pub(crate) const TTL: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub(crate) const RENEW: std::time::Duration = std::time::Duration::from_secs(5);

/// The name under which the server of this home holds the lease: the same after a restart, so that a
/// server that was killed need not wait for its own holding to end. That only one server has the
/// home is the store's lock to see to.
pub(crate) fn holder(home: &std::path::Path) -> String {
    let home = std::fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let whole = format!("{machine}:{}", home.display());
    // Within the store's bound for names; the end of a path tells more than its beginning.
    let surplus = whole.chars().count().saturating_sub(60);
    whole.chars().skip(surplus).collect()
}

/// A holding of the lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leader {
    epoch: u64,
    until: Instant,
}

impl Leader {
    /// Takes the lease, or says who has it.
    pub(crate) async fn acquire(core: &Core, holder: &str) -> Result<Self, LeaseError> {
        // Counted from before it was asked for, so that the holder's end is never later than the store's.
        let until = Instant::now() + TTL.as_std();
        let lease = core.store.acquire_lease(LEASE, holder, TTL).await?;
        tracing::info!(epoch = lease.epoch, "this server plans");
        Ok(Self { epoch: lease.epoch, until })
    }

    /// Makes it last.
    pub(crate) async fn renew(&mut self, core: &Core) -> Result<(), LeaseError> {
        let until = Instant::now() + TTL.as_std();
        core.store.renew_lease(LEASE, self.epoch, TTL).await?;
        self.until = until;
        Ok(())
    }

    /// Whether it is not over by our clock.
    pub(crate) fn holds(&self) -> bool {
        Instant::now() < self.until
    }

    /// What a transaction is guarded by.
    pub(crate) fn guard(&self) -> Guard {
        Guard { lease: LEASE.into(), epoch: self.epoch }
    }

    /// Gives it back, so that the next server need not wait.
    pub(crate) async fn release(self, core: &Core) {
        if let Err(error) = core.store.release_lease(LEASE, self.epoch).await {
            tracing::debug!(%error, "the leader's lease was not given back");
        }
    }
}
