//! Which nodes a workload may run on, and how its replicas spread over them.

use crate::unit::Bytes;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Where replicas may be (Compose's `deploy.placement`; the pool stands beside it).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PlacementSpec {
    /// Each has to hold of a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub constraints: Vec<Constraint>,
    /// Replicas are spread evenly over the values of these, the first counting most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub spread: Vec<NodeAttribute>,
    /// The most replicas on one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
    /// Of what runs on a node that is short of memory, the lowest makes way first; 0 unless said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i16,
}

const fn is_zero(n: &i16) -> bool {
    *n == 0
}

impl PlacementSpec {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Something that has to hold of a node: `node.labels.disk == ssd`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    /// What of the node.
    pub attribute: NodeAttribute,
    /// Whether it has to be the value, or has to be another.
    pub equal: bool,
    /// Whether more than the value will do too. Of memory and number of GPUs alone.
    pub at_least: bool,
    /// The value, compared as text without regard to case, as Swarm does.
    pub value: String,
}

/// Something of a node that has a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NodeAttribute {
    /// `node.id`.
    Id,
    /// `node.hostname`: what people call the node.
    Name,
    /// `node.platform.os`.
    Os,
    /// `node.platform.arch`, as the machine or as Docker names it.
    Arch,
    /// `node.pool`.
    Pool,
    /// `node.owner`.
    Owner,
    /// `node.lan`: `closed` where containers do not reach the network of the node's owner.
    Lan,
    /// `node.labels.KEY`; absent is the empty text.
    Label(String),
    /// `node.gpu.model`: of a GPU that the node lends; words of it will do.
    GpuModel,
    /// `node.gpu.memory`: of a GPU that the node lends.
    GpuMemory,
    /// `node.gpu.count`: the GPUs that the node lends.
    GpuCount,
}

/// Why a text is no constraint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no constraint on nodes; write node.id, node.hostname, node.platform.os, node.platform.arch, node.pool, node.owner, node.lan, node.gpu.model or node.labels.KEY, then == or !=, then a value; or node.gpu.memory or node.gpu.count, then ==, != or >=, then how much"
)]
pub struct InvalidConstraint(String);

impl InvalidConstraint {
    fn of(text: &str) -> Self {
        Self(text.chars().take(200).collect())
    }
}

impl FromStr for NodeAttribute {
    type Err = InvalidConstraint;

    fn from_str(text: &str) -> Result<Self, InvalidConstraint> {
        Ok(match text.trim() {
            "node.id" => Self::Id,
            "node.hostname" => Self::Name,
            "node.platform.os" => Self::Os,
            "node.platform.arch" => Self::Arch,
            "node.pool" => Self::Pool,
            "node.owner" => Self::Owner,
            "node.lan" => Self::Lan,
            "node.gpu.model" => Self::GpuModel,
            "node.gpu.memory" => Self::GpuMemory,
            "node.gpu.count" => Self::GpuCount,
            other => match other.strip_prefix("node.labels.") {
                Some(key)
                    if !key.is_empty() && key.len() <= 256 && key.chars().all(|c| c.is_ascii_graphic()) =>
                {
                    Self::Label(key.to_owned())
                }
                _ => return Err(InvalidConstraint::of(text)),
            },
        })
    }
}

impl fmt::Display for NodeAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("node.id"),
            Self::Name => f.write_str("node.hostname"),
            Self::Os => f.write_str("node.platform.os"),
            Self::Arch => f.write_str("node.platform.arch"),
            Self::Pool => f.write_str("node.pool"),
            Self::Owner => f.write_str("node.owner"),
            Self::Lan => f.write_str("node.lan"),
            Self::GpuModel => f.write_str("node.gpu.model"),
            Self::GpuMemory => f.write_str("node.gpu.memory"),
            Self::GpuCount => f.write_str("node.gpu.count"),
            Self::Label(key) => write!(f, "node.labels.{key}"),
        }
    }
}

impl FromStr for Constraint {
    type Err = InvalidConstraint;

    fn from_str(text: &str) -> Result<Self, InvalidConstraint> {
        // Whichever stands first is the operator; another belongs to the value.
        let operators = [("==", true, false), ("!=", false, false), (">=", true, true)];
        let first = operators
            .into_iter()
            .filter_map(|(sign, equal, at_least)| Some((text.find(sign)?, equal, at_least)));
        let (at, equal, at_least) = first.min().ok_or_else(|| InvalidConstraint::of(text))?;
        let (attribute, value) = (text[..at].parse()?, text[at + 2..].trim());
        let known = match attribute {
            NodeAttribute::GpuMemory => value.parse::<Bytes>().is_ok(),
            NodeAttribute::GpuCount => value.parse::<u32>().is_ok(),
            _ => !at_least,
        };
        if value.len() > 256 || !known {
            return Err(InvalidConstraint::of(text));
        }
        Ok(Self { attribute, equal, at_least, value: value.to_owned() })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match (self.at_least, self.equal) {
            (true, _) => ">=",
            (false, true) => "==",
            (false, false) => "!=",
        };
        write!(f, "{} {sign} {}", self.attribute, self.value)
    }
}

macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidConstraint;

            fn try_from(text: String) -> Result<Self, InvalidConstraint> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+};
}

as_text!(Constraint, NodeAttribute);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_come_back_as_they_were() {
        for text in [
            "node.labels.disk == ssd",
            "node.lan == closed",
            "node.hostname != attic",
            "node.platform.arch == x86_64",
            "node.gpu.model == RTX 4090",
            "node.gpu.memory >= 16g",
            "node.gpu.count != 2",
        ] {
            assert_eq!(text.parse::<Constraint>().unwrap().to_string(), text);
        }
        let odd: Constraint = "node.labels.a==b!=c".parse().unwrap();
        assert_eq!((odd.equal, odd.value.as_str()), (true, "b!=c"));
        for text in [
            "",
            "node.labels.",
            "engine.labels.x == 1",
            "node.id = 1",
            "disk == ssd",
            "node.hostname >= a",
            "node.gpu.memory >= much",
            "node.gpu.count == few",
            "node.gpu.model >= H100",
        ] {
            assert!(text.parse::<Constraint>().is_err(), "{text}");
        }
    }
}
