//! `lattice-agent gpu`: what the machine's GPUs are, and having containers get them.

use crate::{Context, Output, note, say};
use anyhow::Result;
use clap::{Args, Subcommand};
use lattice_agent_core::{GpuReport, gpu_prove, gpu_report, gpu_setup, lattice_compute, lattice_gpu};
use std::process::ExitCode;

/// What `gpu` and `gpu prove` exit with where containers cannot use every GPU of NVIDIA's.
const NOT_USABLE: u8 = 4;

#[derive(Args)]
pub(crate) struct GpuArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Output,
    #[command(subcommand)]
    command: Option<GpuCommand>,
}

#[derive(Subcommand)]
enum GpuCommand {
    /// Have a container use each GPU now, lent or not
    Prove,
    /// Show what is missing, and with --yes install and configure it
    Setup {
        /// Do it
        #[arg(long)]
        yes: bool,
    },
}

/// Where the agent's program is started in a container to prove a GPU: it does nothing else.
pub(crate) fn is_probe() -> bool {
    std::env::var_os(lattice_gpu::PROBE_VARIABLE).is_some()
}

/// Proves, and says so on one line.
pub(crate) fn probe() -> ExitCode {
    let report = lattice_gpu::probe();
    say(serde_json::to_string(&report).unwrap_or_default());
    ExitCode::SUCCESS
}

/// Where the agent's program is started to measure a GPU: it does nothing else.
pub(crate) fn is_bench() -> bool {
    std::env::var_os(lattice_compute::COMPUTE_VARIABLE).is_some()
}

/// Measures as its input says, and ends with it.
pub(crate) fn bench() -> ExitCode {
    // What the processor does for it gives way to all others.
    #[cfg(unix)]
    let _ = rustix::process::setpriority_process(None, 19);
    match lattice_compute::serve(std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

pub(crate) async fn gpu(context: &Context, args: GpuArgs) -> Result<ExitCode> {
    let runtime = context.runtime(&context.config()?)?;
    let paths = context.paths();
    let report = match args.command {
        None => gpu_report(&paths, &*runtime).await?,
        Some(GpuCommand::Prove) => gpu_prove(&paths, &*runtime).await?,
        Some(GpuCommand::Setup { yes }) => return setup(context, yes).await,
    };
    show(&report, args.output)
}

fn show(report: &GpuReport, output: Output) -> Result<ExitCode> {
    if output == Output::Json {
        say(serde_json::to_string_pretty(report)?);
    } else {
        for gpu in &report.gpus {
            say(gpu);
        }
        if let Some(method) = report.method {
            say(format_args!("containers get GPUs by {method}"));
        }
        say(report.plan.to_string().trim_end());
    }
    let nvidias = report.gpus.iter().filter(|gpu| gpu.vendor.as_str() == "nvidia");
    let mut usable = nvidias.flat_map(|gpu| {
        gpu.units().into_iter().map(|unit| unit.state.as_str() == "proven").collect::<Vec<_>>()
    });
    Ok(if usable.all(|one| one) { ExitCode::SUCCESS } else { ExitCode::from(NOT_USABLE) })
}

async fn setup(context: &Context, yes: bool) -> Result<ExitCode> {
    let runtime = context.runtime(&context.config()?)?;
    let report = gpu_report(&context.paths(), &*runtime).await?;
    let plan = &report.plan;
    if plan.steps.is_empty() {
        note(match plan.ways.is_empty() {
            true => "nothing can be done here:",
            false => "nothing has to be installed; a container tries the GPUs",
        });
        if plan.ways.is_empty() {
            note(plan.to_string().trim_end());
            return Ok(ExitCode::from(NOT_USABLE));
        }
    } else {
        note(plan.to_string().trim_end());
        if plan.steps.iter().any(|step| step.command.is_empty()) {
            note("this is for a person to do; run this again then");
            return Ok(ExitCode::from(NOT_USABLE));
        }
        if !yes {
            note("this is what would be done; add --yes to do it");
            return Ok(ExitCode::SUCCESS);
        }
        if let Err(why) = gpu_setup(&plan.steps, &|line| note(line)).await {
            anyhow::bail!("{why}; what was done before stays, and running this again goes on");
        }
    }
    show(&gpu_prove(&context.paths(), &*runtime).await?, Output::Text)
}
