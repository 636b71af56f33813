//! What Linux says about a process.

use anyhow::Context as _;
use std::{fs, path::PathBuf};

/// Resident memory in MiB.
///
/// # Errors
/// When there is no such process.
pub(crate) fn rss_mib(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("process {pid} is not there"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is not a number")?;
    Ok(kib / 1024.0)
}

/// Processor time used since its start, in seconds, all threads together.
///
/// # Errors
/// When there is no such process.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("process {pid} is not there"))?;
    let ticks = ticks(&text).with_context(|| format!("{path} is not understood"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Fields 14 and 15, user and system. The second field, the name, may have spaces and parentheses in it.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The program that a process runs; `None` when it is gone or somebody else's.
pub(crate) fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() {
        let pid = std::process::id();
        assert!(rss_mib(pid).unwrap() > 0.5);
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert_eq!(program(pid), Some(std::env::current_exe().unwrap()));
        assert!(rss_mib(u32::MAX).is_err());
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(42));
    }
}
