//! Reads the battery by IOKit (starship-battery), and the interfaces' counters by the kernel (sysinfo).

use super::output::{self, Cell};
use crate::{Counters, Heat, Power, Sensors, System, traffic};
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;
use starship_battery::{Error, Manager, State};

/// Why a question has to go through the other port.
const ASK_SESSION: &str = "ioreg tells it, which is not asked while others wait";

fn cells() -> Result<Vec<Cell>, Error> {
    let mut cells = Vec::new();
    for battery in Manager::new()?.batteries()? {
        let battery = battery?;
        cells.push(Cell {
            // On this system it is said of every battery whose computer has no other supply.
            discharging: battery.state() == State::Discharging,
            holds: (battery.energy().value, battery.energy_full().value),
        });
    }
    Ok(cells)
}

impl Sensors for System {
    fn power(&self) -> Power {
        match cells() {
            Ok(cells) => output::power(&cells),
            Err(error) => {
                let why = format!("the battery cannot be read: {error}");
                Power {
                    source: Reading::unknown(why.clone()),
                    charge: Reading::unknown(why.clone()),
                    has_battery: Reading::unknown(why),
                }
            }
        }
    }

    fn heat(&self) -> Heat {
        let why = "macOS has no public interface to its thermometers and fans";
        Heat { hottest: Reading::unknown(why), fan: Reading::unknown(why) }
    }

    fn idle(&self, _now: Timestamp) -> Reading<Duration> {
        Reading::unknown(ASK_SESSION)
    }

    fn metered(&self) -> Reading<bool> {
        Reading::unknown("macOS tells it to frameworks alone")
    }

    fn traffic(&self) -> Reading<Counters> {
        traffic::read()
    }
}
