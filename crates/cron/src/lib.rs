//! When a job is due: `(schedule, instant) → the next instant`, without a clock.
//!
//! [`Times::of`] reads a [`Schedule`](lattice_model::spec::Schedule) and refuses what cannot be meant;
//! [`Times::after`] and [`Times::due`] are all that planning needs. The expressions are croner's and the time zones
//! jiff's; when the clocks change is decided here:
//! - a time that does not exist (spring) is due at the first instant that does;
//! - a time that exists twice (autumn) is due once, the first time;
//! - where the field of the hours is `*`, the schedule goes by hours that pass and not by the clock on the wall:
//!   `*/5 * * * *` is due every five minutes, also in the hour that comes twice.
//!
//! Rejected: croner's own treatment of the changes, which loses `0 2,14 * * *` in spring and doubles it in autumn, as
//! Vixie cron does; times in the system's zone, since servers may be anywhere.

mod error;
mod times;

pub use error::CronError;
pub use times::{Due, Times};
