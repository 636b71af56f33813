//! The control plane's own backups and moves.
//!
//! - [`config`]: what `[backup]` of the configuration says;
//! - [`gather`]: everything that goes into a backup, from a server that runs or one that is stopped;
//! - [`schedule`]: the controller that makes them by itself;
//! - [`restore`]: an empty machine becomes the server again;
//! - [`moving`]: a stopped installation goes from one store to another.
//!
//! The format, its encryption and where backups lie are `lattice-backup`'s.

pub(crate) mod config;
mod gather;
mod moving;
mod restore;
pub(crate) mod schedule;

pub use config::BackupConfig;
pub use gather::dump_stopped;
pub(crate) use gather::gather;
pub(crate) use moving::refuse_moved;
pub use moving::{MoveSide, Moved, migrate, reopen};
pub(crate) use restore::{Mark, UNFINISHED};
pub use restore::{RestoreTo, Restored, restore};
