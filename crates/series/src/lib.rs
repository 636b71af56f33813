//! Recent history of metrics: 10 s for 2 h, 1 min for 24 h, 10 min for 30 days, in bounded space.
//!
//! Enter at [`History`]. Time is an argument throughout; `History` is the shell that has files, the rest is pure:
//!
//! | module | what |
//! |---|---|
//! | `codec` | a column of whole numbers as bits |
//! | `block` | an immutable file: many series over one stretch of time |
//! | `recent` | what is not in a file yet |
//! | `tier` | the three grids, and how a coarse one follows from a fine one |
//! | `history` | files, compaction, retention, questions |
//!
//! The grid makes instants free, a value is a whole number of its metric's steps
//! ([`Scale`](lattice_model::metric::Scale)), and a file holds thousands of series, so that names cost next to nothing.
//! A coarse block is made of the finer blocks of its stretch when they are complete, and never of what is in memory:
//! so there is nothing to lose but the newest minutes, which are saved every two minutes, and no state to recover.
//! A file is written beside its place and renamed. One whose checksum is wrong is set aside, and the rest is read.
//!
//! Rejected: an embedded time-series engine, of which each brings a log, a compactor and a query language of its own;
//! rows in the store, where 9,000 points a second would be all that it does.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod block;
mod codec;
mod error;
mod history;
mod recent;
mod tier;

pub use block::{Block, Chunk, ReadAt, Saved};
pub use error::SeriesError;
pub use history::{Config, Found, FoundSeries, History, Select, Stats};
pub use recent::{Latest, Written};
pub use tier::{Point, Tier};
