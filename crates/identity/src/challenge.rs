//! Renewal by the registered key: how a node whose certificate has ended comes back.
//!
//! 1. The agent opens TLS without a client certificate and verifies the server as always (pinned
//!    root, name). It notes the fingerprint of the server's leaf certificate in this session.
//! 2. It asks for a challenge. The server answers [`Challenge::issue`]: version, time, nonce,
//!    under an HMAC that also covers the fingerprint of its own leaf. It stores nothing.
//! 3. The agent sends its node id, a certificate request, the challenge and [`prove`]: a signature
//!    by its key over challenge, node id, the fingerprint **that it saw**, and the request.
//! 4. The server looks up the node (approved, not revoked) and calls [`check`]: its own HMAC, at
//!    most [`CHALLENGE_VALIDITY`] old, the signature by the key that the node registered, over its own leaf's
//!    fingerprint, and a request for that same key. Then it signs.
//!
//! Who sits in the middle with another certificate, even one that our authority signed for another
//! server, cannot relay: the agent signs what it saw. Replaying a proof within its two
//! minutes over a new connection yields the same key a second certificate, which is of use only to
//! whoever has that key; so no list of used challenges is kept. When the server's certificate is
//! swapped between 2 and 4 the proof is refused, and the agent asks again.
//!
//! Rejected: accepting expired client certificates in TLS for that one endpoint (the exception
//! would sit in the verifier that guards all others).

use crate::{CLOCK_SKEW, Fingerprint, IdentityError, NodeKey, ca, node_key, pki};
use lattice_model::{Duration, NodeId, Timestamp};
use ring::hmac;
use sha2::{Digest, Sha256};
use std::fmt;

/// How long a challenge can be answered: two minutes.
pub const CHALLENGE_VALIDITY: Duration = Duration::from_secs(120);

const VERSION: u8 = 1;
const LENGTH: usize = 1 + 8 + 16 + 32;
const CONTEXT: &str = "lattice renewal v1";

/// The server's secret behind its challenges; take it from [`crate::MasterKey::derive`], so that all
/// replicas and restarts share it.
pub struct ChallengeKey(hmac::Key);

impl ChallengeKey {
    /// Wraps key material.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }
}

impl fmt::Debug for ChallengeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChallengeKey")
    }
}

/// Why a renewal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeRefused {
    /// Not a challenge of this server, or issued under another server certificate.
    #[error("the challenge was not issued by this server under its present certificate; ask for a new one")]
    Foreign,
    /// Older than [`CHALLENGE_VALIDITY`].
    #[error("the challenge has expired; ask for a new one and answer within two minutes")]
    Expired,
    /// The signature is not of the node's registered key over what this server is.
    #[error(
        "the proof was not made by the node's registered key for this server; if the node was installed anew, enrol it with a join token"
    )]
    WrongKey,
    /// The request is bad, or for another key than the registered one.
    #[error(
        "the certificate request is not for the node's registered key; if the node was installed anew, enrol it with a join token"
    )]
    WrongRequest,
}

/// A challenge as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge(Vec<u8>);

impl Challenge {
    /// Makes one, bound to the fingerprint of the server's present leaf certificate.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`].
    pub fn issue(
        key: &ChallengeKey,
        server_leaf: &Fingerprint,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend_from_slice(&now.0.to_be_bytes());
        bytes.extend_from_slice(&pki::random::<16>()?);
        let tag = hmac::sign(&key.0, &authenticated(&bytes, server_leaf));
        bytes.extend_from_slice(tag.as_ref());
        Ok(Self(bytes))
    }

    /// Wraps what came over the wire; [`check`] judges it.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// For the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this server issued it, under that leaf, at most two minutes ago.
    ///
    /// # Errors
    /// [`ChallengeRefused::Foreign`], [`ChallengeRefused::Expired`].
    pub fn verify(
        &self,
        key: &ChallengeKey,
        server_leaf: &Fingerprint,
        now: Timestamp,
    ) -> Result<(), ChallengeRefused> {
        if self.0.len() != LENGTH || self.0[0] != VERSION {
            return Err(ChallengeRefused::Foreign);
        }
        let (body, tag) = self.0.split_at(LENGTH - 32);
        hmac::verify(&key.0, &authenticated(body, server_leaf), tag)
            .map_err(|_| ChallengeRefused::Foreign)?;
        let mut issued = [0; 8];
        issued.copy_from_slice(&body[1..9]);
        let issued = Timestamp(i64::from_be_bytes(issued));
        // A replica's clock may be ahead of ours, but not by more than the stated skew.
        if now.since(issued) > CHALLENGE_VALIDITY || issued.since(now) > CLOCK_SKEW {
            return Err(ChallengeRefused::Expired);
        }
        Ok(())
    }
}

/// The agent's answer (step 3). `seen_leaf` is the fingerprint of the certificate that the server
/// presented in this very session.
///
/// # Errors
/// [`IdentityError::Certificate`] when there is no randomness.
pub fn prove(
    key: &NodeKey,
    node: NodeId,
    challenge: &Challenge,
    seen_leaf: &Fingerprint,
    csr_der: &[u8],
) -> Result<Vec<u8>, IdentityError> {
    key.sign(CONTEXT, &statement(node, challenge, seen_leaf, csr_der))
}

