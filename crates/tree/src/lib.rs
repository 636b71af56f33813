//! Trees: files that travel with a deployment, as a tar archive that its SHA-256 names.
//!
//! - [`Packer`] and [`pack_folder`] make one, the same bytes from the same files;
//! - [`check`] says whether an archive is one that may be unpacked anywhere: the server asks it of
//!   what is uploaded, and the node again of what it fetched;
//! - [`unpack`] writes one into a new folder;
//! - [`pack_context`] packs what an image is built from, without what [`Ignore`] names; [`with_files`] passes an
//!   archive on with other contents of some files.
//!
//! An archive holds regular files, folders and symbolic links that stay inside; no devices, no hard
//! links, no absolute paths and no `..` that leads out, at most [`MAX_ENTRIES`] entries and
//! [`MAX_BYTES`] bytes. Nothing lies below a link, so unpacking never follows one.
//!
//! Rejected: compression (the same files would have several digests, and a bomb would need bounds of
//! its own); tar's own unpacking (it repairs what should be refused, and follows links that it made).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
mod error;
mod ignore;
mod pack;
mod replace;
#[cfg(unix)]
mod unpack;

pub use check::{MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, Summary, check};
pub use error::{Result, TreeError};
pub use ignore::Ignore;
pub use pack::{Packer, Tree, pack_context, pack_folder};
pub use replace::{read_file, with_files};
#[cfg(unix)]
pub use unpack::{remove, unpack};
