//! A machine: namespaces for network, mounts, process ids and the host's name, a folder, maybe a disk of its own, and a
//! first process on which all others depend.
//!
//! Enter at [`Machine::new`] and [`Machine::boot`]. A machine is off, on or frozen; [`Machine::power`] looks. Its
//! folder has `run/` (emptied at each boot, as /run is), `log/`, and `disk/`, which only the machine itself sees where
//! the disk is a file behind a loop device.

use crate::{
    cgroup::Cgroup,
    error::{Result, TestbedError},
    run::{PATIENCE, rooted, run, script, search_path, tail, until},
};
use serde::Serialize;
use std::{
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

const INIT: &str = include_str!("init.sh");
const NAMESPACES: [(&str, &str); 4] = [("net", "net"), ("mount", "mnt"), ("pid", "pid"), ("uts", "uts")];

/// What a machine's life hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// It ends with this process, whatever ends that.
    Process,
    /// It runs on until somebody ends it.
    Free,
}

/// Whether a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// Nothing of it runs.
    Off,
    /// It runs.
    On,
    /// Everything stands still, as when the lid is closed.
    Frozen,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    name: String,
    folder: PathBuf,
    tie: Tie,
    cgroup: Cgroup,
    /// The image file's size; a plain folder where absent.
    disk_mib: Option<u32>,
    /// The first process where this process started it; its standard input is what a tied machine lives by.
    holder: Mutex<Option<Child>>,
}

/// A process as /proc names it: number and beginning, since numbers are given out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    pub(crate) begun: u64,
}

impl Identity {
    /// Reads a line of /proc/PID/stat.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let pid = line.split(' ').next()?.parse().ok()?;
        // The second field is a name in parentheses that may have anything in it; the 22nd is the beginning.
        let begun = line.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
        Some(Self { pid, begun })
    }

    /// This process.
    pub(crate) fn own() -> Self {
        let line = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self::read(&line).unwrap_or(Self { pid: std::process::id(), begun: 0 })
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        let Ok(line) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else { return false };
        let state = line.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        Self::read(&line).as_ref() == Some(self) && !matches!(state, Some('Z' | 'X'))
    }
}

impl Machine {
    /// A machine with this folder, made or not; `group` is its control group's path, `disk_mib` the size of its disk,
    /// a plain folder where absent.
    pub(crate) fn new(name: &str, folder: PathBuf, group: String, disk_mib: Option<u32>, tie: Tie) -> Self {
        let holder = Mutex::new(None);
        Self { name: name.to_owned(), folder, tie, cgroup: Cgroup::new(group), disk_mib, holder }
    }

    /// Its name, also its host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder, as seen from everywhere.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its disk's folder, which only it sees where the disk is a file.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// Whether its disk has an end of its own.
    pub(crate) fn has_own_disk(&self) -> bool {
        self.disk_mib.is_some()
    }

