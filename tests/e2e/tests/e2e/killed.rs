//! kill -9 of the agent, of the server, of both: what runs runs on, is adopted, and nothing acknowledged is lost.

use super::{sleepers, web};
use lattice_api::AllocationView;
use lattice_e2e::{BUSYBOX, Cluster, PATIENCE, Up, eventually, http, until};

fn two(cluster: &Cluster) -> Vec<(String, String, String)> {
    let _ = cluster.deploy("two", &(web("") + &sleepers(&[("other", "")])["services:\n".len()..]), &[]).ok();
    cluster.serving("two", 2);
    cluster.starts("two")
}

#[test]
fn agent() {
    let cluster = Cluster::start();
    let mut agent = cluster.join("a");
    let before = two(&cluster);
    let address = cluster.published("two", "web", 8080);
    agent.kill();
    assert_eq!(http(address).expect("it runs on").0, 200);
    // What dies while nobody looks is found by the next agent.
    let (_, other, _) = before.iter().find(|(name, ..)| name == "other#1").unwrap();
    cluster.engine.kill_container(other);
    agent.start();
    eventually("what died in the meantime runs again", || {
        cluster.starts("two").iter().any(|(name, _, at)| name == "other#1" && *at != before[0].2)
    });
    cluster.serving("two", 2);
    let after = cluster.starts("two");
    assert_eq!(
        after.iter().find(|(name, ..)| name == "web#1"),
        before.iter().find(|(name, ..)| name == "web#1")
    );
    assert_eq!(cluster.published("two", "web", 8080), address);
}

#[test]
fn server() {
    let mut cluster = Cluster::start();
    let agent = cluster.join("a");
    let before = two(&cluster);
    for round in 0..3 {
        // Acknowledged, and in the next moment the server is gone.
        let name = format!("late{round}");
        let _ = cluster.deploy(&name, &sleepers(&[("one", "")]), &["--no-wait"]).ok();
        cluster.kill_server();
        cluster.start_server();
        cluster.serving(&name, 1);
    }
    cluster.connected(agent.name());
    assert_eq!(cluster.starts("two"), before);
    // And it is still in charge.
    let _ = cluster.lattice(&["rm", "late0", "late1", "late2"]).ok();
    let _ = cluster.lattice(&["rm", "two"]).ok();
    eventually("nothing is left", || agent.made() == (vec![], vec![], vec![]));
    cluster.is_empty();
}

#[test]
fn both() {
    let mut cluster = Cluster::start();
    let mut agent = cluster.join("a");
    let before = two(&cluster);
    let _ = cluster.deploy("late", &sleepers(&[("one", ""), ("two", "")]), &["--no-wait"]).ok();
    cluster.kill_server();
    agent.kill();
    agent.start();
    cluster.start_server();
    cluster.serving("late", 2);
    assert_eq!(cluster.starts("two"), before);
    // Once more, the server first; a scale that was acknowledged is there.
    let _ = cluster.lattice(&["scale", "late/one=3", "--no-wait"]).ok();
    agent.kill();
    cluster.kill_server();
    cluster.start_server();
    agent.start();
    cluster.serving("late", 4);
    assert_eq!(cluster.starts("two"), before);
    let names = cluster.starts("late").into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    assert_eq!(names, ["one#1", "one#2", "one#3", "two#1"]);
}

/// A storm: each death at another moment of a deployment.
#[test]
fn in_the_middle_of_deployments() {
    let mut cluster = Cluster::start();
    let mut agent = cluster.join("a");
    for round in 0..4u64 {
        let name = format!("s{round}");
        let _ = cluster.deploy(&name, &sleepers(&[("a", ""), ("b", ""), ("c", "")]), &["--no-wait"]).ok();
        // How far it has come is the engine's to say, and differs by round.
        until("it has come so far", PATIENCE, || {
            let made = cluster.engine.labelled(&format!("lattice.stack=default/{name}")).len() as u64;
            if made >= round { Ok(()) } else { Err(made) }
        });
        agent.kill();
        if round % 2 == 1 {
            cluster.kill_server();
            cluster.start_server();
        }
        agent.start();
    }
    for round in 0..4 {
        let name = format!("s{round}");
        cluster.serving(&name, 3);
        assert_eq!(cluster.starts(&name).len(), 3, "one container for each");
    }
    assert_eq!(agent.made().0.len(), 12, "and none besides");
}

/// `lattice up` is both at once: killed, it leaves the agent, and the next one goes on with that.
#[test]
fn up() {
    let mut up = Up::new();
    up.start();
    let agents = up.agents();
    assert_eq!(agents.len(), 1);
    let sleep = ["run", "--name", "one", BUSYBOX, "sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"];
    let _ = up.lattice(&sleep).ok();
    let container = |up: &Up| {
        let found = up.engine().labelled(&format!("lattice.allocation={}", up_ps(up)[0].id));
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].clone(), up.engine().started_at(&found[0]))
    };
    let before = container(&up);
    up.kill();
    assert_eq!(up.agents(), agents, "the agent is a process of its own");
    let words = up.start();
    assert!(words.contains("already running"), "{words}");
    assert_eq!(up.agents(), agents);
    // And that agent, killed, is started again by `lattice up`.
    let pid = rustix::process::Pid::from_raw(agents[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("another agent runs", PATIENCE, || match up.agents() {
        now if now.len() == 1 && now != agents => Ok(()),
        now => Err(now),
    });
    eventually("the node is back", || {
        up.lattice(&["node", "ls"]).ok().stdout.contains("connected")
            && up_ps(&up).iter().all(|a| a.is_serving())
    });
    assert_eq!(container(&up), before);
    assert!(up.interrupt().success());
    assert!(up.agents().is_empty());
}

/// `lattice up` on other ports: this machine's node is still found.
#[test]
fn up_on_other_ports() {
    let mut up = Up::new();
    up.start();
    assert!(up.interrupt().success());
    up.move_ports();
    up.start();
    assert!(up.interrupt().success());
}

fn up_ps(up: &Up) -> Vec<AllocationView> {
    up.lattice(&["ps", "-o", "json"]).ok().json()
}
