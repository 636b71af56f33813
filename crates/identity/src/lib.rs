//! Who is who, and who may do what: the cluster's own authority, node certificates, tokens, the session
//! ratchet, users' roles, passwords and sessions, and secrets at rest. Cryptography and pure decisions; no network, no store.
//!
//! A port crate: it may read randomness (`getrandom`, the TLS stack) and, in [`keyfile`] alone,
//! files. Time is always an argument: a [`lattice_model::Timestamp`], or a [`Clock`] where the
//! TLS stack asks by itself.
//!
//! Where to enter, in the order of a node's life:
//! 1. the server has a [`MasterKey`] and a [`CertificateAuthority`] whose keys it seals;
//! 2. the operator makes a [`JoinToken`]; the server stores a [`TokenRecord`];
//! 3. the agent makes a [`NodeKey`], connects with a [`tls::client_config`] that trusts the token's
//!    root fingerprint alone, and presents the token;
//! 4. [`TokenRecord::admit`] and [`TokenPolicy`] decide; [`CertificateAuthority::issue_node`] signs;
//! 5. from then on both ends use mTLS, each session moves the ratchet ([`ServerRatchet`],
//!    [`AgentRatchet`]), and [`renewal::decide`] says when to renew;
//! 6. after any absence the node renews by its registered key ([`challenge`]).
//!
//! Of people: [`allows`] says what their roles permit, [`PasswordHash`] knows their passwords, [`session`] has
//! what a login leaves behind, and [`RateLimiter`] how often somebody may try.
//!
//! The one TLS provider is ring, always given explicitly ([`tls::provider`]): nothing here reads
//! a process-wide default, and aws-lc is not linked.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod ca;
pub mod challenge;
mod error;
mod fingerprint;
pub mod keyfile;
pub mod limit;
mod node_key;
pub mod password;
mod pki;
pub mod ratchet;
pub mod renewal;
mod ring;
mod seal;
pub mod session;
pub mod tls;
pub mod token;

pub use access::{Object, Permission, allows, allows_somewhere, may_give};
pub use ca::{CertificateAuthority, ExportedAuthority, IssuedCert, ServerCertificate, ServerNames};
pub use challenge::{Challenge, ChallengeKey, ChallengeRefused};
pub use error::IdentityError;
pub use fingerprint::Fingerprint;
pub use limit::{Rate, RateLimiter};
pub use node_key::{NodeKey, verify};
pub use password::{Password, PasswordHash};
pub use pki::{CLOCK_SKEW, PeerIdentity, peer_node};
pub use ratchet::{AgentRatchet, RatchetValue, ServerRatchet, StaleSession, Verdict};
pub use ring::{Envelope, KeyRing, same_secret};
pub use seal::{KeyId, MasterKey};
pub use session::{
    DeviceAnswer, DeviceRecord, InviteRecord, LinkRecord, SessionPolicy, SessionRecord, UserCode,
};
pub use tls::{CertSlot, Clock, Explanation, TlsError, explain};
pub use token::{
    ApiToken, ApiTokenRecord, AutoApprove, Cidr, DeviceToken, InviteToken, JoinToken, LinkToken, Presented,
    ServerAddress, SessionToken, TokenKind, TokenParseError, TokenPolicy, TokenRecord, TokenRefused,
    TokenSecret, TokenSecretHash,
};
