//! What macOS says of its GPU (`system_profiler SPDisplaysDataType -json`): a name and a number of cores. It is told
//! and never handed out, since containers run in a virtual machine that does not have it.

use lattice_model::machine::{GpuFacts, GpuState, GpuVendor};

/// Why none of them is handed out.
pub const WHY: &str = "containers on macOS run in a virtual machine that does not have the GPU";

/// The GPUs in an answer; none where it cannot be read.
pub fn gpus(json: &str) -> Vec<GpuFacts> {
    let answer: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let list = answer["SPDisplaysDataType"].as_array().cloned().unwrap_or_default();
    let one = |(index, entry): (u32, serde_json::Value)| {
        let text = |key: &str| entry[key].as_str().map(str::to_owned);
        let name = text("sppci_model").or_else(|| text("_name"))?;
        let cores = text("sppci_cores").map(|cores| format!(" ({cores} cores)")).unwrap_or_default();
        let apple = text("spdisplays_vendor").is_some_and(|vendor| vendor.contains("Apple"));
        Some(GpuFacts {
            id: format!("apple-{index}"),
            index,
            vendor: if apple || name.starts_with("Apple") { GpuVendor::Apple } else { GpuVendor::Other },
            model: format!("{name}{cores}"),
            state: GpuState::Found,
            why: Some(WHY.to_owned()),
            ..GpuFacts::default()
        })
    };
    (0..).zip(list).filter_map(one).collect()
}

/// Asks macOS.
#[cfg(target_os = "macos")]
pub fn ask() -> Vec<GpuFacts> {
    let answer = std::process::Command::new("/usr/sbin/system_profiler")
        .args(["SPDisplaysDataType", "-json", "-timeout", "5"])
        .output();
    answer.map(|answer| gpus(&String::from_utf8_lossy(&answer.stdout))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_answer_is_read() {
        let recorded = r#"{"SPDisplaysDataType":[{"_name":"kHW_AppleM2ProItem","spdisplays_mtlgpufamilysupport":
            "spdisplays_metal3","spdisplays_vendor":"sppci_vendor_Apple","sppci_bus":"spdisplays_builtin",
            "sppci_cores":"19","sppci_device_type":"spdisplays_gpu","sppci_model":"Apple M2 Pro"}]}"#;
        let gpus = gpus(recorded);
        assert_eq!(
            (gpus.len(), gpus[0].vendor, gpus[0].model.as_str()),
            (1, GpuVendor::Apple, "Apple M2 Pro (19 cores)")
        );
        assert!(!gpus[0].units()[0].is_usable());
        assert!(super::gpus("no").is_empty() && super::gpus("{}").is_empty());
    }
}
