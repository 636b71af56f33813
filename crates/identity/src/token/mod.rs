//! Tokens: strings that a person carries from one machine to another.
//!
//! Every kind is one word: a prefix that says kind and version, then base64url of payload and
//! checksum, so that a lost or mistyped character is told from a forged token before anything is
//! sent. [`join`] tokens (`lat1_`) bring a node in; those of [`api`] let a person or a program call the
//! API. Secrets are 256 random bits, so a plain SHA-256 is a safe way to store
//! them ([`record`]); a slow password hash would add cost and nothing else.

pub mod api;
mod envelope;
pub mod join;
pub mod record;
mod secret;

pub use api::{
    ApiToken, ApiTokenRecord, DeviceToken, InviteToken, KeyedToken, LinkToken, SessionToken, TokenKind,
};
pub use envelope::{MAX_TOKEN, TokenParseError};
pub use join::{JoinToken, MAX_SERVERS, ServerAddress};
pub use record::{AutoApprove, Cidr, Presented, TokenPolicy, TokenRecord, TokenRefused};
pub use secret::{TokenSecret, TokenSecretHash};
