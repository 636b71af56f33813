//! The agent: one task owns the reconciler, and everything reaches it as an [`Event`].
//!
//! | task | what | ends with |
//! |---|---|---|
//! | main loop | steps the reconciler, keeps what it says, hands on what it wants | the shutdown token |
//! | watcher ([`crate::engine`]) | the engine's events and listings | the agent |
//! | monitor ([`crate::health`]), census ([`crate::census`]) | in which condition the machine is, and what it is | the agent |
//! | session ([`crate::session`]) | the link to the server | the agent |
//! | fence ([`crate::lan`]) | keeps containers out of the owner's network | the agent |
//! | keeper of GPUs ([`crate::gpu`]) | what GPUs there are, and whether containers can use them | the agent |
//! | warden ([`crate::owner`]) | decides by the owner's rules whether work may run | the agent |
//! | prober ([`crate::way`]) | measures what passes between this machine and the server | the agent |
//! | keeper ([`crate::power`]) | keeps the machine awake, and tells of its sleep | the agent |
//! | local API ([`crate::local_api`]) | answers the owner's programs | the agent |
//! | operations ([`crate::executor`]) | one each, at most 16 | themselves, or the agent |
//!
//! Events that wait are taken together, so that a burst costs one wait for the disk. Of the
//! effects, in order: goal and notes are on disk before the engine is asked for anything; reports
//! go to the outbox beside them, and the next events wait until they are there. Should the disk not take
//! them, the agent goes on (what runs matters more than a restart count) and tries again until it does.
//!
//! Nothing here decides what should run, and when the agent ends, nothing that runs does.

use crate::{
    AgentConfig, AgentError, LogRing,
    builds::Builds,
    census::{Census, Told},
    clock::{self, ServerClock},
    disk::{Disk, Saves, has_room},
    engine::{EngineStatus, Watcher},
    error::{Result, chain},
    event::{Event, Freshness, QUEUE, Tickets},
    executor::Executor,
    facts,
    gpu::{self, Gpus},
    health::{Health, Monitor},
    home::Home,
    images::Images,
    lan::{Fence, Firewall, Wish},
    last_words::LastWords,
    local_api,
    machine::Roots,
    measure::Measurer,
    owner::{self, Judgement, Lent, Senses, Warden},
    power::{Felt, Keeper},
    secrets::SecretsDir,
    session::{LinkStatus, Session},
    trees::Trees,
    way::{Prober, Way},
};
use lattice_converge::{
    Admission, AllocationRecord, Effect, Folders, Input, Operation, OperationId, Outcome, Reconciler,
};
use lattice_model::{
    AllocationId, GoalId, SealedGoal, WorkloadKey,
    health::Condition,
    report::{AllocationState, AllocationStatus, ReportKind},
};
use lattice_runtime::Runtime;
use lattice_sense::{Sensors, Sleep, System};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Mutex, Notify, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

/// How many waiting events are taken together.
const BATCH: usize = 64;
/// Between two attempts to write what the disk did not take.
const DISK_RETRY: Duration = Duration::from_secs(2);
/// Between two words in the log about it.
const COMPLAINTS: Duration = Duration::from_secs(60);
/// How many reports are held in memory while the disk takes none; then the oldest go.
const MAX_UNWRITTEN: usize = 4096;
/// How many of the owner's orders wait for the warden; whoever has one more waits with it.
const ORDERS: usize = 8;
/// How long what is under way has to end at shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// What an agent is made of.
pub struct AgentParts {
    /// Its folder.
    pub home: Home,
    /// The owner's word.
    pub config: AgentConfig,
    /// The container engine.
    pub runtime: Arc<dyn Runtime>,
    /// What the machine feels.
    pub sensors: Arc<dyn Sensors>,
    /// The session manager, where there is one.
    pub manager: Option<Arc<dyn Sleep>>,
    /// The last lines of the log, for the local API.
    pub log: LogRing,
    /// What keeps containers out of the owner's network; nothing where no packet leaves, as from an engine in memory.
    pub firewall: Option<Arc<dyn Firewall>>,
    /// Whether whoever deploys is who owns this machine. Then work runs also where that network cannot be closed.
    pub own_machine: bool,
}

/// Why an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to; what it runs, runs on.
    Shutdown,
    /// The owner wants this machine to leave its cluster, with or without removing what runs.
    Leave {
        /// Containers and networks go too.
        remove: bool,
    },
}

