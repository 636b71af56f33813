//! The server's disk is full: a write is refused and says so, nothing is lost, and it goes on once there is room.

use super::sleepers;
use lattice_e2e::{Cluster, Home, Options};
use std::{fs::File, io::Write};

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
