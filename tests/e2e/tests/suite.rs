//! The end-to-end tests: the real programs on a real Docker engine. Each file of `e2e/` is one subject; every name has
//! `e2e` in it, by which the test runner knows that they share an engine.

// What was seen instead is the error of a look, and may be large: it is shown once, when a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::result_large_err)]

mod e2e;
