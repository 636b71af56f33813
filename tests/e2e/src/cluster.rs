//! A server with a home and ports of its own, the command line beside it, and typed looks at it.

use crate::{
    agent::Agent,
    engine::Engine,
    home::Home,
    link::Link,
    net::free_port,
    process::{Output, Process, tail},
    programs::{program, tied},
    wait::{PATIENCE, until},
};
use lattice_api::{
    AllocationQuery, AllocationView, EventQuery, EventView, JoinTokenCreate, NodeView, StackQuery, Status,
};
use lattice_client::{API_SOCKET, Client, ClientError, Endpoint};
use lattice_model::resource::PresenceState;
use rustix::process::Signal;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
};
use tokio::runtime::Runtime;

/// What differs from the usual cluster of the tests.
#[derive(Debug, Default)]
pub struct Options {
    /// The server's home; a fresh one where absent.
    pub home: Option<Home>,
    /// The engine that agents use; the machine's where absent.
    pub engine: Option<Engine>,
}

/// A control plane, and who looks at it.
#[derive(Debug)]
pub struct Cluster {
    server: Option<Process>,
    /// The way by which agents reach the server.
    pub link: Link,
    /// The engine that agents use.
    pub engine: Arc<Engine>,
    api: SocketAddr,
    client: Client,
    runtime: Runtime,
    home: Home,
}

impl Cluster {
    /// A running server.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A running server on a private engine.
    pub fn on_private_engine() -> Self {
        Self::with(Options { engine: Some(Engine::private()), ..Options::default() })
    }

