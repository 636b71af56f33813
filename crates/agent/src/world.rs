//! The reconciler, the executor and the watcher as they are, over the engine in memory, under a
//! clock that only goes on when everybody waits: whatever goes wrong, the last goal is met.

use crate::{
    AgentError,
    engine::{EngineStatus, Watcher},
    event::{Event, Freshness, QUEUE, Tickets},
    executor::Executor,
    images::Images,
    lan::Fence,
    last_words::LastWords,
    trees::Trees,
};
use lattice_converge::{AllocationRecord, Effect, Folders, Input, NodePolicy, Outcome, Reconciler};
use lattice_model::{
    AllocationId, Bytes, Cpu, Duration, Goal, GoalAllocation, GoalId, GoalNetwork, GoalVolume, NetworkId,
    NodeId, Timestamp, VolumeId,
    container::{ContainerSeen, ContainerState},
    goal::{DesiredState, SecretValue},
    name::SecretName,
    report::{AllocationState, ReportKind},
    spec::{MountSpec, RestartPolicy, SecretMount, WorkloadSpec},
};
use lattice_runtime::{
    Runtime,
    simulated::{Faults, Program, RegistryFault, Settings, Simulated, Span},
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const EPOCH: Timestamp = Timestamp(1_700_000_000_000);

fn node() -> NodeId {
    NodeId::from_random(1)
}

/// What an agent's process has; all of it goes when it is killed.
struct Process {
    reconciler: Reconciler,
    executor: Executor,
    inbox: mpsc::Receiver<Event>,
    fresh: Freshness,
    wake: Option<Instant>,
    watcher: JoinHandle<()>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.watcher.abort();
        self.executor.stop.cancel();
    }
}

/// A machine with its engine, and what an agent keeps on its disk.
struct World {
    engine: Simulated,
    begin: Instant,
    records: BTreeMap<AllocationId, AllocationRecord>,
    goal: Option<(GoalId, Goal)>,
    reports: Vec<ReportKind>,
    random: u128,
    process: Process,
}

async fn process(engine: &Simulated, records: BTreeMap<AllocationId, AllocationRecord>) -> Process {
    let policy = NodePolicy::lending(Cpu::from_cores(4), Bytes::GIB);
    let folders = Folders { secrets: "/run/s".into(), trees: "/var/t".into() };
    let runtime: Arc<dyn Runtime> = Arc::new(engine.clone());
    let (events, inbox) = mpsc::channel(QUEUE);
    let (tickets, relist) = (Tickets::default(), Arc::new(Notify::new()));
    let trees = Arc::new(Trees::new("/nowhere".into()));
    let executor = Executor {
        node: node(),
        fence: Fence::none(Arc::clone(&runtime)).await,
        runtime: Arc::clone(&runtime),
        // A machine without a memory file system.
        secrets: Arc::new(Err(AgentError::NoMemoryFolder { tried: "/run, /dev/shm".into() })),
        trees: Arc::clone(&trees),
        images: Arc::new(Images::open("/dev/null/nowhere".into(), Arc::clone(&runtime), events.clone())),
        gpus: crate::gpu::Gpus::new(crate::machine::Roots::at("/nowhere"), "/nowhere/gpus.json".into()),
        tickets: tickets.clone(),
        events: events.clone(),
        relist: Arc::clone(&relist),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        words: LastWords::default(),
    };
    let status = watch::channel(EngineStatus::unknown()).0;
    let watcher = Watcher {
        node: node(),
        runtime,
        trees,
        tickets,
        events,
        relist,
        status,
        words: LastWords::default(),
    };
    Process {
        reconciler: Reconciler::new(node(), policy, folders, records),
        executor,
        inbox,
        fresh: Freshness::default(),
        wake: None,
        watcher: tokio::spawn(watcher.run()),
    }
}

impl World {
    async fn new(engine: Simulated) -> Self {
        let process = process(&engine, BTreeMap::new()).await;
        let (records, reports) = (BTreeMap::new(), Vec::new());
        Self { engine, begin: Instant::now(), records, goal: None, reports, random: 0, process }
    }

