//! What is wrong with an image.

use lattice_model::spec::ImageDigest;
use std::io;

/// What is wrong with an image, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is no configuration of an image that runs here.
    #[error("the image's configuration {problem}; build it again with a current Docker")]
    Config {
        /// What is wrong with it.
        problem: String,
    },
    /// It is no Dockerfile that is built for others.
    #[error("the Dockerfile {problem}; correct it, or build where a Docker is (`--build-on local`)")]
    Dockerfile {
        /// What is wrong with it.
        problem: String,
    },
    /// It is not what its name says.
    #[error("what came has the digest {found} and not {wanted}; send it again")]
    OtherDigest {
        /// What it should be.
        wanted: ImageDigest,
        /// What it is.
        found: ImageDigest,
    },
    /// A layer that is no frame, or one that lies about its size.
    #[error("a layer {problem}; send it again")]
    Frame {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than is taken.
    #[error("a layer has more than {max} bytes unpacked; put large data into a volume")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// What the engine saved lacks something.
    #[error("what the engine saved has no {what}; see what `docker save` says")]
    Missing {
        /// What is not there.
        what: String,
    },
    /// Reading or writing failed.
    #[error("the image cannot be {action}")]
    Io {
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, ImageError>;

impl ImageError {
    pub(crate) fn read(source: io::Error) -> Self {
        Self::Io { action: "read", source }
    }

    pub(crate) fn write(source: io::Error) -> Self {
        Self::Io { action: "written", source }
    }
}
