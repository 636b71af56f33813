//! Why a machine stands still. One reason is given at a time, the first one of [`Reason::ALL`] that
//! holds; the codes are a promise to programs.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why nothing runs, or nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The owner said so.
    Paused,
    /// The owner's rules cannot be read.
    RulesBroken,
    /// The owner's network cannot be closed to containers.
    LanNotClosed,
    /// Not in the owner's hours.
    OutsideHours,
    /// Too hot.
    Hot,
    /// The battery is low.
    BatteryLow,
    /// On battery.
    OnBattery,
    /// Somebody uses it.
    UserActive,
    /// Too loud.
    Loud,
    /// The way out is paid by volume.
    Metered,
    /// The month's data is used up.
    DataUsedUp,
    /// The owner wants it to end what it has begun. It is no suspension: what runs, runs on.
    Finishing,
}

impl Reason {
    /// In the order in which one outranks the other: what the owner says now, what protects the owner's
    /// network, what the owner said about time, what protects the machine, what protects the user.
    pub const ALL: [Self; 12] = [
        Self::Paused,
        Self::RulesBroken,
        Self::LanNotClosed,
        Self::OutsideHours,
        Self::Hot,
        Self::BatteryLow,
        Self::OnBattery,
        Self::UserActive,
        Self::Loud,
        Self::Metered,
        Self::DataUsedUp,
        Self::Finishing,
    ];

    /// For programs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::RulesBroken => "rules_broken",
            Self::LanNotClosed => "lan_not_closed",
            Self::OutsideHours => "outside_hours",
            Self::Hot => "hot",
            Self::BatteryLow => "battery_low",
            Self::OnBattery => "on_battery",
            Self::UserActive => "user_active",
            Self::Loud => "loud",
            Self::Metered => "metered",
            Self::DataUsedUp => "data_used_up",
            Self::Finishing => "finishing",
        }
    }

    /// What is the case, in general.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Paused => "the owner paused it",
            Self::RulesBroken => "the owner's rules cannot be read, so nothing runs until they can",
            Self::LanNotClosed => {
                "the owner's network cannot be closed to containers, so nothing runs until it can"
            }
            Self::OutsideHours => "it is outside of the owner's hours",
            Self::Hot => "the machine is too hot",
            Self::BatteryLow => "the battery is low",
            Self::OnBattery => "the machine runs on battery",
            Self::UserActive => "somebody uses the machine",
            Self::Loud => "the fans are too loud",
            Self::Metered => "the network is metered",
            Self::DataUsedUp => "the month's data is used up",
            Self::Finishing => "the owner wants it to end its jobs and take nothing new",
        }
    }

    /// What the owner can do about it.
    pub const fn todo(self) -> &'static str {
        match self {
            Self::Paused => "`lattice-agent resume` ends the pause",
            Self::RulesBroken => "correct rules.toml; `lattice-agent rules show` names the mistake",
            Self::LanNotClosed => {
                "run the agent as root with nft installed; or set lan.access = \"open\", and containers reach your network"
            }
            Self::OutsideHours => "wait, or change [hours] in the rules",
            Self::Hot => "let it cool down; [temperature] in the rules has the limits",
            Self::BatteryLow => "charge it; [battery] in the rules has the limits",
            Self::OnBattery => "plug it in, or set battery.run = \"always\"",
            Self::UserActive => "wait until nobody uses it, or set user.stop_when_active = false",
            Self::Loud => "let it cool down; [noise] in the rules has the limits",
            Self::Metered => "use another network, or set network.metered = \"run\"",
            Self::DataUsedUp => "wait for the next month, or raise caps.data_per_month",
            Self::Finishing => "`lattice-agent resume` takes new work again",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_types_and_codes_are_those_of_json() {
        let mut sorted = Reason::ALL;
        sorted.sort_unstable();
        assert_eq!(sorted, Reason::ALL);
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.code()));
        }
    }
}
