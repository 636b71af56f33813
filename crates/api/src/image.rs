//! Images that travel without a registry.

use lattice_model::{ProjectName, Timestamp, spec::ImageDigest};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most bytes of an image's configuration.
pub const MAX_IMAGE_CONFIG_BYTES: usize = 256 << 10;

/// A layer that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LayerView {
    /// The project.
    pub project: ProjectName,
    /// The digest of its unpacked archive.
    pub digest: ImageDigest,
    /// Bytes of that.
    pub bytes: u64,
    /// Bytes on the server's disk.
    pub stored: u64,
}

/// An image that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// The project.
    pub project: ProjectName,
    /// Its id: the digest of its configuration.
    pub id: ImageDigest,
    /// What it is made for, as `os/arch` or `os/arch/variant`.
    pub platform: String,
    /// Bytes of its layers, unpacked.
    pub bytes: u64,
    /// Its layers, the lowest first.
    pub layers: Vec<ImageDigest>,
    /// When it was uploaded last.
    pub uploaded_at: Timestamp,
    /// Since when nothing names it; it goes after a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_since: Option<Timestamp>,
}