    pub(crate) fn run_folder(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The log of one of its daemons.
    pub fn log_file(&self, daemon: &str) -> PathBuf {
        self.folder.join("log").join(format!("{daemon}.log"))
    }

    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    fn image(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    pub(crate) fn init(&self) -> Option<Identity> {
        init_of(&self.folder).filter(Identity::is_alive)
    }

    /// Whether it runs.
    pub fn power(&self) -> Power {
        match self.init() {
            None => Power::Off,
            Some(_) if self.cgroup.is_frozen() => Power::Frozen,
            Some(_) => Power::On,
        }
    }

    /// Starts it: namespaces, disk, first process. Its network is somebody else's.
    ///
    /// # Errors
    /// When it runs already, or where namespaces or loop devices are not to be had.
    pub fn boot(&self) -> Result<()> {
        if self.power() != Power::Off {
            return Err(self.state("is on already", "kill it first"));
        }
        // What an earlier life left here would be taken for this one's; processes there are none.
        let run_folder = self.run_folder();
        script("emptying /run", "rm -rf \"$1\"", &[run_folder.as_os_str()])?;
        for folder in [&run_folder, &self.folder.join("log")] {
            fs::create_dir_all(folder).map_err(TestbedError::file("make", folder))?;
        }
        let disk = match self.disk_mib {
            None => PathBuf::new(),
            Some(mib) => self.ready_disk(mib)?,
        };
        self.cgroup.prepare()?;
        let init = self.folder.join("init.sh");
        fs::write(&init, INIT).map_err(TestbedError::file("write", &init))?;
        let log = self.log_file("init");
        let out = OpenOptions::new().create(true).append(true).open(&log);
        let out = out.map_err(TestbedError::file("write", &log))?;
        let again = out.try_clone().map_err(TestbedError::file("write", &log))?;
        // `slave`: memory folders that somebody makes outside later are seen inside, and nothing inside outside.
        let mut command = rooted("unshare");
        command.args([
            "--net",
            "--mount",
            "--uts",
            "--propagation",
            "slave",
            "--pid",
            "--fork",
            "--kill-child",
        ]);
        command.arg("sh").arg(init).arg(&self.folder).arg(&self.name).arg(disk);
        command.arg(if self.tie == Tie::Process { "tied" } else { "free" });
        command.env("PATH", search_path()).stdout(out).stderr(again).current_dir("/");
        // A Ctrl-C at the terminal is for whoever is in front.
        command.process_group(0);
        command.stdin(if self.tie == Tie::Process { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(|error| TestbedError::Unfit {
            problem: format!("unshare cannot be started: {error}"),
            hint: "install util-linux and, for an ordinary user, sudo",
        })?;
        until(&format!("{} has its namespaces", self.name), PATIENCE, || {
            if self.init().is_some() {
                return Ok(Ok(()));
            }
            match child.try_wait() {
                Ok(None) => Ok(Err(tail(&log, 5))),
                _ => Err(TestbedError::Unfit {
                    problem: format!("{} does not start: {}", self.name, tail(&log, 5)),
                    hint: "it takes namespaces for network, mounts and process ids, and loop devices: run it as root, \
                           outside of containers that forbid these",
                }),
            }
        })?;
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// The disk's image, made at the first boot; later ones wait until the last life's mount has let it go, as two
    /// mounts of one disk would destroy it.
    fn ready_disk(&self, mib: u32) -> Result<PathBuf> {
        let image = self.image();
        if image.exists() {
            let looked = || run("looking for loop devices", rooted("losetup").arg("-j").arg(&image));
            until("the disk is let go", PATIENCE, || {
                let left = looked()?;
                Ok(if left.trim().is_empty() { Ok(()) } else { Err(left) })
            })?;
        } else {
            // Sparse, without a reserve for root, so that full means full.
            let text = "truncate -s \"$2\" \"$1.new\"; \
                        mkfs.ext4 -q -m 0 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard \"$1.new\"; \
                        mv \"$1.new\" \"$1\"";
            let size = OsString::from(format!("{mib}M"));
            script("making a disk", text, &[image.as_os_str(), &size])?;
        }
        Ok(image)
    }

    pub(crate) fn state(&self, state: &'static str, hint: &'static str) -> TestbedError {
        TestbedError::State { name: self.name.clone(), state, hint }
    }

    /// The first process's number outside.
    ///
    /// # Errors
    /// When the machine is off.
    pub(crate) fn pid(&self) -> Result<u32> {
        match self.init() {
            Some(init) => Ok(init.pid),
            None => Err(self.state("is off", "revive it first")),
        }
    }

    /// The beginning of a command on this machine, as root.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = self.enter()?;
        command.arg("--").arg(program);
        Ok(command)
    }

    /// The same, as the user who runs this.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn user_command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = self.enter()?;
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        if !user.is_root() {
            command.arg(format!("--setuid={}", user.as_raw())).arg(format!("--setgid={}", group.as_raw()));
        }
        command.arg("--").arg(program);
        Ok(command)
    }

    fn enter(&self) -> Result<Command> {
        let pid = self.pid()?;
        let mut command = rooted("nsenter");
        command.env("PATH", search_path());
        for (name, file) in NAMESPACES {
            command.arg(format!("--{name}=/proc/{pid}/ns/{file}"));
        }
        Ok(command)
    }

    /// Runs a shell script there, as root.
    pub(crate) fn script(&self, what: &str, text: &str, args: &[&OsStr]) -> Result<String> {
        let mut command = self.command("sh")?;
        run(what, command.args(["-euc", text, "sh"]).args(args))
    }

    /// Starts a daemon: as root, or as the user who runs this; `words` are the program and its arguments. Its log is
    /// [`Machine::log_file`].
    ///
    /// # Errors
    /// When it runs already, or the machine is off.
    pub(crate) fn start(&self, daemon: &str, words: &[OsString], as_user: bool) -> Result<()> {
        if self.runs(daemon)? {
            return Err(TestbedError::Senseless(format!("{daemon} of {} runs already", self.name)));
        }
        let group = self.cgroup.prepare()?;
        let (log, pid) = (self.log_file(daemon), self.pid_file(daemon));
        let (user, own) = (rustix::process::getuid(), rustix::process::getgid());
        let mut all: Vec<OsString> = Vec::new();
        if as_user && !user.is_root() {
            let ids = [format!("--reuid={}", user.as_raw()), format!("--regid={}", own.as_raw())];
            all.extend([
                "setpriv".into(),
                ids[0].clone().into(),
                ids[1].clone().into(),
                "--init-groups".into(),
            ]);
        }
        all.extend(words.iter().cloned());
        // Everybody may read a log. A session of its own, so that no terminal's end reaches it.
        let text = "echo 0 >\"$1\"; log=\"$2\"; pid=\"$3\"; shift 3; umask 022
            setsid \"$@\" >>\"$log\" 2>&1 </dev/null & echo $! >\"$pid\"";
        let mut args: Vec<&OsStr> = vec![group.as_os_str(), log.as_os_str(), pid.as_os_str()];
        args.extend(all.iter().map(OsString::as_os_str));
        self.script(&format!("starting {daemon} of {}", self.name), text, &args).map(drop)
    }

    fn pid_file(&self, daemon: &str) -> PathBuf {
        self.run_folder().join(format!("{daemon}.pid"))
    }

    /// Whether a daemon runs.
    ///
    /// # Errors
    /// When one cannot look.
    pub(crate) fn runs(&self, daemon: &str) -> Result<bool> {
        let pid = self.pid_file(daemon);
        if self.init().is_none() || !pid.exists() {
            return Ok(false);
        }
        let text = "file=/proc/$(cat \"$1\")/status; [ -e \"$file\" ] || { echo gone; exit 0; }
            if grep -q '^State:.[ZX]' \"$file\"; then echo gone; else echo there; fi";
        Ok(self.script("looking for a daemon", text, &[pid.as_os_str()])?.trim() == "there")
    }

    /// Sends a daemon a signal and waits for its end.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub(crate) fn end(&self, daemon: &str, signal: &str) -> Result<()> {
        if self.power() == Power::Frozen {
            return Err(self.state("is frozen", "thaw it first"));
        }
        if !self.runs(daemon)? {
            return Err(TestbedError::Senseless(format!("{daemon} of {} does not run", self.name)));
        }
        let pid = self.pid_file(daemon);
        let text = "kill -s \"$2\" \"$(cat \"$1\")\"";
        self.script("sending a signal", text, &[pid.as_os_str(), signal.as_ref()])?;
        until(&format!("{daemon} of {} ends", self.name), PATIENCE, || {
            Ok(if self.runs(daemon)? { Err(tail(&self.log_file(daemon), 10)) } else { Ok(()) })
        })
    }

    /// Sends a daemon a signal that does not end it.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn signal(&self, daemon: &str, signal: &str) -> Result<()> {
        if !self.runs(daemon)? {
            return Err(TestbedError::Senseless(format!("{daemon} of {} does not run", self.name)));
        }
        let text = "kill -s \"$2\" \"$(cat \"$1\")\"";
        self.script("sending a signal", text, &[self.pid_file(daemon).as_os_str(), signal.as_ref()]).map(drop)
    }

    /// Everything stands still, as when the lid is closed.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn freeze(&self) -> Result<()> {
        self.pid()?;
        self.cgroup.freeze(true)
    }

