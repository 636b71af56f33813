//! A container engine in memory that fails, forgets and lags as it is told, for the reconciler's
//! tests: it carries out operations, and keeps count of what must never happen.

#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use lattice_converge::{
    AllocationRecord, Effect, Failure, Input, Listing, NodePolicy, Operation, OperationId, Outcome,
    Reconciler,
};
use lattice_model::{
    AllocationId, Bytes, Cpu, Duration, Goal, GoalAllocation, GoalId, GoalNetwork, GoalVolume, NetworkId,
    NodeId, Timestamp, VolumeId,
    container::{
        ContainerId, ContainerSeen, ContainerState, LABEL_ALLOCATION, LABEL_NODE, MountSource, NetworkSeen,
        VolumeSeen,
    },
    goal::DesiredState,
    report::{AllocationState, AllocationStatus, Health, ReportKind},
    spec::{MountSpec, TreeDigest, WorkloadSpec},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub fn node() -> NodeId {
    NodeId::from_random(1)
}

pub fn folders() -> lattice_converge::Folders {
    lattice_converge::Folders { secrets: "/run/s".into(), trees: "/var/t".into() }
}

pub fn policy() -> NodePolicy {
    NodePolicy::lending(Cpu::from_cores(4), Bytes::GIB)
}

pub fn allocation(service: &str, change: impl FnOnce(&mut GoalAllocation)) -> GoalAllocation {
    let mut allocation = GoalAllocation {
        workload: format!("default/shop/{service}").parse().unwrap(),
        slot: 1,
        desired: DesiredState::Run,
        restart: 0,
        replaces: None,
        spec: WorkloadSpec::of_image("img").into(),
        volumes: BTreeMap::new(),
        networks: BTreeMap::new(),
        secrets: BTreeMap::new(),
        registry: None,
    };
    change(&mut allocation);
    allocation
}

pub fn id(n: u128) -> AllocationId {
    AllocationId::from_random(n)
}

/// A goal whose allocations have the ids 1, 2, 3 …
pub fn goal(allocations: impl IntoIterator<Item = GoalAllocation>) -> Goal {
    let allocations = allocations.into_iter().zip(1u128..).map(|(a, n)| (id(n), a)).collect();
    Goal { allocations, ..Goal::default() }
}

pub fn with_volume(goal: &mut Goal, allocation: AllocationId, exists: bool) -> VolumeId {
    let volume = VolumeId::from_random(77);
    let key = "default/shop/data".parse().unwrap();
    goal.volumes.insert(volume, GoalVolume { key, exists, epoch: 1, delete: false, missing: false });
    let a = goal.allocations.get_mut(&allocation).unwrap();
    let mut spec = (*a.spec).clone();
    spec.mounts.push(MountSpec { volume: "data".parse().unwrap(), target: "/data".into(), read_only: false });
    a.spec = spec.into();
    a.volumes.insert("data".parse().unwrap(), volume);
    volume
}

pub fn with_network(goal: &mut Goal) -> NetworkId {
    let network = NetworkId::from_random(88);
    let (stack, name) = ("default/shop".parse().unwrap(), "default".parse().unwrap());
    goal.networks.insert(network, GoalNetwork { stack, name, spec: Default::default() });
    for a in goal.allocations.values_mut() {
        let mut spec = (*a.spec).clone();
        spec.networks.insert("default".parse().unwrap(), Default::default());
        a.spec = spec.into();
        a.networks.insert("default".parse().unwrap(), network);
    }
    network
}

/// The machine: an engine, a disk, a clock, and the reconciler that is being tried.
pub struct World {
    pub now: Timestamp,
    pub reconciler: Reconciler,
    pub containers: BTreeMap<ContainerId, ContainerSeen>,
    pub networks: BTreeMap<String, NetworkSeen>,
    pub volumes: BTreeMap<String, VolumeSeen>,
    pub images: Vec<String>,
    pub trees: BTreeSet<TreeDigest>,
    pub ports_in_use: Vec<u16>,
    pub records: BTreeMap<AllocationId, AllocationRecord>,
    pub kept_goal: Option<(GoalId, Goal)>,
    pub reports: Vec<ReportKind>,
    pub pending: VecDeque<(OperationId, Operation)>,
    pub log: Vec<String>,
    pub wake: Option<Timestamp>,
    pub fail_next: usize,
    /// Containers end with this code before anybody sees them run.
    pub ends_at_once: Option<i64>,
    pub no_registry: bool,
    pub no_link: bool,
    given: Option<(GoalId, Goal)>,
    counter: u128,
}

impl World {
    pub fn new() -> Self {
        Self {
            now: Timestamp(1_000_000),
            reconciler: Reconciler::new(node(), policy(), folders(), BTreeMap::new()),
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: vec!["img".into()],
            trees: BTreeSet::new(),
            ports_in_use: vec![],
            records: BTreeMap::new(),
            kept_goal: None,
            reports: vec![],
            pending: VecDeque::new(),
            log: vec![],
            wake: None,
            fail_next: 0,
            ends_at_once: None,
            no_registry: false,
            no_link: false,
            given: None,
            counter: 0,
        }
    }

    pub fn input(&mut self, input: Input) {
        if let Input::Goal(id, goal) = &input {
            self.given = Some((*id, goal.clone()));
        }
        let counter = &mut self.counter;
        let mut random = || {
            *counter += 1;
            *counter * 7919
        };
        for effect in self.reconciler.step(input, self.now, &mut random) {
            match effect {
                Effect::KeepGoal(_) => self.kept_goal = self.given.clone(),
                Effect::Run(id, operation) => self.pending.push_back((id, operation)),
                Effect::Report(kind) => self.reports.push(kind),
                Effect::Save(id, Some(record)) => drop(self.records.insert(id, *record)),
                Effect::Save(id, None) => drop(self.records.remove(&id)),
                Effect::WakeAt(at) => self.wake = Some(at),
            }
        }
    }

    pub fn listing(&self) -> Listing {
        let ours = |labels: &BTreeMap<String, String>| labels.get(LABEL_NODE) == Some(&node().to_string());
        Listing {
            containers: self.containers.values().filter(|c| ours(&c.labels)).cloned().collect(),
            networks: self.networks.values().filter(|n| ours(&n.labels)).cloned().collect(),
            volumes: self.volumes.values().filter(|v| ours(&v.labels)).cloned().collect(),
            trees: self.trees.clone(),
        }
    }

    pub fn list(&mut self) {
        let listing = self.listing();
        self.input(Input::Listed(listing));
    }

    pub fn give(&mut self, revision: u64, goal: &Goal) {
        self.input(Input::Goal(GoalId { incarnation: 1, revision }, goal.clone()));
    }

    /// kill -9 of the agent: all that it had in mind is gone, what it kept is there.
    pub fn crash_agent(&mut self) {
        self.pending.clear();
        self.reconciler = Reconciler::new(node(), policy(), folders(), self.records.clone());
        if let Some((id, goal)) = self.kept_goal.clone() {
            self.input(Input::Goal(id, goal));
        }
        self.list();
    }

    /// Carries out one operation and answers.
    pub fn carry_out(&mut self) -> bool {
        let Some((id, operation)) = self.pending.pop_front() else { return false };
        let result = if self.fail_next > 0 {
            self.fail_next -= 1;
            Err(Failure::Other("the engine had a bad moment".into()))
        } else {
            self.engine(operation)
        };
        self.input(Input::Done(id, result));
        true
    }

    fn engine(&mut self, operation: Operation) -> Result<Outcome, Failure> {
        self.log.push(describe(&operation));
        match operation {
            Operation::Pull { .. } if self.no_registry => {
                return Err(Failure::Other("the registry lacks it".into()));
            }
            Operation::Pull { image, .. } => self.images.push(image),
            Operation::FetchImage { .. } if self.no_link => {
                return Err(Failure::Other("there is no link to the server".into()));
            }
            Operation::FetchImage { image, .. } => self.images.push(image.to_string()),
            Operation::CreateNetwork { name, labels, .. } => {
                self.networks.insert(name.clone(), NetworkSeen { name, labels, bridge: None });
            }
            Operation::RemoveNetwork { name } => drop(self.networks.remove(&name)),
            Operation::CreateVolume { name, labels } => {
                self.volumes.insert(name.clone(), VolumeSeen { name, labels });
            }
            Operation::RemoveVolume { name } => drop(self.volumes.remove(&name)),
            Operation::WriteSecrets { .. } => {}
            Operation::FetchTree { .. } if self.no_link => {
                return Err(Failure::Other("there is no link to the server".into()));
            }
            Operation::FetchTree { tree } => drop(self.trees.insert(tree)),
            Operation::RemoveTree { tree } => drop(self.trees.remove(&tree)),
            Operation::Create { config, .. } => {
                let missing = |mount: &lattice_model::container::ContainerMount| match &mount.source {
                    MountSource::Tree(path) => {
                        !self.trees.iter().any(|tree| path.contains(&tree.to_string()))
                    }
                    _ => false,
                };
                assert!(!config.mounts.iter().any(missing), "files are there before a container mounts them");
                if !self.images.contains(&config.image) {
                    return Err(Failure::ImageMissing);
                }
                self.counter += 1;
                let id = ContainerId(format!("c{}", self.counter));
                let seen = ContainerSeen::just_created(id.clone(), *config);
                self.containers.insert(id.clone(), seen);
                return Ok(Outcome::Created(id));
            }
            Operation::Start { container, .. } => {
                let now = self.now;
                let mut in_use = self.ports_in_use.clone();
                let others = self.containers.values().filter(|c| c.state == ContainerState::Running);
                in_use
                    .extend(others.filter(|c| c.id != container).flat_map(|c| &c.ports).map(|p| p.host_port));
                let Some(c) = self.containers.get_mut(&container) else {
                    return Err(Failure::Missing("no such container".into()));
                };
                if let Some(port) = c.ports.iter().find(|p| in_use.contains(&p.host_port)) {
                    return Err(Failure::PortInUse(format!("port {} is in use", port.host_port)));
                }
                c.state = ContainerState::Running;
                c.started_at = Some(now);
                if let Some(code) = self.ends_at_once {
                    (c.state, c.finished_at, c.exit_code) = (ContainerState::Exited, Some(now), Some(code));
                }
                return Ok(Outcome::Seen(Some(Box::new(c.clone()))));
            }
            Operation::Stop { container, .. } => {
                self.end(&container, 143);
                return Ok(Outcome::Seen(self.containers.get(&container).cloned().map(Box::new)));
            }
            Operation::Remove { container, .. } => {
                let removed = self.containers.remove(&container);
                assert!(
                    removed.is_none_or(|c| c.state != ContainerState::Running),
                    "a running container is stopped before it is removed"
                );
            }
        }
        Ok(Outcome::Done)
    }

    pub fn end(&mut self, container: &ContainerId, code: i64) {
        if let Some(c) = self.containers.get_mut(container)
            && c.state == ContainerState::Running
        {
            c.state = ContainerState::Exited;
            c.finished_at = Some(self.now);
            c.exit_code = Some(code);
        }
    }

    /// A container ends by itself and the engine says so.
    pub fn die(&mut self, allocation: AllocationId, code: i64) {
        let c = self.container(allocation).unwrap().id.clone();
        self.end(&c, code);
        let seen = self.containers[&c].clone();
        self.input(Input::Container(Box::new(seen)));
    }

    pub fn container(&self, allocation: AllocationId) -> Option<&ContainerSeen> {
        self.containers.values().find(|c| c.labels.get(LABEL_ALLOCATION) == Some(&allocation.to_string()))
    }

    pub fn health(&mut self, allocation: AllocationId, health: Health) {
        let mut seen = self.container(allocation).unwrap().clone();
        seen.health = health;
        self.containers.insert(seen.id.clone(), seen.clone());
        self.input(Input::Container(Box::new(seen)));
    }

    /// Everything that can be done without time passing.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.carry_out() {
                return;
            }
        }
        panic!("it never settles; the last operations: {:?}", &self.log[self.log.len() - 20..]);
    }

    /// Time passes, with the wake-ups that were asked for.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while let Some(at) = self.wake.take().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Tick);
            self.settle();
        }
        self.now = end;
        self.input(Input::Tick);
        self.settle();
    }

    pub fn status(&self, id: AllocationId) -> AllocationStatus {
        let told = self.reports.iter().rev().find_map(|kind| match kind {
            ReportKind::Allocation { id: other, status } if *other == id => Some(status.clone()),
            _ => None,
        });
        told.unwrap_or_else(|| AllocationStatus::new(AllocationState::Assigned))
    }

    /// How often an operation was asked of the engine.
    pub fn count(&self, operation: &str) -> usize {
        self.log.iter().filter(|line| line.starts_with(operation)).count()
    }

    pub fn running(&self) -> usize {
        self.containers.values().filter(|c| c.state == ContainerState::Running).count()
    }
}

fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Pull { image, .. } => format!("pull {image}"),
        Operation::FetchImage { image, .. } => format!("fetch image {image}"),
        Operation::CreateNetwork { .. } => "create network".into(),
        Operation::RemoveNetwork { .. } => "remove network".into(),
        Operation::CreateVolume { .. } => "create volume".into(),
        Operation::RemoveVolume { .. } => "remove volume".into(),
        Operation::WriteSecrets { .. } => "write secrets".into(),
        Operation::FetchTree { .. } => "fetch tree".into(),
        Operation::RemoveTree { .. } => "remove tree".into(),
        Operation::Create { config, .. } => format!("create {}", config.name.rsplit_once('_').unwrap().0),
        Operation::Start { .. } => "start".into(),
        Operation::Stop { .. } => "stop".into(),
        Operation::Remove { .. } => "remove".into(),
    }
}
