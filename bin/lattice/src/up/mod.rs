//! The server on this machine: `lattice up` and `lattice server`.
//!
//! `up` starts the control plane in this process and this machine's agent as a process of its own
//! ([`agent`]), joined like any other node over the real link with a token that is good once, for
//! ten minutes, from this machine. Ctrl-C stops both; workloads run on.

mod agent;

use crate::{
    error::CliError,
    service::{self, ServiceCommand},
    terminal::note,
};
use agent::{Agent, AgentEnd};
use clap::Args;
use lattice_api::NodeView;
use lattice_client::{Client, Endpoint, default_home};
use lattice_model::resource::{Approval, PresenceState};
use lattice_server::{RunningServer, Server, ServerConfig};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How long this machine's node may take to be ready before `up` says what it waits for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the token for this machine's agent is good.
const TOKEN_TTL: lattice_model::Duration = lattice_model::Duration::from_secs(600);
/// Before an agent that ended is started again; then twice as long, up to half a minute.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// Flags of `lattice up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where console and API listen; loopback only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7400")]
    pub(crate) listen: SocketAddr,
    /// Where agents connect.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7443")]
    pub(crate) agent_listen: SocketAddr,
    /// Run the control plane alone; this machine does not become a node.
    #[arg(long)]
    pub(crate) no_node: bool,
    /// Where all state is kept [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
    /// Take the store as it is although agents have seen newer goals: after a copy was put back.
    #[arg(long)]
    pub(crate) accept_older_store: bool,
}

/// Flags of `lattice server`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ServerArgs {
    #[command(subcommand)]
    pub(crate) service: Option<ServiceCommand>,
    /// The configuration, in TOML; docs/server.md lists its keys.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where all state is kept [default: the platform's data folder].
    #[arg(long, env = "LATTICE_HOME", value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,
    /// Take the store as it is although agents have seen newer goals: after a copy was put back.
    #[arg(long)]
    pub(crate) accept_older_store: bool,
}

/// The folder of all state: as it was said, else as the platform has it.
pub(crate) fn home_or_default(home: Option<PathBuf>) -> Result<PathBuf, CliError> {
    home.filter(|home| !home.as_os_str().is_empty()).or_else(default_home).ok_or_else(|| {
        CliError::Usage(
            "neither HOME nor LATTICE_HOME is set, so there is no folder for the state; set LATTICE_HOME"
                .into(),
        )
    })
}

/// The end: asked for by Ctrl-C or SIGTERM, or the server's own.
struct Told {
    token: CancellationToken,
    asked: Arc<AtomicBool>,
}

impl std::ops::Deref for Told {
    type Target = CancellationToken;

    fn deref(&self) -> &CancellationToken {
        &self.token
    }
}

fn until_told() -> anyhow::Result<Told> {
    let told = Told { token: CancellationToken::new(), asked: Arc::default() };
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (token, asked) = (told.token.clone(), Arc::clone(&told.asked));
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        asked.store(true, Ordering::Relaxed);
        token.cancel();
    });
    Ok(told)
}

/// Runs the control plane and this machine's agent until Ctrl-C.
///
/// # Errors
/// When either cannot be started.
pub(crate) async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let UpArgs { listen, agent_listen, no_node, home, accept_older_store } = args;
    let home = home_or_default(home)?;
    make_home(&home.join("server"))?;
    log_to(&home.join("server/server.log"))?;
    let told = until_told()?;
    let mut config = ServerConfig::new(home.join("server"));
    config.api_listen = listen;
    config.agent_listen = agent_listen;
    config.accept_older_store = accept_older_store;
    let server = start(config, &told).await?;
    let client = Client::new(Endpoint::Unix(server.socket().to_owned()), None);
    announce_console(&client).await;
    if no_node {
        told.cancelled().await;
        return stop(server, None, &told).await;
    }
    let agent = match start_agent(&home, &server).await {
        Ok(agent) => agent,
        Err(error) => {
            told.cancel();
            server.wait().await;
            return Err(error);
        }
    };
    let announced = async {
        announce_node(&client, &home).await;
        std::future::pending::<()>().await;
    };
    // Together: an agent that ends before it is ready is started again too.
    let agent = tokio::select! {
        agent = supervise(&home, &server, agent, &told) => agent,
        () = announced => None,
    };
    stop(server, agent, &told).await
}

/// Runs the control plane alone until Ctrl-C.
///
/// # Errors
/// When it cannot be started.
pub(crate) async fn server(args: ServerArgs) -> anyhow::Result<ExitCode> {
    let ServerArgs { service, config, home, accept_older_store } = args;
    match service {
        None => {}
        Some(ServiceCommand::Install(args)) => return service::install(&args).map(|()| ExitCode::SUCCESS),
        Some(ServiceCommand::Uninstall(args)) => {
            return service::uninstall(&args).map(|()| ExitCode::SUCCESS);
        }
    }
    let home = home_or_default(home)?.join("server");
    let mut config = match config {
        Some(file) => ServerConfig::read(&file, &home)?,
        None => ServerConfig::new(home),
    };
    config.accept_older_store = accept_older_store;
    crate::log_to_stderr(LevelFilter::INFO);
    let told = until_told()?;
    let server = start(config, &told).await?;
    told.cancelled().await;
    stop(server, None, &told).await
}

/// The terminal is for what people want to know; what programs did is in a file.
fn log_to(path: &Path) -> anyhow::Result<()> {
    let log = std::sync::Mutex::new(agent::open_log(path)?);
    let all = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE);
    all.with_ansi(false).with_writer(log).finish().with(crate::log_filter(LevelFilter::INFO)).init();
    Ok(())
}

