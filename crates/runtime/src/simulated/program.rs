//! What an image does when it is run: steps, one after the other, and whether it is well.
//!
//! Every image also knows these commands, alone or in `sh -c "a; b; c"`: `sleep N`, `exit N`,
//! `true`, `false`, `echo … [>&2]`, `touch F`, `rm F`, `test -f F`, `cat`, `trap 'exit N' SIGNAL`
//! and `while :; do …; done`. A command that is not among them runs the image's own program.

use crate::port::LogStream;
use lattice_model::{Bytes, Cpu, Duration, spec::HealthCheck};
use std::collections::{BTreeMap, BTreeSet};

/// What runs in a container of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub(super) steps: Vec<Step>,
    pub(super) well: Well,
    /// The image's own health check, where the container brings none.
    pub(super) healthcheck: Option<HealthCheck>,
    pub(super) cpu: Cpu,
}

/// One step of a program. After the last one it ends with the exit code of the last command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes a line; the line break is added.
    Say(LogStream, String),
    /// Does nothing for so long.
    Wait(Duration),
    /// Does nothing for ever.
    Forever,
    /// Goes on at the step of this index.
    Again(usize),
    /// Uses so much memory from now on; more than the limit is its end.
    Use(Bytes),
    /// Ends with the code when the signal comes. A signal without this does nothing, as it is with
    /// process 1; `SIGKILL` always ends it.
    Trap(String, i64),
    /// Makes a file.
    Touch(String),
    /// Removes a file.
    Remove(String),
    /// Fails unless there is this file.
    Test(String),
    /// Succeeds (0) or fails.
    Status(i64),
    /// Writes what it reads until the end of the input.
    Cat,
    /// Ends.
    Exit(i64),
}

/// What the health check of a program finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Well {
    /// What the check's own command says.
    #[default]
    Asked,
    /// It is well once it has run for so long.
    After(Duration),
    /// In turns.
    Flaps { well: Duration, unwell: Duration },
}

impl Program {
    /// Ends at once with exit code 0, unless it is given a command. Steps can be added.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs until it is ended, and ends with 0 when it is asked to.
    pub fn service() -> Self {
        Self::new().heeds("SIGTERM", 0).then(Step::Forever)
    }

    /// Runs until it is killed.
    pub fn deaf() -> Self {
        Self::new().then(Step::Forever)
    }

    /// Ends with `code` after `span`.
    pub fn exits(code: i64, span: Duration) -> Self {
        Self::new().then(Step::Wait(span)).then(Step::Exit(code))
    }

    /// Writes `line` every `span`, for ever.
    pub fn says(line: impl Into<String>, span: Duration) -> Self {
        let say = Step::Say(LogStream::Stdout, line.into());
        Self::new().heeds("SIGTERM", 0).then(say).then(Step::Wait(span)).then(Step::Again(1))
    }

    /// One more step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Ends with `code` when `signal` comes, from the next step on.
    #[must_use]
    pub fn heeds(self, signal: &str, code: i64) -> Self {
        self.then(Step::Trap(signal.to_owned(), code))
    }

    /// Its health check passes once it has run for `span`. The image has a check, once a second.
    #[must_use]
    pub fn well_after(mut self, span: Duration) -> Self {
        self.well = Well::After(span);
        self.healthcheck = Some(every_second());
        self
    }

    /// Its health check passes and fails in turns. The image has a check, once a second.
    #[must_use]
    pub fn flaps(mut self, well: Duration, unwell: Duration) -> Self {
        self.well = Well::Flaps { well, unwell };
        self.healthcheck = Some(every_second());
        self
    }

    /// So much processor is used while it runs.
    #[must_use]
    pub fn busy(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
        self
    }

    /// What a command does, if it is one of those that every image knows.
    pub(super) fn command(argv: &[String]) -> Option<Vec<Step>> {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        match words[..] {
            ["sh" | "/bin/sh", "-c", script, ..] => shell(script),
            _ => statement(&words).map(|step| vec![step]),
        }
    }

    /// What the container runs: a command that is known, else the image's own program.
    pub(super) fn with_command(&self, argv: &[String]) -> Self {
        match Self::command(argv) {
            Some(steps) if !argv.is_empty() => Self { steps, ..self.clone() },
            _ => self.clone(),
        }
    }
}

fn every_second() -> HealthCheck {
    HealthCheck {
        test: vec!["CMD".to_owned(), "check".to_owned()],
        interval: Some(Duration::from_secs(1)),
        timeout: None,
        retries: Some(1),
        start_period: None,
        start_interval: None,
    }
}

fn shell(script: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut loops = Vec::new();
    for statement in script.split([';', '\n']) {
        let mut words: Vec<&str> = statement.split_whitespace().collect();
        match words[..] {
            [] => continue,
            ["while", ":" | "true"] => {
                loops.push(steps.len());
                continue;
            }
            ["done"] => {
                steps.push(Step::Again(loops.pop()?));
                continue;
            }
            ["do", ..] => drop(words.remove(0)),
            _ => {}
        }
        steps.push(self::statement(&words)?);
    }
    loops.is_empty().then_some(steps)
}

