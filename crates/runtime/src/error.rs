//! Why the engine did not do what it was asked, in the kinds that a reconciler acts upon, each
//! with what to do next. Texts of the engine are carried as they came; they may name images,
//! paths and ports, and never the environment of a container.

use lattice_model::Duration;

/// The result of everything behind the port.
pub type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// Why the engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// Nobody answers at the socket, or the answer broke off. Nothing is known about the
    /// outcome of the call.
    #[error("the container engine at {socket} does not answer ({reason}); {hint}")]
    Unreachable {
        /// Where it was looked for.
        socket: String,
        /// What the system said.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The container, network or volume does not exist.
    #[error("{what} does not exist: {message}; it is made anew from the goal, or list what is there")]
    NotFound {
        /// What was asked for.
        what: String,
        /// The engine's words.
        message: String,
    },
    /// The name is taken, or something still uses it.
    #[error("{what} is taken or in use: {message}; remove or stop what holds it, then try again")]
    Conflict {
        /// What was asked for.
        what: String,
        /// The engine's words.
        message: String,
    },
    /// Another process or container has the host's port.
    #[error(
        "port {} of this machine is in use: {message}; stop what listens there or publish another port",
        .port.map_or_else(|| "?".to_owned(), |port| port.to_string())
    )]
    PortInUse {
        /// Which, where the engine names it.
        port: Option<u16>,
        /// The engine's words.
        message: String,
    },
    /// The image is not on the engine, or the registry does not have it.
    #[error("image {image} was not found: {message}; check its name and tag, or pull it first")]
    ImageMissing {
        /// The reference.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The registry wants a login, or hides that the image does not exist.
    #[error("the registry does not give out {image}: {message}; check its name, or log in to the registry")]
    Unauthorised {
        /// The reference.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The registry does not answer.
    #[error("the registry of {image} does not answer: {message}; check the network, then try again")]
    RegistryUnreachable {
        /// The reference.
        image: String,
        /// The engine's words.
        message: String,
    },
    /// The disk of the engine is full.
    #[error("the disk of the container engine is full: {message}; free some space, e.g. unused images")]
    DiskFull {
        /// The engine's words.
        message: String,
    },
    /// The engine took too long; the outcome is unknown.
    #[error("the engine did not finish within {after}: {what}; look at its load and log, then try again")]
    Timeout {
        /// What was asked for.
        what: String,
        /// How long was waited.
        after: Duration,
    },
    /// Anything else that it would not do, and what this port refuses by itself.
    #[error("refused: {what}: {message}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Why, and what to do where that is known.
        message: String,
    },
}

impl RuntimeError {
    /// Whether the outcome is unknown, so that looking again comes before trying again.
    pub const fn is_uncertain(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }
}
