//! How often somebody may try: a bounded table of buckets, with the time as argument.
//!
//! The generic cell rate algorithm: each key has one instant, up to which its tries are paid for. That
//! is the token bucket in eight bytes.

use lattice_model::{Duration, Timestamp};
use std::{collections::HashMap, hash::Hash};

/// So many at once, and one more each so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once; at least one.
    pub burst: u32,
    /// Until there is one more.
    pub every: Duration,
}

/// Counts tries by key.
#[derive(Debug)]
pub struct RateLimiter<K> {
    rate: Rate,
    most: usize,
    paid_until: HashMap<K, Timestamp>,
}

impl<K: Hash + Eq + Clone> RateLimiter<K> {
    /// Knows at most `most` keys; beyond, it forgets who waits the least.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most: most.max(1), paid_until: HashMap::new() }
    }

    /// Counts a try.
    ///
    /// # Errors
    /// How long to wait where there were too many; that try is not counted.
    pub fn check(&mut self, key: &K, now: Timestamp) -> Result<(), Duration> {
        let Rate { burst, every } = self.rate;
        let paid = self.paid_until.get(key).copied().unwrap_or(now).max(now);
        let ahead = Duration(every.0.saturating_mul(u64::from(burst.max(1)) - 1));
        let early = paid.since(now);
        if early > ahead {
            return Err(Duration(early.0 - ahead.0));
        }
        if self.paid_until.len() >= self.most && !self.paid_until.contains_key(key) {
            self.make_room(now);
        }
        self.paid_until.insert(key.clone(), paid + every);
        Ok(())
    }

    /// Forgives a key everything, e.g. after the right password.
    pub fn forget(&mut self, key: &K) {
        self.paid_until.remove(key);
    }

    fn make_room(&mut self, now: Timestamp) {
        self.paid_until.retain(|_, until| *until > now);
        if self.paid_until.len() >= self.most
            && let Some(least) =
                self.paid_until.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone())
        {
            self.paid_until.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { burst: 3, every: Duration::from_secs(10) };

    #[test]
    fn so_many_at_once_and_then_one_by_one() {
        let mut limiter = RateLimiter::new(RATE, 100);
        let mut at = |key, secs: i64| limiter.check(&key, Timestamp(secs * 1000));
        assert_eq!([at('a', 0), at('a', 0), at('a', 0)], [Ok(()); 3]);
        assert_eq!(at('a', 0), Err(Duration::from_secs(10)));
        assert_eq!(at('a', 4), Err(Duration::from_secs(6)), "a refused try costs nothing");
        assert_eq!(at('b', 4), Ok(()), "another key");
        assert_eq!(at('a', 10), Ok(()));
        assert_eq!(at('a', 10), Err(Duration::from_secs(10)));
        assert_eq!([at('a', 60), at('a', 60), at('a', 60)], [Ok(()); 3], "rested");
        limiter.forget(&'a');
        assert_eq!(limiter.check(&'a', Timestamp(60_000)), Ok(()));
    }

    proptest! {
        /// In any span no key gets more than the burst and what the span gives, and memory is bounded.
        #[test]
        fn never_more_than_the_rate(tries in proptest::collection::vec((0u8..4, 0i64..5_000), 1..200)) {
            let mut limiter = RateLimiter::new(RATE, 4);
            let (mut now, mut granted) = (0, std::collections::HashMap::<u8, Vec<i64>>::new());
            for (key, pause) in tries {
                now += pause;
                if limiter.check(&key, Timestamp(now)).is_ok() {
                    granted.entry(key).or_default().push(now);
                }
                prop_assert!(limiter.paid_until.len() <= 4);
            }
            for times in granted.values() {
                for (n, from) in times.iter().enumerate() {
                    for (m, to) in times.iter().enumerate().skip(n) {
                        let allowed = 3 + (to - from) / 10_000;
                        prop_assert!((m - n + 1) as i64 <= allowed, "{times:?}");
                    }
                }
            }
        }

        /// However many keys come, the table keeps its bound, and whoever waits longest is not forgotten.
        #[test]
        fn a_flood_of_keys_frees_nobody(keys in proptest::collection::vec(1u32..1000, 1..300)) {
            let mut limiter = RateLimiter::new(RATE, 16);
            for _ in 0..3 {
                limiter.check(&0, Timestamp(0)).unwrap();
            }
            for key in keys {
                let _ = limiter.check(&key, Timestamp(0));
                prop_assert!(limiter.paid_until.len() <= 16);
            }
            // Three tries ahead is the most there is, so ties may go; one try alone never pushes it out.
            prop_assert!(limiter.check(&0, Timestamp(0)).is_err() || limiter.paid_until.values().all(|until| until.0 >= 10_000));
        }
    }
}
