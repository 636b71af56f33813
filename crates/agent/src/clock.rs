//! The one place where the agent reads clocks and draws random bits.

use lattice_model::{Duration, Timestamp};
use lattice_rules::Moment;
use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Now, by the system's clock.
pub(crate) fn now() -> Timestamp {
    let millis = |span: std::time::Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

/// Since the machine started, asleep or awake: nobody sets this clock, and it never goes back.
pub(crate) fn boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration(secs * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Now, by both clocks.
pub(crate) fn moment() -> Moment {
    Moment { wall: now(), boot: boot(), boot_id: crate::facts::boot_id() }
}

/// The time zone of this machine, by its name.
pub(crate) fn zone() -> Option<String> {
    let zone = jiff::tz::TimeZone::try_system().ok()?;
    zone.iana_name().map(ToOwned::to_owned)
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

/// What time it is at the server, as far as that can be known: it says so when a session begins, and
/// from then on the clock that nobody sets goes on from there. So a jump of this machine's clock is
/// seen without another word of the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerClock(Arc<Mutex<Option<Anchor>>>);

#[derive(Clone, Copy, Debug)]
struct Anchor {
    server: Timestamp,
    boot: Duration,
    /// Between the question and the answer.
    took: Duration,
}

impl ServerClock {
    /// The server said that it is `server`, between `asked` and now.
    pub(crate) fn set(&self, server: Timestamp, asked: Duration, now: Duration) {
        let took = Duration(now.0.saturating_sub(asked.0));
        *self.0.lock() = Some(Anchor { server, boot: Duration(asked.0 + took.0 / 2), took });
    }

    /// How far this machine's clock is ahead, and how far that may be wrong, in milliseconds.
    pub(crate) fn ahead(&self) -> Option<(i64, u64)> {
        self.ahead_at(now(), boot())
    }

    fn ahead_at(&self, now: Timestamp, boot: Duration) -> Option<(i64, u64)> {
        let anchor = (*self.0.lock())?;
        let passed = i64::try_from(boot.0.saturating_sub(anchor.boot.0)).unwrap_or(i64::MAX);
        // Clocks of computers drift by less than 200 millionths.
        let drift = passed.unsigned_abs() / 5000;
        Some((now.0 - anchor.server.0.saturating_add(passed), anchor.took.0 / 2 + drift))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_is_seen_without_asking_again() {
        let clock = ServerClock::default();
        assert_eq!(clock.ahead(), None);
        let (at, boot) = (Timestamp(1_000_000), Duration(5000));
        clock.set(Timestamp(at.0 + 50), boot, Duration(boot.0 + 100));
        let ahead = |millis: i64, passed: u64| {
            clock.ahead_at(Timestamp(at.0 + 50 + millis), Duration(boot.0 + 50 + passed)).unwrap()
        };
        assert_eq!(ahead(0, 0), (0, 50));
        assert_eq!(ahead(10_000, 10_000), (0, 52));
        assert_eq!(ahead(3_610_000, 10_000).0, 3_600_000);
        assert_eq!(ahead(-3_590_000, 10_000).0, -3_600_000);
        // A day later the line's slowness is the least of what one does not know.
        assert_eq!(ahead(86_400_000, 86_400_000), (0, 50 + 17_280));
    }

    #[test]
    fn the_clock_that_nobody_sets_goes_on() {
        let first = super::boot();
        assert!(first.0 > 0 && super::boot() >= first);
    }
}
