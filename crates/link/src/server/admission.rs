//! Who gets in, and how fast: after an outage every agent comes back at once, and a handshake
//! costs a thousand times what a heartbeat does.
//!
//! The gates of one connection, in order: a place among all connections; a token of its address's
//! bucket and of that of all, waited for in a bounded time; a place among the handshakes of its
//! address and of all; and likewise among those without a certificate. Then, for a session: a place among all sessions, and one among those
//! that are being opened. Before TLS a refusal is a closed socket; after, a Goodbye with a time.

use super::addresses::{Addresses, Share};
use crate::ended::KeepAlive;
use parking_lot::Mutex;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

/// The bounds of a [`super::LinkServer`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections, control and bulk together.
    pub max_connections: usize,
    /// Open connections without a client certificate.
    pub max_uncertified: usize,
    /// The same, from one source address: machines behind one router that wait for approval at
    /// the same time. With IPv6, the first 64 bits count, here and below.
    pub max_uncertified_per_address: usize,
    /// Open connections with the key of one node; one more cuts the oldest, which most often is
    /// what a lost network left behind.
    pub max_connections_per_key: usize,
    /// Open sessions.
    pub max_sessions: usize,
    /// TLS handshakes in a second, on the average.
    pub handshakes_per_second: u32,
    /// TLS handshakes at once after a quiet time.
    pub handshake_burst: u32,
    /// TLS handshakes in a second from one source address, on the average.
    pub address_handshakes_per_second: u32,
    /// TLS handshakes at once from one source address after a quiet time.
    pub address_handshake_burst: u32,
    /// How long a connection waits for its turn; with the rate, the bound of the queue.
    pub max_handshake_wait: Duration,
    /// TLS handshakes that run at the same time.
    pub concurrent_handshakes: usize,
    /// The same, from one source address.
    pub address_concurrent_handshakes: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the first call, and the first message of a call, may take.
    pub first_message_timeout: Duration,
    /// Sessions between Hello and Welcome at the same time.
    pub max_opening: usize,
    /// How long a Hello waits for its turn.
    pub max_opening_wait: Duration,
    /// When an agent that was sent away for [`crate::code::BUSY`] should come back.
    pub busy_retry_after: Duration,
    /// How long a connection without a client certificate may last; a request to join that
    /// still waits is made again by the agent.
    pub uncertified_life: Duration,
    /// How a silent agent is noticed.
    pub keepalive: KeepAlive,
    /// HTTP/2 window of a stream and of a connection, in bytes: what an agent may have sent that
    /// nobody read yet.
    pub window: u32,
    /// How long handlers have to end at shutdown.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    /// For 10,000 nodes on one server: a storm of all of them is in after half a minute, for
    /// about a third of one core. One address has half of the handshakes: enough for some hundred
    /// machines behind one router, and as much is left for the others.
    fn default() -> Self {
        Self {
            max_connections: 25_000,
            max_uncertified: 1_000,
            max_uncertified_per_address: 64,
            // A session and its streams, twice: the old pair may not know yet that its network is gone.
            max_connections_per_key: 4,
            max_sessions: 12_000,
            handshakes_per_second: 400,
            handshake_burst: 100,
            address_handshakes_per_second: 200,
            address_handshake_burst: 50,
            max_handshake_wait: Duration::from_secs(5),
            concurrent_handshakes: 64,
            address_concurrent_handshakes: 32,
            handshake_timeout: Duration::from_secs(10),
            first_message_timeout: Duration::from_secs(10),
            max_opening: 64,
            max_opening_wait: Duration::from_secs(5),
            busy_retry_after: Duration::from_secs(5),
            uncertified_life: Duration::from_secs(600),
            keepalive: KeepAlive::default(),
            window: 64 << 10,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// A token bucket that hands out turns in the future. Pure: now is an argument.
#[derive(Clone, Debug)]
pub struct Bucket {
    step: Duration,
    burst: u32,
    /// When the bucket will be full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// `rate` in a second (at least 1), and `burst` at once (at least 1).
    pub fn new(rate: u32, burst: u32) -> Self {
        Self { step: Duration::from_secs(1) / rate.max(1), burst: burst.max(1), full_at: None }
    }

    /// How long to wait for a turn, taken now; `None` when that is more than `max_wait`, and
    /// then none is taken.
    pub fn take(&mut self, now: Instant, max_wait: Duration) -> Option<Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + self.step;
        let wait = full_at.duration_since(now).saturating_sub(self.step * self.burst);
        if wait > max_wait {
            return None;
        }
        self.full_at = Some(full_at);
        Some(wait)
    }

    /// Whether nothing was taken for so long that it is as good as new.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

/// A connection's place and turn.
pub(crate) struct Ticket {
    pub(super) place: OwnedSemaphorePermit,
    pub(super) share: Arc<Share>,
    pub(super) wait: Duration,
}

pub(crate) struct Admission {
    max_wait: Duration,
    turns: Mutex<(Bucket, Addresses)>,
    places: Arc<Semaphore>,
    pub(super) handshakes: Arc<Semaphore>,
    uncertified: Arc<Semaphore>,
    pub(super) sessions: Arc<Semaphore>,
    pub(super) opening: Arc<Semaphore>,
    refused: AtomicU64,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        let semaphore = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        Self {
            max_wait: limits.max_handshake_wait,
            turns: Mutex::new((
                Bucket::new(limits.handshakes_per_second, limits.handshake_burst),
                Addresses::new(limits),
            )),
            places: semaphore(limits.max_connections),
            handshakes: semaphore(limits.concurrent_handshakes),
            uncertified: semaphore(limits.max_uncertified),
            sessions: semaphore(limits.max_sessions),
            opening: semaphore(limits.max_opening),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn admit(&self, addr: SocketAddr) -> Option<Ticket> {
        let ticket = self.places.clone().try_acquire_owned().ok().and_then(|place| {
            let (all, addresses) = &mut *self.turns.lock();
            let (share, wait) = addresses.take(addr.ip(), all, Instant::now(), self.max_wait)?;
            Some(Ticket { place, share, wait })
        });
        if ticket.is_none() {
            self.note_refused(addr);
        }
        ticket
    }

    /// A place among those without a certificate, of the address and of all.
    pub(super) fn admit_uncertified(
        &self,
        addr: SocketAddr,
        share: &Share,
    ) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = share.uncertified.clone().try_acquire_owned().ok();
        let both = own.zip(self.uncertified.clone().try_acquire_owned().ok());
        if both.is_none() {
            self.note_refused(addr);
        }
        both.map(Into::into)
    }

    /// One line for the powers of two: a storm must not become a storm of log lines.
    fn note_refused(&self, addr: SocketAddr) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if refused.is_power_of_two() {
            warn!(refused, last = %addr, "connections of agents were closed unheard, more came than are admitted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_nobody_waits_longer(
            rate in 1u32..1000, burst in 1u32..50, gaps in prop::collection::vec(0u64..20, 1..300),
        ) {
            let max_wait = Duration::from_millis(200);
            let mut bucket = Bucket::new(rate, burst);
            let start = Instant::now();
            let mut now = start;
            let mut turns = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Some(wait) = bucket.take(now, max_wait) {
                    prop_assert!(wait <= max_wait);
                    turns.push(now + wait);
                }
            }
            prop_assert!(turns.is_sorted(), "turns are taken in the order of arrival");
            let step = Duration::from_secs(1) / rate;
            for window in turns.windows(burst as usize + 1) {
                prop_assert!(window[burst as usize] - window[0] >= step - Duration::from_nanos(1), "no burst beyond the bucket");
            }
        }
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut bucket = Bucket::new(10, 2);
        let now = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| bucket.take(now, Duration::from_millis(200))).collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(waits, [ms(0), ms(0), ms(100), ms(200), None]);
        assert_eq!(bucket.take(now + Duration::from_millis(100), Duration::from_millis(200)), ms(200));
    }
}
