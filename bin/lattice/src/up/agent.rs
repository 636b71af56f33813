//! This machine's agent as a process of its own: found, started, watched, stopped.
//!
//! It outlives a killed `lattice up`; the next one finds it by its lock and goes on with it.

use crate::error::CliError;
use anyhow::Context as _;
use lattice_model::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::SocketAddr,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::{Child, Command};

/// A log that has grown past this is put aside when the agent starts.
const LOG_BYTES: u64 = 8 << 20;
/// How long the agent may take to stop before it is killed; its workloads are none of its children.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How an agent ended.
pub(super) enum AgentEnd {
    /// Our child ended so.
    Exited(ExitStatus),
    /// It was somebody else's child and is no longer there.
    Vanished,
}

/// A running agent.
pub(super) struct Agent {
    home: PathBuf,
    pid: Pid,
    child: Option<Child>,
}

impl Agent {
    /// The agent that runs on `home` already, if one does.
    pub(super) fn running(home: &Path) -> Option<Self> {
        // The lock tells, not the number in it: that may be another program's by now.
        let mut file = File::open(home.join("agent/lock")).ok()?;
        let Err(std::fs::TryLockError::WouldBlock) = file.try_lock_shared() else { return None };
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?)?;
        Some(Self { home: home.to_owned(), pid, child: None })
    }

    /// Starts one that dials `server`; `token` goes to its standard input, never into its arguments.
    pub(super) fn start(home: &Path, server: SocketAddr, token: Option<&str>) -> anyhow::Result<Self> {
        let program = program()?;
        let log_file = log(home);
        let log = open_log(&log_file)?;
        let mut command = std::process::Command::new(&program);
        command
            .arg("run")
            .arg("--home")
            .arg(home)
            // Whoever types `lattice up` owns this machine: without root's rights it works too.
            .arg("--own-machine")
            .arg("--server")
            .arg(server.to_string())
            .arg("--log-file")
            .arg(log_file)
            .stdout(Stdio::null())
            .stderr(log);
        command.stdin(if token.is_some() { Stdio::piped() } else { Stdio::null() });
        if token.is_some() {
            command.arg("--join-token-stdin");
        }
        // A group of its own: Ctrl-C reaches it through us, in order, and not from the terminal.
        command.process_group(0);
        let mut child = Command::from(command)
            .spawn()
            .with_context(|| format!("the agent {} could not be started", program.display()))?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.try_into().ok()?))
            .context("the agent ended at once")?;
        if let (Some(token), Some(stdin)) = (token, child.stdin.take()) {
            let mut pipe = File::from(stdin.into_owned_fd()?);
            pipe.write_all(format!("{token}\n").as_bytes()).context("the agent did not take its token")?;
        }
        Ok(Self { home: home.to_owned(), pid, child: Some(child) })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until it ends.
    pub(super) async fn ended(&mut self) -> AgentEnd {
        match &mut self.child {
            Some(child) => match child.wait().await {
                Ok(status) => AgentEnd::Exited(status),
                Err(_) => AgentEnd::Vanished,
            },
            None => {
                // By its lock too: the number may be another program's by now.
                while self.holds() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                AgentEnd::Vanished
            }
        }
    }

    /// Whether it is the one that holds the home. Only its parent can be sure of a number otherwise.
    fn holds(&self) -> bool {
        self.child.is_some() || Self::running(&self.home).is_some_and(|present| present.pid == self.pid)
    }

    fn signal(&self, signal: Signal) {
        if self.holds() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Asks it to stop, and makes it.
    pub(super) async fn stop(mut self) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(STOP_WITHIN, self.ended()).await.is_err() {
            self.signal(Signal::KILL);
            self.ended().await;
        }
    }
}

/// Whether the agent of `home` has an identity.
pub(super) fn has_joined(home: &Path) -> bool {
    home.join("agent/identity.json").exists()
}

/// Where it writes what it does.
pub(super) fn log(home: &Path) -> PathBuf {
    home.join("agent/agent.log")
}

/// The node that it is, once it has joined.
pub(super) fn node(home: &Path) -> Option<NodeId> {
    let text = std::fs::read_to_string(home.join("agent/identity.json")).ok()?;
    let identity: serde_json::Value = serde_json::from_str(&text).ok()?;
    identity.get("node")?.as_str()?.parse().ok()
}

/// `lattice-agent` beside this program, else the one on the search path.
fn program() -> anyhow::Result<PathBuf> {
    let name = format!("lattice-agent{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe()?.with_file_name(&name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(beside).chain(std::env::split_paths(&path).map(|dir| dir.join(&name)));
    found.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        let message = "lattice-agent is neither beside this program nor on the search path; \
                       put it there, or say --no-node";
        CliError::Failed(message.into()).into()
    })
}

pub(super) fn open_log(path: &Path) -> anyhow::Result<File> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES) {
        let _ = std::fs::rename(path, path.with_extension("log.1"));
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("the log {} cannot be written", path.display()))
}
