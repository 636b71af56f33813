//! Waiting for a condition, never for a time.

use std::{
    fmt::Debug,
    thread::sleep,
    time::{Duration, Instant},
};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until `look` gives something; `Err` is what was seen instead, which the panic shows.
///
/// # Panics
/// After `patience`, with `what` and what was seen last.
#[track_caller]
pub fn until<T, E: Debug>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > patience => {
                panic!("not after {patience:?}: {what}; seen instead: {seen:#?}")
            }
            Err(_) => sleep(LOOK),
        }
    }
}

/// Looks until it is so.
///
/// # Panics
/// After [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    until(what, PATIENCE, || if look() { Ok(()) } else { Err("no") });
}
