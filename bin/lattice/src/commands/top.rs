//! `top`: live on a terminal ([`crate::top`]); `--once` and JSON write one look.

use crate::{
    args::TopArgs,
    context::Context,
    error::CliError,
    resolve, show,
    table::{Cell, Style, Table},
    terminal, top,
};
use lattice_api::{AllocationQuery, AllocationView, NodeView};
use lattice_model::{Timestamp, resource::Approval};
use serde::Serialize;
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

/// Characters of a bar.
const BAR: usize = 10;

#[derive(Serialize)]
struct Look {
    nodes: Vec<NodeView>,
    allocations: Vec<AllocationView>,
}

/// `lattice top`.
pub(crate) async fn top(ctx: &Context, args: TopArgs) -> anyhow::Result<ExitCode> {
    let once = args.once || ctx.is_json();
    if once {
        let look = look(ctx).await?;
        if ctx.is_json() {
            ctx.json(&look)?;
        } else {
            terminal::data(draw(&look, ctx.now(), ctx.colour).as_bytes())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let text = "this is no terminal; `lattice top --once` writes one look";
        return Err(CliError::Usage(text.into()).into());
    }
    top::run(ctx, args.every.as_std()).await
}

async fn look(ctx: &Context) -> anyhow::Result<Look> {
    let query = AllocationQuery { project: ctx.project_query(), ..AllocationQuery::default() };
    let (nodes, allocations) = tokio::try_join!(ctx.client.nodes(), ctx.client.allocations(&query))?;
    let (mut nodes, mut allocations) = (nodes.items, allocations.items);
    nodes.retain(|node| matches!(node.approval, Approval::Approved | Approval::Quarantined));
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    // What is not as it should be stands first.
    allocations.sort_by_cached_key(|a| (a.is_serving(), resolve::allocation_name(a)));
    Ok(Look { nodes, allocations })
}

fn draw(look: &Look, now: Timestamp, colour: bool) -> String {
    let Look { nodes, allocations } = look;
    let serving = allocations.iter().filter(|a| a.is_serving()).count();
    let mut text =
        format!("{} nodes, {} replicas, {serving} of them serve\n\n", nodes.len(), allocations.len());
    let mut table = Table::new(&["NODE", "STATE", "CPU", "MEMORY", "RESERVED", "DISK FREE", "RUNS"]);
    for node in nodes {
        table.row(node_row(node));
    }
    text.push_str(&table.render(colour));
    text.push('\n');
    let mut table = Table::new(&["REPLICA", "NODE", "STATE", "RESTARTS", "FOR"]);
    for allocation in allocations {
        let since = allocation.status.started_at.unwrap_or(allocation.placed_at);
        table.row([
            resolve::allocation_name(allocation).into(),
            allocation.node.as_str().into(),
            show::state(allocation),
            allocation.status.restarts.to_string().into(),
            show::age(since, now).into(),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&table.render(colour));
    }
    text
}

fn node_row(node: &NodeView) -> Vec<Cell> {
    let mut row = vec![Cell::from(node.name.as_str()), show::node_state(node)];
    match &node.load {
        Some(load) => {
            row.push(used(u64::from(load.cpu.0), u64::from(node.capacity.cpu.0), load.cpu.to_string()));
            row.push(used(load.memory.0, node.facts.memory.0, load.memory.to_string()));
        }
        None => row.extend([Cell::new("unknown", Style::Dim), Cell::new("unknown", Style::Dim)]),
    }
    row.push(format!("{} cpu, {}", node.reserved.cpu, node.reserved.memory).into());
    row.push(node.load.as_ref().map_or_else(|| "".into(), |load| load.disk_free.to_string().into()));
    row.push(node.load.as_ref().map_or_else(|| "".into(), |load| load.containers.to_string().into()));
    row
}

/// `####------  1.5 GiB`, green below 70 %, red from 90 % on.
fn used(now: u64, most: u64, text: String) -> Cell {
    let share = if most == 0 { 0.0 } else { (now as f64 / most as f64).clamp(0.0, 1.0) };
    let filled = (share * BAR as f64).round() as usize;
    let style = match share {
        share if share >= 0.9 => Style::Bad,
        share if share >= 0.7 => Style::Warn,
        _ => Style::Good,
    };
    Cell::new(format!("{}{} {text}", "#".repeat(filled), "-".repeat(BAR - filled)), style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        assert_eq!(used(5, 10, "5".into()), Cell::new("#####----- 5", Style::Good));
        assert_eq!(used(95, 100, "95".into()), Cell::new("########## 95", Style::Bad));
        assert_eq!(used(1, 0, "1".into()), Cell::new("---------- 1", Style::Good));
    }
}
