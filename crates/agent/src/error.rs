//! What can go wrong in the agent's shell. What a server refuses and what an engine refuses are
//! their crates' errors, passed on as they are.

use lattice_identity::{IdentityError, TokenParseError};
use lattice_link::{LinkError, Refusal, outbox::OutboxError};
use lattice_model::NodeId;
use lattice_runtime::RuntimeError;
use std::{io, path::PathBuf};

/// A failed operation of the agent; each message says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Keys, certificates, sealed data.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The link to the server.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The container engine.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The queue of reports.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// Files that travel with a deployment.
    #[error(transparent)]
    Tree(#[from] lattice_tree::TreeError),
    /// An uploaded image is not what it should be.
    #[error(transparent)]
    Image(#[from] lattice_image::ImageError),
    /// The text is not a join token.
    #[error(transparent)]
    Token(#[from] TokenParseError),
    /// The agent's database.
    #[error(
        "the agent's database cannot be used; check the free disk space, and that it belongs to this user"
    )]
    Storage(#[from] rusqlite::Error),
    /// Written by a newer agent.
    #[error(
        "the agent's database was written by a newer agent (layout {found}, known: {known}); update the agent again"
    )]
    TooNew {
        /// What it says.
        found: i64,
        /// What this version knows.
        known: i64,
    },
    /// The file system refused.
    #[error("cannot {action} {path}; check that its folder exists, has space, and belongs to this user")]
    File {
        /// What was tried: "read", "create" …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// Another agent has this home.
    #[error(
        "another agent (process {pid}) uses {path}; stop it first, or give this one a home of its own with --home"
    )]
    HomeInUse {
        /// The home.
        path: PathBuf,
        /// The process, where it said so.
        pid: String,
    },
    /// A file of the home is not what it should be.
    #[error(
        "{path} is damaged ({problem}); restore it from a backup, or `lattice-agent leave` and join again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The configuration file has a mistake.
    #[error("{path} cannot be used: {problem}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with its line.
        problem: String,
    },
    /// Rules that are not taken.
    #[error("these rules are not taken: {problem}")]
    Rules {
        /// What is wrong with them.
        problem: String,
    },
    /// There is no identity yet.
    #[error(
        "this machine has not joined a cluster; run `lattice-agent join` with a token (`lattice token create` on the server makes one)"
    )]
    NotJoined,
    /// There is one already.
    #[error(
        "this machine is node {node} of a cluster already; run `lattice-agent leave` first if it shall join another one"
    )]
    AlreadyJoined {
        /// Its id.
        node: NodeId,
    },
    /// The server said no, for good.
    #[error("the server refused this machine: {0}")]
    Refused(Refusal),
    /// The secure connection failed for a reason that waiting does not mend.
    #[error("{message}; {hint}")]
    Untrusted {
        /// What happened.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// The server gave something that is not for this node.
    #[error(
        "the server's answer does not fit this node ({problem}); this is a defect of the server, please report it"
    )]
    Misfit {
        /// What is wrong.
        problem: &'static str,
    },
    /// There is no memory file system for secrets.
    #[error(
        "no folder in memory for secrets ({tried}); mount a tmpfs there, so that secrets never reach a disk"
    )]
    NoMemoryFolder {
        /// Where it was looked for.
        tried: String,
    },
    /// A file cannot be given to a user.
    #[error(
        "a secret is to belong to user or group {id} of the container, and this agent is not root, so it cannot give files away; leave uid and gid out of the secret's mount, or run the agent as root"
    )]
    NotOurOwner {
        /// The user or group.
        id: u32,
    },
}

impl AgentError {
    pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.to_owned(), source }
    }
}

/// The result of most things here.
pub type Result<T, E = AgentError> = std::result::Result<T, E>;

/// An error with all its causes in one line, for logs and for people.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // A transparent error repeats its source's words.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
