//! How fast containers send and receive by the owner's word: measured between a container and a host on the internet,
//! with and without a limit, each way; and what the agent fetches itself. The limit counts at once, comes back after a
//! flush, holds while the owner's network is open, and goes with its table.

use super::lan::{container, on_node, rules, status};
use lattice_e2e::{BUSYBOX, Bed, PATIENCE, eventually, until};
use serde_json::Value;
use std::time::{Duration, Instant};

const INTERNET: &str = "203.0.113.10";
/// How much is carried, in bytes.
const LOAD: u64 = 6_000_000;
/// What passes at once after silence, a second's worth aside.
const BURST: u64 = 128 << 10;

fn stack(more: &str) -> String {
    format!(
        "services:\n  probe:\n    image: {BUSYBOX}\n    stop_grace_period: 1s\n    \
         command: [sh, -c, \"trap 'exit 0' TERM; sleep 100000 & wait\"]\n{more}"
    )
}

/// How long the load takes to the container, or from it.
#[track_caller]
fn takes(bed: &Bed, container: &str, up: bool) -> Duration {
    let text = if up {
        format!(
            "(printf 'PUT / HTTP/1.0\\r\\n\\r\\n'; sleep 0.2; head -c {LOAD} /dev/zero) | nc {INTERNET} 80 | grep -q internet"
        )
    } else {
        format!("[ $(wget -q -O - http://{INTERNET}/bytes/{LOAD} | wc -c) = {LOAD} ]")
    };
    let began = Instant::now();
    let _ = bed.docker("n1", &["exec", container, "timeout", "120", "sh", "-c", &text]);
    began.elapsed()
}

/// A limit of so many bytes a second is kept: neither is it much faster, nor much slower.
#[track_caller]
fn is_kept(took: Duration, rate: u64, what: &str) {
    // After silence a second's worth comes at once.
    let least = (LOAD - rate - BURST) as f64 / rate as f64;
    let most = 2.0 * LOAD as f64 / rate as f64 + 5.0;
    let took = took.as_secs_f64();
    assert!((0.8 * least..most).contains(&took), "{what}: {took:.1} s, and not {least:.1} to {most:.1}");
}

fn speed(bed: &Bed) -> Value {
    status(bed)["lan"]["speed"].clone()
}

/// Waits until the agent says that this limit is kept.
#[track_caller]
fn limited(bed: &Bed, limit: &Value) {
    until(&format!("the limit is {limit}"), PATIENCE, || {
        let speed = speed(bed);
        if speed["limit"] == *limit && speed["why"].is_null() { Ok(()) } else { Err(speed) }
    });
}

#[test]
fn containers_send_and_receive_as_fast_as_the_owner_allows() {
    let bed = Bed::up(1, &[]);
    let _house = bed.house();
    let _ = bed.deploy("speed", &stack(""), &[]).ok();
    bed.serving("speed", 1);
    let probe = container(&bed, "speed", "probe");
    let free = (takes(&bed, &probe, false), takes(&bed, &probe, true));
    assert!(free.0 < Duration::from_secs(3) && free.1 < Duration::from_secs(3), "without a limit: {free:?}");
    let table = status(&bed)["lan"]["table"].as_str().unwrap_or_default().to_owned();

    // Each way by itself; the server is told.
    rules(&bed, &["caps.bandwidth={ up = \"4Mbit\", down = \"8Mbit\" }"]);
    limited(&bed, &serde_json::json!({ "up": 4_000_000, "down": 8_000_000 }));
    is_kept(takes(&bed, &probe, false), 1_000_000, "down, 8 Mbit");
    is_kept(takes(&bed, &probe, true), 500_000, "up, 4 Mbit");
    bed.node_is("n1", "limited", |node| node.facts.machine.bandwidth.to_string() == "4Mbit up, 8Mbit down");
    let _ = bed.lattice(&["node", "show", "n1"]).ok().says(&["4Mbit up, 8Mbit down"]);
    let output = bed.node("n1").agent_command(&["status"]).unwrap().output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("at most 4Mbit up, 8Mbit down"));

    // Another one while it runs, and one that can be mistaken, which changes nothing.
    let words = ["rules", "set", "caps.bandwidth=20M"];
    let refused = bed.node("n1").agent_command(&words).unwrap().output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("20Mbit"), "{said}");
    rules(&bed, &["caps.bandwidth={ down = \"16Mbit\" }"]);
    limited(&bed, &serde_json::json!({ "down": 16_000_000 }));
    is_kept(takes(&bed, &probe, false), 2_000_000, "down, 16 Mbit");
    let up = takes(&bed, &probe, true);
    assert!(up < Duration::from_secs(3), "up has no limit any more: {up:?}");

    // Somebody takes it away.
    on_node(&bed, &format!("nft delete table {table}"));
    eventually("the limit is back", || {
        on_node(&bed, &format!("nft list table {table} 2>/dev/null || true")).contains("speed_down")
    });
    is_kept(takes(&bed, &probe, false), 2_000_000, "down, after a flush");

    // It does not depend on the network being closed, nor on the agent.
    rules(&bed, &["lan.access=open"]);
    until("the network is open and the speed limited", PATIENCE, || {
        let text = on_node(&bed, &format!("nft list table {table} 2>/dev/null || true"));
        if text.contains("speed_down") && !text.contains("closed4") { Ok(()) } else { Err(text) }
    });
    bed.node("n1").kill_agent().unwrap();
    is_kept(takes(&bed, &probe, false), 2_000_000, "down, open and without an agent");
    bed.node("n1").start_agent().unwrap();

    // Without the rule there is nothing left of it.
    eventually("the agent is back", || status(&bed)["lan"]["state"] == "open");
    rules(&bed, &["caps.bandwidth="]);
    eventually("no table is left where all is open", || {
        !on_node(&bed, "nft list tables").contains("lattice_")
    });
    rules(&bed, &["lan.access=", "caps.bandwidth=16Mbit"]);
    limited(&bed, &serde_json::json!({ "up": 16_000_000, "down": 16_000_000 }));
    let output = bed.node("n1").agent_command(&["reset", "--yes"]).unwrap().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!on_node(&bed, "nft list tables").contains("lattice_"), "reset leaves nothing");
}

/// Files of a deployment come through the agent, which keeps to the limit as well.
#[test]
fn the_agent_fetches_as_fast_as_the_owner_allows() {
    let bed = Bed::up(1, &[]);
    let deploy = |name: &str| {
        let text = stack("    volumes: [\"./files:/files:ro\"]\n");
        let folder = bed.compose(name, &text).parent().unwrap().join("files");
        std::fs::create_dir_all(&folder).unwrap();
        // Nothing that a compressor makes small.
        let mut random = std::fs::File::open("/dev/urandom").unwrap();
        let mut file = std::fs::File::create(folder.join("random")).unwrap();
        std::io::copy(&mut std::io::Read::take(&mut random, LOAD), &mut file).unwrap();
        let began = Instant::now();
        let _ = bed.deploy(name, &text, &[]).ok();
        bed.serving(name, 1);
        began.elapsed()
    };
    let free = deploy("free");
    rules(&bed, &["caps.bandwidth.down=4Mbit"]);
    limited(&bed, &serde_json::json!({ "down": 4_000_000 }));
    let slow = deploy("slow");
    // Twelve seconds' worth.
    assert!(slow > Duration::from_secs(9) && slow > free + Duration::from_secs(5), "{free:?}, {slow:?}");
}
