//! A stack changes over time: what changed is replaced, what did not is left alone, what fails says why.

use super::sleepers;
use lattice_api::AllocationView;
use lattice_e2e::{BUSYBOX, Cluster, PATIENCE, http, until};
use lattice_model::report::AllocationState;
use std::{
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Two copies of a web server that says a word, and something beside it.
fn two(word: &str) -> String {
    let web = format!(
        r#"services:
  web:
    image: {BUSYBOX}
    environment: {{ WORD: {word} }}
    command: [sh, -c, "mkdir /tmp/www; echo $$WORD >/tmp/www/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /tmp/www & wait"]
    ports: ["80"]
    healthcheck: {{ test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 1s, timeout: 2s }}
    deploy: {{ replicas: 2, resources: {{ limits: {{ cpus: "0.1", memory: 16M }} }} }}
"#
    );
    web + &sleepers(&[("beside", "")])["services:\n".len()..]
}

/// Where the copies of `web` are, as a person sees it.
fn published(mut list: Command) -> Vec<SocketAddr> {
    published_by(&mut list)
}

fn published_by(list: &mut Command) -> Vec<SocketAddr> {
    let output = list.output().expect("the listing");
    let all: Vec<AllocationView> = serde_json::from_slice(&output.stdout).expect("the listing");
    let ports = all.into_iter().filter(|a| a.workload.as_str() == "web").flat_map(|a| a.status.ports);
    ports.map(|port| SocketAddr::new(port.host_ip, port.host_port)).collect()
}

#[test]
fn an_update_replaces_one_at_a_time() {
    let cluster = Cluster::start();
    let agent = cluster.join("a");
    let _ = cluster.deploy("s", &two("one"), &[]).ok();
    let before = cluster.starts("s");
    let addresses = || published(cluster.command(&["ps", "-o", "json", "s"]));
    assert_eq!(addresses().len(), 2);
    // Somebody who looks where the copies are and asks them finds one, the whole time.
    let stop = Arc::new(AtomicBool::new(false));
    let asks = {
        let (mut list, stop) = (cluster.command(&["ps", "-o", "json", "s"]), Arc::clone(&stop));
        thread::spawn(move || {
            let mut answers = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                // A copy may go between the look and the question: then he looks again.
                answers.push((0..3).any(|_| published_by(&mut list).iter().any(|at| http(*at).is_ok())));
            }
            answers
        })
    };
    let _ = cluster
        .deploy("s", &two("two"), &["--dry-run"])
        .ok()
        .says(&["~ service web", "environment.WORD: changed"]);
    let _ = cluster.deploy("s", &two("two"), &[]).ok();
    stop.store(true, Ordering::SeqCst);
    let answers = asks.join().unwrap();
    assert!(answers.len() > 3 && answers.iter().all(|answer| *answer), "{answers:?}");
    for address in addresses() {
        assert_eq!(http(address).unwrap().1.trim(), "two");
    }
    let after = cluster.starts("s");
    assert_eq!(after[0], before[0], "what did not change was left alone");
    assert!(after[1..].iter().all(|now| !before.contains(now)), "{before:#?} {after:#?}");
    assert_eq!(agent.made().0.len(), 3, "and nothing of the former is left");

    // A service that is no longer in the file goes; the other stays.
    let _ = cluster.deploy("s", &sleepers(&[("beside", "")]), &[]).ok().says(&["- service web"]);
    cluster.serving("s", 1);
    assert_eq!(cluster.starts("s"), before[..1]);
}

#[test]
fn an_order_of_services() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    let small = "deploy: { resources: { limits: { cpus: \"0.1\", memory: 16M } } }";
    let text = format!(
        r#"services:
  db:
    image: {BUSYBOX}
    command: [sh, -c, "sleep 1; touch /tmp/up; trap 'exit 0' TERM; sleep 100000 & wait"]
    healthcheck: {{ test: [CMD, test, -e, /tmp/up], interval: 500ms, timeout: 2s, retries: 100 }}
    {small}
  migrate:
    image: {BUSYBOX}
    command: [sh, -c, "ping -c 1 -W 2 db >/dev/null; echo migrated"]
    depends_on: {{ db: {{ condition: service_healthy }} }}
    restart: "no"
    {small}
  app:
    image: {BUSYBOX}
    command: [sh, -c, "trap 'exit 0' TERM; sleep 100000 & wait"]
    depends_on: {{ migrate: {{ condition: service_completed_successfully }} }}
    {small}
"#
    );
    let _ = cluster.deploy("s", &text, &[]).ok();
    let all = cluster.allocations("s");
    let of = |name: &str| all.iter().find(|a| a.workload.as_str() == name).unwrap();
    assert_eq!(of("migrate").status.state, AllocationState::Completed);
    assert!(of("app").is_serving() && of("db").is_serving(), "{all:#?}");
    let started = |name: &str| cluster.engine.started_at(&cluster.container(of(name)));
    assert!(started("db") < started("migrate") && started("migrate") < started("app"));
    let _ = cluster.lattice(&["logs", "s/migrate"]).ok().says(&["migrated"]);
}

#[test]
fn what_ends_says_why() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    let service = |command: &str, more: &str| {
        format!(
            "services:\n  web:\n    image: {BUSYBOX}\n    command: [sh, -c, \"{command}\"]\n{more}    \
             deploy: {{ resources: {{ limits: {{ cpus: \"0.5\", memory: 16M }} }} }}\n"
        )
    };
    // It ends again and again, ever more slowly, and following it gives up.
    let looping =
        cluster.deploy("loop", &service("echo no config >&2; exit 3", ""), &["--timeout", "50s"]).ended(1);
    let _ = looping.says(&["again and again", "lattice logs loop/web", "3"]);
    let _ = cluster.lattice(&["ps", "loop"]).ok().says(&["backing_off"]);
    let _ = cluster.lattice(&["logs", "loop/web"]).ok().says(&["no config"]);
    // It wants more memory than it may have. It lives on for a moment, since an engine that sees the end first
    // does not look for the cause.
    let hungry =
        service("dd if=/dev/zero of=/dev/null bs=64M count=1; sleep 2; exit 1", "    restart: \\\"no\\\"\n");
    let _ = cluster.deploy("hungry", &hungry.replace("\\\"", "\""), &["--timeout", "30s"]);
    until("the want of memory is told", PATIENCE, || {
        let table = cluster.lattice(&["explain", "hungry/web"]).ok();
        if table.stdout.contains("memory") || table.stdout.contains("137") {
            Ok(())
        } else {
            Err(table.stdout)
        }
    });
    // A file that is right heals it.
    let _ = cluster.deploy("loop", &service("trap 'exit 0' TERM; sleep 100000 & wait", ""), &[]).ok();
    cluster.serving("loop", 1);
}
