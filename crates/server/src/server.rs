//! Starting and stopping: the order in which the parts come up, and what holds what.
//!
//! Up: home → store (its lock tells of a second server) → keys → snapshot → what was connected is
//! unknown → listeners → controllers. Down: listeners and sessions say goodbye → controllers → store.

use crate::{
    api::{cluster, nodes, pools, principal::Principal, projects, serve, table, tokens},
    authority,
    backups::{Mark, UNFINISHED, refuse_moved, schedule},
    blobs::{FolderBlobs, Kind},
    clock,
    config::ServerConfig,
    controllers::{housekeeping, measuring, planning, presence, servers},
    error::ServerError,
    gateway::AgentGateway,
    keys,
    rows::{self, Event, NodeIdentity, Settings, Stored},
    state::{Core, Refused, Snapshot, live::Live},
    storage,
};
use lattice_api::{
    ApiTokenCreate, ApproveNode, ErrorBody, ErrorCode, JoinTokenCreate, NodeView, Status, TokenCreated,
};
use lattice_identity::{CertSlot, ChallengeKey, Clock, ServerAddress, tls::server_config};
use lattice_link::server::{LinkServer, ServerTls};
use lattice_model::resource::Approval;
use lattice_planner::Row;
use lattice_store::{ApplyError, ClusterMeta, Key, Op, Store, Transaction};
use parking_lot::{Mutex, RwLock};
use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long open requests have to end when the server goes down.
const GRACE: Duration = Duration::from_secs(3);

/// How many rows of nodes are written at once.
const AT_ONCE: usize = 500;

/// The control plane of one cluster.
#[derive(Debug)]
pub struct Server;

/// A server that serves.
pub struct RunningServer {
    pub(crate) core: Arc<Core>,
    tasks: TaskTracker,
    api: SocketAddr,
    agents: SocketAddr,
    socket: PathBuf,
    /// The lock of the home, where the store has none.
    _taken: Option<File>,
}

impl std::fmt::Debug for RunningServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningServer")
            .field("api", &self.api)
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Whether the web console is part of this program.
    pub fn has_console() -> bool {
        lattice_console::is_built()
    }

    /// Starts a server; it serves when this returns, until `shutdown`.
    ///
    /// # Errors
    /// [`ServerError`] says what stands against it, and leaves nothing running.
    pub async fn start(
        config: ServerConfig,
        shutdown: CancellationToken,
    ) -> Result<RunningServer, ServerError> {
        config.check()?;
        make_home(&config.home)?;
        // Addresses first: what is taken is found out before anything is made.
        let agents = TcpListener::bind(config.agent_listen).await.map_err(|source| ServerError::Listen {
            what: "the agents' port",
            address: config.agent_listen.to_string(),
            source,
        })?;
        let api = serve::tcp(config.api_listen).await?;
        if config.home.join(UNFINISHED).exists() {
            return Err(ServerError::HalfRestored { home: config.home });
        }
        let taken = storage::take_home(&config)?;
        let store = storage::open(&config).await?;
        let started = start_with(config, shutdown, Arc::clone(&store), api, agents, taken).await;
        if started.is_err() {
            store.close().await;
        }
        started
    }
}

