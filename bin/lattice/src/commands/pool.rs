//! `pool`.

use crate::{
    args::{PoolCommand, PoolCreateArgs, PoolQuotaArgs, PoolRuleArgs, PoolSetArgs},
    commands::node::fate,
    context::Context,
    error::CliError,
    parse::TaintChange,
    table::{Style, Table, clean},
    terminal::{self, note},
};
use lattice_api::{
    PoolChange, PoolCreate, PoolMember, PoolPreview, PoolPreviewNode, PoolQuotaChange, PoolView, Untaint,
    paths,
};
use lattice_model::{
    PoolName,
    pool::{Oversubscription, PoolQuota, PoolQuotas, PoolRule, PoolUsage},
    resource::Taint,
};
use std::collections::{BTreeMap, BTreeSet};

/// `lattice pool …`.
pub(crate) async fn run(ctx: &Context, command: PoolCommand) -> anyhow::Result<()> {
    match command {
        PoolCommand::Ls if ctx.is_json() => ctx.list_json(&paths::pools(), &()).await?,
        PoolCommand::Ls => list(ctx).await?,
        PoolCommand::Show(args) if ctx.is_json() => ctx.object_json(&paths::pool(&args.name)).await?,
        PoolCommand::Show(args) => {
            let view = ctx.client.pool(&args.name).await?;
            terminal::data(describe(ctx, &view).as_bytes())?;
        }
        PoolCommand::Quota(args) => quota(ctx, args).await?,
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
    let mut table =
        Table::new(&["NAME", "NODES", "TRUSTED", "RULE", "PROJECTS", "TAINTS", "LABELS", "DESCRIPTION"]);
    for view in ctx.client.pools().await?.items {
        let labels = view.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        table.row([
            view.name.as_str().into(),
            view.nodes.to_string().into(),
            if view.trusted { "yes".into() } else { "no".into() },
            view.rule.as_ref().map(|rule| rule.rule.to_string()).unwrap_or_default().into(),
            projects(&view).into(),
            view.taints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ").into(),
            labels.join(" ").into(),
            view.description.into(),
        ]);
    }
    ctx.table(&table, "There is no pool that you may see.")
}

async fn create(ctx: &Context, args: PoolCreateArgs) -> anyhow::Result<()> {
    let PoolCreateArgs { name, trusted, projects: allowed, description, label, taint, rule, dry_run } = args;
    let PoolRuleArgs { rule, priority, trust_claims, promise_cpu, promise_memory } = rule;
    if rule.is_none() && (priority.is_some() || trust_claims) {
        return Err(CliError::Usage("--priority and --trust-claims are of a --rule".into()).into());
    }
    let rule =
        rule.map(|rule| PoolRule { rule, priority: priority.unwrap_or(0), trusts_claims: trust_claims });
    let oversubscription = promises(Oversubscription::default(), promise_cpu, promise_memory);
    let mut set = BTreeMap::new();
    for (key, value) in labels(&label) {
        let value = value.ok_or_else(|| CliError::Usage(format!("--label {key}: write KEY=VALUE")))?;
        set.insert(key, value);
    }
    let allowed = (!allowed.is_empty()).then(|| allowed.into_iter().collect());
    if dry_run {
        let priority = rule.as_ref().map(|rule| rule.priority);
        let request = PoolChange {
            description: Some(description),
            labels: set.into_iter().map(|(key, value)| (key, Some(value))).collect(),
            trusted: Some(trusted),
            projects: allowed,
            taint,
            rule: rule.map(|rule| rule.rule),
            priority,
            trusts_claims: trust_claims.then_some(true),
            oversubscription: Some(oversubscription),
            ..PoolChange::default()
        };
        if ctx.client.pools().await?.items.iter().any(|pool| pool.name == name) {
            let says = format!(
                "there is a pool {name} already; `lattice pool set {name} --dry-run` says what a change does"
            );
            return Err(CliError::Usage(says).into());
        }
        return preview(ctx, &name, &request).await;
    }
    let request = PoolCreate {
        name,
        description,
        labels: set,
        trusted,
        projects: allowed,
        taint,
        rule,
        quotas: PoolQuotas::default(),
        oversubscription,
    };
    let view = ctx.client.create_pool(&request).await?;
    said(ctx, &view)
}

async fn set(ctx: &Context, args: PoolSetArgs) -> anyhow::Result<()> {
    let PoolSetArgs {
        name,
        trusted,
        projects: allowed,
        all_projects,
        description,
        label,
        taint,
        rule,
        no_rule,
        dry_run,
    } = args;
    let PoolRuleArgs { rule, priority, trust_claims, promise_cpu, promise_memory } = rule;
    let (taint, untaint) = taints(taint);
    let allowed = (!allowed.is_empty()).then(|| allowed.into_iter().collect());
    let labels = labels(&label);
    let oversubscription = match (promise_cpu, promise_memory) {
        (None, None) => None,
        // The other one stays as it is.
        (cpu, memory) => Some(promises(ctx.client.pool(&name).await?.oversubscription, cpu, memory)),
    };
    let request = PoolChange {
        description,
        labels,
        trusted,
        projects: allowed,
        all_projects,
        taint,
        untaint,
        rule,
        no_rule,
        priority,
        trusts_claims: trust_claims.then_some(true),
        quotas: Vec::new(),
        oversubscription,
    };
    if dry_run {
        // The server answers for one that is to be made as well, and this one should be there.
        let _ = ctx.client.pool(&name).await?;
        return preview(ctx, &name, &request).await;
    }
    let view = ctx.client.change_pool(&name, &request).await?;
    said(ctx, &view)
}

async fn preview(ctx: &Context, name: &PoolName, request: &PoolChange) -> anyhow::Result<()> {
    let preview = ctx.client.preview_pool(name, request).await?;
    if ctx.is_json() {
        return ctx.json(&preview);
    }
    terminal::data(previewed(ctx, &preview).as_bytes())?;
    Ok(())
}

fn promises(before: Oversubscription, cpu: Option<u16>, memory: Option<u16>) -> Oversubscription {
    Oversubscription {
        cpu_percent: cpu.unwrap_or(before.cpu_percent),
        memory_percent: memory.unwrap_or(before.memory_percent),
    }
}

async fn quota(ctx: &Context, args: PoolQuotaArgs) -> anyhow::Result<()> {
    let PoolQuotaArgs { name, project, cpus, memory, gpus, allocations, none } = args;
    let before = ctx.client.pool(&name).await?.quotas;
    let said = cpus.is_some() || memory.is_some() || gpus.is_some() || allocations.is_some();
    if said || none {
        let before = match &project {
            _ if none => PoolQuota::default(),
            Some(project) => before.of(project),
            None => before.each,
        };
        let quota = PoolQuota {
            cpu: cpus.or(before.cpu),
            memory: memory.or(before.memory),
            gpus: gpus.or(before.gpus),
            allocations: allocations.or(before.allocations),
        };
        // Without a word of its own a project has the quota of each.
        let quota = (said || project.is_none()).then_some(quota);
        let change = PoolChange { quotas: vec![PoolQuotaChange { project, quota }], ..PoolChange::default() };
        ctx.client.change_pool(&name, &change).await?;
    }
    let view = ctx.client.pool(&name).await?;
    if ctx.is_json() {
        return ctx.json(&view);
    }
    terminal::data(describe(ctx, &view).as_bytes())?;
    Ok(())
}

/// What a quota bounds, in words.
fn bounds(quota: &PoolQuota) -> String {
    let PoolQuota { cpu, memory, gpus, allocations } = quota;
    let parts = [
        cpu.map(|cpu| format!("{cpu} cores")),
        memory.map(|memory| format!("{memory} memory")),
        gpus.map(|gpus| format!("{gpus} GPUs")),
        allocations.map(|n| format!("{n} replicas")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "no bounds".into() } else { parts.join(", ") }
}

/// All that is known of a pool, a line each.
fn describe(ctx: &Context, view: &PoolView) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<14} {}\n", clean(&value)));
        }
    };
    line("name", view.name.to_string());
    line("description", view.description.clone());
    line("trusted", if view.trusted { "with volumes and secrets".into() } else { "no".into() });
    line("projects", projects(view));
    if let Some(PoolRule { rule, priority, trusts_claims }) = &view.rule {
        line("rule", rule.to_string());
        line("priority", priority.to_string());
        line("", if *trusts_claims { "what nodes state suffices".into() } else { String::new() });
    }
    for taint in &view.taints {
        line("taint", taint.to_string());
    }
    let Oversubscription { cpu_percent, memory_percent } = view.oversubscription;
    if !view.oversubscription.is_default() {
        line("promises", format!("{cpu_percent} % of the processors, {memory_percent} % of the memory"));
    }
    if !view.quotas.is_empty() {
        line("each project", bounds(&view.quotas.each));
    }
    for (project, quota) in &view.quotas.projects {
        line("project", format!("{project}: {}", bounds(quota)));
    }
    for (project, PoolUsage { cpu, memory, gpus, allocations }) in &view.used {
        line("used", format!("{project}: {cpu} cores, {memory} memory, {gpus} GPUs, {allocations} replicas"));
    }
    for (name, value) in &view.labels {
        line("label", format!("{name}={value}"));
    }
    line("nodes", view.nodes.to_string());
    for PoolMember { node, pool, belongs, why, stays } in &view.members {
        let style = if pool == belongs { Style::Good } else { Style::Warn };
        let place = match (pool == &view.name, pool == belongs) {
            (_, true) => node.to_string(),
            (true, false) => format!("{node} (belongs to {belongs})"),
            (false, false) => format!("{node} (in {pool})"),
        };
        let stays = stays.as_ref().map(|stays| format!("; stays: {stays}")).unwrap_or_default();
        text.push_str(&format!(
            "  {}: {}\n",
            style.paint(&place, ctx.colour),
            clean(&format!("{why}{stays}"))
        ));
    }
    text
}

