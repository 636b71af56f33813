//! What a deployment would do: decided on a snapshot, without writing anything. Pure but for the
//! time and the random bits that it is given.
//!
//! A deployment is declarative: what is not in it is removed, volumes excepted. The generation of a
//! service rises when its spec differs in anything but the number of replicas, and only then are
//! containers replaced. Every deployment writes the stack's row at the revision that it saw, so two
//! of one stack cannot mix.

use super::{
    diff::differences,
    error::conflict,
    images, projects,
    rollout::{KEPT, revisions},
    trees, validate, views,
};
use crate::{
    rows::{self, StackSource},
    state::{Snapshot, foresight::Foresight},
};
use lattice_api::{Change, ChangeKind, ChangedThing, DeployResult, ErrorBody, ErrorCode, Placement, Problem};
use lattice_model::{
    NetworkId, NetworkName, NodeName, OwnerName, PoolName, SealedGoal, StackId, StackKey, Timestamp,
    VolumeId, WorkloadKey,
    goal::DesiredState,
    resource::{
        Allocation, Approval, Intent, Rollout, Stack, StackNetwork, StackRevision, Volume, Workload,
        WorkloadRevision,
    },
    spec::{ImageDigest, Pools, StackSpec, TreeDigest, WorkloadSpec, registry_of_secret},
};
use lattice_planner::{Cluster, PlanReport, Policy, Row, rollout::trial};
use lattice_store::{MAX_BODY_BYTES, Op};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How much of the source is kept, in bytes: what escaping makes of it must fit a row.
const MAX_SOURCE: usize = MAX_BODY_BYTES / 4;

/// How much a node may have to be told of one stack, in bytes: half of what an agent takes, as
/// services that share a network are on one node.
pub(crate) const MAX_TOLD: usize = SealedGoal::MAX_BYTES / 2;

/// What a node has to be told of so many replicas, in bytes.
pub(crate) fn told_bytes(spec: &WorkloadSpec, replicas: u32) -> usize {
    serde_json::to_vec(spec).map_or(0, |json| json.len().saturating_mul(replicas as usize))
}

/// What is asked for.
pub(crate) struct Ask<'a> {
    pub(crate) key: &'a StackKey,
    pub(crate) spec: &'a StackSpec,
    pub(crate) source: Option<&'a str>,
    pub(crate) owner: OwnerName,
    /// Trees of it whose archives are not there, whatever the rows say.
    pub(crate) lost: &'a BTreeSet<TreeDigest>,
    /// Images of it that are not wholly there, likewise.
    pub(crate) lost_images: &'a BTreeSet<ImageDigest>,
    pub(crate) begin: Begin,
    pub(crate) now: Timestamp,
    pub(crate) policy: &'a Policy,
    /// Where what would be planned is asked.
    pub(crate) foresight: &'a Foresight,
    /// Who asks, for the versions that are kept.
    pub(crate) by: &'a str,
}

/// What may be there before, and how its services begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The stack may exist; its services run.
    Any,
    /// The stack exists, and goes back to what it was: that needs no trial.
    Back,
    /// The stack must not exist; its services run.
    New,
    /// Neither stack nor volumes of it may exist; its services are held until they are started.
    Held,
}

/// What it comes to.
pub(crate) struct Deployment {
    pub(crate) ops: Vec<Op>,
    pub(crate) result: DeployResult,
}

