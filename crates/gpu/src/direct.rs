//! What a container needs of the host to use an NVIDIA GPU, where its engine has no toolkit: device nodes, and the
//! files of the driver that belong to no image since they have to be of the kernel's version.
//!
//! The files are bound, read-only, where the loaders of Debian's and of Fedora's families look by themselves, under
//! the names that programs are linked to. So no cache of a loader has to be written and no variable set, which a
//! program might not hand on. Images without glibc (Alpine) cannot use CUDA, with this as with any toolkit.
//!
//! Files are found by the version of the driver that runs: one of another is never mounted. What only draws (OpenGL,
//! Vulkan) is left out; CUDA, OpenCL, video and `nvidia-smi` are there.
//!
//! Rejected: a description for the engine (CDI) written by Lattice, which needs root's rights and a newer engine.

use crate::reading::GpuReading;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Libraries by the begin of their names, each with the name that programs are linked to after `.so`; empty is the
/// driver's version. CUDA cannot do without those that are marked.
const LIBRARIES: [(&str, &str, bool); 14] = [
    ("libcuda.so", ".1", true),
    ("libnvidia-ml.so", ".1", true),
    ("libnvidia-ptxjitcompiler.so", ".1", true),
    ("libnvidia-nvvm.so", ".4", false),
    ("libnvidia-nvvm70.so", ".4", false),
    ("libnvidia-gpucomp.so", "", false),
    ("libcudadebugger.so", ".1", false),
    ("libnvidia-opencl.so", ".1", false),
    ("libnvidia-cfg.so", ".1", false),
    ("libnvidia-encode.so", ".1", false),
    ("libnvcuvid.so", ".1", false),
    ("libnvidia-opticalflow.so", ".1", false),
    ("libnvidia-pkcs11-openssl3.so", "", false),
    ("libnvidia-pkcs11.so", "", false),
];

/// Where distributions put them, from the root without the first slash; the first that has one counts.
const FOLDERS: [&str; 13] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "usr/lib64/nvidia",
    "usr/lib/nvidia",
    "usr/local/lib",
    "usr/local/nvidia/lib64",
    "run/opengl-driver/lib",
    "opt/nvidia/lib64",
    "usr/lib/wsl/lib",
];

/// Programs of the driver, and where they may be.
const PROGRAMS: [&str; 3] = ["nvidia-smi", "nvidia-cuda-mps-control", "nvidia-debugdump"];
const PROGRAM_FOLDERS: [&str; 5] = [
    "usr/bin",
    "usr/local/nvidia/bin",
    "usr/lib/nvidia/current",
    "run/current-system/sw/bin",
    "opt/nvidia/bin",
];

/// Where a container's loader looks: Debian's family, then Fedora's.
#[cfg(target_arch = "aarch64")]
const TARGETS: [&str; 2] = ["/usr/lib/aarch64-linux-gnu", "/usr/lib64"];
#[cfg(not(target_arch = "aarch64"))]
const TARGETS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

/// Device nodes that every GPU needs, and whether CUDA can do without.
const COMMON: [(&str, bool); 3] =
    [("dev/nvidiactl", true), ("dev/nvidia-uvm", true), ("dev/nvidia-uvm-tools", false)];

/// A file of the driver, bound read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverFile {
    /// On the host.
    pub source: String,
    /// In the container.
    pub target: String,
}

/// What containers need of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectAccess {
    /// Device nodes that all of them need.
    pub common: Vec<String>,
    /// The device nodes of each GPU or instance, by its id.
    pub devices: BTreeMap<String, Vec<String>>,
    /// Files of the driver.
    pub files: Vec<DriverFile>,
}

