//! What comes as it happens: events (JSON by lines), logs and exec (Docker's frames of one byte
//! of kind, three of nothing, four of length, then the payload).
//!
//! Payloads are passed on as they arrive and never gathered, so memory is bounded by what one
//! read brings, whatever a container prints. A line of events is bounded by [`MAX_LINE`].

use super::fault::unreachable;
use crate::{
    error::{Result, RuntimeError},
    port::{EngineEvent, EngineEventKind, LogChunk, LogStream},
};
use bytes::{Buf as _, Bytes, BytesMut};
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use lattice_model::{
    Timestamp,
    container::{ContainerId, LABEL_ALLOCATION},
    report::Health,
};
use serde::Deserialize;
use std::{collections::HashMap, io};

/// The longest event that is understood.
const MAX_LINE: usize = 1 << 20;

/// The bytes of an answer.
pub(super) fn body_bytes(body: Incoming) -> BoxStream<'static, io::Result<Bytes>> {
    http_body_util::BodyStream::new(body.map_err(|error| io::Error::other(error.to_string())))
        .filter_map(async |frame| frame.map(|frame| frame.into_data().ok()).transpose())
        .boxed()
}

/// Events out of an answer that ends only with the engine: then comes an error, and the end.
pub(super) fn events(
    body: BoxStream<'static, io::Result<Bytes>>,
    socket: String,
) -> impl Stream<Item = Result<EngineEvent>> + Send {
    struct State {
        body: BoxStream<'static, io::Result<Bytes>>,
        buffer: BytesMut,
        socket: String,
    }
    let state = State { body, buffer: BytesMut::new(), socket };
    stream::unfold(Some(state), async |state| {
        let mut state = state?;
        loop {
            while let Some(end) = state.buffer.iter().position(|byte| *byte == b'\n') {
                let line = state.buffer.split_to(end + 1);
                if let Some(event) = event(&line) {
                    return Some((Ok(event), Some(state)));
                }
            }
            let gone = match state.body.next().await {
                Some(Ok(bytes)) if state.buffer.len() + bytes.len() <= MAX_LINE => {
                    state.buffer.extend_from_slice(&bytes);
                    continue;
                }
                Some(Ok(_)) => io::Error::other("an event of more than 1 MiB"),
                Some(Err(error)) => error,
                None => io::Error::from(io::ErrorKind::UnexpectedEof),
            };
            return Some((Err(unreachable(&gone, &state.socket)), None));
        }
    })
}

fn event(line: &[u8]) -> Option<EngineEvent> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Raw {
        action: String,
        actor: Actor,
        #[serde(default, rename = "timeNano")]
        time_nano: i64,
    }
    #[derive(Deserialize)]
    struct Actor {
        #[serde(rename = "ID")]
        id: String,
        #[serde(default, rename = "Attributes")]
        attributes: HashMap<String, String>,
    }
    let raw: Raw = serde_json::from_slice(line).ok()?;
    let attribute = |name: &str| raw.actor.attributes.get(name);
    let kind = match raw.action.as_str() {
        "start" => EngineEventKind::Started,
        "die" => EngineEventKind::Died {
            // Where an engine names none, it is not known to have been a success.
            exit_code: attribute("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1),
        },
        "destroy" => EngineEventKind::Destroyed,
        "oom" => EngineEventKind::OutOfMemory,
        "pause" => EngineEventKind::Paused,
        "unpause" => EngineEventKind::Unpaused,
        other => EngineEventKind::Health(match other.strip_prefix("health_status:")?.trim() {
            "healthy" => Health::Healthy,
            "unhealthy" => Health::Unhealthy,
            _ => Health::Starting,
        }),
    };
    Some(EngineEvent {
        allocation: attribute(LABEL_ALLOCATION).and_then(|id| id.parse().ok()),
        id: ContainerId(raw.actor.id),
        at: Timestamp(raw.time_nano / 1_000_000),
        kind,
    })
}

