//! Nothing is left: not after an end by kill -9, and what the command started goes by the command.

use super::{BUSYBOX, traces, until, up};
use lattice_testbed::{Options, Testbed, sweep};
use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

/// Says to the test below that it is the process that is to be killed.
const VICTIM: &str = "LATTICE_TESTBED_VICTIM";

/// Not a test of its own: the next one runs it in a process of its own.
#[test]
#[ignore = "the next test runs it"]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let bed = up(&Options::nodes(1, &[BUSYBOX]));
    // Containers would be left behind if anything were, and so would what is frozen.
    let node = bed.node("n1").unwrap();
    assert_eq!(node.engine().docker(&["run", "--detach", BUSYBOX, "sleep", "1000"]).unwrap().code, 0);
    node.freeze().unwrap();
    eprintln!("\nbed {}", bed.name());
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_leaves_nothing_that_is_not_swept() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "docker::left::victim", "--ignored", "--nocapture"]).env(VICTIM, "1");
    let mut victim =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(victim.stderr.take().unwrap()).lines();
    let name = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("bed ").map(str::to_owned));
    let name = name.expect("it is up");
    assert!(!traces(&name).is_empty());
    // It is somebody's: a sweep leaves it alone, and nobody else opens it.
    assert!(!sweep().contains(&name));
    assert!(Testbed::open(&name).is_err());
    victim.kill().unwrap();
    victim.wait().unwrap();
    until("all of it is swept", || {
        sweep();
        let left = traces(&name);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

fn typed(name: &str, args: &[&str]) -> Output {
    let program = lattice_testbed::program("lattice-testbed").unwrap();
    Command::new("timeout").arg("100").arg(program).args(["--name", name]).args(args).output().unwrap()
}

#[track_caller]
fn ok(name: &str, args: &[&str]) -> String {
    let output = typed(name, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {out}{err}");
    out.into_owned()
}

/// A testbed that outlives commands goes with the test all the same.
struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        Testbed::remove(&self.0);
    }
}

#[test]
fn what_a_person_types() {
    let down = Down(format!("typed-{}", std::process::id()));
    let name = down.0.as_str();
    ok(name, &["up", "--nodes", "2", "--disk", "512", "--set", "agents.heartbeat_secs=2"]);
    assert!(String::from_utf8_lossy(&typed(name, &["up"]).stderr).contains("is there already"));
    ok(name, &["drop", "n1", "--in"]);
    ok(name, &["delay", "n1", "20ms", "--jitter", "5ms"]);
    ok(name, &["freeze", "n2"]);
    let table = ok(name, &["status"]);
    let line =
        |table: &str, node: &str| table.lines().find(|line| line.starts_with(node)).unwrap().to_owned();
    assert!(line(&table, "n1").contains("drops in, delays 20 to 25 ms"), "{table}");
    assert!(line(&table, "n2").contains("frozen"), "{table}");
    ok(name, &["heal"]);
    ok(name, &["thaw", "n2"]);
    ok(name, &["kill", "n2"]);
    assert!(line(&ok(name, &["status"]), "n2").contains("off"));
    let words = typed(name, &["exec", "n2", "--", "true"]);
    assert!(String::from_utf8_lossy(&words.stderr).contains("n2 is off; revive it first"), "{words:?}");
    ok(name, &["revive", "n2"]);
    ok(name, &["restart", "n1", "agent"]);
    ok(name, &["restart", "server"]);
    assert_eq!(
        ok(name, &["exec", "n1", "--", "docker", "info", "--format", "{{.Driver}}"]).trim(),
        "overlay2"
    );
    assert_eq!(typed(name, &["exec", "n1", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    let env = ok(name, &["env", "n1"]);
    let listed = format!("{env}\nlattice node ls -o json");
    let listed = Command::new("sh").args(["-euc", &listed]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("\"n2\""), "{listed:?}");
    assert!(ok(name, &["ls"]).lines().any(|line| line == name));
    let words = typed(name, &["freeze", "n9"]);
    assert!(String::from_utf8_lossy(&words.stderr).contains("no node is called \"n9\"; there are: n1, n2"));
    ok(name, &["down"]);
    until("nothing is left", || {
        let left = traces(name);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert!(!typed(name, &["status"]).status.success());
}
