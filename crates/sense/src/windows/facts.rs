//! What the figures of Windows mean. Pure, so that it is tested on every system.

use crate::{Departure, Power};
use lattice_model::Duration;
use lattice_rules::{PowerSource, Reading};

/// `BatteryStatus` of `Windows.System.Power`: there is none.
const NO_BATTERY: i32 = 0;
/// `BatteryStatus`: it is used up.
const DISCHARGING: i32 = 1;
/// `PowerSupplyStatus` of `Windows.System.Power`: none is plugged in.
const NO_SUPPLY: i32 = 0;
/// `PowerSupplyStatus`: it gives less than the computer takes.
const INADEQUATE: i32 = 1;

/// What `PowerManager` says of power supply, battery and charge.
pub(crate) fn power(
    supply: Result<i32, String>,
    battery: Result<i32, String>,
    charge: Result<i32, String>,
) -> Power {
    let battery = match battery {
        Ok(battery) => battery,
        Err(why) => {
            return Power {
                source: Reading::unknown(why.clone()),
                charge: Reading::unknown(why.clone()),
                has_battery: Reading::unknown(why),
            };
        }
    };
    if battery == NO_BATTERY {
        // It would not run without mains.
        return Power {
            source: Reading::Known(PowerSource::Mains),
            charge: Reading::unknown("there is no battery"),
            has_battery: Reading::Known(false),
        };
    }
    let source = match supply {
        Ok(NO_SUPPLY) => Reading::Known(PowerSource::Battery),
        // Plugged in, and the battery is used up all the same.
        Ok(INADEQUATE) if battery == DISCHARGING => Reading::Known(PowerSource::Battery),
        Ok(_) => Reading::Known(PowerSource::Mains),
        Err(why) => Reading::unknown(why),
    };
    let charge = match charge {
        Ok(percent) => u8::try_from(percent.clamp(0, 100))
            .map_or_else(|_| Reading::unknown("the charge is no share"), Reading::Known),
        Err(why) => Reading::unknown(why),
    };
    Power { source, charge, has_battery: Reading::Known(true) }
}

/// `NetworkCostType` of the connection to the internet, whether it is roaming, and whether its volume is used up
/// (Windows.Networking.Connectivity.ConnectionCost).
pub(crate) fn metered(cost: i32, roaming: bool, over_limit: bool) -> Reading<bool> {
    match cost {
        _ if roaming || over_limit => Reading::Known(true),
        // Unrestricted.
        1 => Reading::Known(false),
        // Fixed: so much for so much money; variable: by the byte.
        2 | 3 => Reading::Known(true),
        _ => Reading::unknown("Windows does not know it"),
    }
}

/// Milliseconds between the last input and now. Input is stamped by a clock of 32 bits that begins anew every 49.7 days.
pub(crate) fn idle(last_input: u32, now: u64) -> Duration {
    let now = (now & u64::from(u32::MAX)) as u32;
    Duration(u64::from(now.wrapping_sub(last_input)))
}

/// What an event of `WM_POWERBROADCAST` says (winuser.h, `PBT_…`).
pub(crate) fn departure(event: u32) -> Option<Departure> {
    match event {
        // PBT_APMSUSPEND.
        0x4 => Some(Departure::Sleep),
        // PBT_APMRESUMEAUTOMATIC, after each sleep; PBT_APMRESUMESUSPEND follows where somebody is there, and says no more.
        0x12 => Some(Departure::Awake),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why() -> String {
        "Class not registered (0x80040154)".into()
    }

    #[test]
    fn power_is_what_windows_says() {
        let desktop = power(Ok(2), Ok(0), Ok(100));
        assert_eq!(desktop.source, Reading::Known(PowerSource::Mains));
        assert_eq!(desktop.has_battery, Reading::Known(false));
        assert_eq!(desktop.charge.known(), None);
        let unplugged = power(Ok(0), Ok(1), Ok(73));
        assert_eq!(unplugged.source, Reading::Known(PowerSource::Battery));
        assert_eq!(unplugged.charge, Reading::Known(73));
        assert_eq!(power(Ok(2), Ok(2), Ok(100)).source, Reading::Known(PowerSource::Mains), "full");
        assert_eq!(power(Ok(2), Ok(3), Ok(40)).source, Reading::Known(PowerSource::Mains), "charged");
        assert_eq!(power(Ok(1), Ok(1), Ok(40)).source, Reading::Known(PowerSource::Battery), "too weak");
        assert_eq!(power(Ok(1), Ok(3), Ok(40)).source, Reading::Known(PowerSource::Mains), "slow");
        let silent = power(Err(why()), Err(why()), Err(why()));
        assert_eq!((silent.source.known(), silent.has_battery.known()), (None, None));
        let half = power(Err(why()), Ok(1), Err(why()));
        assert_eq!((half.source.known(), half.has_battery), (None, Reading::Known(true)));
    }

    #[test]
    fn a_connection_that_costs_is_metered() {
        assert_eq!(metered(1, false, false), Reading::Known(false));
        for cost in [2, 3] {
            assert_eq!(metered(cost, false, false), Reading::Known(true));
        }
        assert_eq!(metered(1, true, false), Reading::Known(true), "roaming");
        assert_eq!(metered(1, false, true), Reading::Known(true), "used up");
        assert_eq!(metered(0, false, false).known(), None);
    }

    #[test]
    fn idle_time_goes_over_the_clocks_end() {
        assert_eq!(idle(1_000, 61_000), Duration(60_000));
        assert_eq!(idle(u32::MAX - 999, (1 << 32) + 4_000), Duration(5_000));
        assert_eq!(idle(5_000, 3 * (1 << 32) + 5_000), Duration(0));
    }

    #[test]
    fn sleep_and_its_end_are_heard_once_each() {
        // One sleep as Windows tells it, with a battery event between.
        let told = [0x4, 0xa, 0x12, 0x7, 0x8013].into_iter().filter_map(departure);
        assert_eq!(told.collect::<Vec<_>>(), [Departure::Sleep, Departure::Awake]);
    }
}