/// Finds it below `root`, for the GPUs that the driver tells of.
///
/// # Errors
/// What is missing, and what to do.
pub fn direct(root: &Path, reading: &GpuReading) -> Result<DirectAccess, String> {
    let mut access = DirectAccess::default();
    for (node, needed) in COMMON {
        match root.join(node).exists() {
            true => access.common.push(format!("/{node}")),
            false if needed => {
                return Err(format!(
                    "/{node} is missing: run `nvidia-modprobe -u -c 0` as root, or anything that uses CUDA, once after each start of the machine"
                ));
            }
            false => {}
        }
    }
    for card in reading.cards.iter().filter(|card| !card.lost) {
        let Some(minor) = card.minor else { continue };
        let node = format!("/dev/nvidia{minor}");
        if !root.join(&node[1..]).exists() {
            continue;
        }
        if !card.facts.mig {
            access.devices.insert(card.facts.id.clone(), vec![node]);
        }
        // Instances need nodes of /dev/nvidia-caps whose numbers no library tells a reader without root's rights:
        // they are given by a toolkit alone.
    }
    if reading.driver.is_empty() {
        return Err(
            "the driver does not say its version, so its files cannot be told from another's".to_owned()
        );
    }
    for (name, linked, needed) in LIBRARIES {
        match library(root, &format!("{name}.{}", reading.driver)) {
            Some(source) => {
                let linked =
                    if linked.is_empty() { format!(".{}", reading.driver) } else { linked.to_owned() };
                access.files.extend(TARGETS.map(|folder| DriverFile {
                    source: source.display().to_string(),
                    target: format!("{folder}/{name}{linked}"),
                }));
            }
            None if needed => {
                return Err(format!(
                    "{name}.{} is nowhere on this machine: install the part of NVIDIA's driver for computing (libcuda1, nvidia-compute-utils, nvidia-driver-cuda …)",
                    reading.driver
                ));
            }
            None => {}
        }
    }
    for program in PROGRAMS {
        // A script around it would look for what is not in the container.
        let whole = PROGRAM_FOLDERS.iter().filter_map(|folder| real(root, &format!("{folder}/{program}")));
        if let Some(source) = whole.into_iter().find(|path| is_elf(path)) {
            let source = below(root, &source);
            access.files.push(DriverFile {
                source: source.display().to_string(),
                target: format!("/usr/bin/{program}"),
            });
        }
    }
    Ok(access)
}

fn library(root: &Path, file: &str) -> Option<PathBuf> {
    let found = FOLDERS.iter().find_map(|folder| real(root, &format!("{folder}/{file}")))?;
    Some(below(root, &found))
}

/// A file with its links followed: an engine binds what a link leads to on the host, and that may be another root's.
fn real(root: &Path, path: &str) -> Option<PathBuf> {
    fs::canonicalize(root.join(path)).ok().filter(|path| path.is_file())
}

/// As the host calls it.
fn below(root: &Path, path: &Path) -> PathBuf {
    let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    path.strip_prefix(&root).map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Card;
    use lattice_model::machine::GpuFacts;

    fn reading(mig: bool) -> GpuReading {
        let facts = GpuFacts { id: "GPU-1".into(), mig, ..GpuFacts::default() };
        GpuReading {
            driver: "580.1".into(),
            cuda: "13.0".into(),
            cards: vec![Card { facts, minor: Some(3), ..Card::default() }],
        }
    }

    fn host(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "\x7fELF and more").unwrap();
        }
        root
    }

    const WHOLE: [&str; 8] = [
        "dev/nvidiactl",
        "dev/nvidia-uvm",
        "dev/nvidia3",
        "usr/lib64/libcuda.so.580.1",
        "usr/lib64/libcuda.so.570.1",
        "usr/lib64/libnvidia-ml.so.580.1",
        "usr/local/nvidia/lib64/libnvidia-ptxjitcompiler.so.580.1",
        "usr/bin/nvidia-smi",
    ];

    #[test]
    fn files_of_the_drivers_version_and_nodes_of_the_card() {
        let root = host(&WHOLE);
        let access = direct(root.path(), &reading(false)).unwrap();
        assert_eq!(access.common, ["/dev/nvidiactl", "/dev/nvidia-uvm"]);
        assert_eq!(access.devices["GPU-1"], ["/dev/nvidia3"]);
        let of = |target: &str| {
            let file = access.files.iter().find(|file| file.target == target);
            file.map(|file| file.source.clone()).unwrap_or_default()
        };
        assert_eq!(of("/usr/lib64/libcuda.so.1"), "/usr/lib64/libcuda.so.580.1");
        assert_eq!(
            of(&format!("{}/libnvidia-ptxjitcompiler.so.1", TARGETS[0])),
            "/usr/local/nvidia/lib64/libnvidia-ptxjitcompiler.so.580.1"
        );
        assert_eq!(of("/usr/bin/nvidia-smi"), "/usr/bin/nvidia-smi");
        assert!(!access.files.iter().any(|file| file.source.contains("570")), "{access:?}");
        let mig = direct(root.path(), &reading(true)).unwrap();
        assert!(mig.devices.is_empty(), "instances are given by a toolkit");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (missing, word) in [
            ("dev/nvidia-uvm", "nvidia-modprobe"),
            ("usr/lib64/libcuda.so.580.1", "libcuda.so.580.1"),
            ("usr/lib64/libnvidia-ml.so.580.1", "libnvidia-ml"),
        ] {
            let some: Vec<&str> = WHOLE.into_iter().filter(|file| *file != missing).collect();
            let why = direct(host(&some).path(), &reading(false)).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        let nothing = direct(host(&WHOLE).path(), &GpuReading::default()).unwrap_err();
        assert!(nothing.contains("version"), "{nothing}");
    }
}
