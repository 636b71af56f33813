//! The way back: what an import made is removed, what it stopped is started again. And what becomes
//! of one that was interrupted, when somebody types the command again.

use super::{
    carry::LABEL,
    journal::{Desk, Journal, Phase, Ran},
    stage, work,
};
use crate::{
    args::ImportArgs,
    commands::follow::Outcome,
    context::Context,
    error::{CliError, FAILED, INTERRUPTED},
    terminal::{self, note},
};
use anyhow::Context as _;
use lattice_api::{DeleteStackQuery, ErrorCode, StackDetail, VolumeQuery};
use lattice_client::ClientError;
use lattice_model::goal::DesiredState;
use lattice_runtime::docker::Projects;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// How long the removal of the stack is waited for.
const REMOVAL: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// Takes an import back. What is left to do stays in the journal where something fails.
///
/// # Errors
/// When the stack cannot be removed, or a container not be started.
pub(super) async fn undo(
    ctx: &Context,
    engine: &Projects,
    desk: &Desk,
    journal: &mut Journal,
) -> anyhow::Result<()> {
    if let Err(error) = engine.clear((LABEL, &journal.project)).await {
        note(&format!(
            "warning: what carried data out of {} was not removed ({error}); the next import of it does that",
            journal.project
        ));
    }
    let removed = remove(ctx, journal).await;
    if let (Err(error), Phase::Starting) = (&removed, journal.phase) {
        // It may run, and two of a kind are one too many.
        let text = format!(
            "{} may run and could not be removed, so {} was not started beside it: {error:#}",
            journal.stack, journal.project
        );
        return Err(CliError::Failed(text).into());
    }
    let started = start(engine, journal).await;
    if started.is_ok() {
        journal.stopped = 0;
        desk.write(journal)?;
    }
    started?;
    removed.with_context(|| format!("{} is left, held, and could not be removed", journal.stack))?;
    desk.forget()
}

fn is_gone(error: &ClientError) -> bool {
    matches!(error, ClientError::Api(body) if body.code == ErrorCode::NotFound)
}

/// Whether the import made a stack: its source says so in the first line. A source that was too long
/// to be kept says nothing; then a stack that is held, as nothing else is, has to do.
fn is_ours(stack: &StackDetail, mark: &str) -> bool {
    match &stack.source {
        Some(source) => source.lines().next() == Some(mark),
        None => stack.workloads.iter().all(|workload| workload.desired == DesiredState::Hold),
    }
}

