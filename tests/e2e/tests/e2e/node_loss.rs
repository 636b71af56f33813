//! A node is lost: what has no data runs elsewhere, what has waits for it; it comes back, and everything is there once.
//! Then those that a person empties.

use super::nodes::{elsewhere, of, pairs};
use lattice_api::AllocationView;
use lattice_e2e::{BUSYBOX, Bed, Found, PATIENCE, until};
use lattice_model::resource::PresenceState;
use lattice_testbed::{Direction, Power};
use std::collections::BTreeSet;

/// A service that keeps something in a volume.
fn keeper() -> String {
    format!(
        r#"services:
  keeper:
    image: {BUSYBOX}
    stop_grace_period: 1s
    command: [sh, -c, "trap 'exit 0' TERM; sleep 100000 & wait"]
    volumes: ["data:/data"]
    deploy: {{ resources: {{ limits: {{ cpus: "0.1", memory: 16M }} }} }}
volumes: {{ data: {{}} }}
"#
    )
}

/// Six replicas without data and one with, and the node that has the data.
fn six_and_data(bed: &Bed) -> String {
    let _ = bed.deploy("s", &pairs(&["a", "b", "c"]), &[]).ok();
    let _ = bed.deploy("db", &keeper(), &[]).ok();
    bed.serving("s", 6);
    let keeper = bed.serving("db", 1).remove(0);
    let _ = bed.lattice(&["exec", "db/keeper", "sh", "-c", "echo kept >/data/word; sync"]).ok();
    keeper.node.to_string()
}

/// So many replicas serve, none of them on this node.
#[track_caller]
fn serve_elsewhere(bed: &Bed, stack: &str, count: usize, node: &str) {
    until(&format!("{count} of {stack} serve elsewhere"), PATIENCE, || {
        let all = bed.allocations(stack);
        let serving: Vec<_> = all.iter().filter(|a| a.is_serving() && a.node.as_str() != node).collect();
        if serving.len() == count { Ok(()) } else { Err(all) }
    });
}

/// So many replicas and so many containers, each slot once, nothing left over in any engine.
#[track_caller]
fn exactly(bed: &Bed, stack: &str, count: usize) -> Vec<AllocationView> {
    let all = bed.serving(stack, count);
    let slots: BTreeSet<_> = all.iter().map(|a| (a.workload.clone(), a.slot)).collect();
    assert_eq!(slots.len(), count, "each slot once: {all:#?}");
    let ids: BTreeSet<_> = all.iter().map(|a| (a.id.to_string(), a.node.to_string())).collect();
    until("the engines have these containers and no others, the dead ones included", PATIENCE, || {
        let there = bed.containers(stack);
        let there_ids: BTreeSet<_> = there.iter().map(|f| (f.allocation.clone(), f.node.clone())).collect();
        if there.len() == count && there_ids == ids && there.iter().all(|f| f.running) {
            Ok(())
        } else {
            Err(there)
        }
    });
    all
}

#[test]
fn cut_off_then_killed_and_back_again() {
    let bed = Bed::up(3, &[("planning.node_loss_after_secs", "4")]);
    let lost = six_and_data(&bed);
    let lost = lost.as_str();
    let before = bed.running("s");
    let its = |found: &Found| found.node == lost;

    // Packets vanish both ways. The node cannot know, and what runs there runs on.
    bed.node(lost).drop_packets(Direction::Both).unwrap();
    bed.node_is(lost, "lost", |node| node.presence.state == PresenceState::Lost);
    serve_elsewhere(&bed, "s", 6, lost);
    assert_eq!(of(&bed.running("s"), its), of(&before, its), "a cut link changes nothing on the node");
    assert!(
        of(&before, elsewhere(lost)).iter().all(|found| bed.running("s").contains(found)),
        "nor elsewhere"
    );

    // Then its power goes. The data is where it was, and its user waits for it.
    bed.node(lost).kill().unwrap();
    assert_eq!(bed.running("s").len(), 6);
    let _ = bed.lattice(&["explain", "db/keeper"]).ok().says(&[&format!("is on {lost}"), "lost"]);
    let _ = bed.lattice(&["ps", "db"]).ok().says(&["keeper"]);
    assert_eq!(bed.running("db"), [], "nobody begins again with nothing");
    let moved = bed.running("s");

    // It comes back as it went: with its containers, its goal and its data.
    bed.node(lost).heal_network().unwrap();
    bed.node(lost).revive().unwrap();
    bed.connected(lost);
    exactly(&bed, "db", 1);
    // The container is there before the server has heard of it.
    let _ = bed.serving("db", 1);
    let word = bed.lattice(&["exec", "db/keeper", "cat", "/data/word"]).ok();
    assert_eq!(word.text(), "kept");
    exactly(&bed, "s", 6);
    let now = bed.running("s");
    assert!(
        of(&before, elsewhere(lost)).iter().all(|found| now.contains(found)),
        "who was never concerned was never started again: {before:#?} {moved:#?} {now:#?}"
    );
    assert!(bed.nodes().iter().all(|node| node.power() == Power::On));
}

