//! The second connection, for streams: dialled at the first one, closed when none was open for a
//! while. Bytes of logs thus never stand before a heartbeat.

use super::{Connection, Dialer};
use crate::{
    bulk::{BulkChannel, QUEUE, frames, next},
    ended::Ended,
    error::{CloseReason, LinkError},
    message::{BulkFrame, ImagePartRequest, StreamId, TreePart, TreeRequest},
    proto::{self, bulk_client::BulkClient},
    throttle::{Throttle, wait},
    wire::{self, WireError},
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc},
    time::Instant,
};

/// How long the connection is kept when no stream is open.
const IDLE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    open: usize,
    /// Counts the streams, so that a timer knows whether one came since.
    opened: u64,
}

/// Opens streams; clones share the connection.
#[derive(Clone, Debug)]
pub struct BulkDialer {
    dialer: Arc<Dialer>,
    idle: Duration,
    state: Arc<Mutex<State>>,
    dialling: Arc<AsyncMutex<()>>,
    throttle: Throttle,
}

impl BulkDialer {
    /// Dials as the control connection is dialled.
    pub fn new(dialer: Arc<Dialer>) -> Self {
        Self {
            dialer,
            idle: IDLE,
            state: Arc::default(),
            dialling: Arc::default(),
            throttle: Throttle::default(),
        }
    }

    /// How fast all of its streams together send and receive; without a limit until one is set.
    pub const fn throttle(&self) -> &Throttle {
        &self.throttle
    }

    /// The same with another time that an unused connection is kept.
    #[must_use]
    pub const fn with_idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Whether the connection is open now.
    pub fn is_connected(&self) -> bool {
        self.state.lock().connection.as_ref().is_some_and(Connection::is_open)
    }

    /// Answers an [`crate::message::OpenStream`].
    ///
    /// # Errors
    /// [`LinkError`] when the connection cannot be made or the server does not want the stream.
    pub async fn open(&self, stream: StreamId) -> Result<BulkChannel, LinkError> {
        self.channel(Some(stream)).await
    }

    /// A channel on which both sides learn how much passes in a moment; see `Probe` in the protocol.
    ///
    /// # Errors
    /// [`LinkError`] when the connection cannot be made or the server does not know the call.
    pub async fn probe(&self) -> Result<BulkChannel, LinkError> {
        self.channel(None).await
    }

    /// A stream that the server asked for, or a probe.
    async fn channel(&self, stream: Option<StreamId>) -> Result<BulkChannel, LinkError> {
        let (connection, guard) = self.connection().await?;
        let (sender, queue) = mpsc::channel(QUEUE);
        let mut client = BulkClient::with_origin(connection.clone(), connection.origin.clone())
            .max_decoding_message_size(wire::MAX_BULK_MESSAGE)
            .max_encoding_message_size(wire::MAX_BULK_MESSAGE);
        let reply = match stream {
            Some(stream) => {
                sender.send(BulkFrame::Open(stream)).await.map_err(|_| CloseReason::ByPeer)?;
                client.stream(frames(queue)).await
            }
            None => client.probe(frames(queue)).await,
        };
        match reply {
            Ok(reply) => Ok(BulkChannel::new(
                sender,
                reply.into_inner(),
                connection.ended.clone(),
                Some(Box::new(guard)),
                self.throttle.clone(),
            )),
            Err(status) => Err(connection.refused(status).await),
        }
    }

    /// Fetches the archive of a tree that the node's goal names, from an offset on.
    ///
    /// # Errors
    /// [`LinkError`] when the connection cannot be made or the server does not give it.
    pub async fn fetch_tree(&self, request: TreeRequest) -> Result<TreeReader, LinkError> {
        let (connection, guard) = self.connection().await?;
        let reply = BulkClient::with_origin(connection.clone(), connection.origin.clone())
            .max_decoding_message_size(wire::MAX_BULK_MESSAGE)
            .max_encoding_message_size(wire::MAX_BULK_MESSAGE)
            .fetch_tree(proto::TreeRequest::from(request))
            .await;
        let parts = match reply {
            Ok(reply) => reply.into_inner(),
            Err(status) => return Err(connection.refused(status).await),
        };
        TreeReader::begin(parts, connection.ended.clone(), request.offset, guard, self.throttle.clone()).await
    }

