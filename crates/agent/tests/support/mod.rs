//! A server of one node, scripted by the test, over the real link; and a node on the real engine.

#![allow(dead_code, missing_docs, unreachable_pub)]

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use lattice_agent_core::{
    AgentConfig, AgentError, AgentParts, AgentStatus, Docker, Ended, Firewall, Home, HomePaths, Identity,
    JoinOptions, JoinProgress, JoinToken, LogRing, PendingJoin, Runtime, Sleep, System, ask_status, join,
    measure, run,
};
use lattice_identity::{
    CertSlot, CertificateAuthority, Challenge, ChallengeKey, Fingerprint, RatchetValue, ServerNames,
    ServerRatchet, TokenSecret, Verdict, challenge,
    tls::{self, Clock},
};
use lattice_link::{
    BulkChannel, Dedup, Refusal, Verdict as Number,
    message::{
        AgentMessage, Approved, Certificate, Heartbeat, Hello, JoinRequest, JoinUpdate, OpenStream,
        RenewRequest, Reported, Secret, ServerMessage, StreamId, StreamRequest, TreeRequest, Welcome,
    },
    server::{CertifiedPeer, Gateway, JoinUpdates, LinkServer, Peer, Session, TreeBytes},
};
use lattice_model::{
    AllocationId, ClusterId, Duration, Goal, GoalAllocation, GoalId, NodeId, SealedGoal, Timestamp, TokenId,
    container::{ContainerSeen, LABEL_ALLOCATION},
    goal::DesiredState,
    report::{AllocationState, AllocationStatus, ReportKind},
    spec::{TreeDigest, WorkloadSpec},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration as StdDuration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub const IMAGE: &str = "lattice-test/busybox:1";
/// Generous, since machines that run tests are busy.
pub const LIMIT: StdDuration = StdDuration::from_secs(60);

pub fn socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned()
}

pub fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
}

pub fn random() -> u128 {
    u128::from(getrandom::u64().unwrap()) << 64 | u128::from(getrandom::u64().unwrap())
}

/// What the server saw and wants.
#[derive(Default)]
pub struct Seen {
    pub node: Option<NodeId>,
    pub key: Vec<u8>,
    pub joins: usize,
    pub ratchet: ServerRatchet,
    pub offered: Option<RatchetValue>,
    pub dedup: Option<Dedup>,
    pub reports: Vec<(u64, ReportKind)>,
    pub duplicates: usize,
    pub gaps: u64,
    pub hellos: Vec<Hello>,
    pub heartbeats: Vec<Heartbeat>,
    pub accepted: Vec<GoalId>,
    pub renewals: usize,
    pub refuse: Option<Refusal>,
    /// Archives by digest, and how often each was asked for.
    pub trees: BTreeMap<TreeDigest, (Vec<u8>, usize)>,
    pub connections: u64,
    waiting: HashMap<StreamId, oneshot::Sender<BulkChannel>>,
    session: Option<mpsc::Sender<OpenStream>>,
}

pub struct Fake {
    pub ca: CertificateAuthority,
    pub cluster: ClusterId,
    pub seen: Mutex<Seen>,
    pub changed: watch::Sender<u64>,
    pub goal: watch::Sender<Option<SealedGoal>>,
    pub approved: watch::Sender<bool>,
    /// Of certificates; a short one is renewed soon.
    pub validity: Mutex<Duration>,
    /// How long ago certificates are said to be issued at enrolment.
    pub issued_ago: Mutex<Duration>,
    challenge_key: ChallengeKey,
    leaf: Mutex<Option<Fingerprint>>,
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0 - by.0 as i64)
}

impl Fake {
    fn certificate(&self, node: NodeId, csr: &[u8], at: Timestamp) -> Certificate {
        let issued = self.ca.issue_node(node, csr, at, *self.validity.lock()).unwrap();
        Certificate {
            chain_der: issued.chain.iter().map(|der| der.to_vec()).collect(),
            not_after: issued.not_after,
        }
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock());
        self.changed.send_modify(|n| *n += 1);
    }
}

