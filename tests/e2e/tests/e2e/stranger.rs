//! Somebody who has never seen this: every message has a next step.

use super::sleepers;
use lattice_e2e::{Agent, Cluster, Engine, Home, Output, program};
use std::{process::Command, sync::Arc};

fn bare(home: &Home, args: &[&str]) -> Output {
    let mut command = Command::new(program("lattice"));
    command.args(args).env("LATTICE_HOME", home.path());
    for name in ["LATTICE_SERVER", "LATTICE_TOKEN", "LATTICE_TOKEN_FILE", "LATTICE_PROJECT"] {
        command.env_remove(name);
    }
    Output::of(&command, b"")
}

#[test]
fn without_a_server() {
    let home = Home::new();
    let commands = ["up", "deploy", "ps", "logs", "exec", "node", "token", "rm", "events"];
    let _ = bare(&home, &["--help"]).ok().says(&commands).says(&["LATTICE_HOME", "Exit codes"]);
    let _ = bare(&home, &["--version"]).ok().says(&["lattice 0."]);
    let _ = bare(&home, &[]).ended(2).says(&["Usage"]);
    let _ = bare(&home, &["deplyo"]).ended(2).says(&["deploy"]);
    for args in [&["ps"][..], &["node", "ls"], &["status"], &["logs", "web"], &["run", "busybox"]] {
        let _ = bare(&home, args).ended(4).says(&["lattice up", "cannot reach"]);
    }
    let _ = bare(&home, &["--server", "ftp://example.org", "ps"]).ended(2).says(&["https://"]);
    let _ = bare(&home, &["server", "--config", "/no/such.toml"]).failed().says(&["/no/such.toml"]);
    std::fs::write(home.join("bad.toml"), "[agents]\nlissten = 1\n").unwrap();
    let bad = home.join("bad.toml").display().to_string();
    let _ = bare(&home, &["server", "--config", &bad]).failed().says(&["lissten"]);
    let folder = Command::new(program("lattice")).arg("deploy").current_dir(home.path()).output().unwrap();
    assert_eq!(folder.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&folder.stderr).contains("-f"));
}

#[test]
fn an_agent_alone() {
    let mut agent = Agent::new("alone", Arc::new(Engine::shared()));
    let _ = agent.lattice_agent(&["run"], b"").failed().says(&["lattice-agent join", "lattice token create"]);
    let _ = agent.lattice_agent(&["status"], b"").failed_or_ok().says(&["lattice-agent join"]);
    std::fs::write(agent.folder().join("agent.toml"), "cpuu = 2\n").unwrap();
    agent.start();
    assert!(!agent.wait().success());
    assert!(agent.log().contains("cpuu"), "{}", agent.log());
}

trait Either {
    fn failed_or_ok(self) -> Self;
}

impl Either for Output {
    fn failed_or_ok(self) -> Self {
        if self.code == 0 { self } else { self.failed() }
    }
}

#[test]
fn with_an_empty_cluster() {
    let mut cluster = Cluster::start();
    let _ = cluster.lattice(&["status"]).ok().says(&["ready", "lattice token create"]);
    let _ = cluster.lattice(&["ps"]).ok().says(&["lattice deploy"]);
    let _ = cluster.lattice(&["node", "ls"]).ok().says(&["lattice token create"]);
    let _ = cluster.lattice(&["volume", "ls"]).ok().says(&["volumes:"]);
    let _ = cluster.lattice(&["rm", "nothing"]).ended(3).says(&["nothing", "lattice deploy"]);
    let _ = cluster.lattice(&["logs", "nothing"]).ended(3).says(&["nothing"]);
    let _ = cluster.lattice(&["stop", "nothing"]).ended(3).says(&["nothing"]);
    let _ = cluster.lattice(&["scale", "web=many"]).ended(2).says(&["web=3"]);
    let _ = cluster.lattice(&["node", "approve", "nobody", "--yes"]).ended(3).says(&["nobody"]);
    let _ = cluster.lattice(&["token", "create", "--ttl", "soon"]).ended(2).says(&["1h30m"]);
    // Without a node: it waits, and says for what.
    let waits = cluster.deploy("s", &sleepers(&[("one", "")]), &["--timeout", "1s"]).ended(1);
    let _ = waits.says(&["no nodes yet", "lattice"]);
    let _ = cluster.lattice(&["ps"]).ok().says(&["s/one#1", "pending", "no nodes yet"]);
    let _ = cluster.lattice(&["exec", "s/one", "true"]).failed();
    let _ = cluster.lattice(&["rm", "s"]).ok();
    cluster.is_empty();
    // A second server on the same home is refused, and does no harm.
    let second = cluster.lattice(&["server", "--home", cluster.home().to_str().unwrap()]);
    let _ = second.failed().says(&["another"]);
    let _ = cluster.lattice(&["status"]).ok();
    assert!(cluster.stop_server().success());
    let _ = cluster.lattice(&["status"]).ended(4).says(&["lattice up"]);
}
