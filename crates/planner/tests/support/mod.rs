//! A made-up cluster that is changed, planned and obeyed. Every plan is checked against the invariants.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use lattice_model::{
    AllocationId, Bytes, Cpu, Duration, NodeId, StackId, StackKey, Timestamp, VolumeId, WorkloadKey,
    goal::DesiredState,
    report::{AllocationState, AllocationStatus},
    resource::{
        Allocation, Approval, Capacity, Eligibility, Intent, Node, NodeFacts, Presence, PresenceState, Stack,
        Volume, Workload, WorkloadRevision,
    },
    spec::{ContainerPort, MountSpec, PortSpec, RestartPolicy, WorkloadSpec},
};
use lattice_planner::{Cluster, ManyNodes, Plan, PlanReport, Policy, Row, invariants, plan};
use std::{collections::BTreeSet, sync::Arc};

/// A cluster that is changed and planned, as the server does it.
pub struct Scene {
    pub cluster: Cluster,
    pub revision: u64,
    pub random: u128,
    pub now: Timestamp,
    pub policy: Policy,
}

/// Lost after 10 s; three or more at once, and more than half, wait.
pub const POLICY: Policy = Policy {
    node_loss_after: Duration::from_secs(10),
    many_nodes: ManyNodes { least: 3, percent: 50 },
    strategy: lattice_planner::Strategy::Spread,
    rebalance: None,
};

pub fn workload_of(key: WorkloadKey, spec: Arc<WorkloadSpec>, generation: u64, replicas: u32) -> Workload {
    let (alike, rolled_back) = Default::default();
    Workload {
        key,
        spec,
        generation,
        replicas,
        desired: DesiredState::Run,
        restart: 0,
        settled: 0,
        alike,
        rolled_back,
        rollout: None,
        moved_at: None,
        timetable: None,
    }
}

impl Scene {
    pub fn with_nodes(sizes: &[(u32, u64)]) -> Self {
        let mut scene =
            Self { cluster: Cluster::default(), revision: 0, random: 0, now: Timestamp(7), policy: POLICY };
        for (n, (cores, gib)) in sizes.iter().enumerate() {
            let node = Node {
                id: node_id(n),
                name: format!("node-{n}").parse().unwrap(),
                owner: "admin".parse().unwrap(),
                pool: "default".parse().unwrap(),
                pool_fixed: false,
                home_pool: None,
                pool_since: None,
                approval: Approval::Approved,
                eligibility: Eligibility::Eligible,
                capacity: Capacity {
                    cpu: Cpu::from_cores(*cores),
                    memory: Bytes(*gib << 30),
                    disk: Bytes::GIB,
                },
                facts: NodeFacts::default(),
                conditions: Vec::new(),
                labels: Default::default(),
                taints: Default::default(),
                drain: None,
                presence: Presence { state: PresenceState::Connected, since: Timestamp(0) },
                standing: Default::default(),
                joined_at: Timestamp(0),
            };
            let row = scene.row(node);
            scene.cluster.nodes.insert(row.id, row);
        }
        scene
    }

    pub fn row<T>(&mut self, value: T) -> Row<T> {
        self.revision += 1;
        Row { revision: self.revision, value: Arc::new(value) }
    }

    pub fn node(&mut self, n: usize, change: impl FnOnce(&mut Node)) {
        let mut node = (*self.cluster.nodes[&node_id(n)].value).clone();
        change(&mut node);
        let row = self.row(node);
        self.cluster.nodes.insert(row.id, row);
    }

    pub fn stack(&mut self) {
        let stack = Stack {
            id: StackId::from_random(5),
            key: shop(),
            owner: "admin".parse().unwrap(),
            version: 1,
            networks: Default::default(),
            deployed_at: Timestamp(0),
            deleting: false,
        };
        let row = self.row(stack);
        self.cluster.stacks.insert(shop(), row);
    }

