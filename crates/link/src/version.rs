//! Which protocol two sides speak, and whether an agent is new enough. Pure.

use crate::message::ProtocolRange;

/// What this build speaks.
pub const PROTOCOL: ProtocolRange = ProtocolRange { min: 1, max: 1 };

/// Two sides without a protocol in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no protocol in common: this side speaks {} to {}, the other side {} to {}",
    ours.min, ours.max, theirs.min, theirs.max
)]
pub struct NoCommonProtocol {
    /// Of whoever negotiates.
    pub ours: ProtocolRange,
    /// Of the other side.
    pub theirs: ProtocolRange,
}

impl NoCommonProtocol {
    /// Who has to be updated, as said by the server to the agent.
    pub const fn hint(&self) -> &'static str {
        if self.theirs.min > self.theirs.max {
            "the other side's range is empty; reinstall it"
        } else if self.theirs.max < self.ours.min {
            "update the agent"
        } else {
            "update the server"
        }
    }
}

/// The highest protocol that both sides speak.
///
/// # Errors
/// [`NoCommonProtocol`] when there is none, or a range is empty.
pub fn negotiate(ours: ProtocolRange, theirs: ProtocolRange) -> Result<u32, NoCommonProtocol> {
    let best = ours.max.min(theirs.max);
    let fits = |range: ProtocolRange| (range.min..=range.max).contains(&best);
    if fits(ours) && fits(theirs) { Ok(best) } else { Err(NoCommonProtocol { ours, theirs }) }
}

/// Whether an agent's version is at least the minimum, by semantic versioning. What is not a
/// version is not new enough; an unreadable minimum lets nobody through, since somebody wanted one.
pub fn agent_version_ok(agent: &str, minimum: &str) -> bool {
    match (semver::Version::parse(agent), semver::Version::parse(minimum)) {
        (Ok(agent), Ok(minimum)) => agent >= minimum,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_common_protocol_wins(a in 0u32..12, b in 0u32..12, c in 0u32..12, d in 0u32..12) {
            let (ours, theirs) = (ProtocolRange { min: a, max: b }, ProtocolRange { min: c, max: d });
            let common = (0..12).rev().find(|p| (a..=b).contains(p) && (c..=d).contains(p));
            prop_assert_eq!(negotiate(ours, theirs).ok(), common);
            prop_assert_eq!(negotiate(theirs, ours).ok(), common);
        }
    }

    #[test]
    fn versions_compare_as_versions() {
        assert!(agent_version_ok("0.10.0", "0.9.9"));
        assert!(agent_version_ok("1.0.0", "1.0.0"));
        assert!(!agent_version_ok("1.0.0-rc.1", "1.0.0"));
        assert!(!agent_version_ok("", "1.0.0"));
        assert!(!agent_version_ok("1.0.0", "newest"));
    }

    #[test]
    fn the_hint_names_who_is_old() {
        let ours = ProtocolRange { min: 3, max: 5 };
        let old = negotiate(ours, ProtocolRange { min: 1, max: 2 }).unwrap_err();
        let new = negotiate(ours, ProtocolRange { min: 6, max: 9 }).unwrap_err();
        assert_eq!((old.hint(), new.hint()), ("update the agent", "update the server"));
    }
}
