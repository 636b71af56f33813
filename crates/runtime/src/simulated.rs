//! An engine in memory behind the port: containers, networks, volumes, images, events, logs,
//! commands and health, at some kilobytes and no task per container, so that one process holds
//! ten thousand. Enter at [`Simulated`]; an image is a [`Program`].
//!
//! | file | what |
//! |---|---|
//! | `program` | what images do: a small script; commands that every image knows |
//! | `settings` | [`Settings`], [`Delays`] and [`Faults`]: how slow it is, and what goes wrong |
//! | `state` | the engine itself, without waiting: what is there, and what happens when |
//! | `engine` | [`Simulated`]: the calls of the port, and what tests do to an engine |
//! | `streams` | logs, events and commands as they come |
//!
//! Delays and failures are drawn from the seed, and time is tokio's: under its paused clock hours
//! pass at once, and one seed gives one history as long as the calls come in the same order. What
//! is due is carried out by whoever asks next, or by the one task that an engine has while
//! anything is due; nothing is polled.
//!
//! Rejected: a task per container (ten thousand timers, and no order among those of one instant),
//! and answers that tests write down call by call: those agree with whatever the caller believes.

mod engine;
mod images;
mod program;
mod settings;
mod state;
mod streams;

pub use engine::Simulated;
pub use program::{Program, Step};
pub use settings::{Delays, Faults, RegistryFault, Settings, Span};