/// Decides on a snapshot.
pub(crate) fn decide(
    snapshot: &Snapshot,
    ask: &Ask<'_>,
    random: &mut dyn FnMut() -> u128,
) -> Result<Deployment, ErrorBody> {
    let Ask { key, spec, source, owner, lost, lost_images, begin, now, policy, foresight, by } = ask;
    let spec = &images::with_platforms(snapshot, &key.project, spec);
    projects::must_exist(snapshot, &key.project)?;
    let mut problems = validate::problems(spec);
    if problems.is_empty() {
        problems = impossible(snapshot, key, spec);
    }
    if !problems.is_empty() {
        let count = problems.len();
        let text = format!(
            "the stack {} cannot run: {count} {}",
            key.stack,
            if count == 1 { "thing is wrong" } else { "things are wrong" }
        );
        return Err(ErrorBody::new(
            ErrorCode::InvalidSpec,
            text,
            "correct what is listed, then deploy again",
        )
        .with_details(problems));
    }
    let mut kept = trees::require(snapshot, &key.project, spec, lost)?;
    kept.extend(images::require(snapshot, &key.project, spec, lost_images)?);
    let old = snapshot.cluster.stacks.get(*key);
    if matches!(begin, Begin::New | Begin::Held) && old.is_some() {
        return Err(conflict(
            format!("there is a stack {key} already"),
            "choose another name, or remove that one (`lattice rm`)",
        ));
    }
    let kept_volume = snapshot.cluster.volumes_of(key).next();
    if let Some(volume) = kept_volume.filter(|_| *begin == Begin::Held) {
        return Err(conflict(
            format!(
                "the volume {} of {key} exists already, and its data is not to be mixed with other",
                volume.key.volume
            ),
            format!("choose another name, or delete that data: `lattice rm --volumes {}`", key.stack),
        ));
    }
    let held = |row: &&Row<Workload>| row.desired == DesiredState::Hold;
    if let Some(workload) = snapshot.cluster.workloads_of(key).find(held) {
        return Err(conflict(
            format!("{} is held: somebody brings data into its volumes", workload.key),
            format!(
                "wait until that is done; should nobody do it any more, `lattice start {0}` runs it with what is there, and `lattice rm {0}` removes it",
                key.stack
            ),
        ));
    }
    let mut making = Making {
        snapshot,
        after: foresight.on(snapshot, *now),
        ops: kept,
        changes: Vec::new(),
        warnings: Vec::new(),
        random,
    };
    let version = making.stack(key, spec, old, owner, *now);
    let desired = if *begin == Begin::Held { DesiredState::Hold } else { DesiredState::Run };
    making.workloads(key, spec, desired, *begin == Begin::Back, *now);
    making.volumes(key, spec, *now)?;
    making.fits_nodes(key)?;
    making.keep(key, spec, version, by, *now);
    let room = projects::hold(snapshot, &key.project, &making.after)?;
    making.ops.extend(room);
    if let Some(source) = source {
        if source.len() <= MAX_SOURCE {
            making.ops.push(rows::put(&StackSource { stack: (*key).clone(), source: (*source).to_owned() }));
        } else {
            making.warnings.push("the file is too long to be kept for `lattice stack show`; what it says is deployed all the same".into());
        }
    }
    let changed = BTreeSet::from([(*key).clone()]);
    let (_, report) = foresight.ledger().plan(&making.after, &changed, policy, *now, making.random);
    room_beside(&making.after, &report, key)?;
    let name = |id| {
        snapshot
            .cluster
            .nodes
            .get(&id)
            .map(|row: &Row<_>| row.name.clone())
            .or_else(|| NodeName::new("unknown").ok())
    };
    let placements = report.placed.iter().filter_map(|placed| {
        let lattice_planner::Placement { workload, slot, node, why } = placed.clone();
        Some(Placement { workload: workload.workload, slot, node: name(node)?, why })
    });
    let result = DeployResult {
        project: key.project.clone(),
        stack: key.stack.clone(),
        version,
        revision: snapshot.revision,
        dry_run: false,
        changes: making.changes,
        placements: placements.collect(),
        pending: report.pending.iter().flat_map(views::slots).collect(),
        warnings: making.warnings,
    };
    Ok(Deployment { ops: making.ops, result })
}

/// A version that is to be tried beside the old one needs room for both: it is refused rather than begun and taken
/// back.
fn room_beside(after: &Cluster, report: &PlanReport, key: &StackKey) -> Result<(), ErrorBody> {
    for workload in after.workloads_of(key) {
        let Some(trial) = trial(after, workload) else { continue };
        let no_room = |pending: &&lattice_planner::Pending| {
            pending.workload == workload.key
                && !pending.turn
                && pending.slots.iter().any(|slot| trial.slots.contains(slot))
        };
        if let Some(pending) = report.pending.iter().find(no_room) {
            let name = &workload.key.workload;
            let text = format!(
                "{} of the new version of {name} are to run beside the old ones ({}), and there is no room: {}",
                trial.slots.len(),
                workload.spec.update.strategy.as_str(),
                pending.why
            );
            let hint = "free or add a node, ask for less, or let its versions follow each other by turns \
                        (`x-lattice: {update: {strategy: rolling}}`)";
            return Err(conflict(text, hint));
        }
    }
    Ok(())
}

