//! What an operator decides about a server: [`ServerConfig`], and the file that it is read from.
//!
//! The file is TOML; an unknown key is refused by name, since a misspelt limit that is ignored
//! would be a limit that nobody set. Rejected: environment variables for each key (two places to
//! look at, and no comments).

use crate::{
    backups::{BackupConfig, config::BackupSection},
    error::ConfigError,
};
use lattice_identity::{ServerAddress, SessionPolicy};
use lattice_model::{Bytes, Duration};
use lattice_planner::{ManyNodes, Policy, Rebalance, Strategy};
use lattice_store::PostgresOptions;
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// Where the API listens unless told otherwise.
pub const DEFAULT_API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);
/// Where agents connect unless told otherwise.
pub const DEFAULT_AGENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7443);

/// How replicas that are unevenly spread move unless told otherwise.
const REBALANCE: Rebalance =
    Rebalance { every: Duration::from_secs(60), moves: 1, after: Duration::from_secs(300) };

/// How a server runs.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Holds all state; made if its parent exists.
    pub home: PathBuf,
    /// What holds everything that is to last.
    pub store: StoreConfig,
    /// Where the API listens. Anything but loopback needs [`ServerConfig::api_tls`].
    pub api_listen: SocketAddr,
    /// Certificate and key for the API.
    pub api_tls: Option<TlsFiles>,
    /// Names besides the loopback ones that a request's `Host` may have.
    pub api_hosts: Vec<String>,
    /// Where agents connect.
    pub agent_listen: SocketAddr,
    /// Where agents reach this server, as `host` or `host:port`, best first; found out where empty.
    pub advertise: Vec<String>,
    /// What people call the cluster; counts when the home is new.
    pub cluster_name: String,
    /// Agents below this version get no new work.
    pub min_agent_version: Option<String>,
    /// How often agents say that they live.
    pub heartbeat: Duration,
    /// How long a server that has just started waits before it calls a node disconnected.
    pub presence_grace: Duration,
    /// Where the keys come from that secrets are sealed with.
    pub key_source: KeySource,
    /// Where uploaded files are kept; in the home unless said. Servers that share a store share it too.
    pub blobs: Option<PathBuf>,
    /// How much a project may have uploaded.
    pub blobs_per_project: Bytes,
    /// The most bytes of image layers, unpacked, that a project may have uploaded.
    pub images_per_project: Bytes,
    /// How long people stay signed in.
    pub sessions: SessionPolicy,
    /// When nodes count as lost, and which of two nodes is better.
    pub planning: Policy,
    /// About how often each node is measured; never where it is 0.
    pub measure_every: Duration,
    /// How long a node's facts have to say otherwise before it leaves a pool whose rule took it in.
    pub pool_hold: Duration,
    /// Take the store as it is although agents have seen newer goals: after the restore of a
    /// backup. Raises the incarnation, so that agents accept what comes.
    pub accept_older_store: bool,
    /// Backups that the server makes by itself.
    pub backup: Option<BackupConfig>,
    /// The file that this was read from; part of each backup.
    pub source: Option<PathBuf>,
}

/// Which store a server uses.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// A file in the home, for one server.
    Sqlite,
    /// A PostgreSQL database, for any number of servers.
    Postgres(PostgresOptions),
}

