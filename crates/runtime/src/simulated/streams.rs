//! Logs, events and commands as they come.

use super::{
    engine::{Simulated, unreachable},
    program::{Pause, Program, Progress},
    state::Line,
};
use crate::{
    error::{Result, RuntimeError},
    port::{
        EngineEvent, ExecConfig, ExecControl, ExecSession, LogChunk, LogOptions, LogStream, TerminalSize,
    },
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use lattice_model::{Duration, container::ContainerId};
use std::collections::{BTreeSet, VecDeque};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    sync::{mpsc, watch},
    time::timeout,
};

/// Lines of a command that wait for their reader; then it stops.
const MAX_OUTPUT: usize = 16;
/// Bytes of input that wait for a command.
const MAX_INPUT: usize = 16 << 10;

/// Until the engine ends them; then comes an error, and the end.
pub(super) fn events(reader: mpsc::Receiver<EngineEvent>) -> BoxStream<'static, Result<EngineEvent>> {
    let next = |state: Option<mpsc::Receiver<EngineEvent>>| async {
        let mut reader = state?;
        match reader.recv().await {
            Some(event) => Some((Ok(event), Some(reader))),
            None => Some((Err(unreachable()), None)),
        }
    };
    stream::unfold(Some(reader), next).boxed()
}

struct Reading {
    engine: Simulated,
    id: ContainerId,
    options: LogOptions,
    changes: watch::Receiver<()>,
    /// The number of the next line; `None` before the first look.
    next: Option<u64>,
    waiting: VecDeque<Line>,
}

impl Reading {
    /// Takes the new lines; whether more may come.
    fn look(&mut self) -> Result<bool> {
        self.changes.mark_unchanged();
        let (id, next, options) = (&self.id, self.next, self.options);
        let looked = self.engine.with(|state, _| {
            if state.faults().unreachable {
                return Err(unreachable());
            }
            let runs = state.running(id).is_some();
            Ok(state.containers.get(id).map(|c| {
                let end = c.first_line + c.lines.len() as u64;
                let from = next
                    .unwrap_or_else(|| options.tail.map_or(0, |tail| end.saturating_sub(u64::from(tail))));
                let skip = usize::try_from(from.saturating_sub(c.first_line)).unwrap_or(usize::MAX);
                (c.lines.iter().skip(skip).cloned().collect::<Vec<_>>(), end, runs)
            }))
        })?;
        let Some((lines, end, runs)) = looked else { return Ok(false) };
        self.next = Some(end);
        self.waiting.extend(lines.into_iter().filter(|line| options.since.is_none_or(|at| line.at >= at)));
        Ok(runs && options.follow)
    }
}

