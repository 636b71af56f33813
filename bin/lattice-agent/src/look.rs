//! `lattice-agent status` and `lattice-agent doctor`: looking, and changing nothing.

use crate::{Context, Output, note, say};
use anyhow::{Context as _, Result};
use lattice_agent_core::{AgentStatus, CheckResult, LinkState, Reply, Request, ask, ask_status};
use serde_json::json;
use std::process::ExitCode;

/// What `status` exits with when no agent runs.
const NOT_RUNNING: u8 = 3;

pub(crate) async fn status(context: &Context, output: Output) -> Result<ExitCode> {
    let paths = context.paths();
    let status = ask_status(&paths).await.context("an agent runs for this home and does not answer")?;
    let running = status.is_some();
    if output == Output::Json {
        let identity = paths.identity()?;
        let offline = json!({
            "node": identity.as_ref().map(|i| i.node),
            "cluster": identity.as_ref().map(|i| i.cluster),
            "joining": paths.joining(),
        });
        let body = status.map_or(Ok(offline), serde_json::to_value)?;
        let mut body = body;
        body["running"] = running.into();
        say(serde_json::to_string_pretty(&body)?);
    } else if let Some(status) = &status {
        print(status);
    } else {
        match paths.identity()? {
            Some(identity) => {
                note(format_args!(
                    "node {}: no agent runs; start it with `lattice-agent run`",
                    identity.node
                ));
            }
            None if paths.joining() => {
                note("a join waits for approval and no agent runs; go on with `lattice-agent run`");
            }
            None => note(lattice_agent_core::AgentError::NotJoined),
        }
    }
    Ok(if running { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUNNING) })
}

fn print(status: &AgentStatus) {
    let link = &status.link;
    let state = match link.state {
        LinkState::Connected => format!("connected to {}", link.server.as_deref().unwrap_or("the server")),
        LinkState::Connecting => "connecting".to_owned(),
        LinkState::Waiting => "not connected; tried again by itself".to_owned(),
        LinkState::Refused => "refused by the server; asked again now and then".to_owned(),
    };
    say(format_args!("node        {}", status.node));
    if let Some(name) = &status.name {
        say(format_args!("name        {name}"));
    }
    say(format_args!("cluster     {}", status.cluster));
    say(format_args!("link        {state}"));
    for text in [&link.why, &link.notice].into_iter().flatten() {
        say(format_args!("            {text}"));
    }
    let engine = match (&status.engine.ok, &status.engine.reason) {
        (true, _) => "answers".to_owned(),
        (false, reason) => format!("does not answer: {}", reason.as_deref().unwrap_or("unknown")),
    };
    say(format_args!("engine      {engine}"));
    for (n, text) in status.health.sentences().iter().enumerate() {
        say(format_args!("{:<12}{text}", if n == 0 { "health" } else { "" }));
    }
    say(format_args!("lan         {}", status.lan.sentence()));
    if let Some(table) = &status.lan.table {
        say(format_args!(
            "            by the table {table}; `nft list table {table}` shows its rules and what they refused"
        ));
    }
    if let Some(speed) = &status.lan.speed {
        say(format_args!("speed       {}", speed.sentence()));
    }
    let rank = status.rank.as_ref().map_or_else(|| vec!["not told yet".to_owned()], |rank| rank.sentences());
    for (n, text) in rank.iter().enumerate() {
        say(format_args!("{:<12}{text}", if n == 0 { "rank" } else { "" }));
    }
    crate::owner::lines(&status.owner).iter().for_each(say);
    say(format_args!("goal        {}", status.goal.as_deref().unwrap_or("none yet")));
    say(format_args!("reports     {} wait for the server", status.outbox));
    say(format_args!("version     {} (process {})", status.version, status.pid));
    for line in &status.allocations {
        let workload =
            line.workload.as_ref().map_or_else(|| "on its way out".to_owned(), ToString::to_string);
        let reason = line.status.reason.as_deref().unwrap_or_default();
        say(format_args!("  {}  {:<12} {workload}  {reason}", line.id.short(), line.status.state));
    }
}

pub(crate) async fn logs(context: &Context, lines: usize) -> Result<ExitCode> {
    match ask(&context.paths(), &Request::Logs { lines }).await.context("the agent does not answer")? {
        Some(Reply::Logs(lines)) => {
            lines.iter().for_each(say);
            Ok(ExitCode::SUCCESS)
        }
        Some(_) => anyhow::bail!("the agent answered something else; are both of the same version?"),
        None => {
            note("no agent runs for this home; its log is where it was started, e.g. in the journal");
            Ok(ExitCode::from(NOT_RUNNING))
        }
    }
}

pub(crate) async fn doctor(context: &Context, output: Output) -> Result<ExitCode> {
    let checks = lattice_agent_core::doctor(&context.paths(), context.docker_host.as_deref()).await;
    if output == Output::Json {
        say(serde_json::to_string_pretty(&checks)?);
    } else {
        for check in &checks {
            let mark = match check.result {
                CheckResult::Ok => "ok     ",
                CheckResult::Warning => "warning",
                CheckResult::Failed => "FAILED ",
                CheckResult::Skipped => "skipped",
            };
            say(format_args!("{mark}  {:<14} {}", check.id, check.why));
            if !check.todo.is_empty() {
                say(format_args!("         {:<14} -> {}", "", check.todo));
            }
        }
    }
    let failed = checks.iter().any(|check| check.result == CheckResult::Failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