async fn start(config: ServerConfig, told: &Told) -> anyhow::Result<RunningServer> {
    let home = config.home.clone();
    // Before the ports, which would only say that somebody uses them.
    if std::os::unix::net::UnixStream::connect(config.socket()).is_ok() {
        let text = format!(
            "Lattice runs already with the state in {}: use it (`lattice status`), stop it where it was started, or choose another folder with --home",
            home.display()
        );
        return Err(CliError::Failed(text).into());
    }
    let server = Server::start(config, told.token.clone()).await?;
    note(&format!("lattice {}", env!("CARGO_PKG_VERSION")));
    note(&format!("  server   ready   http://{}   agents: {}", server.api_addr(), server.agent_addr()));
    note(&format!("  state    {}", home.display()));
    Ok(server)
}

/// The state is nobody else's business.
fn make_home(home: &Path) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).with_context(|| {
        format!("the folder {} for the state cannot be made; choose another with --home", home.display())
    })
}

async fn stop(server: RunningServer, agent: Option<Agent>, told: &Told) -> anyhow::Result<ExitCode> {
    note("stopping; workloads run on");
    if let Some(agent) = agent {
        agent.stop().await;
    }
    server.wait().await;
    if told.asked.load(Ordering::Relaxed) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::Failed("the server ended by itself; its log says why".into()).into())
}

/// Starts this machine's agent, with a token of its own where it has not joined yet.
async fn start_agent(home: &Path, server: &RunningServer) -> anyhow::Result<Agent> {
    make_home(&home.join("agent"))?;
    if let Some(agent) = Agent::running(home) {
        note(&format!("  agent    already running (process {})", agent.pid()));
        return Ok(agent);
    }
    let token = match agent::has_joined(home) {
        true => None,
        false => {
            let made = server.create_own_token(TOKEN_TTL).await;
            Some(made.map_err(|body| CliError::Failed(body.to_string()))?.token)
        }
    };
    Agent::start(home, server.agent_addr_from_here(), token.as_deref())
}

/// Prints a link that signs the person at this terminal in to the console.
async fn announce_console(client: &Client) {
    if !Server::has_console() {
        note("  console  not part of this program: it was built without (scripts/console.sh build)");
        return;
    }
    match client.create_console_link().await {
        Ok(link) => {
            note(&format!("  console  {}", link.url.0));
            note("           opens it signed in, once, within five minutes; then: lattice console");
        }
        Err(error) => note(&format!("  console  no link could be made: {error}; try: lattice console")),
    }
}

/// Says when this machine's node is ready, or what it waits for.
async fn announce_node(client: &Client, home: &Path) {
    let begun = tokio::time::Instant::now();
    let mut told = String::new();
    loop {
        let mut waits = "the agent has not joined yet".to_owned();
        if let Ok(nodes) = client.nodes().await
            && let Some(node) =
                agent::node(home).and_then(|id| nodes.items.into_iter().find(|node| node.id == id))
        {
            if is_ready(&node) {
                note(&format!("  node     ready   {} (approved: this machine)", node.name));
                note("  Ctrl-C stops both and leaves workloads running.");
                return;
            }
            waits = format!("{} waits: {}", node.name, waits_for(&node));
        }
        let patient = begun.elapsed() <= PATIENCE;
        if !patient && waits != told {
            note(&format!("  node     {waits}; see {}", agent::log(home).display()));
            told = waits;
        }
        tokio::time::sleep(Duration::from_millis(if patient { 25 } else { 1000 })).await;
    }
}

fn is_ready(node: &NodeView) -> bool {
    node.approval == Approval::Approved && node.presence.state == PresenceState::Connected
}

fn waits_for(node: &NodeView) -> &'static str {
    match node.approval {
        Approval::Pending => "it is not approved yet (`lattice node approve`)",
        Approval::Rejected => "it was rejected",
        Approval::Revoked => "it was revoked",
        Approval::Quarantined => "two machines use its key (`lattice node show`)",
        Approval::Approved => "its link is not up",
    }
}

/// Keeps the agent running until told to stop; gives the one that runs then. It is started again when
/// it ends or could not be started, ever later.
async fn supervise(home: &Path, server: &RunningServer, agent: Agent, told: &Told) -> Option<Agent> {
    let (mut agent, mut pause) = (Some(agent), LEAST_PAUSE);
    loop {
        let started = tokio::time::Instant::now();
        if let Some(mut running) = agent.take() {
            let end = tokio::select! {
                () = told.cancelled() => return Some(running),
                end = running.ended() => end,
            };
            if started.elapsed() > Duration::from_secs(60) {
                pause = LEAST_PAUSE;
            }
            note(&format!(
                "  agent    {}; started again in {} ms; see {}",
                describe(&end),
                pause.as_millis(),
                agent::log(home).display()
            ));
        }
        tokio::select! { () = told.cancelled() => return None, () = tokio::time::sleep(pause) => {} }
        pause = (pause * 2).min(Duration::from_secs(30));
        match start_agent(home, server).await {
            Ok(started) => agent = Some(started),
            Err(error) => note(&format!("  agent    {error:#}; started again in {} ms", pause.as_millis())),
        }
    }
}

fn describe(end: &AgentEnd) -> String {
    match end {
        AgentEnd::Exited(status) => format!("ended ({status})"),
        AgentEnd::Vanished => "is gone".into(),
    }
}