/// The node never went down: everything there ran on, twice as much of the cluster as was asked for.
#[test]
fn cut_off_for_long_and_back_again() {
    let bed = Bed::up(3, &[("planning.node_loss_after_secs", "4")]);
    let lost = six_and_data(&bed);
    let lost = lost.as_str();
    let (before, keeper) = (bed.running("s"), bed.running("db"));
    bed.node(lost).drop_packets(Direction::Both).unwrap();
    bed.node_is(lost, "lost", |node| node.presence.state == PresenceState::Lost);
    serve_elsewhere(&bed, "s", 6, lost);
    assert_eq!(bed.running("s").len(), 8);
    assert_eq!(bed.running("db"), keeper, "whose data is there runs there, and nowhere else");

    bed.node(lost).heal_network().unwrap();
    bed.connected(lost);
    exactly(&bed, "s", 6);
    let now = bed.running("s");
    let same = before.iter().filter(|found| now.contains(found)).count();
    assert!(same >= 4, "who was never concerned was never started again: {before:#?} {now:#?}");
    exactly(&bed, "db", 1);
    assert_eq!(bed.running("db"), keeper, "it has not noticed anything");
}

/// The server stands still for longer than nodes may: that is its own trouble, not theirs.
#[test]
fn the_server_sleeps_and_wakes() {
    let bed = Bed::up(2, &[("planning.node_loss_after_secs", "4")]);
    let _ = bed.deploy("s", &pairs(&["a", "b"]), &[]).ok();
    bed.serving("s", 4);
    let (before, told) = (bed.running("s"), bed.events("s").len());
    bed.freeze_server();
    for node in bed.nodes() {
        until("the agent misses the server", PATIENCE, || {
            let log = node.agent_log();
            if log.contains("no link to the server") { Ok(()) } else { Err(log) }
        });
    }
    assert_eq!(bed.running("s"), before);
    bed.thaw_server();
    for node in bed.nodes() {
        bed.connected(node.name());
    }
    exactly(&bed, "s", 4);
    assert_eq!(bed.running("s"), before, "nothing was started again");
    assert_eq!(bed.events("s").len(), told, "and nothing was placed elsewhere");
}

#[test]
fn cordoned_and_emptied() {
    let bed = Bed::up(3, &[]);
    let keeps = six_and_data(&bed);
    let before = bed.running("s");

    // Nothing new comes; what is there stays.
    let _ = bed.lattice(&["node", "cordon", &keeps]).ok();
    let _ = bed.lattice(&["scale", "s/a=5"]).ok();
    let now = bed.running("s");
    assert_eq!(now.len(), 9);
    assert!(before.iter().all(|found| now.contains(found)));
    let new: Vec<_> = now.iter().filter(|found| !before.contains(found)).collect();
    assert!(new.iter().all(|found| found.node != keeps), "{new:#?}");
    let _ = bed.lattice(&["scale", "s/a=2"]).ok();
    exactly(&bed, "s", 6);
    let _ = bed.lattice(&["node", "uncordon", &keeps]).ok();

    // Emptied: what can move has moved, one after the other; the data stays.
    let before = bed.running("s");
    let _ = bed.lattice(&["node", "drain", "--dry-run", &keeps]).ok().says(&["moves to", "stays"]);
    assert_eq!(bed.running("s"), before, "a preview changes nothing");
    let _ = bed.lattice(&["node", "drain", "--wait", &keeps]).ok().says(&["all has moved that can", "stays"]);
    serve_elsewhere(&bed, "s", 6, &keeps);
    exactly(&bed, "s", 6);
    assert!(of(&before, elsewhere(&keeps)).iter().all(|found| bed.running("s").contains(found)));
    let keeper = exactly(&bed, "db", 1).remove(0);
    assert_eq!(keeper.node.as_str(), keeps);

    // A node without data is emptied, and forgotten.
    let _ = bed.lattice(&["node", "uncordon", &keeps]).ok();
    let goes = bed.nodes().iter().map(|node| node.name()).find(|name| *name != keeps).unwrap();
    let _ = bed.lattice(&["node", "drain", "--wait", goes]).ok();
    exactly(&bed, "s", 6);
    let _ = bed.lattice(&["node", "rm", "--yes", goes]).ok();
    let list = bed.lattice(&["node", "ls"]).ok();
    assert!(!list.stdout.contains(goes), "{list}");
    exactly(&bed, "s", 6);
}
