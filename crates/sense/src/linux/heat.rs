//! `/sys/class/hwmon` and `/sys/class/thermal` (kernel: Documentation/hwmon/sysfs-interface.rst and
//! Documentation/ABI/testing/sysfs-class-thermal).

use super::{entries, line, name, number};
use crate::{Heat, Sensor};
use lattice_rules::Reading;
use std::path::Path;

/// Outside of this, in degrees Celsius, a thermometer is broken or none.
const PLAUSIBLE: std::ops::RangeInclusive<i32> = 1..=130;

pub(crate) fn read(root: &Path) -> Heat {
    let mut hottest: Option<Sensor> = None;
    let mut see = |name: String, millidegrees: i64| {
        let celsius = i32::try_from(millidegrees / 1000).unwrap_or(i32::MAX);
        if PLAUSIBLE.contains(&celsius) && hottest.as_ref().is_none_or(|before| before.celsius < celsius) {
            hottest = Some(Sensor { name, celsius });
        }
    };
    let mut fan: Option<u32> = None;
    for chip in entries(&root.join("sys/class/hwmon")).unwrap_or_default() {
        let of = line(&chip.join("name")).unwrap_or_else(|| name(&chip));
        for file in entries(&chip).unwrap_or_default() {
            let Some(input) = name(&file).strip_suffix("_input").map(ToOwned::to_owned) else { continue };
            if input.starts_with("temp")
                && let Some(millidegrees) = number(&file)
            {
                let label = line(&chip.join(format!("{input}_label"))).unwrap_or(input);
                see(format!("{of} {label}"), millidegrees);
            } else if input.starts_with("fan")
                && let Some(turns) = number::<u32>(&file)
            {
                fan = Some(fan.map_or(turns, |before| before.max(turns)));
            }
        }
    }
    for zone in entries(&root.join("sys/class/thermal")).unwrap_or_default() {
        if name(&zone).starts_with("thermal_zone")
            && let Some(millidegrees) = number(&zone.join("temp"))
        {
            see(line(&zone.join("type")).unwrap_or_else(|| name(&zone)), millidegrees);
        }
    }
    Heat {
        hottest: hottest.map_or_else(
            || Reading::unknown("no thermometer is found, as is usual in a virtual machine"),
            Reading::Known,
        ),
        fan: fan.map_or_else(|| Reading::unknown("no fan is measured"), Reading::Known),
    }
}
