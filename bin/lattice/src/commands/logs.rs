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
        let reader = Reader {
            client: ctx.client.clone(),
            target: target.clone(),
            query,
            sender: sender.clone(),
            place: Place::default(),
        };
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
    place: Place,
}

/// How far an allocation's log was read: the instant of the last line, and how many lines of just
/// that instant were shown. A burst has many lines in one millisecond, and a stream may break
/// between any two.
#[derive(Default)]
struct Place {
    at: Option<Timestamp>,
    shown: u64,
    /// How many lines of that instant the stream that was taken up there still repeats.
    repeated: u64,
    /// Whether lines of that instant may stand before those shown, cut off by the wish for the last
    /// few alone: then nobody can count, and what comes next is behind the instant.
    cut: bool,
}

impl Place {
    /// Where a stream is to be taken up, in milliseconds.
    fn take_up(&mut self) -> Option<i64> {
        self.repeated = if self.cut { 0 } else { self.shown };
        self.at.map(|at| if self.cut { at.0.saturating_add(1) } else { at.0 })
    }

    /// Whether a line of this instant is new. `tail` is whether only the last few were asked for.
    fn takes(&mut self, at: Timestamp, tail: bool) -> bool {
        if self.at != Some(at) {
            *self = Self { at: Some(at), shown: 0, repeated: 0, cut: tail && self.at.is_none() };
        }
        if self.repeated > 0 {
            self.repeated -= 1;
            return false;
        }
        self.shown += 1;
        true
    }
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
        if let Some(since) = self.place.take_up() {
            (self.query.since_ms, self.query.tail) = (Some(since), None);
        }
        let mut logs = self.client.logs(&self.target.id.to_string(), &self.query).await?;
        while let Some(line) = logs.next().await {
            let line = line?;
            let tail = self.query.tail.is_some();
            if line.at_ms.is_some_and(|at| !self.place.takes(at, tail)) {
                continue;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of bursts, read by streams that break after so many lines: every line comes once.
    #[test]
    fn a_stream_that_breaks_within_a_burst_loses_and_repeats_nothing() {
        let log: Vec<(i64, usize)> = [1, 5, 5, 5, 5, 6, 6, 9].into_iter().zip(0..).collect();
        for broken_after in 1..=log.len() {
            let (mut place, mut shown) = (Place::default(), Vec::new());
            while shown.len() < log.len() {
                let from = place.take_up().unwrap_or(0);
                let stream = log.iter().filter(|(at, _)| *at >= from);
                let fresh = stream.filter(|(at, _)| place.takes(Timestamp(*at), false)).take(broken_after);
                shown.extend(fresh.map(|(_, line)| *line));
            }
            assert_eq!(shown, (0..log.len()).collect::<Vec<_>>(), "broken after {broken_after}");
        }
    }

    /// The last two of a burst of five were asked for and shown: the others do not follow.
    #[test]
    fn what_the_tail_left_out_stays_out() {
        let mut place = Place::default();
        assert!((0..2).all(|_| place.takes(Timestamp(5), true)));
        assert_eq!(place.take_up(), Some(6));
        assert!(place.takes(Timestamp(6), false));
        assert_eq!(place.take_up(), Some(6));
        assert!(!place.takes(Timestamp(6), false) && place.takes(Timestamp(6), false));
    }
}
