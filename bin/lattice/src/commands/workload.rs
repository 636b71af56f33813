//! `start`, `stop`, `restart`, `scale` and `rm`.

use crate::{
    args::{RmArgs, ScaleArgs, TargetsArgs},
    commands::interrupted,
    context::Context,
    error::{CliError, FAILED, INTERRUPTED},
    resolve,
    terminal::{self, note},
};
use lattice_api::{DeleteStackQuery, ErrorCode, Scale, WorkloadState, WorkloadView};
use lattice_model::{AllocationId, StackKey, Timestamp, WorkloadKey, goal::DesiredState};
use std::{collections::BTreeSet, process::ExitCode, time::Duration};

/// How long `rm` waits for containers to go.
const REMOVAL: Duration = Duration::from_secs(120);
/// How long the other verbs wait until it is as asked.
const SETTLING: Duration = Duration::from_secs(60);
/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(200);

/// What is to happen to a service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Start,
    Stop,
    Restart,
}

/// Does it to each service that is meant; every name is understood before anything is done.
pub(crate) async fn each(ctx: &Context, args: &TargetsArgs, verb: Verb) -> anyhow::Result<ExitCode> {
    let keys = ctx.workload_keys().await?;
    let mut meant = BTreeSet::new();
    for target in &args.targets {
        meant.extend(resolve::workloads(&keys, target, ctx.project())?);
    }
    let mut begun = Vec::new();
    for key in meant {
        let before = starts(&ctx.client.workload(&key).await?);
        let (view, said) = match verb {
            Verb::Start => (ctx.client.start(&key).await?, "is to run"),
            Verb::Stop => (ctx.client.stop(&key).await?, "is to stop; its containers and data stay"),
            Verb::Restart => (ctx.client.restart(&key).await?, "is restarted"),
        };
        note(&format!("{key} {said}"));
        // A restart of what is stopped is none: it stays stopped.
        let fresh = matches!(verb, Verb::Restart) && view.desired == DesiredState::Run;
        begun.push(Begun { key, view, not: if fresh { before } else { BTreeSet::new() } });
    }
    finish(ctx, begun, args.no_wait).await
}

/// `lattice scale`.
pub(crate) async fn scale(ctx: &Context, args: &ScaleArgs) -> anyhow::Result<ExitCode> {
    let keys = ctx.workload_keys().await?;
    let mut meant = Vec::new();
    for (name, replicas) in &args.targets {
        meant.push((resolve::workload(&keys, name, ctx.project())?, *replicas));
    }
    let mut begun = Vec::new();
    for (key, replicas) in meant {
        let view = ctx.client.scale(&key, &Scale { replicas }).await?;
        note(&format!("{key} is to run {replicas} times"));
        for slot in view.stuck() {
            note(&format!("  #{} finds no node: {}", slot.slot, slot.why));
        }
        begun.push(Begun { key, view, not: BTreeSet::new() });
    }
    finish(ctx, begun, args.no_wait).await
}

/// A service of which something was asked.
struct Begun {
    key: WorkloadKey,
    view: WorkloadView,
    /// Containers that are to have been started anew, by when they were started.
    not: BTreeSet<(AllocationId, Timestamp)>,
}

fn starts(view: &WorkloadView) -> BTreeSet<(AllocationId, Timestamp)> {
    view.allocations.iter().filter_map(|a| Some((a.id, a.status.started_at?))).collect()
}

/// Waits until each service is as asked, or will not be by itself.
async fn finish(ctx: &Context, mut begun: Vec<Begun>, no_wait: bool) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    if !no_wait {
        let settled = async {
            for one in &mut begun {
                settle(ctx, one).await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            result = tokio::time::timeout(SETTLING, settled) => match result {
                Ok(result) => result?,
                Err(_) => code = ExitCode::from(FAILED),
            },
            () = interrupted() => code = ExitCode::from(INTERRUPTED),
        }
        for Begun { key, view, not } in &begun {
            if !is_so(view, not) {
                let reason = view.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
                note(&format!(
                    "{key} is {} so far{reason}; `lattice explain {key}` says more",
                    view.state.as_str()
                ));
                code = if code == ExitCode::SUCCESS { ExitCode::from(FAILED) } else { code };
            }
        }
    }
    let views: Vec<_> = begun.into_iter().map(|one| one.view).collect();
    if ctx.is_json() {
        ctx.json(&views)?;
    }
    Ok(code)
}

async fn settle(ctx: &Context, one: &mut Begun) -> anyhow::Result<()> {
    while !is_so(&one.view, &one.not)
        && !matches!(one.view.state, WorkloadState::Failed | WorkloadState::Pending)
    {
        tokio::time::sleep(LOOK).await;
        match ctx.client.workload(&one.key).await {
            Ok(view) => one.view = view,
            Err(error) if super::events::is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_so(view: &WorkloadView, not: &BTreeSet<(AllocationId, Timestamp)>) -> bool {
    view.state.is_settled() && starts(view).is_disjoint(not)
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
