//! One registry of typed ids: a [`NodeId`] cannot be passed where an [`AllocationId`] is meant.
//!
//! An id never changes and is never used again; what people type are names
//! ([`crate::name`]) or the first characters of an id.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that the caller drew; this crate has no randomness.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// A version 4 UUID from 128 random bits.
            pub fn from_random(bits: u128) -> Self {
                Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
            }

            /// The UUID itself.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The first eight hexadecimal digits: enough for people, not for programs.
            pub fn short(self) -> String {
                self.0.simple().to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

ids! {
    /// One control plane with its store; stays the same through restores.
    ClusterId,
    /// A computer, given at its first enrolment and tied to its key.
    NodeId,
    /// A deployed stack; a stack deleted and deployed again is another one.
    StackId,
    /// One placed instance of a workload on a node.
    AllocationId,
    /// A named volume with its data.
    VolumeId,
    /// A network of a stack.
    NetworkId,
    /// A join token or an API token.
    TokenId,
    /// One attempt to change something, kept so that a lost reply can be settled.
    RequestId,
}
