//! One stack at a time: what its workloads want against what is allocated.
//!
//! The gates of a decision, in order:
//! 1. allocations on nodes that left the cluster are forgotten;
//! 2. allocations of workloads that are gone are sent away;
//! 3. replicas too many are sent away, those of stopped workloads stopped, and each group of workloads that must share a node gets one, bound by data before neighbours;
//! 4. each workload's slots are filled, or replaced one at a time; services that exchange their
//!    ports are replaced together, or not at all;
//! 5. volumes and stacks of which nothing is left are forgotten.

use crate::{
    cluster::{Cluster, Row},
    group::groups,
    plan::{Pending, Placement, Plan, PlanReport, Step},
};
use lattice_model::{
    AllocationId, Bytes, Cpu, NodeId, PoolName, StackKey, Timestamp, VolumeKey, WorkloadKey,
    goal::DesiredState,
    report::{AllocationState, AllocationStatus},
    resource::{Allocation, Approval, Intent, Node, Volume, Workload},
    spec::WorkloadSpec,
};
use lattice_scheduler::{Ask, Candidate, PortClaim, pick};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A plan in the making: a working copy of the cluster on which each step takes effect at once,
/// so that the next decision sees it.
pub(crate) struct Planning<'a> {
    base: &'a Cluster,
    cluster: Cluster,
    now: Timestamp,
    random: &'a mut dyn FnMut() -> u128,
    plan: Plan,
    report: PlanReport,
    /// Allocations whose ports stand in nobody's way, since this plan replaces them.
    yielding: BTreeSet<AllocationId>,
}

/// A plan in the making as it was at one moment, to go back to.
struct Mark {
    cluster: Cluster,
    steps: usize,
    relies_on: usize,
    placed: usize,
    pending: usize,
}

impl<'a> Planning<'a> {
    pub(crate) fn new(base: &'a Cluster, now: Timestamp, random: &'a mut dyn FnMut() -> u128) -> Self {
        let (plan, report, yielding) = Default::default();
        Self { base, cluster: base.clone(), now, random, plan, report, yielding }
    }

    fn mark(&self) -> Mark {
        let (Plan { steps, relies_on }, PlanReport { placed, pending }) = (&self.plan, &self.report);
        let (steps, relies_on) = (steps.len(), relies_on.len());
        Mark { cluster: self.cluster.clone(), steps, relies_on, placed: placed.len(), pending: pending.len() }
    }

    fn go_back(&mut self, mark: &Mark) {
        let Mark { cluster, steps, relies_on, placed, pending } = mark;
        self.cluster = cluster.clone();
        self.plan.steps.truncate(*steps);
        self.plan.relies_on.truncate(*relies_on);
        self.report.placed.truncate(*placed);
        self.report.pending.truncate(*pending);
    }

    pub(crate) fn finish(self) -> (Plan, PlanReport) {
        (self.plan, self.report)
    }

    fn forget(&mut self, row: &Row<Allocation>, why: String) {
        self.plan.steps.push(Step::Forget { expected: row.revision, id: row.id, why });
        self.cluster.remove_allocation(row.id);
    }

    /// Writes an allocation down as it is to be; an allocation is updated once in a plan.
    fn update(&mut self, row: &Row<Allocation>, change: impl FnOnce(&mut Allocation)) {
        let mut allocation = (*row.value).clone();
        change(&mut allocation);
        if allocation == *row.value {
            return;
        }
        self.cluster.put_allocation(Row { revision: row.revision, value: Arc::new(allocation.clone()) });
        self.plan.steps.push(Step::Update { expected: row.revision, allocation: Box::new(allocation) });
    }

    fn pending(&mut self, workload: &WorkloadKey, slots: Vec<u32>, why: impl Into<String>, hint: &str) {
        let (why, hint) = (why.into(), hint.to_owned());
        self.report.pending.push(Pending { workload: workload.clone(), slots, why, hint });
    }