    fn now(&self) -> Timestamp {
        let span = self.begin.elapsed().as_millis();
        EPOCH + Duration(u64::try_from(span).unwrap())
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        let random = &mut self.random;
        let mut draw = || {
            *random += 1;
            *random * 7919
        };
        for effect in self.process.reconciler.step(input, now, &mut draw) {
            match effect {
                Effect::KeepGoal(_) => {}
                Effect::Run(id, operation) => self.process.executor.begin(id, operation),
                Effect::Report(kind) => self.reports.push(kind),
                Effect::Save(id, Some(record)) => drop(self.records.insert(id, *record)),
                Effect::Save(id, None) => drop(self.records.remove(&id)),
                Effect::WakeAt(at) => self.process.wake = Some(Instant::now() + at.since(now).as_std()),
            }
        }
    }

    fn give(&mut self, revision: u64, goal: &Goal) {
        let id = GoalId { incarnation: 1, revision };
        self.goal = Some((id, goal.clone()));
        self.input(Input::Goal(id, goal.clone()));
    }

    /// kill -9 of the agent, and its next start.
    async fn crash(&mut self) {
        self.process = process(&self.engine, self.records.clone()).await;
        if let Some((id, goal)) = self.goal.clone() {
            self.input(Input::Goal(id, goal));
        }
    }

    /// As the agent's main loop takes it.
    fn take(&mut self, event: Event) {
        let fresh = &mut self.process.fresh;
        match event {
            Event::Looked { ticket, id, seen } => {
                if fresh.note(ticket, &id, seen.clone()) {
                    self.input(seen.map_or_else(|| Input::Vanished(id), Input::Container));
                }
            }
            Event::Listed { ticket, mut listing } => {
                fresh.correct(ticket, &mut listing);
                self.input(Input::Listed(listing));
            }
            Event::RuntimeLost(reason) => self.input(Input::RuntimeLost(reason)),
            Event::Done { ticket, id, mut result, seen } => {
                if let Some((container, seen)) = seen
                    && !fresh.note(ticket, &container, seen)
                    && let (Ok(Outcome::Seen(now)), Some(latest)) = (&mut result, fresh.latest(&container))
                {
                    *now = latest;
                }
                self.input(Input::Done(id, result));
            }
            Event::Progress { id, here, total } => self.input(Input::Progress(id, here, total)),
            other => panic!("nobody sends {other:?}"),
        }
    }

    async fn pass(&mut self, span: Duration) {
        let end = Instant::now() + span.as_std();
        while Instant::now() < end {
            let until = self.process.wake.map_or(end, |at| at.min(end));
            match timeout_at(until, self.process.inbox.recv()).await {
                Ok(event) => self.take(event.expect("the watcher lives")),
                Err(_) if self.process.wake.is_some_and(|at| at <= Instant::now()) => {
                    self.process.wake = None;
                    self.input(Input::Tick);
                }
                Err(_) => {}
            }
        }
    }

    /// Containers that run, and all that there are.
    fn counts(&self) -> (usize, usize) {
        (self.engine.running(), self.engine.containers().len())
    }

    fn state(&self, id: AllocationId) -> Option<AllocationState> {
        self.process.reconciler.statuses().find(|(other, _)| *other == id).map(|(_, status)| status.state)
    }
}

fn allocation(
    service: &str,
    slot: u32,
    image: &str,
    change: impl FnOnce(&mut WorkloadSpec),
) -> GoalAllocation {
    let mut spec = WorkloadSpec::of_image(image);
    spec.networks.insert("default".parse().unwrap(), Default::default());
    change(&mut spec);
    GoalAllocation {
        workload: format!("default/shop/{service}").parse().unwrap(),
        slot,
        desired: DesiredState::Run,
        restart: 0,
        replaces: None,
        spec: spec.into(),
        volumes: BTreeMap::new(),
        networks: [("default".parse().unwrap(), NetworkId::from_random(88))].into(),
        secrets: BTreeMap::new(),
        registry: None,
    }
}

