//! `start`, `stop`, `restart`, `scale` and `rm`.

use crate::{
    args::RmArgs,
    commands::interrupted,
    context::Context,
    error::{CliError, FAILED, INTERRUPTED},
    resolve,
    terminal::{self, note},
};
use lattice_api::{DeleteStackQuery, ErrorCode, Scale};
use lattice_model::StackKey;
use std::{collections::BTreeSet, process::ExitCode, time::Duration};

/// How long `rm` waits for containers to go.
const REMOVAL: Duration = Duration::from_secs(120);
/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(300);

/// What is to happen to a service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Start,
    Stop,
    Restart,
}

/// Does it to each service that is meant; every name is understood before anything is done.
pub(crate) async fn each(ctx: &Context, targets: &[String], verb: Verb) -> anyhow::Result<()> {
    let keys = ctx.workload_keys().await?;
    let mut meant = BTreeSet::new();
    for target in targets {
        meant.extend(resolve::workloads(&keys, target, ctx.project())?);
    }
    let mut views = Vec::new();
    for key in &meant {
        let (view, said) = match verb {
            Verb::Start => (ctx.client.start(key).await?, "is to run"),
            Verb::Stop => (ctx.client.stop(key).await?, "is to stop; its containers and data stay"),
            Verb::Restart => (ctx.client.restart(key).await?, "is restarted"),
        };
        note(&format!("{key} {said}"));
        views.push(view);
    }
    if ctx.is_json() { ctx.json(&views) } else { Ok(()) }
}

/// `lattice scale`.
pub(crate) async fn scale(ctx: &Context, targets: &[(String, u32)]) -> anyhow::Result<()> {
    let keys = ctx.workload_keys().await?;
    let mut meant = Vec::new();
    for (name, replicas) in targets {
        meant.push((resolve::workload(&keys, name, ctx.project())?, *replicas));
    }
    let mut views = Vec::new();
    for (key, replicas) in meant {
        let view = ctx.client.scale(&key, &Scale { replicas }).await?;
        note(&format!("{key} is to run {replicas} times"));
        for slot in &view.pending {
            note(&format!("  #{} finds no node: {}", slot.slot, slot.why));
        }
        views.push(view);
    }
    if ctx.is_json() { ctx.json(&views) } else { Ok(()) }
}

/// `lattice rm`.
pub(crate) async fn rm(ctx: &Context, args: RmArgs) -> anyhow::Result<ExitCode> {
    let mut stacks = Vec::new();
    for text in &args.stacks {
        stacks.push(ctx.stack(text).await?);
    }
    for key in &stacks {
        let detail = ctx.client.stack(key).await?;
        let volumes: Vec<_> = detail.volumes.iter().map(|volume| volume.name.to_string()).collect();
        if args.volumes && !volumes.is_empty() && !args.yes {
            note(&format!("This deletes the data of {} for ever: {}", key, volumes.join(", ")));
            let answer = terminal::ask(&format!("Type the stack's name ({}) to go on: ", key.stack))?;
            if answer != key.stack.as_str() {
                return Err(CliError::Failed(format!(
                    "{answer:?} is not {}; nothing was removed",
                    key.stack
                ))
                .into());
            }
        }
        ctx.client.delete_stack(key, &DeleteStackQuery { volumes: args.volumes }).await?;
        if !args.volumes && !volumes.is_empty() {
            note(&format!("its volumes stay: {} (`lattice volume ls`)", volumes.join(", ")));
        }
        if args.no_wait {
            note(&format!("{key} is on its way out"));
            continue;
        }
        let gone = tokio::select! {
            result = tokio::time::timeout(REMOVAL, gone(ctx, key)) => result,
            () = interrupted() => {
                note(&format!("{key} is removed all the same; `lattice ps -a` shows what is left"));
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        match gone {
            Ok(result) => result?,
            Err(_) => {
                note(&format!(
                    "{key} is not gone after {} s: a node may be away, and removes its part when it is back; see `lattice ps -a`",
                    REMOVAL.as_secs()
                ));
                return Ok(ExitCode::from(FAILED));
            }
        }
        note(&format!("{key} is removed"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn gone(ctx: &Context, key: &StackKey) -> anyhow::Result<()> {
    loop {
        match ctx.client.stack(key).await {
            Ok(_) => tokio::time::sleep(LOOK).await,
            Err(error) if error.code() == Some(ErrorCode::NotFound) => return Ok(()),
            Err(error) if super::events::is_passing(&error) => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error.into()),
        }
    }
}
