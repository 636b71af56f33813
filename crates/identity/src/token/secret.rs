//! A token's secret, and the hash of it that is stored.

use crate::{IdentityError, pki};
use lattice_model::TokenId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// 256 random bits, wiped when dropped. Never printed.
#[derive(Clone)]
pub struct TokenSecret(Zeroizing<[u8; 32]>);

impl TokenSecret {
    /// A new one.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`].
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self::from_bytes(pki::random()?))
    }

    /// Wraps a secret, e.g. one that came over the wire.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// For the wire, over TLS alone.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What is stored: SHA-256 with the token's id as context, so that equal secrets would not be
    /// seen as such and a hash is of use in its own record only.
    pub fn hash(&self, id: TokenId) -> TokenSecretHash {
        let hash = Sha256::new()
            .chain_update(b"lattice token secret v1\0")
            .chain_update(id.uuid().as_bytes())
            .chain_update(*self.0)
            .finalize();
        TokenSecretHash(hash.into())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(…)")
    }
}

/// The stored form of a secret. Compared in constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenSecretHash([u8; 32]);

impl PartialEq for TokenSecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenSecretHash {}

impl fmt::Debug for TokenSecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecretHash(…)")
    }
}

impl From<TokenSecretHash> for String {
    fn from(hash: TokenSecretHash) -> Self {
        hex::encode(hash.0)
    }
}

impl TryFrom<String> for TokenSecretHash {
    type Error = IdentityError;

    fn try_from(text: String) -> Result<Self, IdentityError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&text, &mut hash)
            .map_err(|_| IdentityError::not_a("a secret's hash", "…", "64 hexadecimal digits"))?;
        Ok(Self(hash))
    }
}
