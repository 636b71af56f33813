//! The server's disk is full: a write is refused and says so, nothing is lost, and it goes on once there is room. And
//! a node's, at each point where something is written there.

use super::sleepers;
use lattice_e2e::{BUSYBOX, Bed, Cluster, Home, Options, PATIENCE, until};
use lattice_model::health::{ConditionKind, Level};
use std::{fs::File, io::Write, time::Duration};

/// For what waits for several spans of hysteresis.
const LONG: Duration = Duration::from_secs(200);

/// Writes until nothing fits any more.
fn fill(path: &std::path::Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn a_full_disk_and_room_again() {
    let home = Home::on_small_disk(24);
    let mut cluster = Cluster::with(Options { home: Some(home), ..Options::default() });
    let _agent = cluster.join("a");
    let _ = cluster.deploy("before", &sleepers(&[("one", "")]), &[]).ok();
    let starts = cluster.starts("before");
    // Written while there is room: the files themselves are not what is tested.
    let path = cluster.compose("during", &sleepers(&[("one", "")]));
    let deploy = ["deploy", "--name", "during", "-f", path.to_str().unwrap(), "--no-wait"];
    let filler = cluster.home().join("filler");
    fill(&filler);
    // What has room already may still succeed: the log of the store has some. Then it is over.
    let mut refused = None;
    for n in 0..5000 {
        let name = format!("secret{n}");
        let output = cluster.lattice_with_input(&["secret", "set", &name], &[b'x'; 200_000]);
        if output.code != 0 {
            refused = Some(output);
            break;
        }
    }
    let refused = refused.expect("a full disk refuses");
    let _ = refused.failed().says(&["disk"]);
    let _ = cluster.lattice(&deploy).failed().says(&["disk"]);
    // Reading goes on, and what runs runs on.
    let _ = cluster.lattice(&["ps"]).ok().says(&["before/one#1"]);
    assert_eq!(cluster.starts("before"), starts);

    std::fs::remove_file(&filler).unwrap();
    let _ = cluster.lattice(&deploy).ok();
    cluster.serving("during", 1);
    // And across a restart.
    cluster.kill_server();
    cluster.start_server();
    cluster.connected("a");
    cluster.serving("during", 1);
    assert_eq!(cluster.starts("before"), starts);
    let _ = cluster.lattice(&["rm", "before", "during"]).ok();
}

/// What a node's engine has in a file of a stack's container.
fn sum_of(bed: &Bed, stack: &str, file: &str) -> Option<String> {
    let found = bed.running(stack).into_iter().next()?;
    let said = bed.node(&found.node).engine().docker(&["exec", &found.container, "md5sum", file]).ok()?;
    said.stdout.split_whitespace().next().map(str::to_owned)
}

/// Not a byte is left on a node: goals, reports and files find no room. What runs runs on, it is said why the rest
/// does not, and with room all of it goes on by itself: nothing that happened meanwhile is lost.
#[test]
fn a_node_without_a_byte_left() {
    let bed = Bed::up(1, &[]);
    let node = bed.node("n1");
    let _ = bed.deploy("s", &sleepers(&[("calm", ""), ("hit", "")]), &[]).ok();
    bed.serving("s", 2);
    let calm = |bed: &Bed| {
        let all = bed.allocations("s");
        let id = all.iter().find(|one| one.workload.as_str() == "calm").unwrap().id.to_string();
        bed.running("s").into_iter().find(|found| found.allocation == id)
    };
    let before = calm(&bed).expect("it runs");
    let container_of = |service: &str| {
        let all = bed.allocations("s");
        let id = all.iter().find(|one| one.workload.as_str() == service).unwrap().id.to_string();
        bed.running("s").into_iter().find(|found| found.allocation == id).unwrap().container
    };
    // Files that travel, more than will be free.
    let folder = bed.home().join("compose/t");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let noise: Vec<u8> = (0..12u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(folder.join("data/noise"), &noise).unwrap();
    let files = sleepers(&[("one", "    volumes: [\"./data:/data:ro\"]\n")]);
    // And an image that is built here, likewise.
    let built = bed.home().join("compose/b");
    std::fs::create_dir_all(&built).unwrap();
    let dockerfile = format!("FROM {BUSYBOX}\nCOPY noise /noise\nCMD [\"sleep\", \"100000\"]\n");
    std::fs::write(built.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(built.join("noise"), &noise).unwrap();
    let builds = "services:\n  one:\n    build: .\n";

    // 1. Nothing at all: the goal cannot be kept, nor what happens.
    node.fill(0).unwrap();
    let _ = bed.deploy("t", &files, &["--no-wait"]).ok();
    let _ = node.engine().docker(&["kill", &container_of("hit")]);
    bed.node_is("n1", "said to be full", |node| {
        node.conditions.iter().any(|one| (one.kind, one.level) == (ConditionKind::Disk, Level::Bad))
    });
    until("the agent's log says why", PATIENCE, || {
        let log = node.agent_log();
        if log.contains("the disk does not take") {
            Ok(())
        } else {
            Err(log.lines().last().map(str::to_owned))
        }
    });
    let _ = bed.lattice(&["node", "show", "n1"]).ok().says(&["disk: low_space (bad)"]);
    // What is planned for it says what it waits for, whether the agent could tell or the server has to.
    for one in bed.allocations("t") {
        let why = one.status.reason.as_deref().unwrap_or_default();
        assert!(why.contains("disk") || why.contains("space"), "{one:#?}");
    }
    assert_eq!(calm(&bed).as_ref(), Some(&before), "what runs runs on");
    // The agent dies in the middle of it, and comes back to the same.
    node.kill_agent().unwrap();
    node.start_agent().unwrap();
    node.unfill().unwrap();
    bed.serving("s", 2);
    bed.serving("t", 1);
    until("what happened is told", PATIENCE, || {
        let hit = bed.allocations("s").into_iter().find(|one| one.workload.as_str() == "hit").unwrap();
        if hit.status.restarts >= 1 || hit.status.exit_code.is_some() { Ok(()) } else { Err(hit) }
    });
    let sum = sum_of(&bed, "t", "/data/noise");
    assert!(sum.is_some());
    assert_eq!(calm(&bed).as_ref(), Some(&before));
    bed.node_is("n1", "well again", |node| {
        node.conditions.iter().any(|one| one.kind == ConditionKind::Disk && one.level != Level::Bad)
    });

    // 2. A few MiB: room for the goal, and files and layers end in the middle.
    std::fs::write(folder.join("data/noise"), [&noise[..], b"changed"].concat()).unwrap();
    node.fill(6).unwrap();
    let _ = bed.deploy("t", &files, &["--no-wait"]).ok();
    let _ = bed.deploy("b", builds, &["--no-wait"]).ok();
    until("it is said why nothing moves", PATIENCE, || {
        let said = bed.lattice(&["ps", "-a", "-o", "json"]).ok().stdout;
        let why = ["no space", "disk is full", "free", "disk"].iter().any(|word| said.contains(word));
        if why { Ok(()) } else { Err(said) }
    });
    bed.node_is("n1", "said to be full", |node| {
        node.conditions.iter().any(|one| (one.kind, one.level) == (ConditionKind::Disk, Level::Bad))
    });
    assert_eq!(calm(&bed).as_ref(), Some(&before));
    node.unfill().unwrap();
    until("both run", LONG, || {
        let new = sum_of(&bed, "t", "/data/noise").filter(|new| Some(new) != sum.as_ref());
        let image = sum_of(&bed, "b", "/noise");
        if new.is_some() && image == sum { Ok(()) } else { Err((new, image)) }
    });
    assert_eq!(calm(&bed).as_ref(), Some(&before), "never touched in all of it");
}
