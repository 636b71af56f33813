//! A testbed: the network, a server, nodes.

use crate::{
    error::{Result, TestbedError},
    images,
    machine::{Machine, Tie},
    network::{HUB, MOST_NODES, Network, Port},
    node::Node,
    run::until,
    server::Server,
    sweep,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

const STATE: &str = "testbed.json";
const SERVER: &str = "server";

/// What a testbed is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name; a fresh one where absent.
    pub name: Option<String>,
    /// How many nodes: n1, n2, …
    pub nodes: u8,
    /// The size of each node's disk, a file that takes only what is written; a plain folder where absent, which cannot
    /// be filled.
    pub disk_mib: Option<u32>,
    /// Images of the host's engine that each node gets.
    pub images: Vec<String>,
    /// Keys of the server's configuration, as `agents.heartbeat_secs` with what stands behind the `=` in TOML.
    pub server: Vec<(String, String)>,
    /// Lines of each node's `agent.toml`.
    pub agent: String,
    /// What its life hangs on.
    pub tie: Tie,
}

impl Options {
    /// So many nodes that end with this process, with these images.
    pub fn nodes(nodes: u8, images: &[&str]) -> Self {
        Self {
            name: None,
            nodes,
            disk_mib: Some(4096),
            images: images.iter().map(|&image| image.to_owned()).collect(),
            server: Vec::new(),
            agent: String::new(),
            tie: Tie::Process,
        }
    }

    /// The same, with a key of the server's configuration.
    #[must_use]
    pub fn server_key(mut self, key: &str, value: &str) -> Self {
        self.server.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// What a later process has to know.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    nodes: u8,
    disk_mib: Option<u32>,
}

/// A testbed. Dropping one that is tied to this process removes it.
#[derive(Debug)]
pub struct Testbed {
    name: String,
    folder: PathBuf,
    tie: Tie,
    network: Arc<Network>,
    server: Server,
    nodes: Vec<Node>,
}

impl Testbed {
    fn new(name: &str, folder: PathBuf, tie: Tie, state: &State) -> Self {
        let machine = |machine: &str, disk| {
            Machine::new(machine, folder.join(machine), sweep::group(name, machine), disk, tie)
        };
        let network = Arc::new(Network::new(machine(HUB, None)));
        let server = Server::new(machine(SERVER, None), Arc::clone(&network));
        let nodes = (1..=state.nodes).map(|number| {
            Node::new(machine(&format!("n{number}"), state.disk_mib), Arc::clone(&network), Port(number))
        });
        let nodes = nodes.collect();
        Self { name: name.to_owned(), folder, tie, network, server, nodes }
    }

    /// Starts one: server and nodes, joined by a token and approved by hand, connected.
    ///
    /// # Errors
    /// Where this machine cannot carry one, or something does not start. Nothing is left then.
    pub fn up(options: &Options) -> Result<Self> {
        let Options { name, nodes, disk_mib, images, server, agent, tie } = options;
        if *nodes > MOST_NODES {
            return Err(TestbedError::Senseless(format!("a testbed has at most {MOST_NODES} nodes")));
        }
        sweep::sweep();
        let name = name.clone().unwrap_or_else(|| sweep::fresh_name("bed"));
        let folder = sweep::claim(&name, *tie)?;
        let state = State { nodes: *nodes, disk_mib: *disk_mib };
        let bed = Self::new(&name, folder, *tie, &state);
        match bed.begin(&state, images, server, agent) {
            Ok(()) => Ok(bed),
            Err(error) => {
                bed.down();
                Err(error)
            }
        }
    }

    fn begin(
        &self,
        state: &State,
        images: &[String],
        server: &[(String, String)],
        agent: &str,
    ) -> Result<()> {
        let path = self.folder.join(STATE);
        let text = serde_json::to_vec(state).unwrap_or_default();
        fs::write(&path, text).map_err(TestbedError::file("write", &path))?;
        let archives =
            images.iter().map(|image| images::save(image, &self.folder)).collect::<Result<Vec<_>>>()?;
        self.network.boot()?;
        self.server.configure(server)?;
        thread::scope(|scope| {
            let begun = self.nodes.iter().map(|node| scope.spawn(|| node.install(agent, &archives)));
            let begun: Vec<_> = begun.collect();
            let server = self.server.boot();
            begun.into_iter().map(joined).fold(server, Result::and)
        })?;
        if !self.nodes.is_empty() {
            self.join_all()?;
        }
        Ok(())
    }