async fn start_with(
    config: ServerConfig,
    shutdown: CancellationToken,
    store: Arc<dyn Store>,
    api: TcpListener,
    agents: TcpListener,
    taken: Option<File>,
) -> Result<RunningServer, ServerError> {
    // The home is ours, by its lock or the store's, so a socket that is there is a dead server's.
    let socket = config.socket();
    let unix = serve::unix(&socket)?;
    let local = |listener: &TcpListener, address: SocketAddr| listener.local_addr().unwrap_or(address);
    let (api_addr, agent_addr) = (local(&api, config.api_listen), local(&agents, config.agent_listen));
    let core = Arc::new(load(config, shutdown.clone(), Arc::clone(&store), agent_addr.port()).await?);
    let _ = core.api_port.set(api_addr.port());
    let snapshot = core.snapshot();
    let watch =
        store.watch(lattice_store::Revision(snapshot.revision)).await.map_err(|error| match error {
            lattice_store::WatchError::Store(error) => ServerError::Store(error),
            _ => ServerError::Stopping,
        })?;
    let tasks = TaskTracker::new();
    let follower = Arc::clone(&core);
    // Not among the tasks that end first: whoever ends writes, and waits to see it.
    tokio::spawn(async move {
        if let Err(error) = follower.follow(watch).await {
            tracing::error!(%error, "the store cannot be followed any more; the server goes down");
            follower.shutdown.cancel();
        }
    });
    let restored = Mark::load(&core.config.home)?;
    if core.config.accept_older_store || restored.is_some() {
        take_older(&core, restored.as_ref()).await.map_err(|refused| {
            tracing::error!(?refused, "that the older store is accepted was not written down");
            ServerError::Stopping
        })?;
    }
    if restored.is_some() {
        Mark::clear(&core.config.home);
    }
    servers::present(&core).await;
    projects::ensure(&core).await.map_err(|refused| {
        tracing::error!(?refused, "the projects were not written down");
        ServerError::Stopping
    })?;
    pools::ensure(&core).await.map_err(|refused| {
        tracing::error!(?refused, "the default pool was not made");
        ServerError::Stopping
    })?;
    presence::forget(&core).await;
    core.live.want_plan(snapshot.cluster.stacks.keys().cloned());
    core.live.want_plan(snapshot.cluster.allocations().values().map(|row| row.workload.stack_key()));

    let tls = server_config(
        core.cluster,
        core.authority.read().root_der(),
        Arc::clone(&core.slot),
        Clock::new(clock::now),
    )?;
    let tls = Arc::new(tls);
    let tls: ServerTls = Arc::new(move || Arc::clone(&tls));
    let link = LinkServer::new(Arc::new(AgentGateway(Arc::clone(&core))), tls);
    let _ = core.connections.set(link.connections());
    tasks.spawn(link.serve(agents, shutdown.clone()));

    let router = table::router(Arc::clone(&core));
    macro_rules! listen {
        ($listener:expr) => {{
            let serving = serve::serve($listener, router.clone(), shutdown.clone());
            let end = shutdown.clone();
            tasks.spawn(async move {
                // Followed logs and watches would hold the end up for ever.
                let late = async {
                    end.cancelled().await;
                    tokio::time::sleep(GRACE).await
                };
                tokio::select! { () = serving => {}, () = late => {} }
            });
        }};
    }
    listen!(unix);
    match core.config.api_tls.clone() {
        Some(files) => listen!(serve::TlsListener::new(api, &files)?),
        None => listen!(api),
    }
    tasks.spawn(planning::run(Arc::clone(&core)));
    tasks.spawn(servers::run(Arc::clone(&core)));
    tasks.spawn(presence::settle(Arc::clone(&core)));
    tasks.spawn(presence::watch_losses(Arc::clone(&core)));
    tasks.spawn(housekeeping::run(Arc::clone(&core)));
    tasks.spawn(measuring::run(Arc::clone(&core)));
    tasks.spawn(schedule::run(Arc::clone(&core)));
    tasks.close();
    core.ready.store(true, Ordering::Relaxed);
    tracing::info!(api = %api_addr, agents = %agent_addr, socket = %socket.display(), "the server serves");
    Ok(RunningServer { core, tasks, api: api_addr, agents: agent_addr, socket, _taken: taken })
}

