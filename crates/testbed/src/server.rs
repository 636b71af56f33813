//! The control plane: `lattice server` on a machine of its own, and the command line for it on this one.

use crate::{
    error::{Result, TestbedError},
    machine::{Machine, Power},
    network::{Network, Port, SERVER},
    programs::program,
    run::{PATIENCE, Said, said, tail, until},
};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

const DAEMON: &str = "server";
const AGENTS_PORT: u16 = 7443;

/// The server.
#[derive(Debug)]
pub struct Server {
    machine: Machine,
    network: Arc<Network>,
    home: PathBuf,
}

impl Server {
    pub(crate) fn new(machine: Machine, network: Arc<Network>) -> Self {
        let home = machine.folder().join("home");
        Self { machine, network, home }
    }

    /// Writes its configuration: `more` are keys by section, the first `""`, that are added or take the place of ours.
    pub(crate) fn configure(&self, more: &[(String, String)]) -> Result<()> {
        let address = format!("{SERVER}:{AGENTS_PORT}");
        let mut keys: Vec<(String, String, String)> = [
            ("", "cluster_name", "\"testbed\""),
            ("api", "listen", "\"127.0.0.1:7400\""),
            ("agents", "listen", &format!("\"{address}\"")),
            ("agents", "advertise", &format!("[\"{address}\"]")),
            ("agents", "heartbeat_secs", "1"),
            ("agents", "presence_grace_secs", "5"),
        ]
        .into_iter()
        .map(|(section, key, value)| (section.to_owned(), key.to_owned(), value.to_owned()))
        .collect();
        for (key, value) in more {
            let (section, key) = key.rsplit_once('.').unwrap_or(("", key));
            keys.retain(|(s, k, _)| (s.as_str(), k.as_str()) != (section, key));
            keys.push((section.to_owned(), key.to_owned(), value.clone()));
        }
        // Stable: keys without a section come first, as TOML wants it.
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut text, mut section) = (String::new(), String::new());
        for (its, key, value) in keys {
            if its != section {
                text.push_str(&format!("[{its}]\n"));
                section = its;
            }
            text.push_str(&format!("{key} = {value}\n"));
        }
        fs::create_dir_all(&self.home).map_err(TestbedError::file("make", &self.home))?;
        let path = self.home.join("server.toml");
        fs::write(&path, text).map_err(TestbedError::file("write", &path))
    }

    /// Its machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What `LATTICE_HOME` has to be for the command line.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The API's socket, which everybody sees.
    pub fn socket(&self) -> PathBuf {
        self.home.join("server/lattice.sock")
    }

    /// What `LATTICE_SERVER` has to be for the command line.
    pub fn url(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Starts its machine and the server.
    ///
    /// # Errors
    /// When it is on, or does not start.
    pub fn boot(&self) -> Result<()> {
        self.machine.boot()?;
        self.network.plug(&self.machine, Port::SERVER)?;
        self.start()
    }

    /// Cuts its machine's power.
    ///
    /// # Errors
    /// When it is off already.
    pub fn cut_power(&self) -> Result<()> {
        self.machine.pid()?;
        self.network.unplug(Port::SERVER)?;
        self.machine.kill()
    }

    /// Starts the server, and waits until it serves.
    ///
    /// # Errors
    /// When it runs already, or does not start.
    pub fn start(&self) -> Result<()> {
        let log = self.machine.log_file(DAEMON);
        let words: Vec<OsString> = vec![
            "env".into(),
            "-i".into(),
            format!("PATH={}", crate::run::search_path()).into(),
            "LATTICE_LOG=info".into(),
            program("lattice")?.into(),
            "server".into(),
            "--config".into(),
            self.home.join("server.toml").into(),
            "--home".into(),
            self.home.clone().into(),
        ];
        self.machine.start(DAEMON, &words, true)?;
        until("the server is ready", PATIENCE, || {
            // It tells the service manager, and everybody else by the socket.
            if self.socket().exists() {
                let said = self.lattice(&["status", "-o", "json"])?;
                let status: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_default();
                if said.code == 0 && status["ready"] == true {
                    return Ok(Ok(()));
                }
            }
            if !self.machine.runs(DAEMON)? {
                return Err(TestbedError::Command {
                    what: "starting the server".into(),
                    command: "lattice server".into(),
                    output: tail(&log, 10),
                });
            }
            Ok(Err(tail(&log, 3)))
        })
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.machine.runs(DAEMON).unwrap_or(false)
    }

    /// Stops the server alone, politely.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop(&self) -> Result<()> {
        self.machine.end(DAEMON, "TERM")
    }

    /// kill -9 of the server alone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.machine.end(DAEMON, "KILL")
    }

    /// The command line for this server.
    ///
    /// # Errors
    /// When it is not built.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(program("lattice")?);
        for name in ["LATTICE_TOKEN", "LATTICE_TOKEN_FILE", "LATTICE_PROJECT"] {
            command.env_remove(name);
        }
        command.env("LATTICE_SERVER", self.url()).env("LATTICE_HOME", &self.home).env("NO_COLOR", "1");
        Ok(command)
    }

    /// Types a command line. A frozen server answers nothing, so it is not asked.
    ///
    /// # Errors
    /// When it is not built, or the server is frozen.
    pub fn lattice(&self, args: &[&str]) -> Result<Said> {
        if self.machine.power() == Power::Frozen {
            return Err(self.machine.state("is frozen", "thaw it first"));
        }
        said(self.command()?.args(args))
    }
}
