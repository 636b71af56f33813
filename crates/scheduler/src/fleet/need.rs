//! What is asked for: [`Need`], room and rules.
//!
//! Asks that are equal share what was found out about the nodes, so a need says nothing about who asks: what an
//! allocation is known by (its tags) is given beside it.

use super::room::Room;
use crate::filter::PortClaim;
use semver::{Version, VersionReq};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// What one allocation asks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Need {
    /// What is set aside for it.
    pub room: Room,
    /// The GPUs that it gets.
    pub gpus: Option<GpuNeed>,
    /// The ports of the node that it takes.
    pub ports: Vec<PortClaim>,
    /// What has to hold of the node.
    pub rules: Vec<Term>,
    /// What makes a node better, with how much.
    pub prefers: Vec<(Term, i32)>,
    /// The taints that it bears.
    pub tolerates: Vec<Toleration>,
    /// Whom it wants near, or not.
    pub near: Vec<Near>,
    /// Over what it is spread.
    pub spread: Vec<Spread>,
    /// Who has to make way for whom: the lower for the higher.
    pub priority: i16,
}

/// GPUs that are asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuNeed {
    /// How many; several are whole ones.
    pub count: u16,
    /// Thousandths of the one that is asked for.
    pub share: u16,
    /// The models that will do; empty is any.
    pub models: Vec<String>,
    /// Bytes of memory that each has at least.
    pub memory: u64,
}

impl GpuNeed {
    /// Whole GPUs of any model.
    pub fn whole(count: u16) -> Self {
        Self { count, share: WHOLE, models: Vec::new(), memory: 0 }
    }

    /// A part of one GPU of any model, in thousandths.
    pub fn part(share: u16) -> Self {
        Self { count: 1, share, models: Vec::new(), memory: 0 }
    }

    /// What each of them takes: all of it where there are several.
    pub fn each(&self) -> u16 {
        if self.count == 1 { self.share.min(WHOLE) } else { WHOLE }
    }

    /// What they take together, in thousandths of one.
    pub fn sum(&self) -> u64 {
        u64::from(self.count) * u64::from(self.each())
    }
}

/// A whole GPU, in thousandths.
pub const WHOLE: u16 = 1000;

/// Something that holds of a node or does not: `region in (eu, us)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// The attribute: `region`, `site`, `owner`, `os`, `arch`, `runtime`, `fence`, `gpu.model`, `labels.KEY`, …
    pub key: String,
    /// What has to be true of its value.
    pub test: Test,
}

/// What has to be true of a value. A node without the attribute passes [`Test::NotIn`] and [`Test::Absent`] alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// It is one of these; of one, that it is this.
    In(BTreeSet<String>),
    /// It is none of these.
    NotIn(BTreeSet<String>),
    /// There is one.
    Exists,
    /// There is none.
    Absent,
    /// It is a whole number above this.
    Above(i64),
    /// It is a whole number below this.
    Below(i64),
    /// It is a version that meets this.
    Version(VersionReq),
}

impl Term {
    /// `key = value`.
    pub fn is(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), test: Test::In(BTreeSet::from([value.into()])) }
    }

    /// Whether it holds of a node with these attributes.
    pub fn holds(&self, attributes: &BTreeMap<String, String>) -> bool {
        let value = attributes.get(&self.key).map(String::as_str);
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Above(than) => number().is_some_and(|number| number > *than),
            Test::Below(than) => number().is_some_and(|number| number < *than),
            Test::Version(wanted) => {
                value.and_then(|v| v.parse::<Version>().ok()).is_some_and(|v| wanted.matches(&v))
            }
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(", ");
        match &self.test {
            Test::In(values) if values.len() == 1 => write!(f, "{key} = {}", list(values)),
            Test::NotIn(values) if values.len() == 1 => write!(f, "{key} != {}", list(values)),
            Test::In(values) => write!(f, "{key} in ({})", list(values)),
            Test::NotIn(values) => write!(f, "{key} not in ({})", list(values)),
            Test::Exists => write!(f, "{key} exists"),
            Test::Absent => write!(f, "{key} does not exist"),
            Test::Above(than) => write!(f, "{key} > {than}"),
            Test::Below(than) => write!(f, "{key} < {than}"),
            Test::Version(wanted) => write!(f, "{key} version {wanted}"),
        }
    }
}

