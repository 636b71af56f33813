//! The server on this machine: `lattice up` and `lattice server`.
//!
//! `up` starts the control plane in this process and this machine's agent as a process of its own
//! ([`agent`]), joined like any other node over the real link with a token that is good once, for
//! ten minutes, from this machine. Ctrl-C stops both; workloads run on.

mod agent;

use crate::{error::CliError, terminal::note};
use agent::{Agent, AgentEnd};
use clap::Args;
use lattice_api::{JoinTokenCreate, NodeView};
use lattice_client::{Client, Endpoint, default_home};
use lattice_model::resource::{Approval, PresenceState};
use lattice_server::{RunningServer, Server, ServerConfig};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long this machine's node may take to be ready before `up` says what it waits for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the token for this machine's agent is good.
const TOKEN_TTL_MS: u64 = 600_000;

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
pub(crate) struct ServerArgs {
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

fn home_or_default(home: Option<PathBuf>) -> Result<PathBuf, CliError> {
    home.or_else(default_home).ok_or_else(|| {
        CliError::Usage(
            "neither HOME nor LATTICE_HOME is set, so there is no folder for the state; set LATTICE_HOME"
                .into(),
        )
    })
}

/// Cancelled by Ctrl-C or SIGTERM.
fn until_told() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        told.cancel();
    });
    Ok(token)
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
    if no_node {
        told.cancelled().await;
        return stop(server, None).await;
    }
    let agent = match start_agent(&home, &client, server.agent_addr()).await {
        Ok(agent) => agent,
        Err(error) => {
            told.cancel();
            server.wait().await;
            return Err(error);
        }
    };
    tokio::select! {
        () = told.cancelled() => {}
        () = announce_node(&client, &agent) => {
            supervise(&home, &client, agent, server, &told).await?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    stop(server, Some(agent)).await
}

/// Runs the control plane alone until Ctrl-C.
///
/// # Errors
/// When it cannot be started.
pub(crate) async fn server(args: ServerArgs) -> anyhow::Result<ExitCode> {
    let ServerArgs { config, home, accept_older_store } = args;
    let home = home_or_default(home)?.join("server");
    let mut config = match config {
        Some(file) => ServerConfig::read(&file, &home)?,
        None => ServerConfig::new(home),
    };
    config.accept_older_store = accept_older_store;
    tracing_subscriber::fmt().with_env_filter(crate::log_filter("info")).with_writer(std::io::stderr).init();
    let told = until_told()?;
    let server = start(config, &told).await?;
    told.cancelled().await;
    stop(server, None).await
}

/// The terminal is for what people want to know; what programs did is in a file.
fn log_to(path: &Path) -> anyhow::Result<()> {
    let log = std::sync::Mutex::new(agent::open_log(path)?);
    tracing_subscriber::fmt()
        .with_env_filter(crate::log_filter("info"))
        .with_ansi(false)
        .with_writer(log)
        .init();
    Ok(())
}

async fn start(config: ServerConfig, told: &CancellationToken) -> anyhow::Result<RunningServer> {
    let home = config.home.clone();
    let server = Server::start(config, told.clone()).await?;
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

async fn stop(server: RunningServer, agent: Option<Agent>) -> anyhow::Result<ExitCode> {
    note("stopping; workloads run on");
    if let Some(agent) = agent {
        agent.stop().await;
    }
    server.wait().await;
    Ok(ExitCode::SUCCESS)
}

/// Starts this machine's agent, with a token of its own where it has not joined yet.
async fn start_agent(home: &Path, client: &Client, listens: SocketAddr) -> anyhow::Result<Agent> {
    make_home(&home.join("agent"))?;
    if let Some(agent) = Agent::running(home) {
        note(&format!("  agent    already running (process {})", agent.pid()));
        return Ok(agent);
    }
    let token = match Agent::has_joined(home) {
        true => None,
        false => {
            let request = JoinTokenCreate {
                ttl_ms: Some(TOKEN_TTL_MS),
                uses: Some(1),
                auto_approve: true,
                description: "this machine, by `lattice up`".into(),
                ..JoinTokenCreate::default()
            };
            Some(client.create_join_token(&request).await?.token)
        }
    };
    Agent::start(home, from_here(listens), token.as_deref())
}

/// Where this machine reaches what listens there: by loopback, whatever network it is in today.
fn from_here(listens: SocketAddr) -> SocketAddr {
    match listens.ip().is_unspecified() {
        true => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listens.port()),
        false => listens,
    }
}

/// Says when this machine's node is ready, or what it waits for.
async fn announce_node(client: &Client, agent: &Agent) {
    let begun = tokio::time::Instant::now();
    let mut told = false;
    loop {
        if let Ok(nodes) = client.nodes().await
            && let Some(node) = agent.node().and_then(|id| nodes.items.into_iter().find(|node| node.id == id))
        {
            if is_ready(&node) {
                note(&format!("  node     ready   {} (approved: this machine)", node.name));
                note("  Ctrl-C stops both and leaves workloads running.");
                return;
            }
            if begun.elapsed() > PATIENCE && !told {
                told = true;
                note(&format!(
                    "  node     {} waits: {}; see {}",
                    node.name,
                    waits_for(&node),
                    agent.log().display()
                ));
            }
        } else if begun.elapsed() > PATIENCE && !told {
            told = true;
            note(&format!("  node     the agent has not joined yet; see {}", agent.log().display()));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
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

/// Keeps the agent running until told to stop. It is started again when it ends, ever later.
async fn supervise(
    home: &Path,
    client: &Client,
    mut agent: Agent,
    server: RunningServer,
    told: &CancellationToken,
) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(200);
    loop {
        let started = tokio::time::Instant::now();
        let end = tokio::select! {
            () = told.cancelled() => {
                stop(server, Some(agent)).await?;
                return Ok(());
            }
            end = agent.ended() => end,
        };
        if started.elapsed() > Duration::from_secs(60) {
            pause = Duration::from_millis(200);
        }
        note(&format!(
            "  agent    {}; started again in {} ms; see {}",
            describe(&end),
            pause.as_millis(),
            agent.log().display()
        ));
        tokio::select! { () = told.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
        pause = (pause * 2).min(Duration::from_secs(30));
        if !told.is_cancelled() {
            agent = start_agent(home, client, server.agent_addr()).await?;
        }
    }
}

fn describe(end: &AgentEnd) -> String {
    match end {
        AgentEnd::Exited(status) => format!("ended ({status})"),
        AgentEnd::Vanished => "is gone".into(),
    }
}
