//! `exec`: a command inside a container, with this terminal's keys and size where asked for.

use crate::{
    args::ExecArgs,
    context::Context,
    error::CliError,
    parse, resolve,
    terminal::{self, Mode, note},
};
use lattice_api::ExecStart;
use lattice_client::{ExecOutput, ExecSender};
use lattice_model::report::AllocationState;
use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};
use tokio::io::AsyncReadExt;

/// `lattice exec`; ends with the command's own exit code.
pub(crate) async fn exec(ctx: &Context, args: ExecArgs) -> anyhow::Result<ExitCode> {
    if args.tty && !io::stdin().is_terminal() {
        return Err(
            CliError::Usage("-t needs a terminal, and standard input is none; leave -t away".into()).into()
        );
    }
    let env = parse::environment(&args.env, |name| std::env::var(name).ok()).map_err(CliError::Usage)?;
    let found = ctx.targets(&args.target).await?;
    let running: Vec<_> = found.iter().filter(|a| a.status.state == AllocationState::Running).collect();
    let Some(target) = running.first() else {
        let states: Vec<_> =
            found.iter().map(|a| format!("{} is {}", resolve::allocation_name(a), a.status.state)).collect();
        return Err(CliError::Failed(format!(
            "no container of {} runs ({}); `lattice explain` says why, `lattice start` starts what is stopped",
            args.target,
            states.join(", ")
        ))
        .into());
    };
    if running.len() > 1 {
        note(&format!("{} of {} replicas: {}", 1, running.len(), resolve::allocation_name(target)));
    }
    let start = ExecStart {
        argv: args.command,
        tty: args.tty,
        stdin: args.interactive,
        env,
        user: args.user,
        workdir: args.workdir,
        size: if args.tty { terminal::size() } else { None },
        files: None,
    };
    let (sender, mut receiver) = ctx.client.exec(&target.id.to_string(), &start).await?.split();
    let mode = if args.tty && args.interactive { Some(Mode::raw()?) } else { None };
    let input = tokio::spawn(input(sender, args.interactive, args.tty));
    let code = loop {
        match receiver.next().await {
            Ok(ExecOutput::Stdout(data)) => terminal::data(&data)?,
            Ok(ExecOutput::Stderr(data)) => terminal::note_raw(&data),
            Ok(ExecOutput::Exit(code)) => break Ok(code),
            Err(error) => break Err(error),
        }
    };
    input.abort();
    // Before anything is said about how it ended.
    drop(mode);
    let code = code?;
    // What does not fit a byte is said, and is not zero.
    Ok(ExitCode::from(u8::try_from(code).unwrap_or_else(|_| {
        note(&format!("the command ended with {code}"));
        u8::MAX
    })))
}

/// Passes on what is typed and how large the terminal is, until the session ends.
async fn input(mut sender: ExecSender, stdin: bool, tty: bool) {
    let mut reader = tokio::io::stdin();
    let mut buffer = vec![0; 16 << 10];
    let mut open = stdin;
    let mut resized = Resized::new(tty);
    loop {
        let result = tokio::select! {
            read = reader.read(&mut buffer), if open => match read {
                Ok(count) if count > 0 => sender.stdin(&buffer[..count]).await,
                _ => {
                    open = false;
                    sender.close_stdin().await
                }
            },
            () = resized.next() => match terminal::size() {
                Some(size) => sender.resize(size).await,
                None => Ok(()),
            },
        };
        if result.is_err() {
            // The receiving half tells why.
            return;
        }
    }
}

/// Tells when the terminal's size changes.
struct Resized {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Resized {
    #[cfg(unix)]
    fn new(tty: bool) -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self { signal: if tty { signal(SignalKind::window_change()).ok() } else { None } }
    }

    #[cfg(not(unix))]
    fn new(_: bool) -> Self {
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
