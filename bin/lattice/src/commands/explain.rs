//! `explain`.

use crate::{
    args::ExplainArgs,
    context::Context,
    resolve, show,
    table::{Cell, Style, Table, clean},
    terminal,
};
use lattice_api::{AccountView, ExplainView, WorkloadView, paths};
use lattice_model::resource::Superseded;
use std::fmt::Write;

/// `lattice explain`.
pub(crate) async fn explain(ctx: &Context, args: ExplainArgs) -> anyhow::Result<()> {
    let keys = ctx.workload_keys().await?;
    let key = resolve::workload(&keys, &args.service, ctx.project())?;
    if ctx.is_json() {
        return ctx.object_json(&paths::explain(&key.project, &key.stack, &key.workload)).await;
    }
    let (workload, view) = (ctx.client.workload(&key).await?, ctx.client.explain(&key).await?);
    terminal::data(explanation(&workload, &view, ctx.colour)?.as_bytes())
}

fn explanation(workload: &WorkloadView, view: &ExplainView, colour: bool) -> anyhow::Result<String> {
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
    if let Some(bound) = &view.bound {
        writeln!(text, "  all of it goes to {}", clean(bound))?;
    }
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
        if let Some(found) = view.allocations.iter().find(|one| one.id == a.id) {
            ranking(&mut text, "now", &found.now, colour)?;
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
    ranking(&mut text, "one more", &view.another, colour)?;
    Ok(text)
}

/// What the nodes are to a replica: the best by the parts of their scores, or what would have to change.
fn ranking(text: &mut String, what: &str, account: &AccountView, colour: bool) -> anyhow::Result<()> {
    writeln!(text, "     {what}: {}", clean(&account.summary))?;
    for (change, nodes) in &account.would_do {
        let nodes = if *nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
        writeln!(text, "       {nodes} would do with {}", clean(change))?;
    }
    if account.ranked.len() < 2 {
        return Ok(());
    }
    let mut table =
        Table::new(&["NODE", "SCORE", "PREFERRED", "NEAR", "SPREAD", "ITS LIKE", "STAYS", "RANK", "ROOM"]);
    for (at, one) in account.ranked.iter().enumerate() {
        let style = if at == 0 { Style::Good } else { Style::Plain };
        let cell = |n: i64| Cell::from(if n == 0 { "·".to_owned() } else { n.to_string() });
        let parts = [one.wish(), one.prefers, one.near, one.spread, one.crowd, one.stays, one.rank, one.room];
        table.row([Cell::new(one.node.as_str(), style)].into_iter().chain(parts.map(cell)));
    }
    for line in table.render(colour).lines() {
        writeln!(text, "       {line}")?;
    }
    Ok(())
}
