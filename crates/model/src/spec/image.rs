//! Which image exactly: what a name stood for when it was deployed.

use super::{InvalidDigest, TreeDigest, WorkloadSpec};
use crate::name::SecretName;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// What stands before the digits, as Docker and the registries write it.
const SHA256: &str = "sha256:";

/// The digest of an image or of a layer: `sha256:` and 64 hexadecimal digits.
///
/// Of an uploaded image it is that of its configuration, which Docker calls the image's id; the
/// configuration names the layers by the digests of their unpacked archives, so the id pins all of it.
/// Of one in a registry it is that of its manifest, or of the index over several platforms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct ImageDigest(TreeDigest);

impl ImageDigest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(TreeDigest::of(bytes))
    }

    /// From a hash that was computed piece by piece.
    pub const fn from_sha256(hash: [u8; 32]) -> Self {
        Self(TreeDigest::from_sha256(hash))
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The 64 digits alone.
    pub fn hex(&self) -> String {
        self.0.to_string()
    }

    /// Its first twelve digits, for people.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl FromStr for ImageDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        // Without the prefix it is refused by the digits' own parser, which names it.
        text.strip_prefix(SHA256).unwrap_or("").parse().map(Self).map_err(|_| InvalidDigest::of_image(text))
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHA256}{}", self.0)
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageDigest({self})")
    }
}

/// Where a pinned image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// From the registry that its name says.
    Registry,
    /// From the server, to which its project uploaded it.
    Server,
}

/// Which image exactly a workload runs, whatever its name stands for later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ImagePin {
    /// Where it comes from.
    pub from: ImageSource,
    /// Its digest.
    pub digest: ImageDigest,
    /// What it is made for, as `os/arch` or `os/arch/variant`; any one will do. Empty where nobody knows.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub platforms: BTreeSet<String>,
}

/// The name of an image without tag and digest: `registry.example:5000/app` of `registry.example:5000/app:1@sha256:…`.
pub fn image_repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        // A colon before the last slash is that of a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// The host of the registry that an image's name says, by Docker's rule: what stands before the first
/// slash where it has a dot or a colon or is `localhost`; else Docker Hub, `docker.io`.
pub fn image_registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// How the secrets are called that hold logins for registries.
const REGISTRY: &str = "registry.";

/// The name of the project's secret that holds the login for a registry: its host after `registry.`,
/// with `_`, which no host has, before the port. `None` where that is no host, or too long for a name.
pub fn registry_secret(host: &str) -> Option<SecretName> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    match !host.is_empty() && host.chars().all(plain) {
        true => SecretName::new(format!("{REGISTRY}{}", host.replace(':', "_"))).ok(),
        false => None,
    }
}

/// The host of the registry that a secret holds the login for, if it does.
pub fn registry_of_secret(name: &SecretName) -> Option<String> {
    name.as_str().strip_prefix(REGISTRY).map(|host| host.replace('_', ":"))
}

impl WorkloadSpec {
    /// What an engine is asked for by name: the very image that is pinned, where one is.
    pub fn engine_image(&self) -> String {
        match &self.pin {
            None => self.image.clone(),
            Some(ImagePin { from: ImageSource::Server, digest, .. }) => digest.to_string(),
            Some(ImagePin { from: ImageSource::Registry, digest, .. }) => {
                format!("{}@{digest}", image_repository(&self.image))
            }
        }
    }

    /// The uploaded image that it runs, if it runs one.
    pub fn uploaded_image(&self) -> Option<ImageDigest> {
        self.pin.as_ref().filter(|pin| pin.from == ImageSource::Server).map(|pin| pin.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_as_docker_writes_them() {
        let digest = ImageDigest::of(b"x");
        assert_eq!(digest.to_string().parse::<ImageDigest>().unwrap(), digest);
        assert_eq!(digest.to_string(), format!("sha256:{}", digest.hex()));
        for text in ["", "sha256:", "sha512:00", &digest.hex(), &digest.to_string().to_uppercase()] {
            assert!(text.parse::<ImageDigest>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_come_apart() {
        for (image, repository, registry) in [
            ("nginx", "nginx", "docker.io"),
            ("nginx:1.27", "nginx", "docker.io"),
            ("team/app:1@sha256:00", "team/app", "docker.io"),
            ("r.example:5000/team/app", "r.example:5000/team/app", "r.example:5000"),
            ("r.example:5000/team/app:2", "r.example:5000/team/app", "r.example:5000"),
            ("localhost/app", "localhost/app", "localhost"),
        ] {
            assert_eq!((image_repository(image), image_registry(image)), (repository, registry));
        }
    }

    #[test]
    fn a_login_is_named_after_its_registry() {
        for host in ["docker.io", "ghcr.io", "registry.example:5000", "localhost:5000"] {
            assert_eq!(registry_of_secret(&registry_secret(host).unwrap()).unwrap(), host);
        }
        assert!(registry_secret("").is_none() && registry_secret("a/b").is_none());
        assert!(registry_of_secret(&"db_password".parse().unwrap()).is_none());
    }

    #[test]
    fn an_engine_is_asked_for_what_is_pinned() {
        let mut spec = WorkloadSpec::of_image("r.example:5000/app:1");
        assert_eq!(spec.engine_image(), "r.example:5000/app:1");
        let digest = ImageDigest::of(b"x");
        let pin = |from| Some(ImagePin { from, digest, platforms: BTreeSet::new() });
        spec.pin = pin(ImageSource::Registry);
        assert_eq!(spec.engine_image(), format!("r.example:5000/app@{digest}"));
        assert_eq!(spec.uploaded_image(), None);
        spec.pin = pin(ImageSource::Server);
        assert_eq!((spec.engine_image(), spec.uploaded_image()), (digest.to_string(), Some(digest)));
    }
}