impl AgentParts {
    /// On the machine that this runs on.
    pub fn new(home: Home, config: AgentConfig, runtime: Arc<dyn Runtime>) -> Self {
        Self {
            home,
            config,
            runtime,
            sensors: Arc::new(System::new()),
            manager: None,
            log: LogRing::default(),
            firewall: None,
            own_machine: false,
        }
    }
}

impl std::fmt::Debug for AgentParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentParts")
            .field("home", &self.home)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What runs, as the reconciler sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) goal: Option<(GoalId, [u8; 32])>,
    pub(crate) statuses: BTreeMap<AllocationId, AllocationStatus>,
    pub(crate) workloads: BTreeMap<AllocationId, WorkloadKey>,
    /// GPUs that are somebody's.
    pub(crate) gpus: BTreeSet<String>,
}

impl Snapshot {
    pub(crate) fn running(&self) -> u32 {
        let running = self.statuses.values().filter(|status| status.state == AllocationState::Running);
        u32::try_from(running.count()).unwrap_or(u32::MAX)
    }
}

/// Runs the agent until `shutdown`. What it runs in the engine runs on.
///
/// # Errors
/// [`AgentError::NotJoined`] before enrolment; what cannot be read of its folder.
pub async fn run(parts: AgentParts, shutdown: CancellationToken) -> Result<Ended> {
    let AgentParts { home, config, runtime, sensors, manager, log, firewall, own_machine } = parts;
    let identity = home.identity()?.ok_or(AgentError::NotJoined)?;
    let paths = home.paths().clone();
    if !has_room(paths.dir(), &shutdown).await {
        return Ok(Ended::Shutdown);
    }
    let disk = Disk::open(home)?;
    // Cancelled with the token, and also when this future is dropped.
    let stop = shutdown.child_token();
    let _guard = stop.clone().drop_guard();
    let (events, inbox) = mpsc::channel(QUEUE);
    let gpus = Gpus::new(Roots::here(), paths.gpus());
    gpus.look().await;
    let machine = facts::measure_with(&*runtime, paths.dir(), &gpus).await;
    let secrets = Arc::new(SecretsDir::find(identity.node));
    if let Err(error) = &*secrets {
        warn!(error = chain(error), "workloads with secrets will wait");
    }
    let relist = Arc::new(Notify::new());
    let reports_ready = Arc::new(Notify::new());
    let tickets = Tickets::default();
    let tasks = TaskTracker::new();
    let (engine_status, engine_seen) = watch::channel(EngineStatus::unknown());
    let (link_status, link_seen) = watch::channel(LinkStatus::new());
    let trees = Arc::new(Trees::new(paths.trees()));
    trees.clear_leftovers();
    let images = Arc::new(Images::open(paths.images(), Arc::clone(&runtime), events.clone()));
    images.clear_leftovers();
    // Of rules that cannot be read: the network is closed.
    let wish = Wish::of(&Lent::new(config.clone(), &owner::word(&paths)));
    let fence = Fence::begin(identity.node, Arc::clone(&runtime), firewall, own_machine, wish).await;
    let words = LastWords::default();
    let executor = Executor {
        node: identity.node,
        fence: Arc::clone(&fence),
        runtime: Arc::clone(&runtime),
        secrets: Arc::clone(&secrets),
        trees: Arc::clone(&trees),
        images: Arc::clone(&images),
        gpus: gpus.clone(),
        tickets: tickets.clone(),
        events: events.clone(),
        relist: Arc::clone(&relist),
        tasks: tasks.clone(),
        stop: stop.clone(),
        words: words.clone(),
    };
    let secrets_path =
        secrets.as_ref().as_ref().map_or_else(|_| "/run/lattice-agent".into(), SecretsDir::path);
    let folders = Folders { secrets: secrets_path, trees: paths.trees().display().to_string() };
    let records = disk.records()?;
    let felt = Felt::default();
    let senses =
        Senses { sensors: Arc::clone(&sensors), gpus: gpus.clone(), felt: felt.clone(), lan: fence.status() };
    let warden = Warden::begin(paths.clone(), config, machine.clone(), senses, manager.as_deref()).await;
    let lent = warden.lent();
    let policy = lent.borrow().policy(&machine);
    let (orders, ordered) = mpsc::channel(ORDERS);
    let calm = Arc::new(Notify::new());
    info!(node = %identity.node, cluster = %identity.cluster, version = crate::VERSION, cpu = %policy.cpu, memory = %policy.memory, remembered = records.len(), "the agent begins");
    let reconciler = Reconciler::new(identity.node, policy, folders, records);
    let (untold, untold_seen) = watch::channel(Vec::new());
    let mut core = Core {
        reconciler,
        disk: Arc::clone(&disk),
        executor,
        reports_ready: Arc::clone(&reports_ready),
        fresh: Freshness::default(),
        goal: None,
        workloads: BTreeMap::new(),
        batch: Batch::default(),
        health: None,
        untold,
        complained: None,
        wake: None,
        retry: None,
        finishing: false,
        calm: Arc::clone(&calm),
    };
    // Before anything runs. Hello tells the server.
    core.admit(warden.judgement().admission);
    core.resume().await?;
    let owner = warden.status();
    let (felt_by, sensors_too) = (manager.clone(), Arc::clone(&sensors));
    spawn(&tasks, &stop, warden.run(ordered, calm, events.clone()));
    if let Some(manager) = manager {
        let (owner, orders, events) = (owner.clone(), orders.clone(), events.clone());
        let disk = Arc::clone(&disk);
        spawn(&tasks, &stop, Keeper { manager, sensors, felt, owner, orders, events, disk }.run());
    }
    let (machines, machine_seen) = watch::channel(machine.clone());
    let (lent_for_images, machines_for_images) = (lent.clone(), machine_seen.clone());
    let (health, health_seen) = watch::channel(Health::default());
    let (server_clock, way) = (ServerClock::default(), Way::default());
    let told = Told::new(fence.status());
    spawn(&tasks, &stop, Arc::clone(&fence).run(lent.clone(), engine_seen.clone()));
    spawn(
        &tasks,
        &stop,
        Monitor {
            node: identity.node,
            images: Arc::clone(&images),
            gpus: gpus.clone(),
            lent: lent.clone(),
            roots: Roots::here(),
            home: paths.dir().to_owned(),
            runtime: Arc::clone(&runtime),
            machine: machine_seen,
            link: link_seen.clone(),
            clock: server_clock.clone(),
            way: way.clone(),
            events: events.clone(),
            health,
        }
        .run(),
    );
    spawn(
        &tasks,
        &stop,
        Census {
            runtime: Arc::clone(&runtime),
            home: paths.dir().to_owned(),
            gpus: gpus.clone(),
            lent: lent.clone(),
            machine: machines.clone(),
            told: told.clone(),
            way: way.clone(),
            lan: fence.status(),
            engine: engine_seen.clone(),
            events: events.clone(),
        }
        .run(),
    );
    let keeper = gpu::Keeper {
        node: identity.node,
        gpus: gpus.clone(),
        runtime: Arc::clone(&runtime),
        lent: lent.clone(),
        engine: engine_seen.clone(),
        machine: machines.clone(),
    };
    spawn(&tasks, &stop, keeper.run());
    let builds = Arc::new(Builds {
        node: identity.node,
        runtime: Arc::clone(&runtime),
        fence: Arc::clone(&fence),
        images: Arc::clone(&images),
        lent: lent.clone(),
        owner: owner.clone(),
        machine: machines.subscribe(),
        folder: paths.images(),
        place: Arc::default(),
    });
    spawn(&tasks, &stop, Arc::clone(&builds).clear_leftovers());
    let measurer = Arc::new(Measurer {
        lent: lent.clone(),
        owner: owner.clone(),
        health: health_seen.clone(),
        machine: machines.subscribe(),
        sensors: Arc::clone(&sensors_too),
        manager: felt_by.clone(),
        events: events.clone(),
        roots: Roots::here(),
        gpus: gpus.clone(),
        folder: paths.dir().to_owned(),
        last: Mutex::default(),
    });
    let watcher = Watcher {
        node: identity.node,
        runtime: Arc::clone(&runtime),
        trees: Arc::clone(&trees),
        tickets,
        events: events.clone(),
        relist,
        status: engine_status,
        words,
    };
    let session = Session::new(
        Arc::clone(&disk),
        identity.clone(),
        gpus,
        lent.clone(),
        owner.clone(),
        Arc::clone(&runtime),
        machines,
        told,
        server_clock,
        way.clone(),
        untold_seen,
        events.clone(),
        reports_ready,
        link_status,
        builds,
        measurer,
        stop.clone(),
    )?;
    // Before anything is fetched.
    trees.reach(session.bulk());
    images.reach(session.bulk());
    spawn(&tasks, &stop, owner::keep_speed(session.bulk().throttle().clone(), lent.clone()));
    spawn(&tasks, &stop, Arc::clone(&images).tend(lent_for_images, machines_for_images));
    spawn(&tasks, &stop, watcher.run());
    let prober = Prober {
        way,
        file: paths.links(),
        roots: Roots::here(),
        link: link_seen.clone(),
        owner: owner.clone(),
        lent,
        manager: felt_by,
        sensors: sensors_too,
        bulk: session.bulk(),
    };
    prober.recall();
    spawn(&tasks, &stop, prober.run());
    let certificate = session.certificate();
    spawn(&tasks, &stop, session.run());
    let (leave, leaving) = watch::channel(None);
    let desk = local_api::Desk {
        identity,
        paths,
        disk,
        events,
        engine: engine_seen,
        link: link_seen,
        health: health_seen,
        certificate,
        owner,
        orders,
        lan: fence.status(),
        log,
        runtime,
        leave,
        stop: stop.clone(),
    };
    spawn(&tasks, &stop, local_api::serve(desk));
    core.run(inbox, &stop).await;
    info!("the agent ends; its workloads run on");
    stop.cancel();
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        warn!(tasks = tasks.len(), "some tasks did not end in time");
    }
    let left = *leaving.borrow();
    Ok(left.map_or(Ended::Shutdown, |remove| Ended::Leave { remove }))
}

