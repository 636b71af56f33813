//! Where backups are kept: a folder or a bucket, behind one set of verbs.

mod folder;
mod http;
mod s3;

pub use folder::Folder;
pub use s3::S3;

use crate::{BackupError, PipeReader, PipeWriter};
use std::path::PathBuf;

/// Something that lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name, without folder or prefix.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What a place needs besides its URL. What is absent is taken from the environment where S3 tools do so.
#[derive(Clone, Debug, Default)]
pub struct PlaceOptions {
    /// The object store's address, such as `https://s3.example.org`; `AWS_ENDPOINT_URL`, else Amazon's.
    pub endpoint: Option<String>,
    /// `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// A file of `AWS_ACCESS_KEY_ID=…` and `AWS_SECRET_ACCESS_KEY=…` lines; else the environment.
    pub credentials_file: Option<PathBuf>,
}

/// Where backups are kept.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder of this machine, or one that is mounted.
    Folder(Folder),
    /// A bucket of an S3-compatible store.
    S3(Box<S3>),
}

impl Place {
    /// Reads a folder's path, or `s3://BUCKET/PREFIX`. Nothing is dialled yet.
    ///
    /// # Errors
    /// [`BackupError::Place`], [`BackupError::NoCredentials`], [`BackupError::File`] for the credentials.
    pub fn open(text: &str, options: &PlaceOptions) -> Result<Self, BackupError> {
        let fail = |problem: &str| BackupError::Place {
            text: text.chars().take(200).collect(),
            problem: problem.into(),
        };
        if let Some(rest) = text.strip_prefix("s3://") {
            return Ok(Self::S3(Box::new(S3::open(rest, options)?)));
        }
        let path = text.strip_prefix("file:").unwrap_or(text);
        let path =
            path.strip_prefix("//").map_or(path, |rest| if rest.starts_with('/') { rest } else { path });
        if path.is_empty() {
            return Err(fail("it is empty"));
        }
        if path.contains("://") {
            return Err(fail("only folders and s3:// are known"));
        }
        Ok(Self::Folder(Folder::new(path)))
    }

    /// Everything that lies there and could be part of a backup.
    pub(crate) async fn objects(&self) -> Result<Vec<Object>, BackupError> {
        match self {
            Self::Folder(folder) => folder.objects().await,
            Self::S3(s3) => s3.objects().await,
        }
    }

    /// Stores a stream under a name that is free; it is there whole, or not at all.
    pub(crate) async fn put(&self, name: &str, from: PipeReader) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.put(name, from).await,
            Self::S3(s3) => s3.put(name, from).await,
        }
    }

    /// Reads something from its beginning into a pipe.
    pub(crate) async fn get(&self, name: &str, into: PipeWriter) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.get(name, into).await,
            Self::S3(s3) => s3.get(name, into).await,
        }
    }

    /// Removes something; what is not there is no error.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.delete(name).await,
            Self::S3(s3) => s3.delete(name).await,
        }
    }

    /// Removes what interrupted writers left and nobody will finish: temporary files older than a day.
    pub(crate) async fn sweep(&self) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => folder.sweep().await,
            // Uploads that were begun and not completed are for the bucket's lifecycle rule.
            Self::S3(_) => Ok(()),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => folder.fmt(f),
            Self::S3(s3) => s3.fmt(f),
        }
    }
}
