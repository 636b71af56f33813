//! The owner's word on this machine: what may run, when, and the pause button.
//!
//! | file | what |
//! |---|---|
//! | `files` | `rules.toml` and `pause.json` in the agent's folder, read and replaced whole |
//! | `lend` | what two files say together: `agent.toml` the most, `rules.toml` no more than that |
//! | `warden` | the task that looks once a second, decides by [`lattice_rules`], and says so |
//! | `speed` | what the agent itself sends and fetches, no faster than the owner allows |
//! | `offline` | the same buttons while no agent runs |
//!
//! The warden tells the main loop ([`crate::event::Event::Owner`]), which stops and starts what runs; the
//! session, which tells the server; and the local API. It needs no server, and what it decides holds
//! whatever a server says. The first decision is made before anything runs.

mod files;
mod lend;
mod offline;
mod speed;
mod warden;

pub(crate) use files::word;
pub use files::{RulesFile, rules_of, save_rules, text_of};
pub(crate) use lend::Lent;
pub use offline::{Stopped, pause_offline, resume_offline};
pub(crate) use speed::keep_speed;
pub(crate) use warden::{Judgement, Order, Senses, Warden};
pub use warden::{OwnerStatus, PauseStatus};
