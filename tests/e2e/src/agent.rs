//! A node: an agent with a home of its own, as a process of its own.

use crate::{
    engine::Engine,
    home::Home,
    process::{Output, Process, tail},
    programs::{program, tied},
    view::clean_environment,
    wait::PATIENCE,
};
use rustix::process::Signal;
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
};

/// A node. Dropping it kills the agent and removes what it made in the engine.
#[derive(Debug)]
pub struct Agent {
    name: String,
    process: Option<Process>,
    engine: Arc<Engine>,
    log: &'static str,
    environment: Vec<(&'static str, PathBuf)>,
    home: Home,
}

impl Agent {
    /// A machine that could become a node.
    ///
    /// # Panics
    /// When its home cannot be written.
    pub fn new(name: &str, engine: Arc<Engine>) -> Self {
        let home = Home::new();
        let environment = Vec::new();
        let agent = Self { name: name.to_owned(), process: None, engine, log: "info", environment, home };
        std::fs::create_dir_all(agent.folder()).expect("the agent's folder");
        let config = format!("docker_host = \"{}\"\n", agent.engine.socket());
        std::fs::write(agent.folder().join("agent.toml"), config).expect("the owner's word");
        agent
    }

    /// A copy of this machine, key and all, as a restored image would be.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copied(&self) -> Self {
        let home = Home::new();
        let status = Command::new("cp").arg("-a").arg(self.folder()).arg(home.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "the home cannot be copied");
        for left in ["lock", "agent.sock", "agent.pid"] {
            let _ = std::fs::remove_file(home.join("agent").join(left));
        }
        Self {
            name: format!("{}-copy", self.name),
            process: None,
            engine: Arc::clone(&self.engine),
            log: self.log,
            environment: self.environment.clone(),
            home,
        }
    }

    /// From its next start it logs this much.
    pub fn logs(&mut self, level: &'static str) {
        self.log = level;
    }

    /// From its next start this is its wall clock.
    pub fn goes_by(&mut self, clock: &crate::Clock) {
        self.environment = clock.environment().into();
    }

    /// The agent's folder.
    pub fn folder(&self) -> PathBuf {
        self.home.join("agent")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn command_of(&self, mut command: Command, args: &[&str]) -> Command {
        command
            .args(args)
            .arg("--home")
            .arg(self.home.path())
            .env("LATTICE_LOG", self.log)
            .env("NO_COLOR", "1");
        clean_environment(&mut command);
        command
    }

    /// Types a command line on this machine.
    pub fn lattice_agent(&self, args: &[&str], input: &[u8]) -> Output {
        Output::of(&self.command_of(Command::new(program("lattice-agent")), args), input)
    }

    /// Joins by a token, and waits for the decision.
    pub fn join(&self, token: &str) -> Output {
        let file = self.token_file(token);
        self.lattice_agent(&["join", "--name", &self.name, "--token-file", &file], b"")
    }

    /// Joins by a token, in the background: somebody has to decide.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn join_and_wait(&self, token: &str) -> Process {
        let file = self.token_file(token);
        let args = ["join", "--name", &self.name, "--token-file", &file];
        let mut command = self.command_of(tied(program("lattice-agent")), &args);
        Process::start("join", command.stdin(Stdio::null()), &self.home.join("join.log"))
    }

    fn token_file(&self, token: &str) -> String {
        let path = self.home.join("token");
        std::fs::write(&path, token).expect("the token's file");
        path.display().to_string()
    }

    /// Starts the agent.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the agent with more arguments.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn start_with(&mut self, more: &[&str]) {
        assert!(self.process.is_none(), "it runs already");
        // Whoever runs tests may have no right to change the firewall.
        let args = [&["run", "--own-machine"], more].concat();
        let mut command = self.command_of(tied(program("lattice-agent")), &args);
        command.envs(self.environment.iter().cloned());
        self.process = Some(Process::start("the agent", command.stdin(Stdio::null()), &self.log_file()));
    }

    /// Starts another command of this machine's agent, in the background.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn begin(&self, args: &[&str]) -> Process {
        let mut command = self.command_of(tied(program("lattice-agent")), args);
        Process::start(args[0], command.stdin(Stdio::null()), &self.home.join(&format!("{}.log", args[0])))
    }

    /// The folder in which the agent's is.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The running agent.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// kill -9.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Stops it politely.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::TERM);
        process.wait(PATIENCE)
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.take().expect("it runs").wait(PATIENCE)
    }

    /// Everything that it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("agent.log")
    }

    /// The node that it is.
    ///
    /// # Panics
    /// Before it has joined.
    pub fn node(&self) -> String {
        node_of(&self.folder()).expect("it has joined")
    }

    /// The engine that it uses.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What it made in the engine: containers, networks, volumes.
    pub fn made(&self) -> (Vec<String>, Vec<String>, Vec<String>) {
        let label = format!("lattice.node={}", self.node());
        (
            self.engine.labelled(&label),
            self.engine.named("network", &label),
            self.engine.named("volume", &label),
        )
    }
}

/// The node whose agent has this folder.
pub(crate) fn node_of(folder: &Path) -> Option<String> {
    let text = std::fs::read(folder.join("identity.json")).ok()?;
    let identity: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(identity.get("node")?.as_str()?.to_owned())
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let words = tail(&self.log_file(), 60);
            eprintln!("---- the last words of the agent of {}\n{words}\n----", self.name);
        }
        self.process = None;
        if let Some(node) = node_of(&self.folder()) {
            self.engine.clean(&node);
        }
    }
}