fn statement(words: &[&str]) -> Option<Step> {
    Some(match words {
        ["true" | ":"] => Step::Status(0),
        ["false"] => Step::Status(1),
        ["sleep", "infinity"] => Step::Forever,
        ["sleep", span] => {
            let span = std::time::Duration::try_from_secs_f64(span.parse().ok()?).ok()?;
            Step::Wait(Duration::from_millis(u64::try_from(span.as_millis()).ok()?))
        }
        ["exit"] => Step::Exit(0),
        ["exit", code] => Step::Exit(code.parse().ok()?),
        ["echo", words @ .., ">&2"] => Step::Say(LogStream::Stderr, words.join(" ")),
        ["echo", words @ ..] => Step::Say(LogStream::Stdout, words.join(" ")),
        ["touch", file] => Step::Touch((*file).to_owned()),
        ["rm", file] | ["rm", "-f", file] => Step::Remove((*file).to_owned()),
        ["test", "-f", file] => Step::Test((*file).to_owned()),
        ["cat"] => Step::Cat,
        ["trap", "'exit", code, signal] => {
            let signal =
                if signal.starts_with("SIG") { (*signal).to_owned() } else { format!("SIG{signal}") };
            Step::Trap(signal, code.trim_end_matches('\'').parse().ok()?)
        }
        _ => return None,
    })
}

/// How far a program is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    next: usize,
    status: i64,
    pub(super) traps: BTreeMap<String, i64>,
    pub(super) memory: Bytes,
}

/// Why a program does not go on by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pause {
    Until(Duration),
    Forever,
    /// It wants input.
    Input,
    OutOfMemory,
    Ended(i64),
}

/// More steps than this at one instant, and a circle without a pause is one of a millisecond.
const MAX_STEPS: usize = 1000;

impl Progress {
    /// Goes on until the program pauses or ends.
    pub(super) fn go(
        &mut self,
        steps: &[Step],
        files: &mut BTreeSet<String>,
        limit: Bytes,
        mut say: impl FnMut(LogStream, &str),
    ) -> Pause {
        for _ in 0..MAX_STEPS {
            let Some(step) = steps.get(self.next) else { return Pause::Ended(self.status) };
            self.next += 1;
            self.status = 0;
            match step {
                Step::Say(stream, line) => say(*stream, line),
                Step::Wait(span) => return Pause::Until(*span),
                Step::Forever => return Pause::Forever,
                Step::Again(at) => self.next = (*at).min(steps.len()),
                Step::Use(memory) => {
                    self.memory = *memory;
                    if *memory > limit {
                        return Pause::OutOfMemory;
                    }
                }
                Step::Trap(signal, code) => drop(self.traps.insert(signal.clone(), *code)),
                Step::Touch(file) => drop(files.insert(file.clone())),
                Step::Remove(file) => drop(files.remove(file)),
                Step::Test(file) => self.status = i64::from(!files.contains(file)),
                Step::Status(code) => self.status = *code,
                Step::Cat => return Pause::Input,
                Step::Exit(code) => return Pause::Ended(*code),
            }
        }
        Pause::Until(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(script: &str) -> Option<Vec<Step>> {
        Program::command(&["sh", "-c", script].map(str::to_owned))
    }

    #[test]
    fn the_commands_that_are_known_are_understood_and_no_others() {
        use Step::*;
        let say = |stream, line: &str| Say(stream, line.to_owned());
        assert_eq!(
            steps("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"),
            Some(vec![
                Trap("SIGTERM".to_owned(), 7),
                say(LogStream::Stdout, "ready"),
                Wait(Duration::from_millis(100)),
                Again(2)
            ])
        );
        assert_eq!(
            steps("echo two words >&2; exit 3"),
            Some(vec![say(LogStream::Stderr, "two words"), Exit(3)])
        );
        assert_eq!(steps("cd /srv"), None);
        assert_eq!(steps("while :; do true"), None);
        assert_eq!(Program::command(&["nginx".to_owned()]), None);
    }

    #[test]
    fn a_program_pauses_and_ends() {
        let (mut files, mut said) = (BTreeSet::new(), Vec::new());
        let mut run = |progress: &mut Progress, script: &str| {
            progress.go(&steps(script).unwrap(), &mut files, Bytes::MIB, |_, line| said.push(line.to_owned()))
        };
        let mut progress = Progress::default();
        let script = "echo a; sleep 2; test -f /x; echo b";
        assert_eq!(run(&mut progress, script), Pause::Until(Duration::from_secs(2)));
        assert_eq!(run(&mut progress, script), Pause::Ended(0));
        assert_eq!(run(&mut Progress::default(), "test -f /x"), Pause::Ended(1));
        assert_eq!(run(&mut Progress::default(), "touch /x; test -f /x"), Pause::Ended(0));
        let endless = run(&mut Progress::default(), "while :; do true; done");
        assert_eq!(endless, Pause::Until(Duration::from_millis(1)));
        assert_eq!(said, ["a", "b"]);
        let eats = [Step::Use(Bytes::GIB)];
        let end = Progress::default().go(&eats, &mut files, Bytes::MIB, |_, _| {});
        assert_eq!(end, Pause::OutOfMemory);
    }
}
