//! What an import has begun, on this machine's disk before it is done: whoever types the command
//! again, after Ctrl-C, `kill -9` or a loss of power, finds what to take back or to go on with.
//!
//! One file per project in `imports` of the platform's folder for state (`LATTICE_HOME`). It is
//! there from before the first change until everything runs, or everything is as it was.

use crate::error::CliError;
use anyhow::Context as _;
use lattice_model::StackKey;
use lattice_runtime::docker::ComposeContainer;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The stack is being made, held; the project runs as before.
    Placing,
    /// The project is being stopped, or is stopped; data is copied.
    Copying,
    /// The data is there and was compared; the stack is being started.
    Starting,
}

/// A container of the project that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ran {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Its restart policy.
    pub(crate) restart: String,
}

impl Ran {
    pub(crate) fn of(container: &ComposeContainer) -> Self {
        let ComposeContainer { id, name, restart, .. } = container.clone();
        Self { id, name, restart }
    }
}

/// An import that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    /// The Compose project.
    pub(crate) project: String,
    /// The engine's socket.
    pub(crate) engine: String,
    /// The server.
    pub(crate) server: String,
    /// The stack that it becomes.
    pub(crate) stack: StackKey,
    /// What the first line of the stack's source says, so that nobody else's stack is removed.
    pub(crate) mark: String,
    pub(crate) phase: Phase,
    /// What ran, in the order in which it is stopped.
    pub(crate) ran: Vec<Vec<Ran>>,
    /// So many of these were begun to be stopped.
    pub(crate) stopped: usize,
}

/// The place of a project's journal, which nobody else uses at the same time.
#[derive(Debug)]
pub(crate) struct Desk {
    path: PathBuf,
    // Held to the end.
    _lock: File,
}

fn folder() -> anyhow::Result<PathBuf> {
    let home = lattice_client::default_home().ok_or_else(|| {
        CliError::Usage(
            "neither HOME nor LATTICE_HOME is set, so nothing could be remembered of an import; set LATTICE_HOME".into(),
        )
    })?;
    Ok(home.join("imports"))
}

/// The projects whose import was begun and has not ended.
pub(crate) fn begun() -> Vec<String> {
    let entries = folder().ok().and_then(|folder| fs::read_dir(folder).ok());
    let names = entries.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.file_name());
    let names = names.filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned()));
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

impl Desk {
    /// Takes the place of a project.
    ///
    /// # Errors
    /// When another process has it, or it cannot be written.
    pub(crate) fn take(project: &str) -> anyhow::Result<Self> {
        Self::at(&folder()?, project)
    }

    fn at(folder: &Path, project: &str) -> anyhow::Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if project.is_empty() || !project.chars().all(plain) {
            let text = format!(
                "{project:?} is no Compose project's name; `lattice import` lists those that are here"
            );
            return Err(CliError::Usage(text).into());
        }
        let failed = || format!("{} cannot be written, and an import is remembered there", folder.display());
        fs::create_dir_all(folder).with_context(failed)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(format!(".{project}.lock")))
            .with_context(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("{project} is being imported by another process; wait for its end");
                return Err(CliError::Failed(text).into());
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
        Ok(Self { path: folder.join(format!("{project}.json")), _lock: lock })
    }

    /// What an import had begun that did not come to its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(&self) -> anyhow::Result<Option<Journal>> {
        match fs::read(&self.path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| {
                format!("{} is damaged; see with `docker ps -a` and `lattice ps -a` what is there, then remove the file", self.path.display())
            })?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", self.path.display())),
        }
    }

    /// Remembers, whole or not at all, also over a loss of power.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, journal: &Journal) -> anyhow::Result<()> {
        let failed = || format!("{} cannot be written", self.path.display());
        let draft = self.path.with_extension("tmp");
        let mut file = File::create(&draft).with_context(failed)?;
        file.write_all(&serde_json::to_vec_pretty(journal)?).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        fs::rename(&draft, &self.path).with_context(failed)?;
        self.sync().with_context(failed)
    }

    /// Forgets: it has come to its end.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    #[cfg(unix)]
    fn sync(&self) -> std::io::Result<()> {
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    #[cfg(not(unix))]
    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_found_and_nobody_else_begins_it() {
        let folder = tempfile::tempdir().unwrap();
        let desk = Desk::at(folder.path(), "shop").unwrap();
        assert_eq!(desk.read().unwrap(), None);
        let mut journal = Journal {
            project: "shop".into(),
            engine: "/run/docker.sock".into(),
            server: "unix:/x".into(),
            stack: "default/shop".parse().unwrap(),
            mark: "# m".into(),
            phase: Phase::Placing,
            ran: vec![vec![Ran { id: "1".into(), name: "web".into(), restart: "always".into() }]],
            stopped: 0,
        };
        desk.write(&journal).unwrap();
        journal.phase = Phase::Copying;
        desk.write(&journal).unwrap();
        let busy = Desk::at(folder.path(), "shop").unwrap_err().to_string();
        assert!(busy.contains("by another process"), "{busy}");
        drop(desk);
        let desk = Desk::at(folder.path(), "shop").unwrap();
        assert_eq!(desk.read().unwrap(), Some(journal));
        desk.forget().unwrap();
        desk.forget().unwrap();
        assert_eq!(desk.read().unwrap(), None);
        assert!(Desk::at(folder.path(), "../x").is_err() && Desk::at(folder.path(), "").is_err());
    }
}