    /// Fetches a part of an uploaded image that the node's goal names, from an offset on.
    ///
    /// # Errors
    /// [`LinkError`] when the connection cannot be made or the server does not give it.
    pub async fn fetch_image_part(&self, request: ImagePartRequest) -> Result<TreeReader, LinkError> {
        let (connection, guard) = self.connection().await?;
        let reply = BulkClient::with_origin(connection.clone(), connection.origin.clone())
            .max_decoding_message_size(wire::MAX_BULK_MESSAGE)
            .max_encoding_message_size(wire::MAX_BULK_MESSAGE)
            .fetch_image_part(proto::ImagePartRequest::from(request))
            .await;
        let parts = match reply {
            Ok(reply) => reply.into_inner(),
            Err(status) => return Err(connection.refused(status).await),
        };
        TreeReader::begin(parts, connection.ended.clone(), request.offset, guard, self.throttle.clone()).await
    }

    async fn connection(&self) -> Result<(Connection, Guard), LinkError> {
        // One dials, the others wait for it.
        let _dialling = self.dialling.lock().await;
        let kept = self.state.lock().connection.clone().filter(Connection::is_open);
        let connection = match kept {
            Some(connection) => connection,
            None => self.dialer.dial().await?,
        };
        let mut state = self.state.lock();
        state.connection = Some(connection.clone());
        state.open += 1;
        state.opened += 1;
        Ok((connection, Guard { state: Arc::downgrade(&self.state), idle: self.idle }))
    }
}

/// Held by each open stream; the last one starts the timer.
struct Guard {
    state: Weak<Mutex<State>>,
    idle: Duration,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(shared) = self.state.upgrade() else { return };
        let opened = {
            let mut state = shared.lock();
            state.open -= 1;
            if state.open > 0 {
                return;
            }
            state.opened
        };
        let (state, idle) = (self.state.clone(), self.idle);
        // Outside of a runtime the process is about to end anyway.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(idle).await;
            let Some(shared) = state.upgrade() else { return };
            let mut state = shared.lock();
            if state.open == 0 && state.opened == opened {
                state.connection = None;
            }
        });
    }
}

/// The bytes of an archive, or of a part of an image, as they come.
pub struct TreeReader {
    parts: tonic::Streaming<proto::TreePart>,
    ended: Ended,
    size: u64,
    left: u64,
    throttle: Throttle,
    /// When what came last has had its time.
    not_before: Option<Instant>,
    _guard: Guard,
}

impl std::fmt::Debug for TreeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeReader")
            .field("size", &self.size)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl TreeReader {
    async fn begin(
        mut parts: tonic::Streaming<proto::TreePart>,
        ended: Ended,
        offset: u64,
        guard: Guard,
        throttle: Throttle,
    ) -> Result<Self, LinkError> {
        let size = match TreePart::try_from(next(&mut parts, &ended).await?)? {
            TreePart::Size(size) if size >= offset => size,
            TreePart::Size(_) => {
                return Err(
                    WireError::Unexpected { got: "a size below the offset", expected: "a size" }.into()
                );
            }
            TreePart::Refused(refusal) => return Err(LinkError::Refused(refusal)),
            TreePart::Data(_) => {
                return Err(WireError::Unexpected { got: "data", expected: "a size" }.into());
            }
        };
        Ok(Self { parts, ended, size, left: size - offset, throttle, not_before: None, _guard: guard })
    }

    /// Bytes of the whole archive, or of the part of an image.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; `None` when all are there.
    ///
    /// # Errors
    /// [`LinkError`] when they broke off; what came before counts, and the rest is asked for anew.
    pub async fn next(&mut self) -> Result<Option<Bytes>, LinkError> {
        if self.left == 0 {
            return Ok(None);
        }
        wait(self.not_before).await;
        match TreePart::try_from(next(&mut self.parts, &self.ended).await?)? {
            TreePart::Data(bytes) if bytes.len() as u64 <= self.left => {
                self.not_before = self.throttle.received(bytes.len());
                self.left -= bytes.len() as u64;
                Ok(Some(bytes))
            }
            TreePart::Refused(refusal) => Err(LinkError::Refused(refusal)),
            TreePart::Data(_) => Err(WireError::Unexpected { got: "more data", expected: "the end" }.into()),
            TreePart::Size(_) => Err(WireError::Unexpected { got: "a size", expected: "data" }.into()),
        }
    }
}
