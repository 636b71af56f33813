//! Why: [`Account`], for people and for the API.

use super::{
    class::{Class, NOWHERE, Why},
    judge::WISH,
    need::{Near, Need, Pull},
    room::Kind,
    state::Fleet,
    tree::NEVER,
};
use lattice_model::NodeId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// What was found out about the nodes for an ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// How many nodes there are.
    pub considered: u32,
    /// How many were refused for each reason; the first reason against a node counts.
    pub refused: BTreeMap<String, u32>,
    /// The best, best first, the winner among them; at most [`Account::SHOWN`].
    pub ranked: Vec<(NodeId, Parts)>,
    /// What would have to change for one more node to do, and how many nodes would do then. Nodes that only one
    /// reason stands against.
    pub changes: BTreeMap<String, u32>,
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
    /// What of the node's room and GPUs is well used.
    pub room: i64,
}

impl Parts {
    /// What is compared.
    pub fn sum(&self) -> i64 {
        (self.prefers + self.near + self.spread) * WISH + self.room
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<String, u32>| {
            counts.iter().map(|(why, n)| format!("{n}: {why}")).collect::<Vec<_>>().join(", ")
        };
        match (self.ranked.first(), self.considered) {
            (None, 0) => f.write_str("there are no nodes yet"),
            (None, n) => {
                write!(f, "none of {n} nodes fits ({})", list(&self.refused))?;
                if self.changes.is_empty() {
                    Ok(())
                } else {
                    write!(f, "; would do with {}", list(&self.changes))
                }
            }
            (Some((node, parts)), n) => {
                let fit = n - self.refused.values().sum::<u32>();
                let Parts { prefers, near, spread, room } = parts;
                write!(f, "{} is the best of {fit} nodes that fit", node.short())?;
                write!(f, " (prefers {prefers}, near {near}, spread {spread}, room {room})")?;
                if self.refused.is_empty() { Ok(()) } else { write!(f, " (not: {})", list(&self.refused)) }
            }
        }
    }
}

impl Account {
    /// How many of the ranked nodes are kept.
    pub const SHOWN: usize = 3;

    /// In full, or only the counts of refusals, which takes a tenth of the time.
    pub(crate) fn of(fleet: &mut Fleet, class: &Class, full: bool) -> Self {
        let mut account = Self::default();
        let mut fitting: Vec<(i64, std::cmp::Reverse<NodeId>, usize, i64)> = Vec::new();
        {
            let fleet = &*fleet;
            let least = fleet.least(class);
            let allowed: Vec<Result<i64, Why>> =
                class.groups.iter().map(|group| fleet.domains_allow(class, group, &least)).collect();
            // Counted before they are put into words: there may be many thousands.
            let mut refused: BTreeMap<(Why, Option<&str>), u32> = BTreeMap::new();
            let mut changes: BTreeMap<(Lack, Option<&str>), u32> = BTreeMap::new();
            account.considered = fleet.by_id.len() as u32;
            let mut last: Option<((Why, Option<&str>), u32)> = None;
            for at in
                (0..class.why.len()).filter(|at| class.why[*at] != Why::Gone || fleet.slots[*at].present)
            {
                let own = class.score(at);
                let domains = allowed[class.place[at].0 as usize];
                match (own, domains) {
                    (NEVER, _) => {
                        let why = class.why[at];
                        let key = (why, detail(fleet, at, why));
                        // Neighbours are often refused alike.
                        match &mut last {
                            Some((known, count)) if *known == key => *count += 1,
                            _ => {
                                if let Some((known, count)) = last.replace((key, 1)) {
                                    *refused.entry(known).or_default() += count;
                                }
                            }
                        }
                        if full
                            && domains.is_ok()
                            && let Some(lack) = only_lack(fleet, class, at)
                        {
                            *changes.entry(lack).or_default() += 1;
                        }
                    }
                    (_, Err(why)) => *refused.entry((why, None)).or_default() += 1,
                    (own, Ok(wish)) => {
                        let id = fleet.slots[at].machine.id;
                        fitting.push((own + wish * WISH, std::cmp::Reverse(id), at, wish));
                    }
                }
            }
            if let Some((known, count)) = last {
                *refused.entry(known).or_default() += count;
            }
            let need = &class.key.need;
            for ((why, detail), count) in refused {
                *account.refused.entry(words(need, why, detail.unwrap_or_default())).or_default() += count;
            }
            for ((lack, detail), count) in changes {
                *account.changes.entry(lack.words(need, detail.unwrap_or_default())).or_default() += count;
            }
        }
        fitting.sort_unstable_by(|a, b| b.cmp(a));
        for (_, std::cmp::Reverse(id), at, wish) in fitting.into_iter().take(Self::SHOWN) {
            let prefers = i64::from(class.statics[at].wish);
            let spread = spread(fleet, class, at);
            let near = fleet.wish(class, at) - prefers + wish - spread;
            let room = fleet.room(class, at).unwrap_or_default();
            account.ranked.push((id, Parts { prefers, near, spread, room }));
        }
        account
    }
}