#[async_trait]
impl Gateway for Fake2 {
    async fn join(&self, _: Peer, request: JoinRequest) -> Result<JoinUpdates, Refusal> {
        let fake = Arc::clone(&self.0);
        if let Some(refusal) = fake.seen.lock().refuse.clone() {
            return Err(refusal);
        }
        let node = {
            let mut seen = fake.seen.lock();
            seen.joins += 1;
            seen.key = request.public_key.clone();
            *seen.node.get_or_insert_with(|| NodeId::from_random(random()))
        };
        fake.note(|_| {});
        let fingerprint = Fingerprint::of(&request.public_key).evidence();
        let pending = JoinUpdate::Pending { node, fingerprint, hint: "approve it".into() };
        let decision = async move {
            let _ = fake.approved.subscribe().wait_for(|yes| *yes).await;
            let at = earlier(now(), *fake.issued_ago.lock());
            let ratchet = Secret::new(String::from(RatchetValue::GENESIS).into_bytes());
            let certificate = fake.certificate(node, &request.csr_der, at);
            JoinUpdate::Approved(Approved { node, cluster: fake.cluster, certificate, ratchet })
        };
        Ok(stream::once(async { pending }).chain(stream::once(decision)).boxed())
    }

    async fn challenge(&self, _: Peer, _: NodeId) -> Result<Vec<u8>, Refusal> {
        let leaf = self.0.leaf.lock().unwrap();
        Ok(Challenge::issue(&self.0.challenge_key, &leaf, now()).unwrap().as_bytes().to_vec())
    }

    async fn renew(&self, _: Peer, request: RenewRequest) -> Result<Certificate, Refusal> {
        let leaf = self.0.leaf.lock().unwrap();
        let key = self.0.seen.lock().key.clone();
        let challenge = Challenge::from_bytes(request.challenge);
        let proof = challenge::Proof {
            node: request.node,
            challenge: &challenge,
            csr_der: &request.csr_der,
            signature: &request.signature,
        };
        challenge::check(&self.0.challenge_key, &leaf, &key, &proof, now())
            .map_err(|e| Refusal::new("renewal_refused", e.to_string(), ""))?;
        self.0.note(|seen| seen.renewals += 1);
        Ok(self.0.certificate(request.node, &request.csr_der, now()))
    }

    async fn session(&self, peer: CertifiedPeer, hello: Hello, session: Session) -> Result<(), Refusal> {
        let fake = &self.0;
        let who = lattice_identity::peer_node(peer.leaf()).unwrap();
        assert_eq!(Some(who.node), fake.seen.lock().node);
        if let Some(refusal) = fake.seen.lock().refuse.clone() {
            return Err(refusal);
        }
        let Session { send, mut recv, protocol } = session;
        let presented: RatchetValue = std::str::from_utf8(hello.ratchet.reveal()).unwrap().parse().unwrap();
        let (open, mut opens) = mpsc::channel(8);
        let (next, ack_up_to) = {
            let mut seen = fake.seen.lock();
            seen.connections += 1;
            let connection = seen.connections;
            let mut fresh = [0; 32];
            fresh[..16].copy_from_slice(&random().to_be_bytes());
            let next = match seen.ratchet.hello(connection, &presented, fresh) {
                Verdict::Accept { next } => next,
                other => return Err(Refusal::new("node_quarantined", format!("{other:?}"), "")),
            };
            seen.offered = Some(next.clone());
            let dedup = Dedup::resume(seen.dedup, &hello.outbox);
            seen.dedup = Some(dedup);
            seen.session = Some(open);
            (next, dedup.last)
        };
        fake.note(|seen| seen.hellos.push(hello));
        send.send(ServerMessage::Welcome(Welcome {
            protocol,
            server_version: "0.1.0".into(),
            heartbeat: Duration::from_millis(500),
            ratchet_next: Some(Secret::new(String::from(next).into_bytes())),
            ack_up_to,
            notice: None,
            server_time: None,
        }))
        .await?;
        let mut goals = fake.goal.subscribe();
        goals.mark_changed();
        loop {
            tokio::select! {
                message = recv.recv() => match message? {
                    AgentMessage::Reports(reports) => {
                        let mut last = 0;
                        fake.note(|seen| for report in reports {
                            let Reported::Known(report) = report else { panic!("an unknown report") };
                            let mut dedup = seen.dedup.unwrap();
                            match dedup.accept(report.seq) {
                                Number::New => seen.reports.push((report.seq, report.kind)),
                                Number::Duplicate => seen.duplicates += 1,
                                Number::Gap { missing } => seen.gaps += missing,
                            }
                            seen.dedup = Some(dedup);
                            last = dedup.last;
                        });
                        send.send(ServerMessage::Ack(last)).await?;
                    }
                    AgentMessage::Heartbeat(heartbeat) => fake.note(|seen| seen.heartbeats.push(heartbeat)),
                    AgentMessage::GoalAccepted(id) => fake.note(|seen| seen.accepted.push(id)),
                    AgentMessage::RatchetStored => fake.note(|seen| {
                        let offered = seen.offered.clone().unwrap();
                        seen.ratchet.confirm(&offered);
                    }),
                },
                Ok(()) = goals.changed() => {
                    let goal = goals.borrow_and_update().clone();
                    if let Some(goal) = goal {
                        send.send(ServerMessage::Goal(goal)).await?;
                    }
                }
                Some(asked) = opens.recv() => send.send(ServerMessage::OpenStream(asked)).await?,
            }
        }
    }

