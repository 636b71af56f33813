//! `scheduler-perf/<case>`: tasks a second from submission to a binding that is stored durably, in the shape of Kubernetes'
//! scheduler_perf.
//!
//! 5,000 nodes of 4 processors, 32 GiB and 110 slots. Each task is a stack with one workload and a submission of its own:
//! one transaction of the embedded store (`synchronous=FULL`), from 256 submitters at once. The planner takes what has been
//! acknowledged, plans it as the server does, checks every plan's invariants, and writes the bindings down, at most 400
//! operations in a transaction; a task counts when the transaction with its binding is acknowledged. Requests over HTTP
//! are not part of it; `api-writes` measures those. The targets are ten times the lower limits of Kubernetes' own
//! continuous integration, which measures from its API server on.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    lab::Lab,
    progress::say,
    select::Wanted,
};
use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use lattice_model::{
    AllocationId, Bytes, Cpu, Duration, NodeId, StackKey, Timestamp, WorkloadKey,
    goal::DesiredState,
    report::{AllocationState, AllocationStatus},
    resource::{Allocation, Capacity, Intent, Node, Stack, Workload},
    spec::{Affinity, WorkloadSpec},
};
use lattice_planner::{Cluster, Ledger, ManyNodes, Plan, Policy, Row, Step, Strategy, invariants};
use lattice_store::{Key, Kind, Op, SqliteOptions, SqliteStore, Store, Transaction};
use serde::Serialize;
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Instant};
use tokio::sync::mpsc;

const NODES: usize = 5_000;
/// How many submit at once.
const SUBMITTERS: usize = 256;
/// The most operations of a transaction, as the server's.
const CHUNK: usize = 400;
/// The most stacks of one plan: a longer one would be planned while the store has nothing to do.
const BATCH: usize = 1_000;

const STACK: Kind = Kind::new("stack");
const WORKLOAD: Kind = Kind::new("workload");
const ALLOCATION: Kind = Kind::new("allocation");

const FIGURES: &[Figure] = &[
    figure("scheduler-perf/basic-10k", 6_800.0),
    figure("scheduler-perf/basic-50k", 8_100.0),
    figure("scheduler-perf/churn", 7_100.0),
    figure("scheduler-perf/preemption", 5_700.0),
    figure("scheduler-perf/spread", 4_600.0),
    figure("scheduler-perf/affinity", 2_200.0),
    figure("scheduler-perf/anti-affinity", 600.0),
];

const fn figure(name: &'static str, least: f64) -> Figure {
    Figure { name, unit: "tasks/s", target: Target::AtLeast(least) }
}

/// Tasks a second, stored.
pub(crate) struct SchedulerPerf;

#[async_trait]
impl Benchmark for SchedulerPerf {
    fn about(&self) -> &'static str {
        "tasks a second from submission to a stored binding, 5,000 nodes, in the shape of Kubernetes' scheduler_perf"
    }

    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    async fn measure(&self, lab: &Lab, wanted: &Wanted) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        for name in FIGURES.iter().map(|figure| figure.name).filter(|name| wanted.has(name)) {
            let case = name.rsplit('/').next().unwrap_or_default();
            say(&format!("scheduler-perf: {case}"));
            let (asked, seconds) = run(case, NODES, lab.folder()).await?;
            outcome.add(name, asked as f64 / seconds);
            outcome.note(format!("{case}: {asked} tasks in {seconds:.2} s"));
        }
        Ok(outcome)
    }
}

fn policy() -> Policy {
    Policy {
        node_loss_after: Duration::from_secs(60),
        many_nodes: ManyNodes { least: 3, percent: 100 },
        strategy: Strategy::Spread,
        rebalance: None,
    }
}

fn node(at: usize) -> Node {
    let id = NodeId::from_random((at as u128 + 1) << 80);
    let capacity = Capacity { cpu: Cpu(4_000), memory: Bytes(32 << 30), disk: Bytes(1 << 40) };
    let mut node = Node { capacity, ..Node::blank(id) };
    node.labels.insert("zone".into(), format!("zone-{}", at % 3));
    node
}

/// A task: 100 thousandths of a core, 500 MiB, and what the case asks for.
fn spec(case: &str, first: bool) -> WorkloadSpec {
    let mut spec = WorkloadSpec::of_image("img");
    spec.resources.reserved_cpu = Some(Cpu(100));
    spec.resources.reserved_memory = Some(Bytes::from_mib(500));
    match (case, first) {
        ("spread", _) => {
            spec.labels.insert("color".into(), "blue".into());
            spec.placement.spread = "node.labels.zone".parse().into_iter().collect();
            spec.placement.max_skew = Some(5);
        }
        ("affinity", _) => {
            spec.placement.constraints = "node.labels.zone in (zone-0, zone-1)".parse().into_iter().collect();
        }
        ("anti-affinity", _) => {
            spec.labels.insert("color".into(), "green".into());
            let apart = "color=green".parse().map(|to| Affinity { to, over: None, weight: None });
            spec.placement.apart = apart.into_iter().collect();
        }
        ("preemption", true) => spec.resources.reserved_cpu = Some(Cpu(900)),
        ("preemption", false) => {
            spec.resources.reserved_cpu = Some(Cpu(3_000));
            spec.placement.priority = 10;
        }
        _ => {}
    }
    spec
}

