//! Certificates and signing requests: read without a panic, and what is signed says what the authority says, not
//! what the request asked for.

use crate::{Blob, Draw, Subject, text};
use lattice_identity::{CertificateAuthority, NodeKey, ServerNames, ca::request_public_key, peer_node};
use lattice_model::{ClusterId, Duration, NodeId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// DER of something.
#[derive(Debug, Serialize, Deserialize)]
pub struct Certificate(Blob);

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct World {
    authority: CertificateAuthority,
    seeds: Vec<Vec<u8>>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let authority =
        CertificateAuthority::create(ClusterId::from_random(1), "fuzz", NOW).expect("an authority");
    let request = NodeKey::generate().and_then(|key| key.csr_der("fuzz")).expect("a request");
    let issued =
        authority.issue_node(node(), &request, NOW, Duration::from_secs(3600)).expect("a certificate");
    let names = ServerNames::from_hosts(["lattice.example", "127.0.0.1"]);
    let server = authority.issue_server(&names, NOW, Duration::from_secs(3600)).expect("a certificate");
    let all = issued.chain.iter().chain(&server.chain).map(|der| der.to_vec());
    let seeds = std::iter::once(request).chain(all).collect();
    World { authority, seeds }
});

fn node() -> NodeId {
    NodeId::from_random(2)
}

impl Subject for Certificate {
    const NAME: &'static str = "certificates";

    fn draw(draw: &mut dyn Draw) -> Self {
        let mut der = draw.of(&WORLD.seeds).clone();
        if draw.one_in(2) {
            text::alter(draw, &mut der, &[]);
        }
        // Bytes of lengths and tags are what a reader of DER stumbles over.
        for _ in 0..=draw.below(3) {
            if !der.is_empty() {
                let at = draw.below(der.len());
                der[at] = *draw.of(&[
                    0, 1, 2, 3, 4, 5, 6, 0x0c, 0x13, 0x17, 0x18, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x82, 0x84,
                    0xa0, 0xff,
                ]);
            }
        }
        Self(Blob(der))
    }

    fn check(&self) -> Result<(), String> {
        let der = self.0.0.as_slice();
        let _ = peer_node(der);
        let _ = request_public_key(der);
        if let Ok(issued) = WORLD.authority.issue_node(node(), der, NOW, Duration::from_secs(3600)) {
            let leaf = issued.chain.first().ok_or("a chain without a leaf")?;
            let peer = peer_node(leaf).map_err(|error| format!("its own certificate is refused: {error}"))?;
            if (peer.node, peer.cluster) != (node(), ClusterId::from_random(1)) {
                return Err(format!("the certificate names {peer:?}"));
            }
        }
        Ok(())
    }
}
