//! How good a node is: what it promised and kept, and how fast it was when it was measured.
//!
//! Enter at [`History`], which takes in what is seen of a node, at [`Runs`], which holds what was measured, and at
//! [`Score::of`], which makes one number from 0 to 1000 of both; [`Board`] compares nodes, by [`Class`] and over all, and
//! [`placement_weight`] is what placement gets. The formula in words, with what cannot be gamed and why, is
//! `docs/ranking.md`.
//!
//! Where it comes from:
//! - *reliability* is the lower end of a confidence interval, so that little evidence counts for little: E. B. Wilson,
//!   "Probable inference, the law of succession, and statistical inference", JASA 22, 1927 ([`wilson`]);
//! - a newcomer begins with dues, as bad as the worst member could be, so that nobody gains by becoming another one:
//!   E. Friedman, P. Resnick, "The social cost of cheap pseudonyms", J. Economics & Management Strategy 10, 2001
//!   ([`Trust`]);
//! - *speed* is the geometric mean of ratios to a reference, of medians of several runs, as SPEC does: P. Fleming,
//!   J. Wallace, "How not to lie with statistics: the correct way to summarize benchmark results", CACM 29, 1986
//!   ([`Figures`]).
//!
//! Rejected: points for each job that ended well (whoever deploys a thousand small ones would buy them: an hour is one
//! trial, however much ran in it); what a machine says of itself (it only decides what is asked of it); a score relative
//! to the others (it would change while nothing happened; [`Board`] has places for that).

mod badge;
mod board;
mod class;
mod history;
mod runs;
mod score;
mod trust;

pub use badge::{Badge, Earned};
pub use board::{Board, Entry, Place};
pub use class::Class;
pub use history::{GRACE, History, Sight};
pub use runs::{Figures, GpuSpeed, Mark, REFERENCE, REFERENCE_GPU, Run, Runs};
pub use score::{MOST, Part, PartKind, Score, placement_weight};
pub use trust::{Trust, wilson};
