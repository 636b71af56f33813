//! Logs and exec: between the API's client and the agent's bulk connection. Nothing is stored, and
//! at most a few frames wait at a time: a slow reader slows the container's output down, not the
//! server.

use super::{
    allocations::find,
    error::{ApiError, invalid},
    extract::{Names, Query},
    principal::Principal,
};
use crate::{
    gateway::streams::open,
    rows,
    state::{
        Core,
        open::{Needs, Place, cut_off},
    },
};
use axum::{
    body::{Body, Bytes},
    extract::{
        Extension, State,
        ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::header,
    response::{IntoResponse, Response},
};
use futures::{SinkExt, StreamExt, stream::SplitSink};
use lattice_api::{
    CHANNEL_STDERR, CHANNEL_STDIN, CHANNEL_STDOUT, CopyFiles, ErrorBody, ErrorCode, ExecClientMessage,
    ExecServerMessage, ExecStart, FilesStart, LogLine, LogQuery, LogRecord, LogStream, MAX_EXEC_FRAME,
    exec_frame,
};
use lattice_identity::{Object, Permission};
use lattice_link::{
    BulkSender, Refusal,
    message::{
        BulkEnd, BulkFrame, Copying, ExecRequest, FilesRequest, LogsRequest, StreamRequest, TerminalSize,
        VolumeRequest, channel,
    },
};
use lattice_model::Timestamp;
use lattice_store::Transaction;
use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// The longest line; a longer one is cut into several records.
const MAX_LINE: usize = 256 << 10;
/// How long a client of exec may take to say what to run.
const FIRST: Duration = Duration::from_secs(10);

fn of_agent(refusal: Refusal) -> ErrorBody {
    // The codes are the agent's; what is not listed is about the container's state.
    let code = match &*refusal.code {
        "container_gone" => ErrorCode::NotFound,
        "engine_unreachable" => ErrorCode::Unavailable,
        "unsupported" => ErrorCode::Unsupported,
        _ => ErrorCode::Conflict,
    };
    ErrorBody::new(code, refusal.message, refusal.hint)
}

fn lost(error: impl std::fmt::Display) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::NodeOffline,
        format!("the stream from the node broke: {error}"),
        "try again; what runs goes on",
    )
}

