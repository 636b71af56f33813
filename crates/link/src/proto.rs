//! The generated messages and services of `proto/lattice/agent/v1/agent.proto`.
//!
//! Nothing outside this crate needs them but tests that speak the protocol badly on purpose.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]

include!(concat!(env!("OUT_DIR"), "/lattice.agent.v1.rs"));
