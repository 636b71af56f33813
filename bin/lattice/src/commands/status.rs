//! `status`.

use crate::{
    context::Context,
    show,
    table::{Style, clean},
    terminal,
};
use lattice_api::{Status, paths};
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
