//! `lattice server install` and `uninstall`: the server as a service of systemd.
//!
//! - [`plan`]: what is to be done, as data; pure, and what `--dry-run` prints;
//! - [`unit`]: the text of the unit and of a first configuration;
//! - [`run`]: does it, in order, and says so.
//!
//! Rejected: `DynamicUser`, since the state then has no owner whom a person can name; a package's scripts,
//! since people install Lattice as one file.

mod plan;
mod run;
mod unit;

pub(crate) use run::{install, uninstall};

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Make the control plane a service of systemd that starts with the machine.
    Install(InstallArgs),
    /// Take the service away; data and configuration stay unless told.
    Uninstall(UninstallArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The configuration; a first one is written where there is none.
    #[arg(long, value_name = "FILE", default_value = "/etc/lattice/server.toml")]
    pub(crate) config: PathBuf,
    /// The user that the server runs as; made where there is none.
    #[arg(long, value_name = "NAME", default_value = "lattice", value_parser = unit::user)]
    pub(crate) user: String,
    /// Only print the unit and the steps.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Install below this folder and start nothing: for images and tests.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// The configuration that the service was installed with.
    #[arg(long, value_name = "FILE", default_value = "/etc/lattice/server.toml")]
    pub(crate) config: PathBuf,
    /// The user that the server runs as.
    #[arg(long, value_name = "NAME", default_value = "lattice", value_parser = unit::user)]
    pub(crate) user: String,
    /// Also delete the state, the configuration and the user. There is no way back but a backup.
    #[arg(long)]
    pub(crate) purge: bool,
    /// The cluster's name, for --purge [default: asked for].
    #[arg(long, value_name = "NAME", requires = "purge")]
    pub(crate) confirm: Option<String>,
    /// Only print the steps.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// As it was installed.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) root: Option<PathBuf>,
}
