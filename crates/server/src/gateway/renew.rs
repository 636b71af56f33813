//! A node proves its registered key and gets a new certificate, after any absence.

use super::{admitted, certificate, code, note_certificate, unknown};
use crate::{clock, state::Core};
use lattice_identity::{
    Challenge, ChallengeRefused, Fingerprint,
    challenge::{Proof, check},
};
use lattice_link::{
    Refusal,
    message::{Certificate, RenewRequest},
    server::Peer,
};
use lattice_model::NodeId;

pub(super) fn challenge(core: &Core, node: NodeId) -> Result<Vec<u8>, Refusal> {
    may_renew(core, node)?;
    let issued = Challenge::issue(&core.challenge, &own_leaf(core)?, clock::now());
    issued.map(|challenge| challenge.as_bytes().to_vec()).map_err(|error| {
        Refusal::new(code::UNAVAILABLE, error.to_string(), "the agent tries again by itself")
    })
}

pub(super) async fn renew(core: &Core, peer: Peer, request: RenewRequest) -> Result<Certificate, Refusal> {
    let RenewRequest { node, challenge, signature, csr_der } = request;
    let registered = may_renew(core, node)?;
    let challenge = Challenge::from_bytes(challenge);
    let proof = Proof { node, challenge: &challenge, csr_der: &csr_der, signature: &signature };
    if let Err(refused) = check(&core.challenge, &own_leaf(core)?, &registered, &proof, clock::now()) {
        tracing::warn!(%node, address = %peer.addr, %refused, "a renewal was refused");
        let code = match refused {
            ChallengeRefused::Foreign => "challenge_foreign",
            ChallengeRefused::Expired => "challenge_expired",
            ChallengeRefused::WrongKey => "challenge_wrong_key",
            ChallengeRefused::WrongRequest => "challenge_wrong_request",
        };
        return Err(Refusal::new(code, refused.to_string(), ""));
    }
    let (certificate, serial) = certificate(core, node, &csr_der)?;
    note_certificate(core, node, &serial, &certificate).await?;
    tracing::info!(%node, serial, "a node renewed its certificate");
    Ok(certificate)
}

/// The registered key of a node that may renew.
fn may_renew(core: &Core, node: NodeId) -> Result<Vec<u8>, Refusal> {
    let snapshot = core.snapshot();
    let row = snapshot.cluster.nodes.get(&node).ok_or_else(unknown)?;
    let identity = snapshot.identities.get(&node).ok_or_else(unknown)?;
    admitted(row, identity.reason.as_deref())?;
    Ok(identity.key_der())
}

fn own_leaf(core: &Core) -> Result<Fingerprint, Refusal> {
    core.slot.leaf_fingerprint().ok_or_else(|| {
        Refusal::new(
            code::UNAVAILABLE,
            "the server has no certificate yet",
            "the agent tries again by itself",
        )
    })
}
