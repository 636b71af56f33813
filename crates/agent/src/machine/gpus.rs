//! GPUs, by the files of the kernel and its drivers: NVIDIA's in `/proc/driver/nvidia`, AMD's and those without
//! a driver of the maker's in `/sys/class/drm`. What the maker's own library alone knows (memory of
//! NVIDIA's, instances, links) is not told.

use super::Roots;
use lattice_model::{
    Bytes,
    machine::{GpuFacts, GpuState, GpuVendor},
};

/// All of them, NVIDIA's first, in the order of their addresses.
pub(super) fn gpus(roots: &Roots) -> Vec<GpuFacts> {
    let mut gpus = nvidia(roots);
    gpus.extend(amd(roots));
    gpus
}

fn nvidia(roots: &Roots) -> Vec<GpuFacts> {
    let folder = "proc/driver/nvidia/gpus";
    let version = roots.read("proc/driver/nvidia/version");
    // NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024
    let driver = version.lines().next().and_then(|line| {
        line.split_whitespace()
            .find(|word| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    });
    let one = |(index, address): (u32, &String)| {
        let text = roots.read(&format!("{folder}/{address}/information"));
        let field = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        GpuFacts {
            // A card that fell off the bus says question marks.
            id: field("GPU UUID").filter(|id| !id.contains('?')).unwrap_or_else(|| address.clone()),
            index,
            vendor: GpuVendor::Nvidia,
            model: field("Model").unwrap_or_else(|| "NVIDIA".to_owned()),
            driver: driver.unwrap_or_default().to_owned(),
            state: GpuState::Found,
            ..GpuFacts::default()
        }
    };
    (0..).zip(&roots.names(folder)).map(one).collect()
}

fn amd(roots: &Roots) -> Vec<GpuFacts> {
    let folder = "sys/class/drm";
    // card0 and not card0-HDMI-A-1, which is one of its sockets.
    let is_card =
        |name: &&String| name.strip_prefix("card").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let mut gpus = Vec::new();
    for card in roots.names(folder).iter().filter(is_card) {
        let of = |what: &str| roots.read(&format!("{folder}/{card}/device/{what}"));
        if of("vendor") != "0x1002" {
            continue;
        }
        let name = of("product_name");
        let address =
            of("uevent").lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME=").map(ToOwned::to_owned));
        let unique = of("unique_id");
        let id = if unique.is_empty() { address.unwrap_or_else(|| card.clone()) } else { unique };
        gpus.push(GpuFacts {
            id,
            index: u32::try_from(gpus.len()).unwrap_or(u32::MAX),
            vendor: GpuVendor::Amd,
            model: if name.is_empty() { format!("AMD {}", of("device")) } else { name },
            memory: Bytes(of("mem_info_vram_total").parse().unwrap_or(0)),
            driver: "amdgpu".to_owned(),
            state: GpuState::Found,
            ..GpuFacts::default()
        });
    }
    gpus
}