/// Three web servers, a database with a volume, a job that ends well, and something that always
/// fails; each generation replaces the web servers.
fn goals() -> Vec<Goal> {
    let id = |n: u128| AllocationId::from_random(n);
    (0..4u128)
        .map(|generation| {
            let (network, volume) = (NetworkId::from_random(88), VolumeId::from_random(77));
            let mut goal = Goal::default();
            let (stack, name) = ("default/shop".parse().unwrap(), "default".parse().unwrap());
            goal.networks.insert(network, GoalNetwork { stack, name, spec: Default::default() });
            let key = "default/shop/data".parse().unwrap();
            goal.volumes
                .insert(volume, GoalVolume { key, exists: false, epoch: 1, delete: false, missing: false });
            for slot in 1..=3u32 {
                let web = allocation("web", slot, "web:1", |spec| {
                    spec.environment.insert("GENERATION".into(), generation.to_string());
                });
                let replaces = (generation > 0).then(|| id(100 * generation + u128::from(slot) - 100));
                goal.allocations
                    .insert(id(100 * generation + u128::from(slot)), GoalAllocation { replaces, ..web });
            }
            for old in 0..generation {
                goal.remove.extend((1..=3).map(|slot| id(100 * old + slot)));
            }
            let mut db = allocation("db", 1, "db:1", |spec| {
                let (volume, target) = ("data".parse().unwrap(), "/data".into());
                spec.mounts.push(MountSpec { volume, target, read_only: false });
            });
            db.volumes.insert("data".parse().unwrap(), volume);
            goal.allocations.insert(id(1001), db);
            let never = |spec: &mut WorkloadSpec| spec.restart = RestartPolicy::Never;
            goal.allocations.insert(id(1002), allocation("job", 1, "job:1", never));
            goal
        })
        .collect()
}

/// What may happen to a node.
#[derive(Clone, Debug)]
enum Mishap {
    Crash,
    EngineRestart,
    Faults(Faults),
    Die(usize),
    Vanish(usize),
    NextGoal,
}

fn faults() -> impl Strategy<Value = Faults> {
    let registry = prop_oneof![
        3 => Just(None),
        1 => Just(Some(RegistryFault::Unreachable)),
        1 => Just(Some(RegistryFault::Unauthorised)),
    ];
    let slow = prop_oneof![3 => Just(0u64), 2 => 0..5_000u64, 1 => 100_000..130_000u64];
    let share = || prop_oneof![2 => Just(0u16), 1 => 0..500u16];
    (prop::bool::weighted(0.2), slow, share(), share(), share(), prop::bool::weighted(0.2), registry)
        .prop_map(|(unreachable, slow, refused, lost, deaf, disk_full, registry)| Faults {
            unreachable,
            slow: Duration(slow),
            refused,
            lost,
            deaf,
            disk_full,
            registry,
            ..Faults::default()
        })
}

fn mishap() -> impl Strategy<Value = (Mishap, u64)> {
    let what = prop_oneof![
        Just(Mishap::Crash),
        Just(Mishap::EngineRestart),
        faults().prop_map(Mishap::Faults),
        (0usize..6).prop_map(Mishap::Die),
        (0usize..6).prop_map(Mishap::Vanish),
        Just(Mishap::NextGoal),
    ];
    // Then so many milliseconds pass: some within an operation, some over a pause.
    (what, prop_oneof![0u64..50, 0u64..2_000, 0u64..90_000])
}

