//! What a node's owner has it do, as the node says it: work, or stand still and why. It is the
//! owner's word and no fault: nothing is alarmed, and what can run elsewhere does.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node does at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StandingState {
    /// It works, and takes new work.
    #[default]
    Working,
    /// What runs goes on until it ends; nothing new is taken.
    Finishing,
    /// Its owner's rules let nothing run.
    Suspended,
    /// It said that it goes to sleep.
    Asleep,
    /// It said that it is shut down, or that its agent is.
    Away,
}

impl StandingState {
    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Finishing => "finishing",
            Self::Suspended => "suspended",
            Self::Asleep => "asleep",
            Self::Away => "away",
        }
    }
}

impl fmt::Display for StandingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a node does, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Standing {
    /// What it does.
    pub state: StandingState,
    /// Why, for programs: a code such as `outside_hours`; absent while it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when, by the node's clock.
    #[serde(default)]
    pub since: Timestamp,
    /// When it expects to do otherwise, by the node's clock: the end of a suspension, of the hours in
    /// which it works, or of its battery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Standing {
    /// The most characters of a code.
    pub const MAX_REASON: usize = 64;
    /// The most characters of a sentence.
    pub const MAX_WHY: usize = 512;

    /// Whether new work may be placed there.
    pub const fn takes_work(&self) -> bool {
        matches!(self.state, StandingState::Working)
    }

    /// Whether nothing runs there, as it said itself.
    pub const fn stands_still(&self) -> bool {
        matches!(self.state, StandingState::Suspended | StandingState::Asleep | StandingState::Away)
    }

    /// Whether its absence was announced.
    pub const fn is_announced(&self) -> bool {
        matches!(self.state, StandingState::Asleep | StandingState::Away)
    }

    /// What it does, as it fits into a sentence about the node.
    pub fn in_words(&self) -> String {
        match (self.state, &self.reason) {
            (StandingState::Suspended, Some(reason)) => format!("suspended by its owner ({reason})"),
            (state, _) => state.to_string(),
        }
    }

    /// What came over a wire, cut to what fits into a row and a line.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let cut = |text: &mut Option<String>, most: usize| {
            if let Some(text) = text {
                *text = text.chars().filter(|c| !c.is_control()).take(most).collect();
            }
        };
        cut(&mut self.reason, Self::MAX_REASON);
        cut(&mut self.why, Self::MAX_WHY);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_is_bounded() {
        let long = Standing {
            state: StandingState::Suspended,
            reason: Some("x\n\u{1b}[31m".into()),
            why: Some("y".repeat(9000)),
            ..Standing::default()
        };
        let cut = long.bounded();
        assert_eq!(cut.reason.as_deref(), Some("x[31m"));
        assert_eq!(cut.why.map(|why| why.len()), Some(Standing::MAX_WHY));
        assert_eq!(serde_json::to_string(&StandingState::Asleep).unwrap(), "\"asleep\"");
    }
}
