//! Two servers on one PostgreSQL; the one that plans is killed.

use super::web;
use lattice_e2e::{Cluster, Options, eventually, http};

#[test]
fn the_leader_is_killed_and_the_other_plans_on() {
    let mut cluster = Cluster::with(Options { second: true, ..Options::default() });
    let agent = cluster.join("a");
    let _ = cluster.deploy("site", &web(""), &[]).ok();
    cluster.serving("site", 1);
    let before = cluster.starts("site");
    let address = cluster.published("site", "web", 8080);
    cluster.start_second();

    cluster.kill_server();
    cluster.turn_to_second();
    // Acknowledged by the one that is left, at once, and planned as soon as the lease of the dead one is over.
    let _ = cluster.lattice(&["scale", "--no-wait", "site/web=2"]).ok();
    cluster.connected(agent.name());
    cluster.serving("site", 2);
    assert!(cluster.starts("site").contains(&before[0]), "what ran runs on");
    assert_eq!(http(address).expect("it runs on").0, 200);
    let _ = cluster.lattice(&["rm", "site"]).ok();
    eventually("nothing is left", || agent.made() == (vec![], vec![], vec![]));
}