    async fn bulk(&self, _: CertifiedPeer, stream: StreamId, channel: BulkChannel) {
        let waiting = self.0.seen.lock().waiting.remove(&stream).unwrap();
        let _ = waiting.send(channel);
    }

    /// The first answer breaks off in the middle.
    async fn tree(&self, _: CertifiedPeer, request: TreeRequest) -> Result<TreeBytes, Refusal> {
        let mut seen = self.0.seen.lock();
        let Some((archive, asked)) = seen.trees.get_mut(&request.digest) else {
            return Err(Refusal::new("tree_unknown", "there are no such files", "deploy it again"));
        };
        *asked += 1;
        let size = archive.len() as u64;
        let mut pieces = vec![Ok(archive[request.offset as usize..].to_vec().into())];
        if *asked == 1 {
            pieces = vec![
                Ok(archive[..archive.len() / 2].to_vec().into()),
                Err(Refusal::new("busy", "the disk is slow", "")),
            ];
        }
        Ok(TreeBytes { size, bytes: stream::iter(pieces).boxed() })
    }
}

/// The orphan rule wants a type of ours.
pub struct Fake2(pub Arc<Fake>);

pub struct Server {
    pub fake: Arc<Fake>,
    pub addr: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let cluster = ClusterId::from_random(random());
        let year_ago = earlier(now(), Duration::from_secs(200 * 86_400));
        let fake = Arc::new(Fake {
            ca: CertificateAuthority::create(cluster, "test", year_ago).unwrap(),
            cluster,
            seen: Mutex::default(),
            changed: watch::Sender::new(0),
            goal: watch::Sender::new(None),
            approved: watch::Sender::new(true),
            validity: Mutex::new(Duration::from_secs(86_400)),
            issued_ago: Mutex::new(Duration(0)),
            challenge_key: ChallengeKey::new(&[7; 32]),
            leaf: Mutex::new(None),
        });
        let mut server = Self { fake, addr, stop: CancellationToken::new(), task: None };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let names = ServerNames::from_hosts(["127.0.0.1"]);
        let issued = self.fake.ca.issue_server(&names, now(), Duration::from_secs(86_400)).unwrap();
        *self.fake.leaf.lock() = Some(Fingerprint::of(&issued.chain[0]));
        let slot = CertSlot::empty();
        slot.swap(issued.chain, issued.key).unwrap();
        let config =
            tls::server_config(self.fake.cluster, self.fake.ca.root_der(), slot, Clock::new(now)).unwrap();
        let config = Arc::new(config);
        let server =
            LinkServer::new(Arc::new(Fake2(Arc::clone(&self.fake))), Arc::new(move || Arc::clone(&config)));
        self.stop = CancellationToken::new();
        self.task = Some(tokio::spawn(server.serve(listener, self.stop.clone())));
    }

    /// The server goes away; its port stays unused.
    pub async fn down(&mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap();
    }

    pub async fn up(&mut self) {
        let listener = TcpListener::bind(self.addr).await.unwrap();
        self.serve(listener);
    }

    pub fn token(&self) -> JoinToken {
        let servers = vec![self.addr.to_string().parse().unwrap()];
        let id = TokenId::from_random(1);
        JoinToken::new(servers, self.fake.ca.root_fingerprint(), id, TokenSecret::from_bytes([1; 32]))
            .unwrap()
    }

    pub fn give(&self, revision: u64, goal: &Goal) -> GoalId {
        let id = GoalId { incarnation: 1, revision };
        self.fake.goal.send_replace(Some(SealedGoal::seal(id, goal)));
        id
    }

    /// Waits until what the server saw satisfies `wanted`.
    pub async fn until<T>(&self, what: &str, mut wanted: impl FnMut(&mut Seen) -> Option<T>) -> T {
        let mut changed = self.fake.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = wanted(&mut self.fake.seen.lock()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain: {what}; reports: {:#?}", self.fake.seen.lock().reports),
        }
    }

    /// Waits until the last report about an allocation is of that state.
    pub async fn state(&self, id: AllocationId, state: AllocationState) -> AllocationStatus {
        self.until(&format!("{id} is {state}"), |seen| {
            seen.status(id).filter(|status| status.state == state).cloned()
        })
        .await
    }

    /// Asks the node for a stream.
    pub async fn open(&self, request: StreamRequest) -> BulkChannel {
        let stream = StreamId(getrandom::u64().unwrap());
        let (answer, channel) = oneshot::channel();
        let session = {
            let mut seen = self.fake.seen.lock();
            seen.waiting.insert(stream, answer);
            seen.session.clone().unwrap()
        };
        session.send(OpenStream { stream, request }).await.unwrap();
        tokio::time::timeout(LIMIT, channel).await.expect("the agent answers").unwrap()
    }
}

