//! `/sys/class/power_supply` (kernel: Documentation/ABI/testing/sysfs-class-power).

use super::{entries, line, number};
use crate::Power;
use lattice_rules::{PowerSource, Reading};
use std::path::{Path, PathBuf};

pub(crate) fn read(root: &Path) -> Power {
    let dir = root.join("sys/class/power_supply");
    let supplies = match entries(&dir) {
        Ok(supplies) => supplies,
        Err(error) => {
            let why = format!("{} cannot be read: {error}", dir.display());
            return Power {
                source: Reading::unknown(why.clone()),
                charge: Reading::unknown(why.clone()),
                has_battery: Reading::unknown(why),
            };
        }
    };
    let is = |path: &PathBuf, file: &str, value: &str| line(&path.join(file)).as_deref() == Some(value);
    // A mouse has a battery too, and it feeds nothing but the mouse.
    let own: Vec<&PathBuf> = supplies.iter().filter(|path| !is(path, "scope", "Device")).collect();
    let batteries: Vec<&PathBuf> = own
        .iter()
        .copied()
        .filter(|path| is(path, "type", "Battery") || is(path, "type", "UPS"))
        .filter(|path| number::<u8>(&path.join("present")) != Some(0))
        .collect();
    let adapters: Vec<bool> = own
        .iter()
        .filter(|path| !is(path, "type", "Battery") && !is(path, "type", "UPS"))
        .filter_map(|path| Some(number::<u8>(&path.join("online"))? != 0))
        .collect();
    let charge =
        if batteries.is_empty() { Reading::unknown("there is no battery") } else { charge(&batteries) };
    Power {
        source: source(&batteries, &adapters),
        charge,
        has_battery: Reading::Known(!batteries.is_empty()),
    }
}

fn source(batteries: &[&PathBuf], adapters: &[bool]) -> Reading<PowerSource> {
    // Without a battery it would not run without mains; with an adapter that is plugged in, it has them.
    if batteries.is_empty() || adapters.contains(&true) {
        return Reading::Known(PowerSource::Mains);
    }
    let states: Vec<String> = batteries.iter().filter_map(|path| line(&path.join("status"))).collect();
    if states.iter().any(|state| state == "Discharging") || !adapters.is_empty() {
        return Reading::Known(PowerSource::Battery);
    }
    if states.iter().any(|state| matches!(state.as_str(), "Charging" | "Full" | "Not charging")) {
        return Reading::Known(PowerSource::Mains);
    }
    Reading::unknown("the battery does not say whether it is charged or discharged")
}

fn charge(batteries: &[&PathBuf]) -> Reading<u8> {
    // Of several, what they hold together: by energy, or by charge at like voltages.
    for unit in ["energy", "charge"] {
        let of = |path: &PathBuf, part: &str| number::<u64>(&path.join(format!("{unit}_{part}")));
        let both = |path: &&PathBuf| Some((of(path, "now")?, of(path, "full").filter(|full| *full > 0)?));
        let all: Option<Vec<(u64, u64)>> = batteries.iter().map(both).collect();
        if let Some(all) = all {
            let (now, full) = all
                .iter()
                .fold((0u64, 0u64), |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)));
            let percent = u128::from(now) * 100 / u128::from(full.max(1));
            return Reading::Known(u8::try_from(percent.min(100)).unwrap_or(100));
        }
    }
    let shares: Vec<u32> = batteries.iter().filter_map(|path| number(&path.join("capacity"))).collect();
    match u32::try_from(shares.len()) {
        Ok(count) if count > 0 => {
            Reading::Known(u8::try_from((shares.iter().sum::<u32>() / count).min(100)).unwrap_or(100))
        }
        _ => Reading::unknown("the battery does not say how full it is"),
    }
}
