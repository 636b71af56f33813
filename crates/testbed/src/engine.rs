//! A Docker engine on a machine: all its own, data, state, socket and bridge.

use crate::{
    error::{Result, TestbedError},
    machine::{Machine, Power, Tie},
    run::{PATIENCE, Said, run, said, tail, until},
    sweep,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

const DAEMON: &str = "dockerd";

/// An engine.
#[derive(Debug)]
pub struct Engine {
    machine: Arc<Machine>,
    /// Tells the addresses of its containers: no two engines of a testbed give the same.
    number: u8,
    /// Where it is alone on a machine that nobody else knows.
    alone: bool,
}

impl Engine {
    pub(crate) fn on(machine: Arc<Machine>, number: u8) -> Self {
        Self { machine, number, alone: false }
    }

    /// An engine on a machine of its own that is on no network, without an image; it ends with this process. Its
    /// published ports are in the machine, where [`Machine::command`] reaches them.
    ///
    /// # Errors
    /// Where namespaces are not to be had, or dockerd does not start.
    pub fn alone() -> Result<Self> {
        sweep::sweep();
        let name = sweep::fresh_name("engine");
        let folder = sweep::claim(&name, Tie::Process)?;
        let machine =
            Machine::new("engine", folder.join("engine"), sweep::group(&name, "engine"), None, Tie::Process);
        let engine = Self { machine: Arc::new(machine), number: 1, alone: true };
        engine.machine.boot()?;
        engine.start()?;
        engine.ready()?;
        Ok(engine)
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The socket's path, which everybody sees.
    pub fn socket(&self) -> PathBuf {
        self.machine.run_folder().join("docker.sock")
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts it; [`Engine::ready`] waits for it.
    ///
    /// # Errors
    /// When it runs already, or the machine is off.
    pub fn start(&self) -> Result<()> {
        let run_folder = self.machine.run_folder();
        // What it left where it was killed would be taken for a running one.
        let _ = self.machine.script("tidying", "rm -f \"$1/docker.pid\"", &[run_folder.as_os_str()])?;
        let words: Vec<OsString> = vec![
            "dockerd".into(),
            "--data-root".into(),
            self.machine.disk().join("docker").into(),
            "--exec-root".into(),
            run_folder.join("docker").into(),
            "--pidfile".into(),
            run_folder.join("docker.pid").into(),
            "--host".into(),
            self.host().into(),
            "--group".into(),
            rustix::process::getgid().as_raw().to_string().into(),
            format!("--bip=10.78.{}.1/24", self.number).into(),
            format!("--default-address-pool=base=10.{}.0.0/16,size=24", 100 + self.number).into(),
            // Its containers' groups lie below the machine's, so that they are frozen, counted and removed with it.
            "--exec-opt=native.cgroupdriver=cgroupfs".into(),
            format!("--cgroup-parent={}", self.machine.cgroup().parent()).into(),
        ];
        self.machine.start(DAEMON, &words, false)
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time.
    pub fn ready(&self) -> Result<()> {
        let log = self.machine.log_file(DAEMON);
        until(&format!("the engine of {} answers", self.machine.name()), PATIENCE, || {
            // The socket is there at once, and answers only later: asking each time costs a process.
            if self.socket().exists()
                && self.docker(&["version", "--format", "{{.Server.Version}}"])?.code == 0
            {
                return Ok(Ok(()));
            }
            if !self.machine.runs(DAEMON)? {
                return Err(TestbedError::Command {
                    what: format!("starting the engine of {}", self.machine.name()),
                    command: DAEMON.into(),
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

    /// kill -9 of dockerd alone; what it runs lives on until it comes back.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        self.machine.end(DAEMON, "KILL")
    }

    /// dockerd stands still: its socket takes calls, and nobody answers. What it runs goes on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hang(&self) -> Result<()> {
        self.machine.signal(DAEMON, "STOP")
    }

    /// It goes on where it stood.
    ///
    /// # Errors
    /// When it does not run.
    pub fn unhang(&self) -> Result<()> {
        self.machine.signal(DAEMON, "CONT")
    }

    /// Stops dockerd politely, and with it what it runs.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop(&self) -> Result<()> {
        self.machine.end(DAEMON, "TERM")
    }

    /// A `docker` command for this engine.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(self.host()).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command
    }

    /// Types a `docker` command. A frozen engine answers nothing, so it is not asked.
    ///
    /// # Errors
    /// When there is no docker command, or the machine is frozen.
    pub fn docker(&self, args: &[&str]) -> Result<Said> {
        if self.machine.power() == Power::Frozen {
            return Err(self.machine.state("is frozen", "thaw it first"));
        }
        said(self.command().args(args))
    }

    /// Takes an image from an archive of `docker save`.
    ///
    /// # Errors
    /// When it does not.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let what = format!("loading an image on {}", self.machine.name());
        run(&what, self.command().args(["load", "--quiet", "--input"]).arg(archive)).map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.alone {
            return;
        }
        // All at once: there is nothing in there that somebody will want again.
        let _ = self.machine.kill();
        if let Some(folder) = self.machine.folder().parent() {
            sweep::remove(folder);
        }
    }
}
