//! Why a backup is not made, read or found.

use std::{io, path::PathBuf};

/// Why a backup is not made, read or found. Nothing half made is left where it would be listed as good.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The place is not one that is known.
    #[error("{text:?} is not a place for backups ({problem}): write a folder's path, or s3://BUCKET/PREFIX")]
    Place {
        /// As it was given, without credentials.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// A folder or file cannot be used.
    #[error("{} cannot be {action}: check that it exists, belongs to this user and has room", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The object store refused.
    #[error("the object store refused to {action}: {status} {message}; check bucket, region and credentials")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it said, shortened.
        message: String,
    },
    /// The object store is not reached.
    #[error(
        "the object store at {host} cannot be reached: check the endpoint and the network, then try again"
    )]
    Unreachable {
        /// Host and port.
        host: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No credentials for the object store.
    #[error(
        "there are no credentials for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the \
         environment, or name a file with these lines as credentials_file"
    )]
    NoCredentials,
    /// The passphrase is too short.
    #[error(
        "the passphrase has fewer than {least} characters: take a longer one, since whoever has it has the cluster"
    )]
    ShortPassphrase {
        /// The least length.
        least: usize,
    },
    /// A recipient or identity cannot be read.
    #[error(
        "{what}: write an X25519 key as `age-keygen` prints it (age1… to encrypt, AGE-SECRET-KEY-1… to decrypt)"
    )]
    InvalidKey {
        /// Which, and never the key itself.
        what: String,
    },
    /// Encryption without a key was asked for.
    #[error(
        "a backup holds the master key and is never written without encryption: give a passphrase or a recipient"
    )]
    NoLock,
    /// Another key.
    #[error("the backup does not open with this {what}: it was made with another one")]
    WrongKey {
        /// `passphrase` or `key`.
        what: &'static str,
    },
    /// The bytes are not what was written.
    #[error("the backup is damaged ({problem}): use another one; nothing was restored from it")]
    Damaged {
        /// What was found.
        problem: String,
    },
    /// A newer program wrote it.
    #[error(
        "the backup has format {found}, and this program knows {known}: install the version that made it ({by})"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
        /// The version of Lattice that made it.
        by: String,
    },
    /// There is no such backup.
    #[error("there is no backup {name:?} in {place}: `lattice backup ls` lists them")]
    NotFound {
        /// What was asked for.
        name: String,
        /// Where.
        place: String,
    },
    /// Reading or writing its bytes failed.
    #[error("the bytes of the backup could not be {action}: look at the cause and try again")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The scratch store of a verification.
    #[error("the backup's rows do not go into a store: use another backup")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The one who writes or reads has gone.
    #[error("the backup was given up because its other end stopped: look at the error before this one")]
    Stopped,
}

impl BackupError {
    pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }

    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    pub(crate) fn damaged(problem: impl Into<String>) -> Self {
        Self::Damaged { problem: problem.into() }
    }
}
