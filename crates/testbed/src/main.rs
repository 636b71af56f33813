//! `lattice-testbed`: several nodes on one machine, for people. Every verb of the library is a command; state is in
//! files, so each command goes on where the last one ended.
//!
//! | file | what |
//! |---|---|
//! | `main` | flags, exit codes |
//! | `commands` | what each command does |
//! | `status` | the table |
//! | `answer` | the process that answers as a neighbour would, started by the library |
//! | `wire` | the process that holds packets back, started by the library |

mod answer;
mod commands;
mod status;
mod wire;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{error::Error, process::ExitCode, time::Duration};

const AFTER_HELP: &str = "\
Nodes are n1, n2, … and `server` is one where that makes sense. All is in namespaces: this machine's network, mounts \
and engine are left alone. It takes root, or sudo.

Typical: lattice-testbed up; lattice-testbed drop n1; lattice-testbed kill n1; lattice-testbed revive n1; \
lattice-testbed heal n1; lattice-testbed down";

/// Several nodes on one machine, each with a network, an engine, a disk and an agent, and ways to hurt them.
#[derive(Debug, Parser)]
#[command(name = "lattice-testbed", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    /// Which testbed.
    #[arg(long, global = true, default_value = "testbed", value_name = "NAME")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a server and nodes that have joined; say how to use them.
    Up(UpArgs),
    /// Show each machine: what runs, what is wrong with it, what the server says of it.
    Status {
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Print the environment for `lattice` and `docker`: eval "$(lattice-testbed env)".
    Env {
        /// Also the engine of this node, as DOCKER_HOST.
        node: Option<String>,
    },
    /// Packets of a node vanish, both ways unless said.
    Drop {
        /// Which.
        node: String,
        #[command(flatten)]
        direction: DirectionArgs,
    },
    /// So many of a hundred packets vanish, each way.
    Lose {
        /// Which.
        node: String,
        /// 0 to 100; fractions count.
        percent: f64,
    },
    /// Packets take longer, each way.
    Delay {
        /// Which.
        node: String,
        /// How much: 50ms, 1s.
        #[arg(value_parser = span)]
        delay: Duration,
        /// Up to so much more, by chance.
        #[arg(long, value_parser = span, default_value = "0ms", value_name = "SPAN")]
        jitter: Duration,
    },
    /// The network is as it should be, and there is room on the disk again.
    Heal {
        /// Which; all where absent.
        nodes: Vec<String>,
    },
    /// Fill a node's disk.
    Fill {
        /// Which.
        node: String,
        /// Leave so many MiB.
        #[arg(long, default_value_t = 0, value_name = "MIB")]
        leave: u64,
    },
    /// Close the lid: everything on the node stands still.
    Freeze {
        /// Which.
        node: String,
    },
    /// Open the lid.
    Thaw {
        /// Which.
        node: String,
    },
    /// Cut the power: all processes of the node end at once.
    Kill {
        /// Which.
        node: String,
    },
    /// Switch a node on again, with the disk that it had.
    Revive {
        /// Which.
        node: String,
    },
    /// Stop one program of a node and start it again: its engine, its agent, or the server.
    Restart {
        /// Which node, or `server`.
        node: String,
        /// What of it; the server has only one.
        #[arg(value_enum)]
        what: Option<Part>,
    },
    /// Run a command on a node, as root: exec n1 -- docker ps.
    Exec {
        /// Which node, `server` or `hub`.
        node: String,
        /// The command.
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// End everything and leave nothing behind.
    Down,
    /// List the testbeds of this user.
    Ls,
    /// Hold packets back between two interfaces that this makes.
    #[command(hide = true)]
    Wire(wire::WireArgs),
    /// Answer on some ports.
    #[command(hide = true)]
    Answer(answer::AnswerArgs),
}

#[derive(Debug, Args)]
struct UpArgs {
    /// How many nodes.
    #[arg(short = 'n', long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=100))]
    nodes: u8,
    /// The size of each node's disk in MiB; the file takes only what is written.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(128..), value_name = "MIB")]
    disk: u32,
    /// An image of this machine's engine that each node gets; may be given again. None: those of the tests that are there.
    #[arg(long = "image", value_name = "IMAGE")]
    images: Vec<String>,
    /// A key of the server's configuration, as TOML: agents.heartbeat_secs=5; may be given again.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct DirectionArgs {
    /// Only those to the node.
    #[arg(long = "in")]
    to: bool,
    /// Only those from the node.
    #[arg(long = "out")]
    from: bool,
    /// Either way; so it is where nothing is said.
    #[arg(long)]
    both: bool,
}

/// A program of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// dockerd; its containers stop with it
    Engine,
    /// lattice-agent; containers run on
    Agent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no span: write 50ms or 1.5s, at most 60s");
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1.0),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * unit;
    if !(0.0..=60.0).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as agents.heartbeat_secs=5")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(&cli.name, cli.command) {
        Ok(code) => code,
        Err(error) => {
            let mut words = format!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                words.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            commands::note(words);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn spans_and_keys() {
        assert_eq!(span("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "5", "ms", "-1s", "61s", "NaNs"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert_eq!(key_and_value("a.b = [\"c=d\"]"), Ok(("a.b".into(), "[\"c=d\"]".into())));
        assert!(key_and_value("a").is_err());
    }
}
