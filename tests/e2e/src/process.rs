//! Processes that a test starts and ends, and what short ones said.

use crate::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// A process with a log file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a command; what it writes is appended to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        command.stdout(file.try_clone().expect("a log file")).stderr(file);
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}: {command:?}"));
        Self { name: name.to_owned(), log: log.to_owned(), child }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid")
    }

    /// Everything that it wrote.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its standard input, when it was asked to be a pipe.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // A process that has ended gets none, and whoever waits for it sees that.
        let _ = kill_process(self.pid(), signal);
    }

    /// kill -9, and gone when this returns.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time; shows its log.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let (name, log) = (self.name.clone(), self.log.clone());
        until(&format!("{name} ends"), patience, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}; its log:\n{}", tail(&log, 40))),
        })
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What a command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// As it was typed.
    pub command: String,
    /// Its exit code; 128 and the signal where one ended it.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Output {
    /// Runs a command to its end, at most two minutes, with `input` as its standard input.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    pub fn of(command: &Command, input: &[u8]) -> Self {
        let mut bounded = Command::new("timeout");
        bounded.args(["--kill-after=5", "120"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => bounded.env(name, value),
                None => bounded.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            bounded.current_dir(folder);
        }
        let mut stdin = tempfile::tempfile().expect("a file for the input");
        std::io::Write::write_all(&mut stdin, input).expect("a file for the input");
        std::io::Seek::rewind(&mut stdin).expect("a file for the input");
        let text = typed(command);
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::from(stdin) };
        let output = bounded.stdin(stdin).output().unwrap_or_else(|error| panic!("{text}: {error}"));
        let code = output.status.code().unwrap_or(128);
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let output =
            Self { command: text, code, stdout: string(&output.stdout), stderr: string(&output.stderr) };
        assert_ne!(output.code, 124, "it did not end within two minutes: {output}");
        output
    }

    /// The same, which must have succeeded.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        self.ended(0)
    }

    /// The same, which must have ended so.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    #[must_use]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "the exit code of {self}");
        self
    }

    /// The same, which must have failed in its own words, neither by a panic nor by a signal.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    #[must_use]
    pub fn failed(self) -> Self {
        assert!(
            (1..=4).contains(&self.code) && !self.stderr.contains("panicked"),
            "it should have failed: {self}"
        );
        self
    }

    /// The same, which must have said each of these, on either stream, in whatever case.
    ///
    /// # Panics
    /// When it has not.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let all = format!("{}{}", self.stdout, self.stderr).to_lowercase();
        for word in words {
            assert!(all.contains(&word.to_lowercase()), "{word:?} is missing in {self}");
        }
        self
    }

    /// Its data as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// Its data without blanks around.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "$ {command}\n[exit code {code}]\n[stdout]\n{stdout}\n[stderr]\n{stderr}")
    }
}

/// A command as a person types it.
pub(crate) fn typed(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}
