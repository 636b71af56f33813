//! Half hours of the day and of the week, on a node's own clock.

use lattice_model::Timestamp;
use serde::{Deserialize, Serialize};

/// Milliseconds of a slot, half an hour.
pub(crate) const SLOT: i64 = 30 * 60 * 1000;
/// Slots of a day.
pub(crate) const DAY: usize = 48;
/// Slots of a week.
pub(crate) const WEEK: usize = 7 * DAY;
/// Slots between the Monday before 1970 and its first of January, a Thursday.
const MONDAY: i64 = 3 * DAY as i64;

/// How far a node's clock is ahead of UTC, in minutes. Who moves it for summer is seen to leave an hour earlier for some
/// days, as what was counted fades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone(pub i16);

impl Zone {
    fn slots_since_epoch(self, at: Timestamp) -> i64 {
        at.0.saturating_add(i64::from(self.0) * 60_000).div_euclid(SLOT)
    }

    /// The slot of the week, the first begins on Monday at 0:00.
    pub(crate) fn slot(self, at: Timestamp) -> usize {
        usize::try_from((self.slots_since_epoch(at) + MONDAY).rem_euclid(WEEK as i64)).unwrap_or(0)
    }

    /// When the slot ends.
    pub(crate) fn slot_end(self, at: Timestamp) -> Timestamp {
        Timestamp((self.slots_since_epoch(at) + 1) * SLOT - i64::from(self.0) * 60_000)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_week_begins_on_monday_by_the_nodes_own_clock() {
        // 2026-11-23 00:00 UTC, a Monday.
        let monday = Timestamp(1_795_392_000_000);
        assert_eq!(Zone(0).slot(monday), 0);
        assert_eq!(Zone(60).slot(monday), 2);
        assert_eq!(Zone(-60).slot(monday), WEEK - 2);
        assert_eq!(Zone(0).slot(Timestamp(monday.0 - 1)), WEEK - 1);
        assert_eq!(Zone(0).slot_end(monday).0, monday.0 + SLOT);
        assert_eq!(Zone(345).slot_end(monday).0, monday.0 + 15 * 60_000, "quarters, as in Nepal");
    }
}
