//! `top`, in a first form: nodes with what they use, and what runs, drawn again and again.

use crate::{
    args::TopArgs,
    commands::interrupted,
    context::Context,
    error::{CliError, INTERRUPTED},
    resolve, show,
    table::{Cell, Style, Table},
    terminal,
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
/// Rows where the terminal does not say how many it has.
const ROWS: usize = 24;

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
            terminal::data(draw(&look, ctx.now(), ctx.colour, usize::MAX).as_bytes())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !io::stdout().is_terminal() {
        let text = "standard output is no terminal; `lattice top --once` writes one look";
        return Err(CliError::Usage(text.into()).into());
    }
    let screen = Screen::open()?;
    let watched = async {
        loop {
            let rows = terminal::size().map_or(ROWS, |size| usize::from(size.rows));
            let text = match look(ctx).await {
                Ok(look) => draw(&look, ctx.now(), ctx.colour, rows),
                // It may come back: what was seen last would pretend that all is well.
                Err(error) => format!("{error}\n"),
            };
            screen.show(&text)?;
            tokio::time::sleep(args.every.as_std().max(std::time::Duration::from_millis(200))).await;
        }
    };
    let ended: anyhow::Result<()> = tokio::select! {
        ended = watched => ended,
        () = interrupted() => Ok(()),
    };
    drop(screen);
    ended.map(|()| ExitCode::from(INTERRUPTED))
}

/// The terminal's second screen; the first comes back when this goes.
struct Screen;

impl Screen {
    fn open() -> anyhow::Result<Self> {
        terminal::data(b"\x1b[?1049h\x1b[?25l")?;
        Ok(Self)
    }

    /// Each line ends with what clears the rest of it, so that nothing flickers.
    fn show(&self, text: &str) -> anyhow::Result<()> {
        let lines = text.replace('\n', "\x1b[K\n");
        terminal::data(format!("\x1b[H{}\x1b[J", lines.trim_end_matches('\n')).as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = terminal::data(b"\x1b[?25h\x1b[?1049l");
    }
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

fn draw(look: &Look, now: Timestamp, colour: bool, rows: usize) -> String {
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
    let room = rows.saturating_sub(text.lines().count() + 2);
    let mut table = Table::new(&["REPLICA", "NODE", "STATE", "RESTARTS", "FOR"]);
    for allocation in allocations.iter().take(room) {
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
    if allocations.len() > room {
        text.push_str(&format!("and {} more\n", allocations.len() - room));
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
