//! Where a group of workloads must go: bound by data before neighbours, else wherever all of it fits.
//!
//! A workload is free, replica by replica, when it is alone in its group, mounts no volume and does not have its replicas meet: nobody
//! is there to talk to, so each node may have a bridge of that name of its own. All other groups
//! share one node, until a mesh carries traffic between nodes.

use crate::{
    ask::rules_of,
    cluster::{Cluster, Row},
    group::groups,
    planning::Planning,
    slots::{has_ended, is_available},
};
use lattice_model::{
    NodeId, PoolName, ProjectName, StackKey, VolumeKey, WorkloadKey, WorkloadName,
    goal::DesiredState,
    machine::GpuState,
    resource::{Allocation, Approval, Eligibility, Intent, Node, PresenceState, Superseded, Workload},
    spec::{Mode, Pools, WorkloadSpec},
    taint::{TaintEffect, not_borne},
};
use lattice_scheduler::{Refusal, fleet::Account, unsuitable};
use std::collections::{BTreeMap, BTreeSet};

/// Where a group must go.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// One node, and why.
    Pinned(NodeId, String),
    /// One node that is lost: what is bound to it waits.
    Away { why: String, hint: &'static str },
    /// Each replica wherever it fits.
    Free,
    /// One on each node that takes it.
    Each,
    /// Nowhere at present.
    Blocked { why: String, hint: &'static str },
    /// Nowhere, as no node has room for all of it.
    Full { why: String, hint: &'static str },
}

/// What no machine of a pool runs.
const OTHER_MACHINE: &str = "build it for the machines of the pool (`platform:` of the service, or `platforms:` of its \
                             build), choose another pool, or add such a node";
/// What no node at all holds.
const NO_NODE: &str = "approve, free or add a node (`lattice node ls`), or ask for less";

/// Whether a workload may run in a pool, as far as it says itself.
pub fn may_use(spec: &WorkloadSpec, pool: &PoolName) -> bool {
    spec.pool.contains(pool)
}

/// What a pool has against work of a project. One that nobody made has nothing against anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    /// It is not for the project.
    Project,
    /// It is not trusted with what the work has.
    Trust,
}

fn against(
    cluster: &Cluster,
    pool: &PoolName,
    project: &ProjectName,
    spec: &WorkloadSpec,
) -> Option<Against> {
    let pool = cluster.pools.get(pool)?;
    if !pool.takes(project) {
        return Some(Against::Project);
    }
    let needs_trust = !spec.mounts.is_empty() || !spec.secrets.is_empty();
    (needs_trust && !pool.trusted).then_some(Against::Trust)
}

/// The pools in which work of a project may run, the best first: of those that it names, those that take it. Where none
/// does it is blocked, and what runs stays in those that it names.
pub(crate) fn pools_of(cluster: &Cluster, project: &ProjectName, spec: &WorkloadSpec) -> Vec<PoolName> {
    let named = spec.pool.names();
    let taking = |pool: &&PoolName| against(cluster, pool, project, spec).is_none();
    let taking: Vec<PoolName> = named.iter().filter(taking).cloned().collect();
    if taking.is_empty() { named } else { taking }
}

/// Whether the replicas of a group may be on different nodes.
pub(crate) fn is_free(group: &[&Workload]) -> bool {
    matches!(group, [alone] if alone.spec.mounts.is_empty() && alone.spec.rendezvous.is_none())
}

/// Whether a replica may be sent away for the sake of others: data stays where it is, and so does what shares a node with
/// others.
pub(crate) fn may_be_sent_away(cluster: &Cluster, row: &Allocation) -> bool {
    let stack = row.workload.stack_key();
    let free = |group: &Vec<&Workload>| is_free(group) && group.iter().any(|one| one.key == row.workload);
    row.spec.mounts.is_empty() && groups(cluster.workloads_of(&stack).map(|row| &*row.value)).iter().any(free)
}

/// The workloads of a stack that are to run on every node and cannot, since they share something with
/// others or mount a volume.
pub fn bound_globals(cluster: &Cluster, stack: &StackKey) -> Vec<WorkloadName> {
    let all = groups(cluster.workloads_of(stack).map(|row| &*row.value));
    let bound = all.iter().filter(|group| !is_free(group)).flatten();
    bound.filter(|w| w.spec.mode == Mode::Global).map(|w| w.key.workload.clone()).collect()
}

/// Whether a node answers, and what is there may run.
pub(crate) fn is_connected(cluster: &Cluster, node: NodeId) -> bool {
    cluster.nodes.get(&node).is_some_and(|row| {
        row.approval == Approval::Approved && row.presence.state == PresenceState::Connected && !row.is_gone()
    })
}

/// Whether nobody will hear of a node again.
pub(crate) fn has_left(node: Option<&Row<Node>>) -> bool {
    node.is_none_or(|node| node.has_left())
}

pub(crate) fn home_of(planning: &Planning<'_>, group: &[&Workload]) -> Home {
    let global = group.iter().find(|w| w.spec.mode == Mode::Global);
    if let Some(global) = global
        && !is_free(group)
    {
        return Home::Blocked {
            why: format!(
                "{} runs on every node, and services that share a network, a volume or a dependency are on one",
                global.key.workload
            ),
            hint: "give it a network of its own and no volumes",
        };
    }
    if let Some(blocked) = pool_refuses(planning, group) {
        return blocked;
    }
    if is_free(group) {
        return if global.is_some() { Home::Each } else { Home::Free };
    }
    if let Some(bound) = bound_by_data(planning, group) {
        return bound;
    }
    neighbours(planning, group).unwrap_or_else(|| choose(planning, group))
}

/// The members of a group of which something is to run.
pub(crate) fn wanted<'a>(group: &[&'a Workload]) -> impl Iterator<Item = &'a Workload> {
    group.iter().copied().filter(|w| w.desired != DesiredState::Stop && w.replicas > 0)
}

