//! What is asked for: [`Need`], room and rules.
//!
//! Asks that are equal share what was found out about the nodes, so a need says nothing about who asks: what an
//! allocation is known by (its tags) is given beside it.

use super::room::Room;
use crate::filter::{PortClaim, Rule, value};
use lattice_model::{
    resource::Node,
    spec::{Constraint, NodeAttribute, Toleration},
};
use std::{borrow::Cow, fmt};

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
    pub rules: Vec<Rule>,
    /// What makes a node better, with how much.
    pub prefers: Vec<(Constraint, i32)>,
    /// The taints that it bears.
    pub tolerates: Vec<Toleration>,
    /// Whom it wants near, or not.
    pub near: Vec<Near>,
    /// Over what it is spread.
    pub spread: Vec<Spread>,
    /// How many of its like one node may have, and how much worse each makes it.
    pub crowd: Option<Crowd>,
    /// How long it is to last.
    pub lasts: Option<Lasts>,
    /// How much the rank of a node counts: of the best node all of it, of one without any rank nothing.
    pub merit: i32,
    /// Who has to make way for whom: the lower for the higher.
    pub priority: i16,
}

/// GPUs that are asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuNeed {
    /// How many; several are whole ones. [`GpuNeed::ALL`] is all that the node has of such, however many.
    pub count: u16,
    /// Thousandths of the one that is asked for.
    pub share: u16,
    /// The models that will do; empty is any.
    pub models: Vec<String>,
    /// Bytes of memory that each has at least.
    pub memory: u64,
    /// The ones that will do, by name; empty is any.
    pub ids: Vec<String>,
}

impl GpuNeed {
    /// All that a node has.
    pub const ALL: u16 = u16::MAX;

    /// Whole GPUs of any model.
    pub fn whole(count: u16) -> Self {
        Self { count, share: WHOLE, models: Vec::new(), memory: 0, ids: Vec::new() }
    }

    /// A part of one GPU of any model, in thousandths.
    pub fn part(share: u16) -> Self {
        Self { share, ..Self::whole(1) }
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

/// Whom an ask wants on its own node, or where an attribute has the same value; or not there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Near {
    /// What they are known by.
    pub tag: String,
    /// What has the same value for all that are in a place; none is the node itself.
    pub over: Option<Over>,
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
    /// What has the same value for all that are in one failure domain.
    pub over: Over,
    /// By how many a domain may be ahead of the emptiest one that could take the ask; none is no such rule, and a
    /// domain then is only worse by `weight` for each that is there.
    pub max_skew: Option<u32>,
    /// How much worse a domain is for each that is there.
    pub weight: i32,
}

/// What nodes have in common that are near each other, or fail together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Over {
    /// The value of an attribute: region, site, owner.
    Attribute(NodeAttribute),
    /// The hour at which they are expected to leave.
    Leaving,
}

impl Over {
    /// A label.
    pub fn label(key: &str) -> Self {
        Self::Attribute(NodeAttribute::Label(key.to_owned()))
    }

    /// Its value of a node; none where that has none.
    pub(crate) fn of<'n>(&self, node: &'n Node, outlook: &Outlook) -> Option<Cow<'n, str>> {
        match self {
            Self::Attribute(attribute) => value(node, attribute),
            Self::Leaving => outlook.leaves.map(|hour| hour.to_string().into()),
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(attribute) => attribute.fmt(f),
            Self::Leaving => f.write_str("hour of leaving"),
        }
    }
}

/// Its like on one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Crowd {
    /// What they are known by.
    pub tag: String,
    /// The most of them on one node.
    pub most: Option<u32>,
    /// How much worse a node is for each that is there.
    pub weight: i32,
}

/// How long an ask is to last, and how much that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lasts {
    /// Which of [`Outlook::TIMES`].
    pub time: u8,
    /// How much better a node is that surely stays so long; of another its chance of that.
    pub weight: i32,
}

/// What is expected of a node, in coarse steps, so that decisions do not flutter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// The chance in percent that it stays for each of [`Outlook::TIMES`].
    pub stays: [u8; 4],
    /// The hour of the week at which it is expected to leave.
    pub leaves: Option<u8>,
    /// How it ranks among all, 0 to 100.
    pub rank: u8,
    /// The same for what asks for GPUs.
    pub gpu_rank: u8,
}

impl Outlook {
    /// The times that are looked ahead, in minutes: 30 minutes, 2 hours, 8 hours, 2 days.
    pub const TIMES: [u32; 4] = [30, 120, 480, 2880];

    /// Which of the times says most about a work of this length: the shortest that is as long.
    pub fn time_for(minutes: u64) -> u8 {
        let found = Self::TIMES.iter().position(|time| u64::from(*time) >= minutes);
        found.map_or(3, |at| at as u8)
    }
}

impl Default for Outlook {
    /// Nothing is known: as good as any.
    fn default() -> Self {
        Self { stays: [100; 4], leaves: None, rank: 0, gpu_rank: 0 }
    }
}
