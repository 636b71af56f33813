//! What the owner said last: stop, or stop once jobs have ended. It outranks every rule and is kept
//! on disk by the shell.
//!
//! `--for 1h` is an hour of the machine's life, asleep or not: within one boot the boot clock counts,
//! so setting the wall clock changes nothing. After a reboot the wall clock has to do.

use crate::facts::Moment;
use lattice_model::{Duration, Timestamp};
use serde::{Deserialize, Serialize};

/// How the owner stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseKind {
    /// At once.
    Pause,
    /// Nothing new; jobs end first.
    Finish,
}

/// The owner's stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// How.
    pub kind: PauseKind,
    /// Since when, by the wall clock.
    pub since: Timestamp,
    /// When it ends by itself; absent is: when the owner says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<End>,
}

/// The end of a pause by both clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    wall: Timestamp,
    boot: Duration,
    boot_id: String,
}

impl Pause {
    /// From now on, for so long.
    pub fn new(kind: PauseKind, span: Option<Duration>, now: &Moment) -> Self {
        let end = |span: Duration| End {
            wall: now.wall + span,
            boot: Duration(now.boot.0.saturating_add(span.0)),
            boot_id: now.boot_id.clone(),
        };
        Self { kind, since: now.wall, until: span.map(end) }
    }

    /// The same once jobs have ended.
    #[must_use]
    pub fn finished(self) -> Self {
        Self { kind: PauseKind::Pause, ..self }
    }

    /// How long it lasts from now; zero is over, `None` for good.
    pub fn left(&self, now: &Moment) -> Option<Duration> {
        let End { wall, boot, boot_id } = self.until.as_ref()?;
        Some(if *boot_id == now.boot_id && !boot_id.is_empty() {
            Duration(boot.0.saturating_sub(now.boot.0))
        } else {
            wall.since(now.wall)
        })
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self, now: &Moment) -> bool {
        self.left(now).is_some_and(|left| left.0 == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_an_hour_whatever_the_wall_says() {
        let at =
            |wall, boot, id: &str| Moment { wall: Timestamp(wall), boot: Duration(boot), boot_id: id.into() };
        let hour = Duration::from_secs(3600);
        let pause = Pause::new(PauseKind::Pause, Some(hour), &at(1_000_000, 5000, "a"));
        assert!(!pause.is_over(&at(99_000_000_000, 3_604_999, "a")), "the wall clock jumped ahead");
        assert!(pause.is_over(&at(-1, 3_605_000, "a")), "and back");
        assert!(!pause.is_over(&at(4_599_999, 1, "b")), "after a reboot the wall counts");
        assert!(pause.is_over(&at(4_600_000, 1, "b")));
        assert!(!Pause::new(PauseKind::Finish, None, &at(0, 0, "a")).is_over(&at(i64::MAX, u64::MAX, "z")));
    }
}