impl Seen {
    pub fn status(&self, wanted: AllocationId) -> Option<&AllocationStatus> {
        self.reports.iter().rev().find_map(|(_, kind)| match kind {
            ReportKind::Allocation { id, status } if *id == wanted => Some(status),
            _ => None,
        })
    }
}

/// A node on this machine's engine.
pub struct Node {
    pub folder: tempfile::TempDir,
    pub runtime: Arc<dyn Runtime>,
    pub node: NodeId,
    pub manager: Option<Arc<dyn Sleep>>,
    pub firewall: Option<Arc<dyn Firewall>>,
    task: Option<(JoinHandle<Result<Ended, AgentError>>, CancellationToken)>,
}

pub fn docker() -> Arc<dyn Runtime> {
    Arc::new(Docker::new(&socket()).unwrap())
}

pub async fn enrol(server: &Server, folder: &std::path::Path) -> Result<Identity, AgentError> {
    let home = Home::open(folder)?;
    let pending = PendingJoin { token: server.token(), name: Some("test-node".parse().unwrap()) };
    let (config, machine) = (AgentConfig::default(), measure(&*docker(), folder).await);
    let mut progress = |_: JoinProgress| {};
    join(&home, &pending, &machine, &config, JoinOptions::default(), &mut progress).await
}

impl Node {
    /// Joined, and not running yet.
    pub async fn joined(server: &Server) -> Self {
        let runtime = docker();
        if let Err(error) = runtime.ping().await {
            panic!("{error}\nThese tests need a container engine; `make test` starts one.");
        }
        let folder = tempfile::tempdir().unwrap();
        let identity = enrol(server, folder.path()).await.unwrap();
        Self { folder, runtime, node: identity.node, manager: None, firewall: None, task: None }
    }

