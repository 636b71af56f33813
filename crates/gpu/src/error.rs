//! Why GPUs cannot be read.

/// Of this crate.
pub type Result<T> = std::result::Result<T, GpuError>;

/// Why a driver does not tell of its GPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuError {
    /// There is no library.
    #[error(
        "the library of NVIDIA's driver (libnvidia-ml.so.1) is not on this machine; install NVIDIA's driver if it has such a GPU"
    )]
    NoLibrary,
    /// There is a library and no driver.
    #[error(
        "NVIDIA's driver is installed and not loaded; restart the machine, or look why it is not (`dmesg | grep -i nvidia`)"
    )]
    NotLoaded,
    /// Library and driver are of two versions.
    #[error(
        "NVIDIA's library and the driver in the kernel are of two versions, as after an update; restart the machine"
    )]
    Mismatch,
    /// A driver does not answer.
    #[error(
        "NVIDIA's driver does not answer within {0} s; what uses a GPU may hang with it, and restarting the machine helps"
    )]
    Hung(u64),
    /// Anything else.
    #[error("NVIDIA's driver refuses to tell of its GPUs: {0}; `nvidia-smi` should say the same")]
    Refused(String),
}