async fn play(seed: u64, mishaps: Vec<(Mishap, u64)>) {
    let mut settings = Settings::new(seed, EPOCH)
        .with_image("db:1", Program::service().well_after(Duration::from_secs(3)))
        .with_image("job:1", Program::exits(0, Duration::from_secs(20)));
    settings.registry.insert("web:1".into(), Arc::new(Program::deaf()));
    settings.delays.pull = Span::millis(0, 10_000);
    let engine = Simulated::new(settings);
    let goals = goals();
    let (mut world, mut current) = (World::new(engine.clone()).await, 0);
    world.give(1, &goals[0]);
    for (mishap, millis) in mishaps {
        let nth = |n: usize, running: bool| {
            let mut all = engine.containers();
            all.retain(|c| !running || c.state == ContainerState::Running);
            all.sort_by(|a, b| a.name.cmp(&b.name));
            all.get(n).map(|c: &ContainerSeen| c.id.clone())
        };
        match mishap {
            Mishap::Crash => world.crash().await,
            Mishap::EngineRestart => engine.restart_engine(),
            Mishap::Faults(new) => engine.faults(|faults| *faults = new),
            Mishap::Die(n) => nth(n, true).iter().for_each(|id| engine.end(id, 1)),
            Mishap::Vanish(n) => nth(n, false).iter().for_each(|id| engine.vanish(id)),
            Mishap::NextGoal => {
                current = (current + 1).min(goals.len() - 1);
                world.give(current as u64 + 1, &goals[current]);
            }
        }
        world.pass(Duration(millis)).await;
    }
    engine.faults(|faults| *faults = Faults::default());
    world.pass(Duration::from_secs(1200)).await;

    let wanted = &goals[current];
    let job = AllocationId::from_random(1002);
    for id in wanted.allocations.keys().filter(|id| **id != job) {
        assert_eq!(world.state(*id), Some(AllocationState::Running), "{id}");
    }
    // Somebody may have killed it, or removed what was left of it.
    let ended = world.state(job);
    assert!(matches!(ended, Some(AllocationState::Completed | AllocationState::Failed)), "{ended:?}");
    let (running, all) = world.counts();
    assert!(running == 4 && (4..=5).contains(&all), "{running} run of {all}");
    for id in &wanted.remove {
        assert!(world.reports.contains(&ReportKind::AllocationGone { id: *id }), "{id} is answered for");
    }
    assert_eq!(engine.list_volumes(node()).await.unwrap().len(), 1);
    assert_eq!(engine.list_networks(node()).await.unwrap().len(), 1);
    let still = |engine: &Simulated| {
        let mut all: Vec<_> = engine.containers().into_iter().map(|c| (c.id, c.started_at)).collect();
        all.sort();
        all
    };
    let before = still(&engine);
    world.crash().await;
    world.pass(Duration::from_secs(3600)).await;
    assert_eq!(still(&engine), before, "a met goal needs nothing, and the next agent takes over what runs");
}

#[tokio::test(start_paused = true)]
async fn secrets_wait_where_there_is_no_memory_for_them_and_say_so() {
    let engine = Simulated::new(Settings::new(1, EPOCH).with_image("web:1", Program::service()));
    let mut world = World::new(engine.clone()).await;
    let (plain, secret) = (AllocationId::from_random(1), AllocationId::from_random(2));
    let mut goal = Goal::default();
    let network = GoalNetwork {
        stack: "default/shop".parse().unwrap(),
        name: "default".parse().unwrap(),
        spec: Default::default(),
    };
    goal.networks.insert(NetworkId::from_random(88), network);
    goal.allocations.insert(plain, allocation("plain", 1, "web:1", |_| {}));
    let pw: SecretName = "pw".parse().unwrap();
    let mut with = allocation("with", 1, "web:1", |spec| {
        let (secret, target) = (pw.clone(), "/run/secrets/pw".into());
        spec.secrets.push(SecretMount { secret, target, mode: 0o400, uid: None, gid: None });
    });
    with.secrets.insert(pw, SecretValue::new(b"planted-wait".to_vec()));
    goal.allocations.insert(secret, with);
    world.give(1, &goal);
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.state(plain), Some(AllocationState::Running), "who has no secret runs");
    assert_eq!(world.counts(), (1, 1), "nothing was made without its secret");
    let status = world.process.reconciler.statuses().find(|(id, _)| *id == secret).unwrap().1.clone();
    assert_eq!(status.state, AllocationState::BackingOff);
    let why = status.reason.unwrap();
    assert!(why.contains("/run, /dev/shm") && why.contains("mount a tmpfs"), "{why}");
    assert!(!format!("{:?}", world.reports).contains("planted-wait"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to agent and engine, once it stops happening the last goal is met exactly.
    #[test]
    fn it_converges_over_an_engine(
        seed in any::<u64>(),
        mishaps in prop::collection::vec(mishap(), 0..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(seed, mishaps));
    }
}
