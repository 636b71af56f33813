//! `status` and `explain`.

use crate::{
    args::ExplainArgs,
    context::Context,
    resolve, show,
    table::{Style, clean},
    terminal,
};
use lattice_api::{Status, WorkloadView, paths};
use lattice_model::resource::Superseded;
use std::fmt::Write;

/// `lattice status`.
pub(crate) async fn status(ctx: &Context) -> anyhow::Result<()> {
    if ctx.is_json() {
        return ctx.object_json(&paths::status()).await;
    }
    let status = ctx.client.status().await?;
    terminal::data(describe(ctx, &status)?.as_bytes())
}

fn describe(ctx: &Context, status: &Status) -> anyhow::Result<String> {
    let paint = |style: Style, text: &str| style.paint(text, ctx.colour);
    let mut text = String::new();
    let ready = if status.ready { paint(Style::Good, "ready") } else { paint(Style::Warn, "not ready") };
    writeln!(text, "cluster   {} ({}), {ready}", clean(&status.name), status.cluster_id.short())?;
    let age = show::age(status.started_at, ctx.now());
    writeln!(text, "server    {} at {}, up for {age}", clean(&status.version), ctx.client.endpoint())?;
    writeln!(text, "agents    connect to {}", clean(&status.agent_addresses.join(", ")))?;
    writeln!(text, "store     revision {}, incarnation {}", status.revision, status.incarnation)?;
    let nodes = &status.nodes;
    let mut counts = Vec::new();
    for (count, word, style) in [
        (nodes.connected, "connected", Style::Good),
        (nodes.disconnected, "disconnected", Style::Bad),
        (nodes.suspended, "suspended", Style::Warn),
        (nodes.away, "away", Style::Dim),
        (nodes.lost, "lost", Style::Bad),
        (nodes.unknown, "unknown", Style::Warn),
        (nodes.pending, "waiting for approval", Style::Warn),
        (nodes.quarantined, "quarantined", Style::Bad),
        (nodes.rejected, "rejected or revoked", Style::Dim),
    ] {
        if count > 0 {
            counts.push(paint(style, &format!("{count} {word}")));
        }
    }
    let counts =
        if counts.is_empty() { "none yet; `lattice token create`".into() } else { counts.join(", ") };
    writeln!(text, "nodes     {counts}")?;
    let planner = &status.planner;
    let last = match planner.last_run {
        Some(at) => format!("ran {} ago", show::age(at, ctx.now())),
        None => "has not run yet".into(),
    };
    writeln!(
        text,
        "planner   {last}, {} revisions behind, {} replicas pending",
        planner.behind, planner.pending
    )?;
    if let Some(place) = &status.backup.place {
        let backup = &status.backup;
        let last = match &backup.last {
            Some(last) => format!("{} ago, {} rows", show::age(last.at, ctx.now()), last.rows),
            None => "none yet".to_owned(),
        };
        let style = if backup.overdue || backup.error.is_some() { Style::Bad } else { Style::Good };
        let every = lattice_model::Duration(backup.every_ms);
        writeln!(text, "backup    {}, every {every} to {}", paint(style, &last), clean(place))?;
    }
    for warning in status.warnings.iter().chain(&planner.warnings) {
        writeln!(text, "{}", paint(Style::Warn, &format!("warning   {}", clean(warning))))?;
    }
    Ok(text)
}

/// `lattice explain`.
pub(crate) async fn explain(ctx: &Context, args: ExplainArgs) -> anyhow::Result<()> {
    let keys = ctx.workload_keys().await?;
    let key = resolve::workload(&keys, &args.service, ctx.project())?;
    if ctx.is_json() {
        return ctx.object_json(&paths::workload(&key.project, &key.stack, &key.workload)).await;
    }
    let workload = ctx.client.workload(&key).await?;
    terminal::data(explanation(&workload, ctx.colour)?.as_bytes())
}

fn explanation(workload: &WorkloadView, colour: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    let state = show::workload_style(workload.state).paint(workload.state.as_str(), colour);
    writeln!(
        text,
        "{} is {state}: {} of {} replicas serve ({})",
        resolve::workload_key(workload),
        workload.serving,
        workload.replicas,
        clean(&workload.spec.image)
    )?;
    for a in &workload.allocations {
        let former = if a.generation < workload.generation { ", of a former deployment" } else { "" };
        let going = match (a.is_lost(), a.is_going(), a.superseded) {
            (true, ..) => ", which is lost",
            (_, true, _) => ", on its way out",
            (_, _, Some(Superseded::Retired)) => ", kept to go back to",
            (_, _, Some(_)) => ", until its successor serves",
            _ => "",
        };
        writeln!(text, "  #{} {} on {}{former}{going}", a.slot, a.status.state, a.node)?;
        if !a.explanation.is_empty() {
            writeln!(text, "     placed there: {}", clean(&a.explanation))?;
        }
        if let Some(reason) = &a.status.reason {
            writeln!(text, "     its node says: {}", clean(reason))?;
        }
        if a.status.restarts > 0 {
            let code =
                a.status.exit_code.map(|code| format!("; it last ended with {code}")).unwrap_or_default();
            let often = match a.status.restarts {
                1 => "once".to_owned(),
                n => format!("{n} times"),
            };
            writeln!(text, "     started again {often}{code}")?;
        }
    }
    for slot in &workload.pending {
        let what = if slot.turn { "is not replaced yet" } else { "finds no node" };
        writeln!(text, "  #{} {what}: {}", slot.slot, clean(&slot.why))?;
        if !slot.hint.is_empty() {
            writeln!(text, "     {}", clean(&slot.hint))?;
        }
    }
    Ok(text)
}
