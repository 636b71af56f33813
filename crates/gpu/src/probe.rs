//! The proof, inside a container: each GPU that CUDA sees there is given memory, which is written and read back.
//!
//! Listing devices would prove less. `nvidia-smi` works where `/dev/nvidia-uvm` is missing or the library of CUDA is
//! of another version than the driver, and no program that computes does.
//!
//! It is the agent's own program, started in the container with [`PROBE_VARIABLE`] set, so no image with a program is
//! needed. It runs in a process of its own: CUDA's library, where it is missing or broken, may end it.

use cudarc::driver::{CudaContext, DriverError, sys::CUresult};
use serde::{Deserialize, Serialize};

/// Set for the agent's program, it proves GPUs, prints a [`ProbeReport`] and ends.
pub const PROBE_VARIABLE: &str = "LATTICE_GPU_PROBE";

/// How much is written to each and read back.
const SIZE: usize = 1 << 20;

/// What a container saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The GPUs that it used.
    pub seen: Vec<Probed>,
    /// Why it saw none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A GPU, as a container saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Its id without `GPU-` or `MIG-`, in lower case.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Why it could not be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ProbeReport {
    /// Whether this one was used: by its id with or without what it begins with.
    ///
    /// # Errors
    /// Why not.
    pub fn used(&self, id: &str) -> Result<(), String> {
        let bare = id.trim_start_matches("GPU-").trim_start_matches("MIG-").to_ascii_lowercase();
        match self.seen.iter().find(|one| one.uuid == bare) {
            Some(Probed { error: None, .. }) => Ok(()),
            Some(Probed { error: Some(error), .. }) => Err(error.clone()),
            None => Err(self.error.clone().unwrap_or_else(|| "the container does not see it".to_owned())),
        }
    }
}

/// Uses every GPU that is there. Ends the process where there is no CUDA at all, with a word on stderr.
pub fn probe() -> ProbeReport {
    let mut report = ProbeReport::default();
    match CudaContext::device_count() {
        Ok(0) => report.error = Some("CUDA finds no GPU".to_owned()),
        Ok(count) => report.seen = (0..count).filter_map(|at| usize::try_from(at).ok()).map(one).collect(),
        Err(error) => report.error = Some(words(&error)),
    }
    report
}

fn one(ordinal: usize) -> Probed {
    let mut probed = Probed::default();
    let result = CudaContext::new(ordinal).and_then(|context| {
        probed.uuid = uuid(context.uuid()?.bytes.map(|byte| byte as u8));
        probed.name = context.name().unwrap_or_default();
        let stream = context.default_stream();
        let written: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
        let there = stream.clone_htod(&written)?;
        let read = stream.clone_dtoh(&there)?;
        stream.synchronize()?;
        Ok(read == written)
    });
    probed.error = match result {
        Ok(true) => None,
        Ok(false) => Some("what was written to its memory was not read back".to_owned()),
        // It is seen and answers: somebody else has its memory, or all of it.
        Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) if !probed.uuid.is_empty() => None,
        Err(error) => Some(words(&error)),
    };
    probed
}

fn words(error: &DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    format!("CUDA says {:?}: {}", error.0, text.unwrap_or_default())
}

/// Bytes as ids are written: `5f3c0000-…`.
fn uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_which_were_used() {
        let id = uuid([
            0x96, 0xbe, 0x98, 0x3f, 0xbf, 0x0c, 0xae, 0x26, 0x6b, 0xbd, 0xed, 0x3b, 0x30, 0x4c, 0x67, 0x6a,
        ]);
        assert_eq!(id, "96be983f-bf0c-ae26-6bbd-ed3b304c676a");
        let broken = Probed { uuid: "b".into(), error: Some("broken".into()), ..Probed::default() };
        let report =
            ProbeReport { seen: vec![Probed { uuid: id, ..Probed::default() }, broken], error: None };
        assert_eq!(report.used("GPU-96BE983F-bf0c-ae26-6bbd-ed3b304c676a"), Ok(()));
        assert_eq!(report.used("MIG-b"), Err("broken".into()));
        assert!(report.used("GPU-c").unwrap_err().contains("does not see"));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ProbeReport>(&json).unwrap(), report);
    }
}
