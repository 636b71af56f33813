//! The server on this machine: `lattice up` and `lattice server`.

use crate::error::CliError;
use clap::Args;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// Flags of `lattice up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where console and API listen; loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    pub(crate) listen: SocketAddr,
    /// Where agents connect.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7443")]
    pub(crate) agent_listen: SocketAddr,
    /// Run the control plane alone; this machine does not become a node.
    #[arg(long)]
    pub(crate) no_node: bool,
    /// Where all state is kept [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
}

/// Flags of `lattice server`.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where all state is kept [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
}

/// Runs the control plane and this machine's agent until Ctrl-C.
///
/// # Errors
/// When either cannot be started.
pub(crate) async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let UpArgs { listen, agent_listen, no_node, home } = args;
    let _ = (listen, agent_listen, no_node, home);
    Err(CliError::Failed("this build of `lattice` has no server in it; use one that has".into()).into())
}

/// Runs the control plane alone until Ctrl-C.
///
/// # Errors
/// When it cannot be started.
pub(crate) async fn server(args: ServerArgs) -> anyhow::Result<ExitCode> {
    let ServerArgs { config, home } = args;
    let _ = (config, home);
    Err(CliError::Failed("this build of `lattice` has no server in it; use one that has".into()).into())
}
