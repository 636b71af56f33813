//! How nodes say how they are, and that they come through what is done to them.

use super::{nodes::pairs, sleepers};
use lattice_api::NodeView;
use lattice_e2e::{Bed, PATIENCE, until};
use lattice_model::health::{Condition, ConditionKind, Level, Reason};
use std::time::{Duration, Instant};

fn condition(node: &NodeView, kind: ConditionKind) -> Option<&Condition> {
    node.conditions.iter().find(|one| one.kind == kind)
}

fn is(node: &NodeView, kind: ConditionKind, level: Level, reason: Reason) -> bool {
    condition(node, kind).is_some_and(|one| (one.level, one.reason) == (level, reason))
}

/// dockerd that does not answer any more is not one that is dead: what runs runs on, nothing is started twice,
/// nothing new comes, it is said once, and it goes on by itself.
#[test]
fn docker_hangs_and_goes_on() {
    let bed = Bed::up(2, &[]);
    let _ = bed.deploy("s", &pairs(&["a", "b"]), &[]).ok();
    bed.serving("s", 4);
    for node in ["n1", "n2"] {
        let view = bed.node_is(node, "in good health", |node| {
            is(node, ConditionKind::Docker, Level::Good, Reason::Fine)
                && condition(node, ConditionKind::Disk).is_some()
        });
        let machine = &view.facts.machine;
        assert!(!machine.virtualization.is_empty() && !machine.disks.is_empty(), "{machine:#?}");
        assert!(machine.engine.runtimes.contains("runc"), "{machine:#?}");
    }
    let before = bed.containers("s");
    let began = Instant::now();
    bed.node("n1").engine().hang().unwrap();
    bed.node_is("n1", "hung", |node| is(node, ConditionKind::Docker, Level::Bad, Reason::Hung));
    // Thirty seconds is the bound; machines that run tests are busy.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let _ = bed.lattice(&["node", "ls"]).ok().says(&["docker hung"]);
    let _ = bed.lattice(&["node", "show", "n1"]).ok().says(&["docker: hung (bad)"]);
    // What is new goes where an engine answers.
    let _ = bed.deploy("new", &sleepers(&[("one", ""), ("two", "")]), &[]).ok();
    assert!(bed.serving("new", 2).iter().all(|one| one.node.as_str() == "n2"));

    bed.node("n1").engine().unhang().unwrap();
    bed.node_is("n1", "well again", |node| is(node, ConditionKind::Docker, Level::Good, Reason::Fine));
    bed.serving("s", 4);
    until("the same containers run, and no others", PATIENCE, || {
        let now = bed.containers("s");
        if now == before { Ok(()) } else { Err(now) }
    });
    let events = bed.lattice(&["events", "-n", "500", "-o", "json"]).ok().stdout;
    let count = |kind: &str| events.matches(&format!("\"{kind}\"")).count();
    assert_eq!((count("node.condition_bad"), count("node.condition_good")), (1, 1), "{events}");
    assert!(count("node.runtime_lost") <= 1 && count("node.disconnected") == 0, "no storm: {events}");
}
