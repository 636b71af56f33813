//! A session, as the agent sees it.
//!
//! The agent drives heartbeats, since only it knows the load; whether the server still lives is
//! watched below, by HTTP/2 pings ([`crate::KeepAlive`]), which a busy agent cannot forget.

use super::{Connection, Dialer};
use crate::{
    bulk::next,
    ended::Ended,
    error::{CloseReason, LinkError, Refusal, code},
    message::{AgentMessage, Hello, ServerMessage, Welcome},
    proto::{self, control_client::ControlClient},
    wire::{self, GoalAssembler, WireError},
};
use futures::{StreamExt, stream};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tonic::Streaming;

/// How many messages wait to be sent.
const QUEUE: usize = 16;
/// How long the server may take to answer a Hello; it may let it wait in a storm.
const WELCOME: Duration = Duration::from_secs(30);

/// Both halves of an open session.
#[derive(Debug)]
pub struct SessionIo {
    /// To the server.
    pub send: AgentSender,
    /// From the server.
    pub recv: AgentReceiver,
    /// The connection that carries it.
    pub connection: Connection,
}

/// To the server; clones share the session.
#[derive(Clone, Debug)]
pub struct AgentSender {
    queue: mpsc::Sender<AgentMessage>,
    ended: Ended,
}

impl AgentSender {
    /// Sends a message; waits while the server does not read. Sent is not received: reports stay
    /// in the outbox until they are acknowledged.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the session is over.
    pub async fn send(&self, message: AgentMessage) -> Result<(), LinkError> {
        if self.queue.send(message).await.is_ok() {
            return Ok(());
        }
        Err(self.ended.or(CloseReason::ByPeer).await.into())
    }
}

/// From the server.
pub struct AgentReceiver {
    incoming: Streaming<proto::ServerMessage>,
    connection: Connection,
    goal: GoalAssembler,
}

impl std::fmt::Debug for AgentReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentReceiver").finish_non_exhaustive()
    }
}

impl AgentReceiver {
    /// The next message, never Goodbye: that is an error. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkError::Refused`] after a Goodbye; [`LinkError::Closed`] when the link broke, with
    /// [`CloseReason::Silent`] when the server answered no ping.
    pub async fn recv(&mut self) -> Result<ServerMessage, LinkError> {
        loop {
            let message = next(&mut self.incoming, &self.connection.ended)
                .await
                .map_err(|error| self.connection.named(error))?;
            match wire::server_message(message, &mut self.goal)? {
                None => {}
                Some(ServerMessage::Goodbye(refusal)) => return Err(refusal.into()),
                Some(message) => return Ok(message),
            }
        }
    }
}

/// Dials, says hello and waits for the welcome.
///
/// # Errors
/// [`LinkError`] says what stood in the way; [`LinkError::retry_after`] when the server said so.
pub async fn connect(dialer: &Dialer, hello: Hello) -> Result<(Welcome, SessionIo), LinkError> {
    let range = hello.protocol;
    let connection = dialer.dial().await?;
    let (queue, messages) = mpsc::channel::<AgentMessage>(QUEUE);
    let first = stream::once(async { proto::AgentMessage::from(hello) });
    let rest = stream::unfold(messages, |mut messages| async {
        let message: proto::AgentMessage = messages.recv().await?.into();
        Some((message, messages))
    });
    let mut client = ControlClient::with_origin(connection.clone(), connection.origin.clone())
        .max_decoding_message_size(wire::MAX_DOWN)
        .max_encoding_message_size(wire::MAX_UP);
    let opening = async {
        let incoming = match client.session(first.chain(rest)).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => return Err(connection.refused(status).await),
        };
        let goal = GoalAssembler::default();
        let mut recv = AgentReceiver { incoming, connection: connection.clone(), goal };
        match recv.recv().await? {
            ServerMessage::Welcome(welcome) => Ok((welcome, recv)),
            _ => Err(WireError::Unexpected { got: "another message", expected: "Welcome" }.into()),
        }
    };
    let (welcome, recv) = timeout(WELCOME, opening).await.unwrap_or(Err(CloseReason::Silent.into()))?;
    if !(range.min..=range.max).contains(&welcome.protocol) {
        let message = format!("the server chose protocol {}, which nobody offered", welcome.protocol);
        return Err(LinkError::VersionRefused(Refusal::new(code::VERSION, message, "update the server")));
    }
    let send = AgentSender { queue, ended: connection.ended.clone() };
    Ok((welcome, SessionIo { send, recv, connection }))
}
