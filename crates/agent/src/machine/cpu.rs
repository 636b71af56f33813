//! The processor, by `/proc/cpuinfo` and `/sys/devices/system/cpu`.

use super::Roots;
use std::collections::BTreeSet;

/// The features that programs are built for or ask for, by the kernel's names on x86-64 and AArch64.
const FEATURES: [&str; 31] = [
    "aes",
    "amx_tile",
    "asimd",
    "asimddp",
    "atomics",
    "avx",
    "avx2",
    "avx512bw",
    "avx512f",
    "avx512vl",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
    "bf16",
    "bmi2",
    "crc32",
    "f16c",
    "fma",
    "fphp",
    "i8mm",
    "popcnt",
    "rdrand",
    "sha1",
    "sha2",
    "sha_ni",
    "sse4_1",
    "sse4_2",
    "sve",
    "sve2",
    "svm",
    "vmx",
];

fn cpuinfo<'t>(text: &'t str, key: &str) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

/// Its name; on boards whose kernel names none, the board's.
pub(super) fn model(roots: &Roots) -> String {
    let text = roots.read("proc/cpuinfo");
    let named = ["model name", "Model", "cpu model", "uarch"];
    let model = named.iter().find_map(|key| cpuinfo(&text, key).find(|name| !name.is_empty()));
    let model = model.map_or_else(|| roots.read("proc/device-tree/model"), ToOwned::to_owned);
    model.chars().take(128).collect()
}

/// Cores with circuits of their own: those of a pair of threads count once.
pub(super) fn cores(roots: &Roots) -> u32 {
    let folder = "sys/devices/system/cpu";
    let is_cpu = |name: &&String| {
        name.strip_prefix("cpu").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut cores: BTreeSet<(String, String)> = BTreeSet::new();
    for cpu in roots.names(folder).iter().filter(is_cpu) {
        let of = |what: &str| roots.read(&format!("{folder}/{cpu}/topology/{what}"));
        let (package, core) = (of("physical_package_id"), of("core_id"));
        if !core.is_empty() {
            cores.insert((package, core));
        }
    }
    if cores.is_empty() {
        let text = roots.read("proc/cpuinfo");
        for one in text.split("\n\n") {
            let of = |key: &str| cpuinfo(one, key).next().unwrap_or_default().to_owned();
            let (package, core) = (of("physical id"), of("core id"));
            if !core.is_empty() {
                cores.insert((package, core));
            }
        }
    }
    u32::try_from(cores.len()).unwrap_or(0)
}

/// What it can do, of [`FEATURES`], on every one of its cores.
pub(super) fn features(roots: &Roots) -> BTreeSet<String> {
    let text = roots.read("proc/cpuinfo");
    let mut common: Option<BTreeSet<&str>> = None;
    // Big and small cores may differ, and a program may run on either.
    for flags in cpuinfo(&text, "flags").chain(cpuinfo(&text, "Features")) {
        let flags: BTreeSet<&str> = flags.split_whitespace().filter(|flag| FEATURES.contains(flag)).collect();
        common = Some(match common {
            Some(common) => &common & &flags,
            None => flags,
        });
    }
    common.unwrap_or_default().into_iter().map(ToOwned::to_owned).collect()
}
