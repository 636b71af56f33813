//! Every verb does what it says.

use super::{BUSYBOX, traces, until, up};
use lattice_testbed::{Direction, Node, Options, Power, Testbed};
use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

/// How long a TCP connection from a node to the server takes to be made; none within two seconds is an error.
fn connects(node: &Node) -> Result<Duration, String> {
    let mut command = node.machine().command("timeout").unwrap();
    // Bash opens TCP connections by itself.
    command.args(["2", "bash", "-c", "exec 3<>/dev/tcp/10.77.0.1/7443"]);
    let begun = Instant::now();
    let output = command.output().unwrap();
    match output.status.success() {
        true => Ok(begun.elapsed()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Connects, if not at the first try: two cores may serve many at once.
#[track_caller]
fn reaches(node: &Node) -> Duration {
    until("it connects", || connects(node))
}

/// What a command on a node says; it must succeed.
#[track_caller]
fn says(node: &Node, script: &str) -> String {
    let output = node.machine().command("sh").unwrap().args(["-euc", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn docker(node: &Node, args: &[&str]) -> String {
    let said = node.engine().docker(args).unwrap();
    assert_eq!(said.code, 0, "docker {args:?}: {}", said.stderr);
    said.stdout.trim().to_owned()
}

/// A container that counts; its id.
fn counter(node: &Node) -> String {
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";
    docker(node, &["run", "--detach", "--stop-signal=KILL", BUSYBOX, "sh", "-c", script])
}

fn connected(bed: &Testbed, name: &str) {
    until("the node is connected", || {
        let cluster = bed.cluster().unwrap();
        let is = cluster.iter().any(|(its, approval, presence)| {
            its == name && approval == "approved" && presence == "connected"
        });
        if is { Ok(()) } else { Err(cluster) }
    });
}

fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name == "eth0" || name == "br0" || name.starts_with("port"));
    names
}

#[test]
fn packets_vanish_and_are_late() {
    let before = interfaces();
    let bed = up(&Options::nodes(2, &[]));
    // Another one has the same addresses, and neither sees the other.
    let other = up(&Options::nodes(1, &[]));
    let (hurt, fine) = (bed.node("n1").unwrap(), bed.node("n2").unwrap());
    let same = other.node("n1").unwrap();
    assert_eq!(hurt.address(), same.address());
    assert_eq!(interfaces(), before, "nothing is in this machine's own network");
    assert_eq!(bed.cluster().unwrap().len(), 2);
    let easy = reaches(hurt);

    for direction in [Direction::In, Direction::Out, Direction::Both] {
        hurt.drop_packets(direction).unwrap();
        assert!(connects(hurt).is_err(), "{direction:?}");
        reaches(fine);
        reaches(same);
        hurt.heal_network().unwrap();
        reaches(hurt);
    }
    // What is not to arrive does not: not one packet.
    let received = || says(hurt, "sed -n 's/ *eth0: *[0-9]* *\\([0-9]*\\) .*/\\1/p' /proc/net/dev");
    hurt.drop_packets(Direction::In).unwrap();
    let before = received();
    assert!(connects(hurt).is_err());
    assert!(!before.is_empty());
    assert_eq!(received(), before);
    hurt.heal_network().unwrap();

    hurt.lose_packets(100.0).unwrap();
    assert!(connects(hurt).is_err());
    reaches(fine);
    // Of 600 packets about 300 arrive; 100 more or less would be eight times the usual deviation.
    hurt.lose_packets(50.0).unwrap();
    let arrived = || {
        let mut command = bed.server().machine().command("sh").unwrap();
        let output =
            command.args(["-c", "grep ^Udp: /proc/net/snmp | tail -n 1 | cut -d' ' -f3"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().unwrap()
    };
    let before = arrived();
    says(hurt, "bash -c 'for i in {1..600}; do echo x >/dev/udp/10.77.0.1/9 || true; done' 2>/dev/null");
    let count = arrived() - before;
    assert!((200..=400).contains(&count), "{count} of 600");
    hurt.heal_network().unwrap();

    // A connection takes one packet there and one back.
    hurt.delay_packets(Duration::from_millis(150), Duration::from_millis(50)).unwrap();
    let late = reaches(hurt);
    assert!(late >= Duration::from_millis(300), "{late:?}; without a delay {easy:?}");
    reaches(fine);
    assert_eq!(hurt.faults().to_string(), "delays 150 to 200 ms");
    connected(&bed, "n1");
    // Faults add up.
    hurt.drop_packets(Direction::Out).unwrap();
    assert!(connects(hurt).is_err());
    // They are the cable's: a power cut does not take them away.
    hurt.kill().unwrap();
    hurt.revive().unwrap();
    assert!(connects(hurt).is_err());
    assert_eq!(hurt.faults().to_string(), "drops out, delays 150 to 200 ms");
    hurt.heal_network().unwrap();
    // The search for a neighbour that began before goes wrong once more.
    until("it connects again, and without delay", || match connects(hurt) {
        Ok(span) if span < Duration::from_millis(300) => Ok(()),
        other => Err(other),
    });
    connected(&bed, "n1");
}

#[test]
fn machines_freeze_die_and_come_back() {
    let bed = up(&Options::nodes(1, &[BUSYBOX]));
    let node = bed.node("n1").unwrap();
    assert_eq!(says(node, "cat /proc/sys/kernel/hostname"), "n1");
    let counting = counter(node);

    // The lid closes: nothing moves. The log is a file, which tells without asking anybody.
    let log = format!("{}/docker/containers/{counting}/{counting}-json.log", node.machine().disk().display());
    let count = || says(node, &format!("wc -l <{log}"));
    until("it counts", || if count() != "0" { Ok(()) } else { Err(()) });
    let pid = docker(node, &["inspect", "--format", "{{.State.Pid}}", &counting]);
    node.freeze().unwrap();
    assert_eq!(node.power(), Power::Frozen);
    let at = count();
    assert!(node.engine().docker(&["ps"]).is_err(), "a frozen engine is not asked");
    until("the server misses it", || {
        let cluster = bed.cluster().unwrap();
        if cluster[0].2 == "connected" { Err(cluster) } else { Ok(()) }
    });
    assert_eq!(count(), at, "nothing of it has moved");
    node.thaw().unwrap();
    until("it counts on", || if count() != at { Ok(()) } else { Err(()) });
    assert_eq!(docker(node, &["inspect", "--format", "{{.State.Pid}}", &counting]), pid);
    connected(&bed, "n1");

    // One daemon alone.
    node.kill_agent().unwrap();
    assert!(!node.agent_is_running() && node.engine().is_running());
    node.start_agent().unwrap();
    node.restart_agent().unwrap();
    assert_eq!(docker(node, &["inspect", "--format", "{{.State.Pid}}", &counting]), pid);
    node.restart_engine().unwrap();
    assert!(node.agent_is_running());
    assert_eq!(docker(node, &["inspect", "--format", "{{.State.Running}}", &counting]), "false");
    let counting = counter(node);
    let pid = docker(node, &["inspect", "--format", "{{.State.Pid}}", &counting]);
    let outside = says(node, &format!("cut -d' ' -f22 /proc/{pid}/stat"));
    node.engine().kill().unwrap();
    assert_eq!(says(node, &format!("cut -d' ' -f22 /proc/{pid}/stat")), outside, "it outlives its engine");
    node.engine().start().unwrap();
    node.engine().ready().unwrap();

    // The power is cut, even of a frozen one; the disk keeps what it has.
    says(node, &format!("echo kept >{}/word; sync", node.machine().disk().display()));
    node.freeze().unwrap();
    node.kill().unwrap();
    assert_eq!(node.power(), Power::Off);
    assert!(node.machine().command("true").is_err());
    let left =
        Command::new("pgrep").args(["-f", &node.machine().folder().display().to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "no process is left");
    node.revive().unwrap();
    assert_eq!(says(node, &format!("cat {}/word", node.machine().disk().display())), "kept");
    assert_eq!(docker(node, &["inspect", "--format", "{{.State.Running}}", &counting]), "false");
    connected(&bed, "n1");

    // The disk is full, and has room again.
    let write = "docker -H $0 run --rm lattice-test/busybox:1 sh -c 'dd if=/dev/zero of=/big bs=1M count=8'";
    let write = write.replace("$0", &format!("unix://{}", node.engine().socket().display()));
    let writes = || node.machine().command("sh").unwrap().args(["-c", &write]).output().unwrap();
    assert!(writes().status.success());
    node.fill(0).unwrap();
    let output = writes();
    assert!(!output.status.success(), "a full disk takes nothing");
    let words = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(words.contains("no space left"), "{words}");
    node.fill(100).unwrap();
    assert!(writes().status.success(), "so much was left");
    node.unfill().unwrap();
    assert!(writes().status.success());

    // The server's machine is one as well.
    bed.server().cut_power().unwrap();
    assert_eq!(bed.server().machine().power(), Power::Off);
    bed.server().boot().unwrap();
    connected(&bed, "n1");

    let name = bed.name().to_owned();
    drop(bed);
    until("nothing is left", || {
        let left = traces(&name);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}