fn spread(fleet: &Fleet, class: &Class, at: usize) -> i64 {
    let group = &class.groups[class.place[at].0 as usize];
    let there = |counter: usize, domain: u32| match domain {
        NOWHERE => 0,
        domain => i64::from(fleet.counters[counter].at(domain)),
    };
    let of = class.spread.iter();
    of.map(|rule| -i64::from(rule.rule.weight) * there(rule.counter, group.domains[rule.axis])).sum()
}

/// What of the node belongs to the reason. None and not an empty text, as comparing empty ones costs 150 ns where the
/// processor's masked loads look at address 1.
fn detail(fleet: &Fleet, node: usize, why: Why) -> Option<&str> {
    let machine = &fleet.slots[node].machine;
    match why {
        Why::Closed => machine.closed.as_deref(),
        Why::Taint(at) => machine.taints.get(usize::from(at)).map(|taint| taint.key.as_str()),
        _ => None,
    }
}

fn words(need: &Need, why: Why, detail: &str) -> String {
    match why {
        Why::Gone => "it has left".into(),
        Why::Closed => detail.into(),
        Why::Taint(_) => format!("taint {detail}"),
        Why::Rule(at) => {
            need.rules.get(usize::from(at)).map_or_else(String::new, |rule| format!("rule {rule}"))
        }
        Why::Room(kind) => kind.to_string(),
        Why::Gpu => "gpu".into(),
        Why::Port(at) => need
            .ports
            .get(usize::from(at))
            .map_or_else(String::new, |port| format!("port {} taken", port.port)),
        Why::Near(at) => match need.near.get(usize::from(at)) {
            Some(Near { tag, pull: Pull::Must, .. }) => format!("no {tag} near"),
            Some(Near { tag, .. }) => format!("{tag} is near"),
            None => "neighbours".into(),
        },
        Why::Unwanted => "somebody there wants no such neighbour".into(),
        Why::Skew(at) => need
            .spread
            .get(usize::from(at))
            .map_or_else(String::new, |rule| format!("{} has its share of {} already", rule.over, rule.tag)),
        Why::Priority => "nobody of lower priority could make way".into(),
    }
}

/// What an ask misses on a node; numbers are places in the lists of the need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    Open,
    Toleration,
    Rule(usize),
    Room(Kind),
    Gpus,
    Port(u16),
    Neighbours,
}

impl Lack {
    fn words(self, need: &Need, detail: &str) -> String {
        match self {
            Self::Open => format!("not {detail}"),
            Self::Toleration => format!("a toleration of {detail}"),
            Self::Rule(at) => format!("no rule {}", need.rules[at]),
            Self::Room(kind) => format!("less {kind}"),
            Self::Gpus => "fewer or other GPUs".into(),
            Self::Port(port) => format!("another port than {port}"),
            Self::Neighbours => "other neighbours".into(),
        }
    }
}

/// What alone would have to change on a node; none where more than one thing would.
fn only_lack<'f>(fleet: &'f Fleet, class: &Class, node: usize) -> Option<(Lack, Option<&'f str>)> {
    let (slot, need): (_, &Need) = (&fleet.slots[node], &class.key.need);
    let closed = slot.machine.closed.iter().map(|closed| (Lack::Open, Some(closed.as_str())));
    let borne = |taint: &super::Taint| need.tolerates.iter().any(|toleration| toleration.bears(taint));
    let taints = slot.machine.taints.iter().filter(|taint| taint.refuses && !borne(taint));
    let taints = taints.map(|taint| (Lack::Toleration, Some(taint.key.as_str())));
    let rules = need.rules.iter().enumerate().filter(|(_, rule)| !rule.holds(&slot.machine.attributes));
    let rules = rules.map(|(at, _)| (Lack::Rule(at), None));
    let kinds = Kind::ALL.into_iter().filter(|kind| need.room.of(*kind) > slot.free.of(*kind));
    let kinds = kinds.map(|kind| (Lack::Room(kind), None));
    let gpus = match (&need.gpus, &class.shape) {
        (Some(ask), Some(shape)) => {
            let units = slot.units.iter().zip(&slot.units_free);
            units.filter(|(unit, free)| shape.suits(unit) && **free >= ask.each()).count() < ask.count.into()
        }
        _ => false,
    };
    let gpus = gpus.then_some((Lack::Gpus, None));
    let ports = need.ports.iter().filter(|port| slot.ports.iter().any(|taken| taken.collides(port)));
    let ports = ports.map(|port| (Lack::Port(port.port), None));
    let near = fleet.neighbours(class, node, &|_| 0).is_err().then_some((Lack::Neighbours, None));
    let mut all = closed.chain(taints).chain(rules).chain(kinds).chain(gpus).chain(ports).chain(near);
    let first = all.next()?;
    all.next().is_none().then_some(first)
}
