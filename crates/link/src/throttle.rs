//! How fast streams may send and receive: one count each way, which all streams of a dialer share.
//!
//! Whoever has sent or received is told from when on it may again, so that bytes are counted as they are and not as they
//! were asked for. A reader that waits leaves what comes in the HTTP/2 window of its stream; pings pass.
//!
//! Rejected: counting on the socket, where a ping would wait behind what is held back, and the connection be taken for dead.

use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// What may pass at once after silence: so much time's worth.
const AHEAD: Duration = Duration::from_millis(250);

/// The most that all streams of a [`super::client::BulkDialer`] send and receive in a second; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Arc<Ways>);

#[derive(Debug, Default)]
struct Ways {
    up: Mutex<Way>,
    down: Mutex<Way>,
}

#[derive(Debug, Default)]
struct Way {
    /// Bytes a second, never none of them.
    rate: Option<u64>,
    /// When all that was counted has had its time.
    until: Option<Instant>,
}

impl Throttle {
    /// Limits from now on, in bytes a second; `None` is without a limit. What waits already, waits by the old one.
    pub fn set(&self, up: Option<u64>, down: Option<u64>) {
        for (way, rate) in [(&self.0.up, up), (&self.0.down, down)] {
            let mut way = way.lock();
            if way.rate != rate {
                *way = Way { rate: rate.map(|rate| rate.max(1)), until: None };
            }
        }
    }

    /// Waits until so many bytes may be sent.
    pub(crate) async fn send(&self, bytes: usize) {
        let at = self.0.up.lock().count(bytes);
        wait(at).await;
    }

    /// From when on more may be taken, after so many bytes came.
    pub(crate) fn received(&self, bytes: usize) -> Option<Instant> {
        self.0.down.lock().count(bytes)
    }
}

impl Way {
    fn count(&mut self, bytes: usize) -> Option<Instant> {
        let rate = self.rate?;
        let now = Instant::now();
        let earliest = now.checked_sub(AHEAD).unwrap_or(now);
        let begin = self.until.map_or(earliest, |until| until.max(earliest));
        let until = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.until = Some(until);
        (until > now).then_some(until)
    }
}

pub(crate) async fn wait(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn streams_together_keep_to_it_each_way() {
        let throttle = Throttle::default();
        let began = Instant::now();
        throttle.send(1 << 30).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "there is no limit");
        throttle.set(Some(1000), None);
        let streams = (0..4).map(|_| async {
            for _ in 0..10 {
                throttle.send(100).await;
            }
        });
        futures::future::join_all(streams).await;
        let took = began.elapsed();
        assert!((Duration::from_millis(3740)..Duration::from_millis(3760)).contains(&took), "{took:?}");
        assert_eq!(throttle.received(1 << 30), None, "the other way has none");
        // Silence is no credit.
        tokio::time::advance(Duration::from_secs(3600)).await;
        let began = Instant::now();
        throttle.send(1250).await;
        assert!((Duration::from_millis(995)..Duration::from_millis(1005)).contains(&began.elapsed()));
        throttle.set(Some(1000), Some(100));
        assert!(throttle.received(10).is_none() && throttle.received(100).is_some());
        throttle.set(None, None);
        assert_eq!(throttle.received(1 << 30), None);
    }
}
