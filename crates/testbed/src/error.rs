//! What can go wrong, in words for the person who has to do something about it.

use std::{io, path::PathBuf, time::Duration};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// Not root, and no sudo that asks nothing.
    #[error(
        "a testbed needs root, for namespaces, mounts and cgroups, and sudo would ask for a password; type 'sudo -v' \
         first, or run this as root"
    )]
    NeedsRoot,
    /// A program of the system is missing, or has no right to do what it does.
    #[error("a testbed cannot be made here: {problem}; {hint}")]
    Unfit {
        /// What does not work.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// A program of this repository is not built.
    #[error("{} is not built; `make testbed` and `make test` build it, or: cargo build --workspace --bins", path.display())]
    NotBuilt {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A command failed.
    #[error("{what} failed ({command}): {output}")]
    Command {
        /// What was being done.
        what: String,
        /// What was run.
        command: String,
        /// What it said.
        output: String,
    },
    /// Something did not happen in time.
    #[error("not after {patience:?}: {what}; seen instead: {seen}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        patience: Duration,
        /// What was seen last.
        seen: String,
    },
    /// A file or folder.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// read, write, make, remove
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name that nothing has.
    #[error("no {what} is called {name:?}; there are: {}", if there.is_empty() { "none".to_owned() } else { there.join(", ") })]
    Unknown {
        /// node, testbed
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        there: Vec<String>,
    },
    /// A name that is taken.
    #[error("a testbed called {name:?} is there already; `lattice-testbed --name {name} down` removes it")]
    Taken {
        /// Which.
        name: String,
    },
    /// Something cannot be done in this state.
    #[error("{name} {state}; {hint}")]
    State {
        /// Of which machine.
        name: String,
        /// is off, is frozen …
        state: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// What somebody asked for makes no sense.
    #[error("{0}")]
    Senseless(String),
}

/// What can go wrong.
pub(crate) type Result<T, E = TestbedError> = std::result::Result<T, E>;

impl TestbedError {
    /// For `map_err` on what the file system says.
    pub(crate) fn file(verb: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { verb, path, source }
    }
}
