//! Why: [`Account`], for people and for the API.

use super::{
    class::{Class, Counted, Evenly, Why},
    judge::WISH,
    need::{Need, Pull},
    room::Kind,
    state::Fleet,
    tree::NEVER,
};
use crate::{
    filter::{Refusal, closed},
    gpu,
    strategy::Strategy,
};
use lattice_model::{
    NodeId, NodeName,
    resource::{Taint, TaintEffect},
    taint::not_borne,
};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, collections::BTreeMap, fmt};

/// What was found out about the nodes for an ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// How many nodes there are.
    pub considered: u32,
    /// How many were refused for each reason; the first reason against a node counts.
    pub refused: BTreeMap<Refusal, u32>,
    /// The best, best first, the winner among them; at most [`Account::SHOWN`].
    pub ranked: Vec<Ranked>,
    /// What is left of the winner afterwards, in the scarcer of processor and memory, in thousandths of it.
    pub headroom: u32,
    /// Whether fuller nodes are better.
    pub pack: bool,
    /// Over what the winner spreads best, where that is why it is better than the second.
    pub over: Option<String>,
    /// A taint of the winner that only makes worse, and that the ask does not bear.
    pub avoids: Option<Taint>,
    /// What would have to change for one more node to do, and how many nodes would do then. Nodes that only one
    /// reason stands against.
    pub changes: BTreeMap<String, u32>,
}

/// A node that can hold an ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    /// Which.
    pub node: NodeId,
    /// What people call it.
    pub name: NodeName,
    /// Its score.
    pub parts: Parts,
}

/// A score by its parts; the sum is what is compared. See the module for the formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// What it prefers of the node, less the taints that it does not bear.
    pub prefers: i64,
    /// Who is near.
    pub near: i64,
    /// How its domains are filled already; never above 0.
    pub spread: i64,
    /// How many of its like are there; never above 0.
    pub crowd: i64,
    /// How likely the node stays long enough.
    pub stays: i64,
    /// The node's rank.
    pub rank: i64,
    /// What of the node's room and GPUs is well used.
    pub room: i64,
}

impl Parts {
    /// What is compared.
    pub fn sum(&self) -> i64 {
        let Self { prefers, near, spread, crowd, stays, rank, room } = self;
        (prefers + near + spread + crowd + stays + rank) * WISH + room
    }

    /// By which part it is better than another.
    fn better_by(&self, other: &Self) -> Option<&'static str> {
        let parts = [
            ("prefers", self.prefers, other.prefers),
            ("spread", self.spread, other.spread),
            ("crowd", self.crowd, other.crowd),
            ("near", self.near, other.near),
            ("stays", self.stays, other.stays),
            ("rank", self.rank, other.rank),
        ];
        let better = parts.into_iter().filter(|(_, own, other)| own > other);
        better.max_by_key(|(_, own, other)| own - other).map(|(name, ..)| name)
    }
}

impl fmt::Display for Account {
    /// `attic is the least loaded of 2 nodes that fit, 83.0 % left there (not: 2: memory, 1: other pool)`, or
    /// `none of 3 nodes fits (2: memory, 1: other pool)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.refused.iter().map(|(why, n)| format!("{n}: {why}")).collect::<Vec<_>>().join(", ");
        let fit = self.considered.saturating_sub(self.refused.values().sum::<u32>());
        match (self.ranked.as_slice(), self.considered) {
            ([], 0) => return f.write_str("there are no nodes yet"),
            ([], 1) => write!(f, "the only node does not fit ({counts})")?,
            ([], n) => write!(f, "none of {n} nodes fits ({counts})")?,
            ([winner], _) => write!(f, "only {} fits", winner.name)?,
            ([winner, second, ..], _) => {
                let name = &winner.name;
                match winner.parts.better_by(&second.parts) {
                    Some("prefers") => write!(f, "{name} is preferred, of {fit} nodes that fit")?,
                    Some("spread") => {
                        let over = self.over.as_deref().unwrap_or("what they share");
                        write!(f, "{name} spreads the replicas over {over} best of {fit} nodes that fit")?;
                    }
                    Some("crowd") => {
                        write!(f, "{name} has the fewest replicas of it of {fit} nodes that fit")?;
                    }
                    Some("near") => write!(f, "{name} has the best neighbours of {fit} nodes that fit")?,
                    Some("stays") => write!(f, "{name} stays most likely of {fit} nodes that fit")?,
                    Some("rank") => write!(f, "{name} ranks first of {fit} nodes that fit")?,
                    _ => {
                        let how = if self.pack { "fullest" } else { "least loaded" };
                        write!(f, "{name} is the {how} of {fit} nodes that fit")?;
                    }
                }
            }
        }
        if self.ranked.is_empty() {
            return Ok(());
        }
        write!(f, ", {} % left there", f64::from(self.headroom) / 10.0)?;
        if let Some(taint) = &self.avoids {
            write!(f, ", though it has the taint {taint}")?;
        }
        if counts.is_empty() { Ok(()) } else { write!(f, " (not: {counts})") }
    }
}

