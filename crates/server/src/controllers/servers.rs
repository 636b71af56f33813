//! The other servers of the store: each says by a lease that it lives, and whoever sees that one does
//! not says so of its nodes. They are unknown then, until they come to another server or the grace
//! is over (laws 3 and 5); nothing is moved away because a server is gone.
//!
//! Rejected: the time of the last heartbeat of each node in the store (a write for each node and
//! beat); the leader alone as the one who looks (it may be the one that is gone).

use super::{
    leader::{RENEW, TTL},
    presence,
};
use crate::{StoreConfig, state::Core};
use std::{collections::BTreeSet, sync::Arc};
use tokio::time::Instant;

fn lease(server: &str) -> String {
    format!("server/{server}")
}

/// Says that this server lives, before anything relies on it.
pub(crate) async fn present(core: &Core) {
    if let StoreConfig::Postgres(_) = core.config.store {
        keep(core, &mut None).await;
    }
}

/// Of the servers that have or had sessions, those that live, this one left out.
pub(crate) async fn others(core: &Core) -> BTreeSet<String> {
    let snapshot = core.snapshot();
    let named = snapshot.sessions.values().filter_map(|row| row.server.clone());
    let named: BTreeSet<String> = named.filter(|server| *server != core.server).collect();
    let mut living = BTreeSet::new();
    for server in named {
        match core.store.lease(&lease(&server)).await {
            Ok(None) => {}
            Ok(Some(_)) => drop(living.insert(server)),
            Err(error) => {
                // What cannot be asked is not known to be dead.
                tracing::debug!(%error, server, "whether another server lives is not known");
                living.insert(server);
            }
        }
    }
    living
}

/// Runs until the server goes down. A store that only one server can open needs none of it.
pub(crate) async fn run(core: Arc<Core>) {
    if matches!(core.config.store, StoreConfig::Sqlite) {
        return;
    }
    let (mut epoch, mut give_up_at) = (None, None);
    let mut timer = tokio::time::interval(RENEW);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = core.shutdown.cancelled() => break,
            _ = timer.tick() => {}
        }
        keep(&core, &mut epoch).await;
        if restored(&core).await {
            core.shutdown.cancel();
            break;
        }
        let living = others(&core).await;
        let dead = |server: &String| *server != core.server && !living.contains(server);
        let snapshot = core.snapshot();
        let left = snapshot.sessions.values().any(|row| {
            let node = snapshot.cluster.nodes.get(&row.node);
            let connected = lattice_model::resource::PresenceState::Connected;
            row.server.as_ref().is_some_and(dead) && node.is_some_and(|node| node.presence.state == connected)
        });
        if left {
            tracing::warn!("a server is gone; its nodes are unknown until they come to another one");
            presence::forget(&core).await;
            give_up_at.get_or_insert_with(|| Instant::now() + core.config.presence_grace.as_std());
        }
        if give_up_at.is_some_and(|at| at <= Instant::now()) {
            give_up_at = None;
            presence::give_up(&core).await;
        }
    }
    if let Some(epoch) = epoch
        && let Err(error) = core.store.release_lease(&lease(&core.server), epoch).await
    {
        tracing::debug!(%error, "that this server is gone was not said");
    }
}

async fn keep(core: &Core, epoch: &mut Option<u64>) {
    let name = lease(&core.server);
    if let Some(held) = *epoch
        && core.store.renew_lease(&name, held, TTL).await.is_ok()
    {
        return;
    }
    match core.store.acquire_lease(&name, &core.server, TTL).await {
        Ok(lease) => *epoch = Some(lease.epoch),
        Err(error) => tracing::warn!(%error, "that this server lives was not said"),
    }
}

/// Whether somebody went on from an older store under this server: its goals have an old name now,
/// which agents refuse.
async fn restored(core: &Core) -> bool {
    match core.store.cluster().await {
        Ok(now) if now.incarnation != core.incarnation || now.cluster_id != core.cluster => {
            tracing::error!(
                was = core.incarnation,
                is = now.incarnation,
                "the store was restored or accepted anew under this server: it goes down; start it again"
            );
            true
        }
        Ok(_) => false,
        Err(error) => {
            tracing::debug!(%error, "the incarnation cannot be read now");
            false
        }
    }
}
