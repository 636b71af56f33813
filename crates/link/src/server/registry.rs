//! The open connections, so that a revoked node's are cut at once.
//!
//! A connection is registered after its handshake and before its first call; a gateway that
//! checks approval in each call and cuts after it revoked leaves no gap between the two.
//!
//! A key has few connections at a time. One more cuts its oldest instead of being refused: a node
//! whose network changed comes back before the server knows that the old ones are dead.

use parking_lot::Mutex;
use rustls::{pki_types::CertificateDer, server::ParsedCertificate};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::SocketAddr,
    sync::Arc,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, as the server sees it.
    pub addr: SocketAddr,
}

/// A peer with a client certificate that the TLS configuration accepted.
#[derive(Clone)]
pub struct CertifiedPeer {
    /// Its address, as the server sees it.
    pub addr: SocketAddr,
    /// Its certificates, the leaf first.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// Ends the connection at once; cancelled too when it ended otherwise.
    pub cut: CancellationToken,
}

impl CertifiedPeer {
    /// The leaf certificate, in DER.
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map_or(&[], AsRef::as_ref)
    }

    /// Its public key, which outlives its certificates.
    fn key(&self) -> Arc<[u8]> {
        let parsed = self.chain.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        // What the handshake accepted can be parsed; if not, the certificate itself is as good.
        parsed.map_or_else(|| self.leaf().into(), |leaf| leaf.subject_public_key_info().as_ref().into())
    }
}

impl fmt::Debug for CertifiedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertifiedPeer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Open {
    next: u64,
    peers: HashMap<u64, CertifiedPeer>,
    /// The connections of each key, the oldest first.
    by_key: HashMap<Arc<[u8]>, VecDeque<u64>>,
}

/// The open connections of nodes; clones share them.
#[derive(Clone, Default)]
pub struct ConnectionRegistry(Arc<Mutex<Open>>);

impl fmt::Debug for ConnectionRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionRegistry({} open)", self.len())
    }
}

impl ConnectionRegistry {
    /// Cuts every connection that `which` picks, without a goodbye. Returns how many.
    pub fn cut(&self, which: impl Fn(&CertifiedPeer) -> bool) -> usize {
        // The predicate may parse certificates: not under the lock.
        let peers: Vec<_> = self.0.lock().peers.values().cloned().collect();
        peers.iter().filter(|peer| which(peer)).inspect(|peer| peer.cut.cancel()).count()
    }

    /// How many connections of nodes are open.
    pub fn len(&self) -> usize {
        self.0.lock().peers.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a connection in, and cuts the oldest of its key beyond `most`.
    pub(super) fn register(&self, peer: CertifiedPeer, most: usize) -> Registration {
        let (key, addr) = (peer.key(), peer.addr);
        let mut open = self.0.lock();
        let id = open.next;
        open.next += 1;
        open.peers.insert(id, peer);
        let same = open.by_key.entry(key.clone()).or_default();
        same.push_back(id);
        let many = same.len().saturating_sub(most.max(1));
        let oldest: Vec<u64> = same.drain(..many).collect();
        for peer in oldest.iter().filter_map(|id| open.peers.get(id)) {
            debug!(%addr, old = %peer.addr, "a node opened one connection too many; its oldest is cut");
            peer.cut.cancel();
        }
        Registration { registry: self.clone(), id, key }
    }
}

/// Takes the connection out again when it is dropped.
pub(super) struct Registration {
    registry: ConnectionRegistry,
    id: u64,
    key: Arc<[u8]>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.registry.0.lock();
        if let Some(same) = open.by_key.get_mut(&self.key) {
            same.retain(|id| *id != self.id);
            if same.is_empty() {
                open.by_key.remove(&self.key);
            }
        }
        if let Some(peer) = open.peers.remove(&self.id) {
            peer.cut.cancel();
        }
    }
}
