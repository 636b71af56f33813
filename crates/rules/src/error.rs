//! Why rules are refused.

/// Rules that cannot be taken; each message names the key and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// The text is not TOML, or has a key that nobody knows.
    #[error("line {line}: {problem}")]
    Unreadable {
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A value that makes no sense by itself.
    #[error("{key}: {problem}")]
    Value {
        /// Which, as `section.key`.
        key: &'static str,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// Two answers to one question.
    #[error("{one} and {other} contradict each other: {why}; leave one of them out")]
    Contradiction {
        /// The first.
        one: &'static str,
        /// The second.
        other: &'static str,
        /// Why not both.
        why: &'static str,
    },
    /// Nothing could ever run.
    #[error("{key}: {why}; to lend nothing for a while, use `lattice-agent pause`")]
    Nothing {
        /// Which.
        key: &'static str,
        /// Why that is nothing.
        why: &'static str,
    },
}

impl RulesError {
    pub(crate) fn value(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Value { key, problem: problem.into() }
    }
}
