//! Docker dies under the agent and comes back: the goal is met again, on the same ports.

use super::{sleepers, web};
use lattice_e2e::{Cluster, PATIENCE, until};
use lattice_model::report::PublishedPort;

fn ports(cluster: &Cluster, stack: &str) -> Vec<(String, Vec<PublishedPort>)> {
    let all = cluster.allocations(stack).into_iter();
    let mut ports: Vec<_> = all.map(|a| (format!("{}#{}", a.workload, a.slot), a.status.ports)).collect();
    ports.sort();
    ports
}

#[test]
fn docker_is_killed_and_comes_back() {
    let cluster = Cluster::on_private_engine();
    let agent = cluster.join("a");
    let volume = "    volumes: [\"data:/data\"]\n";
    let mut text = web("") + &sleepers(&[("keeps", volume)])["services:\n".len()..];
    text.push_str("volumes: { data: {} }\n");
    let _ = cluster.deploy("s", &text, &[]).ok();
    let _ = cluster.lattice(&["scale", "s/web=2"]).ok();
    cluster.serving("s", 3);
    let _ = cluster.lattice(&["exec", "s/keeps", "sh", "-c", "echo kept >/data/word"]).ok();
    let (before, ports_before) = (cluster.starts("s"), ports(&cluster, "s"));
    assert!(ports_before.iter().flat_map(|(_, ports)| ports).count() == 2, "{ports_before:#?}");

    for round in 0..2 {
        cluster.engine.kill();
        // The order stands while there is no engine to carry it out.
        let extra = format!("extra{round}");
        let _ = cluster.deploy(&extra, &sleepers(&[("one", "")]), &["--no-wait"]).ok();
        until("the loss of the engine is told", PATIENCE, || {
            let events = cluster.lattice(&["events", "-n", "200", "-o", "json"]).ok();
            if events.stdout.matches("node.runtime_lost").count() > round {
                Ok(())
            } else {
                Err(events.stdout)
            }
        });
        cluster.engine.start();
        cluster.serving(&extra, 1);
        let now = cluster.serving("s", 3);
        for allocation in &now {
            let state = cluster.engine.inspect("container", &cluster.container(allocation))["State"].clone();
            assert_eq!(state["Running"], true, "{allocation:#?} {state:#}");
        }
        assert_eq!(ports(&cluster, "s"), ports_before, "dynamic ports are kept");
    }
    assert_ne!(cluster.starts("s"), before, "the engine's death was real");
    let word = cluster.lattice(&["exec", "s/keeps", "cat", "/data/word"]).ok();
    assert_eq!(word.text(), "kept");
    cluster.connected(agent.name());
    assert_eq!(agent.made().0.len(), 5, "one container for each allocation");
}
