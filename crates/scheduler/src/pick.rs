//! The decision: [`pick`].

use crate::{
    filter::{PortClaim, Refusal, attribute, refuse},
    score::{Score, Strategy, headroom, score},
};
use lattice_model::{
    Bytes, Cpu, NodeId, NodeName, PoolName,
    resource::Node,
    spec::{Constraint, GpuRequest, NodeAttribute, Toleration},
    taint::{Taint, TaintEffect, not_borne},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

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
    /// What has to hold of the node.
    pub constraints: Vec<Constraint>,
    /// The taints that it bears.
    pub tolerates: Vec<Toleration>,
    /// What its images are made for, as `os/arch`; empty is the node's own.
    pub platforms: Vec<String>,
    /// What each of its images is made for, any one of which will do; empty is not known.
    pub images: Vec<BTreeSet<String>>,
    /// The GPUs that it needs, an entry for each container.
    pub gpus: Vec<GpuRequest>,
    /// The most replicas on one node.
    pub max_per_node: Option<u32>,
    /// Attributes over whose values its replicas are spread, the first counting most.
    pub spread: Vec<NodeAttribute>,
    /// Which of two nodes is better otherwise.
    pub strategy: Strategy,
}

impl Ask {
    /// An ask for nothing in a pool; the caller fills in the rest.
    pub fn in_pool(pool: PoolName) -> Self {
        Self {
            pool,
            pinned: None,
            cpu: Cpu(0),
            memory: Bytes(0),
            ports: Vec::new(),
            constraints: Vec::new(),
            tolerates: Vec::new(),
            platforms: Vec::new(),
            images: Vec::new(),
            gpus: Vec::new(),
            max_per_node: None,
            spread: Vec::new(),
            strategy: Strategy::default(),
        }
    }
}

/// A node with what it has left.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its taints, and those of its pool.
    pub taints: Vec<Taint>,
    /// Processor not set aside.
    pub free_cpu: Cpu,
    /// Memory not set aside.
    pub free_memory: Bytes,
    /// Ports that are taken.
    pub ports: Vec<PortClaim>,
    /// GPUs, or instances of some, that somebody has.
    pub taken_gpus: BTreeSet<String>,
    /// Replicas of what is asked for that are there.
    pub siblings: u32,
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
    /// What spoke for the winner.
    pub tally: Tally,
}

/// What spoke for the winner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// What is left there after placement, in thousandths of the node.
    pub headroom: u32,
    /// The attribute by which it was better than another that could hold it.
    pub spread: Option<NodeAttribute>,
    /// Whether it has fewer replicas of it than another that could hold it.
    pub fewer: bool,
    /// Whether fuller nodes are better.
    pub pack: bool,
    /// A taint for which it is avoided where another node takes the ask.
    pub avoided: Option<Box<Taint>>,
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
            (Some((name, _)), n) => {
                let Tally { headroom, spread, fewer, pack, avoided } = &self.tally;
                let left = f64::from(*headroom) / 10.0;
                let fit = n - refused;
                match (fit, spread, fewer) {
                    (1, _, _) => write!(f, "only {name} fits")?,
                    (fit, Some(by), _) => {
                        write!(f, "{name} spreads the replicas over {by} best of {fit} nodes that fit")?;
                    }
                    (fit, None, true) => {
                        write!(f, "{name} has the fewest replicas of it of {fit} nodes that fit")?;
                    }
                    (fit, None, false) => {
                        let how = if *pack { "fullest" } else { "least loaded" };
                        write!(f, "{name} is the {how} of {fit} nodes that fit")?;
                    }
                }
                write!(f, ", {left} % left there")?;
                if let Some(taint) = avoided {
                    write!(f, ", though it has the taint {taint}")?;
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
    let nodes: Vec<Candidate<'a>> = nodes.into_iter().collect();
    // Counted over all nodes: a replica on a full one is a replica all the same.
    let mut values: Vec<BTreeMap<String, u32>> = vec![BTreeMap::new(); ask.spread.len()];
    for (by, counts) in ask.spread.iter().zip(&mut values) {
        for candidate in &nodes {
            *counts.entry(attribute(candidate.node, by).into_owned()).or_default() += candidate.siblings;
        }
    }
    let mut fitting: Vec<(Score, &Candidate<'a>)> = Vec::new();
    for candidate in &nodes {
        explanation.considered += 1;
        match refuse(ask, candidate) {
            Some(reason) => *explanation.refused.entry(reason).or_default() += 1,
            None => {
                let count = |(by, counts): (&NodeAttribute, &BTreeMap<String, u32>)| {
                    counts.get(&*attribute(candidate.node, by)).copied().unwrap_or(0)
                };
                let among = ask.spread.iter().zip(&values).map(count).collect();
                fitting.push((score(ask, candidate, among), candidate));
            }
        }
    }
    fitting.sort_by(|(a, _), (b, _)| b.cmp(a));
    explanation.ranked = fitting
        .iter()
        .take(Explanation::SHOWN)
        .map(|(score, candidate)| (candidate.node.name.clone(), score.clone()))
        .collect();
    let Some((best, winner)) = fitting.first() else { return Err(explanation) };
    let better_at = |n: usize| fitting.iter().any(|(score, _)| score.among[n] < best.among[n]);
    explanation.tally = Tally {
        headroom: headroom(ask, winner),
        spread: ask.spread.iter().enumerate().find(|(n, _)| better_at(*n)).map(|(_, by)| by.clone()),
        fewer: fitting.iter().any(|(score, _)| score.siblings < best.siblings),
        pack: ask.strategy == Strategy::Pack,
        avoided: not_borne(&winner.taints, &ask.tolerates, &[TaintEffect::Avoid]).cloned().map(Box::new),
    };
    Ok(Choice { node: winner.node.id, explanation })
}
