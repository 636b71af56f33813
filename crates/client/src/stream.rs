//! Streams of records: NDJSON for logs, server-sent events for watches.
//!
//! The parsers are fed bytes as they come, cut anywhere; their memory has a bound.

use crate::error::ClientError;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use lattice_api::{
    Bookmark, BuildRecord, ErrorBody, LogRecord, SSE_BOOKMARK, SSE_CHANGE, SSE_ERROR, WatchItem,
};

/// The most bytes of one log record.
pub const MAX_LOG_RECORD: usize = 1 << 20;

/// The most bytes of one event of a watch.
pub const MAX_WATCH_EVENT: usize = 8 << 20;

/// What runs on an open connection; dropping it closes the connection.
pub(crate) struct Open {
    pub(crate) body: Incoming,
    pub(crate) _connection: Connection,
}

impl Open {
    async fn chunk(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(ClientError::broken(error))),
            }
        }
    }
}

/// The task that drives a connection, ended with its user.
pub(crate) struct Connection(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Bytes, as they come.
pub struct ByteStream {
    open: Open,
}

impl ByteStream {
    pub(crate) fn new(open: Open) -> Self {
        Self { open }
    }

    /// The next piece; `None` at the end. A connection that breaks is an error and not an end. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        self.open.chunk().await
    }
}

/// What a build on a node says, as it comes. Dropping it ends the build.
pub struct BuildStream {
    open: Open,
    lines: Lines,
}

impl BuildStream {
    pub(crate) fn new(open: Open) -> Self {
        Self { open, lines: Lines::new(MAX_LOG_RECORD) }
    }

    /// The next record; `None` at the end, which is one only behind [`BuildRecord::Done`] or
    /// [`BuildRecord::Failed`]. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<BuildRecord, ClientError>> {
        loop {
            match self.lines.next() {
                Err(error) => return Some(Err(error)),
                Ok(Some(line)) if line.is_empty() => {}
                Ok(Some(line)) => {
                    return Some(serde_json::from_slice(&line).map_err(|error| ClientError::json(&error)));
                }
                Ok(None) => match self.open.chunk().await {
                    Some(Ok(chunk)) => self.lines.push(&chunk),
                    Some(Err(error)) => return Some(Err(error)),
                    None if self.lines.is_empty() => return None,
                    None => return Some(Err(ClientError::protocol("the stream ends within a line"))),
                },
            }
        }
    }
}

/// The lines of a container, as they come.
pub struct LogStream {
    open: Open,
    lines: Lines,
    done: bool,
}

impl LogStream {
    pub(crate) fn new(open: Open) -> Self {
        Self { open, lines: Lines::new(MAX_LOG_RECORD), done: false }
    }

    /// The next record; `None` at the end. A record that says why the server gave up is an error,
    /// and the last. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<lattice_api::LogLine, ClientError>> {
        if self.done {
            return None;
        }
        let result = self.read().await;
        if !matches!(result, Some(Ok(_))) {
            self.done = true;
        }
        result
    }

    async fn read(&mut self) -> Option<Result<lattice_api::LogLine, ClientError>> {
        loop {
            match self.lines.next() {
                Err(error) => return Some(Err(error)),
                Ok(Some(line)) if line.is_empty() => {}
                Ok(Some(line)) => {
                    return Some(match serde_json::from_slice(&line) {
                        Ok(LogRecord::Line(line)) => Ok(line),
                        Ok(LogRecord::Failed { error }) => Err(ClientError::Api(error)),
                        Err(error) => Err(ClientError::json(&error)),
                    });
                }
                Ok(None) => match self.open.chunk().await {
                    Some(Ok(chunk)) => self.lines.push(&chunk),
                    Some(Err(error)) => return Some(Err(error)),
                    None if self.lines.is_empty() => return None,
                    None => return Some(Err(ClientError::protocol("the stream ends within a line"))),
                },
            }
        }
    }
}

/// The changes of the store, as they come.
pub struct WatchStream {
    open: Open,
    parser: SseParser,
    done: bool,
}

impl WatchStream {
    pub(crate) fn new(open: Open) -> Self {
        Self { open, parser: SseParser::new(MAX_WATCH_EVENT), done: false }
    }

    /// The next change or bookmark; `None` at the end. The server's reason to end is an error, and
    /// the last: [`TooOld`](lattice_api::ErrorCode::TooOld) means to list again. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<WatchItem, ClientError>> {
        if self.done {
            return None;
        }
        let result = self.read().await;
        if !matches!(result, Some(Ok(_))) {
            self.done = true;
        }
        result
    }

    async fn read(&mut self) -> Option<Result<WatchItem, ClientError>> {
        loop {
            match self.parser.next() {
                Err(error) => return Some(Err(error)),
                Ok(Some(event)) => {
                    if let Some(item) = decode(&event).transpose() {
                        return Some(item);
                    }
                }
                Ok(None) => match self.open.chunk().await {
                    Some(Ok(chunk)) => self.parser.push(&chunk),
                    Some(Err(error)) => return Some(Err(error)),
                    None => return None,
                },
            }
        }
    }
}

