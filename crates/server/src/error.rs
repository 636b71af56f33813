//! Why a server does not start or goes down. What a request is refused with is `ErrorBody`.

use lattice_identity::IdentityError;
use lattice_store::{ApplyError, ImportError, OpenError, PostgresError, StoreError};
use std::{io, net::SocketAddr, path::PathBuf};

/// An error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        // A transparent error repeats its source's words.
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

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
    /// `[backup]` does not make sense.
    #[error("[backup] of the configuration does not work")]
    Backup {
        /// Why.
        #[source]
        source: Box<lattice_backup::BackupError>,
    },
    /// The database of the store.
    #[error("the section [store] does not work: correct it")]
    Store {
        /// What is wrong.
        #[source]
        source: Box<PostgresError>,
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
    /// The store in a database does not open.
    #[error(transparent)]
    Database(#[from] PostgresError),
    /// Another server has the home.
    #[error(
        "the server's folder {} is in use by another server: stop that one first, or give this one another home",
        home.display()
    )]
    HomeInUse {
        /// The home.
        home: PathBuf,
    },
    /// A backup's keys cannot go where the configuration has them.
    #[error(
        "the backup's keys cannot go to {}, which secrets.key_file names ({problem}); then restore again",
        path.display()
    )]
    RingPlace {
        /// Where they belong.
        path: PathBuf,
        /// What stands against it, and what to do.
        problem: &'static str,
    },
    /// The program that gives the keys did not.
    #[error(
        "secrets.key_command gave no keys ({problem}): run it by hand as this user; it prints what a key file has"
    )]
    KeyCommand {
        /// What happened.
        problem: String,
    },
    /// The cluster was made under a master key that is not here.
    #[error(
        "the store is of a cluster that has its own master key, and {} is not there: copy it from another server of \
         the cluster, or from where it was kept",
        path.display()
    )]
    NoMasterKey {
        /// Where it has to be.
        path: PathBuf,
    },
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
    /// A backup could not be made or read.
    #[error(transparent)]
    Backup(lattice_backup::BackupError),
    /// A dump does not go into a store.
    #[error(transparent)]
    Import(ImportError),
    /// There is nothing to back up or to move.
    #[error("there is no store at {place}: check LATTICE_HOME, --home and --config")]
    NoInstallation {
        /// Where it should be.
        place: String,
    },
    /// The configuration is neither there nor in the backup.
    #[error("there is no configuration {}, and the backup has none: leave --config away, or write one first", path.display())]
    NoSettings {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is something already.
    #[error("{} is not empty ({what}), so nothing was restored: name another --home, or say --replace to move all of it aside", home.display())]
    NotEmpty {
        /// The home.
        home: PathBuf,
        /// Some of what is there.
        what: String,
    },
    /// Its server runs.
    #[error("a server runs on {}, so nothing was changed: stop it first", home.display())]
    Runs {
        /// The home.
        home: PathBuf,
    },
    /// Somebody works on the store.
    #[error(
        "{holder} works on the store, so nothing was moved: stop its servers; after a crash, try again in a quarter of a minute"
    )]
    Held {
        /// Who.
        holder: String,
    },
    /// The store that is to be restored into has another content.
    #[error(
        "the store that the configuration names is not empty, so nothing was restored: name an empty one"
    )]
    StoreNotEmpty,
    /// A restore was begun and not finished.
    #[error("a restore into {} was not finished: run `lattice backup restore` again", home.display())]
    HalfRestored {
        /// The home.
        home: PathBuf,
    },
    /// The store was moved elsewhere.
    #[error(
        "this store was moved to {to} and is out of date: start the server with that one, or say that this one counts with `lattice migrate --reopen`"
    )]
    Moved {
        /// Where to.
        to: String,
    },
    /// What was written reads differently.
    #[error(
        "the new store does not give back what the old one has, so the old one stays as it is: look at the disk, empty the new one and try again"
    )]
    NotTheSame,
    /// Not a side of a move.
    #[error(
        "{text}:// is not understood here: name a configuration (server.toml) or sqlite:PATH; a database's address stands in the configuration's [store], where nobody sees its password"
    )]
    Side {
        /// Its scheme.
        text: String,
    },
    /// The server is going down.
    #[error("the server is going down: start it again")]
    Stopping,
}
