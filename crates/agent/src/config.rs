//! The owner's word about this machine: `agent.toml` in the agent's folder. Everything has a
//! careful default, and a key that is not known is refused by name. A running agent looks at the
//! file every five seconds: what may run here counts at once, the rest from the next start.
//!
//! ```toml
//! cpu = 2.5                        # cores lent; all of them unless said
//! memory = "60%"                   # or "4g"; 80 % unless said
//! publish_beyond_loopback = false  # whether ports may be published on other addresses than loopback
//! projects = ["default"]           # whose work may run here; everybody's unless said
//! allow_capabilities = ["NET_ADMIN"]  # that containers may have besides the usual ones; none unless said
//! max_ulimits = { nofile = 65536 } # the most of each limit; -1 is any. Usual: nofile 1048576, nice 20, rtprio 0
//! gpus = ["0"]                     # lent, as the driver names them, or "all"; none unless said
//! max_log = "1g"                   # the most output that is kept of one container; 1 GiB unless said
//! docker_host = "/var/run/docker.sock"
//! proxy = "http://user:password@proxy.example:3128"
//! region = "eu-central"            # where this machine is: placement can ask for it as the label region
//! site = "attic"                   # where in the region, as the label site
//! labels = { disk = "fast" }       # more labels; those that an operator gives outrank them
//! metered = true                   # whether its network is paid by volume: the link is not measured then;
//!                                  # as NetworkManager says unless said
//! heartbeat_seconds = 5            # at least so often; the server may want it more often
//! ```

