//! Several nodes, each a machine of its own: one is cut off, sleeps, loses its engine or its power, and comes back. What
//! is right elsewhere and on it is left alone, and nothing is there twice.

use lattice_api::EventView;
use lattice_e2e::{BUSYBOX, Bed, Found, PATIENCE, until};
use lattice_model::resource::PresenceState;
use lattice_testbed::Direction;
use std::collections::{BTreeMap, BTreeSet};

/// Services with two replicas each that need no network, and so may be anywhere.
pub(super) fn pairs(names: &[&str]) -> String {
    let services = names.iter().map(|name| {
        format!(
            r#"  {name}:
    image: {BUSYBOX}
    network_mode: none
    stop_grace_period: 1s
    command: [sh, -c, "trap 'exit 0' TERM; sleep 100000 & wait"]
    deploy:
      replicas: 2
      resources: {{ limits: {{ cpus: "0.1", memory: 16M }} }}
"#
        )
    });
    format!("services:\n{}", services.collect::<String>())
}

/// Three nodes with two of six replicas each.
fn six_on_three() -> Bed {
    let bed = Bed::up(3, &[]);
    let _ = bed.deploy("s", &pairs(&["a", "b", "c"]), &[]).ok();
    bed.serving("s", 6);
    assert_eq!(bed.spread("s"), [("n1", 2), ("n2", 2), ("n3", 2)].map(|(n, c)| (n.to_owned(), c)).into());
    bed
}

pub(super) fn of(found: &[Found], is: impl Fn(&Found) -> bool) -> Vec<Found> {
    found.iter().filter(|found| is(found)).cloned().collect()
}

/// Whether it is on another node.
pub(super) fn elsewhere(node: &str) -> impl Fn(&Found) -> bool {
    move |found| found.node != node
}

/// Each allocation, and where it runs.
fn places(found: &[Found]) -> BTreeMap<String, String> {
    let places: BTreeMap<_, _> = found.iter().map(|f| (f.allocation.clone(), f.node.clone())).collect();
    assert_eq!(places.len(), found.len(), "an allocation has one container: {found:#?}");
    places
}

fn disconnected(bed: &Bed, node: &str) {
    bed.node_is(node, "out of reach", |node| node.presence.state == PresenceState::Disconnected);
}

/// Once, and in the order in which they happened.
fn once_and_in_order(events: &[&EventView]) {
    assert!(events.windows(2).all(|pair| pair[0].id < pair[1].id && pair[0].at <= pair[1].at), "{events:#?}");
    let distinct: BTreeSet<_> =
        events.iter().map(|event| (event.at.0, &event.kind, &event.message)).collect();
    assert_eq!(distinct.len(), events.len(), "each once: {events:#?}");
}

#[test]
fn cut_off_and_asleep() {
    let bed = six_on_three();
    let before = bed.running("s");
    let told = bed.events("s").len();

    // No packet passes, either way; the node cannot tell why.
    bed.node("n1").drop_packets(Direction::Both).unwrap();
    disconnected(&bed, "n1");
    let dies = of(&before, |found| found.node == "n1").remove(0);
    bed.docker("n1", &["kill", "--signal", "KILL", &dies.container]);
    let again = until("the agent starts it again by itself", PATIENCE, || {
        let now = of(&bed.running("s"), |found| found.allocation == dies.allocation);
        match now.as_slice() {
            [now] if now.started_at != dies.started_at => Ok(now.clone()),
            _ => Err(now),
        }
    });
    // The others take new work, and it gets none.
    let _ = bed.deploy("meanwhile", &pairs(&["d", "e"]), &[]).ok();
    let spread = bed.spread("meanwhile");
    assert!(!spread.contains_key("n1") && spread.values().sum::<usize>() == 4, "{spread:?}");
    assert_eq!(bed.events("s").len(), told, "nothing of it can be known yet");
    bed.node("n1").heal_network().unwrap();
    bed.connected("n1");
    until("the death is told", PATIENCE, || {
        let all = bed.serving("s", 6);
        let its = all.iter().find(|a| a.id.to_string() == dies.allocation).expect("it is there");
        if its.status.restarts == 1 { Ok(()) } else { Err(its.clone()) }
    });
    let expected: BTreeSet<_> =
        before.iter().map(|found| if *found == dies { again.clone() } else { found.clone() }).collect();
    assert_eq!(bed.running("s").into_iter().collect::<BTreeSet<_>>(), expected, "nothing else was touched");
    let events = bed.events("s");
    once_and_in_order(&events[told..].iter().collect::<Vec<_>>());
    let subjects: BTreeSet<_> = events[told..].iter().map(|event| &event.subject).collect();
    assert_eq!(subjects.len(), 1, "nothing happened to the others: {:#?}", &events[told..]);

    // The lid closes, with work on the way, and opens.
    let before = bed.running("s");
    let told = bed.events("s").len();
    bed.node("n2").freeze().unwrap();
    disconnected(&bed, "n2");
    let _ = bed.lattice(&["rm", "--yes", "--no-wait", "meanwhile"]).ok();
    bed.node("n2").thaw().unwrap();
    bed.connected("n2");
    until("what was removed meanwhile is gone there, too", PATIENCE, || {
        let left = bed.running("meanwhile");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    bed.serving("s", 6);
    assert_eq!(bed.running("s"), before, "the sleep changed nothing");
    assert_eq!(bed.events("s").len(), told, "and nothing happened");
}

#[test]
fn engine_restarted_and_power_cut() {
    let bed = six_on_three();
    let before = bed.running("s");

    // One of three engines.
    bed.node("n1").restart_engine().unwrap();
    let back = |node: &str, since: &[Found]| {
        until("its replicas are back", PATIENCE, || {
            let now = bed.running("s");
            let its = of(&now, |found| found.node == node);
            let new = its.iter().all(|found| since.iter().all(|old| old.started_at != found.started_at));
            if now.len() == 6 && its.len() == 2 && new { Ok(now) } else { Err(now) }
        })
    };
    let now = back("n1", &before);
    bed.serving("s", 6);
    assert_eq!(places(&now), places(&before), "the same allocations, each where it was");
    assert_eq!(of(&now, elsewhere("n1")), of(&before, elsewhere("n1")), "the others were not touched");

    // The power of one goes, in the middle of everything.
    let before = now;
    bed.node("n2").kill().unwrap();
    disconnected(&bed, "n2");
    assert_eq!(bed.running("s"), of(&before, elsewhere("n2")), "the others run on");
    bed.node("n2").revive().unwrap();
    bed.connected("n2");
    let now = back("n2", &before);
    bed.serving("s", 6);
    assert_eq!(places(&now), places(&before), "the same allocations, each where it was");
    assert_eq!(of(&now, elsewhere("n2")), of(&before, elsewhere("n2")), "the others were not touched");
    let all = bed.docker("n2", &["ps", "--all", "--quiet"]);
    assert_eq!(all.lines().count(), 2, "one container for each, the dead ones included: {all}");
}
