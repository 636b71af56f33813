//! What a row is called ([`Key`]) and which state of it is meant ([`Revision`]).
//!
//! A kind is an inline, copyable string and not an enum: the store knows no resources, and a new
//! one must not touch this crate.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

const KIND_BYTES: usize = 32;

/// The type of a row, as `[a-z_]{1,32}`: `node`, `allocation`, `volume_snapshot`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    // Before `len`, and padded with zeros, so that the derived order is that of the text.
    bytes: [u8; KIND_BYTES],
    len: u8,
}

/// A text that is no [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind: kinds are 1 to 32 of the characters a-z and _")]
pub struct InvalidKind(String);

impl Kind {
    /// A kind that the program knows, best in a `const`, where a bad one fails the build.
    ///
    /// # Panics
    /// When `text` is not `[a-z_]{1,32}`; use [`FromStr`] for what comes from outside.
    pub const fn new(text: &str) -> Self {
        match Self::parse(text) {
            Some(kind) => kind,
            None => panic!("a kind is 1 to 32 of the characters a-z and _"),
        }
    }

    const fn parse(text: &str) -> Option<Self> {
        let from = text.as_bytes();
        if from.is_empty() || from.len() > KIND_BYTES {
            return None;
        }
        let mut bytes = [0; KIND_BYTES];
        let mut at = 0;
        while at < from.len() {
            if !(from[at].is_ascii_lowercase() || from[at] == b'_') {
                return None;
            }
            bytes[at] = from[at];
            at += 1;
        }
        Some(Self { bytes, len: from.len() as u8 })
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("a kind is ASCII by construction")
    }
}

impl FromStr for Kind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| InvalidKind(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({self})")
    }
}

/// The name of a row: unique among the rows that exist, and free again when the row is deleted.
///
/// The id is 1 to 256 bytes without control characters; [`crate::Store::apply`] refuses others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What sort of thing it is.
    pub kind: Kind,
    /// Which one.
    pub id: Arc<str>,
}

impl Key {
    /// The key of the row `id` of `kind`.
    pub fn new(kind: Kind, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into() }
    }

    /// The key for something that prints as its id, such as a typed id of the model.
    pub fn of(kind: Kind, id: impl fmt::Display) -> Self {
        Self::new(kind, id.to_string())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The number of a transaction, and with it of the state that it left: 0 is the empty store, and
/// each transaction that changes something takes the next number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The state of a new store.
    pub const ZERO: Self = Self(0);

    /// The revision after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_short_lower_case_words() {
        const NODE: Kind = Kind::new("node");
        assert_eq!(NODE.as_str(), "node");
        assert_eq!("volume_snapshot".parse::<Kind>().unwrap().to_string(), "volume_snapshot");
        for bad in ["", "Node", "a-b", "é", "a1", &"a".repeat(33)] {
            assert!(bad.parse::<Kind>().is_err(), "{bad:?}");
        }
        assert!(Kind::new(&"z".repeat(32)) > Kind::new("za"), "zz… sorts after za");
        assert!(Kind::new("a") < Kind::new("aa"));
    }
}