impl Account {
    /// What alone would have to change: `1 node would do with less memory`; none where nothing alone would.
    pub fn would_do(&self) -> Option<String> {
        let nodes = |n: u32| if n == 1 { "1 node".to_owned() } else { format!("{n} nodes") };
        let changes = self.changes.iter().map(|(what, n)| format!("{} with {what}", nodes(*n)));
        let changes = changes.collect::<Vec<_>>().join(", ");
        (!changes.is_empty()).then(|| format!("would do: {changes}"))
    }

    /// How many of the ranked nodes are kept.
    pub const SHOWN: usize = 3;

    /// What is known about all nodes; `changes` besides, which takes milliseconds among many thousand nodes.
    pub(crate) fn of(fleet: &mut Fleet, class: &Class, changes: bool) -> Self {
        let mut account = Self {
            considered: fleet.by_id.len() as u32,
            pack: fleet.strategy == Strategy::Pack,
            ..Self::default()
        };
        let least = fleet.least(class);
        let mut fitting: Vec<(i64, Reverse<NodeId>, usize, i64)> = Vec::new();
        let mut refused: BTreeMap<Why, u32> =
            class.refused.iter().filter(|(_, n)| **n > 0).map(|(why, n)| (*why, *n)).collect();
        for group in &class.groups {
            match fleet.domains_allow(class, group, &least) {
                Err(why) => *refused.entry(why).or_default() += group.fits,
                Ok(wish) => {
                    let id = |at: usize| fleet.slots[group.members[at] as usize].machine.id();
                    for (at, own) in group.tree.top(Self::SHOWN, id) {
                        fitting.push((own + wish * WISH, Reverse(id(at)), group.members[at] as usize, wish));
                    }
                }
            }
        }
        fitting.sort_unstable_by(|a, b| b.cmp(a));
        fitting.truncate(Self::SHOWN);
        // In words alone where nothing fits: there it is worth looking at each node.
        let gpus = refused.remove(&Why::Gpu).unwrap_or_default();
        if gpus > 0 && fitting.is_empty() {
            for at in
                (0..class.why.len()).filter(|at| class.score(*at) == NEVER && class.why[*at] == Why::Gpu)
            {
                *account.refused.entry(Self::refusal(fleet, class, at, Why::Gpu)).or_default() += 1;
            }
        } else if gpus > 0 {
            account.refused.insert(Refusal::Gpu("not enough of them are free".into()), gpus);
        }
        for (why, n) in refused.into_iter().filter(|(why, n)| *why != Why::Gone && *n > 0) {
            *account.refused.entry(Self::refusal(fleet, class, 0, why)).or_default() += n;
        }
        if changes && fitting.is_empty() {
            account.changes = what_would_do(fleet, class);
        }
        account.say_why(fleet, class, &fitting.iter().map(|(.., at, _)| *at).collect::<Vec<_>>());
        for (_, Reverse(node), at, wish) in fitting {
            let parts = parts(fleet, class, at, wish);
            let name = fleet.slots[at].machine.node.name.clone();
            account.ranked.push(Ranked { node, name, parts });
        }
        account
    }

