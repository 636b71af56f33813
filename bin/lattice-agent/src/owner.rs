//! The owner's buttons: `pause`, `finish`, `resume` and `rules`. They go to the agent where one runs; where
//! none does they are files that the next one finds, and a pause stops what runs by itself.

use crate::{Context, Output, note, say};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use lattice_agent_core::{
    Duration, HomePaths, OwnerStatus, PauseKind, Preset, Reply, Request, Rules, Timestamp, ask,
    pause_offline, resume_offline, rules_of, save_rules, text_of,
};
use serde_json::json;
use std::{
    io::Read as _,
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

/// The most of a file of rules.
const MAX_RULES: u64 = 64 << 10;

#[derive(Args)]
pub(crate) struct PauseArgs {
    /// For so long, e.g. 1h or 1h30m; until `resume` unless given
    #[arg(long = "for", value_name = "SPAN")]
    span: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl PauseArgs {
    fn span(&self) -> Result<Option<Duration>> {
        let Some(text) = &self.span else { return Ok(None) };
        let span: lattice_agent_core::Span =
            text.parse().map_err(|problem: String| anyhow!("--for: {problem}"))?;
        if span.0.0 == 0 {
            bail!("--for: a pause of no length is none");
        }
        Ok(Some(span.0))
    }
}

#[derive(Args)]
pub(crate) struct ResumeArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Subcommand)]
pub(crate) enum RulesCommand {
    /// The rules as they are
    Show {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Change rules: `KEY=VALUE` each, e.g. battery.run=on_mains; an empty value takes one out
    Set {
        /// What to change
        #[arg(value_name = "KEY=VALUE", required_unless_present = "file")]
        changes: Vec<String>,
        /// Take all rules from this file, or from standard input with `-`
        #[arg(long, value_name = "FILE", conflicts_with = "changes")]
        file: Option<PathBuf>,
    },
    /// A whole set of answers by one word: quiet, balanced or max
    Preset {
        /// Which; hours, consent, disk, GPUs, bandwidth and data stay as they are
        #[arg(value_parser = |text: &str| text.parse::<Preset>())]
        preset: Preset,
    },
}

pub(crate) async fn pause(context: &Context, args: PauseArgs, kind: PauseKind) -> Result<ExitCode> {
    let span = args.span()?;
    let span_ms = span.map(|span| span.0);
    let request = match kind {
        PauseKind::Pause => Request::Pause { span_ms },
        PauseKind::Finish => Request::Finish { span_ms },
    };
    if let Some(owner) = obeyed(&context.paths(), &request).await? {
        return show(&owner, args.output);
    }
    let home = context.open()?;
    let runtime = context.runtime(&context.config().unwrap_or_default())?;
    let done = pause_offline(&home, &*runtime, kind, span)
        .await
        .context("the pause is kept for the next agent, but what runs could not be stopped")?;
    if args.output == Output::Json {
        say(serde_json::to_string_pretty(
            &json!({ "running": false, "stopped": done.stopped, "left": done.left }),
        )?);
    }
    note("no agent runs; the pause is kept, and the next one finds it");
    if kind == PauseKind::Finish {
        note("what runs goes on until then");
    }
    for name in &done.stopped {
        note(format_args!("stopped  {name}"));
    }
    for (name, why) in &done.left {
        note(format_args!("not stopped  {name}: {why}"));
    }
    Ok(if done.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) async fn resume(context: &Context, args: ResumeArgs) -> Result<ExitCode> {
    if let Some(owner) = obeyed(&context.paths(), &Request::Resume {}).await? {
        return show(&owner, args.output);
    }
    resume_offline(&context.open()?)?;
    note("no agent runs; the pause is over, and work begins when one does (`lattice-agent run`)");
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn rules(context: &Context, command: RulesCommand) -> Result<ExitCode> {
    let paths = context.paths();
    match command {
        RulesCommand::Show { output } => {
            let file = rules_of(&paths)?;
            if output == Output::Json {
                let preset = file.rules.as_ref().and_then(Preset::of);
                let body = json!({ "rules": file.rules, "preset": preset, "problem": file.problem, "text": file.text });
                say(serde_json::to_string_pretty(&body)?);
            } else if file.text.trim().is_empty() {
                note(
                    "there are no rules: work may run at any time; `lattice-agent rules preset balanced` is a beginning",
                );
            } else {
                say(file.text.trim_end());
            }
            if let Some(problem) = file.problem {
                note(format_args!("nothing runs, since these rules are not understood: {problem}"));
                return Ok(ExitCode::FAILURE);
            }
            Ok(ExitCode::SUCCESS)
        }
        RulesCommand::Set { changes, file: None } => {
            let mut rules = sound(&paths)?;
            for change in &changes {
                let (key, value) = change
                    .split_once('=')
                    .with_context(|| format!("{change:?}: write KEY=VALUE, e.g. battery.run=on_mains"))?;
                rules = rules.with(key.trim(), value)?;
            }
            put(&paths, &text_of(&rules)).await
        }
        RulesCommand::Set { file: Some(path), .. } => {
            let mut text = String::new();
            let read = if path.as_os_str() == "-" {
                std::io::stdin().lock().take(MAX_RULES).read_to_string(&mut text)
            } else {
                std::fs::File::open(&path).and_then(|file| file.take(MAX_RULES).read_to_string(&mut text))
            };
            read.with_context(|| format!("cannot read {}", path.display()))?;
            put(&paths, &text).await
        }
        RulesCommand::Preset { preset } => {
            let rules = preset.apply(&sound(&paths)?);
            note(format_args!("{preset}: {}", preset.says()));
            put(&paths, &text_of(&rules)).await
        }
    }
}

/// The rules that are there, to change them.
fn sound(paths: &HomePaths) -> Result<Rules> {
    let file = rules_of(paths)?;
    file.rules.ok_or_else(|| {
        let problem = file.problem.unwrap_or_default();
        anyhow!(
            "{} is not understood ({problem}); correct it by hand, or replace it with `rules set --file`",
            paths.rules().display()
        )
    })
}

async fn put(paths: &HomePaths, text: &str) -> Result<ExitCode> {
    if let Some(owner) = obeyed(paths, &Request::SetRules { text: text.to_owned() }).await? {
        note("these rules count from now on");
        return show(&owner, Output::Text);
    }
    if !paths.dir().is_dir() {
        bail!(
            "there is no agent on this machine yet; `lattice-agent join` makes its folder {}",
            paths.dir().display()
        );
    }
    save_rules(paths, text)?;
    note("no agent runs; these rules count when one does");
    Ok(ExitCode::SUCCESS)
}

/// Has the agent do it; `None` when none runs.
async fn obeyed(paths: &HomePaths, request: &Request) -> Result<Option<OwnerStatus>> {
    match ask(paths, request).await.context("the agent did not do it")? {
        None => Ok(None),
        Some(Reply::Owner(owner)) => Ok(Some(*owner)),
        Some(_) => bail!("the agent answered something else; are both of the same version?"),
    }
}

fn show(owner: &OwnerStatus, output: Output) -> Result<ExitCode> {
    if output == Output::Json {
        say(serde_json::to_string_pretty(owner)?);
    } else {
        lines(owner).iter().for_each(say);
    }
    Ok(ExitCode::SUCCESS)
}

/// What the owner's rules make of the machine, a line each.
pub(crate) fn lines(owner: &OwnerStatus) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_millis());
    let now = Timestamp(i64::try_from(now).unwrap_or(i64::MAX));
    let ahead = |at: Timestamp| at.since(now);
    let verdict = &owner.verdict;
    let mut lines = Vec::new();
    match verdict.standing() {
        None => {
            let battery =
                if verdict.ends() == verdict.battery_ends { ", as long as the battery lasts" } else { "" };
            let end = verdict.ends().map(|at| format!(", for another {}{battery}", ahead(at)));
            lines.push(format!("works       yes{}", end.unwrap_or_default()));
        }
        Some(said) => {
            let word = if verdict.allowed() { "finishes" } else { "no" };
            lines.push(format!("works       {word}: {} ({})", said.why, said.reason));
            match said.until {
                Some(at) => lines.push(format!("            for another {}, or: {}", ahead(at), said.todo)),
                None => lines.push(format!("            {}", said.todo)),
            }
            let also: Vec<&str> = verdict.also.iter().map(|reason| reason.code()).collect();
            if !also.is_empty() {
                lines.push(format!("            then also: {}", also.join(", ")));
            }
        }
    }
    if let Some(preset) = owner.preset {
        lines.push(format!("rules       {preset}"));
    }
    for unsure in &verdict.unsure {
        lines.push(format!("not kept    {}: {}", unsure.rule, unsure.why));
    }
    lines
}