fn key(at: usize) -> anyhow::Result<StackKey> {
    Ok(StackKey { project: "default".parse()?, stack: format!("s{at}").parse()? })
}

fn task(at: usize, spec: &Arc<WorkloadSpec>) -> anyhow::Result<(Stack, Workload)> {
    let key = key(at)?;
    let workload = Workload {
        key: key.workload("task".parse()?),
        spec: Arc::clone(spec),
        generation: 1,
        replicas: 1,
        desired: DesiredState::Run,
        restart: 0,
        alike: Vec::new(),
        settled: 0,
        rolled_back: None,
        rollout: None,
        moved_at: None,
        timetable: None,
    };
    let stack = Stack {
        id: lattice_model::StackId::from_random((at as u128 + 1) << 80),
        key,
        owner: "admin".parse()?,
        version: 1,
        networks: Default::default(),
        deployed_at: Timestamp(0),
        deleting: false,
    };
    Ok((stack, workload))
}

fn create<T: Serialize>(kind: Kind, id: impl std::fmt::Display, row: &T) -> anyhow::Result<Op> {
    let body = serde_json::to_string(row)?.into();
    Ok(Op::Create { key: Key::of(kind, id), project: Some("default".into()), owner: None, body })
}

/// How many were placed, and in how many seconds.
async fn run(case: &str, nodes: usize, folder: &Path) -> anyhow::Result<(usize, f64)> {
    let folder = tempfile::tempdir_in(folder)?;
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(folder.path().join("store.db"), SqliteOptions::default())?);
    let share = |n: usize| n * nodes / NODES;
    let before = share(match case {
        "basic-10k" | "basic-50k" => 10_000,
        "preemption" => 20_000,
        "anti-affinity" => 1_000,
        _ => 5_000,
    });
    let asked = share(match case {
        "basic-50k" => 50_000,
        "preemption" => 5_000,
        "anti-affinity" => 3_000,
        _ => 10_000,
    });
    let mut world = World::new(Arc::clone(&store), nodes);
    let first = Arc::new(spec(case, true));
    world.there(before, &first).await?;
    let spec = Arc::new(spec(case, false));
    let (submitted, mut news) = mpsc::channel(SUBMITTERS * 64);
    let begun = Instant::now();
    for submitter in 0..SUBMITTERS {
        let (store, spec, submitted) = (Arc::clone(&store), Arc::clone(&spec), submitted.clone());
        tokio::spawn(async move {
            for at in (before + submitter..before + asked).step_by(SUBMITTERS) {
                let (stack, workload) = task(at, &spec)?;
                let ops = [create(STACK, &stack.key, &stack)?, create(WORKLOAD, &workload.key, &workload)?];
                let revision = store.apply(Transaction::new(ops)).await?.revision.0;
                submitted.send((revision, stack, workload)).await?;
            }
            anyhow::Ok(())
        });
    }
    drop(submitted);
    let mut bound = 0;
    let mut batch = Vec::with_capacity(BATCH);
    while bound < asked {
        batch.clear();
        ensure!(
            news.recv_many(&mut batch, BATCH).await > 0,
            "{case}: a submission failed, {bound} are bound"
        );
        let mut changed = BTreeSet::new();
        for (revision, stack, workload) in batch.drain(..) {
            changed.insert(stack.key.clone());
            world.cluster.stacks.insert(stack.key.clone(), Row { revision, value: Arc::new(stack) });
            world.cluster.put_workload(Row { revision, value: Arc::new(workload) });
        }
        if case == "churn" {
            world.churn(changed.len()).await?;
        }
        bound += world.plan(&changed).await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    store.close().await;
    Ok((asked, seconds))
}

/// The cluster in memory, as a server holds it, and the store that has it.
struct World {
    store: Arc<dyn Store>,
    cluster: Cluster,
    ledger: Ledger,
    random: u128,
    /// Those that go first when others come.
    oldest: std::collections::VecDeque<AllocationId>,
}

impl World {
    fn new(store: Arc<dyn Store>, nodes: usize) -> Self {
        let mut cluster = Cluster::default();
        for at in 0..nodes {
            let node = node(at);
            cluster.nodes.insert(node.id, Row { revision: 1, value: Arc::new(node) });
        }
        Self { store, cluster, ledger: Ledger::default(), random: 0, oldest: Default::default() }
    }

