//! The time by which a store without a clock of its own ends leases. A part whose database has a
//! clock (PostgreSQL) uses that one, and not this.

use lattice_model::{Duration, Timestamp};
use parking_lot::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Two clocks: one that never goes back and one that outlives the process.
pub trait Clock: Send + Sync + 'static {
    /// Time since some instant before the store was opened; never goes back.
    fn elapsed(&self) -> Duration;
    /// The wall clock; may jump either way.
    fn wall(&self) -> Timestamp;
}

/// The machine's clocks. Time asleep does not count in `elapsed`; the holders of an embedded
/// store's leases are tasks of the same process and sleep with it.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts at zero now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn elapsed(&self) -> Duration {
        Duration(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Clocks that stand still until somebody moves them, for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Duration, Timestamp)>);

impl ManualClock {
    /// Both clocks at a start.
    pub fn new(wall: Timestamp) -> Self {
        Self(Mutex::new((Duration(0), wall)))
    }

    /// Both clocks go on by `span`.
    pub fn pass(&self, span: Duration) {
        let mut now = self.0.lock();
        *now = (Duration(now.0.0 + span.0), now.1 + span);
    }

    /// The wall clock alone is set, as by a person or by NTP.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.lock().1 = wall;
    }
}

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        self.0.lock().0
    }

    fn wall(&self) -> Timestamp {
        self.0.lock().1
    }
}
