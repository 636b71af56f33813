//! What one source address may take, so that a single machine with a loop does not keep all
//! others out: a share of the handshakes, in number and in rate, and of the places without a
//! certificate. Sessions of nodes that showed one are not counted here, since an office full of
//! machines has one address; what one node may open is [`super::registry`]'s to bound.
//!
//! An address is known only while it has a connection that has not shown a certificate, or has
//! used some of its share lately. Both are bounded by what is admitted at all, so the table is;
//! [`MOST`] is the wall behind that.

use super::admission::{Bucket, Limits};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Addresses that are remembered at a time; who comes beyond is refused.
const MOST: usize = 16 << 10;
/// How many there are before it is looked which can be forgotten.
const TIDY_FROM: usize = 1 << 10;

/// The share of one address.
pub(crate) struct Share {
    bucket: Mutex<Bucket>,
    /// TLS handshakes that run at the same time.
    pub(super) handshakes: Arc<Semaphore>,
    /// Open connections without a client certificate.
    pub(super) uncertified: Arc<Semaphore>,
}

/// The shares by address.
pub(crate) struct Addresses {
    rate: u32,
    burst: u32,
    handshakes: usize,
    uncertified: usize,
    shares: HashMap<IpAddr, Arc<Share>>,
    tidy_at: usize,
}

impl Addresses {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            rate: limits.address_handshakes_per_second,
            burst: limits.address_handshake_burst,
            handshakes: limits.address_concurrent_handshakes.min(Semaphore::MAX_PERMITS),
            uncertified: limits.max_uncertified_per_address.min(Semaphore::MAX_PERMITS),
            shares: HashMap::new(),
            tidy_at: TIDY_FROM,
        }
    }

    /// A turn of both buckets, that of the address and that of all, or of neither.
    pub(super) fn take(
        &mut self,
        ip: IpAddr,
        all: &mut Bucket,
        now: Instant,
        max_wait: Duration,
    ) -> Option<(Arc<Share>, Duration)> {
        let mut all_after = all.clone();
        // First, so that a flood from many addresses does not even look into the table.
        let general = all_after.take(now, max_wait)?;
        let share = self.share(ip, now)?;
        let own = share.bucket.lock().take(now, max_wait)?;
        *all = all_after;
        Some((share, own.max(general)))
    }

    fn share(&mut self, ip: IpAddr, now: Instant) -> Option<Arc<Share>> {
        let ip = household(ip);
        if let Some(share) = self.shares.get(&ip) {
            return Some(Arc::clone(share));
        }
        if self.shares.len() >= self.tidy_at {
            self.shares.retain(|_, share| Arc::strong_count(share) > 1 || !share.bucket.lock().is_full(now));
            // Looked through again once it has doubled, so that each newcomer pays for a few.
            self.tidy_at = (2 * self.shares.len()).clamp(TIDY_FROM, MOST);
        }
        if self.shares.len() >= MOST {
            return None;
        }
        let share = Arc::new(Share {
            bucket: Mutex::new(Bucket::new(self.rate, self.burst)),
            handshakes: Arc::new(Semaphore::new(self.handshakes)),
            uncertified: Arc::new(Semaphore::new(self.uncertified)),
        });
        self.shares.insert(ip, Arc::clone(&share));
        Some(share)
    }
}

/// Whom an address belongs to: with IPv6 everybody has 2^64 of them.
fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_takes_its_share_and_leaves_the_rest() {
        let limits = Limits {
            handshakes_per_second: 10,
            handshake_burst: 10,
            address_handshakes_per_second: 5,
            address_handshake_burst: 2,
            ..Limits::default()
        };
        let (mut addresses, mut all) = (Addresses::new(&limits), Bucket::new(10, 10));
        let now = Instant::now();
        let mut turns = |from: &str, n: usize| -> Vec<u128> {
            let take = |_| addresses.take(ip(from), &mut all, now, WAIT).map(|(_, wait)| wait.as_millis());
            (0..n).filter_map(take).collect()
        };
        assert_eq!(turns("10.0.0.1", 100), [0, 0, 200, 400, 600, 800, 1000]);
        // What was refused took nothing of what is everybody's.
        assert_eq!(turns("10.0.0.2", 3), [0, 0, 200]);
        // One machine with many addresses is one.
        assert_eq!(turns("::ffff:10.0.0.2", 1), [400]);
        assert_eq!(turns("2001:db8::1", 2), [200, 300]);
        let more = [turns("2001:db8::ffff:2", 9).len(), turns("2001:db8:0:1::1", 9).len()];
        assert_eq!(more, [5, 2], "the sum is bounded all the same");
    }

    #[test]
    fn addresses_that_rest_are_forgotten_and_never_too_many_known() {
        let limits = Limits { address_handshakes_per_second: 1, ..Limits::default() };
        let mut addresses = Addresses::new(&limits);
        let start = Instant::now();
        let mut come = |n: u32, now: Instant| {
            let taken = addresses.take(
                Ipv6Addr::from_bits(u128::from(n) << 64).into(),
                &mut Bucket::new(1_000_000, 1_000_000),
                now,
                WAIT,
            );
            (taken.map(|(share, _)| share), addresses.shares.len())
        };
        let kept = come(0, start).0;
        for n in 1..MOST as u32 {
            assert!(come(n, start).0.is_some());
        }
        assert!(come(MOST as u32, start).0.is_none(), "there is a wall");
        let (taken, known) = come(MOST as u32, start + Duration::from_secs(1));
        assert!(taken.is_some());
        assert_eq!(known, 2, "the one that still has a connection, and the new one");
        assert!(Arc::ptr_eq(&kept.unwrap(), &come(0, start + Duration::from_secs(1)).0.unwrap()));
    }
}
