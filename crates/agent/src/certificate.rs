//! The node's certificate: when it has to be renewed, and the renewal by the registered key, over
//! a connection without a certificate. That way is the same for a certificate at half of its life
//! and for one that ended a year ago.

use crate::{
    AgentConfig, AgentError, clock,
    error::Result,
    home::{Home, Identity},
};
use lattice_identity::{
    CertSlot, Challenge, Fingerprint, NodeKey, challenge, peer_node,
    renewal::{self, Renewal},
    tls::{self, Clock, Trust},
};
use lattice_link::{
    client::{Address, ClientTls, Dialer},
    message::RenewRequest,
};
use lattice_model::{NodeId, Timestamp};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// From when to when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Of the first certificate of a chain; `None` when there is none that can be read.
pub(crate) fn validity(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let at = |time: x509_parser::time::ASN1Time| Timestamp(time.timestamp().saturating_mul(1000));
    let validity = certificate.validity();
    Some(Validity { not_before: at(validity.not_before), not_after: at(validity.not_after) })
}

/// When the certificate has to be renewed; one that cannot be read, now.
pub(crate) fn renewal(validity: Option<Validity>, jitter: u32) -> Renewal {
    let decide = |v: Validity| renewal::decide(v.not_before, v.not_after, clock::now(), jitter);
    validity.map_or(Renewal::Expired, decide)
}

/// A dialler to the servers of a cluster. An empty slot dials without a certificate.
pub(crate) fn dialer(
    servers: &[lattice_identity::ServerAddress],
    trust: Trust,
    slot: Arc<CertSlot>,
    config: &AgentConfig,
) -> Result<Dialer> {
    let addresses: Vec<Address> = servers
        .iter()
        .map(|server| Address { host: server.host().to_owned(), port: server.port() })
        .collect();
    let tls = Arc::new(tls::client_config(trust, slot, Clock::new(clock::now))?);
    let tls: ClientTls = Arc::new(move || Arc::clone(&tls));
    let mut dialer = Dialer::new(addresses, tls);
    // A proxy does not reach what is on this machine.
    let local = |a: &Address| {
        a.host == "localhost" || a.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    };
    if !dialer.addresses.iter().all(local) {
        dialer.proxy = config.proxy();
    }
    Ok(dialer)
}

/// Checks that a certificate is for this key (and this node, where it is known).
pub(crate) fn fits(
    chain: Vec<Vec<u8>>,
    key: &NodeKey,
    identity: (NodeId, lattice_model::ClusterId),
) -> Result<Vec<CertificateDer<'static>>> {
    let misfit = |problem| AgentError::Misfit { problem };
    let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(CertificateDer::from).collect();
    let leaf = chain.first().ok_or_else(|| misfit("its certificate chain is empty"))?;
    let peer = peer_node(leaf)?;
    if (peer.node, peer.cluster) != identity {
        return Err(misfit("its certificate is for another node"));
    }
    if peer.public_key_fingerprint != key.fingerprint() {
        return Err(misfit("its certificate is for another key"));
    }
    Ok(chain)
}

/// Renews by the registered key, and keeps what came.
pub(crate) async fn renew(
    disk: &Arc<crate::disk::Disk>,
    identity: &Identity,
    config: &AgentConfig,
) -> Result<Vec<CertificateDer<'static>>> {
    let home: &Home = disk.home();
    let dialer = dialer(&identity.servers, Trust::Root(identity.root()?), CertSlot::empty(), config)?;
    let connection = dialer.dial().await?;
    let seen = connection.server_chain().first().map(|leaf| Fingerprint::of(leaf));
    let seen = seen.ok_or(AgentError::Misfit { problem: "the server showed no certificate" })?;
    let challenge = connection.challenge(identity.node).await?;
    let csr_der = home.key().csr_der(&identity.node.to_string())?;
    let answer = Challenge::from_bytes(challenge.clone());
    let signature = challenge::prove(home.key(), identity.node, &answer, &seen, &csr_der)?;
    let certificate =
        connection.renew(RenewRequest { node: identity.node, challenge, signature, csr_der }).await?;
    let chain = fits(certificate.chain_der, home.key(), (identity.node, identity.cluster))?;
    let kept = chain.clone();
    disk.run(move |disk| disk.home().save_certificate(&kept)).await?;
    Ok(chain)
}
