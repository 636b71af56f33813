//! Prefix, base64url, checksum: the outside that all kinds of token share.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use lattice_model::TokenId;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The longest token, in characters.
pub const MAX_TOKEN: usize = 2048;
/// 48 bits: a random error passes once in 2.8e14.
const CHECKSUM: usize = 6;

/// Why a text is not a token. The text is never repeated: most of it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenParseError {
    /// It has another beginning.
    #[error(
        "this is not {wanted}: one begins with `{prefix}`; copy the whole line that was printed when it was made"
    )]
    OtherKind {
        /// What was wanted, e.g. "a join token".
        wanted: &'static str,
        /// How that begins.
        prefix: &'static str,
    },
    /// Longer than [`MAX_TOKEN`].
    #[error("the token is too long: at most 2048 characters; copy only the token's own line")]
    TooLong,
    /// The checksum does not fit.
    #[error("the token is incomplete or has a typo; copy it again as a whole, or make a new one")]
    Damaged,
    /// The checksum fits and the contents do not.
    #[error(
        "the token was made by a version that this one does not know; update this program, or make a new token"
    )]
    Unknown,
}

pub(super) fn encode(prefix: &str, payload: &[u8]) -> Zeroizing<String> {
    let mut whole = Zeroizing::new(Vec::with_capacity(payload.len() + CHECKSUM));
    whole.extend_from_slice(payload);
    whole.extend_from_slice(&checksum(prefix, payload));
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + whole.len() * 4 / 3 + 4));
    text.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(&*whole, &mut text);
    text
}

pub(super) fn decode(
    wanted: &'static str,
    prefix: &'static str,
    text: &str,
) -> Result<Zeroizing<Vec<u8>>, TokenParseError> {
    let text = text.trim();
    if text.len() > MAX_TOKEN {
        return Err(TokenParseError::TooLong);
    }
    let body = text.strip_prefix(prefix).ok_or(TokenParseError::OtherKind { wanted, prefix })?;
    let mut payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenParseError::Damaged)?);
    let length = payload.len().checked_sub(CHECKSUM).ok_or(TokenParseError::Damaged)?;
    if payload[length..] != checksum(prefix, &payload[..length]) {
        return Err(TokenParseError::Damaged);
    }
    payload.truncate(length);
    Ok(payload)
}

fn checksum(prefix: &str, payload: &[u8]) -> [u8; CHECKSUM] {
    let digest: [u8; 32] = Sha256::new().chain_update(prefix).chain_update(payload).finalize().into();
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&digest[..CHECKSUM]);
    sum
}

/// Reads fixed parts off a payload.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], TokenParseError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(TokenParseError::Unknown)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], TokenParseError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// Any 16 bytes; the id's own constructor for random bits would set version bits.
    pub(super) fn token_id(&mut self) -> Result<TokenId, TokenParseError> {
        hex::encode(self.array::<16>()?).parse().map_err(|_| TokenParseError::Unknown)
    }

    pub(super) fn end(self) -> Result<(), TokenParseError> {
        if self.0.is_empty() { Ok(()) } else { Err(TokenParseError::Unknown) }
    }
}