    /// What people read about the best of those that fit.
    fn say_why(&mut self, fleet: &Fleet, class: &Class, fitting: &[usize]) {
        let (Some(best), need) = (fitting.first(), &class.key.need) else { return };
        let slot = &fleet.slots[*best];
        self.headroom = u32::try_from(slot.headroom(need)).unwrap_or(0);
        self.avoids = not_borne(&slot.machine.taints, &need.tolerates, &[TaintEffect::Avoid]).cloned();
        let there = |rule: &Counted<Evenly>, at: usize| {
            let domain = class.groups[class.place[at].0 as usize].domains[rule.axis];
            rule.there(domain, fleet.counters[rule.counter].at(domain))
        };
        self.over = fitting.get(1).and_then(|second| {
            let rule = class.spread.iter().find(|rule| there(rule, *best) < there(rule, *second))?;
            need.spread.get(usize::from(rule.at)).map(|rule| rule.over.to_string())
        });
    }

    /// A reason in words.
    pub(crate) fn refusal(fleet: &Fleet, class: &Class, node: usize, why: Why) -> Refusal {
        let need = &class.key.need;
        match why {
            Why::Gone => Refusal::Disconnected,
            Why::Fixed(number) => fleet.refused(number).cloned().unwrap_or(Refusal::Disconnected),
            Why::Room(kind) => Refusal::Room(kind),
            Why::Gpu => Refusal::Gpu(gpus_lack(fleet, need, node)),
            Why::Port(at) => Refusal::Port(need.ports.get(usize::from(at)).map_or(0, |port| port.port)),
            Why::Crowd => Refusal::MaxPerNode(need.crowd.as_ref().and_then(|crowd| crowd.most).unwrap_or(0)),
            Why::Near(at) => match need.near.get(usize::from(at)) {
                Some(near) if near.pull == Pull::Must => Refusal::NobodyNear(near.tag.clone()),
                near => Refusal::Near(near.map(|near| near.tag.clone()).unwrap_or_default()),
            },
            Why::Unwanted => Refusal::Unwanted,
            Why::Skew(at) => {
                let over = need.spread.get(usize::from(at)).map(|rule| rule.over.to_string());
                Refusal::Skew(over.unwrap_or_default())
            }
            Why::Priority => Refusal::Priority,
        }
    }
}

/// What a node lacks of the GPUs that are asked for.
fn gpus_lack(fleet: &Fleet, need: &Need, node: usize) -> String {
    let slot = &fleet.slots[node];
    let taken = slot.taken_gpus();
    let rules = need.rules.iter().find_map(|rule| match rule {
        crate::Rule::Gpus(requests, constraints) => Some((requests, constraints)),
        _ => None,
    });
    let lack = rules.and_then(|(requests, constraints)| {
        gpu::assign(requests, constraints, &slot.machine.node, &taken).err()
    });
    lack.unwrap_or_else(|| "not enough of them are free".into())
}

/// The score of a node that fits, by its parts; `wish` is what its domains say.
fn parts(fleet: &mut Fleet, class: &Class, at: usize, wish: i64) -> Parts {
    let group = &class.groups[class.place[at].0 as usize];
    let prefers = i64::from(class.statics[at].wish);
    let of = class.spread.iter();
    let spread: i64 = of
        .map(|rule| {
            let domain = group.domains[rule.axis];
            let there = rule.there(domain, fleet.counters[rule.counter].at(domain));
            -i64::from(rule.rule.weight) * i64::from(there)
        })
        .sum();
    let (stays, rank) = fleet.expected(class, at);
    let crowd = -fleet.crowded(class, at);
    let near = fleet.wish(class, at) - prefers - stays - rank - crowd + wish - spread;
    let room = fleet.room(class, at).unwrap_or_default();
    Parts { prefers, near, spread, crowd, stays, rank, room }
}

