//! `lattice up`, as a person types it.

use crate::{
    agent::node_of,
    engine::Engine,
    home::Home,
    net::free_port,
    process::{Output, Process, tail},
    programs::{program, tied},
    view::clean_environment,
    wait::{PATIENCE, until},
};
use rustix::process::Signal;
use std::{
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

/// A machine on which somebody types `lattice up`. Dropping it ends what runs and removes what the node made.
#[derive(Debug)]
pub struct Up {
    process: Option<Process>,
    home: Home,
    api: u16,
    agents: u16,
    engine: Engine,
}

impl Up {
    /// A fresh machine, nothing started.
    pub fn new() -> Self {
        Self {
            process: None,
            home: Home::new(),
            api: free_port(),
            agents: free_port(),
            engine: Engine::shared(),
        }
    }

    /// Types `lattice up` and waits until it says that the node is ready; gives what it wrote since.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn start(&mut self) -> String {
        let log = self.home.join("up.log");
        let before = std::fs::read_to_string(&log).unwrap_or_default().len();
        let mut command = tied(program("lattice"));
        command.arg("up").arg("--home").arg(self.home.path());
        command.args(["--listen", &format!("127.0.0.1:{}", self.api)]);
        command.args(["--agent-listen", &format!("127.0.0.1:{}", self.agents)]);
        command.stdin(Stdio::null());
        clean_environment(&mut command);
        let mut process = Process::start("lattice up", &mut command, &log);
        let words = until("`lattice up` says that the node is ready", PATIENCE, || {
            assert!(!process.has_ended(), "`lattice up` ended by itself:\n{}", process.log());
            let words = process.log()[before..].to_owned();
            let ready = words.lines().any(|line| line.contains("node") && line.contains("ready"));
            if ready { Ok(words) } else { Err((words, tail(&self.home.join("agent/agent.log"), 20))) }
        });
        self.process = Some(process);
        words
    }

    /// Ctrl-C.
    ///
    /// # Panics
    /// When it does not end.
    pub fn interrupt(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::INT);
        process.wait(PATIENCE)
    }

    /// Other ports from the next start on.
    pub fn move_ports(&mut self) {
        (self.api, self.agents) = (free_port(), free_port());
    }

    /// kill -9 of `lattice up`; the agent is left to itself.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Types a command line.
    pub fn lattice(&self, args: &[&str]) -> Output {
        self.lattice_with_input(args, b"")
    }

    /// Types a command line that reads something.
    pub fn lattice_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        Output::of(&self.command(args), input)
    }

    /// A command line.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("lattice"));
        command.args(args).env("LATTICE_HOME", self.home.path()).env("NO_COLOR", "1");
        clean_environment(&mut command);
        command
    }

    /// The port of console and API.
    pub fn api_port(&self) -> u16 {
        self.api
    }

    /// The folder with all state.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The machine's engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The process ids of agents with this home.
    pub fn agents(&self) -> Vec<i32> {
        let home = self.home.path().display().to_string();
        let entries = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let named = pids.filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("lattice-agent") && line.contains(&home)
        });
        let named: Vec<i32> = named.collect();
        // What an agent is about to run has its name until it runs: a child is no agent of its own.
        let parent = |pid: &i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<i32>().ok())
        };
        let agent = |pid: &&i32| parent(pid).is_some_and(|parent| !named.contains(&parent));
        named.iter().filter(agent).copied().collect()
    }
}

impl Default for Up {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for args in [&["ps", "-a"][..], &["events", "-n", "40"]] {
                eprintln!("{}", self.lattice(args));
            }
            for log in ["up.log", "agent/agent.log"] {
                eprintln!("---- the end of {log}\n{}\n----", tail(&self.home.join(log), 60));
            }
        }
        self.process = None;
        // The agent is nobody's child once `up` was killed; it is known by the home in its arguments.
        for pid in self.agents() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        if let Some(node) = node_of(&self.home.join("agent")) {
            self.engine.clean(&node);
        }
    }
}
