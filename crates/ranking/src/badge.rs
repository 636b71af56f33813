//! What a node can earn. Each is a rule over its history alone, and stays once it is earned.

use crate::History;
use lattice_model::{Duration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node can earn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Badge {
    /// A week of kept days in a row.
    KeptWeek,
    /// A month of them.
    KeptMonth,
    /// A hundred of them.
    KeptHundred,
    /// The first month.
    FirstMonth,
    /// A thousand hours of work.
    Workhorse,
    /// It was missing, and made that good.
    CameBack,
}

/// A badge, and when it was earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earned {
    /// Which.
    pub badge: Badge,
    /// When.
    pub at: Timestamp,
}

impl Badge {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::KeptWeek,
        Self::KeptMonth,
        Self::KeptHundred,
        Self::FirstMonth,
        Self::Workhorse,
        Self::CameBack,
    ];
    /// So many kept days in a row make an absence good.
    pub(crate) const MADE_GOOD: u32 = 7;

    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeptWeek => "kept_week",
            Self::KeptMonth => "kept_month",
            Self::KeptHundred => "kept_hundred",
            Self::FirstMonth => "first_month",
            Self::Workhorse => "workhorse",
            Self::CameBack => "came_back",
        }
    }

    /// Its rule, in words.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::KeptWeek => "kept what it promised on 7 days in a row",
            Self::KeptMonth => "kept what it promised on 30 days in a row",
            Self::KeptHundred => "kept what it promised on 100 days in a row",
            Self::FirstMonth => "a member for 30 days, with 100 promised hours kept",
            Self::Workhorse => "work ran there in 1000 hours without its fault",
            Self::CameBack => "was missing for a day or longer, and kept 7 days in a row since",
        }
    }

    pub(crate) fn is_earned(self, history: &History, now: Timestamp) -> bool {
        match self {
            Self::KeptWeek => history.best >= 7,
            Self::KeptMonth => history.best >= 30,
            Self::KeptHundred => history.best >= 100,
            Self::FirstMonth => {
                now.since(history.first) >= Duration::from_secs(30 * 24 * 3600) && history.tally.kept >= 100
            }
            Self::Workhorse => history.tally.worked >= 1000,
            Self::CameBack => history.lapsed && history.streak >= Self::MADE_GOOD,
        }
    }
}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
