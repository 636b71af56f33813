//! The state and its step.

use crate::{
    config::Folders,
    decide::{Decision, MAX_GRACE, Next, decide},
    outcome::image_of,
    policy::NodePolicy,
    pressure::Pressure,
    record::AllocationRecord,
    trees::Trees,
    words::{Admission, Effect, Input, Listing, Operation, OperationId},
};
use lattice_model::{
    AllocationId, Bytes, Duration, Goal, GoalAllocation, GoalId, NetworkId, NodeId, Timestamp, VolumeId,
    VolumeName,
    container::{ContainerId, ContainerSeen, ContainerState, LABEL_NODE},
    goal::{DesiredState, SecretValue},
    name::SecretName,
    report::{AllocationState, ReportKind},
    spec::{RestartPolicy, TreeDigest},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The most operations that are under way at a time; more would only queue in the engine.
const MAX_OPERATIONS: usize = 16;

/// How often one step looks at all allocations; chains of dependencies settle in two or three.
const MAX_PASSES: usize = 8;

/// What is known of an allocation besides its goal and its container.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    pub(crate) record: AllocationRecord,
    saved: AllocationRecord,
    pub(crate) busy: Option<OperationId>,
    pub(crate) needs_image: bool,
    /// Its image was fetched for the container that is to be made.
    pub(crate) fetched: bool,
    /// Its container cannot be started as it was made: it is removed where it would be started.
    pub(crate) renew: bool,
    /// The values of secrets that were written last, by this agent.
    pub(crate) written: Option<BTreeMap<SecretName, SecretValue>>,
    pub(crate) trouble: Option<Trouble>,
    /// Ports that the node chose and that somebody else had: another is chosen while there is one.
    pub(crate) refused_ports: BTreeSet<u16>,
    pub(crate) ended_at: Option<Timestamp>,
}

/// A failure that is tried again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) why: String,
    pub(crate) failures: u32,
    pub(crate) retry_at: Timestamp,
}

impl Trouble {
    /// One more failure: tried again after 1 s, 2 s, 4 s … at most 5 minutes.
    pub(crate) fn again(before: Option<&Self>, why: &str, now: Timestamp) -> Self {
        let failures = before.map_or(0, |t| t.failures) + 1;
        let pause = Duration::from_millis((500 << failures.min(10)).min(300_000));
        Self { why: why.to_owned(), failures, retry_at: now + pause }
    }
}

pub(crate) type Containers = BTreeMap<ContainerId, ContainerSeen>;

/// What the engine shows.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) containers: BTreeMap<AllocationId, Containers>,
    pub(crate) networks: BTreeMap<NetworkId, String>,
    pub(crate) volumes: BTreeMap<VolumeId, String>,
    pub(crate) trees: BTreeSet<TreeDigest>,
}

/// The agent's mind: see the crate's documentation.
#[derive(Debug)]
pub struct Reconciler {
    pub(crate) node: NodeId,
    pub(crate) policy: NodePolicy,
    pub(crate) admission: Admission,
    /// What the machine is short of.
    pub(crate) pressure: Pressure,
    pub(crate) folders: Folders,
    pub(crate) goal: Option<(GoalId, Arc<Goal>)>,
    pub(crate) view: Option<View>,
    pub(crate) tracked: BTreeMap<AllocationId, Tracked>,
    pub(crate) troubles: BTreeMap<String, Trouble>,
    pub(crate) under_way: BTreeMap<OperationId, Operation>,
    /// How far what is fetched is, by subject: bytes here, bytes in all.
    pub(crate) fetched: BTreeMap<String, (Bytes, Bytes)>,
    runtime_lost: bool,
    /// Made since the last listing: the next one may have begun before, and lack them.
    pub(crate) made_networks: BTreeMap<NetworkId, String>,
    pub(crate) made_volumes: BTreeMap<VolumeId, String>,
    pub(crate) trees: Trees,
    told_gone: BTreeSet<AllocationId>,
    /// What was said last about each volume, under this goal.
    pub(crate) told_volumes: BTreeMap<VolumeId, ReportKind>,
    next_operation: u64,
}

impl Reconciler {
    /// A reconciler that knows what was remembered, and nothing of the engine or the goal yet.
    pub fn new(
        node: NodeId,
        policy: NodePolicy,
        folders: Folders,
        records: BTreeMap<AllocationId, AllocationRecord>,
    ) -> Self {
        let track = |(id, record): (_, AllocationRecord)| {
            (id, Tracked { saved: record.clone(), record, ..Tracked::default() })
        };
        Self {
            node,
            policy,
            admission: Admission::Open,
            pressure: Pressure::default(),
            folders,
            goal: None,
            view: None,
            tracked: records.into_iter().map(track).collect(),
            troubles: BTreeMap::new(),
            under_way: BTreeMap::new(),
            fetched: BTreeMap::new(),
            runtime_lost: false,
            made_networks: BTreeMap::new(),
            made_volumes: BTreeMap::new(),
            trees: Trees::default(),
            told_gone: BTreeSet::new(),
            told_volumes: BTreeMap::new(),
            next_operation: 0,
        }
    }

