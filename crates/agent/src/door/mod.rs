//! The door of the local API: where programs of the owner come in, and how they find it. A Unix socket, or on Windows
//! a named pipe; both carry the same lines, and [`crate::local_api`] knows nothing of which it is.
//!
//! Each system's file has the same three things: `Listener` (`open`, `accept`; its end closes the door),
//! `connect`, and `stranger`, which says who has come in where that is not the owner.
//!
//! Rejected: loopback TCP with a password in a file, which every program on the computer can knock at, a web page in a
//! browser among them.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Listener, Stream, connect, stranger};
#[cfg(windows)]
pub(crate) use windows::{Listener, Stream, connect, stranger};
