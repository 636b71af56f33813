//! A cluster on a testbed: several nodes, each a machine of its own that a test may cut off, freeze or kill.

use crate::{cluster::wants_postgres, engine::BUSYBOX, process::tail, view::View};
use lattice_postgres_kit::Postgres;
use lattice_testbed::{House, Node, Options, Power, Testbed};
use serde_json::Value;
use std::{collections::BTreeMap, ops::Deref};

/// A cluster on a testbed; its nodes are n1, n2, … Dropping it ends everything.
#[derive(Debug)]
pub struct Bed {
    view: View,
    testbed: Testbed,
    // Goes last: the server uses it.
    _postgres: Option<Postgres>,
}

/// A container of a stack, as a node's engine shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The allocation's id.
    pub allocation: String,
    /// Where it is.
    pub node: String,
    /// Its id.
    pub container: String,
    /// When it was started last, as the engine writes it.
    pub started_at: String,
    /// Whether it runs.
    pub running: bool,
}

impl Bed {
    /// So many nodes with the small test image; `keys` are of the server's configuration.
    ///
    /// # Panics
    /// When it does not start, which takes root or sudo without a question: a skipped test proves nothing.
    pub fn up(nodes: u8, keys: &[(&str, &str)]) -> Self {
        let mut options = Options::nodes(nodes, &[BUSYBOX]);
        for (key, value) in keys {
            options = options.server_key(key, value);
        }
        let postgres = wants_postgres().then(Postgres::start);
        if let Some(postgres) = &postgres {
            options = options.server_key("store.url", &format!("\"{}\"", postgres.socket_url()));
        }
        let testbed = Testbed::up(&options).unwrap_or_else(|error| panic!("{error}"));
        Self { view: View::new(testbed.server().home()), testbed, _postgres: postgres }
    }

    /// A node.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn node(&self, name: &str) -> &Node {
        self.testbed.node(name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A router, a neighbour and the internet around the nodes, as long as what is given lives.
    ///
    /// # Panics
    /// When it cannot be built.
    pub fn house(&self) -> House {
        self.testbed.house().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The server's machine stands still.
    ///
    /// # Panics
    /// When it is off.
    pub fn freeze_server(&self) {
        self.testbed.server().machine().freeze().unwrap_or_else(|error| panic!("{error}"));
    }

    /// It goes on.
    ///
    /// # Panics
    /// When it is off.
    pub fn thaw_server(&self) {
        self.testbed.server().machine().thaw().unwrap_or_else(|error| panic!("{error}"));
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        self.testbed.nodes()
    }

    /// What a node's engine says about a thing.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn docker(&self, node: &str, args: &[&str]) -> String {
        let said = self.node(node).engine().docker(args).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(said.code, 0, "docker {args:?} on {node}: {}", said.stderr);
        said.stdout.trim().to_owned()
    }

    /// Every running container of a stack of the project `default`, on every node that is on.
    ///
    /// # Panics
    /// When an engine does not answer.
    #[track_caller]
    pub fn running(&self, stack: &str) -> Vec<Found> {
        let mut found = self.containers(stack);
        found.retain(|found| found.running);
        found
    }

    /// The same, those that have ended included: what engines show, whatever the server believes.
    ///
    /// # Panics
    /// When an engine does not answer.
    #[track_caller]
    pub fn containers(&self, stack: &str) -> Vec<Found> {
        let mut found = Vec::new();
        for node in self.nodes().iter().filter(|node| node.power() == Power::On) {
            let filter = format!("label=lattice.stack=default/{stack}");
            let ids =
                self.docker(node.name(), &["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
            for id in ids.lines() {
                // One that goes between two looks is gone.
                let Ok(said) = node.engine().docker(&["container", "inspect", id]) else { continue };
                let list: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
                if said.code != 0 {
                    continue;
                }
                let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                found.push(Found {
                    allocation: word(&list[0]["Config"]["Labels"]["lattice.allocation"]),
                    node: node.name().to_owned(),
                    container: id.to_owned(),
                    started_at: word(&list[0]["State"]["StartedAt"]),
                    running: list[0]["State"]["Running"] == true,
                });
            }
        }
        found.sort();
        found
    }

    /// How many containers of a stack run on each node that has any.
    ///
    /// # Panics
    /// When an engine does not answer.
    #[track_caller]
    pub fn spread(&self, stack: &str) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for found in self.running(stack) {
            *spread.entry(found.node).or_default() += 1;
        }
        spread
    }
}

impl Deref for Bed {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for args in [&["node", "ls"][..], &["ps", "-a"], &["events", "-n", "60"]] {
            eprintln!("{}", self.lattice(args));
        }
        let machines = self.nodes().iter().map(|node| (node.machine(), "agent"));
        for (machine, daemon) in machines.chain([(self.testbed.server().machine(), "server")]) {
            let words = tail(&machine.log_file(daemon), 40);
            eprintln!("---- {}: the last words of the {daemon}\n{words}\n----", machine.name());
        }
    }
}
