//! Container images that travel without a registry, in parts: a configuration, which its SHA-256
//! names (Docker's image id), and layers, each named by the SHA-256 of its unpacked archive as the
//! configuration lists them. So whoever has the id has checked everything.
//!
//! - [`split`] takes apart what an engine saves: the sender asks for the layers that are lacking;
//! - [`compress`] and [`Frame`] are how a layer travels and is kept: one frame of zstd that says how
//!   much comes out of it. [`check`] is the server's look at one, [`MAX_LAYER`] bounds it;
//! - [`Config`] reads a configuration, [`Dockerfile`] what one is built from;
//! - [`archive`] puts together what an engine loads, without the layers that it has already;
//! - [`Pieces`] hands either on as it is written.
//!
//! Rejected: a registry in the server (an engine in a virtual machine does not reach a loopback
//! address, and others want TLS with an authority in their own store); OCI archives (Docker before 25
//! loads none); compressed digests, as registries have them (an engine compresses anew each time, so
//! the same layer would travel again); gzip (slower to unpack, which every node does).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod config;
mod dockerfile;
mod error;
mod frame;
mod pieces;
mod saved;

pub use archive::{Part, archive, known_layers, loaded_name};
pub use config::{Config, MAX_CONFIG, MAX_LAYERS, without_label};
pub use dockerfile::{Dockerfile, MAX_DOCKERFILE, OWN_DOCKERFILE};
pub use error::{ImageError, Result};
pub use frame::{Frame, LEVEL, MAX_LAYER, check, compress};
pub use pieces::Pieces;
pub use saved::{Saved, SavedLayer, split};