    /// A running server with something different.
    pub fn with(options: Options) -> Self {
        let engine = Arc::new(options.engine.unwrap_or_else(Engine::shared));
        let home = options.home.unwrap_or_default();
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (api, agents) = (loopback(free_port()), loopback(free_port()));
        let link = Link::to(agents);
        // Agents know the server by the link alone, in tokens and for ever after.
        let config = format!(
            "cluster_name = \"e2e\"\n[api]\nlisten = \"{api}\"\n[agents]\nlisten = \"{agents}\"\n\
             advertise = [\"{}\"]\nheartbeat_secs = 1\npresence_grace_secs = 5\n",
            link.address()
        );
        std::fs::write(home.join("server.toml"), config).expect("the configuration");
        let client = Client::new(Endpoint::Unix(home.join(API_SOCKET)), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut cluster = Self { server: None, link, engine, api, client, runtime, home };
        cluster.start_server();
        cluster
    }

    /// Starts the server, and waits until it serves.
    ///
    /// # Panics
    /// When it ends, or does not serve in time; shows its log.
    pub fn start_server(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let mut command = tied(program("lattice"));
        command.arg("server").arg("--config").arg(self.home.join("server.toml"));
        command.arg("--home").arg(self.home.path()).env("LATTICE_LOG", "info").stdin(Stdio::null());
        clean_environment(&mut command);
        let mut server = Process::start("the server", &mut command, &self.home.join("server.log"));
        until("the server is ready", PATIENCE, || {
            assert!(!server.has_ended(), "the server ended by itself:\n{}", server.log());
            match self.ask(self.client.status()) {
                Ok(Status { ready: true, .. }) => Ok(()),
                other => Err((other, tail(&self.home.join("server.log"), 20))),
            }
        });
        self.server = Some(server);
    }

    /// kill -9 of the server.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_server(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// Stops the server politely.
    ///
    /// # Panics
    /// When it does not run or does not end.
    pub fn stop_server(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("it runs");
        server.signal(Signal::TERM);
        server.wait(PATIENCE)
    }

    /// Everything that the server wrote.
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.home.join("server.log")).unwrap_or_default()
    }

    /// The folder with all state.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where console and API listen.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// The typed client, on the server's socket.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits for an answer of the typed client.
    ///
    /// # Errors
    /// What the client says.
    pub fn ask<T>(&self, question: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        self.runtime.block_on(question)
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The command line as a person on the server's machine has it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("lattice"));
        command.args(args).env("LATTICE_HOME", self.home.path()).env("NO_COLOR", "1");
        clean_environment(&mut command);
        command
    }

    /// Types a command line.
    pub fn lattice(&self, args: &[&str]) -> Output {
        Output::of(&self.command(args), b"")
    }

    /// Types a command line that reads something.
    pub fn lattice_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        Output::of(&self.command(args), input)
    }

    /// Writes a Compose file into a folder of its own.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn compose(&self, folder: &str, text: &str) -> PathBuf {
        let folder = self.home.join("compose").join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("compose.yaml");
        std::fs::write(&path, text).expect("a Compose file");
        path
    }

    /// Deploys a Compose file as a stack of this name, and follows it to its end.
    pub fn deploy(&self, stack: &str, text: &str, more: &[&str]) -> Output {
        let path = self.compose(stack, text);
        let mut args = vec!["deploy", "--name", stack, "-f", path.to_str().expect("a path")];
        args.extend(more);
        self.lattice(&args)
    }

    /// A join token that admits so many.
    ///
    /// # Panics
    /// When the server does not make one.
    pub fn token(&self, uses: u32, auto_approve: bool) -> String {
        let request = JoinTokenCreate { uses: Some(uses), auto_approve, ..JoinTokenCreate::default() };
        self.ask(self.client.create_join_token(&request)).expect("a join token").token
    }

    /// A node, joined by a token that needs no decision, connected.
    pub fn join(&self, name: &str) -> Agent {
        self.join_machine(Agent::new(name, Arc::clone(&self.engine)))
    }

    /// The same, a machine with an engine of its own: two nodes of one cluster never share one.
    pub fn join_on(&self, name: &str, engine: Engine) -> Agent {
        self.join_machine(Agent::new(name, Arc::new(engine)))
    }

    fn join_machine(&self, mut agent: Agent) -> Agent {
        let _ = agent.join(&self.token(1, true)).ok();
        agent.start();
        self.connected(agent.name());
        agent
    }

    /// Waits until a node is connected.
    pub fn connected(&self, name: &str) -> NodeView {
        self.node_is(name, "connected", |node| node.presence.state == PresenceState::Connected)
    }

    /// Waits until a node is as it should be.
    #[track_caller]
    pub fn node_is(&self, name: &str, what: &str, is: impl Fn(&NodeView) -> bool) -> NodeView {
        until(&format!("node {name} is {what}"), PATIENCE, || match self.ask(self.client.node(name)) {
            Ok(node) if is(&node) => Ok(node),
            other => Err(other),
        })
    }

    /// The allocations of a stack, also those that have ended or are on their way out.
    ///
    /// # Panics
    /// When the server does not answer.
    #[track_caller]
    pub fn allocations(&self, stack: &str) -> Vec<AllocationView> {
        let query =
            AllocationQuery { stack: Some(stack.to_owned()), all: true, ..AllocationQuery::default() };
        self.ask(self.client.allocations(&query)).expect("the allocations").items
    }

    /// Waits until a stack has exactly so many allocations and all of them serve.
    #[track_caller]
    pub fn serving(&self, stack: &str, count: usize) -> Vec<AllocationView> {
        self.all_are(stack, count, "serving", AllocationView::is_serving)
    }

    /// Waits until a stack has exactly so many allocations and all of them are as they should be.
    #[track_caller]
    pub fn all_are(
        &self,
        stack: &str,
        count: usize,
        what: &str,
        is: impl Fn(&AllocationView) -> bool,
    ) -> Vec<AllocationView> {
        until(&format!("{count} allocations of {stack} are {what}"), PATIENCE, || {
            let query =
                AllocationQuery { stack: Some(stack.to_owned()), all: true, ..AllocationQuery::default() };
            let found = self.ask(self.client.allocations(&query)).map(|list| list.items);
            match found {
                Ok(found) if found.len() == count && found.iter().all(&is) => Ok(found),
                other => Err(other),
            }
        })
    }

    /// The one container of an allocation.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[track_caller]
    pub fn container(&self, allocation: &AllocationView) -> String {
        let found = self.engine.labelled(&format!("lattice.allocation={}", allocation.id));
        assert_eq!(found.len(), 1, "the containers of {}: {found:?}", allocation.id);
        found.into_iter().next().expect("one")
    }

    /// Each container of a stack, by the allocation's name, with the time of its start.
    #[track_caller]
    pub fn starts(&self, stack: &str) -> Vec<(String, String, String)> {
        let mut starts: Vec<_> = self
            .allocations(stack)
            .iter()
            .map(|a| {
                let container = self.container(a);
                let at = self.engine.started_at(&container);
                (format!("{}#{}", a.workload, a.slot), container, at)
            })
            .collect();
        starts.sort();
        starts
    }

    /// Where a port of a service is published.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn published(&self, stack: &str, service: &str, port: u16) -> SocketAddr {
        let all: Vec<AllocationView> = self.lattice(&["ps", "-o", "json", stack]).ok().json();
        let ports = all.iter().filter(|a| a.workload.as_str() == service).flat_map(|a| &a.status.ports);
        let found = ports.into_iter().find(|p| p.target.port == port);
        let found = found.unwrap_or_else(|| panic!("{service} publishes no port {port}: {all:#?}"));
        SocketAddr::new(found.host_ip, found.host_port)
    }

    /// The events of a stack, oldest first.
    ///
    /// # Panics
    /// When the server does not answer.
    #[track_caller]
    pub fn events(&self, stack: &str) -> Vec<EventView> {
        let query = EventQuery { stack: Some(stack.to_owned()), limit: Some(1000), ..EventQuery::default() };
        self.ask(self.client.events(&query)).expect("the events").items
    }

    /// Nothing of anybody's is there: no stack, no allocation, no volume.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn is_empty(&self) {
        let ps: Vec<AllocationView> = self.lattice(&["ps", "-a", "-o", "json"]).ok().json();
        let stacks = self.ask(self.client.stacks(&StackQuery::default())).expect("the stacks").items;
        let volumes: Vec<serde_json::Value> = self.lattice(&["volume", "ls", "-o", "json"]).ok().json();
        assert!(ps.is_empty() && stacks.is_empty() && volumes.is_empty(), "{ps:#?} {stacks:#?} {volumes:#?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if self.server.is_some() {
                for args in [&["node", "ls"][..], &["ps", "-a"], &["events", "-n", "40"]] {
                    eprintln!("{}", self.lattice(args));
                }
            }
            eprintln!("---- the server's last words\n{}\n----", tail(&self.home.join("server.log"), 60));
        }
    }
}

/// Nothing of the person who runs the tests decides what the programs do.
pub(crate) fn clean_environment(command: &mut Command) {
    for name in [
        "LATTICE_SERVER",
        "LATTICE_TOKEN",
        "LATTICE_TOKEN_FILE",
        "LATTICE_PROJECT",
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "HTTPS_PROXY",
        "https_proxy",
    ] {
        command.env_remove(name);
    }
    if !command.get_envs().any(|(name, _)| name == "LATTICE_HOME") {
        command.env_remove("LATTICE_HOME");
    }
}
