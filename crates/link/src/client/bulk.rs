//! The second connection, for streams: dialled at the first one, closed when none was open for a
//! while. Bytes of logs thus never stand before a heartbeat.

use super::{Connection, Dialer};
use crate::{
    bulk::{BulkChannel, QUEUE, frames},
    error::{CloseReason, LinkError},
    message::{BulkFrame, StreamId},
    proto::bulk_client::BulkClient,
    wire,
};
use parking_lot::Mutex;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

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
}

impl BulkDialer {
    /// Dials as the control connection is dialled.
    pub fn new(dialer: Arc<Dialer>) -> Self {
        Self { dialer, idle: IDLE, state: Arc::default(), dialling: Arc::default() }
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
        let (connection, guard) = self.connection().await?;
        let (sender, queue) = mpsc::channel(QUEUE);
        sender.send(BulkFrame::Open(stream)).await.map_err(|_| CloseReason::ByPeer)?;
        let reply = BulkClient::with_origin(connection.clone(), connection.origin.clone())
            .max_decoding_message_size(wire::MAX_BULK_MESSAGE)
            .max_encoding_message_size(wire::MAX_BULK_MESSAGE)
            .stream(frames(queue))
            .await;
        match reply {
            Ok(reply) => Ok(BulkChannel::new(
                sender,
                reply.into_inner(),
                connection.ended.clone(),
                Some(Box::new(guard)),
            )),
            Err(status) => Err(connection.refused(status).await),
        }
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
