//! `logs`: the lines of one or several replicas, each line whole.

use crate::{
    args::LogsArgs,
    commands::{events::is_passing, interrupted},
    context::Context,
    error::{CliError, INTERRUPTED},
    show,
    table::Style,
    terminal::{self, note},
};
use lattice_api::{AllocationView, ErrorCode, LogLine, LogQuery, LogStream};
use lattice_client::{Client, ClientError};
use lattice_model::{Timestamp, report::AllocationState};
use std::{process::ExitCode, time::Duration};
use tokio::sync::mpsc;

/// Between the end of a container and the look for its next run.
const PAUSE: Duration = Duration::from_millis(500);
/// Lines of all replicas that wait to be written; then the streams wait too.
const WAITING: usize = 256;

/// `lattice logs`.
pub(crate) async fn logs(ctx: &Context, args: LogsArgs) -> anyhow::Result<ExitCode> {
    let targets = ctx.targets(&args.target).await?;
    let several = targets.len() > 1;
    let width = targets.iter().map(|a| prefix(a).chars().count()).max().unwrap_or(0);
    let since_ms = args.since.map(|span| ctx.now().0.saturating_sub_unsigned(span.0));
    let (sender, mut receiver) = mpsc::channel(WAITING);
    for target in &targets {
        // A timestamp is asked for where a stream may have to be taken up again.
        let query = LogQuery {
            follow: args.follow,
            tail: args.tail,
            since_ms,
            timestamps: args.timestamps || args.follow,
        };
        let reader =
            Reader { client: ctx.client.clone(), target: target.clone(), query, sender: sender.clone() };
        tokio::spawn(reader.run());
    }
    drop(sender);
    let colour = terminal::colours(&std::io::stdout());
    let mut failed = None;
    loop {
        let next = tokio::select! {
            next = receiver.recv() => next,
            () = interrupted() => return Ok(ExitCode::from(INTERRUPTED)),
        };
        let Some((target, item)) = next else { break };
        match item {
            Ok(line) => {
                let mut text = Vec::new();
                if several {
                    let label = format!("{:width$} | ", prefix(&target));
                    text.extend_from_slice(Style::Dim.paint(&label, colour).as_bytes());
                }
                if let (true, Some(at)) = (args.timestamps, line.at_ms) {
                    text.extend_from_slice(show::time(at, &ctx.zone).as_bytes());
                    text.push(b' ');
                }
                text.extend_from_slice(&line.bytes().unwrap_or_default());
                if text.last() != Some(&b'\n') {
                    text.push(b'\n');
                }
                match line.stream {
                    LogStream::Stdout => terminal::data(&text)?,
                    LogStream::Stderr => terminal::note_raw(&text),
                }
            }
            // The others go on; the end tells.
            Err(error) if several => {
                note(&format!("{}: {error}", prefix(&target)));
                failed = Some(CliError::Failed("not all logs could be read".into()).into());
            }
            Err(error) => failed = Some(anyhow::Error::from(error)),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn prefix(target: &AllocationView) -> String {
    format!("{}#{}", target.workload, target.slot)
}

type Item = (AllocationView, Result<LogLine, ClientError>);

/// Reads one allocation, through restarts of its container when following.
struct Reader {
    client: Client,
    target: AllocationView,
    query: LogQuery,
    sender: mpsc::Sender<Item>,
}

impl Reader {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.stream().await {
                let passing = is_passing(&error) || error.code() == Some(ErrorCode::NodeOffline);
                if !(self.query.follow && passing) {
                    let _ = self.sender.send((self.target, Err(error))).await;
                    return;
                }
            }
            if !self.query.follow || !self.goes_on().await {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One stream to its end; an error only when nothing more can be read.
    async fn stream(&mut self) -> Result<(), ClientError> {
        let mut logs = self.client.logs(&self.target.id.to_string(), &self.query).await?;
        while let Some(line) = logs.next().await {
            let line = line?;
            if let Some(Timestamp(at)) = line.at_ms {
                // Should the stream be taken up again, then behind this line.
                self.query.since_ms = Some(at.saturating_add(1));
                self.query.tail = None;
            }
            if self.sender.send((self.target.clone(), Ok(line))).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the container may write more one day.
    async fn goes_on(&self) -> bool {
        use AllocationState as A;
        match self.client.allocation(&self.target.id.to_string()).await {
            Ok(view) => {
                !matches!(view.status.state, A::Stopped | A::Completed | A::Failed) && !view.is_going()
            }
            Err(error) => is_passing(&error),
        }
    }
}
