//! What can go wrong with the history.

use std::path::PathBuf;

/// What can go wrong with the history.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// The folder or a file in it cannot be used.
    #[error(
        "the history of metrics cannot use {path}: {source}; look at the disk and at who owns the folder"
    )]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what was written.
    #[error("a file of the history is damaged: {problem}; it is set aside, and what it held is missing")]
    Damaged {
        /// In which way.
        problem: &'static str,
    },
}

pub(crate) fn damaged(problem: &'static str) -> SeriesError {
    SeriesError::Damaged { problem }
}
