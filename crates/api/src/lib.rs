//! Wire types of the REST API, and its paths: the one place that the server and every client
//! share.
//!
//! - [`paths`]: every route once, as a template for the server and as a builder for clients;
//! - [`error`]: the body of every refusal;
//! - [`cluster`]: status, tokens, events, audit, watch;
//! - [`node`]: computers, from the request to join to their removal;
//! - [`stack`]: stacks, workloads, volumes, secrets, and what a deployment answers;
//! - [`compose`]: Compose files, read by the server;
//! - [`alert`]: what deserves a person's attention;
//! - [`backup`]: backups of the control plane;
//! - [`job`]: runs of jobs;
//! - [`rank`]: how good nodes are;
//! - [`project`]: projects and their quotas;
//! - [`user`]: people, their roles and logins;
//! - [`allocation`]: placed instances, their logs, and commands inside of them.
//!
//! Every instant is an integer of milliseconds since 1970-01-01T00:00:00Z, every span an integer
//! of milliseconds. Unknown fields in a request are refused; unknown fields in an answer are to be
//! ignored, since a newer server may say more.
//!
//! Pure: views are made from the model's rows by `of` functions that take what only the present
//! knows (names, load, presence) as arguments. Rejected: serving the stored rows themselves, which
//! would tie the store's format to every client.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod alert;
pub mod allocation;
pub mod backup;
mod build;
pub mod cluster;
pub mod compose;
pub mod error;
mod event;
mod explain;
pub mod image;
mod job;
pub mod node;
pub mod paths;
pub mod pool;
pub mod project;
pub mod rank;
mod rights;
pub mod rollout;
mod secret;
pub mod stack;
pub mod user;
mod volume;
mod workload;

pub use alert::*;
pub use allocation::*;
pub use backup::*;
pub use build::{BuildRecord, BuildStart};
pub use cluster::*;
pub use compose::*;
pub use error::{ErrorBody, ErrorCode, Problem};
pub use event::*;
pub use explain::*;
pub use image::{ImageView, LayerView, MAX_IMAGE_CONFIG_BYTES};
pub use job::*;
pub use node::*;
pub use pool::*;
pub use project::*;
pub use rank::*;
pub use rights::Rights;
pub use rollout::*;
pub use secret::*;
pub use stack::*;
pub use user::*;
pub use volume::*;
pub use workload::*;