/// Lines, until the container has ended where they are followed.
pub(super) fn logs(
    engine: Simulated,
    id: ContainerId,
    options: LogOptions,
    changes: watch::Receiver<()>,
) -> BoxStream<'static, Result<LogChunk>> {
    let reading = Reading { engine, id, options, changes, next: None, waiting: VecDeque::new() };
    stream::unfold(Some((reading, true)), |state| async {
        let (mut reading, mut more) = state?;
        loop {
            if let Some(line) = reading.waiting.pop_front() {
                let time = if reading.options.timestamps {
                    let at = jiff::Timestamp::from_millisecond(line.at.0).unwrap_or_default();
                    format!("{at} ")
                } else {
                    String::new()
                };
                let bytes = Bytes::from(format!("{time}{}\n", line.text));
                return Some((Ok(LogChunk { stream: line.stream, bytes }), Some((reading, more))));
            }
            if !more {
                return None;
            }
            // The first look comes at once, the others after a change.
            if reading.next.is_some() && reading.changes.changed().await.is_err() {
                return None;
            }
            match reading.look() {
                Ok(again) => more = again,
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
    .boxed()
}

struct Command {
    engine: Simulated,
    id: ContainerId,
    run: u32,
    changes: watch::Receiver<()>,
    output: mpsc::Sender<LogChunk>,
    input: DuplexStream,
}

impl Command {
    fn runs(&self) -> bool {
        self.engine.with(|state, _| state.running(&self.id) == Some(self.run))
    }

    /// Waits, and less where the container ends; whether it still runs.
    async fn wait(&mut self, span: Option<Duration>) -> bool {
        let changes = &mut self.changes;
        let (engine, id, run) = (&self.engine, &self.id, self.run);
        let ended = async {
            while engine.with(|state, _| state.running(id) == Some(run)) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        match span {
            Some(span) => timeout(span.as_std(), ended).await.is_err(),
            None => {
                ended.await;
                false
            }
        }
    }

    /// Its exit code.
    async fn work(mut self, argv: Vec<String>, stdin: bool) -> i64 {
        let Some(steps) = Program::command(&argv) else {
            let line = format!("{}: not found\n", argv.first().map_or("", String::as_str));
            let _ = self.output.send(LogChunk { stream: LogStream::Stderr, bytes: line.into() }).await;
            return 127;
        };
        let mut progress = Progress::default();
        while self.runs() {
            let mut said = Vec::new();
            let id = &self.id;
            let pause = self.engine.with(|state, _| {
                let mut none = BTreeSet::new();
                let files = state.containers.get_mut(id).map_or(&mut none, |c| &mut c.files);
                let say = |stream, line: &str| said.push((stream, format!("{line}\n")));
                progress.go(&steps, files, lattice_model::Bytes(u64::MAX), say)
            });
            for (stream, line) in said {
                // Nobody reads any more: it writes into the void.
                let _ = self.output.send(LogChunk { stream, bytes: line.into() }).await;
            }
            match pause {
                Pause::Ended(code) => return code,
                Pause::OutOfMemory => return 137,
                Pause::Until(span) => drop(self.wait(Some(span)).await),
                Pause::Forever => drop(self.wait(None).await),
                Pause::Input if stdin => self.copy().await,
                Pause::Input => {}
            }
        }
        137
    }

    /// Input to output until its end.
    async fn copy(&mut self) {
        let mut buffer = vec![0; MAX_INPUT];
        while let Ok(n @ 1..) = self.input.read(&mut buffer).await {
            let bytes = Bytes::copy_from_slice(&buffer[..n]);
            if self.output.send(LogChunk { stream: LogStream::Stdout, bytes }).await.is_err() {
                return;
            }
        }
    }
}

struct Control(watch::Receiver<Option<i64>>);

#[async_trait]
impl ExecControl for Control {
    async fn resize(&self, _size: TerminalSize) -> Result<()> {
        Ok(())
    }

    async fn exit_code(&self) -> Result<i64> {
        const LIMIT: Duration = Duration::from_secs(10);
        let late = || RuntimeError::Timeout { what: "the command still runs".to_owned(), after: LIMIT };
        let mut code = self.0.clone();
        let known = timeout(LIMIT.as_std(), code.wait_for(Option::is_some)).await.map_err(|_| late())?;
        known.ok().and_then(|code| *code).ok_or_else(late)
    }
}

/// Runs one of the known commands in a container.
pub(super) fn exec(
    engine: Simulated,
    id: ContainerId,
    config: ExecConfig,
    changes: watch::Receiver<()>,
    run: u32,
) -> ExecSession {
    let (output, mut lines) = mpsc::channel(MAX_OUTPUT);
    let (ours, theirs) = tokio::io::duplex(MAX_INPUT);
    let (ended, code) = watch::channel(None);
    let command = Command { engine, id, run, changes, output, input: theirs };
    let work = command.work(config.argv, config.stdin);
    tokio::spawn(async move { ended.send_replace(Some(work.await)) });
    ExecSession {
        input: Box::pin(ours),
        output: stream::poll_fn(move |cx| lines.poll_recv(cx).map(|chunk| chunk.map(Ok))).boxed(),
        control: Box::new(Control(code)),
    }
}
