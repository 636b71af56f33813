//! A machine made of files.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use lattice_model::{Duration, Timestamp};
use lattice_sense::{PowerSource, Reading, Sensors as _, System};
use std::{fs, path::Path};

struct Fake(tempfile::TempDir);

impl Fake {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
        self
    }

    fn supply(&self, name: &str, files: &[(&str, &str)]) -> &Self {
        for (file, text) in files {
            self.put(&format!("sys/class/power_supply/{name}/{file}"), text);
        }
        self
    }

    fn system(&self) -> System {
        System::below(self.0.path())
    }
}

#[test]
fn mains_and_batteries() {
    let fake = Fake::new();
    assert!(matches!(fake.system().power().source, Reading::Unknown(why) if why.contains("power_supply")));
    fs::create_dir_all(fake.0.path().join("sys/class/power_supply")).unwrap();
    let desktop = fake.system().power();
    assert_eq!(
        (desktop.source, desktop.has_battery),
        (Reading::Known(PowerSource::Mains), Reading::Known(false))
    );
    assert!(desktop.charge.known().is_none());
    fake.supply(
        "hidpp_battery_0",
        &[("type", "Battery"), ("scope", "Device"), ("status", "Discharging"), ("capacity", "3")],
    );
    assert_eq!(fake.system().power().source, Reading::Known(PowerSource::Mains), "a mouse feeds nothing");
    fake.supply(
        "BAT0",
        &[("type", "Battery"), ("present", "1"), ("status", "Discharging"), ("capacity", "61")],
    );
    fake.supply("AC", &[("type", "Mains"), ("online", "0")]);
    let power = fake.system().power();
    assert_eq!((power.source, power.charge), (Reading::Known(PowerSource::Battery), Reading::Known(61)));
    fake.supply("AC", &[("online", "1")]);
    assert_eq!(fake.system().power().source, Reading::Known(PowerSource::Mains));
    // Two batteries hold together what they hold; one of them is small.
    fake.supply("BAT0", &[("energy_now", "10"), ("energy_full", "100")]);
    fake.supply("BAT1", &[("type", "Battery"), ("energy_now", "300"), ("energy_full", "300")]);
    assert_eq!(fake.system().power().charge, Reading::Known(77));
    // Fed by USB-C alone.
    fake.supply("AC", &[("online", "0")]).supply("ucsi-source-psy-1", &[("type", "USB"), ("online", "1")]);
    assert_eq!(fake.system().power().source, Reading::Known(PowerSource::Mains));
}

#[test]
fn a_battery_without_an_adapter_says_it_itself() {
    for (status, source) in [
        ("Discharging", Some(PowerSource::Battery)),
        ("Charging", Some(PowerSource::Mains)),
        ("Full", Some(PowerSource::Mains)),
        ("Unknown", None),
    ] {
        let fake = Fake::new();
        fake.supply("BAT0", &[("type", "Battery"), ("status", status)]);
        assert_eq!(fake.system().power().source.known().copied(), source, "{status}");
    }
}

#[test]
fn the_hottest_part_and_the_fastest_fan() {
    let fake = Fake::new();
    assert!(fake.system().heat().hottest.known().is_none());
    fake.put("sys/class/thermal/thermal_zone0/temp", "41000")
        .put("sys/class/thermal/thermal_zone0/type", "acpitz");
    fake.put("sys/class/thermal/cooling_device0/temp", "99000");
    fake.put("sys/class/hwmon/hwmon0/name", "k10temp").put("sys/class/hwmon/hwmon0/temp1_input", "71500");
    fake.put("sys/class/hwmon/hwmon0/temp1_label", "Tctl")
        .put("sys/class/hwmon/hwmon0/temp2_input", "-128000");
    fake.put("sys/class/hwmon/hwmon1/temp1_input", "200000").put("sys/class/hwmon/hwmon1/fan1_input", "2300");
    fake.put("sys/class/hwmon/hwmon1/fan2_input", "900").put("sys/class/hwmon/hwmon1/temp1_crit", "99000");
    let heat = fake.system().heat();
    let hottest = heat.hottest.known().unwrap();
    assert_eq!((hottest.name.as_str(), hottest.celsius), ("k10temp Tctl", 71));
    assert_eq!(heat.fan, Reading::Known(2300));
}

#[test]
fn traffic_is_that_of_the_hardware() {
    let fake = Fake::new();
    assert!(fake.system().traffic().known().is_none());
    let card = |name: &str, rx: &str, tx: &str| {
        fake.put(&format!("sys/class/net/{name}/statistics/rx_bytes"), rx);
        fake.put(&format!("sys/class/net/{name}/statistics/tx_bytes"), tx);
    };
    card("lo", "5", "5");
    card("docker0", "7", "7");
    card("eth7", "30", "12");
    assert!(fake.system().traffic().known().is_none(), "nothing leads out");
    fake.put("proc/net/route", "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth7\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\ndocker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF");
    let one = |name: &str, n| Reading::Known([(name.to_owned(), n)].into());
    assert_eq!(fake.system().traffic(), one("eth7", 42));
    card("wlan0", "100", "1");
    fake.put("sys/class/net/wlan0/device/vendor", "x");
    assert_eq!(fake.system().traffic(), one("wlan0", 101));
}

#[test]
fn terminals_tell_who_types() {
    let fake = Fake::new();
    assert!(fake.system().idle(Timestamp(0)).known().is_none());
    fake.put("dev/tty", "").put("dev/ttyS0", "").put("dev/pts/ptmx", "");
    assert!(fake.system().idle(Timestamp(0)).known().is_none());
    fake.put("dev/tty1", "").put("dev/pts/3", "");
    let used = |path: &str, secs: u64| {
        let file = fs::File::options().write(true).open(fake.0.path().join(path)).unwrap();
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(secs);
        file.set_times(fs::FileTimes::new().set_accessed(at)).unwrap();
    };
    used("dev/tty1", 1000);
    used("dev/pts/3", 1600);
    assert_eq!(fake.system().idle(Timestamp(1_900_000)), Reading::Known(Duration::from_secs(300)));
    assert_eq!(fake.system().idle(Timestamp(1_000)), Reading::Known(Duration(0)), "a clock that jumped back");
}

#[test]
fn this_machine_answers() {
    let here = System::new();
    assert_eq!(here.root(), Path::new("/"));
    let _ = (here.power(), here.heat(), here.idle(Timestamp(0)));
    assert!(matches!(here.traffic(), Reading::Known(_) | Reading::Unknown(_)));
}
