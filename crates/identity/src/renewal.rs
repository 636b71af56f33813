//! When to renew a certificate: from half of its life on, spread by jitter.
//!
//! Half, so that a day's certificate survives a server that is away for a night; the spread, so
//! that a fleet that enrolled together does not renew together. Pure: time and jitter are inputs.

use crate::CLOCK_SKEW;
use lattice_model::{Duration, Timestamp};

/// What to do about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Good; look again at that instant.
    Wait {
        /// When renewal is due.
        until: Timestamp,
    },
    /// Renew over the present link.
    Due,
    /// Past its end: renew by the registered key ([`crate::challenge`]).
    Expired,
    /// It begins in the future by more than [`CLOCK_SKEW`]: this machine's clock is behind.
    ClockBehind,
}

/// Decides for a certificate valid from `not_before` to `not_after`. `jitter` is any random
/// number, drawn once per certificate: it places the renewal between 50 % and 60 % of the life.
pub fn decide(not_before: Timestamp, not_after: Timestamp, now: Timestamp, jitter: u32) -> Renewal {
    if now + CLOCK_SKEW < not_before {
        return Renewal::ClockBehind;
    }
    if now >= not_after {
        return Renewal::Expired;
    }
    let life = not_after.since(not_before).0;
    let spread = u64::try_from((u128::from(life / 10) * u128::from(jitter)) >> 32).unwrap_or(0);
    let due = not_before + Duration(life / 2 + spread);
    if now >= due { Renewal::Due } else { Renewal::Wait { until: due } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn the_life_of_a_certificate() {
        let decide = |now| decide(Timestamp(0), Timestamp(DAY), Timestamp(now), 0);
        assert_eq!(decide(-300_001), Renewal::ClockBehind);
        assert_eq!(decide(0), Renewal::Wait { until: Timestamp(DAY / 2) });
        assert_eq!(decide(DAY / 2), Renewal::Due);
        assert_eq!(decide(DAY), Renewal::Expired);
    }

    proptest! {
        #[test]
        fn renewal_is_due_between_half_and_six_tenths(start in -DAY..DAY * 20_000, life in 2_000i64..DAY * 400, jitter: u32) {
            let end = Timestamp(start + life);
            let Renewal::Wait { until } = decide(Timestamp(start), end, Timestamp(start), jitter) else {
                panic!("a fresh certificate waits")
            };
            prop_assert!(until.0 >= start + life / 2 && until.0 <= start + life / 2 + life / 10);
            prop_assert_eq!(decide(Timestamp(start), end, until, jitter), Renewal::Due);
        }
    }
}
