//! The link between agents and servers: gRPC over mutual TLS, dialled by the agent alone.
//!
//! | part | for | what |
//! |---|---|---|
//! | [`server`] | servers | a listener that admits at a bounded rate and hands everything to a [`server::Gateway`] |
//! | [`client`] | agents | [`client::Dialer`], enrolment, [`client::connect`], [`client::BulkDialer`] |
//! | [`outbox`] | agents | a durable, bounded queue of reports; [`Dedup`] is its counterpart |
//! | [`message`], [`wire`] | both | what travels, and the bounds of every field |
//! | [`Backoff`], [`negotiate`], [`agent_version_ok`] | both | pure decisions |
//!
//! Control and bulk are two connections, so that logs never stand before a heartbeat. A link
//! that died without a word is noticed on both sides by HTTP/2 pings ([`KeepAlive`]). This crate
//! decides nothing about trust: it takes ready TLS configurations and opaque bytes, and hands
//! the peer's certificates to the gateway.
//!
//! Rejected: tonic's transport (no peer certificates without axum, no handle that cuts one
//! connection, a larger agent); goals in one message (each link would keep a buffer of its
//! largest goal); WebSocket (no flow control per stream).
//!
//! # An agent's loop
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn agent(tls: lattice_link::client::ClientTls, hello: lattice_link::message::Hello) -> Result<(), Box<dyn std::error::Error>> {
//! use lattice_link::{Backoff, client, message::{AgentMessage, OutboxId, ServerMessage}, outbox::{Bound, Outbox}};
//! let dialer = std::sync::Arc::new(client::Dialer::new(vec!["lattice.example".parse()?], tls));
//! let bulk = client::BulkDialer::new(dialer.clone());
//! let mut outbox = Outbox::open("outbox.db".as_ref(), OutboxId(7 /* random */), Bound::default())?;
//! let mut backoff = Backoff::default();
//! loop {
//!     let error = match client::connect(&dialer, hello.clone()).await {
//!         Err(error) => error,
//!         Ok((welcome, mut session)) => {
//!             outbox.ack(welcome.ack_up_to)?;
//!             session.send.send(AgentMessage::Reports(outbox.unacked(welcome.ack_up_to, 256)?)).await?;
//!             loop {
//!                 match session.recv.recv().await {
//!                     Ok(ServerMessage::Ack(up_to)) => drop(outbox.ack(up_to)?),
//!                     Ok(ServerMessage::OpenStream(asked)) => drop(bulk.open(asked.stream).await?),
//!                     Ok(_) => {}
//!                     Err(error) => break error,
//!                 }
//!             }
//!         }
//!     };
//!     let random = 4; // 64 random bits
//!     tokio::time::sleep(backoff.next(random, error.retry_after()).as_std()).await;
//! }
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]
// Without a side there are only the pure parts, and much below them is not used.
#![cfg_attr(not(all(feature = "server", feature = "client")), allow(dead_code))]

mod backoff;
#[cfg(any(feature = "server", feature = "client"))]
mod bulk;
#[cfg(feature = "client")]
pub mod client;
mod codec;
mod dedup;
mod ended;
mod error;
pub mod message;
#[cfg(feature = "client")]
pub mod outbox;
#[doc(hidden)]
pub mod proto;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "server", feature = "client"))]
mod throttle;
mod version;
pub mod wire;

pub use backoff::{BASE, Backoff, CAP, GOOD_SESSION};
#[cfg(any(feature = "server", feature = "client"))]
pub use bulk::{BulkChannel, BulkReceiver, BulkSender};
pub use dedup::{Dedup, Verdict};
pub use ended::KeepAlive;
pub use error::{Attempt, CloseReason, LinkError, Refusal, code};
#[cfg(any(feature = "server", feature = "client"))]
pub use throttle::Throttle;
pub use version::{NoCommonProtocol, PROTOCOL, agent_version_ok, negotiate};
