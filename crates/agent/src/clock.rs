//! The one place where the agent reads the clock and draws random bits.

use lattice_model::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, by the system's clock.
pub(crate) fn now() -> Timestamp {
    let millis = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

/// 64 random bits. Where the system gives none (early boot), the clock's nanoseconds serve: no
/// secret is drawn here, only jitter, ports and names.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(7, |span| span.as_nanos());
        (nanos as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

/// 128 random bits.
pub(crate) fn random_wide() -> u128 {
    u128::from(random()) << 64 | u128::from(random())
}
