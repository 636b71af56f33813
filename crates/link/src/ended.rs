//! How the parts of a connection learn that it is over, and why.

use crate::error::CloseReason;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How long a call that failed waits to learn why its connection ended. The connection's own
/// task says so right after; a call that failed for itself pays this once.
const GRACE: Duration = Duration::from_millis(500);

/// Set once, by the task that drives the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    reason: Arc<OnceLock<CloseReason>>,
    token: CancellationToken,
}

impl Ended {
    pub(crate) fn set(&self, reason: CloseReason) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    pub(crate) async fn wait(&self) -> CloseReason {
        self.token.cancelled().await;
        self.reason.get().cloned().unwrap_or(CloseReason::ByPeer)
    }

    /// Why, for a call that found its stream broken; `otherwise` when the connection lives on.
    pub(crate) async fn or(&self, otherwise: CloseReason) -> CloseReason {
        tokio::time::timeout(GRACE, self.wait()).await.unwrap_or(otherwise)
    }
}

/// What a failed HTTP/2 connection says about itself.
pub(crate) fn reason(error: &hyper::Error) -> CloseReason {
    if error.is_timeout() {
        return CloseReason::Silent;
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    CloseReason::Transport(text)
}

/// How a silent peer is noticed: HTTP/2 pings, on both sides, whenever nothing was heard for an
/// interval. A dead link is noticed after `interval + timeout` at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before a ping.
    pub interval: Duration,
    /// How long its answer may take.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    /// Three heartbeats of 5 s.
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), timeout: Duration::from_secs(10) }
    }
}
