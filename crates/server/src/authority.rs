//! The cluster's authority in the store, and the certificate that agents see.

use crate::{
    clock,
    error::ServerError,
    rows::{self, Audit, AuthorityRow, Event, Stored},
    state::Core,
};
use lattice_identity::{CertSlot, CertificateAuthority, KeyRing, ServerNames};
use lattice_model::{ClusterId, Duration, Timestamp};
use lattice_store::{ApplyError, Key, Store, Transaction};
use parking_lot::Mutex;

/// How long the certificate that agents see is valid. It is made anew at each start and at half of
/// its life; nobody pins it.
const SERVER_VALIDITY: Duration = Duration::from_secs(30 * 86_400);

/// Where the authority is.
pub(crate) fn key() -> Key {
    Key::new(AuthorityRow::KIND, "ca")
}

/// Reads the authority, or makes it where the store is new.
pub(crate) async fn load(
    store: &dyn Store,
    ring: &KeyRing,
    cluster: ClusterId,
    name: &str,
) -> Result<CertificateAuthority, ServerError> {
    if let Some(record) = store.get(&key()).await? {
        let AuthorityRow(stored) = rows::read(&record)?;
        return Ok(crate::keys::open_authority(ring, &stored)?);
    }
    let made = CertificateAuthority::create(cluster, name, clock::now())?;
    match store.apply(Transaction::new([rows::create(&AuthorityRow(made.export(ring.current())?))])).await {
        Ok(_) => {}
        // Another server that starts on a new store was faster; its master key is another one, unless
        // somebody gave both the same.
        Err(ApplyError::Conflict { .. }) => return Box::pin(load(store, ring, cluster, name)).await,
        Err(error) => return Err(error.into()),
    }
    tracing::info!(root = %made.root_fingerprint(), "the cluster's authority was made");
    Ok(made)
}

/// Puts a fresh server certificate into the slot; gives its end.
pub(crate) fn present(
    authority: &CertificateAuthority,
    slot: &CertSlot,
    hosts: &[String],
) -> Result<Timestamp, ServerError> {
    let names = ServerNames::from_hosts(hosts.iter().map(String::as_str));
    let issued = authority.issue_server(&names, clock::now(), SERVER_VALIDITY)?;
    slot.swap(issued.chain, issued.key)?;
    Ok(issued.not_after)
}

/// When the certificate in the slot ends.
pub(crate) type Presented = Mutex<Timestamp>;

/// Rotates what is due: the intermediate at two thirds of its life, the server's certificate at half.
pub(crate) async fn keep_in_time(core: &Core) {
    if let Err(error) = renew(core).await {
        tracing::error!(%error, "certificates were not renewed");
    }
}

async fn renew(core: &Core) -> Result<(), ServerError> {
    let now = clock::now();
    let rotated = {
        let mut authority = core.authority.write();
        if authority.intermediate_due(now)? {
            authority.rotate_intermediate(now)?;
            Some(AuthorityRow(authority.export(core.keys.ring().current())?))
        } else {
            None
        }
    };
    if let Some(row) = rotated {
        let audit = Audit::new("system", "authority.rotate", "authority", "a new intermediate certificate");
        let mut ops = vec![rows::put(&row), rows::create(&audit)];
        ops.extend(rows::events([Event::new(
            "authority.rotated",
            "authority",
            "a new intermediate certificate signs",
        )]));
        core.store.apply(Transaction::new(ops)).await?;
    }
    let ends = *core.presented.lock();
    if ends.since(now).0 < SERVER_VALIDITY.0 / 2 {
        let hosts = core.config.certificate_hosts(&core.advertised);
        let ends = present(&core.authority.read(), &core.slot, &hosts)?;
        *core.presented.lock() = ends;
    }
    Ok(())
}
