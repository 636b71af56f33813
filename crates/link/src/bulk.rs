//! One stream of bytes between agent and server: logs or exec. The same type on both sides.
//!
//! At most [`QUEUE`] frames wait to be sent; behind them the HTTP/2 window holds a sender back
//! until the other side reads. Small frames are padded on the wire ([`crate::wire`]). Dropping either half tells the other side.

use crate::{
    ended::Ended,
    error::{CloseReason, LinkError},
    message::{BulkEnd, BulkFrame},
    proto,
    throttle::{Throttle, wait},
    wire::{MAX_BULK, WireError},
};
use bytes::Bytes;
use futures::Stream;
use std::{any::Any, error::Error};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Status, Streaming};

/// How many frames wait to be sent, each of at most [`MAX_BULK`] bytes.
pub(crate) const QUEUE: usize = 4;

/// Both halves of a stream.
#[derive(Debug)]
pub struct BulkChannel {
    /// To the other side.
    pub send: BulkSender,
    /// From the other side.
    pub recv: BulkReceiver,
}

impl BulkChannel {
    pub(crate) fn new(
        frames: mpsc::Sender<BulkFrame>,
        incoming: Streaming<proto::BulkFrame>,
        ended: Ended,
        guard: Option<Box<dyn Any + Send>>,
        throttle: Throttle,
    ) -> Self {
        let send = BulkSender { frames, ended: ended.clone(), throttle: throttle.clone() };
        Self {
            send,
            recv: BulkReceiver { incoming, ended, closed: false, throttle, not_before: None, _guard: guard },
        }
    }

    /// The two halves, for two tasks.
    pub fn split(self) -> (BulkSender, BulkReceiver) {
        (self.send, self.recv)
    }
}

/// The sending half.
#[derive(Clone, Debug)]
pub struct BulkSender {
    frames: mpsc::Sender<BulkFrame>,
    ended: Ended,
    throttle: Throttle,
}

impl BulkSender {
    /// Sends data, cut into frames; waits while the other side does not read.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when nobody is there any more.
    pub async fn data(&self, channel: u8, mut bytes: Bytes) -> Result<(), LinkError> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(MAX_BULK));
            self.throttle.send(part.len()).await;
            self.frame(BulkFrame::Data { channel, bytes: part }).await?;
        }
        Ok(())
    }

    /// Says that no more data will come on this channel.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub async fn end(&self, channel: u8) -> Result<(), LinkError> {
        self.frame(BulkFrame::End(channel)).await
    }

    /// Ends the stream. What was sent before arrives before.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub async fn close(self, end: BulkEnd) -> Result<(), LinkError> {
        self.frame(BulkFrame::Close(end)).await
    }

    async fn frame(&self, frame: BulkFrame) -> Result<(), LinkError> {
        if self.frames.send(frame).await.is_ok() {
            return Ok(());
        }
        Err(self.ended.or(CloseReason::ByPeer).await.into())
    }
}

/// The receiving half.
pub struct BulkReceiver {
    incoming: Streaming<proto::BulkFrame>,
    ended: Ended,
    closed: bool,
    throttle: Throttle,
    /// When what came last has had its time.
    not_before: Option<Instant>,
    _guard: Option<Box<dyn Any + Send>>,
}

impl std::fmt::Debug for BulkReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkReceiver").field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl BulkReceiver {
    /// The next frame; [`BulkFrame::Close`] is the last, then `None`. Cancel-safe.
    ///
    /// # Errors
    /// [`LinkError`] when the stream broke before it was closed.
    pub async fn recv(&mut self) -> Result<Option<BulkFrame>, LinkError> {
        if self.closed {
            return Ok(None);
        }
        // Before and not after it, so that no frame is lost with a call that is given up.
        wait(self.not_before).await;
        let frame = next(&mut self.incoming, &self.ended).await?;
        let frame = BulkFrame::try_from(frame)?;
        self.not_before = match &frame {
            BulkFrame::Data { bytes, .. } => self.throttle.received(bytes.len()),
            _ => None,
        };
        self.closed = matches!(frame, BulkFrame::Close(_));
        Ok(Some(frame))
    }
}

/// The next message of a call's stream; its end is an error, since every stream here ends with
/// a message that says so.
pub(crate) async fn next<T>(incoming: &mut Streaming<T>, ended: &Ended) -> Result<T, LinkError> {
    match incoming.message().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(ended.or(CloseReason::ByPeer).await.into()),
        Err(status) => Err(failed(status, ended).await),
    }
}

/// What a failed call means: the connection broke (then its end says why), or gRPC did not take
/// the message.
pub(crate) async fn failed(status: Status, ended: &Ended) -> LinkError {
    if status.source().is_some() {
        return ended.or(CloseReason::Transport(status.message().to_owned())).await.into();
    }
    match status.code() {
        tonic::Code::Cancelled | tonic::Code::Unavailable | tonic::Code::Unknown => {
            ended.or(CloseReason::ByPeer).await.into()
        }
        _ => WireError::Rpc(status.message().to_owned()).into(),
    }
}

/// The frames as they leave; ends after [`BulkFrame::Close`].
pub(crate) fn frames(queue: mpsc::Receiver<BulkFrame>) -> impl Stream<Item = proto::BulkFrame> + Send {
    futures::stream::unfold(Some(queue), |queue| async move {
        let mut queue = queue?;
        let frame = queue.recv().await?;
        let more = !matches!(frame, BulkFrame::Close(_));
        Some((frame.into(), more.then_some(queue)))
    })
}
