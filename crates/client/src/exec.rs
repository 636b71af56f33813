//! A command inside a container, over a WebSocket; see [`lattice_api::allocation`] for the messages.

use crate::{
    endpoint::Io,
    error::{ClientError, refusal},
};
use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use lattice_api::{
    CHANNEL_STDERR, CHANNEL_STDIN, CHANNEL_STDOUT, ExecClientMessage, ExecServerMessage, ExecStart,
    MAX_EXEC_FRAME, TerminalSize, exec_frame,
};
use serde::Serialize;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderName, HeaderValue},
        protocol::WebSocketConfig,
    },
};

type Socket = WebSocketStream<Box<dyn Io>>;

/// A command that runs. Dropping it closes the connection, which ends the command's input.
pub struct ExecSession {
    socket: Socket,
}

impl ExecSession {
    /// Opens the WebSocket on a fresh connection and asks for the command.
    pub(crate) async fn open(
        stream: Box<dyn Io>,
        host: &str,
        path: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
        start: &ExecStart,
    ) -> Result<Self, ClientError> {
        let request = |e| ClientError::Request(Box::new(e));
        let mut upgrade: Request = format!("ws://{host}{path}").into_client_request().map_err(request)?;
        upgrade.headers_mut().extend(headers);
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_EXEC_FRAME * 2))
            .max_frame_size(Some(MAX_EXEC_FRAME * 2));
        let (mut socket, _) =
            client_async_with_config(upgrade, stream, Some(config)).await.map_err(|error| match error {
                Error::Http(response) => {
                    refusal(response.status().as_u16(), response.body().as_deref().unwrap_or_default())
                }
                other => ClientError::broken(other),
            })?;
        socket.send(text(start)?).await.map_err(ClientError::broken)?;
        Ok(Self { socket })
    }

    /// Two halves, for two tasks.
    pub fn split(self) -> (ExecSender, ExecReceiver) {
        let (sink, stream) = self.socket.split();
        (ExecSender { sink }, ExecReceiver { stream })
    }
}

/// What the client says to a command.
pub struct ExecSender {
    sink: SplitSink<Socket, Message>,
}

impl ExecSender {
    /// Bytes for standard input, in as many messages as it takes.
    ///
    /// # Errors
    /// [`ClientError::Broken`] once the session has ended.
    pub async fn stdin(&mut self, data: &[u8]) -> Result<(), ClientError> {
        for part in data.chunks(MAX_EXEC_FRAME - 1) {
            self.send(Message::Binary(exec_frame(CHANNEL_STDIN, part).into())).await?;
        }
        Ok(())
    }

    /// Nothing more comes on standard input.
    ///
    /// # Errors
    /// [`ClientError::Broken`] once the session has ended.
    pub async fn close_stdin(&mut self) -> Result<(), ClientError> {
        self.send(text(&ExecClientMessage::StdinClosed)?).await
    }

    /// The terminal has another size now.
    ///
    /// # Errors
    /// [`ClientError::Broken`] once the session has ended.
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), ClientError> {
        self.send(text(&ExecClientMessage::Resize { size })?).await
    }

    async fn send(&mut self, message: Message) -> Result<(), ClientError> {
        self.sink.send(message).await.map_err(ClientError::broken)
    }
}

fn text(message: &impl Serialize) -> Result<Message, ClientError> {
    let json = serde_json::to_string(message).map_err(|e| ClientError::Request(Box::new(e)))?;
    Ok(Message::Text(json.into()))
}

/// What a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// Standard output, or what the terminal shows.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// It ended with this code; nothing comes after.
    Exit(i64),
}

/// What a command says to the client.
pub struct ExecReceiver {
    stream: SplitStream<Socket>,
}

impl ExecReceiver {
    /// The next output. Cancel safe.
    ///
    /// # Errors
    /// [`ClientError::Api`] when the command could not be started or was lost;
    /// [`ClientError::Broken`] when the session ended without an exit code.
    pub async fn next(&mut self) -> Result<ExecOutput, ClientError> {
        loop {
            let message = match self.stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(ClientError::broken(error)),
                None => return Err(ClientError::broken(Error::ConnectionClosed)),
            };
            match message {
                Message::Binary(mut data) if !data.is_empty() => match data.split_to(1)[0] {
                    CHANNEL_STDOUT => return Ok(ExecOutput::Stdout(data)),
                    CHANNEL_STDERR => return Ok(ExecOutput::Stderr(data)),
                    other => return Err(ClientError::protocol(format!("data on channel {other}"))),
                },
                Message::Text(json) => match serde_json::from_str(&json) {
                    Ok(ExecServerMessage::Exit { code }) => return Ok(ExecOutput::Exit(code)),
                    Ok(ExecServerMessage::Error { error }) => return Err(ClientError::Api(error)),
                    Err(error) => return Err(ClientError::json(&error)),
                },
                Message::Close(_) => return Err(ClientError::broken(Error::ConnectionClosed)),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}
