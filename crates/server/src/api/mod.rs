//! The REST API, on loopback (or TLS) and on the Unix socket.
//!
//! - [`table`]: every route once: method, path, what it needs, what it takes and gives. Router,
//!   OpenAPI document and the test that no route is without a check all read it;
//! - [`guard`]: Host and Origin, who asks, whether they may; [`principal`]: who that is;
//!   [`cookie`]: the session of a browser;
//! - [`serve`]: the listeners; [`console`]: the files of the web console;
//! - [`extract`], [`error`]: bodies, queries and names in; refusals out, always as `ErrorBody`;
//! - one file for each subject: [`cluster`], [`tokens`], [`users`], [`login`] with [`pages`] and [`link`], [`projects`],
//!   [`nodes`], [`ranking`], [`compose`], [`stacks`] with [`deploy`], [`diff`] and [`validate`], [`workloads`], [`allocations`], [`streams`],
//!   [`secrets`], [`watch`], [`events`], [`alerts`], [`backups`], [`builds`].

mod alerts;
pub(crate) mod allocations;
pub(crate) mod backups;
pub(crate) mod builds;
pub(crate) mod cluster;
mod compose;
mod console;
pub(crate) mod cookie;
pub(crate) mod deploy;
pub(crate) mod diff;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod extract;
pub(crate) mod guard;
pub(crate) mod images;
mod jobs;
mod link;
pub(crate) mod login;
pub(crate) mod nodes;
pub mod openapi;
pub(crate) mod pages;
pub(crate) mod pins;
pub(crate) mod pools;
pub(crate) mod principal;
pub(crate) mod projects;
pub(crate) mod ranking;
pub(crate) mod rollout;
pub(crate) mod schedules;
mod secrets;
pub(crate) mod serve;
pub(crate) mod stacks;
pub(crate) mod streams;
pub(crate) mod table;
pub(crate) mod tokens;
pub(crate) mod trees;
pub(crate) mod users;
pub(crate) mod validate;
pub(crate) mod views;
pub(crate) mod watch;
pub(crate) mod workloads;