/// No name sorts before it.
const FIRST: &str = "0";

/// Whether the same containers run what two specifications say: how many, where, and how a version
/// takes over is the planner's alone.
fn same_containers(a: &WorkloadSpec, b: &WorkloadSpec) -> bool {
    let bare = |spec: &WorkloadSpec| WorkloadSpec {
        // Tasks are told how many there are.
        replicas: if spec.array.is_some() { spec.replicas } else { 1 },
        pool: Pools::default(),
        placement: Default::default(),
        update: Default::default(),
        rollback: None,
        schedule: None,
        ..spec.clone()
    };
    bare(a) == bare(b)
}

struct Making<'a> {
    snapshot: &'a Snapshot,
    /// The cluster as it would be, for the planner.
    after: Cluster,
    ops: Vec<Op>,
    changes: Vec<Change>,
    warnings: Vec<String>,
    random: &'a mut dyn FnMut() -> u128,
}

impl Making<'_> {
    fn changed(&mut self, kind: ChangeKind, what: ChangedThing, name: impl ToString, details: Vec<String>) {
        self.changes.push(Change { kind, what, name: name.to_string(), details });
    }

    fn stack(
        &mut self,
        key: &StackKey,
        spec: &StackSpec,
        old: Option<&Row<Stack>>,
        owner: &OwnerName,
        now: Timestamp,
    ) -> u64 {
        let before = old.map(|row| row.networks.clone()).unwrap_or_default();
        let mut networks = std::collections::BTreeMap::new();
        for (name, wanted) in &spec.networks {
            let same = before.get(name).filter(|network| network.spec == *wanted);
            let network = match (same, before.get(name)) {
                (Some(same), _) => {
                    self.changed(ChangeKind::Unchanged, ChangedThing::Network, name, Vec::new());
                    same.clone()
                }
                // An engine's network cannot be changed, so it is another one.
                (None, known) => {
                    let kind = if known.is_some() { ChangeKind::Update } else { ChangeKind::Create };
                    let details = known.map(|known| differences(&known.spec, wanted)).unwrap_or_default();
                    self.changed(kind, ChangedThing::Network, name, details);
                    StackNetwork { id: NetworkId::from_random((self.random)()), spec: wanted.clone() }
                }
            };
            networks.insert(name.clone(), network);
        }
        for name in before.keys().filter(|name| !spec.networks.contains_key(*name)) {
            self.changed(ChangeKind::Remove, ChangedThing::Network, name, Vec::new());
        }
        let alive = old.filter(|row| !row.deleting);
        let stack = Stack {
            id: alive.map_or_else(|| StackId::from_random((self.random)()), |row| row.id),
            key: key.clone(),
            owner: owner.clone(),
            version: old.map_or(1, |row| row.version + 1),
            networks,
            deployed_at: now,
            deleting: false,
        };
        self.ops.push(match old {
            Some(row) => rows::update(&stack, row.revision),
            None => rows::create(&stack),
        });
        let version = stack.version;
        self.after.stacks.insert(key.clone(), Row { revision: u64::MAX, value: Arc::new(stack) });
        version
    }

    fn workloads(
        &mut self,
        key: &StackKey,
        spec: &StackSpec,
        desired: DesiredState,
        undo: bool,
        now: Timestamp,
    ) {
        for (name, wanted) in &spec.workloads {
            let key = key.workload(name.clone());
            let old = self.snapshot.cluster.workloads().get(&key);
            let remade = self.networks_remade(&key.stack_key(), wanted);
            let workload = match old {
                None => {
                    self.changed(
                        ChangeKind::Create,
                        ChangedThing::Workload,
                        name,
                        vec![format!("image: {}", wanted.image)],
                    );
                    Workload {
                        key: key.clone(),
                        spec: Arc::new(wanted.clone()),
                        generation: 1,
                        replicas: wanted.replicas,
                        desired,
                        restart: 0,
                        alike: Vec::new(),
                        settled: 0,
                        rolled_back: None,
                        rollout: None,
                        moved_at: None,
                        timetable: None,
                    }
                }
                Some(old) => {
                    let mut workload = self.updated(old, wanted, remade);
                    // What was due while it was stopped is nobody's.
                    if old.desired != DesiredState::Run {
                        workload.go_on_from(now);
                    }
                    if workload.generation != old.generation {
                        let begun = Rollout::begin(workload.generation, now);
                        workload.rollout = Some(Rollout { undo, ..begun });
                    }
                    workload
                }
            };
            match old {
                None => self.ops.push(rows::create(&workload)),
                Some(old) if *old.value != workload => self.ops.push(rows::update(&workload, old.revision)),
                Some(_) => {}
            }
            self.after.put_workload(Row { revision: u64::MAX, value: Arc::new(workload) });
        }
        let gone: Vec<_> = self
            .snapshot
            .cluster
            .workloads_of(key)
            .filter(|row| !spec.workloads.contains_key(&row.key.workload))
            .cloned()
            .collect();
        for row in gone {
            self.changed(ChangeKind::Remove, ChangedThing::Workload, &row.key.workload, Vec::new());
            self.ops.push(rows::delete::<Workload>(&row.key, Some(row.revision)));
            self.after.remove_workload(&row.key);
        }
    }

    /// Whether a network of it is made anew, which containers must follow.
    fn networks_remade(&self, stack: &StackKey, wanted: &WorkloadSpec) -> bool {
        let (before, after) = (self.snapshot.cluster.stacks.get(stack), self.after.stacks.get(stack));
        let id = |row: Option<&Row<Stack>>, name| {
            row.and_then(|row| row.networks.get(name)).map(|network| network.id)
        };
        wanted.networks.keys().any(|name| id(before, name).is_some_and(|old| id(after, name) != Some(old)))
    }

    fn updated(&mut self, old: &Row<Workload>, wanted: &WorkloadSpec, remade: bool) -> Workload {
        let name = &old.key.workload;
        let mut details = differences(&*old.spec, wanted);
        let new_containers = !same_containers(&old.spec, wanted) || remade;
        if remade {
            details.push("a network of it is made anew".into());
        }
        if old.replicas != wanted.replicas && old.spec.replicas == wanted.replicas {
            details.push(format!("replicas: {} -> {}", old.replicas, wanted.replicas));
            self.warnings.push(format!(
                "{name} was scaled to {} and goes back to {} as the file says",
                old.replicas, wanted.replicas
            ));
        }
        if old.desired == DesiredState::Stop {
            details.push("it was stopped and is started".into());
        }
        let workload = Workload {
            key: old.key.clone(),
            spec: Arc::new(wanted.clone()),
            generation: old.generation + u64::from(new_containers),
            replicas: wanted.replicas,
            desired: DesiredState::Run,
            restart: old.restart,
            alike: if new_containers { self.alike(&old.key, wanted) } else { old.alike.clone() },
            settled: if new_containers { self.came_up(old) } else { old.settled },
            rolled_back: old.rolled_back.clone().filter(|_| !new_containers),
            rollout: old.rollout.clone(),
            moved_at: old.moved_at,
            timetable: old.timetable.clone().filter(|_| wanted.schedule.is_some()),
        };
        let kind = if workload == *old.value { ChangeKind::Unchanged } else { ChangeKind::Update };
        self.changed(kind, ChangedThing::Workload, name, details);
        workload
    }

    /// The last generation that came up, the one that is about to be replaced included: its watch may not be over,
    /// but where every replica of it serves, it is what to come back to.
    fn came_up(&mut self, old: &Workload) -> u64 {
        if old.settled == old.generation {
            return old.settled;
        }
        let cluster = &self.snapshot.cluster;
        let serves = |row: &&Row<Allocation>| {
            let own = row.generation == old.generation || old.alike.contains(&row.generation);
            own && row.intent == Intent::Run && row.status.is_serving() && row.status.restarts == 0
        };
        let serving = cluster.allocations_of(&old.key).filter(serves).count();
        let wanted = lattice_planner::rollout::wanted_replicas(cluster, old) as usize;
        let kept = cluster.revisions.get(&(old.key.clone(), old.generation));
        let (Some(kept), true) = (kept, wanted > 0 && serving >= wanted) else { return old.settled };
        self.ops.push(rows::put(&WorkloadRevision { came_up: true, ..(*kept.value).clone() }));
        old.generation
    }

    /// The ids of the networks that containers of a spec are attached to.
    fn attached(&self, key: &WorkloadKey, spec: &WorkloadSpec) -> BTreeMap<NetworkName, NetworkId> {
        let Some(stack) = self.after.stacks.get(&key.stack_key()) else { return BTreeMap::new() };
        let id = |name: &NetworkName| Some((name.clone(), stack.networks.get(name)?.id));
        spec.networks.keys().filter_map(id).collect()
    }

    /// Kept generations whose containers are the same as those of what is wanted: they stay.
    fn alike(&self, key: &WorkloadKey, wanted: &WorkloadSpec) -> Vec<u64> {
        let networks = self.attached(key, wanted);
        let all = self.snapshot.cluster.revisions.range((key.clone(), 0)..=(key.clone(), u64::MAX));
        let same = all.filter(|(_, row)| same_containers(&row.spec, wanted) && row.networks == networks);
        same.map(|((_, generation), _)| *generation).collect()
    }

    /// What can never be where it is meant to be.
    fn fits_nodes(&self, key: &StackKey) -> Result<(), ErrorBody> {
        let bound = lattice_planner::bound_globals(&self.after, key);
        if bound.is_empty() {
            return Ok(());
        }
        let problem = |name: lattice_model::WorkloadName| Problem {
            hint: Some("give it a network of its own (or `network_mode: none`), and no volumes".into()),
            ..Problem::at(
                format!("workloads.{name}.mode"),
                "it is to run on every node, and what shares a network, a volume or a dependency runs on one",
            )
        };
        let text = format!("the stack {} cannot run on every node", key.stack);
        let body = ErrorBody::new(ErrorCode::InvalidSpec, text, "correct what is listed, then deploy again");
        Err(body.with_details(bound.into_iter().map(problem).collect()))
    }

    /// Keeps what is deployed, to come back to, and forgets the oldest.
    fn keep(&mut self, key: &StackKey, spec: &StackSpec, version: u64, by: &str, now: Timestamp) {
        let mut revision = StackRevision {
            stack: key.clone(),
            version,
            workloads: BTreeMap::new(),
            replicas: BTreeMap::new(),
            networks: spec.networks.clone(),
            volumes: spec.volumes.clone(),
            by: by.to_owned(),
            at: now,
        };
        let present: Vec<Row<Workload>> = self.after.workloads_of(key).cloned().collect();
        let mut needed: BTreeSet<(WorkloadKey, u64)> = BTreeSet::new();
        for row in &present {
            let name = row.key.workload.clone();
            revision.workloads.insert(name.clone(), row.generation);
            revision.replicas.insert(name, row.replicas);
            needed.extend([(row.key.clone(), row.generation), (row.key.clone(), row.settled)]);
            let kept = self.snapshot.cluster.revisions.get(&(row.key.clone(), row.generation));
            let networks = self.attached(&row.key, &row.spec);
            // What holds for the planner alone may differ within a generation; the newest counts.
            if kept.is_none_or(|kept| kept.spec != row.spec || kept.networks != networks) {
                let (key, generation, spec) = (row.key.clone(), row.generation, Arc::clone(&row.spec));
                let came_up = row.settled == generation;
                self.ops.push(rows::put(&WorkloadRevision { key, generation, spec, networks, came_up }));
            }
        }
        self.ops.push(rows::put(&revision));
        let before: Vec<_> = revisions(self.snapshot, key).collect();
        let (old, kept) = before.split_at((before.len() + 1).saturating_sub(KEPT).min(before.len()));
        for row in kept {
            needed.extend(
                row.workloads.iter().map(|(name, generation)| (key.workload(name.clone()), *generation)),
            );
        }
        self.ops.extend(
            old.iter()
                .map(|row| rows::delete::<StackRevision>(rows::stack_revision_id(key, row.version), None)),
        );
        let first = key.workload(FIRST.parse().unwrap_or_else(|_| unreachable!("a digit is a name")));
        let all = self.snapshot.cluster.revisions.range((first, 0)..);
        let own = all.map(|(id, _)| id).take_while(|(other, _)| other.stack_key() == *key);
        let gone = own.filter(|id| !needed.contains(*id));
        self.ops.extend(gone.map(|(key, generation)| {
            rows::delete::<WorkloadRevision>(rows::workload_revision_id(key, *generation), None)
        }));
    }

    fn volumes(&mut self, stack: &StackKey, spec: &StackSpec, now: Timestamp) -> Result<(), ErrorBody> {
        for name in spec.volumes.keys() {
            let key = stack.volume(name.clone());
            match self.snapshot.cluster.volumes.get(&key) {
                Some(row) if row.deleting => {
                    let hint = "deploy again when `lattice volume ls` no longer shows it";
                    return Err(conflict(format!("volume {name} is being deleted"), hint));
                }
                Some(row) => {
                    // Whoever asks for its deletion meanwhile is met, and not overlooked.
                    self.ops.push(rows::check::<Volume>(row.id, Some(row.revision)));
                    self.changed(ChangeKind::Unchanged, ChangedThing::Volume, name, Vec::new());
                }
                None => {
                    let id = VolumeId::from_random((self.random)());
                    let volume = Volume {
                        id,
                        key: key.clone(),
                        node: None,
                        exists: false,
                        epoch: 0,
                        missing: false,
                        deleting: false,
                        created_at: now,
                    };
                    self.ops.push(rows::create(&volume));
                    self.after.volumes.insert(key, Row { revision: u64::MAX, value: Arc::new(volume) });
                    self.changed(ChangeKind::Create, ChangedThing::Volume, name, Vec::new());
                }
            }
        }
        let left: Vec<_> = self
            .snapshot
            .cluster
            .volumes_of(stack)
            .map(|row| row.key.volume.clone())
            .filter(|name| !spec.volumes.contains_key(name))
            .collect();
        for name in left {
            self.warnings.push(format!("volume {name} is not in the file any more; it and its data stay"));
        }
        Ok(())
    }
}