/// What a change would do, a line each.
fn previewed(ctx: &Context, preview: &PoolPreview) -> String {
    let mut text = String::new();
    let name = &preview.pool.name;
    let matching = preview.nodes.iter().filter(|node| node.matches).count();
    let (come, go) = (
        preview.nodes.iter().filter(|node| node.from != *name && node.to == *name).count(),
        preview.nodes.iter().filter(|node| node.from == *name && node.to != *name).count(),
    );
    text.push_str(&format!("{name}: {matching} nodes match, {come} would come, {go} would go\n"));
    for PoolPreviewNode { node, matches, from, to, why, stays } in &preview.nodes {
        let (style, what) = match (from == name, to == name) {
            (false, true) => (Style::Good, format!("comes from {from}")),
            (true, false) => (Style::Warn, format!("goes to {to}")),
            (true, true) => (Style::Dim, "is there".into()),
            (false, false) => (Style::Dim, format!("stays in {to}")),
        };
        let matches = if *matches { "matches, " } else { "" };
        let stays = stays.as_ref().map(|stays| format!("; stays: {stays}")).unwrap_or_default();
        text.push_str(&format!(
            "  {node} {matches}{}: {}\n",
            style.paint(&what, ctx.colour),
            clean(&format!("{why}{stays}"))
        ));
    }
    if !preview.moves.is_empty() {
        text.push_str("what runs there and has to go:\n");
    }
    for one in &preview.moves {
        text.push_str(&format!("  {}: {}\n", one.from, fate(ctx, &one.replica)));
    }
    text
}

fn said(ctx: &Context, view: &PoolView) -> anyhow::Result<()> {
    if ctx.is_json() {
        return ctx.json(view);
    }
    let trusted = if view.trusted { "trusted" } else { "not trusted" };
    note(&format!("{} is {trusted} with volumes and secrets; projects: {}", view.name, projects(view)));
    Ok(())
}
