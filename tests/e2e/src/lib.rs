//! The kit of the end-to-end tests: clusters of the real programs `lattice` and `lattice-agent`, as processes, on a
//! real Docker engine. The tests themselves are in `tests/e2e/`.
//!
//! Enter at [`Cluster`]: a server with a home and ports of its own; [`Cluster::join`] adds an [`Agent`], which reaches
//! the server by way of a [`Link`] that a test can cut. [`Engine`] is the engine: the machine's own, or a private one
//! that a test may kill. [`Bed`] is a cluster of several nodes, each a machine of its own that a test may cut off, freeze
//! or kill. [`Output`] is what a command line said.
//!
//! Tests run beside each other and beside other containers of the machine: each cluster has random ports and its own
//! node ids, and what it leaves is found by the label `lattice.node` with those ids alone. Processes are ended by the
//! handle that started them, and die with the test's process (`setpriv --pdeathsig`).
//!
//! A kit for tests panics where something is not as it should be: that is the test's result. Rejected: the Docker API
//! by a library (the `docker` command is there on every machine that runs these, and says what it does in logs).

// What was seen instead is the error of a look, and may be large: it is shown once, when a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::result_large_err)]

mod agent;
mod bed;
mod clock;
mod cluster;
mod engine;
mod home;
mod link;
mod net;
mod past;
mod process;
mod programs;
mod up;
mod view;
mod wait;

pub use agent::Agent;
pub use bed::{Bed, Found};
pub use clock::Clock;
pub use cluster::{Cluster, Options};
pub use engine::{BUSYBOX, Engine, POSTGRES};
pub use home::Home;
pub use lattice_testbed::rooted as as_root;
pub use link::{How, Link};
pub use net::{Registry, free_port, http, http_with, speaks_postgres};
pub use past::expired_certificate;
pub use process::{Output, Process};
pub use programs::{program, root as repository};
pub use up::Up;
pub use view::View;
pub use wait::{PATIENCE, eventually, until};
