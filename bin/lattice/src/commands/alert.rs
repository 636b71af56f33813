//! `alert`: what deserves a person's attention now.

use crate::{
    args::AlertCommand,
    context::Context,
    show,
    table::{Cell, Style, Table, clean},
};
use lattice_api::{AlertView, paths};
use lattice_model::alert::Severity;

/// `lattice alert`.
pub(crate) async fn run(ctx: &Context, command: AlertCommand) -> anyhow::Result<()> {
    match command {
        AlertCommand::Ls => list(ctx).await,
    }
}

async fn list(ctx: &Context) -> anyhow::Result<()> {
    if ctx.is_json() {
        return ctx.list_json(&paths::alerts(), &()).await;
    }
    let alerts = ctx.client.alerts().await?.items;
    let mut table = Table::new(&["SEVERITY", "RULE", "ABOUT", "SINCE", "WHAT", "WHAT TO DO"]);
    for alert in &alerts {
        table.row(vec![
            Cell::new(alert.severity.as_str(), style(alert)),
            alert.rule.as_str().into(),
            clean(&alert.subject.name).into(),
            show::time(alert.since, &ctx.zone).into(),
            clean(&alert.summary).into(),
            Cell::new(clean(&alert.hint), Style::Dim),
        ]);
    }
    ctx.table(&table, "Nothing deserves your attention now.")
}

/// What another alert says already is beside the point.
fn style(alert: &AlertView) -> Style {
    match alert.severity {
        _ if alert.hushed_by.is_some() => Style::Dim,
        Severity::Critical => Style::Bad,
        Severity::Warning => Style::Warn,
        Severity::Info => Style::Plain,
    }
}
