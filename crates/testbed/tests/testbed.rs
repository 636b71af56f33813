//! Testbeds as they are used: real machines, engines and agents, hurt and healed. It takes the programs
//! (`cargo build --workspace --bins`), root or sudo, and Docker with the test images, all of which `make test` sees to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod docker;
