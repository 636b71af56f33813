//! Typed client of the REST API: one function per endpoint of [`lattice_api::paths`], over the
//! Unix socket of the server's machine, over HTTPS with a bearer token, or over HTTP on loopback.
//! A token never goes to another machine in plain text: such an address is refused when it is read.
//!
//! Enter at [`Client`]. Streams are [`LogStream`], [`WatchStream`] and [`ExecSession`]; none
//! reconnects by itself, since only the caller knows from where to go on. Every answer has a
//! bound, since a client outlives what it talks to.
//!
//! One connection per request: requests are few, a Unix socket opens in microseconds, and a
//! stream never delays another request. Rejected: a pooled client, which would need a connector
//! of our own for Unix sockets all the same.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
mod endpoint;
mod error;
mod exec;
mod home;
mod images;
mod people;
mod stream;
mod tls;

pub use client::Client;
pub use endpoint::{ApiToken, Endpoint, Https};
pub use error::ClientError;
pub use exec::{ExecOutput, ExecReceiver, ExecSender, ExecSession};
pub use home::{API_SOCKET, default_home};
pub use stream::{BuildStream, ByteStream, LogStream, MAX_LOG_RECORD, MAX_WATCH_EVENT, WatchStream};
