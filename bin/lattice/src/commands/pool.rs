//! `pool`.

use crate::{
    args::{PoolCommand, PoolCreateArgs, PoolSetArgs},
    context::Context,
    error::CliError,
    parse::TaintChange,
    table::Table,
    terminal::note,
};
use lattice_api::{PoolChange, PoolCreate, PoolView, Untaint, paths};
use lattice_model::resource::Taint;
use std::collections::{BTreeMap, BTreeSet};

/// `lattice pool …`.
pub(crate) async fn run(ctx: &Context, command: PoolCommand) -> anyhow::Result<()> {
    match command {
        PoolCommand::Ls if ctx.is_json() => ctx.list_json(&paths::pools(), &()).await?,
        PoolCommand::Ls => list(ctx).await?,
        PoolCommand::Create(args) => create(ctx, args).await?,
        PoolCommand::Set(args) => set(ctx, args).await?,
        PoolCommand::Rm(args) => {
            for name in &args.names {
                ctx.client.delete_pool(name).await?;
                note(&format!("{name} is removed"));
            }
        }
    }
    Ok(())
}

/// `KEY=VALUE` sets a label, `KEY` takes it away.
pub(crate) fn labels(texts: &[String]) -> BTreeMap<String, Option<String>> {
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    texts.iter().map(label).collect()
}

/// Taints to set, and those to take away.
pub(crate) fn taints(changes: Vec<TaintChange>) -> (Vec<Taint>, Vec<Untaint>) {
    let (mut set, mut take) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            TaintChange::Set(taint) => set.push(taint),
            TaintChange::Remove(untaint) => take.push(untaint),
        }
    }
    (set, take)
}

/// Taints in words.
pub(crate) fn tainted(taints: &BTreeSet<Taint>) -> String {
    match taints.len() {
        0 => "no taints".into(),
        1 => format!("the taint {}", taints.iter().map(ToString::to_string).collect::<String>()),
        _ => format!("the taints {}", taints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

fn projects(view: &PoolView) -> String {
    match &view.projects {
        None => "all".into(),
        Some(names) if names.is_empty() => "none".into(),
        Some(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

async fn list(ctx: &Context) -> anyhow::Result<()> {
    let mut table = Table::new(&["NAME", "NODES", "TRUSTED", "PROJECTS", "TAINTS", "LABELS", "DESCRIPTION"]);
    for view in ctx.client.pools().await?.items {
        let labels = view.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        table.row([
            view.name.as_str().into(),
            view.nodes.to_string().into(),
            if view.trusted { "yes".into() } else { "no".into() },
            projects(&view).into(),
            view.taints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ").into(),
            labels.join(" ").into(),
            view.description.into(),
        ]);
    }
    ctx.table(&table, "There is no pool that you may see.")
}

async fn create(ctx: &Context, args: PoolCreateArgs) -> anyhow::Result<()> {
    let PoolCreateArgs { name, trusted, projects: allowed, description, label, taint } = args;
    let mut set = BTreeMap::new();
    for (key, value) in labels(&label) {
        let value = value.ok_or_else(|| CliError::Usage(format!("--label {key}: write KEY=VALUE")))?;
        set.insert(key, value);
    }
    let allowed = (!allowed.is_empty()).then(|| allowed.into_iter().collect());
    let request = PoolCreate { name, description, labels: set, trusted, projects: allowed, taint };
    let view = ctx.client.create_pool(&request).await?;
    said(ctx, &view)
}

async fn set(ctx: &Context, args: PoolSetArgs) -> anyhow::Result<()> {
    let PoolSetArgs { name, trusted, projects: allowed, all_projects, description, label, taint } = args;
    let (taint, untaint) = taints(taint);
    let allowed = (!allowed.is_empty()).then(|| allowed.into_iter().collect());
    let labels = labels(&label);
    let request =
        PoolChange { description, labels, trusted, projects: allowed, all_projects, taint, untaint };
    let view = ctx.client.change_pool(&name, &request).await?;
    said(ctx, &view)
}

fn said(ctx: &Context, view: &PoolView) -> anyhow::Result<()> {
    if ctx.is_json() {
        return ctx.json(view);
    }
    let trusted = if view.trusted { "trusted" } else { "not trusted" };
    note(&format!("{} is {trusted} with volumes and secrets; projects: {}", view.name, projects(view)));
    Ok(())
}
