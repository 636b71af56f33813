//! One session, from its first message to Goodbye.

use super::{CertifiedPeer, Shared};
use crate::{
    bulk::next,
    ended::Ended,
    error::{CloseReason, LinkError, Refusal, code},
    message::{AgentMessage, Hello, ServerMessage},
    proto,
    version::{PROTOCOL, negotiate},
    wire,
};
use futures::Stream;
use lattice_model::{Duration, SealedGoal};
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info};

/// How many messages wait to be sent to one agent. A goal is shared, not copied, while it waits.
const QUEUE: usize = 16;

/// A session that a [`super::Gateway`] serves.
#[derive(Debug)]
pub struct Session {
    /// To the agent.
    pub send: SessionSender,
    /// From the agent.
    pub recv: SessionReceiver,
    /// The negotiated protocol, for Welcome.
    pub protocol: u32,
}

/// To the agent; clones share the session.
#[derive(Clone)]
pub struct SessionSender {
    queue: mpsc::Sender<ServerMessage>,
    ended: Ended,
    opening: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl std::fmt::Debug for SessionSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionSender").finish_non_exhaustive()
    }
}

impl SessionSender {
    /// Sends a message; waits while the agent does not read. What is sent after a Goodbye is
    /// dropped. Messages arrive in order.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the session is over.
    pub async fn send(&self, message: ServerMessage) -> Result<(), LinkError> {
        let welcome = matches!(message, ServerMessage::Welcome(_));
        if self.queue.send(message).await.is_err() {
            return Err(self.ended.or(CloseReason::ByPeer).await.into());
        }
        if welcome {
            // The costly part is over: the next Hello may come.
            self.opening.lock().take();
        }
        Ok(())
    }
}

/// From the agent.
pub struct SessionReceiver {
    incoming: Streaming<proto::AgentMessage>,
    ended: Ended,
    closing: CancellationToken,
}

impl std::fmt::Debug for SessionReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionReceiver").finish_non_exhaustive()
    }
}

impl SessionReceiver {
    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkError`] when the agent is gone, broke the protocol, or the server goes down; pass it
    /// on with `?`, the link turns it into the Goodbye that fits.
    pub async fn recv(&mut self) -> Result<AgentMessage, LinkError> {
        let message = tokio::select! {
            message = next(&mut self.incoming, &self.ended) => message?,
            () = self.closing.cancelled() => return Err(CloseReason::ShuttingDown.into()),
        };
        Ok(message.try_into()?)
    }

    /// Resolves when the server goes down, for a handler that waits for something else.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }
}

pub(super) fn outgoing() -> (mpsc::Sender<ServerMessage>, Outgoing) {
    let (sender, queue) = mpsc::channel(QUEUE);
    (sender, Outgoing { queue, goal: None, over: false })
}

/// The messages as they leave: goals in parts, nothing after Goodbye.
pub(super) struct Outgoing {
    queue: mpsc::Receiver<ServerMessage>,
    goal: Option<(SealedGoal, usize)>,
    over: bool,
}

impl Stream for Outgoing {
    type Item = Result<proto::ServerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use proto::server_message::Kind;
        let kind = loop {
            if let Some((goal, offset)) = self.goal.take() {
                let part = wire::goal_part(&goal, offset);
                let sent = offset + part.body.len();
                if sent < goal.body().len() {
                    self.goal = Some((goal, sent));
                }
                break Kind::Goal(part);
            }
            if self.over {
                return Poll::Ready(None);
            }
            match ready!(self.queue.poll_recv(cx)) {
                None => self.over = true,
                Some(message) => match wire::server_kind(message) {
                    Err(goal) => self.goal = Some((goal, 0)),
                    Ok(kind) => {
                        self.over = matches!(kind, Kind::Goodbye(_));
                        break kind;
                    }
                },
            }
        };
        Poll::Ready(Some(Ok(proto::ServerMessage { kind: Some(kind) })))
    }
}

pub(super) async fn run(
    shared: Arc<Shared>,
    peer: CertifiedPeer,
    ended: Ended,
    mut incoming: Streaming<proto::AgentMessage>,
    queue: mpsc::Sender<ServerMessage>,
) {
    let addr = peer.addr;
    let result = async {
        let (hello, protocol) = greet(&shared, &mut incoming, &ended).await?;
        // 3. A place among the sessions, and one among those being opened.
        let busy = || {
            let after = u64::try_from(shared.limits.busy_retry_after.as_millis()).unwrap_or(u64::MAX);
            Refusal::new(code::BUSY, "the server admits no more agents now", "the agent comes back by itself")
                .after(Duration(after))
        };
        let _place = shared.admission.sessions.clone().try_acquire_owned().map_err(|_| busy())?;
        let opening = shared.admission.opening.clone().acquire_owned();
        let opening = match timeout(shared.limits.max_opening_wait, opening).await {
            Ok(Ok(permit)) => Arc::new(Mutex::new(Some(permit))),
            _ => return Err(busy()),
        };
        let session = Session {
            send: SessionSender { queue: queue.clone(), ended: ended.clone(), opening: opening.clone() },
            recv: SessionReceiver { incoming, ended: ended.clone(), closing: shared.closing.clone() },
            protocol,
        };
        debug!(%addr, agent = %hello.agent_version, "a session begins");
        let result = shared.gateway.session(peer, hello, session).await;
        opening.lock().take();
        result
    }
    .await;
    let goodbye = match result {
        _ if shared.closing.is_cancelled() => Some(
            Refusal::new(code::SHUTTING_DOWN, "the server is going down", "the agent comes back by itself")
                .after(Duration::from_secs(1)),
        ),
        Err(refusal) if refusal.code == code::CLOSED => None,
        Err(refusal) => Some(refusal),
        Ok(()) => None,
    };
    if let Some(refusal) = goodbye {
        info!(%addr, code = %refusal.code, message = %refusal.message, "a session was ended");
        // A queue that an agent does not empty must not hold the shutdown up.
        let goodbye = queue.send(ServerMessage::Goodbye(refusal));
        let _ = timeout(shared.limits.shutdown_grace, goodbye).await;
    }
}

async fn greet(
    shared: &Shared,
    incoming: &mut Streaming<proto::AgentMessage>,
    ended: &Ended,
) -> Result<(Hello, u32), Refusal> {
    let first = match timeout(shared.limits.first_message_timeout, next(incoming, ended)).await {
        Ok(first) => first?,
        Err(_) => return Err(Refusal::new(code::MALFORMED, "no Hello came in time", "try again")),
    };
    let hello = wire::hello(first)?;
    let protocol = negotiate(PROTOCOL, hello.protocol)?;
    Ok((hello, protocol))
}