/// A pool that is not there, or not for this.
fn pool_problem(
    snapshot: &Snapshot,
    key: &StackKey,
    name: &lattice_model::WorkloadName,
    workload: &WorkloadSpec,
    pool: &PoolName,
) -> Option<Problem> {
    let problem = |text: String, hint: String| {
        Some(Problem { hint: Some(hint), ..Problem::at(format!("workloads.{name}.pool"), text) })
    };
    let Some(row) = snapshot.cluster.pools.get(pool) else {
        let known = snapshot.cluster.pools.keys().map(PoolName::as_str).collect::<Vec<_>>().join(", ");
        return problem(
            format!("there is no pool {pool}"),
            format!("there are {known}; `lattice pool create {pool}` makes it"),
        );
    };
    if !row.takes(&key.project) {
        let hint = "name another pool, or ask an operator (`lattice pool set`)".into();
        return problem(format!("the pool {pool} is not for the project {}", key.project), hint);
    }
    let private = !workload.mounts.is_empty() || !workload.secrets.is_empty();
    if private && !row.trusted {
        let hint = format!(
            "owners of its nodes could read them: name another pool, or say that this one is trusted (`lattice pool set {pool} --trusted yes`)"
        );
        return problem(format!("the pool {pool} is not trusted with volumes and secrets"), hint);
    }
    None
}

