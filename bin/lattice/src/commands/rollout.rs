//! `rollout`.

use crate::{
    args::RolloutCommand,
    commands::deploy::{finish, plan},
    context::Context,
    show,
    table::{Style, clean},
    terminal,
};
use lattice_api::{RolloutState, RolloutView, UndoQuery, paths};
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
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(ctx: &Context, view: &RolloutView) -> anyhow::Result<String> {
    let mut text = String::new();
    for workload in &view.workloads {
        let (style, word) = match workload.state {
            RolloutState::Done => (Style::Good, "done"),
            RolloutState::Rolling => (Style::Warn, "rolling"),
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
