//! What cannot be read, or not be enforced.

/// Why there is no ruleset.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LanError {
    /// What `ip` said is not understood.
    #[error(
        "what `ip -json {what}` said is not understood; iproute2 5 or newer is needed, so install a newer one"
    )]
    Unreadable {
        /// Which of its lists.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A machine that routes half the internet by itself.
    #[error(
        "this machine has {found} routes of its own and {most} can be closed; where it is to run containers all the same, \
         set lan.access = \"open\" in the rules"
    )]
    TooMany {
        /// How many ranges there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
}
