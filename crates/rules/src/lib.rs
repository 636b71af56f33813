//! The owner's rules: when a machine works, for whom and how much. They are enforced on the node,
//! whatever a server says, and offline.
//!
//! Where to enter:
//! - [`Rules`] is what the owner wrote (`rules.toml`); [`Rules::check`] refuses what contradicts itself;
//! - [`decide()`] is the one decision: (rules, facts now, previous decision, pause) -> [`Verdict`];
//! - [`Reason`] lists why a machine may stand still, in the order in which one outranks the other;
//! - [`Preset`] is a whole set of answers by one word.
//!
//! Nothing here reads a clock, a file or a sensor. A fact that nobody could measure is
//! [`Reading::Unknown`]: a rule that rests on it suspends nothing, and the verdict names it.
//!
//! Rejected: one threshold for stop and start, by which a machine at the threshold would stop and
//! start all day; cron expressions for hours, which nobody's grandmother reads.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod amount;
mod battery;
mod decide;
mod error;
mod facts;
mod hours;
mod pause;
mod preset;
mod reason;
mod rules;

pub use amount::{Share, Span, Speeds};
pub use decide::{Latch, State, Suspension, Unsure, Verdict, Word, decide};
pub use error::RulesError;
pub use facts::{Facts, LanFact, Moment, PowerSource, Reading};
pub use hours::{Hours, Schedule, TimeRange};
pub use pause::{Pause, PauseKind};
pub use preset::Preset;
pub use reason::Reason;
pub use rules::{
    Access, Band, BatteryRule, Caps, Checked, Consent, Gpus, KeepAwake, LanRule, NetworkRule, OnMetered,
    PowerRule, Rules, RunOn, UserRule,
};
