//! Backups of the control plane: everything that a server needs to come back on an empty machine
//! (rows, master key, settings, blobs), encrypted, in a folder or an object store.
//!
//! Where to enter:
//! 1. [`write`] and [`read`] are the format, over any bytes: they know no place, no clock and no server;
//! 2. [`Place`] is a folder or a bucket; [`save`] and [`load`] move backups in and out of it, [`list`]
//!    says what is there and whether it is whole, [`prune`] keeps the newest;
//! 3. [`verify`] reads all of a backup and restores its rows into a scratch store.
//!
//! **The format.** A backup is two objects. `NAME.age` is an [age](https://age-encryption.org/v1) file
//! with a gzipped tar inside, so that `age -d NAME.age | tar xz` opens it without this program:
//!
//! | entry | what |
//! |---|---|
//! | `header.json` | first: [`Header`], with the version of the format |
//! | `keys/*.key` | the master key |
//! | `settings/*` | the server's configuration |
//! | `rows/00001.ndjson` … | the store's rows as of one revision, one JSON object a line |
//! | `blobs/…` | content-addressed files |
//! | `manifest.json` | last: [`Manifest`], with size and SHA-256 of each part, and counts |
//!
//! `NAME.json` is the [`Label`]: what the backup is of, in the clear, with the size and SHA-256 of the
//! encrypted file. It is written last: without it there is no backup, so one that was interrupted is never
//! listed as good.
//!
//! Encryption cannot be left out, as the master key is inside: [`Lock`] has no such variant. A passphrase
//! goes through scrypt; a recipient's key (`age1…`) lets a server write what it cannot read itself.
//!
//! Rejected: a format of our own with STREAM and argon2id (nobody else could open it on the worst day);
//! copying the database's file (says nothing to the other kind of store, and a part of it that is damaged
//! is not noticed); parts as objects of their own (a listing could then show half of a backup).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod format;
mod keep;
mod lock;
mod pipe;
mod place;
mod read;
mod rows;
mod shelf;
mod verify;
mod write;

pub use error::BackupError;
pub use format::{FORMAT, Header, Label, Manifest, Part, Reason, name_of};
pub use keep::surplus;
pub use lock::{Key, Lock, MIN_PASSPHRASE, Passphrase, Session, passphrase};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use place::{Folder, Object, Place, PlaceOptions, S3};
pub use read::{Contents, read, transcode};
pub use rows::digest;
pub use shelf::{Found, State, list, load, prune, save};
pub use verify::{Verified, verify};
pub use write::{Dump, SecretFile, write};