fn spawn(tasks: &TaskTracker, stop: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = task => {}
            () = stop.cancelled() => {}
        }
    });
}

/// What the steps since the last write want.
#[derive(Default)]
struct Batch {
    goal: Option<SealedGoal>,
    saves: Saves,
    reports: VecDeque<ReportKind>,
    runs: Vec<(OperationId, Operation)>,
    answers: Vec<(oneshot::Sender<bool>, GoalId)>,
}

struct Core {
    reconciler: Reconciler,
    disk: Arc<Disk>,
    executor: Executor,
    reports_ready: Arc<Notify>,
    fresh: Freshness,
    /// The goal on disk.
    goal: Option<(GoalId, [u8; 32])>,
    /// Of the reconciler's goal.
    workloads: BTreeMap<AllocationId, WorkloadKey>,
    batch: Batch,
    /// As it was told last.
    health: Option<ReportKind>,
    /// The conditions of the machine while the disk takes no reports, which heartbeats say instead.
    untold: watch::Sender<Vec<Condition>>,
    /// When the log last said that the disk takes nothing.
    complained: Option<Instant>,
    wake: Option<Instant>,
    retry: Option<Instant>,
    /// Nothing new is begun, and the warden waits to hear that no job is under way.
    finishing: bool,
    calm: Arc<Notify>,
}

