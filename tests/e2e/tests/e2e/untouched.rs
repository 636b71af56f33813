//! What was on the machine before is as it was, however much it looks like Lattice's.

use super::sleepers;
use lattice_e2e::{BUSYBOX, Cluster, Engine, eventually};
use serde_json::Value;

/// A container, a volume and a network with labels and names as Lattice gives them, but of no node, or another's.
struct Foreign<'a> {
    engine: &'a Engine,
    name: String,
}

impl<'a> Foreign<'a> {
    fn new(engine: &'a Engine, name: &str, labels: &[(&str, &str)]) -> Self {
        let name = format!("{name}_{}", std::process::id());
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("--label={key}={value}")).collect();
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        let docker =
            |front: &[&str], back: &[&str]| drop(engine.docker(&[front, &labels, back].concat()).ok());
        docker(&["network", "create"], &[&name]);
        docker(&["volume", "create"], &[&name]);
        let mount = format!("{name}:/data");
        let command = ["sh", "-c", "echo precious >/data/word; sleep 100000"];
        let front = ["run", "--detach", "--name", &name, "--network", &name, "--volume", &mount];
        docker(&front, &[&[BUSYBOX][..], &command].concat());
        Self { engine, name }
    }

    /// All that can be seen of them.
    fn state(&self) -> [Value; 3] {
        let mut container = self.engine.inspect("container", &self.name);
        let state = &mut container["State"];
        assert_eq!(state["Running"], true, "{state:#}");
        ["container", "volume", "network"].map(|kind| match kind {
            "container" => container.clone(),
            kind => self.engine.inspect(kind, &self.name),
        })
    }
}

impl Drop for Foreign<'_> {
    fn drop(&mut self) {
        self.engine.docker(&["rm", "--force", &self.name]);
        self.engine.docker(&["network", "rm", &self.name]);
        self.engine.docker(&["volume", "rm", "--force", &self.name]);
    }
}

#[test]
fn what_was_there_before() {
    let cluster = Cluster::start();
    let stack = [("lattice.stack", "default/s"), ("lattice.project", "default")];
    let other = "0193e2f0-7d0a-4c57-9d1c-2f6f8a1b9c3d";
    let of_another_node =
        [("lattice.node", other), ("lattice.allocation", other), ("lattice.stack", "default/s")];
    let foreign = [
        Foreign::new(&cluster.engine, "plain", &[]),
        Foreign::new(&cluster.engine, "lattice_s_one_1", &stack),
        Foreign::new(&cluster.engine, "lattice_s_data", &of_another_node),
    ];
    let before: Vec<_> = foreign.iter().map(Foreign::state).collect();

    let mut agent = cluster.join("a");
    let text =
        sleepers(&[("one", "    volumes: [\"data:/data\"]\n"), ("two", "")]) + "volumes: { data: {} }\n";
    let _ = cluster.deploy("s", &text, &[]).ok();
    cluster.serving("s", 2);
    let _ = cluster.lattice(&["scale", "s/two=2"]).ok();
    cluster.serving("s", 3);
    let _ = cluster.lattice(&["restart", "s"]).ok();
    cluster.serving("s", 3);
    agent.kill();
    agent.start();
    cluster.connected("a");
    let _ = cluster.lattice(&["rm", "--volumes", "--yes", "s"]).ok();
    eventually("nothing of Lattice's is left", || agent.made() == (vec![], vec![], vec![]));

    let after: Vec<_> = foreign.iter().map(Foreign::state).collect();
    assert_eq!(before, after);
    let word = cluster.engine.docker(&["exec", &foreign[1].name, "cat", "/data/word"]).ok();
    assert_eq!(word.text(), "precious");
}
