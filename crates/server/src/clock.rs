//! The one place where the server reads the clock and draws random numbers.

use lattice_model::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Fresh random bytes.
///
/// # Panics
/// When the operating system has no randomness: no key, id or token could be made, and going on
/// without would make guessable ones.
#[allow(clippy::expect_used)]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// 128 fresh random bits, for ids.
pub(crate) fn random_bits() -> u128 {
    u128::from_be_bytes(random())
}