impl Core {
    /// Takes up the goal that was kept.
    async fn resume(&mut self) -> Result<()> {
        self.batch.reports.push_back(ReportKind::AgentStarted { version: crate::VERSION.into() });
        if let Some(sealed) = self.disk.run(Disk::goal).await? {
            self.goal = Some((sealed.id(), *sealed.hash()));
            self.take_goal(sealed);
        }
        self.flush().await;
        Ok(())
    }

    async fn run(&mut self, mut inbox: mpsc::Receiver<Event>, stop: &CancellationToken) {
        let mut waiting = Vec::with_capacity(BATCH);
        loop {
            let alarm = [self.wake, self.retry].into_iter().flatten().min();
            let ring = async {
                match alarm {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                n = inbox.recv_many(&mut waiting, BATCH) => {
                    if n == 0 {
                        return;
                    }
                    for event in waiting.drain(..) {
                        self.take(event);
                    }
                }
                () = ring => {
                    let now = Instant::now();
                    if self.wake.is_some_and(|at| at <= now) {
                        self.wake = None;
                        self.step(Input::Tick);
                    }
                }
            }
            self.flush().await;
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Looked { ticket, id, seen } => {
                if self.fresh.note(ticket, &id, seen.clone()) {
                    self.step(seen.map_or_else(|| Input::Vanished(id), Input::Container));
                }
            }
            Event::Listed { ticket, mut listing } => {
                self.fresh.correct(ticket, &mut listing);
                self.step(Input::Listed(listing));
            }
            Event::Policy(policy) => self.step(Input::Policy(policy)),
            Event::Owner(Judgement { admission, standing }) => {
                self.batch.reports.push_back(ReportKind::Standing { standing });
                self.admit(admission);
            }
            Event::Linked => self.step(Input::Linked),
            Event::Pressure(pressure) => self.step(Input::Pressure(pressure)),
            Event::Tell(kind) => {
                if matches!(kind, ReportKind::Health { .. }) {
                    self.health = Some(kind.clone());
                }
                self.batch.reports.push_back(kind);
            }
            Event::Progress { id, here, total } => self.step(Input::Progress(id, here, total)),
            Event::ImagesInUse(answer) => drop(answer.send(self.reconciler.images_in_use())),
            Event::RuntimeLost(reason) => self.step(Input::RuntimeLost(reason)),
            Event::Done { ticket, id, mut result, seen } => {
                if let Some((container, seen)) = seen
                    && !self.fresh.note(ticket, &container, seen)
                    && let (Ok(Outcome::Seen(now)), Some(latest)) =
                        (&mut result, self.fresh.latest(&container))
                {
                    *now = latest;
                }
                self.step(Input::Done(id, result));
            }
            Event::Goal { sealed, taken } => {
                let id = sealed.id();
                self.take_goal(sealed);
                self.batch.answers.push((taken, id));
            }
            Event::Snapshot(answer) => {
                let statuses = self.reconciler.statuses().map(|(id, status)| (id, status.clone())).collect();
                let (workloads, gpus) = (self.workloads.clone(), self.reconciler.gpus_in_use());
                let snapshot = Snapshot { goal: self.goal, statuses, workloads, gpus };
                let _ = answer.send(snapshot);
            }
            Event::Container { allocation, answer } => {
                let known = self.workloads.contains_key(&allocation);
                let container = self.reconciler.container_of(allocation).filter(|_| known);
                let _ = answer.send(container.map(|seen| seen.id.clone()));
            }
            Event::Volume { allocation, volume, answer } => {
                let _ = answer.send(self.reconciler.volume_of(allocation, &volume));
            }
        }
    }

    fn admit(&mut self, admission: Admission) {
        self.finishing = matches!(admission, Admission::NothingNew(_));
        self.step(Input::Admission(admission));
    }

    fn take_goal(&mut self, sealed: SealedGoal) {
        let id = sealed.id();
        let goal = match sealed.open() {
            Ok(goal) => goal,
            Err(error) => {
                let reason = chain(&error);
                warn!(goal = %id, reason, "a goal was refused");
                return self.batch.reports.push_back(ReportKind::GoalRefused { goal: id, reason });
            }
        };
        let workloads: BTreeMap<_, _> =
            goal.allocations.iter().map(|(id, a)| (*id, a.workload.clone())).collect();
        if self.step_with(Input::Goal(id, goal), Some(sealed)) {
            info!(goal = %id, allocations = workloads.len(), "works towards a new goal");
            self.workloads = workloads;
        }
    }

    fn step(&mut self, input: Input) {
        self.step_with(input, None);
    }

    /// Whether the goal that came with it was taken.
    fn step_with(&mut self, input: Input, mut sealed: Option<SealedGoal>) -> bool {
        let now = clock::now();
        let mut taken = false;
        for effect in self.reconciler.step(input, now, &mut clock::random_wide) {
            match effect {
                Effect::KeepGoal(_) => {
                    taken = true;
                    // What was just read from disk is there already.
                    self.batch.goal =
                        sealed.take().filter(|goal| self.goal != Some((goal.id(), *goal.hash())));
                }
                Effect::Run(id, operation) => self.batch.runs.push((id, operation)),
                Effect::Report(kind) => self.batch.reports.push_back(kind),
                Effect::Save(id, record) => self.save(id, record),
                Effect::WakeAt(at) => self.wake = Some(Instant::now() + at.since(now).as_std()),
            }
        }
        taken
    }

    fn save(&mut self, id: AllocationId, record: Option<Box<AllocationRecord>>) {
        if record.is_none()
            && let Ok(secrets) = &*self.executor.secrets
        {
            // Its container may have been removed by somebody else, and its secrets not.
            secrets.remove(id);
        }
        self.batch.saves.insert(id, record);
    }

    /// Does what the steps want, in the order that a crash at any moment asks for.
    async fn flush(&mut self) {
        let reports: Vec<ReportKind> = self.batch.reports.drain(..).collect();
        let kept = reports.clone();
        let disk = Arc::clone(&self.disk);
        let queue = async move {
            if reports.is_empty() {
                return Ok(None);
            }
            let now = clock::now();
            disk.run(move |disk| disk.push(reports, now)).await.map(Some)
        };
        let mut queue = Box::pin(queue);
        // Polled once at least, so that both wait for the disk at the same time.
        let mut queued = futures::poll!(&mut queue);
        let (goal, saves) = (self.batch.goal.take(), std::mem::take(&mut self.batch.saves));
        let mut failed = false;
        if goal.is_some() || !saves.is_empty() {
            let (result, goal, saves) = {
                let disk = Arc::clone(&self.disk);
                let work = move |disk: &Disk| Ok((disk.keep(goal.as_ref(), &saves), goal, saves));
                match disk.run(work).await {
                    Ok(done) => done,
                    Err(error) => (Err(error), None, Saves::new()),
                }
            };
            match result {
                Ok(()) => self.goal = goal.map(|goal| (goal.id(), *goal.hash())).or(self.goal),
                Err(error) => {
                    if self.complains() {
                        error!(
                            error = chain(&error),
                            "the disk does not take what is to be remembered; trying again"
                        );
                    }
                    failed = true;
                    self.batch.goal = goal;
                    self.batch.saves = saves;
                }
            }
        }
        for (id, operation) in self.batch.runs.drain(..) {
            self.executor.begin(id, operation);
        }
        if queued.is_pending() {
            queued = std::task::Poll::Ready(queue.await);
        }
        if let std::task::Poll::Ready(result) = queued {
            failed |= self.queued(result, kept);
        }
        for (answer, id) in self.batch.answers.drain(..) {
            let _ = answer.send(self.goal.is_some_and(|(kept, _)| kept == id));
        }
        self.retry = failed.then(|| Instant::now() + DISK_RETRY);
        if !failed {
            self.complained = None;
        }
        if self.finishing && !self.reconciler.jobs_under_way() {
            self.calm.notify_one();
        }
    }

    /// Whether the log is to say that the disk takes nothing: once in a while, as it is tried all the time.
    fn complains(&mut self) -> bool {
        let now = Instant::now();
        let says = self.complained.is_none_or(|at| now.duration_since(at) >= COMPLAINTS);
        if says {
            self.complained = Some(now);
        }
        says
    }

    /// What became of the reports; whether they have to be tried again.
    fn queued(
        &mut self,
        result: Result<Option<lattice_link::outbox::Pushed>>,
        reports: Vec<ReportKind>,
    ) -> bool {
        match result {
            Ok(None) => false,
            Ok(Some(pushed)) => {
                if pushed.dropped > 0 {
                    warn!(
                        dropped = pushed.dropped,
                        "the queue of reports is full; states are sent anew instead"
                    );
                    let states = self.reconciler.statuses();
                    let states =
                        states.map(|(id, status)| ReportKind::Allocation { id, status: status.clone() });
                    self.batch.reports.extend(states);
                    self.batch.reports.extend(self.health.clone());
                    // Answers that are not states are given again by the next step.
                    self.reconciler.tell_again();
                    self.wake = Some(Instant::now());
                }
                self.untold.send_if_modified(|untold| !std::mem::take(untold).is_empty());
                self.reports_ready.notify_one();
                pushed.dropped > 0
            }
            Err(error) => {
                if self.complains() {
                    error!(error = chain(&error), "the disk does not take reports; trying again");
                }
                if let Some(ReportKind::Health { conditions }) = &self.health {
                    self.untold.send_replace(conditions.clone());
                }
                self.batch.reports.extend(reports);
                let extra = self.batch.reports.len().saturating_sub(MAX_UNWRITTEN);
                self.batch.reports.drain(..extra);
                true
            }
        }
    }
}
