//! Why files are no tree, or a tree is not unpacked.

use std::{io, path::PathBuf};

/// The result of everything here.
pub type Result<T, E = TreeError> = std::result::Result<T, E>;

/// A failed operation; each message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Not tar, or damaged.
    #[error("the archive of files cannot be read; make it anew")]
    Unreadable(#[source] io::Error),
    /// Over a bound.
    #[error(
        "the files are too much to travel with a deployment ({what}; at most {max}); put large or many files into an image or a volume"
    )]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// What is allowed.
        max: u64,
    },
    /// Something that no tree holds.
    #[error("{path:?} cannot travel with a deployment: {problem}")]
    Refused {
        /// Where in the tree, cut to a readable length.
        path: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
    /// Not a pattern of `.dockerignore`.
    #[error("{pattern:?} in .dockerignore is no pattern; correct it, or take it out")]
    Pattern {
        /// As it is written.
        pattern: String,
    },
    /// The file system refused.
    #[error("cannot {action} {path}; check that it is there, may be read, and that the disk has room")]
    File {
        /// What was tried: "read", "create" …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}

impl TreeError {
    pub(crate) fn refused(path: &std::path::Path, problem: &'static str) -> Self {
        Self::Refused { path: path.to_string_lossy().chars().take(200).collect(), problem }
    }

    pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}