use crate::{
    AgentError,
    error::Result,
    facts::{self, Machine},
};
use lattice_converge::NodePolicy;
use lattice_model::{
    Bytes, Cpu, ProjectName,
    machine::MachineFacts,
    resource::Capacity,
    spec::{CAPABILITIES, ULIMITS},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

/// The Docker socket where nothing else is said.
pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Of the installed memory, where nothing else is said.
const LENT_MEMORY_PERCENT: u64 = 80;

/// The owner's word.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Cores lent.
    cpu: Option<Amount>,
    /// Memory lent: an amount, or a share such as `60%`.
    memory: Option<Amount>,
    /// Whether ports may be published beyond loopback.
    #[serde(default)]
    publish_beyond_loopback: bool,
    /// Whose work may run here.
    projects: Option<BTreeSet<ProjectName>>,
    /// Capabilities that containers may have besides the usual ones.
    #[serde(default)]
    allow_capabilities: BTreeSet<String>,
    /// The most of each limit of the kernel.
    #[serde(default)]
    max_ulimits: BTreeMap<String, i64>,
    /// GPUs that are lent.
    gpus: Option<Gpus>,
    /// The most output that is kept of one container.
    max_log: Option<Amount>,
    /// The engine's socket.
    docker_host: Option<String>,
    /// The HTTP proxy on the way to the servers.
    proxy: Option<String>,
    /// The longest time between two heartbeats.
    heartbeat_seconds: Option<u32>,
    /// Whether its network is paid by volume.
    metered: Option<bool>,
    /// Where this machine is.
    region: Option<String>,
    /// Where in the region it is.
    site: Option<String>,
    /// More labels.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl std::fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cpu,
            memory,
            publish_beyond_loopback,
            projects,
            allow_capabilities,
            max_ulimits,
            gpus,
            max_log,
            docker_host,
            proxy,
            heartbeat_seconds,
            metered,
            region,
            site,
            labels,
        } = self;
        f.debug_struct("AgentConfig")
            .field("cpu", cpu)
            .field("memory", memory)
            .field("publish_beyond_loopback", publish_beyond_loopback)
            .field("projects", projects)
            .field("allow_capabilities", allow_capabilities)
            .field("max_ulimits", max_ulimits)
            .field("gpus", gpus)
            .field("max_log", max_log)
            .field("docker_host", docker_host)
            // A proxy's address may have a password in it.
            .field("proxy", &proxy.is_some())
            .field("heartbeat_seconds", heartbeat_seconds)
            .field("metered", metered)
            .field("region", region)
            .field("site", site)
            .field("labels", labels)
            .finish()
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Amount {
    Whole(u64),
    Real(f64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Gpus {
    Ids(Vec<String>),
    Word(String),
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(n) => n.fmt(f),
            Self::Real(n) => n.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl AgentConfig {
    /// Reads the file; without one everything is as by default.
    ///
    /// # Errors
    /// [`AgentError::Config`] names the mistake and its line.
    pub fn load(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(AgentError::file("read", path)(error)),
        };
        Self::parse(&text).map_err(|problem| AgentError::Config { path: path.to_owned(), problem })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // Without the line itself, which may have the proxy's password in it.
        let config: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("line {}: {}", before.matches('\n').count() + 1, error.message().trim())
        })?;
        let any = Machine { cpus: 1, memory: Bytes::GIB, ..Machine::default() };
        config.cpu(&any)?;
        config.memory(&any)?;
        config.max_log()?;
        config.gpus()?;
        if let Some(name) =
            config.allow_capabilities.iter().find(|name| !CAPABILITIES.contains(&name.as_str()))
        {
            return Err(format!(
                "allow_capabilities: {name} is no capability; write names as in capabilities(7) without CAP_, e.g. NET_ADMIN"
            ));
        }
        if let Some((name, most)) =
            config.max_ulimits.iter().find(|(name, most)| !ULIMITS.contains(&name.as_str()) || **most < -1)
        {
            return Err(format!(
                "max_ulimits: {name} = {most}: write one of {}, and a number or -1",
                ULIMITS.join(", ")
            ));
        }
        let words = [("region", &config.region), ("site", &config.site)];
        let words = words.into_iter().filter_map(|(key, word)| Some((key, word.as_ref()?)));
        for (key, word) in words.chain(config.labels.iter().flat_map(|(k, v)| [("labels", k), ("labels", v)]))
        {
            if word.is_empty() || word.chars().count() > 100 || word.contains(char::is_control) {
                return Err(format!("{key}: write 1 to 100 printable characters"));
            }
        }
        if config.labels.len() > 32 {
            return Err("labels: write no more than 32".into());
        }
        if config.heartbeat_seconds.is_some_and(|s| !(1..=60).contains(&s)) {
            return Err("heartbeat_seconds: write a number from 1 to 60".into());
        }
        if let Some(host) = &config.docker_host {
            let path = host.strip_prefix("unix://").unwrap_or(host);
            if path.is_empty() || path.contains("://") || path.contains(char::is_control) {
                return Err(
                    "docker_host: write the path of a socket on this machine, e.g. /var/run/docker.sock"
                        .into(),
                );
            }
        }
        if let Some(proxy) = &config.proxy {
            proxy.parse::<lattice_link::client::Proxy>().map_err(|error| format!("proxy: {error}"))?;
        }
        Ok(config)
    }

    /// The engine's socket: what the command line says, then the file, then a local
    /// `DOCKER_HOST`, then the usual place.
    pub fn docker_host(&self, given: Option<&str>) -> String {
        let env = || std::env::var("DOCKER_HOST").ok().filter(|host| host.starts_with("unix://"));
        given
            .map(ToOwned::to_owned)
            .or_else(|| self.docker_host.clone())
            .or_else(env)
            .unwrap_or_else(|| DOCKER_SOCKET.to_owned())
    }

    /// The HTTP proxy: the file's, else `HTTPS_PROXY`'s.
    pub(crate) fn proxy(&self) -> Option<lattice_link::client::Proxy> {
        let env = || ["HTTPS_PROXY", "https_proxy"].iter().find_map(|name| std::env::var(name).ok());
        self.proxy.clone().or_else(env).filter(|url| !url.is_empty())?.parse().ok()
    }

    pub(crate) fn heartbeat(&self, server: lattice_model::Duration) -> std::time::Duration {
        let own = self.heartbeat_seconds.map(|s| std::time::Duration::from_secs(s.into()));
        let wanted = server.as_std().max(std::time::Duration::from_millis(200));
        own.map_or(wanted, |own| own.min(wanted))
    }

    /// Whether the network is paid by volume, by the owner's word.
    pub(crate) const fn metered(&self) -> Option<bool> {
        self.metered
    }

    /// What the owner lends of a machine.
    pub fn lent(&self, machine: &Machine) -> Capacity {
        let cpu = self.cpu(machine).unwrap_or(Cpu::from_cores(machine.cpus));
        let memory = self.memory(machine).unwrap_or_default();
        Capacity { cpu, memory, disk: machine.disk_free }
    }

    /// Adds the owner's words to what was measured.
    pub(crate) fn describe(&self, facts: &mut MachineFacts) {
        (facts.region, facts.site, facts.labels) =
            (self.region.clone(), self.site.clone(), self.labels.clone());
    }

    /// Whether the owner lends the GPU of this name, by this file.
    pub(crate) fn lends_gpu(&self, name: &str) -> bool {
        match &self.gpus {
            None => false,
            Some(Gpus::Word(word)) => word == "all",
            Some(Gpus::Ids(ids)) => ids.iter().any(|id| id == name),
        }
    }

    /// What may run on it.
    pub fn policy(&self, machine: &Machine) -> NodePolicy {
        let Capacity { cpu, memory, disk: _ } = self.lent(machine);
        let mut ulimits = NodePolicy::usual_ulimits();
        ulimits.extend(self.max_ulimits.clone());
        NodePolicy {
            publish_beyond_loopback: self.publish_beyond_loopback,
            projects: self.projects.clone(),
            capabilities: self.allow_capabilities.clone(),
            ulimits,
            oom_score_adj: facts::oom_score_adj(),
            logs: self.max_log().unwrap_or(NodePolicy::DEFAULT_LOGS),
            ..NodePolicy::lending(cpu, memory)
        }
    }

    fn gpus(&self) -> Result<(), String> {
        match &self.gpus {
            Some(Gpus::Word(word)) if !matches!(word.as_str(), "all" | "none") => {
                Err("gpus: write \"all\", \"none\", or a list of names such as [\"0\"]".into())
            }
            _ => Ok(()),
        }
    }

    fn max_log(&self) -> Result<Bytes, String> {
        let Some(amount) = &self.max_log else { return Ok(NodePolicy::DEFAULT_LOGS) };
        amount.to_string().parse().map_err(|error| format!("max_log: {error}"))
    }

    fn cpu(&self, machine: &Machine) -> Result<Cpu, String> {
        let all = Cpu::from_cores(machine.cpus);
        let Some(wanted) = &self.cpu else { return Ok(all) };
        let cpu: Cpu = wanted.to_string().parse().map_err(|error| format!("cpu: {error}"))?;
        if cpu.0 == 0 {
            return Err("cpu: lend more than nothing, or stop the agent".into());
        }
        Ok(cpu.min(all))
    }

    fn memory(&self, machine: &Machine) -> Result<Bytes, String> {
        let share = |percent: u64| Bytes((machine.memory.0 / 100).saturating_mul(percent));
        let wanted = match &self.memory {
            None => share(LENT_MEMORY_PERCENT),
            Some(amount) => {
                let text = amount.to_string();
                match text.trim().strip_suffix('%') {
                    Some(percent) => match percent.trim().parse() {
                        Ok(percent @ 1..=100) => share(percent),
                        _ => return Err("memory: write a share from 1% to 100%".into()),
                    },
                    None => text.parse().map_err(|error| format!("memory: {error}"))?,
                }
            }
        };
        if wanted.0 == 0 {
            return Err("memory: lend more than nothing, or stop the agent".into());
        }
        Ok(wanted.min(machine.memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_understood_and_mistakes_are_named() {
        let machine = Machine { cpus: 8, memory: Bytes::from_mib(10_000), ..Machine::default() };
        let lent = |text: &str| AgentConfig::parse(text).unwrap().lent(&machine);
        assert_eq!(lent("").cpu, Cpu::from_cores(8));
        assert_eq!(lent("").memory, Bytes::from_mib(8000));
        assert_eq!(lent("cpu = 2.5\nmemory = \"50%\"").cpu, Cpu(2500));
        assert_eq!(lent("memory = \"4g\"").memory, Bytes(4 << 30));
        assert_eq!(lent("cpu = 99").cpu, Cpu::from_cores(8));
        for (text, word) in [
            ("cpus = 2", "cpus"),
            ("cpu = \"many\"", "cpu"),
            ("memory = \"0%\"", "memory"),
            ("projects = [\"A B\"]", "A B"),
            ("heartbeat_seconds = 0", "heartbeat_seconds"),
            ("allow_capabilities = [\"CAP_NET_ADMIN\"]", "CAP_NET_ADMIN"),
            ("max_ulimits = { files = 1 }", "files"),
            ("gpus = \"some\"", "gpus"),
            ("region = \"\"", "region"),
            ("labels = { a = \"x\\ny\" }", "labels"),
            ("max_log = \"much\"", "max_log"),
            ("proxy = \"socks5://host\"", "proxy"),
            ("cpu = 2\nproxy = \"http://me:s3cret@proxy\" yes", "line 2"),
        ] {
            let problem = AgentConfig::parse(text).unwrap_err();
            assert!(problem.contains(word) && !problem.contains("s3cret"), "{text}: {problem}");
        }
        let policy = |text: &str| AgentConfig::parse(text).unwrap().policy(&machine);
        assert_eq!(policy("").capabilities, BTreeSet::new());
        assert_eq!(policy("").logs, Bytes::GIB);
        let lends = |text: &str| AgentConfig::parse(text).unwrap().lends_gpu("1");
        assert!(!lends("") && !lends("gpus = \"none\"") && !lends("gpus = [\"0\"]"));
        assert!(lends("gpus = \"all\"") && lends("gpus = [\"1\"]"));
        let open = policy(
            "allow_capabilities = [\"NET_ADMIN\"]\ngpus = \"all\"\nmax_ulimits = { nofile = -1 }\nmax_log = \"2g\"",
        );
        assert!(open.capabilities.contains("NET_ADMIN"));
        assert_eq!((open.ulimits["nofile"], open.logs), (-1, Bytes(2 << 30)));
        assert_eq!(open.ulimits["rtprio"], 0, "what is not said stays as usual");
        let config = AgentConfig::parse("proxy = \"http://me:s3cret@proxy:1\"").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
