//! `rollout`.

use crate::{
    args::{RolloutCommand, RolloutDecideArgs},
    commands::deploy::{finish, plan},
    context::Context,
    show,
    table::{Style, clean},
    terminal,
};
use lattice_api::{RolloutQuery, RolloutState, RolloutView, TrialView, UndoQuery, paths};
use lattice_model::{StackKey, spec::Promote};
use std::{fmt::Write, process::ExitCode};

/// `lattice rollout …`.
pub(crate) async fn run(ctx: &Context, command: RolloutCommand) -> anyhow::Result<ExitCode> {
    match command {
        RolloutCommand::Status(args) => {
            let key = ctx.stack(&args.stack).await?;
            if ctx.is_json() {
                ctx.object_json(&paths::rollout(&key.project, &key.stack)).await?;
            } else {
                let view = ctx.client.rollout(&key).await?;
                terminal::data(describe(ctx, &view)?.as_bytes())?;
            }
        }
        RolloutCommand::Undo(args) => {
            let key = ctx.stack(&args.stack).await?;
            let query = UndoQuery { to: args.to, dry_run: args.dry_run };
            let result = ctx.client.undo_rollout(&key, &query).await?;
            if args.dry_run {
                if ctx.is_json() {
                    ctx.json(&result)?;
                } else {
                    terminal::data(plan(&result, ctx.colour).as_bytes())?;
                }
                return Ok(ExitCode::SUCCESS);
            }
            terminal::note_raw(plan(&result, terminal::colours(&std::io::stderr())).as_bytes());
            return finish(ctx, &key, &result, &args.wait).await;
        }
        RolloutCommand::Pause(args) => {
            let (key, query) = decided(ctx, args).await?;
            print(ctx, &ctx.client.pause_rollout(&key, &query).await?)?;
        }
        RolloutCommand::Resume(args) => {
            let (key, query) = decided(ctx, args).await?;
            print(ctx, &ctx.client.resume_rollout(&key, &query).await?)?;
        }
        RolloutCommand::Promote(args) => {
            let (key, query) = decided(ctx, args).await?;
            print(ctx, &ctx.client.promote_rollout(&key, &query).await?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn decided(ctx: &Context, args: RolloutDecideArgs) -> anyhow::Result<(StackKey, RolloutQuery)> {
    Ok((ctx.stack(&args.stack).await?, RolloutQuery { service: args.service }))
}

fn print(ctx: &Context, view: &RolloutView) -> anyhow::Result<()> {
    if ctx.is_json() { ctx.json(view) } else { Ok(terminal::data(describe(ctx, view)?.as_bytes())?) }
}

/// What is said of a version that is tried beside the old one.
fn trial(ctx: &Context, trial: &TrialView) -> String {
    let TrialView { replicas, serving, bake, baked_at, promote } = trial;
    match (baked_at, promote) {
        (None, _) => format!("tried beside the old version: {serving} of {replicas} serve"),
        (Some(at), _) if *at > ctx.now() => {
            let left = at.since(ctx.now());
            format!("tried beside the old version: all {replicas} serve, watched for {bake}, {left} left")
        }
        (Some(_), Promote::Auto) => format!("tried beside the old version for {bake}: about to take over"),
        (Some(_), Promote::Manual) => {
            format!("tried beside the old version for {bake}: `lattice rollout promote` lets it take over")
        }
    }
}

fn describe(ctx: &Context, view: &RolloutView) -> anyhow::Result<String> {
    let mut text = String::new();
    for workload in &view.workloads {
        let (style, word) = match workload.state {
            RolloutState::Done => (Style::Good, "done"),
            RolloutState::Rolling => (Style::Warn, "rolling"),
            RolloutState::Trial => (Style::Warn, "on trial"),
            RolloutState::Paused => (Style::Bad, "paused"),
        };
        let word = style.paint(word, ctx.colour);
        writeln!(
            text,
            "{} is {word}: {} of {} replicas are of this version and serve",
            workload.name, workload.updated, workload.replicas
        )?;
        if let Some(back) = &workload.rolled_back {
            writeln!(text, "  taken back {} ago: {}", show::age(back.at, ctx.now()), clean(&back.why))?;
        }
        let pause = workload.rollout.as_ref().and_then(|one| one.paused.as_ref());
        if let Some(pause) = pause.filter(|_| workload.state == RolloutState::Paused) {
            let age = show::age(pause.at, ctx.now());
            writeln!(text, "  paused by {} {age} ago; `lattice rollout resume` goes on", clean(&pause.by))?;
        }
        if let Some(tried) = &workload.trial {
            let way = workload.strategy.as_str();
            writeln!(text, "  {way}: {}", trial(ctx, tried))?;
        }
        if let Some(until) = workload.kept_until {
            let left = until.since(ctx.now());
            writeln!(
                text,
                "  the version before is kept, stopped, for {left}; `lattice rollout undo` starts it again"
            )?;
        }
        for (slot, why) in &workload.failing {
            writeln!(text, "  #{slot} fails: {}", clean(why))?;
        }
        for why in &workload.waits {
            writeln!(text, "  waits: {}", clean(why))?;
        }
    }
    let taken_back = view.workloads.iter().any(|workload| workload.rolled_back.is_some());
    writeln!(text, "versions that are kept:")?;
    for revision in &view.revisions {
        let now = match (revision.version == view.version, revision.came_up) {
            (true, true) => ", the present one",
            (true, false) if taken_back => ", the present one, taken back",
            (true, false) => ", the present one, has not come up yet",
            (false, true) => "",
            (false, false) => ", never came up",
        };
        let images =
            revision.images.iter().map(|(name, image)| format!("{name}={image}")).collect::<Vec<_>>();
        writeln!(
            text,
            "  {} by {}, {} ago{now}: {}",
            revision.version,
            clean(&revision.by),
            show::age(revision.at, ctx.now()),
            clean(&images.join(" "))
        )?;
    }
    Ok(text)
}