    /// What a node has left without what is replaced. Allocations on their way out no longer count,
    /// but their ports do, since the engine frees a port only when the container is gone; except
    /// between services that are replaced together, whose agent waits for the port.
    fn candidate<'n>(&self, node: &'n Node, replacing: Option<AllocationId>) -> Candidate<'n> {
        let (mut cpu, mut memory, mut ports) = (0u64, 0u64, Vec::new());
        for allocation in self.cluster.allocations_on(node.id) {
            if replacing == Some(allocation.id) {
                continue;
            }
            if allocation.intent != Intent::Remove {
                let (c, m) = allocation.spec.resources.reserved();
                cpu += u64::from(c.0);
                memory = memory.saturating_add(m.0);
            }
            if !self.yielding.contains(&allocation.id) {
                ports.extend(claims(&allocation.spec));
            }
        }
        let free_cpu =
            Cpu(u32::try_from(u64::from(node.capacity.cpu.0).saturating_sub(cpu)).unwrap_or(u32::MAX));
        let free_memory = Bytes(node.capacity.memory.0.saturating_sub(memory));
        Candidate { node, free_cpu, free_memory, ports }
    }
}

/// The ports of the node that a spec asks for by number.
fn claims(spec: &WorkloadSpec) -> impl Iterator<Item = PortClaim> {
    spec.ports.iter().filter_map(|port| {
        Some(PortClaim { port: port.published?, protocol: port.target.protocol, ip: port.host_ip })
    })
}

fn has_left(node: Option<&Row<Node>>) -> bool {
    node.is_none_or(|node| matches!(node.approval, Approval::Rejected | Approval::Revoked))
}

pub(crate) fn reconcile_stack(planning: &mut Planning<'_>, stack: &StackKey) {
    forget_lost(planning, stack);
    send_away_orphans(planning, stack);
    let base = planning.base;
    let workloads: Vec<&Workload> = base.workloads_of(stack).map(|row| &*row.value).collect();
    for workload in &workloads {
        trim(planning, workload);
    }
    reconcile_groups(planning, stack, &groups(workloads));
    forget_leftovers(planning, stack);
}

/// Two services that exchange their ports would each wait for the other for ever. So all that are
/// outdated are first taken to make way; as long as some did not, they are put back into the way
/// and it is planned anew. What is left to make way is replaced by this plan.
fn reconcile_groups(planning: &mut Planning<'_>, stack: &StackKey, groups: &[Vec<&Workload>]) {
    let base = planning.base;
    let outdated = |row: &&Row<Allocation>| {
        row.intent != Intent::Remove
            && claims(&row.spec).next().is_some()
            && base.workloads().get(&row.workload).is_some_and(|w| w.generation != row.generation)
    };
    let cluster = &planning.cluster;
    planning.yielding = cluster.allocations_of_stack(stack).filter(outdated).map(|row| row.id).collect();
    let before = planning.mark();
    loop {
        for group in groups {
            reconcile_group(planning, group);
        }
        let stays = |id: &AllocationId| {
            planning.cluster.allocations().get(id).is_some_and(|row| row.intent != Intent::Remove)
        };
        let staying: Vec<AllocationId> = planning.yielding.iter().filter(|id| stays(id)).copied().collect();
        if staying.is_empty() {
            break;
        }
        planning.yielding.retain(|id| !staying.contains(id));
        planning.go_back(&before);
    }
    planning.yielding.clear();
}

fn forget_lost(planning: &mut Planning<'_>, stack: &StackKey) {
    for row in planning.base.allocations_of_stack(stack) {
        if has_left(planning.cluster.nodes.get(&row.node)) {
            planning.forget(row, "its node has left the cluster".into());
        }
    }
}

fn send_away_orphans(planning: &mut Planning<'_>, stack: &StackKey) {
    let base = planning.base;
    for row in base.allocations_of_stack(stack) {
        let orphan = !base.workloads().contains_key(&row.workload);
        if orphan && planning.cluster.allocations().contains_key(&row.id) {
            planning.update(row, |a| a.intent = Intent::Remove);
        }
    }
}

