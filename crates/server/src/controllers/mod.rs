//! What the server does by itself.
//!
//! - [`leader`]: holds the lease without which nothing is planned;
//! - [`planning`]: plans what changed, and carries the plan out;
//! - [`goals`]: what a node is told;
//! - [`presence`]: what is known about nodes after a start;
//! - [`alerting`]: what deserves a person's attention;
//! - [`availability`]: who stays, learned from who came and went;
//! - [`ranking`]: how good nodes are, by what was seen and measured;
//! - [`measuring`]: measures them;
//! - [`pools`]: nodes go to the pools whose rules hold of them;
//! - [`servers`]: which other servers of the store live;
//! - [`people`]: sessions, invitations and logins by code that are over; logins that failed;
//! - [`housekeeping`]: bounds of what grows, and certificates in time;
//! - [`trees`]: uploaded files that nothing names any more;
//! - [`images`]: uploaded images that nothing names any more.
//!
//! Each is a loop that is woken by changes and by time, and can be stopped anywhere: what it does
//! next follows from the store alone.

pub(crate) mod alerting;
pub(crate) mod availability;
pub(crate) mod goals;
pub(crate) mod housekeeping;
pub(crate) mod images;
pub(crate) mod leader;
pub(crate) mod measuring;
pub(crate) mod people;
pub(crate) mod planning;
pub(crate) mod pools;
pub(crate) mod presence;
pub(crate) mod ranking;
pub(crate) mod servers;
pub(crate) mod trees;

pub(crate) use leader::LEASE as LEADER;
