//! Why: [`Account`], for people and for the API.

use super::{
    class::{Class, NOWHERE, Why},
    judge::WISH,
    need::{Near, Need, Pull},
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

    pub(crate) fn of(fleet: &mut Fleet, class: &Class) -> Self {
        let mut account = Self::default();
        let mut fitting: Vec<(i64, std::cmp::Reverse<NodeId>, usize, i64)> = Vec::new();
        let least = fleet.least(class);
        let allowed: Vec<Result<i64, Why>> =
            class.groups.iter().map(|group| fleet.domains_allow(class, group, &least)).collect();
        let nodes: Vec<(NodeId, usize)> = fleet.by_id.iter().map(|(id, at)| (*id, *at as usize)).collect();
        for (id, at) in nodes {
            account.considered += 1;
            let own = class.score(at);
            let domains = allowed[class.place[at].0 as usize];
            match (own, domains) {
                (NEVER, _) => {
                    *account.refused.entry(words(fleet, class, at, class.why[at])).or_default() += 1;
                    if let Some(change) = change(fleet, class, at, domains.is_ok()) {
                        *account.changes.entry(change).or_default() += 1;
                    }
                }
                (_, Err(why)) => *account.refused.entry(words(fleet, class, at, why)).or_default() += 1,
                (own, Ok(wish)) => fitting.push((own + wish * WISH, std::cmp::Reverse(id), at, wish)),
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

fn words(fleet: &Fleet, class: &Class, node: usize, why: Why) -> String {
    let (machine, need) = (&fleet.slots[node].machine, &*class.key.need);
    match why {
        Why::Gone => "it has left".into(),
        Why::Closed => machine.closed.clone().unwrap_or_default(),
        Why::Taint(at) => match machine.taints.get(usize::from(at)) {
            Some(taint) if taint.value.is_empty() => format!("taint {}", taint.key),
            Some(taint) => format!("taint {}={}", taint.key, taint.value),
            None => "taint".into(),
        },
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

/// What alone would have to change on a node.
fn change(fleet: &Fleet, class: &Class, node: usize, domains: bool) -> Option<String> {
    let (slot, need): (_, &Need) = (&fleet.slots[node], &class.key.need);
    if !domains {
        return None;
    }
    let mut found: Vec<String> = Vec::new();
    if let Some(closed) = &slot.machine.closed {
        found.push(format!("not {closed}"));
    }
    let borne = |taint: &super::Taint| need.tolerates.iter().any(|toleration| toleration.bears(taint));
    for taint in slot.machine.taints.iter().filter(|taint| taint.refuses && !borne(taint)) {
        found.push(format!("a toleration of {}", taint.key));
    }
    for rule in need.rules.iter().filter(|rule| !rule.holds(&slot.machine.attributes)) {
        found.push(format!("no rule {rule}"));
    }
    for kind in super::Kind::ALL.into_iter().filter(|kind| need.room.of(*kind) > slot.free.of(*kind)) {
        found.push(format!("less {kind}"));
    }
    if let (Some(ask), Some(shape)) = (&need.gpus, &class.shape) {
        let fits = slot
            .units
            .iter()
            .zip(&slot.units_free)
            .filter(|(u, free)| shape.suits(u) && **free >= ask.each());
        if fits.count() < usize::from(ask.count) {
            found.push("fewer or other GPUs".into());
        }
    }
    for port in need.ports.iter().filter(|port| slot.ports.iter().any(|taken| taken.collides(port))) {
        found.push(format!("another port than {}", port.port));
    }
    if fleet.neighbours(class, node, &|_| 0).is_err() {
        found.push("other neighbours".into());
    }
    match found.len() {
        1 => found.pop(),
        _ => None,
    }
}
