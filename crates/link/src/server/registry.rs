//! The open connections, so that a revoked node's are cut at once.
//!
//! A connection is registered after its handshake and before its first call; a gateway that
//! checks approval in each call and cuts after it revoked leaves no gap between the two.

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

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

    pub(super) fn register(&self, peer: CertifiedPeer) -> Registration {
        let mut open = self.0.lock();
        let id = open.next;
        open.next += 1;
        open.peers.insert(id, peer);
        Registration { registry: self.clone(), id }
    }
}

/// Takes the connection out again when it is dropped.
pub(super) struct Registration {
    registry: ConnectionRegistry,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(peer) = self.registry.0.lock().peers.remove(&self.id) {
            peer.cut.cancel();
        }
    }
}