    /// The goal that it works towards.
    pub fn goal_id(&self) -> Option<GoalId> {
        self.goal.as_ref().map(|(id, _)| *id)
    }

    /// The status of every allocation of the goal, as last reported.
    pub fn statuses(&self) -> impl Iterator<Item = (AllocationId, &lattice_model::report::AllocationStatus)> {
        self.tracked.iter().filter_map(|(id, t)| Some((*id, t.record.reported.as_ref()?)))
    }

    /// Whether a job that was begun has not ended yet. While the engine is not known, one may run.
    pub fn jobs_under_way(&self) -> bool {
        let Some((_, goal)) = &self.goal else { return false };
        let mut jobs = goal.allocations.iter().filter(|(_, wanted)| {
            wanted.desired == DesiredState::Run && wanted.spec.restart != RestartPolicy::Always
        });
        jobs.any(|(id, _)| match (&self.view, self.tracked.get(id)) {
            (None, _) => true,
            (Some(_), Some(tracked)) => {
                tracked.busy.is_some()
                    || tracked.record.reported.as_ref().is_some_and(|status| {
                        use AllocationState::{BackingOff, Running, Starting, Stopping};
                        matches!(status.state, Running | Starting | BackingOff | Stopping)
                    })
            }
            (Some(_), None) => false,
        })
    }

    /// Whether the engine answered when it was last asked, and has been listed.
    pub const fn engine_known(&self) -> bool {
        self.view.is_some()
    }

    /// The container of an allocation that runs now, for logs and exec.
    pub fn container_of(&self, id: AllocationId) -> Option<&ContainerSeen> {
        pick_container(self.view.as_ref()?.containers.get(&id)?)
    }

    /// The GPUs that the goal gives to somebody, by their ids.
    pub fn gpus_in_use(&self) -> BTreeSet<String> {
        let goal = self.goal.as_ref().map(|(_, goal)| &goal.allocations);
        let wanted = goal.into_iter().flat_map(|all| all.values());
        wanted.filter_map(|wanted| wanted.spec.gpus.as_ref()).flat_map(|gpus| gpus.ids.clone()).collect()
    }

    /// The images of the goal, as the engine is asked for them: what is collected is none of these.
    pub fn images_in_use(&self) -> BTreeSet<String> {
        let goal = self.goal.as_ref().map(|(_, goal)| &goal.allocations);
        goal.into_iter().flat_map(|all| all.values().map(|wanted| wanted.spec.engine_image())).collect()
    }

    /// What was asked of the server in vain deserves a try at once when there is a link again.
    fn retry_uploaded_images(&mut self, now: Timestamp) {
        let Some((_, goal)) = self.goal.clone() else { return };
        for (id, wanted) in goal.allocations.iter().filter(|(_, a)| a.spec.uploaded_image().is_some()) {
            let own = self.tracked.get_mut(id).and_then(|tracked| tracked.trouble.as_mut());
            let shared = self.troubles.get_mut(&image_of(wanted).subject());
            own.into_iter().chain(shared).for_each(|trouble| trouble.retry_at = now);
        }
    }

    /// What the engine calls a volume that an allocation of the goal mounts, once it is here.
    pub fn volume_of(&self, id: AllocationId, name: &VolumeName) -> Option<String> {
        let (_, goal) = self.goal.as_ref()?;
        let volume = goal.allocations.get(&id)?.volumes.get(name)?;
        let here = self.view.as_ref()?.volumes.contains_key(volume);
        let described = goal.volumes.get(volume).filter(|volume| here && !volume.delete)?;
        Some(described.engine_name(*volume))
    }

    /// Forgets which answers were given, so that the next step gives them again: to be called when
    /// the queue of reports overflowed and some of them may never arrive.
    pub fn tell_again(&mut self) {
        self.told_gone.clear();
        self.told_volumes.clear();
    }