/// What arrived in step 3.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The node that it claims to be.
    pub node: NodeId,
    /// The challenge that it answers.
    pub challenge: &'a Challenge,
    /// The request for its new certificate.
    pub csr_der: &'a [u8],
    /// From [`prove`].
    pub signature: &'a [u8],
}

/// The server's judgement (step 4). `registered_key` is the node's SubjectPublicKeyInfo DER as
/// stored at approval; `own_leaf` the fingerprint of the certificate that this server presents.
///
/// # Errors
/// [`ChallengeRefused`].
pub fn check(
    key: &ChallengeKey,
    own_leaf: &Fingerprint,
    registered_key: &[u8],
    proof: &Proof<'_>,
    now: Timestamp,
) -> Result<(), ChallengeRefused> {
    let Proof { node, challenge, csr_der, signature } = *proof;
    challenge.verify(key, own_leaf, now)?;
    if csr_der.len() > ca::MAX_REQUEST {
        return Err(ChallengeRefused::WrongRequest);
    }
    let said = statement(node, challenge, own_leaf, csr_der);
    if !node_key::verify(registered_key, CONTEXT, &said, signature) {
        return Err(ChallengeRefused::WrongKey);
    }
    match ca::request_public_key(csr_der) {
        Ok(requested) if requested == registered_key => Ok(()),
        _ => Err(ChallengeRefused::WrongRequest),
    }
}

fn authenticated(body: &[u8], server_leaf: &Fingerprint) -> Vec<u8> {
    [b"lattice challenge v1\0", body, server_leaf.as_bytes()].concat()
}

/// The challenge is hashed, since what arrives may have any length: all parts are of fixed length.
fn statement(node: NodeId, challenge: &Challenge, leaf: &Fingerprint, csr_der: &[u8]) -> Vec<u8> {
    let challenge: [u8; 32] = Sha256::digest(&challenge.0).into();
    let request: [u8; 32] = Sha256::digest(csr_der).into();
    [&challenge[..], node.uuid().as_bytes(), leaf.as_bytes(), &request].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    #[test]
    fn only_the_registered_key_for_this_server_in_time_renews() {
        let secret = ChallengeKey::new(&[3; 32]);
        let (leaf, other_leaf) = (Fingerprint::of(b"leaf"), Fingerprint::of(b"other"));
        let (node, key) = (NodeId::from_random(1), NodeKey::generate().unwrap());
        let csr = key.csr_der("n").unwrap();
        let challenge = Challenge::issue(&secret, &leaf, NOW).unwrap();
        let signature = prove(&key, node, &challenge, &leaf, &csr).unwrap();
        let good = Proof { node, challenge: &challenge, csr_der: &csr, signature: &signature };
        let at = |seconds| NOW + Duration::from_secs(seconds);
        let judge = |proof: &Proof<'_>, now| check(&secret, &leaf, key.public_key_der(), proof, now);
        assert_eq!(judge(&good, at(120)), Ok(()));
        assert_eq!(judge(&good, at(121)), Err(ChallengeRefused::Expired));
        assert_eq!(judge(&good, pki::earlier(NOW, Duration::from_secs(301))), Err(ChallengeRefused::Expired));
        // Relayed by a server with another certificate: the agent signed what it saw.
        let relayed = prove(&key, node, &challenge, &other_leaf, &csr).unwrap();
        assert_eq!(judge(&Proof { signature: &relayed, ..good }, NOW), Err(ChallengeRefused::WrongKey));
        assert_eq!(
            check(&secret, &other_leaf, key.public_key_der(), &good, NOW),
            Err(ChallengeRefused::Foreign)
        );
        assert_eq!(
            check(&ChallengeKey::new(&[4; 32]), &leaf, key.public_key_der(), &good, NOW),
            Err(ChallengeRefused::Foreign)
        );
        let node = NodeId::from_random(2);
        assert_eq!(judge(&Proof { node, ..good }, NOW), Err(ChallengeRefused::WrongKey));
        let stranger = NodeKey::generate().unwrap();
        let foreign_csr = stranger.csr_der("n").unwrap();
        assert_eq!(judge(&Proof { csr_der: &foreign_csr, ..good }, NOW), Err(ChallengeRefused::WrongKey));
        let signature = prove(&key, good.node, &challenge, &leaf, &foreign_csr).unwrap();
        let other_key = Proof { csr_der: &foreign_csr, signature: &signature, ..good };
        assert_eq!(judge(&other_key, NOW), Err(ChallengeRefused::WrongRequest));
    }

    proptest! {
        #[test]
        fn noise_and_altered_challenges_are_refused(noise in prop::collection::vec(any::<u8>(), 0..80), at in 0..LENGTH, flip in 1u8..) {
            let (secret, leaf) = (ChallengeKey::new(&[3; 32]), Fingerprint::of(b"leaf"));
            prop_assert!(Challenge::from_bytes(noise).verify(&secret, &leaf, NOW).is_err());
            let mut bytes = Challenge::issue(&secret, &leaf, NOW).unwrap().0;
            bytes[at] ^= flip;
            prop_assert!(Challenge(bytes).verify(&secret, &leaf, NOW).is_err());
        }
    }
}
