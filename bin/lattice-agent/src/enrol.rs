//! `lattice-agent join`: where the token comes from, and what the person sees meanwhile.

use crate::{Context, note};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use lattice_agent_core::{
    Home, JoinOptions, JoinProgress, JoinToken, NodeName, PendingJoin, Runtime, join as enrol, measure,
};
use std::{
    io::{BufRead as _, IsTerminal as _, Read as _},
    path::PathBuf,
    process::ExitCode,
};

/// The longest text that is read for a token, in bytes.
const MAX_TOKEN: u64 = 16 << 10;

#[derive(Args)]
pub(crate) struct JoinArgs {
    /// Read the token from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token_stdin", "token"])]
    token_file: Option<PathBuf>,
    /// Read the token from standard input
    #[arg(long, conflicts_with = "token")]
    token_stdin: bool,
    /// The token itself; other users see a command line, so only for short-lived single-use tokens
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// What this machine is to be called
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,
}

pub(crate) async fn join(context: &Context, args: JoinArgs) -> Result<ExitCode> {
    let home = context.open()?;
    let given = args.token_file.is_some() || args.token_stdin || args.token.is_some();
    let join = match home.pending_join()?.filter(|_| !given) {
        Some(pending) => {
            note("going on with the join that was begun");
            pending
        }
        None => PendingJoin { token: token(&args)?, name: args.name },
    };
    let config = context.config()?;
    let runtime = context.runtime(&config)?;
    let identity = enrolled(&home, &join, &config, &*runtime, JoinOptions::default()).await?;
    note(format_args!(
        "this machine is node {} now; start the agent with `lattice-agent run`",
        identity.node
    ));
    Ok(ExitCode::SUCCESS)
}

/// Joins and shows how far it is.
pub(crate) async fn enrolled(
    home: &Home,
    join: &PendingJoin,
    config: &lattice_agent_core::AgentConfig,
    runtime: &dyn Runtime,
    options: JoinOptions,
) -> Result<lattice_agent_core::Identity> {
    let machine = measure(runtime, home.dir()).await;
    let mut last = String::new();
    let mut progress = |progress: JoinProgress| {
        let text = match progress {
            JoinProgress::Dialling { servers, fingerprint } => {
                format!("dialling {servers}\nfingerprint of this machine's key: {fingerprint}")
            }
            JoinProgress::Pending { node, fingerprint, hint } => format!(
                "waiting for approval of node {node}\n  whoever approves compares the fingerprint: {fingerprint}\n  {hint}"
            ),
            JoinProgress::Again { why, .. } => format!("{why}; trying again"),
            JoinProgress::Approved { node } => format!("approved as node {node}"),
            _ => return,
        };
        // Each attempt says the same again; a person reads it once.
        if text != last {
            note(&text);
            last = text;
        }
    };
    Ok(enrol(home, join, &machine, config, options, &mut progress).await?)
}

fn token(args: &JoinArgs) -> Result<JoinToken> {
    let text = if let Some(path) = &args.token_file {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    } else if args.token_stdin {
        from_stdin()?
    } else if let Some(token) = &args.token {
        note(
            "warning: other users of this machine can see a token on the command line; use --token-stdin or --token-file",
        );
        token.clone()
    } else {
        prompt()?
    };
    Ok(JoinToken::parse(&text)?)
}

/// The whole of standard input, which is a token.
pub(crate) fn from_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text).context("cannot read the token")?;
    if text.trim().is_empty() {
        bail!("there is no token on standard input");
    }
    Ok(text)
}

fn prompt() -> Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return from_stdin();
    }
    note("join token (it is not shown; `lattice token create` on the server makes one):");
    let before = tcgetattr(&stdin).context("cannot read the terminal's settings")?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("cannot hide what is typed")?;
    let mut text = String::new();
    let read = stdin.lock().take(MAX_TOKEN).read_line(&mut text);
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    read.context("cannot read the token")?;
    restored.context("cannot restore the terminal's settings; type `reset`")?;
    Ok(text)
}
