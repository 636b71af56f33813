//! `lattice-agent reset`: shows everything that is there of Lattice's agent, and removes it. It works beside a
//! running agent, which is asked to end first, beside one that hangs, and where identity, rules, configuration
//! or engine are broken: what cannot be removed is named, with what to do by hand.

use crate::{Context, Output, note, say};
use anyhow::{Result, bail};
use clap::Args;
use lattice_agent_core::{
    AgentError, Hold, HomePaths, ItemKind, NodeId, Request, ResetOptions, Survey, ask, engines, reset, survey,
};
use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

#[derive(Args)]
pub(crate) struct ResetArgs {
    /// Do it; without this flag it is only shown
    #[arg(long)]
    yes: bool,
    /// Leave volumes, which hold the data of whoever used this machine
    #[arg(long)]
    keep_data: bool,
    /// This machine was also this node, whatever its folder says; may be given several times
    #[arg(long, value_name = "ID")]
    node: Vec<NodeId>,
    /// The container engine is gone for good: remove the rest
    #[arg(long)]
    without_engine: bool,
    /// How to print what is there
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How long a running agent has to end.
const END: Duration = Duration::from_secs(60);

pub(crate) async fn run(context: &Context, args: ResetArgs) -> Result<ExitCode> {
    let paths = context.paths();
    let ResetArgs { yes, keep_data, node, without_engine, output } = args;
    let nodes: BTreeSet<NodeId> = node.into_iter().collect();
    if !yes {
        let engines = engines(&paths, context.docker_host.as_deref());
        let found = survey(&paths, &engines, &nodes).await;
        match output {
            Output::Json => say(serde_json::to_string_pretty(&found)?),
            Output::Text => show(&found, keep_data),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let hold = match Hold::take(&context.base) {
        Err(AgentError::HomeInUse { pid, .. }) => Some(ended(context, &paths, &pid).await?),
        Err(error) => return Err(error.into()),
        Ok(Some(hold)) => Some(hold),
        // The folder is gone, and what it was about may still be in the engine.
        Ok(None) if !nodes.is_empty() => {
            drop(lattice_agent_core::Home::open(&context.base)?);
            Hold::take(&context.base)?
        }
        Ok(None) => None,
    };
    let Some(hold) = hold else {
        let engines = engines(&paths, context.docker_host.as_deref());
        strangers(&survey(&paths, &engines, &nodes).await);
        note("nothing of Lattice's agent is on this machine");
        return Ok(ExitCode::SUCCESS);
    };
    // Only now: the agent that ended may have noted another one.
    let engines = engines(&paths, context.docker_host.as_deref());
    let before = survey(&paths, &engines, &nodes).await;
    let options = ResetOptions { nodes, keep_data, without_engine };
    let outcome = reset(hold, &engines, &options, &mut |item| say(format_args!("removed  {item}"))).await?;
    for volume in &outcome.kept {
        note(format_args!("kept     volume {volume}; `docker volume rm {volume}` removes it"));
    }
    for node in &before.nodes {
        note(format_args!("an operator removes node {node} from its cluster with `lattice node rm`"));
    }
    strangers(&before);
    if outcome.left.is_empty() {
        note("nothing else of Lattice's agent is left on this machine");
        return Ok(ExitCode::SUCCESS);
    }
    note(format_args!("{} removed; left:", outcome.removed));
    for left in &outcome.left {
        note(format_args!("- {}: {}\n  by hand: {}", left.item, left.why, left.by_hand));
    }
    note(format_args!(
        "{} keeps what the next `lattice-agent reset --yes` needs to go on",
        paths.dir().display()
    ));
    Ok(ExitCode::FAILURE)
}

fn show(found: &Survey, keep_data: bool) {
    for item in &found.items {
        let stays = keep_data && item.kind == ItemKind::Volume;
        say(format_args!("{item}{}", if stays { " stays" } else { "" }));
    }
    for problem in &found.problems {
        note(format_args!("unknown: {}\n  by hand: {}", problem.what, problem.by_hand));
    }
    strangers(found);
    if found.items.is_empty() && found.problems.is_empty() {
        return note("nothing of Lattice's agent is on this machine");
    }
    let volumes = found.of(ItemKind::Volume).count();
    if volumes > 0 && !keep_data {
        note(format_args!(
            "{volumes} volume(s) hold the data of whoever's work ran here. Removed, what is in no backup of theirs is gone for good: \
             let an operator move it first (`lattice node drain`), or leave it here with --keep-data"
        ));
    }
    note("this is what would be removed; add --yes to do it");
}

fn strangers(found: &Survey) {
    for node in &found.strangers {
        note(format_args!(
            "the engine has things of node {node}, which is not this folder's: of another agent, whose they are, or of one \
             whose folder is gone; `lattice-agent reset --node {node}` shows those too"
        ));
    }
}

/// The folder of the agent that has it, once that has ended.
async fn ended(context: &Context, paths: &HomePaths, pid: &str) -> Result<Hold> {
    if let Some(parent) = keeper(pid) {
        bail!(
            "`lattice up` (process {parent}) keeps this agent running and would start it again; stop that first (Ctrl-C where it was started), then reset"
        );
    }
    let by_hand = format!(
        "end it with `kill {pid}`, or `kill -9 {pid}` where that does not help: its containers run on meanwhile. Then `lattice-agent reset --yes` again. A service manager that starts it again has to be told first (`systemctl disable --now` its unit)"
    );
    match ask(paths, &Request::End {}).await {
        Ok(Some(_)) => note(format_args!("the running agent (process {pid}) was asked to end")),
        // It is ending already, or has not begun to listen.
        Ok(None) => note(format_args!("waiting for process {pid}, which has the agent's folder")),
        Err(error) => bail!("the agent (process {pid}) does not answer ({error}); {by_hand}"),
    }
    let began = Instant::now();
    loop {
        match Hold::take(&context.base) {
            Ok(Some(hold)) => return Ok(hold),
            Ok(None) => bail!("the agent's folder is gone; somebody else reset it"),
            Err(AgentError::HomeInUse { .. }) if began.elapsed() < END => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(AgentError::HomeInUse { pid, .. }) => {
                bail!(
                    "process {pid} did not let go of the agent's folder within {} s; {by_hand}",
                    END.as_secs()
                )
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The process of `lattice up` that keeps an agent running.
fn keeper(pid: &str) -> Option<String> {
    let pid: u32 = pid.parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may have anything in it: state, parent.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
    (name.trim() == "lattice").then_some(parent)
}