    pub fn workload(&mut self, name: &str, replicas: u32, change: impl FnOnce(&mut WorkloadSpec)) {
        let mut spec = WorkloadSpec::of_image("img");
        change(&mut spec);
        for mount in &spec.mounts {
            let key = shop().volume(mount.volume.clone());
            if !self.cluster.volumes.contains_key(&key) {
                let id = VolumeId::from_random(self.revision.into());
                let (node, exists, epoch, missing, deleting) = (None, false, 0, false, false);
                let volume = Volume {
                    id,
                    key: key.clone(),
                    node,
                    exists,
                    epoch,
                    missing,
                    deleting,
                    created_at: Timestamp(0),
                };
                let row = self.row(volume);
                self.cluster.volumes.insert(key, row);
            }
        }
        let generation = self.cluster.workloads().get(&key(name)).map_or(1, |row| row.generation + 1);
        let spec = Arc::new(spec);
        let workload = workload_of(key(name), spec, generation, replicas);
        let before = self.cluster.workloads().get(&key(name)).map_or(0, |row| row.settled);
        let kept = WorkloadRevision {
            key: key(name),
            generation,
            spec: Arc::clone(&workload.spec),
            networks: Default::default(),
            came_up: false,
        };
        let kept = self.row(kept);
        self.cluster.revisions.insert((key(name), generation), kept);
        let row = self.row(Workload { settled: before, ..workload });
        self.cluster.put_workload(row);
    }

    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Workload)) {
        let mut workload = (*self.cluster.workloads()[&key(name)].value).clone();
        change(&mut workload);
        let row = self.row(workload);
        self.cluster.put_workload(row);
    }

    pub fn volume(&mut self, change: impl FnOnce(&mut Volume)) {
        let mut volume = (*self.cluster.volumes.values().next().unwrap().value).clone();
        change(&mut volume);
        let row = self.row(volume);
        self.cluster.volumes.insert(row.key.clone(), row);
    }

    /// Plans, checks, commits.
    pub fn plan(&mut self) -> (Plan, PlanReport) {
        let random = &mut self.random;
        let mut draw = || {
            *random += 1;
            *random
        };
        let stacks: BTreeSet<StackKey> =
            self.cluster.workloads().keys().map(WorkloadKey::stack_key).chain([shop()]).collect();
        let (plan, report) = plan(&self.cluster, &stacks, &self.policy, self.now, &mut draw);
        let broken = invariants::broken(&self.cluster, &plan);
        assert!(broken.is_empty(), "{broken:#?}\n{plan:#?}");
        self.revision += 1;
        self.cluster = invariants::apply(&self.cluster, &plan, self.revision);
        (plan, report)
    }

    /// The nodes that are there do as they are told: what should go is gone, what should run serves.
    pub fn obey(&mut self) {
        let all: Vec<Row<Allocation>> = self.cluster.allocations().values().cloned().collect();
        for row in all {
            if self.cluster.nodes.get(&row.node).is_some_and(|n| n.presence.state != PresenceState::Connected)
            {
                continue;
            }
            if row.intent == Intent::Remove {
                self.cluster.remove_allocation(row.id);
                continue;
            }
            let state =
                if row.intent == Intent::Run { AllocationState::Running } else { AllocationState::Stopped };
            self.status(row.id, state);
        }
        let volumes: Vec<Row<Volume>> = self.cluster.volumes.values().cloned().collect();
        let there = |row: &Row<Volume>, scene: &Self| {
            row.node
                .and_then(|node| scene.cluster.nodes.get(&node))
                .is_some_and(|n| n.presence.state == PresenceState::Connected)
        };
        for row in volumes.into_iter().filter(|row| there(row, self)).collect::<Vec<_>>() {
            if row.deleting {
                self.cluster.volumes.remove(&row.key);
                continue;
            }
            let volume = Volume { exists: true, ..(*row.value).clone() };
            let row = self.row(volume);
            self.cluster.volumes.insert(row.key.clone(), row);
        }
    }

    pub fn status(&mut self, id: AllocationId, state: AllocationState) {
        let mut allocation = (*self.cluster.allocations()[&id].value).clone();
        allocation.status = AllocationStatus::new(state);
        let serves = allocation.status.is_serving();
        allocation.serving_since = serves.then(|| allocation.serving_since.unwrap_or(self.now));
        let row = self.row(allocation);
        self.cluster.put_allocation(row);
    }

    /// Plans and obeys until nothing changes.
    pub fn settle(&mut self) -> PlanReport {
        for _ in 0..200 {
            let (plan, report) = self.plan();
            if plan.steps.is_empty() {
                return report;
            }
            self.obey();
        }
        panic!("it never settles");
    }

    /// The same while time goes on: what is watched or waits a while comes to its end.
    pub fn settle_in_time(&mut self) -> PlanReport {
        for _ in 0..500 {
            self.obey();
            let (plan, report) = self.plan();
            if !plan.steps.is_empty() {
                continue;
            }
            match report.next.values().min() {
                Some(next) => self.now = *next,
                None => return report,
            }
        }
        panic!("it never settles");
    }

    /// The same, and jobs that have ended have ended: they are not begun again.
    pub fn obey_and_leave_what_ended(&mut self) {
        let ended = |row: &Row<Allocation>| {
            row.status.state == AllocationState::Completed
                && row.spec.restart == RestartPolicy::Never
                && row.intent == Intent::Run
        };
        let rows = self.cluster.allocations().values().filter(|row| ended(row));
        let over: Vec<AllocationId> = rows.map(|row| row.id).collect();
        self.obey();
        for id in over {
            self.status(id, AllocationState::Completed);
        }
    }

    /// The replicas that fill a workload's slots, in their order.
    pub fn filling(&self, name: &str) -> Vec<Row<Allocation>> {
        let key = key(name);
        let rows = self.cluster.allocations_of(&key);
        let mut rows: Vec<_> =
            rows.filter(|row| row.superseded.is_none() && row.intent == Intent::Run).cloned().collect();
        rows.sort_by_key(|row| row.slot);
        rows
    }

    pub fn active(&self, name: &str) -> Vec<&Row<Allocation>> {
        self.cluster.allocations_of(&key(name)).filter(|row| row.intent == Intent::Run).collect()
    }
}

pub fn node_id(n: usize) -> NodeId {
    NodeId::from_random(1000 + n as u128)
}

pub fn shop() -> StackKey {
    "default/shop".parse().unwrap()
}

pub fn key(name: &str) -> WorkloadKey {
    shop().workload(name.parse().unwrap())
}

pub fn network(spec: &mut WorkloadSpec) {
    spec.networks.insert("default".parse().unwrap(), Default::default());
}

pub fn mount(spec: &mut WorkloadSpec) {
    spec.mounts.push(MountSpec { volume: "data".parse().unwrap(), target: "/data".into(), read_only: false });
}

pub fn publish(port: u16) -> impl FnOnce(&mut WorkloadSpec) {
    move |spec| {
        let target = ContainerPort { port: 80, protocol: Default::default() };
        spec.ports.push(PortSpec { target, published: Some(port), published_to: None, host_ip: None });
    }
}
