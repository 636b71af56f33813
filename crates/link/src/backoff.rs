//! When to dial again. Pure: random bits are an argument.
//!
//! Full jitter (anything between nothing and the ceiling) spreads a thousand agents that lost
//! the same server at the same moment; equal steps or half jitter would leave waves.

use lattice_model::Duration;

/// The ceiling of the first pause.
pub const BASE: Duration = Duration::from_millis(250);
/// The ceiling of every pause.
pub const CAP: Duration = Duration::from_secs(30);
/// A session that lived so long was good: the next failure is a new story.
pub const GOOD_SESSION: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause before the next attempt. `random` are 64 uniform bits. A server's `retry_after`
    /// is a lower bound, with jitter on top so that those it sent away do not return together.
    pub fn next(&mut self, random: u64, retry_after: Option<Duration>) -> Duration {
        let ceiling = BASE.0.saturating_mul(1 << self.failures.min(20)).min(CAP.0);
        self.failures = self.failures.saturating_add(1);
        let (floor, ceiling) = match retry_after {
            Some(after) => (after.0, ceiling.max(after.0.min(CAP.0))),
            None => (0, ceiling),
        };
        // Multiplying and shifting maps the bits onto 0..=ceiling without the bias of a remainder.
        let jitter = (u128::from(random) * (u128::from(ceiling) + 1)) >> 64;
        Duration(floor.saturating_add(u64::try_from(jitter).unwrap_or(ceiling)))
    }

    /// Tells how long the session that just ended had lived, from Welcome on.
    pub fn session_lived(&mut self, lived: Duration) {
        if lived >= GOOD_SESSION {
            self.failures = 0;
        }
    }

    /// Failures since the last good session.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_stay_within_their_ceiling(randoms in prop::collection::vec(any::<u64>(), 1..40), after in prop::option::of(0u64..100_000)) {
            let mut backoff = Backoff::default();
            for (n, random) in randoms.into_iter().enumerate() {
                let ceiling = (BASE.0 << n.min(20)).min(CAP.0);
                let pause = backoff.next(random, after.map(Duration)).0;
                match after {
                    None => prop_assert!(pause <= ceiling),
                    Some(after) => prop_assert!((after..=after + ceiling.max(after.min(CAP.0))).contains(&pause)),
                }
            }
        }
    }

    #[test]
    fn jitter_is_full_and_a_good_session_starts_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..30 {
            assert_eq!(backoff.clone().next(0, None), Duration(0));
            backoff.next(u64::MAX, None);
        }
        assert_eq!(backoff.next(u64::MAX, None), CAP);
        backoff.session_lived(Duration::from_secs(59));
        assert_eq!(backoff.next(u64::MAX, None), CAP);
        backoff.session_lived(Duration::from_secs(60));
        assert_eq!(backoff.next(u64::MAX, None), BASE);
    }
}
