//! What a workload is attached to: ports, volumes, secrets, files, networks.

use crate::name::{SecretName, VolumeName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`, as Docker writes them.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port inside the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ContainerPort {
    /// 1 to 65535.
    pub port: u16,
    /// TCP unless said.
    #[serde(default)]
    pub protocol: Protocol,
}

/// A port published on the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// The port inside the container.
    pub target: ContainerPort,
    /// The port on the node; `None` lets the node choose a free one and keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u16>,
    /// The end of a range that begins with `published`: the node chooses a free one of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_to: Option<u16>,
    /// The address on the node to bind. `None` is loopback, unless the node's owner allows more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub host_ip: Option<std::net::IpAddr>,
}

/// A named volume inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MountSpec {
    /// The volume of the stack.
    pub volume: VolumeName,
    /// An absolute path inside the container.
    pub target: String,
    /// Whether the container may only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// A secret as a file in memory inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretMount {
    /// The secret of the project.
    pub secret: SecretName,
    /// An absolute path inside the container, `/run/secrets/<name>` by custom.
    pub target: String,
    /// Permission bits of the file, e.g. 0o444.
    #[serde(default = "read_all")]
    pub mode: u32,
    /// The file's owner inside the container; `None` is root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The file's group inside the container; `None` is root's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

const fn read_all() -> u32 {
    0o444
}

/// Files that travelled with the deployment (a bind inside the project's folder, a config),
/// mounted read-only: what a container wrote there would be lost when it moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TreeMount {
    /// Which tree.
    pub tree: TreeDigest,
    /// What of it: a relative path of plain components, empty for the whole.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// An absolute path inside the container.
    pub target: String,
}

/// Names a tree of files by its content: the SHA-256 of its archive, as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
#[serde(try_from = "String", into = "String")]
pub struct TreeDigest([u8; 32]);

impl TreeDigest {
    /// The digest of an archive.
    pub fn of(archive: &[u8]) -> Self {
        Self(Sha256::digest(archive).into())
    }

    /// From a hash that was computed piece by piece.
    pub const fn from_sha256(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its first characters, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// Why a text names no tree, or no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the digest of {what}; a digest is {form}")]
pub struct InvalidDigest {
    text: String,
    what: &'static str,
    form: &'static str,
}

impl InvalidDigest {
    fn of(text: &str, what: &'static str, form: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), what, form }
    }

    pub(super) fn of_image(text: &str) -> Self {
        Self::of(text, "an image", "`sha256:` and 64 hexadecimal digits in lower case")
    }
}

impl std::str::FromStr for TreeDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(InvalidDigest::of(text, "a tree", "64 hexadecimal digits")),
        }
    }
}

impl TryFrom<String> for TreeDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<TreeDigest> for String {
    fn from(digest: TreeDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeDigest({self})")
    }
}

/// A workload on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Names besides the service's own that resolve to it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
}

/// A named volume of a stack. Holders, snapshots and failover will be policies here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Labels that people put on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A network of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Whether containers on it reach nothing outside of it.
    #[serde(default)]
    pub internal: bool,
    /// Labels that people put on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
