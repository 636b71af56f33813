//! `lattice`: the command line, and the server when asked for (`up`, `server`).
//!
//! [`args`] defines every flag once; [`commands`] has a file per subject; what is pure and worth
//! testing alone stands beside: [`resolve`] (names), [`table`], [`progress`] (how a deployment
//! fares), [`parse`] (what people type in flags). Data goes to stdout, everything else to stderr.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod commands;
mod context;
mod error;
mod parse;
mod progress;
mod project;
mod resolve;
mod servers;
mod service;
mod show;
mod table;
mod terminal;
mod top;
mod up;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // `up` and `server` choose themselves where their log goes.
    if !matches!(cli.command, Command::Up(_) | Command::Server(_)) {
        log_to_stderr(LevelFilter::WARN);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error::report(&error.into()),
    };
    let result = runtime.block_on(commands::run(cli));
    // A read of standard input that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| error::report(&error))
}

/// What is logged: `LATTICE_LOG`, else `level`.
fn log_filter(level: LevelFilter) -> Targets {
    let asked = std::env::var("LATTICE_LOG").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| Targets::new().with_default(level))
}

fn log_to_stderr(level: LevelFilter) {
    let all = fmt().with_max_level(LevelFilter::TRACE).with_writer(std::io::stderr);
    all.finish().with(log_filter(level)).init();
}