pub(crate) async fn logs(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    Query(query): Query<LogQuery>,
) -> Result<Response, ApiError> {
    let LogQuery { follow, tail, since_ms, timestamps } = query;
    let snapshot = core.snapshot();
    let row = find(&snapshot, names.text("id"))?;
    let request = LogsRequest {
        allocation: row.id,
        follow,
        tail: tail.map(|lines| u32::try_from(lines).unwrap_or(u32::MAX)),
        since: since_ms.map(Timestamp),
        timestamps,
    };
    let needs = Needs::Right(Permission::LogsLook, Object::Project(row.workload.project.clone()));
    let place = core.live.open.admit(&who, needs)?;
    let bulk = open(&core, row.node, StreamRequest::Logs(request)).await?;
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    tokio::spawn(pump_logs(bulk, timestamps, place, sender));
    let body = futures::stream::unfold(receiver, |mut receiver| async move {
        Some((Ok::<_, Infallible>(receiver.recv().await?), receiver))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

async fn pump_logs(
    bulk: lattice_link::BulkChannel,
    timestamps: bool,
    place: Place,
    sender: mpsc::Sender<Bytes>,
) {
    let (_up, mut down) = bulk.split();
    let mut rest: HashMap<u8, Vec<u8>> = HashMap::new();
    let end = loop {
        let frame = tokio::select! {
            () = sender.closed() => return,
            () = place.cut.cancelled() => break Some(cut_off()),
            frame = down.recv() => frame,
        };
        match frame {
            Ok(Some(BulkFrame::Data { channel: from, bytes })) => {
                // Whatever a node calls its channels, there are two.
                let channel = if from == channel::STDERR { channel::STDERR } else { channel::STDOUT };
                let buffer = rest.entry(channel).or_default();
                buffer.extend_from_slice(&bytes);
                let mut out = Vec::new();
                let mut done = 0;
                while let Some(end) = buffer[done..].iter().position(|byte| *byte == b'\n') {
                    line(channel, timestamps, &buffer[done..=done + end], &mut out);
                    done += end + 1;
                }
                if buffer.len() - done > MAX_LINE {
                    line(channel, timestamps, &buffer[done..], &mut out);
                    done = buffer.len();
                }
                buffer.drain(..done);
                if !out.is_empty() && sender.send(out.into()).await.is_err() {
                    return;
                }
            }
            Ok(Some(BulkFrame::Close(BulkEnd::Failed(refusal)))) => break Some(of_agent(refusal)),
            Ok(Some(BulkFrame::Close(_)) | None) => break None,
            Ok(Some(_)) => {}
            Err(error) => break Some(lost(error)),
        }
    };
    let mut out = Vec::new();
    for (channel, buffer) in rest.iter().filter(|(_, buffer)| !buffer.is_empty()) {
        line(*channel, timestamps, buffer, &mut out);
    }
    if let Some(error) = end {
        record(&LogRecord::Failed { error }, &mut out);
    }
    if !out.is_empty() {
        let _ = sender.send(out.into()).await;
    }
}

fn record(record: &LogRecord, out: &mut Vec<u8>) {
    if serde_json::to_writer(&mut *out, record).is_ok() {
        out.push(b'\n');
    }
}

/// One line; with timestamps it begins with the engine's, in RFC 3339.
fn line(stream: u8, timestamps: bool, bytes: &[u8], out: &mut Vec<u8>) {
    let stream = if stream == channel::STDERR { LogStream::Stderr } else { LogStream::Stdout };
    let stamped = timestamps.then(|| stamp(bytes)).flatten();
    let (at, text) = stamped.map_or((None, bytes), |(at, text)| (Some(at), text));
    record(&LogRecord::Line(LogLine::new(stream, at, text)), out);
}

/// Reads `2024-05-06T07:08:09.123456789Z ` off a line.
fn stamp(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let space = bytes.iter().take(40).position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&bytes[..space]).ok()?.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let millis: i64 = format!("{:0<3}", fraction.chars().take(3).collect::<String>()).parse().ok()?;
    // Days since 1970-01-01 of a date of the Gregorian calendar, years beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
        - 1
        - 719_468;
    let at = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis;
    Some((Timestamp(at), &bytes[space + 1..]))
}

pub(crate) async fn exec(
    State(core): State<Arc<Core>>,
    Extension(who): Extension<Principal>,
    names: Names,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let snapshot = core.snapshot();
    let row = find(&snapshot, names.text("id"))?;
    let (allocation, project) = (row.id, row.workload.project.clone());
    let upgrade = upgrade.map_err(|_| {
        invalid("exec is a WebSocket, and this request does not upgrade to one", "use `lattice exec`")
    })?;
    let upgrade = upgrade.max_message_size(MAX_EXEC_FRAME * 2).max_frame_size(MAX_EXEC_FRAME * 2);
    let place = core.live.open.admit(&who, Needs::Right(Permission::Exec, Object::Project(project)))?;
    Ok(upgrade.on_upgrade(move |socket| run(core, who, allocation, place, socket)))
}

async fn run(
    core: Arc<Core>,
    who: Principal,
    allocation: lattice_model::AllocationId,
    place: Place,
    mut socket: WebSocket,
) {
    let ended = tokio::select! {
        ended = converse(&core, &who, allocation, &mut socket) => ended,
        () = place.cut.cancelled() => Err(cut_off()),
    };
    let last = match ended {
        Ok(None) => return,
        Ok(Some(code)) => ExecServerMessage::Exit { code },
        Err(error) => ExecServerMessage::Error { error },
    };
    let _ = socket.send(Message::Text(serde_json::to_string(&last).unwrap_or_default().into())).await;
    let _ = socket.send(Message::Close(None)).await;
}

/// Gives the exit code, or nothing when the client went away.
async fn converse(
    core: &Core,
    who: &Principal,
    allocation: lattice_model::AllocationId,
    socket: &mut WebSocket,
) -> Result<Option<i64>, ErrorBody> {
    let first = tokio::time::timeout(FIRST, socket.recv()).await;
    let start: ExecStart = match first {
        Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str(&text).map_err(|error| {
            invalid(format!("the first message cannot be read: {error}"), "send an ExecStart")
        })?,
        Ok(None | Some(Err(_))) => return Ok(None),
        Ok(Some(Ok(_))) | Err(_) => {
            return Err(invalid("the first message does not say what to run", "send an ExecStart as text"));
        }
    };
    if start.argv.is_empty() && start.files.is_none() {
        return Err(invalid("there is no command", "give at least one word"));
    }
    let ExecStart { argv, tty, stdin, env, user, workdir, size, files } = start;
    if workdir.as_deref().is_some_and(|folder| !folder.starts_with('/')) {
        return Err(invalid("the working folder is no absolute path", "begin it with /"));
    }
    let snapshot = core.snapshot();
    let row = find(&snapshot, &allocation.to_string())?;
    let short = |text: &str| text.chars().take(100).collect::<String>();
    let (action, details) = match &files {
        Some(FilesStart { volume: Some(volume), copy: CopyFiles::In, .. }) => {
            ("volume.fill", volume.to_string())
        }
        Some(FilesStart { volume: Some(volume), .. }) => ("volume.read", volume.to_string()),
        Some(FilesStart { path, copy: CopyFiles::In, .. }) => ("allocation.copy_in", short(path)),
        Some(FilesStart { path, .. }) => ("allocation.copy_out", short(path)),
        // Only the program: its arguments may hold what must not be written down.
        None => ("allocation.exec", format!("{} with {} arguments", short(&argv[0]), argv.len() - 1)),
    };
    let audit = who.audit(action, format!("{}#{}", row.workload, row.slot), &details);
    let written = core.store.apply(Transaction::new([rows::create(&audit)])).await;
    written.map_err(|error| crate::state::core::store_refusal(&error))?;
    let request = match files {
        Some(FilesStart { path, volume, copy }) => {
            let copy = match copy {
                CopyFiles::In => Copying::In,
                CopyFiles::Out => Copying::Out,
                CopyFiles::Look => Copying::Look,
            };
            match volume {
                Some(volume) => StreamRequest::Volume(VolumeRequest { allocation, volume, copy }),
                None => StreamRequest::Files(FilesRequest { allocation, path, copy }),
            }
        }
        None => StreamRequest::Exec(ExecRequest {
            allocation,
            command: argv,
            tty,
            stdin,
            size: size.map(|size| (size.cols, size.rows)),
            user,
            workdir,
            env,
        }),
    };
    let (up, mut down) = open(core, row.node, request).await?.split();
    let (mut to_client, mut from_client) = socket.split();
    // Both ways at once: a command that waits for its output to be read does not read its input.
    let output = async {
        loop {
            match down.recv().await.map_err(lost)? {
                Some(BulkFrame::Data { channel, bytes }) => show(&mut to_client, channel, &bytes).await?,
                Some(BulkFrame::Close(BulkEnd::Exit(code))) => return Ok(Some(code)),
                Some(BulkFrame::Close(BulkEnd::Failed(refusal))) => return Err(of_agent(refusal)),
                Some(BulkFrame::Close(BulkEnd::Done)) | None => {
                    return Err(lost("it ended without an exit code"));
                }
                Some(_) => {}
            }
        }
    };
    let input = async {
        loop {
            match from_client.next().await {
                Some(Ok(Message::Binary(bytes))) => hear(&up, &bytes).await?,
                Some(Ok(Message::Text(text))) => {
                    let message = serde_json::from_str(&text)
                        .map_err(|error| invalid(format!("a message cannot be read: {error}"), ""))?;
                    control(&up, message).await?;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    // The command's input ends; the command goes on by itself.
                    let _ = up.end(channel::STDIN).await;
                    return Ok(None);
                }
            }
        }
    };
    tokio::select! {
        ended = output => ended,
        gone = input => gone,
    }
}

async fn show(
    socket: &mut SplitSink<&mut WebSocket, Message>,
    from: u8,
    bytes: &[u8],
) -> Result<(), ErrorBody> {
    let to = if from == channel::STDERR { CHANNEL_STDERR } else { CHANNEL_STDOUT };
    for part in bytes.chunks(MAX_EXEC_FRAME - 1) {
        socket.send(Message::Binary(exec_frame(to, part).into())).await.map_err(lost)?;
    }
    Ok(())
}

async fn hear(up: &BulkSender, bytes: &[u8]) -> Result<(), ErrorBody> {
    match bytes.split_first() {
        Some((&CHANNEL_STDIN, data)) => {
            up.data(channel::STDIN, Bytes::copy_from_slice(data)).await.map_err(lost)
        }
        _ => Err(invalid("a binary message is not for standard input", "its first byte is 0")),
    }
}

async fn control(up: &BulkSender, message: ExecClientMessage) -> Result<(), ErrorBody> {
    match message {
        ExecClientMessage::StdinClosed => up.end(channel::STDIN).await.map_err(lost),
        ExecClientMessage::Resize { size } => {
            let size = TerminalSize { columns: size.cols, rows: size.rows };
            let json = serde_json::to_vec(&size).unwrap_or_default();
            up.data(channel::CONTROL, json.into()).await.map_err(lost)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_of_engines_are_read() {
        let (at, text) = stamp(b"2024-02-29T12:34:56.789123456Z hello\n").unwrap();
        assert_eq!((at, text), (Timestamp(1_709_210_096_789), &b"hello\n"[..]));
        assert_eq!(stamp(b"1970-01-01T00:00:00Z x").unwrap().0, Timestamp(0));
        assert!(stamp(b"no stamp here\n").is_none());
    }
}
