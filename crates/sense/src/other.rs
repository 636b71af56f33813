//! Systems on which nothing is measured: neither Linux nor Windows nor macOS.

use crate::{Counters, Heat, Power, Sensors, System};
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;

const WHY: &str = "it is not measured on this operating system";

impl Sensors for System {
    fn power(&self) -> Power {
        Power {
            source: Reading::unknown(WHY),
            charge: Reading::unknown(WHY),
            has_battery: Reading::unknown(WHY),
        }
    }

    fn heat(&self) -> Heat {
        Heat { hottest: Reading::unknown(WHY), fan: Reading::unknown(WHY) }
    }

    fn idle(&self, _now: Timestamp) -> Reading<Duration> {
        Reading::unknown(WHY)
    }

    fn metered(&self) -> Reading<bool> {
        Reading::unknown(WHY)
    }

    fn traffic(&self) -> Reading<Counters> {
        Reading::unknown(WHY)
    }
}
