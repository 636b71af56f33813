//! Numbers that change all the time.

use super::{Roots, Space, disks, net};
use lattice_model::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// What the kernel's files say at one moment. What cannot be read is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Readings {
    /// Busy and total ticks of all processors since boot.
    pub(crate) jiffies: Option<(u64, u64)>,
    /// What programs may have without anybody losing something, and all.
    pub(crate) memory: Option<(Bytes, Bytes)>,
    /// Of the last ten seconds, the hundredths of a percent in which every program waited for memory.
    pub(crate) memory_stalled: Option<u32>,
    /// Of the last minute, the hundredths of a percent in which some program waited for a processor.
    pub(crate) cpu_waited: Option<u32>,
    /// Where the engine keeps its data.
    pub(crate) space: Option<Space>,
    /// Whether that takes no writes.
    pub(crate) read_only: bool,
    /// By who counts.
    pub(crate) disk_errors: BTreeMap<String, u64>,
    /// Mirrors that miss a disk.
    pub(crate) degraded: BTreeSet<String>,
    /// Whether anything leads out.
    pub(crate) way_out: Option<bool>,
    /// Packets through the machine's own ports, and those that went wrong.
    pub(crate) packets: (u64, u64),
}

impl Readings {
    /// Reads all; `data` is the folder whose file system counts.
    pub(crate) fn take(roots: &Roots, data: &Path, space: &dyn Fn(&Path) -> Option<Space>) -> Self {
        let meminfo = roots.read("proc/meminfo");
        let memory = meminfo_of(&meminfo, "MemAvailable").zip(meminfo_of(&meminfo, "MemTotal"));
        Self {
            jiffies: jiffies(&roots.read("proc/stat")),
            memory,
            memory_stalled: stalled(&roots.read("proc/pressure/memory"), "full", "avg10"),
            cpu_waited: stalled(&roots.read("proc/pressure/cpu"), "some", "avg60"),
            space: space(data),
            read_only: disks::is_read_only(roots, &data.to_string_lossy()),
            disk_errors: disks::errors(roots),
            degraded: disks::degraded(roots),
            way_out: net::has_way_out(roots),
            packets: net::packets(roots),
        }
    }
}

/// A line of `/proc/meminfo`.
pub(crate) fn meminfo_of(text: &str, key: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| Bytes(kib.saturating_mul(1024)))
}

/// Busy and total ticks of all processors since boot, by `/proc/stat`.
pub(crate) fn jiffies(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(|n| n.parse().unwrap_or(0)).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((total - idle, total))
}

/// A value of `/proc/pressure/*`, in hundredths of a percent.
fn stalled(text: &str, line: &str, average: &str) -> Option<u32> {
    let rest = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(' '))?;
    let value = rest.split(' ').find_map(|pair| pair.strip_prefix(average)?.strip_prefix('='))?;
    let percent: f64 = value.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some((percent * 100.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(meminfo_of("MemTotal:  16 kB\nMemFree: 3 kB\n", "MemFree"), Some(Bytes(3072)));
        assert_eq!(meminfo_of("MemTotal: x", "MemTotal"), None);
        assert_eq!(jiffies("cpu  10 1 9 70 10 0 0 0 0 0\ncpu0 1"), Some((20, 100)));
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=98919\nfull avg10=0.25 avg60=7.00 avg300=0.00 total=18857\n";
        assert_eq!(stalled(text, "some", "avg60"), Some(20));
        assert_eq!(stalled(text, "full", "avg10"), Some(25));
        assert_eq!(stalled(text, "full", "avg5"), None);
        assert_eq!(stalled("", "full", "avg10"), None);
        assert_eq!(stalled("full avg10=-nan", "full", "avg10"), None);
    }

    #[test]
    fn this_machine_is_read() {
        let here = Readings::take(&Roots::default(), Path::new("/"), &super::super::space);
        let (available, total) = here.memory.unwrap();
        assert!(available > Bytes(0) && total > available, "{here:?}");
        assert!(here.jiffies.is_some() && here.space.is_some() && !here.read_only, "{here:?}");
    }
}
