//! Where an image is built: an ask like any other, of which nothing is written down.

use crate::{
    ask::{Ask, in_order},
    cluster::Cluster,
    home::no_fit,
    ledger::Ledger,
    planning::Planning,
    policy::Policy,
};
use lattice_model::{Bytes, Cpu, NodeId, ProjectName, Timestamp, spec::Pools};
use lattice_scheduler::{
    Refusal, Rule,
    fleet::{Need, Room, Tags},
};
use std::{collections::BTreeSet, sync::Arc};

/// What a build asks for.
#[derive(Clone, Debug)]
pub struct BuildAsk {
    /// Whose image it is.
    pub project: ProjectName,
    /// The pools whose nodes may build it, the best first.
    pub pools: Pools,
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
    ledger: &mut Ledger,
    cluster: &Cluster,
    policy: &Policy,
    now: Timestamp,
    ask: &BuildAsk,
) -> Result<(NodeId, String), (String, String)> {
    let BuildAsk { project, pools, node, platform, cpu, memory, able } = ask;
    let mut open = pools.names();
    open.retain(|pool| cluster.pools.get(pool).is_none_or(|row| row.takes(project)));
    if open.is_empty() {
        let hint = "choose another pool, or let an operator change this one (`lattice pool set`)";
        return Err((
            format!("the pool {} is not for the project {project}", pools.first()),
            hint.to_owned(),
        ));
    }
    let prefers = in_order(&open).collect();
    let mut rules = vec![Rule::Pools(open)];
    rules.extend(platform.clone().map(Rule::Platform));
    let room = Room { cpu: cpu.0.into(), memory: memory.0, slots: 1, ..Room::default() };
    let need = Arc::new(Need { room, rules, prefers, ..Need::default() });
    let wanted = Ask { need, tags: Tags::new(), gpus: None };
    // Nothing is placed, so nothing is named.
    let mut random = || 0;
    let planning = Planning::new(ledger, cluster, policy, now, &mut random);
    let one = |id: NodeId| match node {
        Some(only) if *only != id => Err(Refusal::Pinned),
        _ => Ok(()),
    };
    let builds = |id: NodeId| if able.contains(&id) { one(id) } else { Err(Refusal::Pinned) };
    match planning.find(&wanted, None, &builds) {
        Ok(found) => Ok((found.placed.node, found.account.to_string())),
        Err(_) => match planning.find(&wanted, None, &one) {
            // Some node would hold it, and none of these builds.
            Ok(_) => Err((
                format!(
                    "no node of {} that is free can build: its agent is too old, its owner does not allow it, or it builds already",
                    pools.in_words()
                ),
                "wait and deploy again, update the agents, or ask the owners (consent.builds in rules.toml)"
                    .to_owned(),
            )),
            Err(account) => {
                let (why, hint) = no_fit(pools, &account);
                Err((why, hint.to_owned()))
            }
        },
    }
}
