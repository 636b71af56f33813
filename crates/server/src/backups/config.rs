//! `[backup]` of the configuration.

use crate::error::ConfigError;
use lattice_backup::{BackupError, Lock, Place, PlaceOptions, passphrase};
use lattice_identity::keyfile;
use lattice_model::Duration;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Backups that a server makes by itself.
#[derive(Clone, Debug)]
pub struct BackupConfig {
    /// A folder, or `s3://BUCKET/PREFIX`.
    pub url: String,
    /// What the place needs besides.
    pub options: PlaceOptions,
    /// How often.
    pub every: Duration,
    /// How many are kept.
    pub keep: usize,
    /// The passphrase's file; or
    pub passphrase_file: Option<PathBuf>,
    /// the recipients. One of both is given.
    pub recipients: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupSection {
    url: String,
    every: Option<String>,
    keep: Option<usize>,
    passphrase_file: Option<PathBuf>,
    #[serde(default)]
    recipients: Vec<String>,
    endpoint: Option<String>,
    region: Option<String>,
    credentials_file: Option<PathBuf>,
}

impl BackupConfig {
    /// As read from the file.
    pub(crate) fn of(section: BackupSection) -> Result<Self, ConfigError> {
        let BackupSection {
            url,
            every,
            keep,
            passphrase_file,
            recipients,
            endpoint,
            region,
            credentials_file,
        } = section;
        let out_of_range = |key, allowed| ConfigError::OutOfRange { key, allowed };
        let every = match every.as_deref() {
            None => Duration::from_secs(6 * 3600),
            Some(text) => {
                span(text).ok_or_else(|| out_of_range("backup.every", "a span such as 30m, 6h or 1d"))?
            }
        };
        if !(60_000..=31 * 86_400_000).contains(&every.0) {
            return Err(out_of_range("backup.every", "1m to 31d"));
        }
        let keep = keep.unwrap_or(28);
        if !(1..=10_000).contains(&keep) {
            return Err(out_of_range("backup.keep", "1 to 10000"));
        }
        let options = PlaceOptions { endpoint, region, credentials_file };
        let config = Self { url, options, every, keep, passphrase_file, recipients };
        match (&config.passphrase_file, config.recipients.as_slice()) {
            (Some(_), []) => {}
            (None, [_, ..]) => {
                Lock::recipients(&config.recipients)
                    .map_err(|source| ConfigError::Backup { source: Box::new(source) })?;
            }
            _ => {
                let allowed = "either passphrase_file or recipients, since a backup is never written without encryption";
                return Err(out_of_range("backup", allowed));
            }
        }
        // Whether it can be reached is found out with each backup; whether it is a place, now.
        match config.place() {
            Err(source @ BackupError::Place { .. }) => Err(ConfigError::Backup { source: Box::new(source) }),
            _ => Ok(config),
        }
    }

    /// Where they go.
    pub(crate) fn place(&self) -> Result<Place, BackupError> {
        Place::open(&self.url, &self.options)
    }

    /// With what they are encrypted; the file is read anew each time.
    pub(crate) fn lock(&self) -> Result<Lock, BackupError> {
        match &self.passphrase_file {
            Some(path) => Ok(Lock::Passphrase(read_passphrase(path)?)),
            None => Lock::recipients(&self.recipients),
        }
    }
}

fn read_passphrase(path: &Path) -> Result<lattice_backup::Passphrase, BackupError> {
    let failed = |source: std::io::Error| BackupError::File { action: "read", path: path.to_owned(), source };
    let bytes = keyfile::load(path).map_err(|error| failed(std::io::Error::other(error)))?;
    let bytes = bytes.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| failed(std::io::Error::other(error)))?;
    passphrase(text)
}

/// `30m`, `6h`, `1d`.
fn span(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let size = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(size).map(Duration)
}
