//! The daemon of a node, and the few commands that a node's owner needs beside it.
//!
//! | file | what |
//! |---|---|
//! | `main` | flags, logging, the runtime, exit codes |
//! | `enrol` | `join`, and the token's way in |
//! | `daemon` | `run` |
//! | `look` | `status`, `doctor`, `logs` |
//! | `owner` | `pause`, `finish`, `resume`, `rules` |
//! | `farewell` | `leave` |
//! | `reset` | `reset` |
//! | `gpu` | `gpu`, and the program that a container runs to prove one |
//!
//! One thread serves everything (`current_thread`): the agent waits for the engine and the network,
//! and a thread less is memory that the owner keeps. Only the disk is waited for elsewhere.

mod daemon;
mod enrol;
mod farewell;
mod gpu;
mod look;
mod owner;
mod reset;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use lattice_agent_core::{
    AgentConfig, Docker, Firewall, Home, HomePaths, LogFile, LogRing, PauseKind, Runtime,
};
use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::writer::{BoxMakeWriter, MakeWriterExt as _},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Lends this computer to a Lattice cluster.
#[derive(Parser)]
#[command(name = "lattice-agent", version, about, propagate_version = true)]
struct Cli {
    /// Where all state is kept; the platform's data folder unless said
    #[arg(long, global = true, env = "LATTICE_HOME", value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// The container engine's socket, with or without unix://
    #[arg(long, global = true, value_name = "SOCKET")]
    docker_host: Option<String>,
    /// Log lines as JSON
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enrol this machine with a join token, asked for unless given
    Join(enrol::JoinArgs),
    /// Run the agent; ending it leaves what runs alone
    Run(daemon::RunArgs),
    /// What the agent does now
    Status {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Whether this machine is fit, and what to do where it is not
    Doctor {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// The last lines of the running agent's log
    Logs {
        /// How many
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: usize,
    },
    /// Stop all work on this machine at once, also offline
    Pause(owner::PauseArgs),
    /// Take nothing new, let jobs end, then pause
    Finish(owner::PauseArgs),
    /// End the pause
    Resume(owner::ResumeArgs),
    /// When this machine works, for whom and how much
    #[command(subcommand)]
    Rules(owner::RulesCommand),
    /// The GPUs of this machine, and whether containers can use them
    Gpu(gpu::GpuArgs),
    /// Forget the cluster; what runs stays unless told otherwise
    Leave(farewell::LeaveArgs),
    /// Remove everything of Lattice's agent from this machine, data included
    Reset(reset::ResetArgs),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// What every command needs.
struct Context {
    base: PathBuf,
    docker_host: Option<String>,
    log: LogRing,
}

impl Context {
    fn paths(&self) -> HomePaths {
        HomePaths::new(&self.base)
    }

    fn open(&self) -> Result<Home> {
        Ok(Home::open(&self.base)?)
    }

    fn config(&self) -> Result<AgentConfig> {
        Ok(AgentConfig::load(&self.paths().config())?)
    }

    /// What keeps containers of that engine out of the owner's network.
    fn firewall(&self, config: &AgentConfig) -> Arc<dyn Firewall> {
        #[cfg(target_os = "linux")]
        return Arc::new(lattice_agent_core::Nftables::new(&config.docker_host(self.docker_host.as_deref())));
        #[cfg(not(target_os = "linux"))]
        {
            let _ = config;
            let why = "on this system containers run in a virtual machine, whose packets this agent cannot tell from \
                       its owner's yet";
            Arc::new(lattice_agent_core::NoFirewall(why.into()))
        }
    }

    fn runtime(&self, config: &AgentConfig) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(Docker::new(&config.docker_host(self.docker_host.as_deref()))?))
    }
}

/// Data, to standard output. A reader that went away is no error.
fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Everything else, to standard error.
fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn log(json: bool, file: Option<&Path>) -> Result<LogRing> {
    let ring = LogRing::default();
    let tee = ring.clone();
    let tee = move || tee.writer();
    // Without the regular expressions of `EnvFilter`, which are a fiftieth of this program.
    let asked = std::env::var("LATTICE_LOG").ok().and_then(|text| text.parse().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let plain = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_target(false);
    let writer: BoxMakeWriter = match file {
        Some(path) => {
            let file = LogFile::open(path)
                .with_context(|| format!("the log {} cannot be written", path.display()))?;
            BoxMakeWriter::new(Mutex::new(file).and(tee))
        }
        None => BoxMakeWriter::new(std::io::stderr.and(tee)),
    };
    let plain = plain.with_writer(writer);
    if json {
        plain.json().flatten_event(true).finish().with(filter).init();
    } else {
        plain.with_ansi(std::io::stderr().is_terminal()).finish().with(filter).init();
    }
    Ok(ring)
}

fn main() -> ExitCode {
    // In a container, where nothing else of this program is wanted.
    if gpu::is_probe() {
        return gpu::probe();
    }
    // Beside the agent, for as long as a GPU is measured.
    if gpu::is_bench() {
        return gpu::bench();
    }
    let cli = Cli::parse();
    let file = match &cli.command {
        Command::Run(args) => args.log_file.as_deref(),
        _ => None,
    };
    let log = match log(cli.log_json, file) {
        Ok(log) => log,
        Err(error) => {
            note(format_args!("error: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_stack_size(512 << 10)
        .thread_keep_alive(Duration::from_secs(2))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            note(format_args!("error: the system gives no event queue: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(command(cli, log));
    // A read from the terminal that nobody answers must not hold the exit up.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(code) => code,
        Err(error) => {
            note(format_args!("error: {}", lattice_agent_core::chain(error.as_ref())));
            ExitCode::FAILURE
        }
    }
}

async fn command(cli: Cli, log: LogRing) -> Result<ExitCode> {
    if let Command::Completion { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "lattice-agent", &mut script);
        std::io::stdout().write_all(&script).context("the script cannot be printed")?;
        return Ok(ExitCode::SUCCESS);
    }
    let base = cli.home.filter(|home| !home.as_os_str().is_empty()).or_else(lattice_agent_core::default_home);
    let base = base.context("no folder for the agent's state is known; give one with --home")?;
    let context = Context { base, docker_host: cli.docker_host, log };
    match cli.command {
        Command::Join(args) => enrol::join(&context, args).await,
        Command::Run(args) => daemon::run(&context, args).await,
        Command::Status { output } => look::status(&context, output).await,
        Command::Gpu(args) => gpu::gpu(&context, args).await,
        Command::Doctor { output } => look::doctor(&context, output).await,
        Command::Logs { lines } => look::logs(&context, lines).await,
        Command::Pause(args) => owner::pause(&context, args, PauseKind::Pause).await,
        Command::Finish(args) => owner::pause(&context, args, PauseKind::Finish).await,
        Command::Resume(args) => owner::resume(&context, args).await,
        Command::Rules(command) => owner::rules(&context, command).await,
        Command::Leave(args) => farewell::leave(&context, args).await,
        Command::Reset(args) => reset::run(&context, args).await,
        // It was answered above: it needs no folder.
        Command::Completion { .. } => Ok(ExitCode::SUCCESS),
    }
}
