//! A Compose file becomes a [`lattice_model::spec::StackSpec`], or a list of [`Problem`]s, each
//! with file, line, column, a reason and what to do instead.
//!
//! Enter at [`load`]. Five layers, each usable by the next: `yaml` (events of `saphyr-parser` to
//! a tree with positions; anchors, merge keys and every limit on size), `interpolate`
//! (`${NAME:-default}` in values) with [`parse_env`] for `.env` text, `gather` with `merge` (several
//! files, `include` and `extends` become one tree), `stack`/`service` (keys to the model's words, by
//! the tables in `keys`; what is not understood is refused by name), and `check` (what only the
//! whole file shows: references, cycles, colliding ports).
//!
//! Pure: texts, the environment and the contents of `.env` come in as arguments, further files
//! through [`Files`]. What a deployment needs beside its specification (images to build, files to
//! pack, secrets to set) comes out as data in [`Loaded`].
//!
//! Rejected: deserialising with serde, since positions and the list of *all* problems are lost;
//! ignoring unknown keys with a warning, since a file would then run as something else than it
//! says; a general YAML tree crate, since none keeps the positions of keys and bounds the
//! expansion of aliases.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod asks;
mod build;
mod check;
mod deploy;
mod dotenv;
mod files;
mod gather;
mod guess;
mod interpolate;
mod keys;
mod load;
mod merge;
mod mounts;
mod ports;
mod problem;
mod process;
mod read;
mod scalar;
mod schedule;
mod secrets;
mod service;
mod service_parts;
mod stack;
mod trees;
mod update;
mod variables;
mod yaml;

pub use build::{Build, BuildSecret};
pub use dotenv::{EnvFile, parse_env};
pub use files::{FileFault, Files, Found, NoFiles, Text};
pub use guess::looks_secret;
pub use keys::{KeyNote, key_notes};
pub use load::{
    Loaded, Options, SecretSource, Source, TreeContent, TreeSource, load, normalize_project_name,
};
pub use problem::{Code, ComposeErrors, MAX_PROBLEMS, Problem, Severity};
pub use yaml::{MAX_BYTES, MAX_DEPTH, MAX_NODES};
