//! What this machine is and can do, read from the kernel's files.
//!
//! Every reader takes the [`Roots`], the folder that `/proc`, `/sys`, `/etc` and `/run` lie in, so that
//! trees recorded on other machines test it. Enter at [`facts`] and [`Readings`].
//!
//! | file | what |
//! |---|---|
//! | `cpu` | model, cores, features |
//! | `disks` | disks, what is mounted from them, which one the engine's data is on, their errors |
//! | `gpus` | GPUs of NVIDIA and AMD |
//! | `virt` | what the machine runs in |
//! | `net` | ways out, and errors of its own ports |
//! | `readings` | numbers that change: load, memory, stalls |
//!
//! Rejected: `sysinfo`, which reads fixed paths and so only the machine that a test runs on, and knows
//! neither virtualisation nor stalls, processor features or errors of disks.

mod cpu;
mod disks;
mod gpus;
mod net;
mod readings;
#[cfg(test)]
mod recorded;
mod virt;

pub(crate) use disks::{Space, space};
pub(crate) use net::default_ways;
pub(crate) use readings::{Readings, jiffies, meminfo_of};

use lattice_model::machine::{EngineFacts, GpuFacts, MachineFacts};
use lattice_runtime::EngineInfo;
use lattice_sense::{Reading, Sensors as _, System};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How many disks are told of: a machine may have hundreds, and a hello has an end.
const MAX_DISKS: usize = 16;
/// Likewise.
const MAX_GPUS: usize = 16;

/// The folder that `/proc` and the others lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roots(PathBuf);

impl Default for Roots {
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Roots {
    /// Another folder than `/`.
    #[cfg(test)]
    pub(crate) fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// `/`, or the folder in `LATTICE_KERNEL_FILES`, by which a test gives a whole program other facts.
    pub(crate) fn here() -> Self {
        std::env::var_os("LATTICE_KERNEL_FILES").map(PathBuf::from).map_or_else(Self::default, Self)
    }

    /// A file of it, by its path from the root without the first slash.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// A small file's text, without blanks around it; empty where it cannot be read.
    pub(crate) fn read(&self, path: &str) -> String {
        let bytes = fs::read(self.path(path)).unwrap_or_default();
        // Firmware writes what it likes, and the device tree ends its words with a zero.
        String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
    }

    /// A number in a file.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.read(path).parse().ok()
    }

    /// The names in a folder, in order; none where there is no such folder.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }
}

/// What the kernel's files and the engine tell, without GPUs, network and the owner's words.
pub(crate) fn facts(
    roots: &Roots,
    engine: Option<&EngineInfo>,
    space: &dyn Fn(&Path) -> Option<Space>,
) -> MachineFacts {
    let data_root = engine.filter(|engine| !engine.in_vm_guess).map(|engine| engine.data_root.as_str());
    let mut disks = disks::disks(roots, data_root, space);
    disks.truncate(MAX_DISKS);
    MachineFacts {
        cores: cpu::cores(roots),
        cpu_features: cpu::features(roots),
        disks,
        virtualization: virt::virtualization(roots),
        engine: engine.map(engine_facts).unwrap_or_default(),
        // A battery of the machine, not of a mouse on it.
        battery: System::below(roots.path("")).power().has_battery == Reading::Known(true),
        gpus: self::gpus(roots),
        ..MachineFacts::default()
    }
}

/// Its GPUs, by the kernel's files.
pub(crate) fn gpus(roots: &Roots) -> Vec<GpuFacts> {
    gpus::gpus(roots).into_iter().take(MAX_GPUS).collect()
}

/// The processor's name for people.
pub(crate) fn cpu_model(roots: &Roots) -> String {
    cpu::model(roots)
}

fn engine_facts(info: &EngineInfo) -> EngineFacts {
    EngineFacts {
        rootless: info.rootless,
        cgroup: info.cgroup_version.unwrap_or(0),
        in_vm: info.in_vm_guess,
        storage: info.storage_driver.clone(),
        runtimes: info.runtimes.clone(),
        default_runtime: info.default_runtime.clone(),
    }
}