    /// All nodes join by one token, are approved by hand, and connect.
    fn join_all(&self) -> Result<()> {
        let uses = self.nodes.len().to_string();
        let said = self.server.lattice(&["token", "create", "--uses", &uses, "--description", "testbed"])?;
        if said.code != 0 || said.stdout.trim().is_empty() {
            let (what, command) = ("making a join token".to_owned(), "lattice token create".to_owned());
            return Err(TestbedError::Command { what, command, output: said.stderr });
        }
        // Only this user reads the testbed's folders.
        let file = self.folder.join("token");
        fs::write(&file, said.stdout.trim()).map_err(TestbedError::file("write", &file))?;
        let failed = AtomicBool::new(false);
        thread::scope(|scope| {
            let failed = &failed;
            let begun = self.nodes.iter().map(|node| {
                let file = &file;
                scope.spawn(move || {
                    let result = node.join(file).and_then(|()| node.start_agent());
                    failed.fetch_or(result.is_err(), Ordering::SeqCst);
                    result
                })
            });
            let begun: Vec<_> = begun.collect();
            let mut left: BTreeSet<&str> = self.nodes.iter().map(Node::name).collect();
            let mut refused = String::new();
            let approved = until("the nodes ask to join", Node::PATIENCE, || {
                for (name, approval, _) in self.cluster()? {
                    if approval == "pending" && left.contains(name.as_str()) {
                        let said = self.server.lattice(&["node", "approve", "--yes", &name])?;
                        if said.code == 0 {
                            left.remove(name.as_str());
                        } else {
                            refused = said.stderr;
                        }
                    }
                }
                // One that failed asks no more, and says why below.
                let ended = left.is_empty() || failed.load(Ordering::SeqCst);
                Ok(if ended { Ok(()) } else { Err(format!("{left:?} did not; {refused}")) })
            });
            let joined = begun.into_iter().map(joined).fold(Ok(()), Result::and);
            joined.and(approved)
        })?;
        let _ = fs::remove_file(&file);
        until("the nodes are connected", Node::PATIENCE, || {
            let cluster = self.cluster()?;
            let all = cluster.iter().all(|(_, _, presence)| presence == "connected");
            Ok(if all && cluster.len() == self.nodes.len() { Ok(()) } else { Err(format!("{cluster:?}")) })
        })
    }

    /// What the server knows: each node's name, whether it was approved, whether it is connected.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn cluster(&self) -> Result<Vec<(String, String, String)>> {
        let said = self.server.lattice(&["node", "ls", "-o", "json"])?;
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(&said.stdout).map_err(|_| TestbedError::Command {
                what: "asking the server".into(),
                command: "lattice node ls".into(),
                output: said.stderr.clone(),
            })?;
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let row = |row: &serde_json::Value| {
            (word(&row["name"]), word(&row["approval"]), word(&row["presence"]["state"]))
        };
        Ok(rows.iter().map(row).collect())
    }

    /// One that an earlier process started.
    ///
    /// # Errors
    /// [`TestbedError::Unknown`].
    pub fn open(name: &str) -> Result<Self> {
        let folder = sweep::folder().join(name);
        let unknown =
            || TestbedError::Unknown { what: "testbed", name: name.to_owned(), there: sweep::names() };
        let text = fs::read(folder.join(STATE)).map_err(|_| unknown())?;
        let state: State = serde_json::from_slice(&text).map_err(|_| unknown())?;
        if sweep::tie(&folder) == Tie::Process {
            return Err(TestbedError::Senseless(format!("testbed {name} belongs to a process that uses it")));
        }
        Ok(Self::new(name, folder, Tie::Free, &state))
    }

    /// The names of this user's testbeds.
    pub fn names() -> Vec<String> {
        sweep::names()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The nodes, by number.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node.
    ///
    /// # Errors
    /// [`TestbedError::Unknown`].
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).ok_or_else(|| TestbedError::Unknown {
            what: "node",
            name: name.to_owned(),
            there: self.nodes.iter().map(|node| node.name().to_owned()).collect(),
        })
    }

    /// A machine that is no part of the cluster.
    pub(crate) fn stranger(&self, name: &str) -> Machine {
        // It ends with this process, and so does whoever reaches it.
        Machine::new(name, self.folder.join(name), sweep::group(&self.name, name), None, Tie::Process)
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The machine in which the bridge is.
    pub fn hub(&self) -> &Machine {
        self.network.hub()
    }

    /// Ends all that runs of it and removes all that is left of it.
    pub fn down(self) {
        // One that is tied goes by being dropped.
        if self.tie == Tie::Free {
            self.clear();
        }
    }

    /// The same, of one that cannot be opened any more.
    pub fn remove(name: &str) {
        if sweep::names().iter().any(|there| there == name) {
            sweep::remove(&sweep::folder().join(name));
        }
    }

    fn clear(&self) {
        // Side by side, since each waits for a kernel that cleans up.
        let machines =
            self.nodes.iter().map(Node::machine).chain([self.server.machine(), self.network.hub()]);
        thread::scope(|scope| {
            for machine in machines {
                scope.spawn(|| machine.kill());
            }
        });
        sweep::remove(&self.folder);
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if self.tie == Tie::Process {
            self.clear();
        }
    }
}

/// A thread's result; its panic goes on here.
fn joined<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    match handle.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
