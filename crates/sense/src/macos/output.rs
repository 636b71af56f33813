//! What `pmset`, `notifyutil` and `ioreg` print. Pure, so that it is tested on every system.

use crate::{Departure, Power};
use lattice_model::Duration;
use lattice_rules::{PowerSource, Reading};

/// What loginwindow posts: somebody chose to shut down or restart; …
pub(crate) const ENDS: [&str; 2] =
    ["com.apple.system.loginwindow.shutdownInitiated", "com.apple.system.loginwindow.restartinitiated"];
/// … and did not go through with it.
pub(crate) const STAYS: &str = "com.apple.system.loginwindow.logoutcancelled";

/// A line of `pmset -g pslog`, which says at once when the kernel announces sleep (`IORegisterForSystemPower`).
pub(crate) fn slept(line: &str) -> Option<Departure> {
    let (_, said) = line.split_once("IORegisterForSystemPower: ...")?;
    match said.split_once("...")?.0 {
        "Sleeping" => Some(Departure::Sleep),
        "HasPoweredOn" => Some(Departure::Awake),
        _ => None,
    }
}

/// A line of `notifyutil -w`, which is the name of what was posted.
pub(crate) fn posted(line: &str) -> Option<Departure> {
    match line.trim() {
        STAYS => Some(Departure::Stays),
        name if ENDS.contains(&name) => Some(Departure::Shutdown),
        _ => None,
    }
}

/// How long nobody has touched keyboard, mouse or trackpad: the least of the entries of `ioreg -c IOHIDSystem`, which
/// are in nanoseconds.
pub(crate) fn idle(text: &str) -> Reading<Duration> {
    let entries = text.lines().filter_map(|line| {
        let (_, value) = line.split_once("\"HIDIdleTime\" = ")?;
        value.trim().parse::<u64>().ok()
    });
    match entries.min() {
        Some(nanos) => Reading::Known(Duration(nanos / 1_000_000)),
        None => Reading::unknown("ioreg names no idle time"),
    }
}

/// A battery of the computer itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    /// Nothing else feeds the computer.
    pub(crate) discharging: bool,
    /// What it holds, and what it can hold, in like units.
    pub(crate) holds: (f32, f32),
}

/// What the batteries say together.
pub(crate) fn power(cells: &[Cell]) -> Power {
    let source =
        if cells.iter().any(|cell| cell.discharging) { PowerSource::Battery } else { PowerSource::Mains };
    let (now, full) = cells.iter().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.holds.0, sum.1 + cell.holds.1));
    let charge = if cells.is_empty() {
        Reading::unknown("there is no battery")
    } else if full > 0.0 && now.is_finite() && full.is_finite() {
        // Within 0 and 100, so nothing is lost.
        Reading::Known((now / full * 100.0).clamp(0.0, 100.0) as u8)
    } else {
        Reading::unknown("the battery does not say how full it is")
    };
    Power { source: Reading::Known(source), charge, has_battery: Reading::Known(!cells.is_empty()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pmset -g pslog` on a portable: plugged out, asleep, awake again.
    const PSLOG: &str = "\
Logging IORegisterForSystemPower sleep/wake messages
pmset is in logging mode now. Hit ctrl-c to exit.
2026-10-04 11:27:48 +0200 IOPSNotificationCreateRunLoopSource
Now drawing from 'Battery Power'
 -InternalBattery-0 (id=23527523)\t62%; discharging; 16:52 remaining present: true

2026-10-04 11:30:02 +0200 IORegisterForSystemPower: ...Sleeping...

2026-10-04 12:01:40 +0200 IORegisterForSystemPower: ...HasPoweredOn...
 Wake Reason = EC.LidOpen
2026-10-04 12:01:41 +0200 IOPSNotificationCreateRunLoopSource
Now drawing from 'AC Power'
 -InternalBattery-0 (id=23527523)\t61%; charging; 1:10 remaining present: true
";

    #[test]
    fn sleep_is_heard_from_pmset() {
        let heard: Vec<_> = PSLOG.lines().filter_map(slept).collect();
        assert_eq!(heard, [Departure::Sleep, Departure::Awake]);
        assert_eq!(slept("IORegisterForSystemPower: ...Cancelling..."), None);
    }

    #[test]
    fn shutdown_is_heard_from_notifyutil() {
        let text = "com.apple.system.loginwindow.shutdownInitiated\n\
                    com.apple.system.loginwindow.logoutcancelled\n\
                    com.apple.system.loginwindow.restartinitiated\n\
                    com.apple.system.timezone\n";
        let heard: Vec<_> = text.lines().filter_map(posted).collect();
        assert_eq!(heard, [Departure::Shutdown, Departure::Stays, Departure::Shutdown]);
    }

    #[test]
    fn idle_time_is_the_least_that_ioreg_names() {
        let text = "\
+-o IOHIDSystem  <class IOHIDSystem, id 0x1000002cf, registered, matched, active, busy 0 (0 ms), retain 21>
  | {
  |   \"HIDIdleTime\" = 21858429000
  |   \"HIDScrollAcceleration\" = 20480
  | }
  +-o IOHIDUserDevice
      \"HIDIdleTime\" = 4500000000
";
        assert_eq!(idle(text), Reading::Known(Duration(4500)));
        assert_eq!(idle("+-o IOHIDSystem\n").known(), None);
        assert_eq!(idle("\"HIDIdleTime\" = soon\n").known(), None);
    }

    #[test]
    fn batteries_tell_the_source_and_what_they_hold_together() {
        let cell = |discharging, now, full| Cell { discharging, holds: (now, full) };
        let portable = power(&[cell(true, 31.0, 50.0)]);
        assert_eq!(portable.source, Reading::Known(PowerSource::Battery));
        assert_eq!((portable.charge, portable.has_battery), (Reading::Known(62), Reading::Known(true)));
        let plugged = power(&[cell(false, 50.5, 50.0)]);
        assert_eq!(
            (plugged.source, plugged.charge),
            (Reading::Known(PowerSource::Mains), Reading::Known(100))
        );
        let desktop = power(&[]);
        assert_eq!(desktop.source, Reading::Known(PowerSource::Mains));
        assert_eq!((desktop.charge.known(), desktop.has_battery), (None, Reading::Known(false)));
        assert_eq!(power(&[cell(false, 0.0, 0.0)]).charge.known(), None);
        assert_eq!(power(&[cell(false, f32::NAN, 1.0)]).charge.known(), None);
    }
}
