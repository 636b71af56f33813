//! How much a machine has sent and received in a month, across reboots: counters begin at nothing with
//! each start of the machine, so what they say is added up and kept.

use crate::Counters;
use lattice_model::{Bytes, Timestamp};
use serde::{Deserialize, Serialize};

/// What was counted. The shell keeps it on disk; between two writes a crash loses nothing but what came
/// in between, and a reboot that the agent did not see is counted from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataUse {
    /// Which month: when it began.
    pub month: Timestamp,
    /// So much, in it.
    pub used: Bytes,
    boot_id: String,
    last: Counters,
}

impl DataUse {
    /// Takes in what the counters say now, in the month that began at `month`.
    pub fn add(&mut self, counters: &Counters, boot_id: &str, month: Timestamp) {
        let first = self.boot_id.is_empty();
        let same_boot = self.boot_id == boot_id;
        let mut more: u64 = 0;
        for (name, now) in counters {
            let before = if same_boot { self.last.get(name).copied() } else { None };
            // Before the first look nobody knows in which month it was.
            let since = match before {
                Some(before) if before <= *now => now - before,
                _ if first => 0,
                _ => *now,
            };
            more = more.saturating_add(since);
        }
        if self.month != month {
            self.month = month;
            self.used = Bytes(0);
        }
        self.used = Bytes(self.used.0.saturating_add(more));
        boot_id.clone_into(&mut self.boot_id);
        if same_boot {
            // One that is gone for a moment goes on counting where it was.
            self.last.extend(counters.iter().map(|(name, now)| (name.clone(), *now)));
        } else {
            self.last = counters.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_across_reboots_and_months() {
        let counters =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let mut data = DataUse::default();
        let mut add = |pairs: &[(&str, u64)], boot: &str, month: i64| {
            data.add(&counters(pairs), boot, Timestamp(month));
            data.used.0
        };
        assert_eq!(add(&[("eth0", 1000)], "a", 1), 0, "what was before is not known");
        assert_eq!(add(&[("eth0", 1500)], "a", 1), 500);
        assert_eq!(add(&[("eth0", 1500), ("usb0", 40)], "a", 1), 540, "one that came just now");
        assert_eq!(add(&[("eth0", 1600)], "a", 1), 640);
        assert_eq!(add(&[("eth0", 1600), ("usb0", 50)], "a", 1), 650, "and was away for a moment");
        assert_eq!(add(&[("eth0", 100)], "b", 1), 750, "a reboot");
        assert_eq!(add(&[("eth0", 30)], "b", 1), 780, "an interface that was made anew");
        assert_eq!(add(&[("eth0", 60)], "b", 2), 30, "another month");
    }
}
