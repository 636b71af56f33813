//! Whether somebody types: the access times of terminals, which the kernel moves with each input
//! (in steps of eight seconds), as `w` shows them. It sees consoles and sessions over SSH, and not who
//! only moves a mouse; where there is a session manager, that is asked first.

use super::{entries, name};
use lattice_model::{Duration, Timestamp};
use lattice_rules::Reading;
use std::{fs, path::Path, time::UNIX_EPOCH};

pub(crate) fn idle(root: &Path, now: Timestamp) -> Reading<Duration> {
    let consoles = entries(&root.join("dev")).unwrap_or_default().into_iter().filter(|path| {
        name(path).strip_prefix("tty").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    let remote = entries(&root.join("dev/pts")).unwrap_or_default().into_iter();
    let remote = remote.filter(|path| name(path).bytes().all(|b| b.is_ascii_digit()));
    let used = consoles.chain(remote).filter_map(|path| {
        let used = fs::metadata(path).ok()?.accessed().ok()?.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(used.as_millis()).ok()
    });
    match used.max() {
        Some(last) => Reading::Known(now.since(Timestamp(last))),
        None => Reading::unknown("there is no session manager and no terminal to tell it"),
    }
}