/// Output out of Docker's frames.
pub(super) fn frames(
    body: BoxStream<'static, io::Result<Bytes>>,
    socket: String,
) -> BoxStream<'static, Result<LogChunk>> {
    struct State {
        body: BoxStream<'static, io::Result<Bytes>>,
        buffer: BytesMut,
        frame: Option<(u8, usize)>,
        socket: String,
    }
    let state = State { body, buffer: BytesMut::new(), frame: None, socket };
    stream::unfold(Some(state), async |state| {
        let mut state = state?;
        let error = loop {
            match state.frame {
                Some((_, 0)) => state.frame = None,
                Some((kind, left)) if !state.buffer.is_empty() => {
                    let bytes = state.buffer.split_to(left.min(state.buffer.len())).freeze();
                    state.frame = Some((kind, left - bytes.len()));
                    let stream = match kind {
                        0 | 1 => LogStream::Stdout,
                        2 => LogStream::Stderr,
                        // The engine's own error, e.g. a log file that it cannot read any more.
                        _ => break refused(String::from_utf8_lossy(&bytes).trim().to_owned()),
                    };
                    return Some((Ok(LogChunk { stream, bytes }), Some(state)));
                }
                None if state.buffer.len() >= 8 => {
                    if state.buffer[0] > 3 {
                        break refused("it is not Docker's stream of frames".to_owned());
                    }
                    let length = u32::from_be_bytes([
                        state.buffer[4],
                        state.buffer[5],
                        state.buffer[6],
                        state.buffer[7],
                    ]);
                    state.frame = Some((state.buffer[0], length as usize));
                    state.buffer.advance(8);
                }
                _ => match state.body.next().await {
                    Some(Ok(bytes)) => state.buffer.extend_from_slice(&bytes),
                    Some(Err(error)) => break unreachable(&error, &state.socket),
                    None if state.buffer.is_empty() && state.frame.is_none() => return None,
                    None => break unreachable(&io::ErrorKind::UnexpectedEof.into(), &state.socket),
                },
            }
        };
        Some((Err(error), None))
    })
    .boxed()
}

fn refused(message: String) -> RuntimeError {
    RuntimeError::Refused { what: "output of a container".to_owned(), message }
}

/// Output of a terminal: bytes as they are.
pub(super) fn plain(
    body: BoxStream<'static, io::Result<Bytes>>,
    socket: String,
) -> BoxStream<'static, Result<LogChunk>> {
    body.map(move |bytes| match bytes {
        Ok(bytes) => Ok(LogChunk { stream: LogStream::Stdout, bytes }),
        Err(error) => Err(unreachable(&error, &socket)),
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use proptest::prelude::*;

    fn pieces(bytes: &[u8], size: usize) -> BoxStream<'static, io::Result<Bytes>> {
        let chunks: Vec<_> = bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        stream::iter(chunks).boxed()
    }

    /// The pieces are all there, so nothing ever waits.
    fn gathered<T>(stream: impl Stream<Item = T>) -> Vec<T> {
        stream.collect::<Vec<_>>().now_or_never().unwrap()
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_were_written_however_they_are_cut(
            frames in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            size in 1usize..60,
        ) {
            let mut wire = Vec::new();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for (kind, payload) in &frames {
                wire.extend_from_slice(&[*kind, 0, 0, 0]);
                wire.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
                wire.extend_from_slice(payload);
                if *kind == 1 { out.extend_from_slice(payload) } else { err.extend_from_slice(payload) }
            }
            let chunks: Vec<_> =
                gathered(super::frames(pieces(&wire, size), String::new()));
            let (mut got_out, mut got_err) = (Vec::new(), Vec::new());
            for chunk in chunks {
                let chunk = chunk.unwrap();
                let to = if chunk.stream == LogStream::Stdout { &mut got_out } else { &mut got_err };
                to.extend_from_slice(&chunk.bytes);
            }
            prop_assert_eq!((got_out, got_err), (out, err));
        }
    }

    #[test]
    fn a_cut_or_foreign_stream_is_an_error() {
        for wire in [
            &[1, 0, 0, 0, 0, 0, 0, 9, b'a'][..],
            &[1, 0, 0][..],
            b"plain text\n",
            b"\x03\0\0\0\0\0\0\x04oops",
        ] {
            let chunks: Vec<_> = gathered(frames(pieces(wire, 4), String::new()));
            assert!(matches!(chunks.last(), Some(Err(_))), "{wire:?}: {chunks:?}");
        }
    }

    #[test]
    fn events_are_read_and_the_end_is_an_error() {
        let id = lattice_model::AllocationId::from_random(7);
        let text = format!(
            concat!(
                r#"{{"status":"die","id":"c","Type":"container","Action":"die","Actor":{{"ID":"c","Attributes":"#,
                r#"{{"exitCode":"137","lattice.allocation":"{}"}}}},"time":1,"timeNano":1500000000}}"#,
                "\n",
                r#"{{"Type":"container","Action":"exec_die","Actor":{{"ID":"c"}}}}"#,
                "\n",
                r#"{{"Type":"container","Action":"health_status: healthy","Actor":{{"ID":"c"}},"timeNano":0}}"#,
                "\n"
            ),
            id
        );
        for size in [1, 7, 4096] {
            let got: Vec<_> = gathered(events(pieces(text.as_bytes(), size), "/s".to_owned()));
            assert_eq!(got.len(), 3, "{got:?}");
            let died = got[0].clone().unwrap();
            assert_eq!((died.kind, died.allocation), (EngineEventKind::Died { exit_code: 137 }, Some(id)));
            assert_eq!(died.at, Timestamp(1500));
            assert_eq!(got[1].clone().unwrap().kind, EngineEventKind::Health(Health::Healthy));
            assert!(matches!(got[2], Err(RuntimeError::Unreachable { .. })));
        }
    }
}
