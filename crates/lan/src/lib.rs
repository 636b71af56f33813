//! The owner's network: containers reach their own stack and the internet, and nothing on the LAN or the host.
//!
//! Where to enter:
//! - [`Facts`] is what the host's network looks like: its addresses, the routes of all tables, its resolvers;
//! - [`Allow`] is one line of the owner's list of exceptions;
//! - [`Ruleset::new`] makes of both what is to hold; [`Ruleset::nft`] is that as a text for nftables, and
//!   [`Ruleset::judge`] says what becomes of a packet. Both read the same rules, so that what is tested is what
//!   is enforced.
//!
//! Beside that, [`Limits`] say how fast containers may send and receive; they are in the same table, and fall with it.
//!
//! What is closed never depends on a set that has to be updated when a network is made: bridges are known by the
//! beginning of their name. What depends on the host's routes is computed again when they change.
//!
//! Rejected: a list of what is open, which would have to name the internet; one table for all agents of a machine,
//! over which two of them with different lists would fight; rules in the engine's own chains, which go with its
//! restart; matching by the containers' addresses, which others may have.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod allow;
mod closed;
mod error;
mod facts;
mod rules;
mod ruleset;

pub use allow::{Allow, AllowError, Target, Transport};
pub use error::LanError;
pub use facts::{Facts, Interface, Route};
pub use ipnet::IpNet;
pub use rules::{Hook, Packet, Protocol, Verdict};
pub use ruleset::{Bridges, Limits, Ruleset};
