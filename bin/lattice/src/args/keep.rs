//! What outlives a disaster: backups of the control plane, and the move to another store.

use crate::parse;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Make a backup: of the server that runs, or of its folder when it is stopped.
    ///
    /// Without a place the server makes one where its configuration ([backup]) says.
    Create(BackupCreateArgs),
    /// List backups, and say which are whole.
    Ls(BackupLsArgs),
    /// Read all of a backup, and restore its rows into a scratch store.
    Verify(BackupReadArgs),
    /// Make an empty machine the server again. The server must not run.
    Restore(BackupRestoreArgs),
}

/// Where backups are.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// A folder, or s3://BUCKET/PREFIX [default: url of [backup] in --config].
    #[arg(long, alias = "to", alias = "from", value_name = "PLACE")]
    pub(crate) place: Option<String>,
    /// The server's configuration: its [backup] names the place and the key.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The address of an S3-compatible store that is not Amazon's [default: AWS_ENDPOINT_URL].
    #[arg(long, value_name = "URL")]
    pub(crate) s3_endpoint: Option<String>,
    /// The region of the bucket [default: AWS_REGION, else us-east-1].
    #[arg(long, value_name = "NAME")]
    pub(crate) s3_region: Option<String>,
    /// A file of AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=… lines [default: the environment].
    #[arg(long, value_name = "FILE")]
    pub(crate) s3_credentials: Option<PathBuf>,
}

/// The key of a backup. Never on the command line itself.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// A file with the passphrase, `-` for standard input [default: asked for].
    #[arg(long, env = "LATTICE_BACKUP_PASSPHRASE_FILE", value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupCreateArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// Encrypt to this public key (age1…) instead of a passphrase; may be given several times.
    #[arg(long = "recipient", value_name = "KEY", conflicts_with = "passphrase_file")]
    pub(crate) recipients: Vec<String>,
    /// Where the state of a stopped server is [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
    /// Remove this cluster's older backups and keep the newest so many.
    #[arg(long, value_name = "COUNT", value_parser = parse::count)]
    pub(crate) keep: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupLsArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BackupReadArgs {
    /// Which [default: the newest that is whole].
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// A file with the secret key (AGE-SECRET-KEY-1…) of a recipient.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) identity: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupRestoreArgs {
    /// Which [default: the newest that is whole].
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// A file with the secret key (AGE-SECRET-KEY-1…) of a recipient.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub(crate) identity: Option<PathBuf>,
    /// Where the state is to be [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
    /// Move aside what is there already; nothing is deleted.
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The old store: a server's configuration (server.toml), or sqlite:PATH.
    #[arg(long, value_name = "STORE", requires = "to")]
    pub(crate) from: Option<String>,
    /// The new store, which is to be empty: likewise.
    #[arg(long, value_name = "STORE", requires = "from")]
    pub(crate) to: Option<String>,
    /// Take back that this store is marked as moved, so that servers start on it again.
    #[arg(long, value_name = "STORE", conflicts_with_all = ["from", "to"])]
    pub(crate) reopen: Option<String>,
    /// Where the state is, for a configuration that names no home [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
}
