//! Logs, commands and builds: what the server asks for in the session, answered over the bulk connection.
//! Only containers of allocations that the goal names are reached; builds are in [`crate::builds`],
//! measurements in [`crate::measure`].

use crate::{builds::Builds, event::Event, measure::Measurer, owner::Lent};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream::BoxStream};
use lattice_link::{
    BulkReceiver, BulkSender, LinkError, Refusal,
    client::BulkDialer,
    code,
    message::{
        BulkEnd, BulkFrame, Copying, ExecRequest, FilesRequest, ImageFound, LOCAL_IMAGE, LogsRequest,
        OpenStream, ResolveRequest, StreamRequest, TerminalSize as Size, VolumeRequest, channel,
    },
};
use lattice_model::{AllocationId, NodeId, container::ContainerId, spec::image_repository};
use lattice_runtime::{
    ExecConfig, ExecSession, ImageResolved, ImageSeen, LogChunk, LogOptions, LogStream,
    Result as RuntimeResult, Runtime, RuntimeError, TerminalSize,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Semaphore, mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Streams at the same time; the server takes 32 calls over one connection.
const MAX_STREAMS: usize = 24;
/// How long the other side may take to read the end of a stream.
const LINGER: Duration = Duration::from_secs(30);
/// Pieces of output that go together where they have come already.
const TOGETHER: usize = 32;
/// Parts of an archive that wait for the engine to take them.
const ARCHIVE_PARTS: usize = 4;
/// What waits to be told that there are too many.
const MAX_REFUSALS: usize = 8;

pub(crate) struct Streams {
    node: NodeId,
    bulk: BulkDialer,
    runtime: Arc<dyn Runtime>,
    events: mpsc::Sender<Event>,
    lent: watch::Receiver<Arc<Lent>>,
    builds: Arc<Builds>,
    measurer: Arc<Measurer>,
    stop: CancellationToken,
    places: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

fn failed(code: &'static str, message: impl Into<String>, hint: &str) -> BulkEnd {
    BulkEnd::Failed(Refusal::new(code, message, hint))
}

fn refused(error: &RuntimeError) -> BulkEnd {
    let code = match error {
        RuntimeError::Unreachable { .. } | RuntimeError::Timeout { .. } => "engine_unreachable",
        RuntimeError::NotFound { .. } => "container_gone",
        _ => "engine_refused",
    };
    failed(code, crate::error::chain(error), "")
}

impl Streams {
    #[allow(clippy::too_many_arguments, reason = "called once, by the session that has them all")]
    pub(crate) fn new(
        node: NodeId,
        bulk: BulkDialer,
        runtime: Arc<dyn Runtime>,
        events: mpsc::Sender<Event>,
        lent: watch::Receiver<Arc<Lent>>,
        builds: Arc<Builds>,
        measurer: Arc<Measurer>,
        stop: CancellationToken,
    ) -> Self {
        let (places, refusals) = (Semaphore::new(MAX_STREAMS), Semaphore::new(MAX_REFUSALS));
        Self {
            node,
            bulk,
            runtime,
            events,
            lent,
            builds,
            measurer,
            stop,
            places: Arc::new(places),
            refusals: Arc::new(refusals),
        }
    }

    /// Answers in a task of its own, which ends with the stream or with the agent.
    pub(crate) fn answer(self: &Arc<Self>, asked: OpenStream) {
        let this = Arc::clone(self);
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        // Whoever gets neither place learns it from the server, which waits for a bounded time.
        let refusal = match place {
            Some(_) => None,
            None => match Arc::clone(&self.refusals).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => return warn!("too many streams are asked for; one is not answered"),
            },
        };
        tokio::spawn(async move {
            let stop = this.stop.clone();
            let work = async {
                let stream = asked.stream;
                if let Err(error) = this.serve(asked, refusal.is_some()).await {
                    debug!(stream = stream.0, error = crate::error::chain(&error), "a stream broke");
                }
            };
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
            drop((place, refusal));
        });
    }

    async fn serve(&self, asked: OpenStream, too_many: bool) -> Result<(), LinkError> {
        let OpenStream { stream, request } = asked;
        let (send, mut recv) = self.bulk.open(stream).await?.split();
        if too_many {
            let end =
                failed(code::BUSY, "this node serves as many streams as it can", "try again in a while");
            send.close(end).await?;
            linger(recv).await;
            return Ok(());
        }
        let inside = matches!(request, StreamRequest::Exec(_) | StreamRequest::Files(_));
        let end = match request {
            _ if inside && !self.lent.borrow().exec() => failed(
                "owner_forbids",
                "the owner of this machine lets nobody run commands in containers or copy their files",
                "ask the owner (consent.exec in rules.toml), or run it on another node",
            ),
            StreamRequest::Logs(request) => self.logs(request, &send, &mut recv).await?,
            StreamRequest::Exec(request) => self.exec(request, &send, &mut recv).await?,
            StreamRequest::Files(request) => self.files(request, &send, &mut recv).await?,
            StreamRequest::Volume(request) => self.volume(request, &send, &mut recv).await?,
            StreamRequest::Resolve(request) => self.resolve(request, &send).await?,
            StreamRequest::Build(request) => self.builds.answer(request, &send, &mut recv).await?,
            StreamRequest::Measure => self.measurer.answer(&send, &mut recv).await?,
        };
        send.close(end).await?;
        linger(recv).await;
        Ok(())
    }

    /// What an image's name stands for: by its registry, or where that does not answer by what is here.
    async fn resolve(&self, request: ResolveRequest, send: &BulkSender) -> Result<BulkEnd, LinkError> {
        let ResolveRequest { image, login } = request;
        let here = match self.runtime.image(&image).await {
            Ok(here) => here,
            Err(error) => return Ok(refused(&error)),
        };
        // Built or loaded here: a registry that knows the name has another image.
        if here.as_ref().is_some_and(|seen| seen.digests.is_empty()) {
            return Ok(BulkEnd::Exit(LOCAL_IMAGE));
        }
        info!(image, "a registry is asked what an image is");
        let found = match self.runtime.resolve(&image, login.as_ref()).await {
            Ok(ImageResolved { digest, platforms }) => ImageFound { digest, platforms },
            Err(error @ RuntimeError::RegistryUnreachable { .. }) => {
                match here.and_then(|seen| known(&image, seen)) {
                    Some(found) => found,
                    None => return Ok(refused(&error)),
                }
            }
            Err(error) => return Ok(refused(&error)),
        };
        let json = serde_json::to_vec(&found).unwrap_or_default();
        send.data(channel::STDOUT, json.into()).await?;
        Ok(BulkEnd::Exit(0))
    }

    async fn container(&self, allocation: AllocationId) -> Result<ContainerId, BulkEnd> {
        let (answer, container) = oneshot::channel();
        let _ = self.events.send(Event::Container { allocation, answer }).await;
        container.await.ok().flatten().ok_or_else(|| {
            failed(
                "no_container",
                format!("allocation {} has no container on this node now", allocation.short()),
                "see its state with `lattice ps`",
            )
        })
    }

    async fn logs(
        &self,
        request: LogsRequest,
        send: &BulkSender,
        recv: &mut BulkReceiver,
    ) -> Result<BulkEnd, LinkError> {
        let LogsRequest { allocation, follow, tail, since, timestamps } = request;
        let container = match self.container(allocation).await {
            Ok(container) => container,
            Err(end) => return Ok(end),
        };
        info!(%allocation, follow, "logs are read");
        let output = match self.runtime.logs(&container, LogOptions { follow, tail, since, timestamps }).await
        {
            Ok(output) => output,
            Err(error) => return Ok(refused(&error)),
        };
        tokio::select! {
            end = pump(output, send) => Ok(end?.unwrap_or(BulkEnd::Done)),
            // The other side says nothing in a stream of logs; when it goes, so do they.
            end = gone(recv) => end,
        }
    }

    async fn files(
        &self,
        request: FilesRequest,
        send: &BulkSender,
        recv: &mut BulkReceiver,
    ) -> Result<BulkEnd, LinkError> {
        let FilesRequest { allocation, path, copy } = request;
        let container = match self.container(allocation).await {
            Ok(container) => container,
            Err(end) => return Ok(end),
        };
        info!(%allocation, ?copy, "files are copied");
        match copy {
            Copying::Look => match self.runtime.is_folder(&container, &path).await {
                Ok(None) => Ok(BulkEnd::Exit(1)),
                Ok(Some(folder)) => {
                    let word: &[u8] = if folder { b"folder" } else { b"file" };
                    send.data(channel::STDOUT, Bytes::from_static(word)).await?;
                    Ok(BulkEnd::Exit(0))
                }
                Err(error) => Ok(refused(&error)),
            },
            Copying::Out => {
                let files = match self.runtime.read_files(&container, &path).await {
                    Ok(files) => files,
                    Err(RuntimeError::NotFound { .. }) => return Ok(BulkEnd::Exit(1)),
                    Err(error) => return Ok(refused(&error)),
                };
                give(files, send, recv).await
            }
            Copying::In => {
                let (bytes, archive) = archive();
                let written = self.runtime.write_files(&container, &path, archive);
                Ok(match take(written, bytes, recv).await {
                    Ok(()) => BulkEnd::Exit(0),
                    Err(RuntimeError::NotFound { .. }) => BulkEnd::Exit(1),
                    Err(error) => refused(&error),
                })
            }
        }
    }

    async fn volume(
        &self,
        request: VolumeRequest,
        send: &BulkSender,
        recv: &mut BulkReceiver,
    ) -> Result<BulkEnd, LinkError> {
        let VolumeRequest { allocation, volume, copy } = request;
        let (answer, name) = oneshot::channel();
        let _ = self.events.send(Event::Volume { allocation, volume: volume.clone(), answer }).await;
        let Some(name) = name.await.ok().flatten() else {
            let text = format!("volume {volume} is not on this node now");
            return Ok(failed("no_volume", text, "see where it is with `lattice volume ls`"));
        };
        info!(%allocation, %volume, ?copy, "a volume is copied");
        match copy {
            Copying::Look => Ok(BulkEnd::Exit(0)),
            Copying::Out => match self.runtime.read_volume(self.node, &name).await {
                Ok(files) => give(files, send, recv).await,
                Err(error) => Ok(refused(&error)),
            },
            Copying::In => {
                let (bytes, archive) = archive();
                let written = self.runtime.write_volume(self.node, &name, archive);
                let written = take(written, bytes, recv).await;
                Ok(written.map_or_else(|error| refused(&error), |()| BulkEnd::Exit(0)))
            }
        }
    }

    async fn exec(
        &self,
        request: ExecRequest,
        send: &BulkSender,
        recv: &mut BulkReceiver,
    ) -> Result<BulkEnd, LinkError> {
        let ExecRequest { allocation, command, tty, stdin, size, user, workdir, env } = request;
        let container = match self.container(allocation).await {
            Ok(container) => container,
            Err(end) => return Ok(end),
        };
        info!(%allocation, program = command.first(), tty, "a command is run");
        let size = size.map(|(columns, rows)| TerminalSize { rows, columns });
        let config = ExecConfig { argv: command, tty, stdin, env, user, workdir, size };
        let ExecSession { input, output, control } = match self.runtime.exec(&container, config).await {
            Ok(session) => session,
            Err(error) => return Ok(refused(&error)),
        };
        let given = async {
            let mut input = Some(input);
            if !stdin && let Some(mut input) = input.take() {
                let _ = input.shutdown().await;
            }
            loop {
                match recv.recv().await? {
                    Some(BulkFrame::Data { channel: channel::STDIN, bytes }) => {
                        // A command that reads no more ends by itself; its input is then dropped.
                        if let Some(open) = &mut input
                            && (open.write_all(&bytes).await.is_err() || open.flush().await.is_err())
                        {
                            input = None;
                        }
                    }
                    Some(BulkFrame::End(channel::STDIN)) => {
                        if let Some(mut open) = input.take() {
                            let _ = open.shutdown().await;
                        }
                    }
                    Some(BulkFrame::Data { channel: channel::CONTROL, bytes }) => {
                        if let Ok(Size { columns, rows }) = serde_json::from_slice(&bytes) {
                            let _ = control.resize(TerminalSize { rows, columns }).await;
                        }
                    }
                    Some(BulkFrame::Close(_)) | None => return Ok::<_, LinkError>(()),
                    Some(_) => {}
                }
            }
        };
        tokio::select! {
            ended = pump(output, send) => match ended? {
                Some(end) => Ok(end),
                None => Ok(match control.exit_code().await {
                    Ok(code) => BulkEnd::Exit(code),
                    Err(error) => refused(&error),
                }),
            },
            // The other side went away: dropping the command's ends closes them.
            gone = given => gone.map(|()| BulkEnd::Done),
        }
    }
}

type Archive = BoxStream<'static, Bytes>;

/// An archive that comes part by part.
fn archive() -> (mpsc::Sender<Bytes>, Archive) {
    let (bytes, archive) = mpsc::channel(ARCHIVE_PARTS);
    let archive = futures::stream::unfold(archive, async |mut archive: mpsc::Receiver<Bytes>| {
        archive.recv().await.map(|bytes| (bytes, archive))
    });
    (bytes, archive.boxed())
}

/// Sends an archive up.
async fn give(
    files: BoxStream<'static, RuntimeResult<Bytes>>,
    send: &BulkSender,
    recv: &mut BulkReceiver,
) -> Result<BulkEnd, LinkError> {
    let output = files.map(|read| read.map(|bytes| LogChunk { stream: LogStream::Stdout, bytes })).boxed();
    tokio::select! {
        end = pump(output, send) => Ok(end?.unwrap_or(BulkEnd::Exit(0))),
        end = gone(recv) => end,
    }
}

/// Passes on what comes until it is written. An archive that breaks off is cut short: the engine
/// refuses it as damaged.
async fn take(
    written: impl Future<Output = RuntimeResult<()>>,
    bytes: mpsc::Sender<Bytes>,
    recv: &mut BulkReceiver,
) -> RuntimeResult<()> {
    let given = async {
        loop {
            match recv.recv().await {
                Ok(Some(BulkFrame::Data { channel: channel::STDIN, bytes: part })) => {
                    if bytes.send(part).await.is_err() {
                        break;
                    }
                }
                Ok(Some(BulkFrame::End(channel::STDIN) | BulkFrame::Close(_)) | None) | Err(_) => break,
                Ok(Some(_)) => {}
            }
        }
        drop(bytes);
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        done = written => done,
        never = given => match never {},
    }
}

/// What an image that was pulled says of where it came from.
fn known(image: &str, seen: ImageSeen) -> Option<ImageFound> {
    let same = |name: &&str| image_repository(name) == image_repository(image);
    let named = seen.digests.iter().map(String::as_str);
    let digest = named.clone().find(same).or_else(|| named.clone().next().filter(|_| named.count() == 1))?;
    let digest = digest.split_once('@')?.1.parse().ok()?;
    Some(ImageFound { digest, platforms: [seen.platform].into() })
}

/// Waits until the other side goes away.
async fn gone(recv: &mut BulkReceiver) -> Result<BulkEnd, LinkError> {
    loop {
        if let Some(BulkFrame::Close(_)) | None = recv.recv().await? {
            return Ok(BulkEnd::Done);
        }
    }
}

/// Waits until the other side has taken the end: dropping its half resets the stream, and the reset
/// would overtake what was sent.
async fn linger(mut recv: BulkReceiver) {
    let taken = async { while let Ok(Some(_)) = recv.recv().await {} };
    let _ = tokio::time::timeout(LINGER, taken).await;
}

/// Passes output on until it ends; `Some` when it ended badly.
async fn pump(
    output: BoxStream<'static, RuntimeResult<LogChunk>>,
    send: &BulkSender,
) -> Result<Option<BulkEnd>, LinkError> {
    // What has come already goes together: a line each is a frame each.
    let mut output = output.ready_chunks(TOGETHER);
    while let Some(chunks) = output.next().await {
        for chunk in joined(chunks) {
            match chunk {
                Ok(LogChunk { stream, bytes }) => {
                    let channel = match stream {
                        LogStream::Stdout => channel::STDOUT,
                        LogStream::Stderr => channel::STDERR,
                    };
                    send.data(channel, bytes).await?;
                }
                Err(error) => return Ok(Some(refused(&error))),
            }
        }
    }
    Ok(None)
}

/// Pieces of one stream that follow each other as one.
fn joined(chunks: Vec<RuntimeResult<LogChunk>>) -> Vec<RuntimeResult<LogChunk>> {
    let mut all: Vec<RuntimeResult<LogChunk>> = Vec::new();
    let mut run = BytesMut::new();
    let mut chunks = chunks.into_iter().peekable();
    while let Some(chunk) = chunks.next() {
        let Ok(LogChunk { stream, bytes }) = chunk else {
            all.push(chunk);
            continue;
        };
        let goes_on = matches!(chunks.peek(), Some(Ok(next)) if next.stream == stream);
        if run.is_empty() && !goes_on {
            all.push(Ok(LogChunk { stream, bytes }));
            continue;
        }
        run.extend_from_slice(&bytes);
        if !goes_on {
            all.push(Ok(LogChunk { stream, bytes: run.split().freeze() }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_follow_each_other_go_together_in_order() {
        let piece =
            |stream, text: &'static str| Ok(LogChunk { stream, bytes: Bytes::from_static(text.as_bytes()) });
        let (out, err) = (LogStream::Stdout, LogStream::Stderr);
        let broken = || {
            let reason = "gone".to_owned();
            RuntimeResult::Err(RuntimeError::Unreachable { socket: "/s".into(), reason, hint: "wait" })
        };
        let all = joined(vec![
            piece(out, "a"),
            piece(out, "b"),
            piece(err, "c"),
            piece(out, "d"),
            broken(),
            piece(out, "e"),
            piece(out, ""),
        ]);
        let told: Vec<_> = all
            .iter()
            .map(|one| match one {
                Ok(chunk) => format!("{:?} {}", chunk.stream, String::from_utf8_lossy(&chunk.bytes)),
                Err(_) => "broken".into(),
            })
            .collect();
        assert_eq!(told, ["Stdout ab", "Stderr c", "Stdout d", "broken", "Stdout e"]);
        assert!(joined(Vec::new()).is_empty());
    }
}