/// Whether both name the same system and processor; a variant that only one of them names does not matter.
fn same_machine(one: &str, other: &str) -> bool {
    one.split('/').zip(other.split('/')).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// What no node could ever hold, or nobody could ever give. Where there are no nodes yet, it waits.
fn impossible(snapshot: &Snapshot, key: &StackKey, spec: &StackSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut told = 0usize;
    for (name, workload) in &spec.workloads {
        let pools = &workload.pool;
        problems.extend(
            pools.names().iter().filter_map(|pool| pool_problem(snapshot, key, name, workload, pool)),
        );
        let nodes = || {
            snapshot
                .cluster
                .nodes
                .values()
                .filter(|row| row.approval == Approval::Approved && pools.contains(&row.pool))
        };
        let (cpu, memory) = workload.resources.reserved();
        let most_cpu = nodes().map(|row| snapshot.cluster.promised(row).cpu).max();
        let most_memory = nodes().map(|row| snapshot.cluster.promised(row).memory).max();
        let mut too_much = |what: &str, asks: String, most: String| {
            problems.push(Problem {
                hint: Some(format!("ask for less, or add a larger node to the pool {}", pools.first())),
                ..Problem::at(
                    format!("workloads.{name}.resources"),
                    format!(
                        "it asks for {asks} of {what}, and the largest node of {} has {most}",
                        pools.in_words()
                    ),
                )
            });
        };
        if let Some(most) = most_memory.filter(|most| memory > *most) {
            too_much("memory", memory.to_string(), most.to_string());
        }
        if let Some(most) = most_cpu.filter(|most| cpu > *most) {
            too_much("processor", format!("{cpu} cores"), format!("{most} cores"));
        }
        let (disk, bandwidth) = workload.resources.reserved_besides();
        let most_disk = nodes().map(|row| snapshot.cluster.promised(row).disk).max();
        if let Some(most) = most_disk.filter(|most| disk > *most) {
            too_much("disk", disk.to_string(), most.to_string());
        }
        let most_bandwidth =
            nodes().map(|row| row.facts.machine.promised_bandwidth().unwrap_or_default()).max();
        if let Some(most) = most_bandwidth.filter(|most| bandwidth > *most) {
            too_much("bandwidth", bandwidth.to_string(), most.to_string());
        }
        if let (Some(platform), Some(pin)) = (&workload.platform, &workload.pin)
            && !pin.platforms.is_empty()
            && !pin.platforms.iter().any(|made| same_machine(made, platform))
        {
            let made = pin.platforms.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            problems.push(Problem {
                hint: Some(
                    "build it for that platform (`platforms:` of its build), or leave `platform:` out".into(),
                ),
                ..Problem::at(
                    format!("workloads.{name}.platform"),
                    format!("it is to run for {platform}, and the image {} is for {made}", workload.image),
                )
            });
        }
        for mount in &workload.secrets {
            if registry_of_secret(&mount.secret).is_some() {
                problems.push(Problem {
                    hint: Some("give the container a secret of its own".into()),
                    ..Problem::at(
                        format!("workloads.{name}.secrets"),
                        format!("{} is a login for a registry, which no container gets", mount.secret),
                    )
                });
                continue;
            }
            if !snapshot.secrets.contains_key(&rows::secret_id(&key.project, &mount.secret)) {
                problems.push(Problem {
                    hint: Some(format!("set it first: `lattice secret set {}`", mount.secret)),
                    ..Problem::at(
                        format!("workloads.{name}.secrets"),
                        format!("there is no secret {}", mount.secret),
                    )
                });
            }
        }
        if serde_json::to_vec(workload).is_ok_and(|json| json.len() > MAX_BODY_BYTES / 2) {
            problems.push(Problem::at(format!("workloads.{name}"), "it is larger than 512 KiB"));
        }
        told = told.saturating_add(told_bytes(workload, workload.replicas));
    }
    if told > MAX_TOLD {
        let text =
            format!("its services with all their replicas take {told} bytes to say; at most {MAX_TOLD}");
        let hint = "run fewer replicas, or keep less in variables and labels";
        problems.push(Problem { hint: Some(hint.into()), ..Problem::at("workloads", text) });
    }
    problems
}