/// Removes the stack with the copies in its volumes, if the import made it, and waits for its end.
async fn remove(ctx: &Context, journal: &Journal) -> anyhow::Result<()> {
    let key = &journal.stack;
    let began = Instant::now();
    match ctx.client.stack(key).await {
        Ok(stack) if !is_ours(&stack, &journal.mark) => {
            note(&format!("the stack {key} is not what the import made; it is left alone"));
            return Ok(());
        }
        Ok(_) => {}
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match ctx.client.delete_stack(key, &DeleteStackQuery { volumes: true }).await {
        Ok(_) => note(&format!("removes {key}, and the copies in its volumes …")),
        Err(error) if is_gone(&error) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        let (project, stack) = (Some(key.project.to_string()), Some(key.stack.to_string()));
        let volumes = ctx.client.volumes(&VolumeQuery { project, stack }).await?.items;
        let gone = matches!(ctx.client.stack(key).await, Err(error) if is_gone(&error));
        if gone && volumes.is_empty() {
            return Ok(());
        }
        if began.elapsed() > REMOVAL {
            anyhow::bail!(
                "it is not gone after {REMOVAL:?}; `lattice ps -a {}` shows what is left",
                key.stack
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Starts what was stopped, whoever others depend on first.
async fn start(engine: &Projects, journal: &Journal) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    let begun = journal.ran.get(..journal.stopped).unwrap_or(&journal.ran);
    for ran in begun.iter().rev().flatten() {
        if let Err(error) = revive(engine, ran).await {
            failed.push(format!("{}: {error:#}", ran.name));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let text = format!("not everything of {} could be started again: {}", journal.project, failed.join("; "));
    Err(CliError::Failed(text).into())
}

async fn revive(engine: &Projects, Ran { id, name, restart }: &Ran) -> anyhow::Result<()> {
    let Some(container) = engine.container(id).await? else {
        anyhow::bail!("the container was removed meanwhile; `docker compose up` makes it anew");
    };
    // A stop that was begun goes on in the engine, and would follow upon the start.
    engine.stop(&container).await?;
    if container.restart != *restart {
        engine.set_restart(id, restart).await?;
    }
    engine.start(id).await?;
    note(&format!("{name} is started again"));
    Ok(())
}

/// Deals with an import that was begun and did not come to its end. Gives how the command ends, or
/// nothing where it may begin anew.
pub(super) async fn resume(
    ctx: &Context,
    args: &ImportArgs,
    socket: &str,
    engine: &Projects,
    desk: &Desk,
    mut journal: Journal,
) -> anyhow::Result<Option<ExitCode>> {
    let (project, key) = (journal.project.clone(), journal.stack.clone());
    note(&format!(
        "An import of {project} as {key} was interrupted {}.{}",
        stage(journal.phase),
        what_is_down(&journal)
    ));
    let server = ctx.client.endpoint().to_string();
    if journal.engine != socket || journal.server != server {
        let text = format!(
            "it was begun with the engine {} and the server {}; say --engine {} --server {}",
            journal.engine, journal.server, journal.engine, journal.server
        );
        return Err(CliError::Usage(text).into());
    }
    if args.dry_run {
        note(match journal.phase {
            Phase::Placing | Phase::Copying => {
                "Without --dry-run what it made is removed, what it stopped is started, and it begins anew."
            }
            Phase::Starting => "Without --dry-run it goes on: the stack is started and followed.",
        });
        note("--undo takes it back and leaves it at that.");
        return Ok(Some(ExitCode::SUCCESS));
    }
    if args.undo {
        let question = format!(
            "The stack {key} was started: remove it, with what it wrote since, and start {project} again?"
        );
        if journal.phase == Phase::Starting && !args.yes && !terminal::confirm(&question)? {
            note("nothing was changed");
            return Ok(Some(ExitCode::SUCCESS));
        }
        undo(ctx, engine, desk, &mut journal).await?;
        note(&format!("the import of {project} is taken back"));
        return Ok(Some(ExitCode::SUCCESS));
    }
    if journal.phase < Phase::Starting {
        undo(ctx, engine, desk, &mut journal).await?;
        note(&format!("{project} is as it was before, and its import begins anew\n"));
        return Ok(None);
    }
    // The data is there and was compared, and services may have written since.
    note("It goes on: the stack is started and followed.");
    match work::start(ctx, &key, 0, args.timeout.as_std()).await? {
        Outcome::Ready(_) | Outcome::Held(..) => {
            desk.forget()?;
            note(&work::goodbye(&project, &key, &journal.ran));
            Ok(Some(ExitCode::SUCCESS))
        }
        Outcome::Interrupted => Ok(Some(ExitCode::from(INTERRUPTED))),
        Outcome::Failed(..) | Outcome::TimedOut(_) => {
            note(&format!(
                "error: {key} does not run yet. See why with `lattice explain SERVICE`; `lattice import {project} --undo` \
                 removes it, with what it wrote since its start, and starts {project} again"
            ));
            Ok(Some(ExitCode::from(FAILED)))
        }
    }
}

fn what_is_down(journal: &Journal) -> String {
    let begun = journal.ran.get(..journal.stopped).unwrap_or(&journal.ran);
    let names: Vec<&str> = begun.iter().flatten().map(|ran| ran.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(" It had stopped {}.", names.join(", ")) }
}
