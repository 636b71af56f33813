//! A server with a home and ports of its own, the command line beside it, and typed looks at it.

use crate::{
    agent::Agent,
    engine::Engine,
    home::Home,
    link::Link,
    net::free_port,
    process::{Process, tail},
    programs::{program, tied},
    view::{View, clean_environment},
    wait::{PATIENCE, until},
};
use lattice_api::{AllocationView, Status};
use lattice_postgres_kit::Postgres;
use lattice_store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore, Store};
use rustix::process::Signal;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

/// What differs from the usual cluster of the tests.
#[derive(Debug, Default)]
pub struct Options {
    /// The server's home; a fresh one where absent. One that is given holds the store, too.
    pub home: Option<Home>,
    /// Whether there is to be a second server on the same database ([`Cluster::start_second`]).
    pub second: bool,
    /// The engine that agents use; the machine's where absent.
    pub engine: Option<Engine>,
    /// More lines of the server's configuration.
    pub more_config: String,
    /// What servers and agents log; `info` where absent.
    pub log: Option<&'static str>,
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
    view: View,
    home: Home,
    second: Option<Second>,
    log: &'static str,
    // Goes last: the servers use it.
    postgres: Option<Postgres>,
}

/// Another server of the cluster.
#[derive(Debug)]
struct Second {
    server: Option<Process>,
    home: Home,
    api: SocketAddr,
    agents: SocketAddr,
}

/// Whether the control planes of the tests have their store in a PostgreSQL of their own:
/// `LATTICE_TEST_STORE=postgres`. Else it is `sqlite`.
pub(crate) fn wants_postgres() -> bool {
    match std::env::var("LATTICE_TEST_STORE").as_deref() {
        Ok("postgres") => true,
        Ok("sqlite" | "") | Err(_) => false,
        Ok(other) => panic!("LATTICE_TEST_STORE is sqlite or postgres, not {other:?}"),
    }
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
        let in_database = options.second || options.home.is_none() && wants_postgres();
        let postgres = in_database.then(Postgres::start);
        let store =
            postgres.as_ref().map(|it| format!("[store]\nurl = \"{}\"\n", it.url())).unwrap_or_default();
        let home = options.home.unwrap_or_default();
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (api, agents) = (loopback(free_port()), loopback(free_port()));
        let link = Link::to(agents);
        let second = options.second.then(|| Second {
            server: None,
            home: Home::new(),
            api: loopback(free_port()),
            agents: loopback(free_port()),
        });
        // Agents know the server by the link alone, in tokens and for ever after.
        let mut known = format!("\"{}\"", link.address());
        known.extend(second.iter().map(|second| format!(", \"{}\"", second.agents)));
        let config = |api: SocketAddr, agents: SocketAddr| {
            format!(
                "cluster_name = \"e2e\"\n{store}[api]\nlisten = \"{api}\"\n[agents]\nlisten = \"{agents}\"\n\
                 advertise = [{known}]\nheartbeat_secs = 1\npresence_grace_secs = 5\n{}",
                options.more_config
            )
        };
        std::fs::write(home.join("server.toml"), config(api, agents)).expect("the configuration");
        if let Some(second) = &second {
            std::fs::write(second.home.join("server.toml"), config(second.api, second.agents))
                .expect("the configuration");
        }
        let view = View::new(home.path());
        let log = options.log.unwrap_or("info");
        let mut cluster = Self { server: None, link, engine, api, view, home, second, log, postgres };
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
        command.arg("--home").arg(self.home.path()).env("LATTICE_LOG", self.log).stdin(Stdio::null());
        clean_environment(&mut command);
        let mut server = Process::start("the server", &mut command, &self.home.join("server.log"));
        until("the server is ready", PATIENCE, || {
            assert!(!server.has_ended(), "the server ended by itself:\n{}", server.log());
            match self.ask(self.client().status()) {
                Ok(Status { ready: true, .. }) => Ok(()),
                other => Err((other, tail(&self.home.join("server.log"), 20))),
            }
        });
        self.server = Some(server);
    }

    /// Starts the second server, as a person would: with the master key of the first.
    ///
    /// # Panics
    /// When there is none, or it does not start.
    pub fn start_second(&mut self) {
        let key = |home: &Home| home.join("server/master.key");
        {
            let second = self.second.as_ref().expect("a second server");
            std::fs::create_dir_all(second.home.join("server")).expect("its folder");
            std::fs::copy(key(&self.home), key(&second.home)).expect("the master key");
        }
        self.turn();
        let first = self.server.take();
        self.start_server();
        let started = self.server.take();
        self.turn();
        self.server = first;
        self.second.as_mut().expect("a second server").server = started;
    }

    /// From now on the second server is the one that is meant; the first one was killed.
    ///
    /// # Panics
    /// When the first one still runs, or there is no second.
    pub fn turn_to_second(&mut self) {
        assert!(self.server.is_none(), "the first server runs");
        self.turn();
        self.server = self.second.as_mut().expect("a second server").server.take();
    }

    /// Lets home and address change places with the other server's.
    fn turn(&mut self) {
        let second = self.second.as_mut().expect("a second server");
        std::mem::swap(&mut self.home, &mut second.home);
        std::mem::swap(&mut self.api, &mut second.api);
        self.view = View::new(self.home.path());
    }

    /// The store, while the server is stopped.
    ///
    /// # Panics
    /// When it does not open.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match &self.postgres {
            Some(postgres) => {
                let options = PostgresOptions::new(postgres.url());
                Arc::new(self.block_on(PostgresStore::open(&options)).expect("the server's store"))
            }
            None => {
                let path = self.home.join("server/store.db");
                Arc::new(SqliteStore::open(path, SqliteOptions::default()).expect("the server's store"))
            }
        }
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

    /// The server's machine is destroyed, and another one, which is empty, has its name and address. Gives
    /// where the configuration was.
    ///
    /// # Panics
    /// When the server runs.
    pub fn move_to(&mut self, home: Home) -> PathBuf {
        assert!(self.server.is_none(), "it runs");
        self.view = View::new(home.path());
        self.home = home;
        self.home.join("server.toml")
    }

    /// Everything that the server wrote.
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.home.join("server.log")).unwrap_or_default()
    }

    /// Everything that servers wrote to a disk: their homes, with their logs, and their database.
    pub fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.home.path().to_owned()];
        folders.extend(self.second.iter().map(|second| second.home.path().to_owned()));
        folders.extend(self.postgres.iter().map(|postgres| postgres.folder().to_owned()));
        folders
    }

    /// Where console and API listen.
    pub fn api(&self) -> SocketAddr {
        self.api
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
        agent.logs(self.log);
        let _ = agent.join(&self.token(1, true)).ok();
        agent.start();
        self.connected(agent.name());
        agent
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

impl std::ops::Deref for Cluster {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}
