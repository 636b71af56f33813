//! Private PostgreSQL instances for tests and benchmarks: each in a folder of its own, on a port of
//! its own on loopback, with `fsync` on, gone with the value or with the process.
//!
//! Enter at [`Postgres::start`]; [`Cut`] is a TCP proxy before it that breaks connections at chosen
//! moments. PostgreSQL refuses to run as root, so under root it runs as the user `postgres`, or
//! `nobody`. Rejected: a container (its start takes longer than all the tests here, and the kill
//! would go through the engine); the machine's own cluster (tests would need rights in it).

mod cut;
mod instance;

pub use cut::{At, Cut};
pub use instance::{Options, Postgres};
