//! Why a link, a request or a session failed; both sides use the same types.
//!
//! [`Refusal`] is what crosses the wire: a code for programs, a message and a hint for people.

use crate::{version::NoCommonProtocol, wire::WireError};
use lattice_model::Duration;
use std::{borrow::Cow, fmt};

/// The codes that this crate itself gives. The server adds its own (tokens, approval).
pub mod code {
    /// The two sides have no protocol in common.
    pub const VERSION: &str = "version_refused";
    /// The server admits no more now; `retry_after` says when to come back.
    pub const BUSY: &str = "busy";
    /// The server is going down; another one, or the next one, takes over.
    pub const SHUTTING_DOWN: &str = "shutting_down";
    /// What was sent breaks the protocol or its bounds.
    pub const MALFORMED: &str = "malformed";
    /// A client certificate is required and none was shown.
    pub const CERTIFICATE_REQUIRED: &str = "certificate_required";
    /// The connection is gone.
    pub const CLOSED: &str = "closed";
    /// Refused below the protocol, by gRPC.
    pub const RPC: &str = "rpc_failed";
    /// The node's goal names no such tree, or the server does not have it.
    pub const TREE_UNKNOWN: &str = "tree_unknown";
    /// The node's goal names no such image, or the server does not have all of it.
    pub const IMAGE_UNKNOWN: &str = "image_unknown";
    /// [`crate::message::Notice`]: the agent is older than the enforced minimum.
    pub const OUTDATED: &str = "outdated";
}

/// Why something is not done, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs: `a-z0-9_`, at most 64 of them.
    pub code: Cow<'static, str>,
    /// What happened and why.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// When to try again, where the refuser knows.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// One without a time to come back.
    pub fn new(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { code: code.into(), message: message.into(), hint: hint.into(), retry_after: None }
    }

    /// The same with a time to come back.
    #[must_use]
    pub const fn after(mut self, span: Duration) -> Self {
        self.retry_after = Some(span);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

impl From<NoCommonProtocol> for Refusal {
    fn from(refused: NoCommonProtocol) -> Self {
        Self::new(code::VERSION, refused.to_string(), refused.hint())
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::new(code::MALFORMED, error.to_string(), "update the older side")
    }
}

impl From<LinkError> for Refusal {
    /// So that a handler of a session may use `?` on what it receives.
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Refused(refusal) | LinkError::VersionRefused(refusal) => refusal,
            LinkError::Malformed(error) => error.into(),
            other => Self::new(code::CLOSED, other.to_string(), ""),
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CloseReason {
    /// The other side ended it.
    ByPeer,
    /// The other side answered no ping in time: it is gone, asleep or cut off.
    Silent,
    /// It was cut on purpose: the node was revoked or the connection replaced.
    Cut,
    /// Nothing was asked over it for too long.
    Idle,
    /// This side is going down.
    ShuttingDown,
    /// The other side does not accept our certificate, or the stream was damaged.
    Tls(rustls::Error),
    /// The network failed in another way.
    Transport(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer => f.write_str("the other side closed it"),
            Self::Silent => f.write_str("the other side answered no ping in time"),
            Self::Cut => f.write_str("it was cut on purpose"),
            Self::Idle => f.write_str("it was idle for too long"),
            Self::ShuttingDown => f.write_str("this side is shutting down"),
            Self::Tls(error) => write!(f, "TLS failed: {error}"),
            Self::Transport(text) => f.write_str(text),
        }
    }
}

/// One address that did not answer, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// As it was configured.
    pub address: String,
    /// What the operating system said.
    pub problem: String,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No address answered.
    #[error("no server address answered ({}); check the network, and that the server runs and its port is open", attempts(.0))]
    Unreachable(Vec<Attempt>),
    /// The HTTP proxy did not open a tunnel.
    #[error("the HTTP proxy {proxy} did not open a tunnel ({problem}); {}", proxy_hint(.status))]
    Proxy {
        /// Host and port, without credentials.
        proxy: String,
        /// What it answered, when it spoke HTTP.
        status: Option<u16>,
        /// What happened.
        problem: String,
    },
    /// The two sides did not accept each other's certificates, or something in between broke TLS.
    #[error(
        "no secure connection to {address}; check that the token or certificate is of this server and that nothing in between intercepts TLS"
    )]
    Tls {
        /// As it was configured.
        address: String,
        /// What rustls found.
        #[source]
        source: rustls::Error,
    },
    /// The server said no.
    #[error("the server refused: {0}")]
    Refused(Refusal),
    /// The two sides have no protocol in common.
    #[error("{0}")]
    VersionRefused(Refusal),
    /// The other side broke the protocol.
    #[error("the other side sent what the protocol does not allow; update the older side")]
    Malformed(#[source] WireError),
    /// The link was there and ended.
    #[error("the link ended: {0}; it is dialled again by itself")]
    Closed(CloseReason),
}

fn attempts(attempts: &[Attempt]) -> String {
    let texts: Vec<_> = attempts.iter().map(|a| format!("{}: {}", a.address, a.problem)).collect();
    if texts.is_empty() { "none is configured".into() } else { texts.join(", ") }
}

const fn proxy_hint(status: &Option<u16>) -> &'static str {
    match status {
        Some(407) => "set user and password in the proxy's URL",
        Some(403) => "ask whoever runs it to allow CONNECT to this server",
        _ => "check the proxy's address, or unset it",
    }
}

impl LinkError {
    /// When the server wants to be asked again, for [`crate::Backoff::next`].
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) | Self::VersionRefused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

impl From<Refusal> for LinkError {
    fn from(refusal: Refusal) -> Self {
        if refusal.code == code::VERSION { Self::VersionRefused(refusal) } else { Self::Refused(refusal) }
    }
}

impl From<WireError> for LinkError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

impl From<CloseReason> for LinkError {
    fn from(reason: CloseReason) -> Self {
        Self::Closed(reason)
    }
}