/// Where the keys come from that the server seals with: one line for each, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `master.key` in the home, made at the first start.
    Home,
    /// A file elsewhere, of mode 0600, made where there is none.
    File(PathBuf),
    /// What a program prints: its path and arguments.
    Command(Vec<String>),
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
struct File {
    home: Option<PathBuf>,
    cluster_name: Option<String>,
    min_agent_version: Option<String>,
    #[serde(default)]
    store: StoreSection,
    #[serde(default)]
    api: ApiSection,
    #[serde(default)]
    agents: AgentsSection,
    backup: Option<BackupSection>,
    #[serde(default)]
    blobs: BlobsSection,
    #[serde(default)]
    planning: PlanningSection,
    #[serde(default)]
    secrets: SecretsSection,
    #[serde(default)]
    ranking: RankingSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RankingSection {
    measure_every_secs: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsSection {
    key_file: Option<PathBuf>,
    key_command: Option<Vec<String>>,
}

impl SecretsSection {
    fn read(self) -> Result<KeySource, ConfigError> {
        match (self.key_file, self.key_command) {
            (None, None) => Ok(KeySource::Home),
            (Some(path), None) if path.is_absolute() => Ok(KeySource::File(path)),
            (None, Some(command)) if !command.is_empty() => Ok(KeySource::Command(command)),
            _ => Err(ConfigError::OutOfRange {
                key: "secrets",
                allowed: "key_file, an absolute path, or key_command, a program with its arguments, and not both",
            }),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlobsSection {
    path: Option<PathBuf>,
    per_project: Option<String>,
    images_per_project: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanningSection {
    node_loss_after_secs: Option<u64>,
    many_nodes_least: Option<u32>,
    many_nodes_percent: Option<u32>,
    strategy: Option<Strategy>,
    pool_hold_secs: Option<u64>,
    rebalance: Option<RebalanceWish>,
    rebalance_every_secs: Option<u64>,
    rebalance_moves: Option<u32>,
    rebalance_after_secs: Option<u64>,
}

/// Whether replicas that are unevenly spread move.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RebalanceWish {
    Gentle,
    Off,
}

// No `Debug`: the URL may hold a password.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreSection {
    url: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    schema: Option<String>,
}

impl StoreSection {
    fn read(self) -> Result<StoreConfig, ConfigError> {
        let Self { url, password_file, ca_file, schema } = self;
        match url {
            Some(url) if url != "sqlite" => {
                let schema = schema.unwrap_or_else(|| PostgresOptions::SCHEMA.to_owned());
                Ok(StoreConfig::Postgres(PostgresOptions { url, password_file, ca_file, schema }))
            }
            _ if password_file.is_some() || ca_file.is_some() || schema.is_some() => {
                Err(ConfigError::OutOfRange {
                    key: "store.url",
                    allowed: "with password_file, ca_file or schema, only postgres://…",
                })
            }
            _ => Ok(StoreConfig::Sqlite),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiSection {
    listen: Option<SocketAddr>,
    #[serde(default)]
    hosts: Vec<String>,
    tls: Option<TlsFiles>,
    session_idle_secs: Option<u64>,
    session_secs: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentsSection {
    listen: Option<SocketAddr>,
    #[serde(default)]
    advertise: Vec<String>,
    heartbeat_secs: Option<u64>,
    presence_grace_secs: Option<u64>,
}

impl ServerConfig {
    /// Everything as usual, with the state in `home` (`LATTICE_HOME/server`).
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            store: StoreConfig::Sqlite,
            api_listen: DEFAULT_API,
            api_tls: None,
            api_hosts: Vec::new(),
            agent_listen: DEFAULT_AGENTS,
            advertise: Vec::new(),
            cluster_name: "lattice".into(),
            min_agent_version: None,
            heartbeat: Duration::from_secs(5),
            presence_grace: Duration::from_secs(30),
            key_source: KeySource::Home,
            blobs: None,
            blobs_per_project: Bytes::GIB,
            images_per_project: Bytes(20 << 30),
            sessions: SessionPolicy {
                idle: Duration::from_secs(7 * 86_400),
                absolute: Duration::from_secs(30 * 86_400),
            },
            planning: Policy {
                node_loss_after: Duration::from_secs(120),
                many_nodes: ManyNodes { least: 3, percent: 50 },
                strategy: Strategy::Spread,
                rebalance: Some(REBALANCE),
            },
            measure_every: Duration::from_secs(86_400),
            pool_hold: Duration::from_secs(60),
            accept_older_store: false,
            backup: None,
            source: None,
        }
    }

    /// The folder of uploaded files.
    pub fn blobs_folder(&self) -> PathBuf {
        self.blobs.clone().unwrap_or_else(|| self.home.join("blobs"))
    }

    /// The folder of the layers of uploaded images, beside those files.
    pub fn layers_folder(&self) -> PathBuf {
        self.blobs_folder().join("images")
    }

    /// Reads a configuration file; what it does not say is as in [`ServerConfig::new`].
    ///
    /// # Errors
    /// [`ConfigError`] names the file, and the key with its line.
    pub fn read(path: &Path, default_home: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path, default_home)
    }

    /// The same of a text that is, or is to be, in the file at `path`.
    ///
    /// # Errors
    /// As [`ServerConfig::read`].
    pub fn parse(text: &str, path: &Path, default_home: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text)
            .map_err(|source| ConfigError::Invalid { path: path.to_owned(), source: Box::new(source) })?;
        let File {
            home,
            cluster_name,
            min_agent_version,
            store,
            api,
            agents,
            backup,
            blobs,
            planning,
            secrets,
            ranking,
        } = file;
        let ApiSection {
            listen: api_listen,
            hosts: api_hosts,
            tls: api_tls,
            session_idle_secs,
            session_secs,
        } = api;
        let AgentsSection { listen, advertise, heartbeat_secs, presence_grace_secs } = agents;
        let PlanningSection {
            node_loss_after_secs,
            many_nodes_least,
            many_nodes_percent,
            strategy,
            pool_hold_secs,
            rebalance,
            rebalance_every_secs,
            rebalance_moves,
            rebalance_after_secs,
        } = planning;
        let usual = Self::new(home.unwrap_or_else(|| default_home.to_owned()));
        let per_project = blobs.per_project.as_deref().map(str::parse).transpose();
        let per_project = per_project.map_err(|_| ConfigError::OutOfRange {
            key: "blobs.per_project",
            allowed: "an amount such as \"1g\"",
        })?;
        let images_per_project = blobs.images_per_project.as_deref().map(str::parse).transpose();
        let images_per_project = images_per_project.map_err(|_| ConfigError::OutOfRange {
            key: "blobs.images_per_project",
            allowed: "an amount such as \"20g\"",
        })?;
        let secs = |given: Option<u64>, usual| given.map_or(usual, Duration::from_secs);
        let config = Self {
            store: store.read()?,
            api_listen: api_listen.unwrap_or(usual.api_listen),
            api_tls,
            api_hosts,
            agent_listen: listen.unwrap_or(usual.agent_listen),
            advertise,
            cluster_name: cluster_name.unwrap_or(usual.cluster_name),
            min_agent_version,
            heartbeat: secs(heartbeat_secs, usual.heartbeat),
            presence_grace: secs(presence_grace_secs, usual.presence_grace),
            backup: backup.map(BackupConfig::of).transpose()?,
            source: Some(path.to_owned()),
            key_source: secrets.read()?,
            blobs: blobs.path,
            blobs_per_project: per_project.unwrap_or(usual.blobs_per_project),
            images_per_project: images_per_project.unwrap_or(usual.images_per_project),
            sessions: SessionPolicy {
                idle: secs(session_idle_secs, usual.sessions.idle),
                absolute: secs(session_secs, usual.sessions.absolute),
            },
            planning: Policy {
                node_loss_after: secs(node_loss_after_secs, usual.planning.node_loss_after),
                many_nodes: ManyNodes {
                    least: many_nodes_least.unwrap_or(usual.planning.many_nodes.least),
                    percent: many_nodes_percent.unwrap_or(usual.planning.many_nodes.percent),
                },
                strategy: strategy.unwrap_or(usual.planning.strategy),
                rebalance: match rebalance {
                    Some(RebalanceWish::Off) => None,
                    Some(RebalanceWish::Gentle) | None => Some(Rebalance {
                        every: secs(rebalance_every_secs, REBALANCE.every),
                        moves: rebalance_moves.unwrap_or(REBALANCE.moves),
                        after: secs(rebalance_after_secs, REBALANCE.after),
                    }),
                },
            },
            measure_every: secs(ranking.measure_every_secs, usual.measure_every),
            pool_hold: secs(pool_hold_secs, usual.pool_hold),
            ..Self::new(usual.home)
        };
        config.check()?;
        Ok(config)
    }

    /// Whether it makes sense; [`crate::Server::start`] checks it too.
    ///
    /// # Errors
    /// [`ConfigError`] says what does not fit together.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.api_listen.ip().is_loopback() && self.api_tls.is_none() {
            return Err(ConfigError::PlainApi { address: self.api_listen });
        }
        if let StoreConfig::Postgres(options) = &self.store {
            options.check().map_err(|source| ConfigError::Store { source: Box::new(source) })?;
        }
        if !(500..=60_000).contains(&self.heartbeat.0) {
            return Err(ConfigError::OutOfRange { key: "agents.heartbeat_secs", allowed: "1 to 60" });
        }
        if self.presence_grace.0 > 3_600_000 {
            return Err(ConfigError::OutOfRange { key: "agents.presence_grace_secs", allowed: "0 to 3600" });
        }
        let sessions = [self.sessions.idle, self.sessions.absolute];
        if sessions.iter().any(|span| !(60_000..=365 * 86_400_000).contains(&span.0)) {
            return Err(ConfigError::OutOfRange {
                key: "api.session_secs or api.session_idle_secs",
                allowed: "60 to 31536000",
            });
        }
        // Shorter than two heartbeats, a node would be lost between them.
        let least = (2 * self.heartbeat.0).max(1000);
        if !(least..=30 * 86_400_000).contains(&self.planning.node_loss_after.0) {
            return Err(ConfigError::OutOfRange {
                key: "planning.node_loss_after_secs",
                allowed: "two heartbeats (agents.heartbeat_secs) to 30 days",
            });
        }
        if !matches!(self.measure_every.0, 0 | 60_000..=2_592_000_000) {
            return Err(ConfigError::OutOfRange {
                key: "ranking.measure_every_secs",
                allowed: "0, which is never, or a minute to 30 days",
            });
        }
        if self.pool_hold.0 > 86_400_000 {
            return Err(ConfigError::OutOfRange { key: "planning.pool_hold_secs", allowed: "0 to 86400" });
        }
        if self.planning.many_nodes.percent > 100 {
            return Err(ConfigError::OutOfRange { key: "planning.many_nodes_percent", allowed: "0 to 100" });
        }
        let day = 1000..=86_400_000u64;
        if let Some(Rebalance { every, moves, after }) = self.planning.rebalance {
            if !day.contains(&every.0) || after.0 > *day.end() {
                return Err(ConfigError::OutOfRange {
                    key: "planning.rebalance_every_secs or rebalance_after_secs",
                    allowed: "1 (one second) to a day, and at most a day",
                });
            }
            if !(1..=1000).contains(&moves) {
                return Err(ConfigError::OutOfRange {
                    key: "planning.rebalance_moves",
                    allowed: "1 to 1000",
                });
            }
        }
        if self.cluster_name.is_empty() || self.cluster_name.len() > 63 {
            return Err(ConfigError::OutOfRange { key: "cluster_name", allowed: "1 to 63 characters" });
        }
        if let Some(version) = &self.min_agent_version
            && !lattice_link::agent_version_ok(version, version)
        {
            return Err(ConfigError::OutOfRange {
                key: "min_agent_version",
                allowed: "a version such as 0.2.0",
            });
        }
        self.advertised(DEFAULT_AGENTS.port()).map(drop)
    }

    /// The Unix socket of the API.
    pub fn socket(&self) -> PathBuf {
        self.home.join("lattice.sock")
    }

    /// Where agents reach the server when it listens on `port`: what the operator said, or the
    /// addresses that this machine seems to have.
    pub(crate) fn advertised(&self, port: u16) -> Result<Vec<ServerAddress>, ConfigError> {
        let given = |text: &String| {
            let with_port = text.parse().or_else(|_| ServerAddress::new(text.trim_matches(['[', ']']), port));
            with_port.map_err(|source| ConfigError::Advertise { source: Box::new(source) })
        };
        if !self.advertise.is_empty() {
            return self.advertise.iter().map(given).collect();
        }
        let listen = self.agent_listen.ip();
        let hosts = match (listen.is_unspecified(), outward_address()) {
            (false, _) => vec![listen.to_string()],
            // Loopback last: from another machine it leads nowhere, and here it always works.
            (true, Some(ip)) => vec![ip.to_string(), Ipv4Addr::LOCALHOST.to_string()],
            (true, None) => vec![Ipv4Addr::LOCALHOST.to_string()],
        };
        hosts.iter().map(given).collect()
    }

    /// Names and addresses for the certificate that agents see.
    pub(crate) fn certificate_hosts(&self, advertised: &[ServerAddress]) -> Vec<String> {
        let mut hosts: Vec<String> = advertised.iter().map(|address| address.host().to_owned()).collect();
        hosts.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
        if !self.agent_listen.ip().is_unspecified() {
            hosts.push(self.agent_listen.ip().to_string());
        } else if let Some(ip) = outward_address() {
            hosts.push(ip.to_string());
        }
        let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        if ServerAddress::new(&name, 1).is_ok() {
            hosts.push(name);
        }
        hosts
    }
}

/// The address by which this machine reaches others. Connecting a UDP socket sends nothing: it
/// only asks the routing table (192.0.2.0/24 is kept for documentation).
fn outward_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ServerConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        ServerConfig::read(&path, Path::new("/var/lib/lattice")).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {source}")
        })
    }

    #[test]
    fn a_file_says_what_differs() {
        let text = "cluster_name = \"attic\"\n[agents]\nlisten = \"127.0.0.1:1\"\nadvertise = [\"attic.example:9\", \"10.0.0.1\"]\n";
        let config = read(text).unwrap();
        assert_eq!((config.cluster_name.as_str(), config.api_listen), ("attic", DEFAULT_API));
        let addresses: Vec<_> = config.advertised(7443).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["attic.example:9", "10.0.0.1:7443"]);
        assert_eq!(config.home, Path::new("/var/lib/lattice"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("clustername = \"x\"", "clustername"),
            ("[api]\nlisten = \"0.0.0.0:7400\"", "api.tls"),
            ("[agents]\nheartbeat_secs = 0", "heartbeat_secs"),
            ("[agents]\nadvertise = [\"not a host\"]", "advertise"),
            ("min_agent_version = \"new\"", "min_agent_version"),
            ("[store]\nurl = \"mysql://x\"", "postgres://"),
            ("[store]\npassword_file = \"x\"", "store.url"),
            ("[store]\nurl = \"postgres://u:s3cret@h/db?sslmode=prefer\"", "sslmode"),
            ("[store]\nurl = \"postgres://u@h/db\"\npassword_file = \"/none\"", "/none"),
            ("[planning]\nnode_loss_after_secs = 5", "node_loss_after_secs"),
            ("[planning]\nmany_nodes_percent = 101", "many_nodes_percent"),
            ("[planning]\nrebalance_moves = 0", "rebalance_moves"),
            ("[planning]\nrebalance = \"wild\"", "rebalance"),
            ("[planning]\nstrategy = \"luck\"", "strategy"),
            ("[api\n", "server.toml"),
            ("[backup]\nurl = \"/b\"", "passphrase_file or recipients"),
            ("[backup]\nurl = \"/b\"\nrecipients = [\"age1x\"]\npassphrase_file = \"p\"", "either"),
            ("[backup]\nurl = \"/b\"\nrecipients = [\"age1x\"]", "age1x"),
            ("[backup]\nurl = \"ftp://b\"\npassphrase_file = \"p\"", "s3://"),
            ("[backup]\nurl = \"/b\"\nevery = \"often\"\npassphrase_file = \"p\"", "backup.every"),
            ("[backup]\nurl = \"/b\"\nkeep = 0\npassphrase_file = \"p\"", "backup.keep"),
            ("[backup]\nurl = \"/b\"\npassphrase = \"secret\"", "passphrase"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{text:?}: {error}");
        }
    }
}
