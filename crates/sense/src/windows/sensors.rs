//! Asks Windows: `Windows.System.Power.PowerManager`, `Windows.Networking.Connectivity`, `GetLastInputInfo`.
//!
//! Rejected: `GetSystemPowerStatus`, which no crate calls safely; the battery's own driver (starship-battery), where a
//! battery that cannot be opened looks like none.

use super::facts;
use crate::{Counters, Heat, Power, Sensors, System, traffic};
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;
use std::sync::OnceLock;
use windows::{Networking::Connectivity::NetworkInformation, System::Power::PowerManager, core};

const HEAT: &str = "Windows tells programs no temperatures";

fn said<T>(answer: core::Result<T>) -> Result<T, String> {
    answer.map_err(|error| format!("Windows says: {error}"))
}

/// Whether this process sees the desktop. Services are in session 0, and have an idle time of their own.
pub(crate) fn sees_desktop() -> bool {
    static SEES: OnceLock<bool> = OnceLock::new();
    *SEES.get_or_init(|| {
        let own = sysinfo::Pid::from_u32(std::process::id());
        let Ok(mut system) = sysinfo::System::new() else { return true };
        let only = sysinfo::ProcessesToUpdate::Some(&[own]);
        system.refresh_processes_specifics(only, false, sysinfo::ProcessRefreshKind::nothing());
        let session = system.process(own).and_then(sysinfo::Process::session_id);
        session.is_none_or(|session| session.as_u32() != 0)
    })
}

pub(crate) fn idle() -> Reading<Duration> {
    if !sees_desktop() {
        return Reading::unknown(
            "a service does not see who uses the desktop; run the agent in the user's session",
        );
    }
    // The input's time first: what happens between the two has not happened yet.
    match winsafe::GetLastInputInfo() {
        Ok(last) => Reading::Known(facts::idle(last.dwTime, winsafe::GetTickCount64())),
        Err(error) => Reading::unknown(format!("Windows says: {error}")),
    }
}

pub(crate) fn metered() -> Reading<bool> {
    let profile = match NetworkInformation::GetInternetConnectionProfile() {
        Ok(profile) => profile,
        // An answer without a profile: no way leads to the internet.
        Err(error) if error.code().is_ok() => {
            return Reading::unknown("there is no connection to the internet");
        }
        Err(error) => return Reading::unknown(format!("Windows says: {error}")),
    };
    let cost = || {
        let cost = profile.GetConnectionCost()?;
        Ok((cost.NetworkCostType()?.0, cost.Roaming()?, cost.OverDataLimit()?))
    };
    match said(cost()) {
        Ok((kind, roaming, over)) => facts::metered(kind, roaming, over),
        Err(why) => Reading::unknown(why),
    }
}

impl Sensors for System {
    fn power(&self) -> Power {
        facts::power(
            said(PowerManager::PowerSupplyStatus()).map(|status| status.0),
            said(PowerManager::BatteryStatus()).map(|status| status.0),
            said(PowerManager::RemainingChargePercent()),
        )
    }

    fn heat(&self) -> Heat {
        Heat {
            hottest: Reading::unknown(HEAT),
            fan: Reading::unknown("Windows tells programs nothing of fans"),
        }
    }

    fn idle(&self, _now: Timestamp) -> Reading<Duration> {
        idle()
    }

    fn metered(&self) -> Reading<bool> {
        metered()
    }

    fn traffic(&self) -> Reading<Counters> {
        traffic::read()
    }
}
