//! When something deserves a person's attention.
//!
//! - [`rule`]: what is asked of a thing, for how long, and how bad it is; the rules that are there from the start;
//! - [`node`]: what is read of a node for them;
//! - [`board`]: the alerts that are open: (board, rules, readings, now) -> transitions. Enter at [`Board::step`].
//!
//! An alert is *pending* while what its rule asks for is so and not yet for long enough, then *firing*, then *resolved*
//! once it has not been so for long enough. A threshold has two marks, so that what swings around one of them changes
//! nothing; what comes and goes all the same is *flapping* and has to hold still for longer before it resolves. What is
//! not known changes nothing at all.
//!
//! A board can be written down and taken up again: nothing fires a second time since a server was restarted. Pure: the
//! clock is an argument.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod board;
pub mod node;
pub mod rule;

pub use board::{Alert, Board, Reading, Transition, Value};
pub use rule::{Mark, Rule, builtin};