/// Why a text is no term.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no term; write an attribute (region, arch, labels.disk), then = or != and a value, in or not in and (one, two), > or < and a whole number, version and a range like >=24, <26, or exists, or does not exist"
)]
pub struct InvalidTerm(String);

impl FromStr for Term {
    type Err = InvalidTerm;

    /// As it is displayed.
    fn from_str(text: &str) -> Result<Self, InvalidTerm> {
        let wrong = || InvalidTerm(text.chars().take(200).collect());
        let text = text.trim();
        let end = text.find(|c: char| c.is_whitespace() || "=!<>".contains(c)).ok_or_else(wrong)?;
        let (key, rest) = (&text[..end], text[end..].trim());
        let list = |rest: &str| {
            let inside = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
            let values: BTreeSet<String> = inside.split(',').map(|value| value.trim().to_owned()).collect();
            (!values.contains("")).then_some(values)
        };
        let one =
            |rest: &str| Some(rest.trim()).filter(|v| !v.is_empty()).map(|v| BTreeSet::from([v.to_owned()]));
        // A word is followed by a space or by what belongs to it.
        let word = |word: &str| {
            rest.strip_prefix(word).filter(|r| r.starts_with([' ', '(', '<', '>', '=', '^', '~']))
        };
        let test = if let Some(rest) = rest.strip_prefix("!=") {
            one(rest).map(Test::NotIn)
        } else if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
            one(rest).map(Test::In)
        } else if let Some(rest) = rest.strip_prefix('>') {
            rest.trim().parse().ok().map(Test::Above)
        } else if let Some(rest) = rest.strip_prefix('<') {
            rest.trim().parse().ok().map(Test::Below)
        } else if let Some(rest) = word("not in") {
            list(rest).map(Test::NotIn)
        } else if let Some(rest) = word("in") {
            list(rest).map(Test::In)
        } else if let Some(rest) = word("version") {
            rest.trim().parse().ok().map(Test::Version)
        } else {
            match rest {
                "exists" => Some(Test::Exists),
                "does not exist" => Some(Test::Absent),
                _ => None,
            }
        };
        match test {
            Some(test) if !key.is_empty() && key.len() <= 256 => Ok(Self { key: key.to_owned(), test }),
            _ => Err(wrong()),
        }
    }
}

/// What a node has against newcomers that do not bear it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// What it is called.
    pub key: String,
    /// Which of that; empty is none in particular.
    pub value: String,
    /// Whether it keeps them out, or only makes the node worse.
    pub refuses: bool,
}

/// A taint that an ask bears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// The taint.
    pub key: String,
    /// Which of that; none is any.
    pub value: Option<String>,
}

impl Toleration {
    pub(crate) fn bears(&self, taint: &Taint) -> bool {
        self.key == taint.key && self.value.as_ref().is_none_or(|value| *value == taint.value)
    }
}

/// Whom an ask wants on its own node, or where an attribute has the same value; or not there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Near {
    /// What they are known by.
    pub tag: String,
    /// The attribute whose value is a place; none is the node itself.
    pub over: Option<String>,
    /// How much.
    pub pull: Pull,
}

/// How an ask feels about those it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pull {
    /// One of them has to be there, unless there is none anywhere and the ask is one itself.
    Must,
    /// None of them may be there; nor may one of them come later.
    MustNot,
    /// It is better by this where one of them is; worse where that is negative.
    Prefers(i32),
}

/// Even shares over the values of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    /// What those that are counted are known by.
    pub tag: String,
    /// The attribute whose values are the failure domains: `region`, `site`, `owner`, `node`.
    pub over: String,
    /// By how many a domain may be ahead of the emptiest one that could take the ask; none is no such rule, and a
    /// domain then is only worse by `weight` for each that is there.
    pub max_skew: Option<u32>,
    /// How much worse a domain is for each that is there.
    pub weight: i32,
}