    pub async fn running(server: &Server) -> Self {
        let mut node = Self::joined(server).await;
        node.start().await;
        node
    }

    pub async fn start(&mut self) {
        let runtime = Arc::clone(&self.runtime);
        self.start_on(runtime).await;
    }

    pub async fn start_on(&mut self, runtime: Arc<dyn Runtime>) {
        let began = Instant::now();
        // An agent that was dropped lets go of its folder when its last thread has written.
        let home = loop {
            match Home::open(self.folder.path()) {
                Ok(home) => break home,
                Err(error) => assert!(began.elapsed() < LIMIT, "{error}"),
            }
            tokio::time::sleep(StdDuration::from_millis(20)).await;
        };
        let stop = CancellationToken::new();
        let sensors = Arc::new(System::below(self.folder.path().join("machine")));
        let log = LogRing::default();
        let parts = AgentParts {
            home,
            config: AgentConfig::default(),
            runtime,
            sensors,
            manager: self.manager.clone(),
            log,
            firewall: self.firewall.clone(),
            own_machine: false,
        };
        self.task = Some((tokio::spawn(run(parts, stop.clone())), stop));
    }

    /// As kill -9 would: nothing is told, nothing waited for.
    pub async fn kill(&mut self) {
        let (task, _) = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    pub async fn stop(&mut self) {
        let (task, stop) = self.task.take().unwrap();
        stop.cancel();
        tokio::time::timeout(LIMIT, task).await.unwrap().unwrap().unwrap();
    }

    pub async fn status(&self) -> Option<AgentStatus> {
        ask_status(&HomePaths::new(self.folder.path())).await.unwrap()
    }

    /// Waits until what the agent says satisfies `wanted`.
    pub async fn says(&self, what: &str, wanted: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            assert!(began.elapsed() < LIMIT, "waited in vain: {what}; the agent says {status:#?}");
            tokio::time::sleep(StdDuration::from_millis(25)).await;
        }
    }

    pub async fn container(&self, id: AllocationId) -> Option<ContainerSeen> {
        let all = self.runtime.list(self.node).await.unwrap();
        all.into_iter().find(|seen| seen.labels.get(LABEL_ALLOCATION) == Some(&id.to_string()))
    }

    /// Removes everything of this node. To be called by every test at its end; a failed one leaves
    /// labelled containers behind, which `make clean` removes.
    pub async fn clear(&mut self) {
        if let Some((task, _)) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        clear(&*self.runtime, self.node).await;
    }
}

pub async fn clear(runtime: &dyn Runtime, node: NodeId) {
    for container in runtime.list(node).await.unwrap() {
        let _ = runtime.remove(&container.id, true).await;
    }
    for network in runtime.list_networks(node).await.unwrap() {
        let _ = runtime.remove_network(node, &network.name).await;
    }
    for volume in runtime.list_volumes(node).await.unwrap() {
        let _ = runtime.remove_volume(node, &volume.name).await;
    }
}

pub fn id() -> AllocationId {
    AllocationId::from_random(random())
}

/// A goal of services that each run a shell script.
pub fn goal<const N: usize>(services: [(AllocationId, &str); N]) -> Goal {
    let mut goal = Goal::default();
    for (n, (id, script)) in services.into_iter().enumerate() {
        let mut spec = WorkloadSpec::of_image(IMAGE);
        spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        spec.stop_grace_period = Duration::from_secs(1);
        let allocation = GoalAllocation {
            workload: format!("default/agent-test/s{n}").parse().unwrap(),
            slot: 1,
            desired: DesiredState::Run,
            restart: 0,
            replaces: None,
            spec: spec.into(),
            volumes: BTreeMap::new(),
            networks: BTreeMap::new(),
            secrets: BTreeMap::new(),
            registry: None,
        };
        goal.allocations.insert(id, allocation);
    }
    goal
}