    /// Takes one input in and answers with what to do. `random` gives 128 fresh random bits.
    pub fn step(&mut self, input: Input, now: Timestamp, random: &mut dyn FnMut() -> u128) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.take(input, now, &mut effects);
        if let Some((_, goal)) = self.goal.clone().filter(|_| self.view.is_some()) {
            self.surroundings(&goal, now, &mut effects);
            self.allocations(&goal, now, random, &mut effects);
            self.surplus(&goal, now, &mut effects);
            self.surplus_trees(&goal, now, &mut effects);
        }
        self.save_changes(&mut effects);
        self.wake(now, &mut effects);
        effects
    }

    fn take(&mut self, input: Input, now: Timestamp, effects: &mut Vec<Effect>) {
        match input {
            Input::Goal(id, goal) => self.take_goal(id, goal, now, effects),
            Input::Policy(policy) => self.policy = policy,
            Input::Admission(admission) => self.admission = admission,
            Input::Pressure(pressure) => self.take_pressure(pressure, now),
            Input::Listed(listing) => {
                if std::mem::take(&mut self.runtime_lost) {
                    effects.push(Effect::Report(ReportKind::RuntimeBack));
                    // An engine that is back deserves a try at once.
                    let own = self.tracked.values_mut().filter_map(|t| t.trouble.as_mut());
                    own.chain(self.troubles.values_mut()).for_each(|trouble| trouble.retry_at = now);
                }
                self.take_listing(listing, now);
            }
            Input::Container(seen) => self.see(*seen, now),
            Input::Vanished(id) => self.unsee(&id),
            Input::Progress(id, here, total) => {
                if let Some(operation) = self.under_way.get(&id) {
                    self.fetched.insert(operation.subject(), (here, total));
                }
            }
            Input::Done(id, result) => self.take_result(id, result, now),
            Input::RuntimeLost(reason) => {
                self.view = None;
                if !std::mem::replace(&mut self.runtime_lost, true) {
                    effects.push(Effect::Report(ReportKind::RuntimeLost { reason }));
                }
            }
            // What was asked of the server in vain deserves a try at once.
            Input::Linked => {
                self.retry_trees(now, |_| true);
                self.retry_uploaded_images(now);
            }
            Input::Tick => {}
        }
    }

    fn take_goal(&mut self, id: GoalId, goal: Goal, now: Timestamp, effects: &mut Vec<Effect>) {
        match &self.goal {
            Some((current, _)) if id < *current => {
                let reason = format!("this node already works towards the newer goal {current}");
                effects.push(Effect::Report(ReportKind::GoalRefused { goal: id, reason }));
            }
            Some((current, same)) if id == *current && **same == goal => {}
            _ => {
                self.told_gone.retain(|gone| goal.remove.contains(gone));
                self.told_volumes.clear();
                self.retry_what_changed(&goal, now);
                self.goal = Some((id, Arc::new(goal)));
                effects.push(Effect::KeepGoal(id));
            }
        }
    }

    /// Whoever asks for something else, or for an end, does not wait for the pause after a failure.
    fn retry_what_changed(&mut self, goal: &Goal, now: Timestamp) {
        let before = self.goal.as_ref().map(|(_, before)| Arc::clone(before)).unwrap_or_default();
        for (id, tracked) in &mut self.tracked {
            if before.allocations.get(id) != goal.allocations.get(id)
                && let Some(trouble) = &mut tracked.trouble
            {
                trouble.retry_at = now;
            }
        }
        for (_, wanted) in goal.allocations.iter().filter(|(id, a)| before.allocations.get(id) != Some(a)) {
            if let Some(trouble) = self.troubles.get_mut(&image_of(wanted).subject()) {
                trouble.retry_at = now;
            }
        }
        let changed = |id: &AllocationId, a: &GoalAllocation| before.allocations.get(id) != Some(a);
        let changed = goal.allocations.iter().filter(|(id, a)| changed(id, a));
        let trees: BTreeSet<TreeDigest> =
            changed.flat_map(|(_, a)| a.spec.trees.iter().map(|mount| mount.tree)).collect();
        self.retry_trees(now, |tree| trees.contains(tree));
    }

    /// Whether a container was made with this volume, so that its absence is the loss of data also
    /// where the server has not heard of it yet.
    pub(crate) fn was_here(&self, volume: VolumeId) -> bool {
        self.tracked.values().any(|tracked| tracked.record.volumes.contains(&volume))
    }

    fn take_listing(&mut self, listing: Listing, now: Timestamp) {
        let before = self.view.take().unwrap_or_default();
        let mut view = View::default();
        let node = self.node.to_string();
        let ours = |labels: &BTreeMap<String, String>| labels.get(LABEL_NODE) == Some(&node);
        let networks = listing.networks.into_iter().filter(|n| ours(&n.labels));
        let networks = networks.filter_map(|n| Some((n.network()?, n.name)));
        view.networks = networks.chain(std::mem::take(&mut self.made_networks)).collect();
        let volumes = listing.volumes.into_iter().filter(|v| ours(&v.labels));
        let volumes = volumes.filter_map(|v| Some((v.volume()?, v.name)));
        view.volumes = volumes.chain(std::mem::take(&mut self.made_volumes)).collect();
        view.trees = self.trees.listed(listing.trees);
        // A listing may be older than an operation under way; what that made is kept until it ends.
        for operation in self.under_way.values() {
            if let Some(id) = operation.allocation()
                && let Some(containers) = before.containers.get(&id)
            {
                view.containers.insert(id, containers.clone());
            }
        }
        let busy: BTreeSet<AllocationId> = view.containers.keys().copied().collect();
        self.view = Some(view);
        for seen in listing.containers {
            if seen.allocation().is_some_and(|id| !busy.contains(&id)) {
                self.see(seen, now);
            }
        }
    }

    pub(crate) fn see(&mut self, seen: ContainerSeen, now: Timestamp) {
        let Some(id) = seen.allocation().filter(|_| seen.node() == Some(self.node)) else { return };
        let Some(view) = &mut self.view else { return };
        let running = seen.state == ContainerState::Running;
        view.containers.entry(id).or_default().insert(seen.id.clone(), seen);
        if let Some(tracked) = self.tracked.get_mut(&id) {
            match running {
                true => tracked.ended_at = None,
                false => tracked.ended_at = tracked.ended_at.or(Some(now)),
            }
        }
    }

    pub(crate) fn unsee(&mut self, container: &ContainerId) {
        let Some(view) = &mut self.view else { return };
        view.containers.retain(|_, containers| {
            containers.remove(container);
            !containers.is_empty()
        });
    }

    fn allocations(
        &mut self,
        goal: &Goal,
        now: Timestamp,
        random: &mut dyn FnMut() -> u128,
        effects: &mut Vec<Effect>,
    ) {
        for (id, wanted) in &goal.allocations {
            self.tracked.entry(*id).or_insert_with(|| {
                // Without a record nothing says that a restart is owed.
                let record =
                    AllocationRecord { honoured_restart: wanted.restart, ..AllocationRecord::default() };
                Tracked { record, ..Tracked::default() }
            });
        }
        // What one allocation waits for may be what another one just became.
        for _ in 0..MAX_PASSES {
            let mut changed = false;
            for (id, wanted) in &goal.allocations {
                changed |= self.allocation(*id, wanted, goal, now, random, effects);
            }
            if !changed {
                break;
            }
        }
    }

    /// Decides one allocation; whether its status changed.
    fn allocation(
        &mut self,
        id: AllocationId,
        wanted: &GoalAllocation,
        goal: &Goal,
        now: Timestamp,
        random: &mut dyn FnMut() -> u128,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Decision { next, mut status, record } = decide(self, id, wanted, goal, now, random);
        let begun = match next {
            Next::Run(operation) => self.launch(operation, now, effects),
            Next::Nothing => true,
        };
        let Some(tracked) = self.tracked.get_mut(&id) else { return false };
        if begun {
            let reported = tracked.record.reported.take();
            tracked.record = AllocationRecord { reported, ..record };
        } else {
            // Ports stay chosen while it waits for its turn, or each look would choose others.
            tracked.record.ports = record.ports;
            status.restarts = tracked.record.restarts;
        }
        let changed = tracked.record.reported.as_ref() != Some(&status);
        if changed {
            tracked.record.reported = Some(status.clone());
            effects.push(Effect::Report(ReportKind::Allocation { id, status }));
        }
        changed
    }

    /// Containers that the goal does not have, and networks that nothing uses any more.
    fn surplus(&mut self, goal: &Goal, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        let leaving: Vec<AllocationId> =
            view.containers.keys().filter(|id| !goal.allocations.contains_key(id)).copied().collect();
        for id in &leaving {
            self.tracked.entry(*id).or_default();
            if let Some(operation) = self.farewell(*id) {
                self.launch(operation, now, effects);
            }
        }
        let gone = |id: &AllocationId| {
            !goal.allocations.contains_key(id)
                && !leaving.contains(id)
                && self.tracked.get(id).is_none_or(|t| t.busy.is_none())
        };
        let mut forgotten: BTreeSet<AllocationId> =
            self.tracked.keys().filter(|id| gone(id)).copied().collect();
        let answers: Vec<AllocationId> = goal.remove.iter().filter(|id| gone(id)).copied().collect();
        for id in answers {
            if self.told_gone.insert(id) {
                effects.push(Effect::Report(ReportKind::AllocationGone { id }));
            }
        }
        forgotten.retain(|id| self.tracked.remove(id).is_some());
        effects.extend(forgotten.into_iter().map(|id| Effect::Save(id, None)));
        if leaving.is_empty() {
            let unused = |view: &View| -> Vec<String> {
                view.networks
                    .iter()
                    .filter(|(id, _)| !goal.networks.contains_key(id))
                    .map(|(_, n)| n.clone())
                    .collect()
            };
            for name in self.view.as_ref().map(unused).unwrap_or_default() {
                self.launch(Operation::RemoveNetwork { name }, now, effects);
            }
        }
    }

    /// The next operation for an allocation that is to go: stop what runs, then remove.
    fn farewell(&self, allocation: AllocationId) -> Option<Operation> {
        let containers = self.view.as_ref()?.containers.get(&allocation)?;
        let seen = containers.values().next()?;
        let container = seen.id.clone();
        Some(match seen.state {
            ContainerState::Running | ContainerState::Paused => {
                Operation::Stop { allocation, container, grace: self.grace(allocation) }
            }
            ContainerState::Created | ContainerState::Exited | ContainerState::Dead => {
                Operation::Remove { allocation, container }
            }
        })
    }

    /// What the goal says, or the customary ten seconds once it says nothing any more.
    fn grace(&self, id: AllocationId) -> Duration {
        let wanted = self.goal.as_ref().and_then(|(_, goal)| goal.allocations.get(&id));
        let remembered = self.tracked.get(&id).and_then(|tracked| tracked.record.grace);
        let grace = wanted.map(|a| a.spec.stop_grace_period).or(remembered);
        grace.unwrap_or(Duration::from_secs(10)).min(MAX_GRACE)
    }

    /// Starts an operation, unless one on the same subject is under way, it failed just now, or
    /// too many are under way.
    pub(crate) fn launch(&mut self, operation: Operation, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        let subject = operation.subject();
        let waits = |trouble: Option<&Trouble>| trouble.is_some_and(|t| t.retry_at > now);
        let tracked = operation.allocation().and_then(|id| self.tracked.get(&id));
        let busy = match operation.allocation() {
            Some(_) => tracked.is_some_and(|t| t.busy.is_some() || waits(t.trouble.as_ref())),
            None => {
                waits(self.troubles.get(&subject))
                    || self.under_way.values().any(|other| other.subject() == subject)
            }
        };
        if busy || self.under_way.len() >= MAX_OPERATIONS {
            return false;
        }
        self.next_operation += 1;
        let id = OperationId(self.next_operation);
        if let Some(tracked) = operation.allocation().and_then(|a| self.tracked.get_mut(&a)) {
            tracked.busy = Some(id);
        }
        self.under_way.insert(id, operation.clone());
        effects.push(Effect::Run(id, operation));
        true
    }

    fn save_changes(&mut self, effects: &mut Vec<Effect>) {
        let mut saves = Vec::new();
        for (id, tracked) in &mut self.tracked {
            if tracked.record != tracked.saved {
                tracked.saved = tracked.record.clone();
                saves.push(Effect::Save(*id, Some(Box::new(tracked.record.clone()))));
            }
        }
        // What is remembered is on disk before the engine acts on it.
        let first = usize::from(matches!(effects.first(), Some(Effect::KeepGoal(_))));
        effects.splice(first..first, saves);
    }

    fn wake(&self, now: Timestamp, effects: &mut Vec<Effect>) {
        let troubles = self.troubles.values().chain(self.tracked.values().filter_map(|t| t.trouble.as_ref()));
        let timing = |id| {
            let wanted = self.goal.as_ref().and_then(|(_, goal)| goal.allocations.get(id));
            wanted.map(|wanted| wanted.spec.restart_timing).unwrap_or_default()
        };
        let idle = self.tracked.iter().filter(|(_, t)| t.busy.is_none());
        let pauses = idle.filter_map(|(id, t)| Some(t.record.restart_at(t.ended_at?, timing(id))));
        let next =
            troubles.map(|t| t.retry_at).chain(pauses).chain(self.trees.wake()).chain(self.eviction_ends());
        let next = next.filter(|at| *at > now).min();
        effects.extend(next.map(Effect::WakeAt));
    }
}

/// Of several containers of one allocation (after a crash in the wrong moment), the one that
/// counts: the one that runs, else any.
pub(crate) fn pick_container(containers: &Containers) -> Option<&ContainerSeen> {
    let runs = |c: &&ContainerSeen| c.state == ContainerState::Running;
    containers.values().find(runs).or_else(|| containers.values().next())
}
