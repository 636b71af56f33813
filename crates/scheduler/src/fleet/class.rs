//! What was found out about the nodes for one kind of ask: [`Class`].
//!
//! Asks that are equal share a class. It has a verdict and a score for each node, and a tournament of the scores, so
//! that a decision looks at the nodes alone that were touched since the last one of its kind. Rules over failure
//! domains concern many nodes at once: nodes whose domains are the same are a group with a tournament of its own, and
//! the counts of the domains are looked at when the decision is made.

use super::{
    mix::Shape,
    need::{Need, Pull},
    room::Kind,
    tree::{NEVER, Tree},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// No domain: the node lacks the attribute.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// Equal asks have equal keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) need: Arc<Need>,
    /// Those of its tags that somebody's rules name.
    pub(crate) tags: Vec<Arc<str>>,
    /// Whether others may have to make way.
    pub(crate) evicts: bool,
}

/// Why a node cannot hold an ask; numbers are places in the lists of the need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    Gone,
    /// What is so whatever runs there, by its number in the fleet's list of refusals.
    Fixed(u32),
    Room(Kind),
    Gpu,
    Port(u8),
    Crowd,
    Near(u8),
    /// Somebody there wants no such neighbour.
    Unwanted,
    Skew(u8),
    /// Not even if those of lower priority make way.
    Priority,
}

/// What does not change with what runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Static {
    pub(crate) refusal: Option<Why>,
    pub(crate) wish: i32,
}

/// A rule that counts allocations over an attribute.
#[derive(Clone, Debug)]
pub(crate) struct Counted<R> {
    pub(crate) counter: usize,
    /// Which of the class's axes.
    pub(crate) axis: usize,
    /// Which rule of the need, in its list.
    pub(crate) at: u8,
    pub(crate) rule: R,
}

/// How evenly it is to be spread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evenly {
    pub(crate) max_skew: Option<u32>,
    pub(crate) weight: i32,
    /// Whether the ask counts itself.
    pub(crate) own: bool,
    /// Whether those that are in no domain are not together either.
    pub(crate) loose: bool,
}

impl Counted<Evenly> {
    /// How many count as being in a domain, of those that are there.
    pub(crate) fn there(&self, domain: u32, counted: u32) -> u32 {
        if domain == NOWHERE && self.rule.loose { 0 } else { counted }
    }
}

/// Nodes whose domains are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// By axis.
    pub(crate) domains: Vec<u32>,
    pub(crate) members: Vec<u32>,
    pub(crate) tree: Tree,
    /// How many of them no rule of the node itself keeps out.
    pub(crate) possible: u32,
    /// How many of them can hold it, as far as each itself is concerned.
    pub(crate) fits: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) key: Key,
    pub(crate) shape: Option<Shape>,
    /// What it was made for: the layout of the fleet, the mix, and how far in the journal.
    pub(crate) layout: u64,
    pub(crate) mix: u64,
    pub(crate) at: u64,
    pub(crate) used: u64,
    /// On the node itself: counter, place in the list, how.
    pub(crate) near_node: Vec<(usize, u8, Pull, bool)>,
    pub(crate) unwanted_node: Vec<usize>,
    pub(crate) near: Vec<Counted<(Pull, bool)>>,
    pub(crate) unwanted: Vec<Counted<()>>,
    pub(crate) spread: Vec<Counted<Evenly>>,
    /// The counter of its like on the node.
    pub(crate) crowd: Option<usize>,
    /// For rules on the node that have to be met by somebody: whether there was nobody at all.
    pub(crate) nobody: Vec<bool>,
    /// By node.
    pub(crate) statics: Vec<Static>,
    pub(crate) why: Vec<Why>,
    /// Those who cannot hold it themselves, by reason.
    pub(crate) refused: BTreeMap<Why, u32>,
    pub(crate) place: Vec<(u32, u32)>,
    pub(crate) groups: Vec<Group>,
}

impl Class {
    /// The verdict on a node is now this.
    pub(crate) fn set<R: Ord>(&mut self, node: usize, verdict: Result<i64, Why>, rank: impl Fn(usize) -> R) {
        let (group, at) = self.place[node];
        let group = &mut self.groups[group as usize];
        let members = &group.members;
        match (group.tree.score(at as usize) == NEVER, verdict) {
            (false, Ok(_)) => {}
            (false, Err(why)) => {
                group.fits -= 1;
                *self.refused.entry(why).or_default() += 1;
            }
            (true, Err(why)) if self.why[node] == why => {}
            (true, verdict) => {
                let old = self.refused.entry(self.why[node]).or_default();
                *old = old.saturating_sub(1);
                match verdict {
                    Ok(_) => group.fits += 1,
                    Err(why) => *self.refused.entry(why).or_default() += 1,
                }
            }
        }
        let score = match verdict {
            Ok(score) => score,
            Err(why) => {
                self.why[node] = why;
                NEVER
            }
        };
        group.tree.set(at as usize, score, |at| rank(members[at] as usize));
    }

    /// The score of a node by itself; [`NEVER`] where its own verdict is against it.
    pub(crate) fn score(&self, node: usize) -> i64 {
        let (group, at) = self.place[node];
        self.groups[group as usize].tree.score(at as usize)
    }

    /// How many numbers it keeps.
    pub(crate) fn cells(&self) -> usize {
        self.why.len()
    }
}

/// Those of `tags` that the need itself names.
pub(crate) fn named(need: &Need, tag: &str) -> bool {
    need.near.iter().any(|near| near.tag == tag)
        || need.spread.iter().any(|spread| spread.tag == tag)
        || need.crowd.as_ref().is_some_and(|crowd| crowd.tag == tag)
}

/// What an allocation is known by.
pub type Tags = BTreeSet<Arc<str>>;