    /// Everything goes on.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn thaw(&self) -> Result<()> {
        self.pid()?;
        self.cgroup.freeze(false)
    }

    /// Ends every process of the machine at once, as a power cut does; what the disk has, it keeps.
    ///
    /// # Errors
    /// When something does not end.
    pub fn kill(&self) -> Result<()> {
        kill(&self.folder, &self.cgroup)?;
        let child = self.holder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            let _ = child.wait();
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A free machine stays; nobody waits for its first process, which is for init then.
        if self.tie == Tie::Process {
            let _ = self.kill();
        }
    }
}

/// The first process of the machine with this folder, as it was written down.
pub(crate) fn init_of(folder: &Path) -> Option<Identity> {
    Identity::read(fs::read_to_string(folder.join("run/init")).ok()?.trim())
}

/// Kills a machine by its folder, whoever started it, and removes its control group.
pub(crate) fn kill(folder: &Path, cgroup: &Cgroup) -> Result<()> {
    if let Some(init) = init_of(folder)
        && init.is_alive()
    {
        let pid = OsString::from(init.pid.to_string());
        script("cutting the power", "kill -KILL \"$1\" 2>/dev/null || true", &[&pid])?;
        // Version 1's freezer keeps even the killed.
        if cgroup.is_frozen() {
            let _ = cgroup.freeze(false);
        }
        until("the machine is dead", PATIENCE, || {
            Ok(if init.is_alive() { Err("alive".into()) } else { Ok(()) })
        })?;
    }
    cgroup.remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_beginning() {
        let line = "4711 (a ) b) S 1 4711 4711 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 0";
        assert_eq!(Identity::read(line), Some(Identity { pid: 4711, begun: 987_654 }));
        let own = Identity::own();
        assert!(own.is_alive());
        assert!(!Identity { begun: own.begun + 1, ..own }.is_alive(), "a number that was given out again");
        assert_eq!(Identity::read("nonsense"), None);
    }
}