    /// What is there before, evenly over the nodes.
    async fn there(&mut self, many: usize, spec: &Arc<WorkloadSpec>) -> anyhow::Result<()> {
        let nodes: Vec<NodeId> = self.cluster.nodes.keys().copied().collect();
        let mut ops = Vec::new();
        for at in 0..many {
            let (stack, workload) = task(at, spec)?;
            self.random += 1;
            let allocation = Allocation {
                id: AllocationId::from_random(self.random << 80),
                workload: workload.key.clone(),
                slot: 1,
                node: nodes[at % nodes.len()],
                generation: 1,
                spec: Arc::clone(spec),
                intent: Intent::Run,
                restart: 0,
                due: None,
                gpus: Vec::new(),
                world: 0,
                replaces: None,
                status: AllocationStatus::new(AllocationState::Running),
                superseded: None,
                serving_since: Some(Timestamp(0)),
                placed_at: Timestamp(0),
                explanation: String::new(),
            };
            ops.push(create(ALLOCATION, allocation.id, &allocation)?);
            self.oldest.push_back(allocation.id);
            self.cluster.stacks.insert(stack.key.clone(), Row { revision: 1, value: Arc::new(stack) });
            self.cluster.put_workload(Row { revision: 1, value: Arc::new(workload) });
            self.cluster.put_allocation(Row { revision: 1, value: Arc::new(allocation) });
        }
        for chunk in ops.chunks(CHUNK) {
            self.store.apply(Transaction::new(chunk.to_vec())).await?;
        }
        // The fleet is told before the clock starts, as in a server that has been up for a while.
        self.plan(&BTreeSet::new()).await.map(|_| ())
    }

    /// As many go as come.
    async fn churn(&mut self, many: usize) -> anyhow::Result<()> {
        let mut ops = Vec::with_capacity(many);
        for _ in 0..many {
            let Some(id) = self.oldest.pop_front() else { break };
            ops.push(Op::Delete { key: Key::of(ALLOCATION, id), expected: None });
            let row = self.cluster.allocations().get(&id).cloned().context("it is gone already")?;
            self.cluster.remove_allocation(id);
            self.cluster.remove_workload(&row.workload);
            self.cluster.stacks.remove(&row.workload.stack_key());
        }
        for chunk in ops.chunks(CHUNK) {
            self.store.apply(Transaction::new(chunk.to_vec())).await?;
        }
        Ok(())
    }

    /// Plans, checks and writes down; how many were bound.
    async fn plan(&mut self, changed: &BTreeSet<StackKey>) -> anyhow::Result<usize> {
        let random = &mut self.random;
        let mut draw = || {
            *random += 1;
            *random << 80
        };
        let now = Timestamp(1_000_000);
        let (plan, report) = self.ledger.plan(&self.cluster, changed, &policy(), now, &mut draw);
        ensure!(report.pending.is_empty(), "a task was refused: {}", report.pending[0].why);
        let broken = invariants::broken(&self.cluster, &plan);
        ensure!(broken.is_empty(), "a plan broke a promise: {broken:?}");
        let mut revision = 1;
        for chunk in operations(&plan)?.chunks(CHUNK) {
            revision = self.store.apply(Transaction::new(chunk.to_vec())).await?.revision.0;
        }
        self.cluster = invariants::apply(&self.cluster, &plan, revision);
        let created = |step: &&Step| matches!(step, Step::Create(_));
        Ok(plan.steps.iter().filter(created).count())
    }
}

/// What the server writes down of a plan.
fn operations(plan: &Plan) -> anyhow::Result<Vec<Op>> {
    let check = |(key, revision): &(WorkloadKey, u64)| Op::Check {
        key: Key::of(WORKLOAD, key),
        expected: Some(lattice_store::Revision(*revision)),
    };
    let mut ops: Vec<Op> = plan.relies_on.iter().map(check).collect();
    for step in &plan.steps {
        match step {
            Step::Create(allocation) => ops.push(create(ALLOCATION, allocation.id, &**allocation)?),
            Step::Update { allocation, .. } => ops.push(Op::Put {
                key: Key::of(ALLOCATION, allocation.id),
                project: Some("default".into()),
                owner: None,
                body: serde_json::to_string(&**allocation)?.into(),
            }),
            other => anyhow::bail!("no case leads to this: {other:?}"),
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_case_runs_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        for figure in FIGURES {
            let case = figure.name.rsplit('/').next().unwrap();
            let (asked, seconds) = run(case, 50, folder.path()).await.unwrap();
            assert!(asked > 0 && seconds > 0.0, "{case}");
        }
    }
}
