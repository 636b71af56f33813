//! What runs: looked at, reached into, scaled and removed.

use crate::parse;
use clap::{Args, Subcommand};
use lattice_model::Duration;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Show it once and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// How long between two looks.
    #[arg(long, value_parser = parse::duration, default_value = "2s", value_name = "SPAN")]
    pub(crate) every: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also show what has ended or is on its way out.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only this stack.
    pub(crate) stack: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on as more is written.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last so many lines of each replica.
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,
    /// Only what was written in the last: 10m, 2h.
    #[arg(long, value_parser = parse::duration, value_name = "SPAN")]
    pub(crate) since: Option<Duration>,
    /// Say when each line was written.
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// A service, one replica of it, or an allocation.
    pub(crate) target: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Pass standard input on.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// An environment variable: NAME=VALUE, or NAME to pass on this shell's.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Run as another user than the container's: USER[:GROUP].
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Begin in another folder than the container's: an absolute path in it.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// A service, one replica of it, or an allocation.
    pub(crate) target: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// From where: a file or folder here, SERVICE:/PATH in a container, or - for a tar archive on standard input.
    pub(crate) from: String,
    /// To where: SERVICE:/PATH in a container, a file or folder here, or - for a tar archive on standard output.
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct TargetsArgs {
    /// Services or stacks.
    #[arg(required = true)]
    pub(crate) targets: Vec<String>,
    /// Do not wait until it is so.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// How many: web=3.
    #[arg(required = true, value_parser = parse::scale, value_name = "SERVICE=REPLICAS")]
    pub(crate) targets: Vec<(String, u32)>,
    /// Do not wait until it is so.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Stacks.
    #[arg(required = true)]
    pub(crate) stacks: Vec<String>,
    /// Delete the data of its volumes too, for ever.
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Do not wait until it is gone.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List volumes.
    Ls,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on as more happens; with `-o json` one event a line.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the past to show.
    #[arg(short = 'n', long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Only those of a stack.
    #[arg(long)]
    pub(crate) stack: Option<String>,
    /// Only those of a node.
    #[arg(long)]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// How many of the past to show.
    #[arg(short = 'n', long, default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The service.
    pub(crate) service: String,
}