async fn load(
    config: ServerConfig,
    shutdown: CancellationToken,
    store: Arc<dyn Store>,
    agent_port: u16,
) -> Result<Core, ServerError> {
    refuse_moved(&*store).await?;
    let ClusterMeta { cluster_id, mut incarnation, .. } = store.cluster().await?;
    if config.accept_older_store {
        incarnation = store.raise_incarnation().await?.incarnation;
        tracing::warn!(incarnation, "the store is taken as it is; agents are told by a new incarnation");
    }
    let authority_is_there = store.get(&authority::key()).await?.is_some();
    let keys = keys::load(&config, !authority_is_there).await?;
    let ring = keys.ring();
    let server = storage::server_name(&config)?;
    let name = settings(&*store, &config.cluster_name).await?;
    let authority = authority::load(&*store, &ring, cluster_id, &name).await?;
    let advertised = config.advertised(agent_port)?;
    let slot = CertSlot::empty();
    let presented = authority::present(&authority, &slot, &config.certificate_hosts(&advertised))?;
    let listing = store.list_all().await?;
    let snapshot = Snapshot::load(listing.revision, &listing.records)?;
    let folder = config.blobs_folder();
    let blobs = FolderBlobs::open(folder.clone(), Kind::Trees)
        .map_err(|source| ServerError::Home { path: folder, source })?;
    let challenge = ChallengeKey::new(&ring.current().derive("renewal challenge"));
    let folder = config.layers_folder();
    let layers = FolderBlobs::open(folder.clone(), Kind::Layers)
        .map_err(|source| ServerError::Home { path: folder, source })?;
    Ok(Core {
        config,
        store,
        server,
        cluster: cluster_id,
        incarnation,
        name,
        live: Live::default(),
        keys,
        blobs: Arc::new(blobs),
        layers: Arc::new(layers),
        authority: RwLock::new(authority),
        slot,
        presented: Mutex::new(presented),
        challenge,
        advertised,
        started_at: clock::now(),
        ready: AtomicBool::new(false),
        shutdown,
        api_port: OnceLock::new(),
        connections: OnceLock::new(),
        snapshots: watch::Sender::new(Arc::new(snapshot)),
    })
}

/// Somebody decided to go on from an older store: the nodes have newer session values than it, and
/// are believed once, each.
async fn take_older(core: &Core, restored: Option<&Mark>) -> Result<(), Refused> {
    while core.commit(|snapshot| older(core, snapshot, restored)).await?.value {}
    Ok(())
}

/// The next part of it; whether there is more.
fn older(core: &Core, snapshot: &Snapshot, restored: Option<&Mark>) -> Result<(Vec<Op>, bool), Refused> {
    let approved = |row: &&Row<NodeIdentity>| {
        let node = snapshot.cluster.nodes.get(&row.node);
        !row.resume_next && node.is_some_and(|node| node.approval == Approval::Approved)
    };
    let chosen: Vec<_> = snapshot.identities.values().filter(approved).take(AT_ONCE).collect();
    let resumed = chosen
        .iter()
        .map(|row| rows::update(&NodeIdentity { resume_next: true, ..(*row.value).clone() }, row.revision));
    let mut ops: Vec<_> = resumed.collect();
    if chosen.len() < AT_ONCE {
        let incarnation = format!("incarnation {}", core.incarnation);
        let (action, kind, text, details) = match restored {
            Some(Mark { backup, revision, .. }) => (
                "store.restore",
                "store.restored",
                "the control plane was restored from a backup; each node's next session counts",
                format!("{incarnation}, from {backup} of revision {revision}"),
            ),
            None => (
                "store.accept_older",
                "store.accepted",
                "the store is taken as it is; each node's next session counts",
                incarnation,
            ),
        };
        ops.push(rows::create(&Principal::process().audit(action, "store", &details)));
        ops.extend(rows::events([Event::new(kind, "store", text).because(Some(details))]));
    }
    Ok((ops, chosen.len() == AT_ONCE))
}

/// The cluster's name: as it was made, whatever the configuration says later.
async fn settings(store: &dyn Store, wanted: &str) -> Result<String, ServerError> {
    if let Some(record) = store.get(&Key::new(Settings::KIND, "cluster")).await? {
        return Ok(rows::read::<Settings>(&record)?.name);
    }
    let settings = Settings { name: wanted.to_owned(), created_at: clock::now() };
    match store.apply(Transaction::new([rows::create(&settings)])).await {
        Ok(_) => Ok(settings.name),
        // Another server that starts on a new store was faster.
        Err(ApplyError::Conflict { .. }) => Box::pin(self::settings(store, wanted)).await,
        Err(error) => Err(error.into()),
    }
}

