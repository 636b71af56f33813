//! A new version that fails is taken back by itself, and a person goes back to any that came up; pools say where.

use lattice_api::{RolloutState, RolloutView};
use lattice_e2e::{BUSYBOX, Bed, Cluster, PATIENCE, until};

/// Three replicas that say which version they are; `command` is what they do.
fn version(word: &str, command: &str, more: &str) -> String {
    format!(
        r#"services:
  web:
    image: {BUSYBOX}
    environment: {{ WORD: {word} }}
    command: [sh, -c, "{command}"]
    stop_grace_period: 1s
    deploy:
      replicas: 3
      resources: {{ limits: {{ cpus: "0.1", memory: 16M }} }}
      update_config: {{ failure_action: rollback, monitor: 1s }}
{more}"#
    )
}

const RUNS: &str = "trap 'exit 0' TERM; echo $$WORD; sleep 100000 & wait";

fn rollout(cluster: &Cluster) -> RolloutView {
    cluster.lattice(&["rollout", "status", "s", "-o", "json"]).ok().json()
}

/// What the replicas say that they are.
fn words(cluster: &Cluster) -> String {
    cluster.lattice(&["logs", "s/web"]).ok().stdout
}

#[test]
fn what_fails_is_taken_back_and_what_came_up_is_gone_back_to() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    let _ = cluster.deploy("s", &version("one", RUNS, ""), &[]).ok();
    let first = cluster.starts("s");
    // At once: the first one is still being watched, and is what to come back to all the same.
    let failed = cluster.deploy("s", &version("two", "echo no $$WORD here; exit 3", ""), &[]).ended(1);
    let _ = failed.says(&["web", "it was taken back", "exit code 3"]);
    cluster.serving("s", 3);
    // Its container and its log are gone; what it wrote last is kept with what happened.
    let told = cluster.events("s");
    let last = |event: &lattice_api::EventView| {
        event.cause.as_deref().is_some_and(|why| why.contains("exit code 3") && why.contains("no two here"))
    };
    assert!(told.iter().any(last), "{told:#?}");
    let stayed = cluster.starts("s").iter().filter(|run| first.contains(run)).count();
    assert_eq!(stayed, 2, "what was not replaced yet runs on");
    let _ = cluster.lattice(&["rollout", "status", "s"]).ok().says(&[
        "taken back",
        "2 by",
        "the present one, taken back",
    ]);

    let _ = cluster.deploy("s", &version("three", RUNS, ""), &[]).ok();
    let done = until("the third version has come up", PATIENCE, || match rollout(&cluster) {
        view if view.workloads[0].state == RolloutState::Done => Ok(view),
        other => Err(other),
    });
    let kept: Vec<_> = done.revisions.iter().map(|kept| (kept.version, kept.came_up)).collect();
    assert_eq!(kept, [(3, true), (2, false), (1, true)]);
    // Back to the last one that came up, not to the last one.
    let _ =
        cluster.lattice(&["rollout", "undo", "s", "--dry-run"]).ok().says(&["version 4", "~ service web"]);
    let _ = cluster.lattice(&["rollout", "undo", "s"]).ok();
    cluster.serving("s", 3);
    let said = words(&cluster);
    assert!(said.contains("one") && !said.contains("three"), "{said}");
    let _ = cluster
        .lattice(&["rollout", "undo", "s", "--to", "9"])
        .ended(1)
        .says(&["version 9", "rollout status s"]);
    let _ = cluster.lattice(&["rollout", "undo", "s", "--to", "3"]).ok();
    assert!(words(&cluster).contains("three"));
}

#[test]
fn a_canary_is_promoted_by_a_person_and_one_that_fails_never_stops_the_old_ones() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    let tried = "    x-lattice: { update: { strategy: canary, canary: 1, bake: 1s, promote: manual } }\n";
    let _ = cluster.deploy("s", &version("one", RUNS, tried), &[]).ok();
    let first = cluster.starts("s");
    // It waits for a person, and that is no failure.
    let _ = cluster.deploy("s", &version("two", RUNS, tried), &[]).ok().says(&["lattice rollout promote s"]);
    let beside = cluster.starts("s");
    assert_eq!(
        (beside.len(), beside.iter().filter(|run| first.contains(run)).count()),
        (4, 3),
        "{beside:#?}"
    );
    let _ = cluster.lattice(&["rollout", "pause", "s"]).ok().says(&["paused by"]);
    let _ = cluster.lattice(&["rollout", "promote", "s"]).ended(1).says(&["lattice rollout resume s"]);
    let _ = cluster.lattice(&["rollout", "resume", "s"]).ok().says(&["on trial", "1"]);
    let _ = cluster.lattice(&["rollout", "promote", "s"]).ok();
    until("the second version has come up", PATIENCE, || match rollout(&cluster) {
        view if view.workloads[0].state == RolloutState::Done => Ok(()),
        other => Err(other),
    });
    assert!(!words(&cluster).contains("one"));
    let second = cluster.starts("s");
    let failed = cluster.deploy("s", &version("three", "exit 3", tried), &[]).ended(1);
    let _ = failed.says(&["web", "it was taken back"]);
    until("nothing but the second version is left", PATIENCE, || match cluster.starts("s") {
        now if now == second => Ok(()),
        now => Err(now),
    });
}

#[test]
fn a_pool_is_where_its_services_are() {
    let cluster = Bed::up(2, &[]);
    let in_lab = version("one", RUNS, "    x-lattice: { pool: lab }\n");
    let _ = cluster.deploy("s", &in_lab, &[]).ended(1).says(&["there is no pool lab", "lattice pool"]);
    let _ = cluster.lattice(&["pool", "create", "lab", "--description", "the old ones"]).ok();
    let _ = cluster.lattice(&["node", "set", "n2", "--pool", "lab", "--label", "disk=ssd"]).ok();
    let _ = cluster.lattice(&["pool", "ls"]).ok().says(&["default", "lab", "the old ones"]);
    let _ = cluster.deploy("s", &in_lab, &[]).ok();
    let at = || cluster.serving("s", 3).iter().map(|a| a.node.to_string()).collect::<Vec<_>>();
    assert_eq!(at(), ["n2"; 3]);
    // A node that goes to another pool gives its work away, by turns; what that means is told before.
    let dry = cluster.lattice(&["node", "set", "n2", "--pool", "default", "--dry-run"]).ok();
    let _ = dry.says(&["n2 would go from pool lab to default", "s/web#1"]);
    let _ = cluster.lattice(&["node", "set", "n1", "--pool", "lab"]).ok();
    let _ = cluster.lattice(&["node", "set", "n2", "--pool", "default"]).ok();
    until("all of it is on the other node", PATIENCE, || {
        let now = at();
        if now == ["n1"; 3] { Ok(()) } else { Err(now) }
    });
    // Data goes to no pool that is not trusted with it.
    let data = "    volumes: [data:/data]\nvolumes: { data: {} }\n";
    let refused =
        cluster.deploy("d", &version("one", RUNS, &format!("    x-lattice: {{ pool: lab }}\n{data}")), &[]);
    let _ = refused.ended(1).says(&["not trusted", "lattice pool set lab --trusted"]);
    let _ = cluster.lattice(&["pool", "rm", "lab"]).ended(1).says(&["lab"]);
    let _ = cluster.lattice(&["rm", "--yes", "s"]).ok();
    let _ = cluster.lattice(&["node", "set", "n1", "--pool", "default"]).ok();
    let _ = cluster.lattice(&["pool", "rm", "lab"]).ok();
}
