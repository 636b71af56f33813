//! When a job runs by itself. What an expression means is found out by `lattice-cron`; here are the words alone.

use crate::time::Duration;
use serde::{Deserialize, Serialize};

/// When a job runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The times, as cron has them: `MINUTE HOUR DAY MONTH WEEKDAY`, with a field of seconds before them where that is
    /// wanted, or `@hourly`, `@daily` and the like.
    pub cron: String,
    /// The time zone that they are meant in, by its IANA name.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    pub zone: String,
    /// What happens when a run is due while the one before goes on.
    #[serde(default, skip_serializing_if = "Overlap::is_skip")]
    pub overlap: Overlap,
    /// How late a run may begin that could not in time. What is later than that is missed.
    #[serde(default = "ten_minutes", skip_serializing_if = "is_ten_minutes")]
    pub catch_up: Duration,
    /// Whether it waits until this is deployed otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

/// What happens when a run is due while the one before goes on. There is no *allow*: a replica has one container at a
/// time, by which everything else names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The one that goes on is let go on; the other begins afterwards if it is not too late by then.
    #[default]
    Skip,
    /// The one that goes on is stopped.
    Replace,
}

impl Overlap {
    /// Whether it is [`Overlap::Skip`].
    pub const fn is_skip(&self) -> bool {
        matches!(self, Self::Skip)
    }

    /// As people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Replace => "replace",
        }
    }
}

impl Schedule {
    /// How late a run may begin unless something is said.
    pub const CATCH_UP: Duration = Duration::from_secs(600);

    /// The most that may be said.
    pub const MAX_CATCH_UP: Duration = Duration::from_secs(7 * 86_400);

    /// The most characters of an expression.
    pub const MAX_CRON: usize = 200;

    /// One of these times in UTC, with every default.
    pub fn of(cron: impl Into<String>) -> Self {
        let (zone, overlap, catch_up) = (utc(), Overlap::Skip, Self::CATCH_UP);
        Self { cron: cron.into(), zone, overlap, catch_up, suspended: false }
    }
}

fn utc() -> String {
    "UTC".into()
}

fn is_utc(zone: &str) -> bool {
    zone == "UTC"
}

const fn ten_minutes() -> Duration {
    Schedule::CATCH_UP
}

const fn is_ten_minutes(span: &Duration) -> bool {
    span.0 == Schedule::CATCH_UP.0
}