fn decode(event: &SseEvent) -> Result<Option<WatchItem>, ClientError> {
    let json = |error: serde_json::Error| ClientError::json(&error);
    match event.name.as_str() {
        SSE_CHANGE => serde_json::from_str(&event.data).map(|e| Some(WatchItem::Change(e))).map_err(json),
        SSE_BOOKMARK => {
            serde_json::from_str::<Bookmark>(&event.data).map(|b| Some(WatchItem::Bookmark(b))).map_err(json)
        }
        SSE_ERROR => Err(match serde_json::from_str::<ErrorBody>(&event.data) {
            Ok(body) => ClientError::Api(body),
            Err(error) => json(error),
        }),
        // A newer server's: to be ignored.
        _ => Ok(None),
    }
}

/// Cuts bytes into lines without their ends (`\n` or `\r\n`).
struct Lines {
    buffer: BytesMut,
    scanned: usize,
    limit: usize,
}

impl Lines {
    fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, limit }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn next(&mut self) -> Result<Option<BytesMut>, ClientError> {
        let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') else {
            self.scanned = self.buffer.len();
            return if self.buffer.len() > self.limit {
                Err(ClientError::TooLarge { limit: self.limit })
            } else {
                Ok(None)
            };
        };
        let mut line = self.buffer.split_to(self.scanned + at);
        self.buffer.advance(1);
        self.scanned = 0;
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > self.limit {
            return Err(ClientError::TooLarge { limit: self.limit });
        }
        Ok(Some(line))
    }
}

/// A server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct SseEvent {
    name: String,
    data: String,
}

/// Server-sent events as the HTML standard defines them, less lines that end with a carriage
/// return alone, which our server never writes.
struct SseParser {
    lines: Lines,
    limit: usize,
    event: SseEvent,
    has_data: bool,
    first: bool,
}

impl SseParser {
    fn new(limit: usize) -> Self {
        Self { lines: Lines::new(limit), limit, event: SseEvent::default(), has_data: false, first: true }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.lines.push(chunk);
    }

    fn next(&mut self) -> Result<Option<SseEvent>, ClientError> {
        while let Some(line) = self.lines.next()? {
            let line =
                std::str::from_utf8(&line).map_err(|_| ClientError::protocol("an event is not UTF-8"))?;
            let line = if std::mem::take(&mut self.first) {
                line.strip_prefix('\u{feff}').unwrap_or(line)
            } else {
                line
            };
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if std::mem::take(&mut self.has_data) {
                    return Ok(Some(event));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.event.name),
                "data" => {
                    if std::mem::replace(&mut self.has_data, true) {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                    if self.event.data.len() > self.limit {
                        return Err(ClientError::TooLarge { limit: self.limit });
                    }
                }
                // `id` repeats the revision; `retry` is the caller's business; a comment has no field.
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<SseEvent> {
        let mut parser = SseParser::new(1000);
        let mut events = Vec::new();
        for chunk in chunks {
            parser.push(chunk);
            while let Some(event) = parser.next().unwrap() {
                events.push(event);
            }
        }
        events
    }

    const TEXT: &str = "\u{feff}: hello\n\nevent: change\r\nid: 7\r\ndata: {\"a\":\r\ndata: \"gr\u{fc}n\"}\r\n\r\n\
                        data\n\nevent:bookmark\ndata:x\n\nevent: lost\n\n: keep-alive\n\ndata: unfinished\n";

    #[test]
    fn events_read_as_the_standard_says() {
        let event = |name: &str, data: &str| SseEvent { name: name.into(), data: data.into() };
        assert_eq!(
            parse(&[TEXT.as_bytes()]),
            [event("change", "{\"a\":\n\"gr\u{fc}n\"}"), event("", ""), event("bookmark", "x")]
        );
    }

    proptest! {
        #[test]
        fn cuts_anywhere_change_nothing(cuts in proptest::collection::vec(0..TEXT.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&TEXT.as_bytes()[from..cut]);
                from = cut;
            }
            chunks.push(&TEXT.as_bytes()[from..]);
            prop_assert_eq!(parse(&chunks), parse(&[TEXT.as_bytes()]));
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut lines = Lines::new(10);
        lines.push(b"12345678901");
        assert!(matches!(lines.next(), Err(ClientError::TooLarge { limit: 10 })));
        let mut parser = SseParser::new(10);
        parser.push(b"data:123456\ndata:123456\n");
        assert!(matches!(parser.next(), Err(ClientError::TooLarge { limit: 10 })));
    }
}
