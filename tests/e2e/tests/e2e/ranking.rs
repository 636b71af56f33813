//! Two machines are measured, each about once in a while, and ranked; the owner of one does not want it any more.

use lattice_api::RankingQuery;
use lattice_e2e::Bed;
use serde_json::Value;
use std::time::{Duration, Instant};

#[test]
fn two_nodes_are_measured_and_ranked() {
    // Who is new is asked within half a second, and again after some seconds where it has no time.
    let bed = Bed::up(2, &[("ranking.measure_every_secs", "60")]);
    for name in ["n1", "n2"] {
        let node = bed.node_is(name, "measured", |node| {
            node.rank.as_ref().and_then(|rank| rank.measured).is_some_and(|measured| measured.runs > 0)
        });
        let rank = node.rank.unwrap_or_else(|| panic!("{name} has a rank"));
        let measured = rank.measured.unwrap_or_default();
        assert!(measured.cpu_one > 0.0 && measured.cores > 0.0, "{rank:#?}");
        assert!(measured.disk_write_rate > 0 && measured.disk_read_rate > 0, "{rank:#?}");
        assert!(rank.marks.is_empty() && rank.probation.is_some(), "{rank:#?}");
        assert!(rank.points > 0 && rank.points <= 300, "{rank:#?}");
    }
    // The order is some seconds old: points may be newer.
    let began = Instant::now();
    loop {
        let board =
            bed.ask(bed.client().ranking(&RankingQuery::default())).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(board.items.len(), 2);
        if board.items[0].rank.points >= board.items[1].rank.points {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{board:#?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    // The owner sees it on the machine; what changed since is told within a minute.
    let began = Instant::now();
    let own = loop {
        let output = bed.node("n1").agent_command(&["status", "-o", "json"]).unwrap().output().unwrap();
        let own = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()["rank"].clone();
        if own["size"] == 2 {
            break own;
        }
        assert!(began.elapsed() < Duration::from_secs(200), "{own:#}");
        std::thread::sleep(Duration::from_millis(500));
    };
    assert!(own["points"].is_u64() && own["class_place"].is_u64() && own["told"].is_i64(), "{own:#}");
    let output = bed.node("n1").agent_command(&["status"]).unwrap().output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("of 1000 points; place") && said.contains("on probation"), "{said}");
    let _ = bed.lattice(&["node", "rank"]).ok().says(&["PLACE", "n1", "n2", "(new)"]);
    let _ = bed.lattice(&["node", "show", "n1"]).ok().says(&["of 1000 points", "reliability", "measured"]);
    let _ = bed.lattice(&["node", "rank", "-o", "json"]).ok().says(&["\"points\"", "\"class_place\""]);
}
