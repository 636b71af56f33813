//! `lattice-agent run`: joins first where that is asked for or was begun, then serves until a
//! signal. What runs in the engine runs on.

use crate::{Context, enrol, farewell};
use anyhow::{Context as _, Result};
use clap::Args;
use lattice_agent_core::{
    AgentError, AgentParts, Ended, JoinOptions, JoinToken, NodeName, PendingJoin, ServerAddress, Sleep,
    System, note_elsewhere, session_manager,
};
use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Read a join token from standard input and join with it, unless this machine has joined
    #[arg(long)]
    join_token_stdin: bool,
    /// With --join-token-stdin: what this machine is to be called
    #[arg(long, value_name = "NAME", requires = "join_token_stdin")]
    name: Option<NodeName>,
    /// Dial this server from now on, instead of those of the token; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    server: Vec<ServerAddress>,
    /// Write the log to this file, of at most 8 MiB with three older ones beside it, instead of standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// Whoever deploys is who owns this machine: work runs also where its network cannot be closed to containers
    #[arg(long)]
    own_machine: bool,
    /// Where the kernel's files about power, heat and network are; for tests
    #[arg(long, hide = true, value_name = "FOLDER")]
    machine_root: Option<PathBuf>,
}

/// The session manager, which announces sleep; without one nothing is announced.
async fn manager() -> Option<Arc<dyn Sleep>> {
    match session_manager().await {
        Ok(manager) => Some(manager),
        Err(why) => {
            info!(why, "no session manager answers; sleep is not announced, and the machine not kept awake");
            None
        }
    }
}

pub(crate) async fn run(context: &Context, args: RunArgs) -> Result<ExitCode> {
    let mut terminated = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let shutdown = CancellationToken::new();
    let cancel = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminated.recv() => info!("asked to end by SIGTERM"),
            _ = interrupted.recv() => info!("asked to end by SIGINT"),
        }
        cancel.cancel();
    });
    let (paths, config) = (context.paths(), context.config()?);
    if paths.identity()?.is_none() && !paths.joining() && !args.join_token_stdin {
        // Without a trace: one that a service manager starts again after a reset makes no folder.
        return Err(AgentError::NotJoined.into());
    }
    let home = context.open()?;
    let engine = config.docker_host(context.docker_host.as_deref());
    if let Err(error) = note_elsewhere(&home, &engine, args.log_file.as_deref()) {
        warn!(%error, "where engine and log are cannot be noted for a later reset");
    }
    let runtime = context.runtime(&config)?;
    if home.identity()?.is_none() {
        let join = match home.pending_join()? {
            // A token that is given now counts more than one of an attempt before.
            Some(pending) if !args.join_token_stdin => pending,
            _ if args.join_token_stdin => {
                let text = tokio::task::spawn_blocking(enrol::from_stdin).await??;
                PendingJoin { token: JoinToken::parse(&text)?, name: args.name }
            }
            _ => return Err(AgentError::NotJoined.into()),
        };
        let options = JoinOptions { patience: Duration::MAX };
        tokio::select! {
            joined = enrol::enrolled(&home, &join, &config, &*runtime, options) => drop(joined?),
            () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
        }
    }
    home.move_servers(args.server)?;
    let sensors = Arc::new(args.machine_root.map_or_else(System::new, System::below));
    let manager = manager().await;
    let (firewall, log) = (Some(context.firewall(&config)), context.log.clone());
    let own_machine = args.own_machine;
    let parts = AgentParts { home, config, runtime, sensors, manager, log, firewall, own_machine };
    match lattice_agent_core::run(parts, shutdown).await? {
        Ended::Shutdown => Ok(ExitCode::SUCCESS),
        Ended::Leave { remove } => farewell::leave_now(context, remove).await,
    }
}
