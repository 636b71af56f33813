//! Where an image is built: an ask like any other, of which nothing is written down.

use crate::{cluster::Cluster, home::no_fit, planning::Planning, policy::Policy};
use lattice_model::{Bytes, Cpu, NodeId, PoolName, ProjectName, Timestamp};
use lattice_scheduler::{Ask, pick};
use std::collections::BTreeSet;

/// What a build asks for.
#[derive(Clone, Debug)]
pub struct BuildAsk {
    /// Whose image it is.
    pub project: ProjectName,
    /// The pool whose nodes may build it.
    pub pool: PoolName,
    /// The one node that may.
    pub node: Option<NodeId>,
    /// What it is made for, as `os/arch`.
    pub platform: Option<String>,
    /// Processor that is free there.
    pub cpu: Cpu,
    /// Memory that is free there.
    pub memory: Bytes,
    /// Nodes that can build at all, and do not build already.
    pub able: BTreeSet<NodeId>,
}

/// The node that builds best, and why; or why none does, and what to do.
///
/// # Errors
/// The reasons, counted, and a hint.
pub fn place_build(
    cluster: &Cluster,
    policy: &Policy,
    now: Timestamp,
    ask: &BuildAsk,
) -> Result<(NodeId, String), (String, String)> {
    let BuildAsk { project, pool, node, platform, cpu, memory, able } = ask;
    if let Some(row) = cluster.pools.get(pool)
        && !row.takes(project)
    {
        let hint = "choose another pool, or let an operator change this one (`lattice pool set`)";
        return Err((format!("the pool {pool} is not for the project {project}"), hint.to_owned()));
    }
    let wanted = Ask {
        pinned: *node,
        cpu: *cpu,
        memory: *memory,
        platforms: platform.clone().into_iter().collect(),
        strategy: policy.strategy,
        ..Ask::in_pool(pool.clone())
    };
    // Nothing is placed, so nothing is named.
    let mut random = || 0;
    let planning = Planning::new(cluster, policy, now, &mut random);
    let all = || cluster.nodes.values().map(|row| planning.candidate(row, None, None));
    match pick(&wanted, all().filter(|candidate| able.contains(&candidate.node.id))) {
        Ok(choice) => Ok((choice.node, choice.explanation.to_string())),
        Err(_) => match pick(&wanted, all()) {
            // Some node would hold it, and none of these builds.
            Ok(_) => Err((
                format!(
                    "no node of the pool {pool} that is free can build: its agent is too old, its owner does not allow it, or it builds already"
                ),
                "wait and deploy again, update the agents, or ask the owners (consent.builds in rules.toml)"
                    .to_owned(),
            )),
            Err(explanation) => {
                let (why, hint) = no_fit(pool, &explanation);
                Err((why, hint.to_owned()))
            }
        },
    }
}
