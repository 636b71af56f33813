//! Running commands, as root where it takes that, and waiting for conditions.

use crate::error::{Result, TestbedError};
use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long anything may take before it counts as failed. Two cores may serve several testbeds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; 128 where a signal ended it, 124 where its time was over.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A command as root: by sudo, without a question, where this is an ordinary user.
pub fn rooted(program: impl AsRef<OsStr>) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["--non-interactive", "--preserve-env=PATH", "--"]).arg(program);
    command
}

/// The search path with the folders that an ordinary user's has not: dockerd, ip and mount are there.
pub(crate) fn search_path() -> String {
    format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Runs a command to its end, at most [`PATIENCE`].
pub(crate) fn said(command: &Command) -> Result<Said> {
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after=5", &PATIENCE.as_secs().to_string()]);
    bounded.arg(command.get_program()).args(command.get_args()).env("PATH", search_path());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    let output = bounded.stdin(Stdio::null()).output().map_err(|error| TestbedError::Command {
        what: "starting a program".into(),
        command: typed(command),
        output: error.to_string(),
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Ok(Said { code: output.status.code().unwrap_or(128), stdout, stderr })
}

/// Runs a command that must succeed; gives its standard output.
pub(crate) fn run(what: &str, command: &Command) -> Result<String> {
    let Said { code, stdout, stderr } = said(command)?;
    match code {
        0 => Ok(stdout),
        code => {
            let words = format!("{}{}", stderr.trim(), stdout.trim());
            let output = if words.is_empty() { format!("exit code {code}") } else { words };
            Err(TestbedError::Command { what: what.to_owned(), command: typed(command), output })
        }
    }
}

/// Runs a shell script as root; `$1` and so on are `args`.
pub(crate) fn script(what: &str, text: &str, args: &[&OsStr]) -> Result<String> {
    run(what, rooted("sh").args(["-euc", text, "sh"]).args(args))
}

/// A command as a person would type it; of a script its name is enough.
fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let words = words.join(" ");
    match words.split_once('\n') {
        Some((first, _)) => format!("{first} …"),
        None => words,
    }
}

/// Looks until `look` gives something; `Err` is what was seen instead.
///
/// # Errors
/// After `patience`, or what `look` fails with.
pub(crate) fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        match look()? {
            Ok(found) => return Ok(found),
            Err(seen) if begun.elapsed() > patience => {
                return Err(TestbedError::Late { what: what.to_owned(), patience, seen });
            }
            Err(_) => sleep(LOOK),
        }
    }
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
