//! `lattice-bench`: measures the release build on this machine against named references that run beside it.
//!
//! Enter at [`benchmarks::ALL`], the registry; a benchmark is one file there that implements [`Benchmark`]. `lab` is
//! what it works with: the engine, a cluster of its own, and the promise that all of it is gone afterwards, also
//! after a failure or Ctrl-C. Progress goes to stderr, the table to stdout, and the rows to `bench/results.json` in
//! the target folder as soon as each benchmark is done.
//!
//! Exit codes: 0 all was measured (a missed target is a result, not a failure) · 1 something could not be measured ·
//! 2 not understood · 130 interrupted.
//!
//! Rejected: criterion (made for functions of nanoseconds within one process; here processes, engines and wall clocks
//! are measured, against something else that has to run in turns).

#![allow(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod benchmark;
mod benchmarks;
mod cluster;
mod engine;
mod lab;
mod proc;
mod progress;
mod results;
mod select;
mod stats;

use anyhow::Context as _;
use benchmark::{Benchmark, Measured, Outcome};
use clap::Parser;
use lab::Lab;
use results::Row;
use select::Selection;
use std::{process::ExitCode, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};

/// Measures the release build of Lattice on this machine.
#[derive(Debug, Parser)]
#[command(name = "lattice-bench", version)]
struct Args {
    /// Only figures of this name, or whose name begins so: deploy-latency, agent-footprint/rss.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// List what there is, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Leave the folder of this run (logs of server and agent) where it is.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        print!("{}", select::listing());
        return ExitCode::SUCCESS;
    }
    let Some(selection) = Selection::of(args.only.as_deref()) else {
        let asked = args.only.unwrap_or_default();
        eprintln!("error: no benchmark is called {asked:?}, and no figure's name begins so. There are:\n");
        eprint!("{}", select::listing());
        return ExitCode::from(2);
    };
    match measure(selection, args.keep).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was selected; whatever happens, everything that it started is gone afterwards.
async fn measure(selection: Selection, keep: bool) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let lab = Arc::new(Lab::open(keep)?);
    let mut work = tokio::spawn({
        let lab = Arc::clone(&lab);
        async move { run_all(&lab, &selection).await }
    });
    let told = async {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    // A panic in a benchmark ends its task, and not the cleaning.
    let result = tokio::select! {
        result = &mut work => Some(result),
        () = told => None,
    };
    if result.is_none() {
        eprintln!("interrupted: stopping what was started");
        work.abort();
        let _ = (&mut work).await;
        // What Docker was asked for in that moment is made all the same, and has to be there to be found.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    lab.clean().await;
    match result {
        Some(result) => result.context("a benchmark broke off")?,
        None => Ok(ExitCode::from(130)),
    }
}

async fn run_all(lab: &Lab, selection: &Selection) -> anyhow::Result<ExitCode> {
    let path = lab.target_dir().join("bench").join("results.json");
    let mut tabled = Vec::new();
    let mut notes = Vec::new();
    let mut failed = Vec::new();
    for (benchmark, wanted) in selection.benchmarks() {
        let name = benchmark.name();
        if let Some(argument) = benchmark.arguments().iter().find(|argument| argument.value().is_none()) {
            let message = format!("needs {}=…: {}", argument.name, argument.about);
            if selection.is_all() {
                eprintln!("--> {name}: left out, {message}");
            } else {
                failed.push(format!("{name}: {message}"));
            }
            continue;
        }
        eprintln!("--> {name}: {}", benchmark.about());
        match benchmark.measure(lab, &wanted).await {
            Ok(Outcome { measured, notes: said }) => {
                let rows = rows(*benchmark, &measured, &wanted);
                results::merge(&path, &rows.iter().map(|(row, _)| row.clone()).collect::<Vec<_>>())?;
                tabled.extend(rows);
                notes.extend(said.into_iter().map(|note| format!("{name}: {note}")));
            }
            Err(error) => {
                eprintln!("    {name} could not be measured: {error:#}");
                failed.push(format!("{name}: {error:#}"));
            }
        }
        // What one benchmark left would disturb the next one.
        lab.clean_benchmark().await;
    }
    print!("{}", results::table(&tabled));
    for note in notes {
        println!("  {note}");
    }
    if !tabled.is_empty() {
        eprintln!("    rows are in {}", path.display());
    }
    for failure in &failed {
        eprintln!("error: not measured: {failure}");
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rows of what was measured and asked for, in the order of the benchmark's figures.
fn rows(
    benchmark: &dyn Benchmark,
    measured: &[Measured],
    wanted: &select::Wanted,
) -> Vec<(Row, benchmark::Target)> {
    let figures = benchmark.figures().iter().filter(|figure| wanted.has(figure.name));
    figures
        .filter_map(|figure| {
            let found = measured.iter().find(|measured| measured.name == figure.name)?;
            let mut command = format!("make bench ONLY={}", figure.name);
            for argument in benchmark.arguments() {
                command += &format!(" {}={}", argument.name, argument.value().unwrap_or_default());
            }
            Some((Row::new(figure, found, command), figure.target))
        })
        .collect()
}