/// What the pools of a group do not allow.
fn pool_refuses(planning: &Planning<'_>, group: &[&Workload]) -> Option<Home> {
    let cluster = &planning.cluster;
    for workload in wanted(group) {
        let (key, spec) = (&workload.key, &workload.spec);
        let named = spec.pool.names();
        let refusals =
            named.iter().filter_map(|pool| Some((pool, against(cluster, pool, &key.project, spec)?)));
        // The last one's reason would not be better than the first one's.
        if let (true, Some((pool, why))) = (refusals.clone().count() == named.len(), refusals.clone().next())
        {
            return Some(refused(pool, why, workload));
        }
    }
    let mut all = wanted(group).map(|w| pools_of(cluster, &w.key.project, &w.spec));
    let first = all.next()?;
    let common = all.fold(first, |common, other| common.into_iter().filter(|p| other.contains(p)).collect());
    if !common.is_empty() {
        return None;
    }
    let mut names: Vec<String> = wanted(group).map(|w| w.spec.pool.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    Some(Home::Blocked {
        why: format!("services that share a network or a volume name different pools ({})", names.join("; ")),
        hint: "give them one pool, or networks and volumes of their own",
    })
}

fn refused(pool: &PoolName, why: Against, workload: &Workload) -> Home {
    let WorkloadKey { project, workload, .. } = &workload.key;
    let (why, hint) = match why {
        Against::Project => (
            format!("the pool {pool} is not for the project {project}"),
            "choose another pool, or let an operator change this one (`lattice pool set`)",
        ),
        Against::Trust => (
            format!("the pool {pool} is not trusted with volumes and secrets, and {workload} has some"),
            "choose a trusted pool (`lattice pool ls`), or let an operator trust this one and the owners \
             of its nodes (`lattice pool set POOL --trusted yes`)",
        ),
    };
    Home::Blocked { why, hint }
}

/// Where the data of a group is.
fn bound_by_data(planning: &Planning<'_>, group: &[&Workload]) -> Option<Home> {
    let mut bound: Option<(NodeId, String)> = None;
    let mounted: BTreeSet<VolumeKey> = group
        .iter()
        .flat_map(|w| w.spec.mounts.iter().map(|m| w.key.stack_key().volume(m.volume.clone())))
        .collect();
    for key in &mounted {
        let Some(volume) = planning.cluster.volumes.get(key) else { continue };
        if volume.deleting {
            let why = format!("volume {} is being deleted", key.volume);
            let hint = "deploy again when `lattice volume ls` no longer shows it";
            return Some(Home::Blocked { why, hint });
        }
        let Some(node) = volume.node else { continue };
        let row = planning.cluster.nodes.get(&node);
        let name = planning.name(node);
        if has_left(row) {
            if !volume.exists {
                continue;
            }
            let why = format!("the data of volume {} is on {name}, which has left the cluster", key.volume);
            let hint = "bring that machine back, or delete the volume and restore a backup";
            return Some(Home::Blocked { why, hint });
        }
        if volume.missing {
            let why = format!("volume {} should be on {name} and is not: its data may be lost", key.volume);
            let hint = "put the volume back on that machine, or delete it and restore a backup";
            return Some(Home::Blocked { why, hint });
        }
        let reason = format!("the data of volume {} is on {name}", key.volume);
        match &bound {
            Some((other, first)) if *other != node => {
                let why = format!("{first}, but {reason}");
                let hint = "services that share a network or a volume need one node";
                return Some(Home::Blocked { why, hint });
            }
            Some(_) => {}
            None => bound = Some((node, reason)),
        }
    }
    let (node, why) = bound?;
    if planning.cluster.nodes.get(&node).is_some_and(|row| row.is_gone()) {
        let why = format!("{why}, and {}", planning.gone(node));
        let hint = "it goes on when that machine is back; an empty volume never takes its place. \
                    Should it never come back: `lattice node rm --lose-volumes`, then restore a backup";
        return Some(Home::Away { why, hint });
    }
    Some(Home::Pinned(node, why))
}

/// Why a node is no place to stay for a member of a group, whatever it has left.
pub(crate) fn must_leave(planning: &Planning<'_>, workload: &Workload, node: NodeId) -> Option<String> {
    let row = planning.cluster.nodes.get(&node)?;
    if row.eligibility == Eligibility::Draining {
        return Some(format!("{} is being emptied", row.name));
    }
    no_place(&planning.cluster, &workload.key.project, &workload.spec, row)
        .map(|refusal| format!("{} is no place for it any more: {refusal}", row.name))
}

/// Why what stays on a node has to move, whatever the node has left and however it is doing.
pub(crate) fn no_place(
    cluster: &Cluster,
    project: &ProjectName,
    spec: &WorkloadSpec,
    node: &Node,
) -> Option<Refusal> {
    let evicts = not_borne(cluster.taints_of(node), &spec.placement.tolerations, &[TaintEffect::Evict]);
    unsuitable(&rules_of(cluster, project, spec), node).or_else(|| evicts.cloned().map(Refusal::Taint))
}

/// Why a replica cannot stay with the GPUs that it has: one of them is not lent any more, or broke.
fn must_leave_gpus(planning: &Planning<'_>, row: &Allocation) -> Option<String> {
    let node = planning.cluster.nodes.get(&row.node).filter(|_| !row.gpus.is_empty())?;
    let units = node.facts.machine.gpu_units();
    let lost = |id: &&String| {
        let unit = units.iter().find(|unit| unit.id == *id);
        unit.is_none_or(|unit| !unit.lent || matches!(unit.state, GpuState::Lost | GpuState::Failed))
    };
    let id = row.gpus.iter().find(lost)?;
    Some(format!("{} does not offer the GPU {id} any more", node.name))
}

/// The node where most of the group is, of those where it may stay. One that was lost and is back
/// wins where more of the group serves there.
fn neighbours(planning: &Planning<'_>, group: &[&Workload]) -> Option<Home> {
    #[derive(Default)]
    struct There {
        own: u32,
        serve: u32,
        served: u32,
    }
    let cluster = &planning.cluster;
    let mut nodes: BTreeMap<NodeId, There> = BTreeMap::new();
    for workload in group {
        for row in cluster.allocations_of(&workload.key).filter(|row| row.intent != Intent::Remove) {
            let there = nodes.entry(row.node).or_default();
            let serves = u32::from(is_available(cluster, row));
            match row.superseded {
                None => {
                    there.own += 1;
                    there.serve += serves;
                }
                Some(Superseded::Lost) if row.generation == workload.generation => there.served += serves,
                Some(_) => {}
            }
        }
    }
    // Those that `choose` asks for, or what one says the other would take back.
    let mut asked: Vec<&Workload> = wanted(group).collect();
    if asked.is_empty() {
        asked = group.to_vec();
    }
    let tenable = |node: &NodeId| {
        let row = cluster.nodes.get(node);
        !has_left(row)
            && row.is_some_and(|row| !row.is_gone())
            && asked.iter().all(|workload| must_leave(planning, workload, *node).is_none())
    };
    nodes.retain(|node, _| tenable(node));
    let most = nodes
        .iter()
        .filter(|(_, there)| there.own > 0)
        .max_by_key(|(id, there)| (there.own, std::cmp::Reverse(**id)));
    let serve = most.map_or(0, |(_, there)| there.serve);
    let back = nodes.iter().filter(|(_, there)| there.served > serve).max_by_key(|(_, there)| there.served);
    if let Some((node, _)) = back {
        return Some(Home::Pinned(*node, "it runs there still, since before the node was lost".into()));
    }
    let (node, _) = most?;
    Some(Home::Pinned(*node, "next to the other replicas and services of its network".into()))
}

/// A node for the whole group; failing that, one that holds a replica of each, and all of those that come together.
fn choose(planning: &Planning<'_>, group: &[&Workload]) -> Home {
    let wanted: Vec<&Workload> = wanted(group).collect();
    let Some(first) = wanted.first() else { return Home::Free };
    let find = |replicas: &dyn Fn(&Workload) -> u32| {
        let ask = planning.ledger().group(&wanted, replicas);
        planning.find(&ask, None, &|_| Ok(()))
    };
    match find(&|w| w.replicas).or_else(|_| find(&|w| if w.spec.is_gang() { w.replicas } else { 1 })) {
        Ok(found) => Home::Pinned(found.placed.node, found.account.to_string()),
        Err(account) => {
            let (why, hint) = no_fit(&first.spec.pool, &account);
            Home::Full { why, hint }
        }
    }
}

/// Whether a replica may stay where it is, else why not.
pub(crate) fn fits(
    planning: &Planning<'_>,
    workload: &Workload,
    home: &Home,
    row: &Allocation,
) -> Result<(), String> {
    if let Some(why) = must_leave_gpus(planning, row).filter(|_| !has_ended(row)) {
        return Err(why);
    }
    match home {
        Home::Pinned(node, why) if *node != row.node => {
            Err(must_leave(planning, workload, row.node).unwrap_or_else(|| why.clone()))
        }
        Home::Pinned(..) | Home::Away { .. } | Home::Blocked { .. } | Home::Full { .. } => Ok(()),
        Home::Free if row.status.displaced => {
            let why = row.status.reason.as_deref().unwrap_or("it is short of something");
            Err(format!("{} gives it up: {why}", planning.name(row.node)))
        }
        Home::Free | Home::Each => must_leave(planning, workload, row.node).map_or(Ok(()), Err),
    }
}

/// Why no node fits, and what to do: that no machine of the pool runs the image is another matter than
/// that all are full.
pub(crate) fn no_fit(pools: &Pools, account: &Account) -> (String, &'static str) {
    let elsewhere = |refusal: &&Refusal| matches!(refusal, Refusal::Pool | Refusal::NotApproved);
    let mut within = account.refused.keys().filter(|refusal| !elsewhere(refusal)).peekable();
    let kind = |refusal: &Refusal| matches!(refusal, Refusal::Image(_) | Refusal::Platform(_));
    match within.peek().is_some() && within.all(kind) {
        true => (format!("no machine of {} runs it: {account}", pools.in_words()), OTHER_MACHINE),
        false => (account.to_string(), NO_NODE),
    }
}

/// What a free replica that finds no node is told.
pub(crate) const fn no_node() -> &'static str {
    NO_NODE
}
