//! The pools whose nodes may run something, the best first: [`Pools`].

use crate::name::{InvalidName, PoolName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The pools whose nodes may run something, in order of preference; none named is the default pool. Written as one
/// name or as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "OneOrSeveral", into = "OneOrSeveral")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = OneOrSeveral))]
pub struct Pools(Vec<PoolName>);

/// As pools are written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
enum OneOrSeveral {
    /// This one.
    One(PoolName),
    /// The first that has room.
    Several(Vec<PoolName>),
}

/// Why a list of pools is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPools {
    /// It is empty.
    #[error("the list of pools is empty; name one, or leave it out for the default pool")]
    None,
    /// It is too long.
    #[error("{0} pools are named, and at most {max} may be", max = Pools::MOST)]
    TooMany(usize),
    /// One is there twice.
    #[error("the pool {0} is named twice; name each once, the best first")]
    Twice(PoolName),
    /// One is no name.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Pools {
    /// The most that may be named.
    pub const MOST: usize = 8;

    /// From names, the best first.
    ///
    /// # Errors
    /// When there are none or too many, or one is there twice.
    pub fn new(names: Vec<PoolName>) -> Result<Self, InvalidPools> {
        if names.is_empty() {
            return Err(InvalidPools::None);
        }
        if names.len() > Self::MOST {
            return Err(InvalidPools::TooMany(names.len()));
        }
        match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            Some((_, twice)) => Err(InvalidPools::Twice(twice.clone())),
            None => Ok(Self(names)),
        }
    }

    /// Whether nothing was said.
    pub fn is_unsaid(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, the best first; at least one.
    pub fn names(&self) -> Vec<PoolName> {
        if self.0.is_empty() { vec![PoolName::default_pool()] } else { self.0.clone() }
    }

    /// The best one.
    pub fn first(&self) -> PoolName {
        self.0.first().cloned().unwrap_or_else(PoolName::default_pool)
    }

    /// Whether a pool is one of them.
    pub fn contains(&self, pool: &PoolName) -> bool {
        self.0.contains(pool) || self.0.is_empty() && *pool == PoolName::default_pool()
    }

    /// `the pool eu`, or `the pools eu, us`.
    pub fn in_words(&self) -> String {
        let pools = if self.0.len() > 1 { "pools" } else { "pool" };
        format!("the {pools} {self}")
    }

    /// What agents are told, which have no use for it and in earlier versions know one name alone.
    #[must_use]
    pub fn for_agents(&self) -> Self {
        Self(self.0.first().cloned().into_iter().collect())
    }
}

impl From<PoolName> for Pools {
    fn from(name: PoolName) -> Self {
        Self(vec![name])
    }
}

impl TryFrom<OneOrSeveral> for Pools {
    type Error = InvalidPools;

    fn try_from(written: OneOrSeveral) -> Result<Self, InvalidPools> {
        match written {
            OneOrSeveral::One(name) => Ok(name.into()),
            OneOrSeveral::Several(names) => Self::new(names),
        }
    }
}

impl From<Pools> for OneOrSeveral {
    fn from(pools: Pools) -> Self {
        match <[PoolName; 1]>::try_from(pools.0) {
            Ok([one]) => Self::One(one),
            Err(several) => Self::Several(several),
        }
    }
}

/// As on the command line: `eu,us`.
impl FromStr for Pools {
    type Err = InvalidPools;

    fn from_str(text: &str) -> Result<Self, InvalidPools> {
        let names: Result<_, InvalidName> = text.split(',').map(|name| name.trim().parse()).collect();
        Self::new(names?)
    }
}

/// `eu`, or `eu, us`.
impl fmt::Display for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        f.write_str(&names.iter().map(PoolName::as_str).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_a_text_and_several_are_a_list() {
        for (written, shown) in [(r#""eu""#, "eu"), (r#"["eu","us"]"#, "eu, us")] {
            let pools: Pools = serde_json::from_str(written).unwrap();
            assert_eq!(serde_json::to_string(&pools).unwrap(), written);
            assert_eq!(pools.to_string(), shown);
            assert_eq!(pools.to_string().parse(), Ok(pools.clone()));
            assert!(matches!(pools.in_words().as_str(), "the pool eu" | "the pools eu, us"));
        }
        assert_eq!(serde_json::from_str::<Pools>(r#"["eu"]"#).unwrap(), "eu".parse().unwrap());
    }

    #[test]
    fn nothing_said_is_the_default_pool() {
        let unsaid = Pools::default();
        assert_eq!(unsaid.names(), [PoolName::default_pool()]);
        assert!(unsaid.contains(&PoolName::default_pool()));
    }

    #[test]
    fn what_is_no_list_of_pools_says_why() {
        let refused = |text: &str| text.parse::<Pools>().unwrap_err().to_string();
        assert!(refused("eu,eu").contains("named twice"));
        assert!(refused("a,b,c,d,e,f,g,h,i").contains("at most 8"));
        assert!(matches!("eu,".parse::<Pools>(), Err(InvalidPools::Name(_))));
        assert!(serde_json::from_str::<Pools>("[]").is_err());
    }
}