fn what_would_do(fleet: &Fleet, class: &Class) -> BTreeMap<String, u32> {
    let least = fleet.least(class);
    let allowed: Vec<bool> =
        class.groups.iter().map(|group| fleet.domains_allow(class, group, &least).is_ok()).collect();
    // Counted before they are put into words: there may be many thousands.
    let mut changes: BTreeMap<Lack, u32> = BTreeMap::new();
    for at in 0..class.why.len() {
        let refused = class.score(at) == NEVER && class.why[at] != Why::Gone;
        if refused
            && allowed[class.place[at].0 as usize]
            && let Some(lack) = only_lack(fleet, class, at)
        {
            *changes.entry(lack).or_default() += 1;
        }
    }
    let mut words: BTreeMap<String, u32> = BTreeMap::new();
    for (lack, n) in changes {
        *words.entry(lack.words(&class.key.need)).or_default() += n;
    }
    words
}

/// What an ask misses on a node; numbers are places in the lists of the need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    Open(Refusal),
    Toleration(String),
    Rule(usize),
    Room(Kind),
    Gpus,
    Port(u16),
    Crowd,
    Neighbours,
}

impl Lack {
    fn words(&self, need: &Need) -> String {
        match self {
            Self::Open(refusal) => format!("\"{refusal}\" over"),
            Self::Toleration(taint) => format!("a toleration of {taint}"),
            Self::Rule(at) => match &need.rules[*at] {
                crate::Rule::Pools(_) => "another pool".into(),
                crate::Rule::Constraint(constraint) => format!("no constraint {constraint}"),
                crate::Rule::Platform(_) | crate::Rule::Image(_) => "an image for its machine".into(),
                crate::Rule::Gpus(..) => "fewer or other GPUs".into(),
            },
            Self::Room(kind) => format!("less {kind}"),
            Self::Gpus => "fewer or other GPUs".into(),
            Self::Port(port) => format!("another port than {port}"),
            Self::Crowd => "more of its like on one node".into(),
            Self::Neighbours => "other neighbours".into(),
        }
    }
}

/// What alone would have to change on a node; none where more than one thing would.
fn only_lack(fleet: &Fleet, class: &Class, node: usize) -> Option<Lack> {
    let (slot, need): (_, &Need) = (&fleet.slots[node], &class.key.need);
    let machine = &slot.machine;
    if !crate::filter::approved(&machine.node) {
        return None;
    }
    let closed = closed(&machine.node).into_iter().map(Lack::Open);
    let borne = |taint: &Taint| need.tolerates.iter().any(|toleration| toleration.bears(taint));
    let keeps_out = |taint: &&Taint| taint.effect != TaintEffect::Avoid && !borne(taint);
    let taints = machine.taints.iter().filter(keeps_out);
    let taints = taints.map(|taint| Lack::Toleration(taint.key.clone()));
    let rules = need.rules.iter().enumerate().filter(|(_, rule)| rule.refuses(&machine.node).is_some());
    let rules = rules.map(|(at, _)| Lack::Rule(at));
    let kinds = Kind::ALL.into_iter().filter(|kind| need.room.of(*kind) > slot.free.of(*kind));
    let kinds = kinds.map(Lack::Room);
    let gpus = match (&need.gpus, &class.shape) {
        (Some(ask), Some(shape)) => !slot.could(ask, shape, &slot.units_free),
        _ => false,
    };
    let gpus = gpus.then_some(Lack::Gpus);
    let ports = need.ports.iter().filter(|port| slot.ports.iter().any(|taken| taken.collides(port)));
    let ports = ports.map(|port| Lack::Port(port.port));
    let near = fleet.neighbours(class, node, &|_| 0).err().map(|why| match why {
        Why::Crowd => Lack::Crowd,
        _ => Lack::Neighbours,
    });
    let mut all = closed.chain(taints).chain(rules).chain(kinds).chain(gpus).chain(ports).chain(near);
    let first = all.next()?;
    all.next().is_none().then_some(first)
}