/// Where a group must go.
enum Home {
    /// One node, and why.
    Pinned(NodeId, String),
    /// Wherever it fits.
    Free,
    /// Nowhere at present.
    Blocked { why: String, hint: &'static str },
}

fn reconcile_group(planning: &mut Planning<'_>, group: &[&Workload]) {
    let home = match home_of(planning, group) {
        Home::Free => choose_home(planning, group),
        decided => decided,
    };
    for workload in group {
        reconcile_workload(planning, workload, &home);
    }
}

/// Data binds first; then the node where most of the group already is.
fn home_of(planning: &Planning<'_>, group: &[&Workload]) -> Home {
    let mut bound: Option<(NodeId, String)> = None;
    let mounted: BTreeSet<VolumeKey> = group
        .iter()
        .flat_map(|w| w.spec.mounts.iter().map(|m| w.key.stack_key().volume(m.volume.clone())))
        .collect();
    for key in &mounted {
        let Some(volume) = planning.cluster.volumes.get(key) else { continue };
        if volume.deleting {
            let why = format!("volume {} is being deleted", key.volume);
            return Home::Blocked { why, hint: "deploy again when `lattice volume ls` no longer shows it" };
        }
        let Some(node) = volume.node else { continue };
        let row = planning.cluster.nodes.get(&node);
        let name = row.map_or_else(|| node.short(), |row| row.name.to_string());
        if has_left(row) {
            if !volume.exists {
                continue;
            }
            let why = format!("the data of volume {} is on {name}, which has left the cluster", key.volume);
            return Home::Blocked {
                why,
                hint: "bring that machine back, or delete the volume and restore a backup",
            };
        }
        if volume.missing {
            let why = format!("volume {} should be on {name} and is not: its data may be lost", key.volume);
            let hint = "put the volume back on that machine, or delete it and restore a backup";
            return Home::Blocked { why, hint };
        }
        let reason = format!("the data of volume {} is on {name}", key.volume);
        match &bound {
            Some((other, first)) if *other != node => {
                let why = format!("{first}, but {reason}");
                return Home::Blocked {
                    why,
                    hint: "services that share a network or a volume need one node",
                };
            }
            Some(_) => {}
            None => bound = Some((node, reason)),
        }
    }
    if let Some((node, why)) = bound {
        return Home::Pinned(node, why);
    }
    let mut nodes: BTreeMap<NodeId, u32> = BTreeMap::new();
    for allocation in group.iter().flat_map(|w| planning.cluster.allocations_of(&w.key)) {
        if allocation.intent != Intent::Remove {
            *nodes.entry(allocation.node).or_default() += 1;
        }
    }
    match nodes.into_iter().max_by_key(|(id, n)| (*n, std::cmp::Reverse(*id))) {
        Some((node, _)) => {
            Home::Pinned(node, "next to the other replicas and services of its network".into())
        }
        None => Home::Free,
    }
}

/// A node for the whole group; failing that, one that holds a replica of each.
fn choose_home(planning: &Planning<'_>, group: &[&Workload]) -> Home {
    let wanted: Vec<&&Workload> =
        group.iter().filter(|w| w.desired == DesiredState::Run && w.replicas > 0).collect();
    let pools: BTreeSet<PoolName> = wanted.iter().map(|w| pool_of(&w.spec)).collect();
    let Some(pool) = pools.first() else { return Home::Free };
    if pools.len() > 1 {
        let names = pools.iter().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
        return Home::Blocked {
            why: format!("services that share a network or a volume name different pools ({names})"),
            hint: "give them one pool, or networks and volumes of their own",
        };
    }
    let ask = |replicas: &dyn Fn(&Workload) -> u32| {
        let (mut cpu, mut memory, mut ports) = (0u32, 0u64, Vec::new());
        for workload in &wanted {
            let (c, m) = workload.spec.resources.reserved();
            cpu = cpu.saturating_add(c.0.saturating_mul(replicas(workload)));
            memory = memory.saturating_add(m.0.saturating_mul(replicas(workload).into()));
            ports.extend(claims(&workload.spec));
        }
        Ask { pool: pool.clone(), pinned: None, cpu: Cpu(cpu), memory: Bytes(memory), ports }
    };
    let nodes = || planning.cluster.nodes.values().map(|node| planning.candidate(node, None));
    match pick(&ask(&|w| w.replicas), nodes()).or_else(|_| pick(&ask(&|_| 1), nodes())) {
        Ok(choice) => Home::Pinned(choice.node, choice.explanation.to_string()),
        Err(explanation) => Home::Blocked {
            why: explanation.to_string(),
            hint: "approve, free or add a node (`lattice node ls`), or ask for less",
        },
    }
}

fn pool_of(spec: &WorkloadSpec) -> PoolName {
    spec.pool.clone().unwrap_or_else(PoolName::default_pool)
}

/// Gives room before room is looked for: replicas too many go, those of a stopped workload stop.
fn trim(planning: &mut Planning<'_>, workload: &Workload) {
    let mut filled: BTreeSet<u32> = BTreeSet::new();
    for row in planning.base.allocations_of(&workload.key) {
        let Some(row) = planning.cluster.allocations().get(&row.id).cloned() else { continue };
        if row.intent == Intent::Remove {
            continue;
        }
        if row.slot > workload.replicas || !filled.insert(row.slot) {
            planning.update(&row, |a| a.intent = Intent::Remove);
        } else if workload.desired == DesiredState::Stop {
            planning.update(&row, |a| a.intent = Intent::Stop);
        }
    }
}

fn reconcile_workload(planning: &mut Planning<'_>, workload: &Workload, home: &Home) {
    if workload.desired == DesiredState::Stop {
        return;
    }
    let kept = planning.cluster.allocations_of(&workload.key).filter(|row| row.intent != Intent::Remove);
    let slots: BTreeMap<u32, Row<Allocation>> = kept.map(|row| (row.slot, row.clone())).collect();
    run_slots(planning, workload, slots, home);
}

/// Whether a replica counts as being there while others are replaced.
fn is_available(status: &AllocationStatus) -> bool {
    status.is_serving() || status.state == AllocationState::Completed
}

fn run_slots(
    planning: &mut Planning<'_>,
    workload: &Workload,
    slots: BTreeMap<u32, Row<Allocation>>,
    home: &Home,
) {
    let outdated = |row: &Row<Allocation>| {
        row.generation != workload.generation || matches!(home, Home::Pinned(node, _) if *node != row.node)
    };
    // One replica at a time is taken from service, and only while all others are there.
    let mut unavailable: BTreeSet<u32> = (1..=workload.replicas)
        .filter(|slot| {
            slots.get(slot).is_none_or(|row| row.intent != Intent::Run || !is_available(&row.status))
        })
        .collect();
    let (mut missing, mut waiting) = (Vec::new(), Vec::new());
    for slot in 1..=workload.replicas {
        match slots.get(&slot) {
            None => missing.push((slot, None)),
            Some(row) if !outdated(row) => planning.update(row, |a| {
                a.intent = Intent::Run;
                a.restart = workload.restart;
            }),
            Some(row) if unavailable.contains(&slot) || unavailable.is_empty() => {
                unavailable.insert(slot);
                missing.push((slot, Some(row)));
            }
            Some(_) => waiting.push(slot),
        }
    }
    place(planning, workload, missing, home);
    if !waiting.is_empty() {
        planning.pending(
            &workload.key,
            waiting,
            "the replicas before it are not serving yet, and one at a time is replaced",
            "if the new version does not come up, deploy the previous one again",
        );
    }
}

fn place(
    planning: &mut Planning<'_>,
    workload: &Workload,
    missing: Vec<(u32, Option<&Row<Allocation>>)>,
    home: &Home,
) {
    if missing.is_empty() {
        return;
    }
    let all = || missing.iter().map(|(slot, _)| *slot).collect::<Vec<_>>();
    let (home, why) = match home {
        Home::Pinned(node, why) => (*node, why.clone()),
        Home::Free => return,
        Home::Blocked { why, hint } => return planning.pending(&workload.key, all(), why.clone(), hint),
    };
    let mut refused: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (slot, old) in missing {
        match admit(planning, workload, home, old) {
            Ok(()) => create(planning, workload, slot, home, &why, old),
            Err(reason) => refused.entry(reason).or_default().push(slot),
        }
    }
    for (reason, slots) in refused {
        let why = format!("{why}, but that node cannot hold it: {reason}");
        planning.pending(
            &workload.key,
            slots,
            why,
            "free the node, wait for it to come back, or ask for less",
        );
    }
}

/// Whether one more replica fits on its home, beside what is there and without what it replaces.
fn admit(
    planning: &Planning<'_>,
    workload: &Workload,
    home: NodeId,
    old: Option<&Row<Allocation>>,
) -> Result<(), String> {
    let Some(node) = planning.cluster.nodes.get(&home) else { return Err("it has left the cluster".into()) };
    let candidate = planning.candidate(node, old.map(|row| row.id));
    let (cpu, memory) = workload.spec.resources.reserved();
    let ports = claims(&workload.spec).collect();
    let ask = Ask { pool: pool_of(&workload.spec), pinned: Some(home), cpu, memory, ports };
    pick(&ask, [candidate]).map(|_| ()).map_err(|explanation| {
        explanation.refused.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    })
}

fn create(
    planning: &mut Planning<'_>,
    workload: &Workload,
    slot: u32,
    node: NodeId,
    why: &str,
    old: Option<&Row<Allocation>>,
) {
    if let Some(old) = old {
        planning.update(old, |a| a.intent = Intent::Remove);
    }
    claim_volumes(planning, workload, node);
    if let Some(row) = planning.base.workloads().get(&workload.key) {
        let relied = (workload.key.clone(), row.revision);
        if planning.plan.relies_on.last() != Some(&relied) {
            planning.plan.relies_on.push(relied);
        }
    }
    // The container that an allocation replaces holds its ports and volumes until it is gone; so
    // does one of the same slot that was sent away before and is not gone yet.
    let replaced = old.filter(|old| old.node == node).map(|old| old.id);
    let leaving =
        planning.cluster.allocations_of(&workload.key).find(|row| row.slot == slot && row.node == node);
    let allocation = Allocation {
        id: AllocationId::from_random((planning.random)()),
        workload: workload.key.clone(),
        slot,
        node,
        generation: workload.generation,
        spec: Arc::clone(&workload.spec),
        intent: Intent::Run,
        restart: workload.restart,
        replaces: replaced.or(leaving.map(|row| row.id)),
        status: AllocationStatus::new(AllocationState::Assigned),
        placed_at: planning.now,
        explanation: why.to_owned(),
    };
    planning.report.placed.push(Placement {
        workload: workload.key.clone(),
        slot,
        node,
        why: why.to_owned(),
    });
    planning.cluster.put_allocation(Row { revision: 0, value: Arc::new(allocation.clone()) });
    planning.plan.steps.push(Step::Create(Box::new(allocation)));
}

/// A volume without a node, or whose node left before it was created there, gets this one.
fn claim_volumes(planning: &mut Planning<'_>, workload: &Workload, node: NodeId) {
    for mount in &workload.spec.mounts {
        let key = workload.key.stack_key().volume(mount.volume.clone());
        let Some(row) = planning.cluster.volumes.get(&key).cloned() else { continue };
        if row.node == Some(node) || row.exists {
            continue;
        }
        let volume = Volume { node: Some(node), epoch: row.epoch + 1, ..(*row.value).clone() };
        let value = Arc::new(volume.clone());
        planning.cluster.volumes.insert(key, Row { revision: row.revision, value });
        planning.plan.steps.push(Step::Claim { expected: row.revision, volume: Box::new(volume) });
    }
}

fn forget_leftovers(planning: &mut Planning<'_>, stack: &StackKey) {
    let gone: Vec<Row<Volume>> = planning
        .cluster
        .volumes_of(stack)
        .filter(|v| v.deleting && v.node.is_none_or(|node| has_left(planning.cluster.nodes.get(&node))))
        .cloned()
        .collect();
    for row in gone {
        planning.cluster.volumes.remove(&row.key);
        planning.plan.steps.push(Step::ForgetVolume { expected: row.revision, key: row.key.clone() });
    }
    let Some(row) = planning.cluster.stacks.get(stack).cloned() else { return };
    let empty = planning.cluster.allocations_of_stack(stack).next().is_none()
        && planning.cluster.workloads_of(stack).next().is_none()
        && !planning.cluster.volumes_of(stack).any(|volume| volume.deleting);
    if row.deleting && empty {
        planning.plan.steps.push(Step::ForgetStack { expected: row.revision, key: stack.clone() });
    }
}