/// Makes the folder, for its owner alone, or takes an existing one from the eyes of others.
fn make_home(home: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::Home { path: home.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(failed)?;
    let mode = std::fs::metadata(home).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

impl RunningServer {
    /// Where the API listens.
    pub fn api_addr(&self) -> SocketAddr {
        self.api
    }

    /// Where agents connect.
    pub fn agent_addr(&self) -> SocketAddr {
        self.agents
    }

    /// Where this machine's own agent connects: by loopback, whatever network the machine is in today.
    pub fn agent_addr_from_here(&self) -> SocketAddr {
        match self.agents.ip().is_unspecified() {
            true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.agents.port()),
            false => self.agents,
        }
    }

    /// The Unix socket of the API.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How the cluster is doing.
    pub fn status(&self) -> Status {
        cluster::present(&self.core)
    }

    /// Makes a join token, for whoever runs this process.
    ///
    /// # Errors
    /// As the API's `POST /v1/join-tokens`.
    pub async fn create_join_token(&self, request: JoinTokenCreate) -> Result<TokenCreated, ErrorBody> {
        tokens::make_join(&self.core, &Principal::process(), request, None).await
    }

    /// Makes a join token that approves what comes from this machine, once, within `ttl`; from
    /// elsewhere a person has to.
    ///
    /// # Errors
    /// As the API's `POST /v1/join-tokens`.
    pub async fn create_own_token(&self, ttl: lattice_model::Duration) -> Result<TokenCreated, ErrorBody> {
        let own = ["127.0.0.0/8".to_owned(), "::1/128".to_owned()];
        let hosts = self.core.config.certificate_hosts(&self.core.advertised);
        let hosts = hosts.iter().filter_map(|host| host.parse().ok()).map(|ip: IpAddr| match ip {
            IpAddr::V4(ip) => format!("{ip}/32"),
            IpAddr::V6(ip) => format!("{ip}/128"),
        });
        let addresses = own.into_iter().chain(hosts).filter_map(|range| range.parse().ok()).collect();
        let here = self.agent_addr_from_here();
        let server = ServerAddress::new(&here.ip().to_string(), here.port()).map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, error.to_string(), "look at the server's log")
        })?;
        let only = tokens::Only { server, addresses };
        let request = JoinTokenCreate {
            ttl_ms: Some(ttl.0),
            uses: Some(1),
            auto_approve: true,
            description: "this machine, by `lattice up`".into(),
            ..JoinTokenCreate::default()
        };
        tokens::make_join(&self.core, &Principal::process(), request, Some(only)).await
    }

    /// Makes an API token, for whoever runs this process.
    ///
    /// # Errors
    /// As the API's `POST /v1/api-tokens`.
    pub async fn create_api_token(&self, request: ApiTokenCreate) -> Result<TokenCreated, ErrorBody> {
        tokens::make_api(&self.core, &Principal::process(), request).await
    }

    /// Takes a node in, for whoever runs this process.
    ///
    /// # Errors
    /// As the API's `POST /v1/nodes/{node}/approve`.
    pub async fn approve_node(&self, node: &str, request: ApproveNode) -> Result<NodeView, ErrorBody> {
        nodes::take_in(&self.core, &Principal::process(), node, &request).await
    }

    /// Asks the server to go down; [`RunningServer::wait`] says when it has.
    pub fn shutdown(&self) {
        self.core.shutdown.cancel();
    }

    /// Waits until the server has gone down: sessions have their goodbye, the store is closed.
    pub async fn wait(self) {
        self.core.shutdown.cancelled().await;
        self.tasks.wait().await;
        self.core.store.close().await;
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket was not removed");
        }
        tracing::info!("the server is down");
    }
}
