//! A cluster as the command line and the typed client see it, wherever its server and its nodes are.

use crate::{
    process::Output,
    programs::program,
    wait::{PATIENCE, until},
};
use lattice_api::{
    AllocationQuery, AllocationView, EventQuery, EventView, JoinTokenCreate, NodeView, StackQuery,
};
use lattice_client::{API_SOCKET, Client, ClientError, Endpoint};
use lattice_model::resource::PresenceState;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use tokio::runtime::Runtime;

/// Who looks at a cluster, on the server's machine.
#[derive(Debug)]
pub struct View {
    client: Client,
    runtime: Runtime,
    home: PathBuf,
}

impl View {
    /// A look at the server with this home.
    pub(crate) fn new(home: &Path) -> Self {
        let client = Client::new(Endpoint::Unix(home.join(API_SOCKET)), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { client, runtime, home: home.to_owned() }
    }

    /// The folder with all state.
    pub fn home(&self) -> &Path {
        &self.home
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
        command.args(args).env("LATTICE_HOME", &self.home).env("NO_COLOR", "1");
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
