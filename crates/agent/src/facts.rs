//! What this machine is and how busy it is, as the server hears of it: what [`crate::machine`] reads from
//! the kernel's files, with what the engine says about itself. Evidence for people and numbers for the
//! planner; the server trusts none of it for authorisation.

use crate::{
    config::AgentConfig,
    gpu::Gpus,
    machine::{self, Roots, jiffies, meminfo_of},
    owner::Lent,
};
use lattice_link::message::Heartbeat;
use lattice_model::{
    Bytes,
    resource::{Capacity, NodeFacts},
};
use lattice_runtime::{EngineInfo, Runtime};
use std::{fs, path::Path, time::Duration};

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Logical processors that containers can use.
    pub cpus: u32,
    /// Memory that containers can use.
    pub memory: Bytes,
    /// Free disk space where the engine keeps its data.
    pub disk_free: Bytes,
    /// For people.
    pub facts: NodeFacts,
    /// Where the engine keeps its data, when it said so.
    pub data_root: Option<String>,
}

/// Measures the machine, with what its engine says about itself where it answers.
pub async fn measure(runtime: &dyn Runtime, home: &Path) -> Machine {
    let info = tokio::time::timeout(Duration::from_secs(10), runtime.info()).await;
    let (info, home) = (info.ok().and_then(Result::ok), home.to_owned());
    // File systems over the network may take their time.
    let measured = tokio::task::spawn_blocking(move || machine(&Roots::here(), info.as_ref(), &home));
    measured.await.unwrap_or_default()
}

/// The same, with what is known of the GPUs besides.
pub(crate) async fn measure_with(runtime: &dyn Runtime, home: &Path, gpus: &Gpus) -> Machine {
    let mut machine = measure(runtime, home).await;
    machine.facts.machine.gpus = gpus.facts();
    machine
}

fn machine(roots: &Roots, engine: Option<&EngineInfo>, home: &Path) -> Machine {
    let cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let memory = meminfo_of(&roots.read("proc/meminfo"), "MemTotal").unwrap_or(Bytes::GIB);
    let facts = NodeFacts {
        hostname: roots.read("proc/sys/kernel/hostname"),
        os: std::env::consts::OS.to_owned(),
        os_version: os_name(&roots.read("etc/os-release")).unwrap_or_else(|| std::env::consts::OS.to_owned()),
        kernel: roots.read("proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.to_owned(),
        cpu_model: machine::cpu_model(roots),
        cpus,
        memory,
        engine_version: engine.map_or_else(String::new, |engine| engine.version.clone()),
        agent_version: crate::VERSION.to_owned(),
        machine: machine::facts(roots, engine, &machine::space),
    };
    // An engine in a virtual machine has less than the machine.
    let seen = |own: u32, engines: u32| if engines == 0 { own } else { own.min(engines) };
    let data_root = engine.map(|engine| engine.data_root.clone()).filter(|root| !root.is_empty());
    let disk_free = data_root.as_deref().and_then(|root| free(Path::new(root))).or_else(|| free(home));
    Machine {
        cpus: engine.map_or(cpus, |engine| seen(cpus, engine.cpus)),
        memory: engine.map(|engine| engine.memory).filter(|m| m.0 > 0).map_or(memory, |m| m.min(memory)),
        disk_free: disk_free.unwrap_or_default(),
        facts,
        data_root,
    }
}

impl Machine {
    /// What the owner lends of it.
    pub fn capacity(&self, config: &AgentConfig) -> Capacity {
        config.lent(self)
    }

    /// What the server is told, with the owner's words.
    pub(crate) fn told(&self, lent: &Lent) -> NodeFacts {
        let mut facts = self.facts.clone();
        lent.config().describe(&mut facts.machine);
        facts.machine.gpus = lent.gpus(self);
        facts.machine.bandwidth = lent.bandwidth();
        facts
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn os_name(release: &str) -> Option<String> {
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches(['"', '\'']).to_owned())
}

/// Free space for users on the file system of `path`.
pub(crate) fn free(path: &Path) -> Option<Bytes> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Bytes(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// How gladly the kernel kills the agent when memory is short: workloads are never less so.
pub(crate) fn oom_score_adj() -> i16 {
    read("/proc/self/oom_score_adj").trim().parse().unwrap_or(0)
}

/// Differs after each boot of the machine.
pub(crate) fn boot_id() -> String {
    read("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

/// How busy the machine is; the processor's share is that since the last sample.
#[derive(Debug, Default)]
pub(crate) struct Load {
    last: Option<(u64, u64)>,
}

impl Load {
    pub(crate) fn sample(&mut self, machine: &Machine, home: &Path, running: u32, ping: u64) -> Heartbeat {
        let (busy, total) = jiffies(&read("/proc/stat")).unwrap_or_default();
        let (last_busy, last_total) = self.last.replace((busy, total)).unwrap_or((busy, total));
        let span = total.saturating_sub(last_total).max(1);
        let cores = u64::from(machine.facts.cpus.max(1));
        let cpu = busy.saturating_sub(last_busy).saturating_mul(1000 * cores) / span;
        let info = read("/proc/meminfo");
        let used = meminfo_of(&info, "MemTotal").unwrap_or_default().0
            - meminfo_of(&info, "MemAvailable").unwrap_or_default().0.min(machine.facts.memory.0);
        let disk = machine.data_root.as_deref().map_or(home, Path::new);
        Heartbeat {
            at: crate::clock::now(),
            cpu_millis: u32::try_from(cpu).unwrap_or(u32::MAX),
            memory_bytes: used,
            disk_free_bytes: free(disk).or_else(|| free(home)).unwrap_or_default().0,
            running,
            ping,
            conditions: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(os_name("A=b\nPRETTY_NAME=\"Debian 13\"\n").as_deref(), Some("Debian 13"));
        let here = machine(&Roots::default(), None, Path::new("/"));
        assert!(here.cpus > 0 && here.memory > Bytes::MIB && here.disk_free > Bytes::MIB, "{here:?}");
        assert!(!boot_id().is_empty());
        let mut load = Load::default();
        load.sample(&here, Path::new("/"), 0, 0);
        let beat = load.sample(&here, Path::new("/"), 3, 0);
        assert!(beat.memory_bytes > 0 && beat.running == 3, "{beat:?}");
    }
}
