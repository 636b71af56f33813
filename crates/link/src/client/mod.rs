//! The agent's side: dialling (also through an HTTP proxy), enrolment, sessions, streams.
//!
//! Enter at [`Dialer`]; [`connect`] opens a session, [`BulkDialer`] answers what the server asks
//! for in it. When to dial again is [`crate::Backoff`]'s to say and the agent's to do.

mod bulk;
mod connection;
mod dial;
mod enroll;
mod proxy;
mod session;

pub use bulk::{BulkDialer, TreeReader};
pub use connection::Connection;
pub use dial::{Address, ClientTls, Dialer, InvalidAddress};
pub use proxy::{InvalidProxy, Proxy};
pub use session::{AgentReceiver, AgentSender, SessionIo, connect};
