//! `node`.

use crate::{
    args::{ApproveArgs, NodeCommand},
    context::Context,
    error::{CliError, FAILED},
    show,
    table::{Table, clean},
    terminal::{self, note},
};
use lattice_api::{ApproveNode, NodeReason, NodeView, paths};
use lattice_model::resource::Approval;
use std::{fmt::Write, process::ExitCode};

/// `lattice node …`.
pub(crate) async fn run(ctx: &Context, command: NodeCommand) -> anyhow::Result<ExitCode> {
    let client = &ctx.client;
    match command {
        NodeCommand::Ls if ctx.is_json() => ctx.list_json(&paths::nodes(), &()).await?,
        NodeCommand::Ls => list(ctx).await?,
        NodeCommand::Show(args) if ctx.is_json() => ctx.object_json(&paths::node(&args.node)).await?,
        NodeCommand::Show(args) => {
            let node = client.node(&args.node).await?;
            terminal::data(describe(ctx, &node).as_bytes())?;
        }
        NodeCommand::Approve(args) => return approve(ctx, args).await,
        NodeCommand::Reject(args) => {
            for node in &args.nodes {
                let view = client.reject_node(node, &NodeReason { reason: args.reason.clone() }).await?;
                note(&format!("{} is turned away", view.name));
            }
        }
        NodeCommand::Revoke(args) => {
            for node in &args.nodes {
                let view = client.revoke_node(node, &NodeReason { reason: args.reason.clone() }).await?;
                note(&format!(
                    "{} is thrown out; what it ran is placed elsewhere where its data allows",
                    view.name
                ));
            }
        }
        NodeCommand::Cordon(args) => {
            for node in &args.nodes {
                note(&format!("{} gets no new work", client.cordon_node(node).await?.name));
            }
        }
        NodeCommand::Uncordon(args) => {
            for node in &args.nodes {
                note(&format!("{} gets new work again", client.uncordon_node(node).await?.name));
            }
        }
        NodeCommand::Rm(args) => {
            for node in &args.nodes {
                client.delete_node(node).await?;
                note(&format!("{node} is forgotten"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(ctx: &Context) -> anyhow::Result<()> {
    let now = ctx.now();
    let mut table =
        Table::new(&["NAME", "ID", "STATE", "FOR", "POOL", "OWNER", "CPU", "MEMORY", "RUNS", "AGENT"]);
    let nodes = ctx.client.nodes().await?.items;
    let pending = nodes.iter().filter(|node| node.approval == Approval::Pending).count();
    for node in nodes {
        let since = if node.approval == Approval::Pending { node.joined_at } else { node.presence.since };
        table.row([
            node.name.as_str().into(),
            node.id.short().into(),
            show::node_state(&node),
            show::age(since, now).into(),
            node.pool.as_str().into(),
            node.owner.as_str().into(),
            format!("{}/{}", node.reserved.cpu, node.capacity.cpu).into(),
            format!("{}/{}", node.reserved.memory, node.capacity.memory).into(),
            node.allocations.to_string().into(),
            node.facts.agent_version.into(),
        ]);
    }
    ctx.table(&table, "There is no node yet; `lattice token create` makes a token with which one can join.")?;
    if pending > 0 {
        note(&format!(
            "{pending} wait for a decision: `lattice node approve NAME` shows what it can rest on."
        ));
    }
    Ok(())
}

/// All that is known of a node, a line each.
fn describe(ctx: &Context, node: &NodeView) -> String {
    let now = ctx.now();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<14} {}", clean(&value));
        }
    };
    line("name", node.name.to_string());
    line("id", node.id.to_string());
    line("owner", node.owner.to_string());
    line("pool", node.pool.to_string());
    line("fingerprint", evidence(&node.evidence.key_fingerprint));
    line("address", node.evidence.address.clone());
    line("token", node.evidence.token_id.map(|id| id.to_string()).unwrap_or_default());
    line(
        "asked to join",
        format!("{} ({} ago)", show::time(node.joined_at, &ctx.zone), show::age(node.joined_at, now)),
    );
    line("approval", format!("{:?}", node.approval).to_lowercase());
    line("reason", node.reason.clone().unwrap_or_default());
    line("eligibility", format!("{:?}", node.eligibility).to_lowercase());
    let presence = format!("{:?}", node.presence.state).to_lowercase();
    line("link", format!("{presence} for {}", show::age(node.presence.since, now)));
    if let Some(at) = node.certificate_expires_at {
        line("certificate", format!("until {}", show::time(at, &ctx.zone)));
    }
    let (facts, capacity) = (&node.facts, &node.capacity);
    line("host", facts.hostname.clone());
    line("system", format!("{} ({}, {}), kernel {}", facts.os_version, facts.os, facts.arch, facts.kernel));
    line("processor", format!("{} × {}", facts.cpus, facts.cpu_model));
    line("installed", format!("{} memory", facts.memory));
    line(
        "engine",
        if facts.engine_version.is_empty() { "none".into() } else { facts.engine_version.clone() },
    );
    line("agent", facts.agent_version.clone());
    line("lends", format!("{} cores, {} memory, {} disk", capacity.cpu, capacity.memory, capacity.disk));
    line(
        "set aside",
        format!(
            "{} cores, {} memory for {} allocations",
            node.reserved.cpu, node.reserved.memory, node.allocations
        ),
    );
    if let Some(load) = &node.load {
        let free = load.disk_free;
        line(
            "in use",
            format!(
                "{} cores, {} memory; {free} disk free; {} containers",
                load.cpu, load.memory, load.containers
            ),
        );
    }
    for (name, value) in &node.labels {
        line("label", format!("{name}={value}"));
    }
    line("WARNING", node.clone_warning.clone().unwrap_or_default());
    text
}

async fn approve(ctx: &Context, args: ApproveArgs) -> anyhow::Result<ExitCode> {
    if args.nodes.len() > 1 && (args.name.is_some() || args.fingerprint.is_some()) {
        return Err(CliError::Usage(
            "--name and --fingerprint are of one node; approve one at a time".into(),
        )
        .into());
    }
    let mut declined = false;
    for name in &args.nodes {
        let node = ctx.client.node(name).await?;
        if node.approval == Approval::Approved {
            note(&format!("{} belongs to the cluster already", node.name));
            continue;
        }
        // Who reads the fingerprint out has decided; so has who says --yes.
        if !args.yes && args.fingerprint.is_none() {
            terminal::note_raw(describe(ctx, &node).as_bytes());
            note(
                "\nOnly the fingerprint is proven; compare it with what `lattice-agent join` shows on that machine.",
            );
            if !terminal::confirm(&format!("Take {} into the cluster?", node.name))? {
                note(&format!(
                    "{} still waits; `lattice node reject {}` turns it away",
                    node.name, node.name
                ));
                declined = true;
                continue;
            }
        }
        let request = ApproveNode {
            name: args.name.clone(),
            pool: args.pool.clone(),
            // What was shown is what is approved, whatever happened in between.
            fingerprint: Some(args.fingerprint.clone().unwrap_or(node.evidence.key_fingerprint)),
        };
        let view = ctx.client.approve_node(&node.id.to_string(), &request).await?;
        note(&format!("{} belongs to the cluster now, in pool {}", view.name, view.pool));
    }
    Ok(if declined { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// A fingerprint as the joining machine shows it: its first 128 bits in groups of four digits.
fn evidence(fingerprint: &str) -> String {
    let digits: Vec<char> = fingerprint.chars().take(32).collect();
    digits.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}
