//! The decision: [`pick`].

use crate::{
    filter::{PortClaim, Refusal, refuse},
    score::{Score, score},
};
use lattice_model::{Bytes, Cpu, NodeId, NodeName, PoolName, resource::Node};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// What is to be placed, all of it on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The pool whose nodes may hold it.
    pub pool: PoolName,
    /// The one node that may hold it, where its data or its neighbours are.
    pub pinned: Option<NodeId>,
    /// Processor to set aside.
    pub cpu: Cpu,
    /// Memory to set aside.
    pub memory: Bytes,
    /// Ports of the node that it publishes.
    pub ports: Vec<PortClaim>,
}

/// A node with what it has left.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The node.
    pub node: &'a Node,
    /// Processor not set aside.
    pub free_cpu: Cpu,
    /// Memory not set aside.
    pub free_memory: Bytes,
    /// Ports that are taken.
    pub ports: Vec<PortClaim>,
}

/// The node that was picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub node: NodeId,
    /// Why.
    pub explanation: Explanation,
}

/// Why a node was picked, or none could be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// How many nodes were looked at.
    pub considered: u32,
    /// How many were refused for each reason.
    pub refused: BTreeMap<Refusal, u32>,
    /// The best that could hold it, best first, the winner among them; at most [`Self::SHOWN`].
    pub ranked: Vec<(NodeName, Score)>,
}

impl Explanation {
    /// How many of the ranked nodes are kept.
    pub const SHOWN: usize = 3;
}

impl fmt::Display for Explanation {
    /// `best of 2 nodes that fit, 83.0 % left there (3 refused: 2 memory, 1 other pool)`, or
    /// `none of 3 nodes fits (2: memory, 1: other pool)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.refused.iter().map(|(why, n)| format!("{n}: {why}")).collect::<Vec<_>>().join(", ");
        let refused: u32 = self.refused.values().sum();
        match (self.ranked.first(), self.considered) {
            (None, 0) => f.write_str("there are no nodes yet"),
            (None, 1) => write!(f, "the only node does not fit ({counts})"),
            (None, n) => write!(f, "none of {n} nodes fits ({counts})"),
            (Some((name, score)), n) => {
                let left = f64::from(score.headroom) / 10.0;
                let fit = n - refused;
                if fit == 1 {
                    write!(f, "only {name} fits, {left} % left there")?;
                } else {
                    write!(f, "{name} is the least loaded of {fit} nodes that fit, {left} % left there")?;
                }
                if refused > 0 { write!(f, " (not: {counts})") } else { Ok(()) }
            }
        }
    }
}

/// Picks the best of the nodes that can hold `ask`.
///
/// # Errors
/// The counted reasons, when none can.
pub fn pick<'a>(ask: &Ask, nodes: impl IntoIterator<Item = Candidate<'a>>) -> Result<Choice, Explanation> {
    let mut explanation = Explanation::default();
    let mut fitting: Vec<(Score, &Node)> = Vec::new();
    for candidate in nodes {
        explanation.considered += 1;
        match refuse(ask, &candidate) {
            Some(reason) => *explanation.refused.entry(reason).or_default() += 1,
            None => fitting.push((score(ask, &candidate), candidate.node)),
        }
    }
    fitting.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    explanation.ranked =
        fitting.iter().take(Explanation::SHOWN).map(|(score, node)| (node.name.clone(), *score)).collect();
    match fitting.first() {
        Some((_, node)) => Ok(Choice { node: node.id, explanation }),
        None => Err(explanation),
    }
}
