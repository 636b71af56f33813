//! A Docker engine behind the port, over an explicit socket and never the default context.
//! Enter at [`Docker`].
//!
//! | file | what |
//! |---|---|
//! | `client` | [`Docker`]: the calls of the port |
//! | `wire` | HTTP over the socket, and what bollard is not used for |
//! | `exec` | a running command's terminal and exit code |
//! | `stream` | events, logs and exec as they come |
//! | `cache` | which containers have to be inspected again |
//! | `create`, `body` | makes containers; the model's words into Docker's, and what hardens them |
//! | `pull` | fetches images |
//! | `image` | what images there are, archives of images, what registries say |
//! | `files`, `porter` | files of containers, and whole volumes, as archives |
//! | `projects` | what a person has on an engine by Docker Compose, for `lattice import` |
//! | `census` | which nodes have something here, and how large volumes are |
//! | `words` | Docker's words into the model's |
//! | `fault` | Docker's messages into [`RuntimeError`](crate::RuntimeError) |
//!
//! bollard gives the types and the plain calls. Its own transport and stream decoders are not
//! used: they log request bodies (environments with secrets) at debug, take a terminal's bytes
//! for frame headers (a container could make the agent buffer 4 GiB), hide when a subscription
//! to events was accepted, and cannot ask an old engine to refuse a second network of one name.
//! Rejected: the `docker` command (a process per call), and containerd (the owner's `docker ps`
//! would not show what runs on his machine).

mod body;
mod build;
mod cache;
mod census;
mod client;
mod create;
mod exec;
mod fault;
mod files;
mod image;
mod porter;
mod projects;
mod pull;
mod stream;
mod wire;
mod words;

pub use client::Docker;
pub use projects::{ComposeContainer, ComposeMount, ComposeVolume, Projects};
