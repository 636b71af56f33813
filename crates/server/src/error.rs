//! Why a server does not start or goes down. What a request is refused with is `ErrorBody`.

use lattice_identity::IdentityError;
use lattice_store::{ApplyError, OpenError, StoreError};
use std::{io, net::SocketAddr, path::PathBuf};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a configuration.
    #[error("the configuration {} is not valid: correct the line that is named", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Plain HTTP where others could read it.
    #[error(
        "the API would listen on {address} without encryption: set api.tls (certificate and key), or a loopback address"
    )]
    PlainApi {
        /// Where.
        address: SocketAddr,
    },
    /// A value that does not work.
    #[error("{key} is out of range: {allowed} is allowed")]
    OutOfRange {
        /// Which.
        key: &'static str,
        /// What would work.
        allowed: &'static str,
    },
    /// An address that no agent could dial.
    #[error("agents.advertise has an address that nobody can dial: write host or host:port")]
    Advertise {
        /// Which, and why.
        #[source]
        source: Box<IdentityError>,
    },
}

/// Why a server does not start, or an operation of it failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration does not make sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The home cannot be used.
    #[error("the server's folder {} cannot be used: check that it exists, belongs to this user and has room", path.display())]
    Home {
        /// The folder, or what in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store does not open; a second server on the same home is found out here.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store refused a change.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Keys or certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A row cannot be read.
    #[error(
        "the row {row} of the store cannot be read by this version: install the version that wrote it, or restore a backup"
    )]
    Row {
        /// Which.
        row: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An address is taken or not ours.
    #[error("{what} cannot listen on {address}: stop what uses it, or choose another address")]
    Listen {
        /// Who wanted it.
        what: &'static str,
        /// The address, or the socket's path.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The API's certificate or key.
    #[error("the API's TLS files cannot be used ({problem}): give a PEM chain and its key")]
    ApiTls {
        /// What is wrong.
        problem: String,
    },
    /// The gateway of the agents does not start.
    #[error("the agents' port does not start")]
    Link(#[source] lattice_link::LinkError),
    /// The server is going down.
    #[error("the server is going down: start it again")]
    Stopping,
}
