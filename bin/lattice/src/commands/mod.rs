//! What each command does, a file per subject.

mod alert;
mod backup;
mod config;
mod copy;
mod deploy;
mod events;
mod exec;
mod explain;
mod follow;
mod import;
mod job;
mod login;
mod logs;
mod manual;
mod node;
mod node_build;
mod pool;
mod ps;
mod rank;
mod registry;
mod rollout;
mod secret;
mod status;
mod token;
mod top;
mod user;
mod workload;

use crate::{
    args::{Cli, Command, VolumeCommand},
    context::Context,
    up,
};
use std::{process::ExitCode, sync::OnceLock};
use tokio_util::sync::CancellationToken;

/// Carries out what was typed.
///
/// # Errors
/// What [`error::report`](crate::error::report) shows.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { global, command } = cli;
    let command = match command {
        Command::Up(args) => return up::up(args).await,
        Command::Server(args) => return up::server(args).await,
        Command::Completion { shell } => return manual::completion(shell).map(|()| ExitCode::SUCCESS),
        Command::Man(args) => return manual::man(&args).map(|()| ExitCode::SUCCESS),
        other => other,
    };
    // Needs no server.
    if let Command::Config(args) = command {
        config::config(&global, &args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ctx = Context::new(&global)?;
    match command {
        // These returned above.
        Command::Up(_)
        | Command::Server(_)
        | Command::Completion { .. }
        | Command::Man(_)
        | Command::Config(_) => {}
        Command::Alert(command) => alert::run(&ctx, command).await?,
        Command::Backup(command) => backup::run(&ctx, command).await?,
        Command::Migrate(args) => backup::migrate(&ctx, args).await?,
        Command::Login(args) => return login::login(&ctx, args).await,
        Command::Logout(args) => login::logout(&ctx, args).await?,
        Command::Console => login::console(&ctx).await?,
        Command::Whoami => login::whoami(&ctx).await?,
        Command::User(command) => user::user(&ctx, command).await?,
        Command::Project(command) => user::project(&ctx, command).await?,
        Command::Status => status::status(&ctx).await?,
        Command::Token(command) => token::join(&ctx, command).await?,
        Command::ApiToken(command) => token::api(&ctx, command).await?,
        Command::Node(command) => return node::run(&ctx, command).await,
        Command::Pool(command) => pool::run(&ctx, command).await?,
        Command::Rollout(command) => return rollout::run(&ctx, command).await,
        Command::Deploy(args) => return deploy::deploy(&ctx, args).await,
        Command::Import(args) => return import::import(&ctx, args).await,
        Command::Run(args) => return deploy::run(&ctx, args).await,
        Command::Job(command) => return job::run(&ctx, command).await,
        Command::Top(args) => return top::top(&ctx, args).await,
        Command::Ps(args) => ps::ps(&ctx, args).await?,
        Command::Logs(args) => return logs::logs(&ctx, args).await,
        Command::Cp(args) => return copy::cp(&ctx, args).await,
        Command::Exec(args) => return exec::exec(&ctx, args).await,
        Command::Start(args) => return workload::each(&ctx, &args, workload::Verb::Start).await,
        Command::Stop(args) => return workload::each(&ctx, &args, workload::Verb::Stop).await,
        Command::Restart(args) => return workload::each(&ctx, &args, workload::Verb::Restart).await,
        Command::Scale(args) => return workload::scale(&ctx, &args).await,
        Command::Rm(args) => return workload::rm(&ctx, args).await,
        Command::Volume(VolumeCommand::Ls) => ps::volumes(&ctx).await?,
        Command::Registry(command) => registry::run(&ctx, command).await?,
        Command::Secret(command) => secret::run(&ctx, command).await?,
        Command::Events(args) => return events::events(&ctx, args).await,
        Command::Audit(args) => events::audit(&ctx, args).await?,
        Command::Explain(args) => explain::explain(&ctx, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends when somebody presses Ctrl-C, also for every wait that begins after that: a loop that
/// waits anew with each line must not miss the press that comes between two waits. Listening
/// begins with the first call; before it, and where it cannot, the system ends us itself.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    static PRESSED: OnceLock<CancellationToken> = OnceLock::new();
    let pressed = PRESSED.get_or_init(|| {
        let pressed = CancellationToken::new();
        if let Ok(mut presses) = presses() {
            let seen = pressed.clone();
            tokio::spawn(async move {
                presses.recv().await;
                seen.cancel();
            });
        }
        pressed
    });
    pressed.cancelled()
}

#[cfg(unix)]
fn presses() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
}

#[cfg(windows)]
fn presses() -> std::io::Result<tokio::signal::windows::CtrlC> {
    tokio::signal::windows::ctrl_c()
}
