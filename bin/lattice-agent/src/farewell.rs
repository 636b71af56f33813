//! `lattice-agent leave`: this machine forgets its cluster. `lattice-agent reset`, in `reset`, takes everything
//! away.

use crate::{Context, note, say};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use lattice_agent_core::{Belongings, Home, Reply, Request, ask, belongings, remove_belongings};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

#[derive(Args)]
pub(crate) struct LeaveArgs {
    /// Stop and remove this node's containers and networks too; volumes stay
    #[arg(long)]
    remove: bool,
}

fn show(belongings: &Belongings) {
    for (name, runs) in &belongings.containers {
        say(format_args!("container  {name}{}", if *runs { " (runs)" } else { "" }));
    }
    for name in &belongings.networks {
        say(format_args!("network    {name}"));
    }
    for name in &belongings.volumes {
        say(format_args!("volume     {name} (with its data)"));
    }
}

/// How long a running agent has to end.
const END: Duration = Duration::from_secs(90);

pub(crate) async fn leave(context: &Context, args: LeaveArgs) -> Result<ExitCode> {
    let paths = context.paths();
    let Some(reply) =
        ask(&paths, &Request::Leave { remove: args.remove }).await.context("the agent did not leave")?
    else {
        return leave_now(context, args.remove).await;
    };
    let Reply::Leaving {} = reply else {
        bail!("the agent answered something else; are both of the same version?")
    };
    // It ends and does the same as is done here without one; the folder is its until then.
    let began = Instant::now();
    while paths.identity()?.is_some() {
        if began.elapsed() > END {
            bail!("the agent did not end within {} s; look at its log", END.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    note("the agent has left its cluster and ended; `lattice-agent reset` shows what is left of it");
    Ok(ExitCode::SUCCESS)
}

/// Leaves, while no agent runs.
pub(crate) async fn leave_now(context: &Context, remove: bool) -> Result<ExitCode> {
    let home = open_soon(context).await?;
    if let Some(identity) = home.identity()? {
        let runtime = context.runtime(&context.config()?)?;
        if remove {
            show(&belongings(&*runtime, identity.node).await?);
            remove_belongings(&home, &*runtime, &*context.firewall(&context.config()?), identity.node, false)
                .await?;
        } else if let Ok(left) = belongings(&*runtime, identity.node).await
            && !left.is_empty()
        {
            show(&left);
            let label = format!("docker ps -a --filter label=lattice.node={}", identity.node);
            note(format_args!(
                "these stay, and nobody restarts them any more; find them with: {label}\n`lattice-agent reset` removes them, data included"
            ));
        }
        note(format_args!(
            "node {} is forgotten here; an operator removes it from the cluster with `lattice node rm`",
            identity.node
        ));
    } else {
        note("this machine had not joined");
    }
    home.forget()?;
    Ok(ExitCode::SUCCESS)
}

/// The folder of an agent that has just ended.
async fn open_soon(context: &Context) -> Result<Home> {
    let began = Instant::now();
    loop {
        match context.open() {
            Err(error) if began.elapsed() > Duration::from_secs(5) => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(home) => return Ok(home),
        }
    }
}
