//! Bad input: a clear error with a next step, and nothing half done.

use super::{sleepers, web};
use lattice_api::StackQuery;
use lattice_e2e::{BUSYBOX, Cluster, Registry, free_port, http, until};
use lattice_model::report::AllocationState;
use std::{fmt::Write, net::TcpListener, time::Instant};

#[test]
fn compose_files() {
    let cluster = Cluster::start();
    let agent = cluster.join("a");
    let image = format!("image: {BUSYBOX}");
    let refused = |text: &str, words: &[&str]| {
        let begun = Instant::now();
        let output = cluster.deploy("bad", text, &[]).ended(1).says(words);
        assert!(output.clone().says(&["nothing was deployed"]).stdout.is_empty(), "{output}");
        assert!(begun.elapsed().as_secs() < 10, "{:?}: {output}", begun.elapsed());
    };
    // Malformed.
    refused("services: [", &["compose.yaml:"]);
    refused("services:\n\tweb:\n", &["compose.yaml:2"]);
    refused("", &["compose.yaml:1", "empty"]);
    refused("- 1\n- 2\n", &["compose.yaml:1"]);
    refused("services: {}\n", &["services"]);
    refused("\u{0}\u{1}\u{2}", &["compose.yaml:1"]);
    // Huge, deep, and small ones that would become huge.
    refused(&format!("# {}\n{}", "x".repeat(1 << 20), web("")), &["bytes", "the most is"]);
    refused(&format!("services: {}1{}", "[".repeat(5000), "]".repeat(5000)), &["compose.yaml:1"]);
    let mut laughs = "x0: &x0 [l, l, l, l, l, l, l, l, l]\n".to_owned();
    for n in 1..12 {
        let _ = writeln!(laughs, "x{n}: &x{n} [{}]", vec![format!("*x{}", n - 1); 9].join(", "));
    }
    refused(&format!("{laughs}services: {{ web: {{ {image}, command: *x11 }} }}\n"), &["compose.yaml:"]);
    // Keys that are unknown, not supported, or dangerous: by name, with file and line.
    let at = |line: &str| format!("services:\n  web:\n    {image}\n    {line}\n");
    refused(&at("imagee: x"), &["compose.yaml:4:5", "imagee", "image"]);
    refused(&at("privileged: true"), &["compose.yaml:4:5", "privileged"]);
    refused(&at("network_mode: host"), &["compose.yaml:4:", "network_mode"]);
    refused(&at("pid: host"), &["compose.yaml:4:", "pid"]);
    refused(&at("devices: [/dev/kmem]"), &["compose.yaml:4:", "devices"]);
    refused(&at("volumes: [/var/run/docker.sock:/s]"), &["compose.yaml:4:"]);
    refused(&at("build: { context: ., dockerfil: x }"), &["compose.yaml:4:", "dockerfil"]);
    // Several at once are told at once.
    refused(&at("imagee: x\n    privileged: true"), &["compose.yaml:4:5", "compose.yaml:5:5", "2 problems"]);
    // Names and ports that collide, references that lead nowhere.
    refused(&format!("services:\n  web: {{ {image} }}\n  web: {{ {image} }}\n"), &["compose.yaml:3", "web"]);
    let two = format!(
        "services:\n  a: {{ {image}, ports: [\"9999:80\"] }}\n  b: {{ {image}, ports: [\"9999:80\"] }}\n"
    );
    refused(&two, &["compose.yaml:3", "9999"]);
    refused(&at("depends_on: [nobody]"), &["compose.yaml:4", "nobody"]);
    refused(&at("volumes: [\"nowhere:/data\"]"), &["compose.yaml:4", "nowhere"]);
    // Resources that cannot be.
    let limits = |text: &str| at(&format!("deploy: {{ resources: {text} }}"));
    refused(&limits("{ limits: { memory: 1X } }"), &["compose.yaml:4", "1X"]);
    refused(
        &limits("{ limits: { memory: 16M }, reservations: { memory: 32M } }"),
        &["compose.yaml:4", "16", "32"],
    );
    refused(&limits("{ limits: { cpus: \"-1\" } }"), &["compose.yaml:4", "-1"]);
    refused(&at("deploy: { replicas: 100000 }"), &["compose.yaml:4", "1000"]);
    // Not a file, not a name.
    let _ = cluster.lattice(&["deploy", "-f", "/no/such/file.yaml"]).ended(3).says(&["/no/such/file.yaml"]);
    let _ = cluster.deploy("Bad Name!", &web(""), &[]).failed().says(&["name"]);

    cluster.is_empty();
    assert_eq!(agent.made(), (vec![], vec![], vec![]));
    // And it works still.
    let _ = cluster.deploy("good", &web(""), &[]).ok();
}

#[test]
fn more_than_there_is() {
    let cluster = Cluster::start();
    let agent = cluster.join("a");
    let huge = |what: &str| {
        format!("services:\n  web:\n    image: {BUSYBOX}\n    deploy: {{ resources: {{ {what} }} }}\n")
    };
    for (what, words) in [
        ("reservations: { memory: 4000G }, limits: { memory: 4000G }", ["memory", "3.9 TiB", "GiB"]),
        ("reservations: { cpus: \"500\" }, limits: { cpus: \"500\" }", ["500", "cores", "2"]),
    ] {
        let output = cluster.deploy("huge", &huge(what), &["--timeout", "5s"]).ended(1);
        let _ = output.says(&words).says(&["largest node", "ask for less"]);
        cluster.is_empty();
        assert_eq!(agent.made(), (vec![], vec![], vec![]));
    }
    // What would fit were nothing else there waits, and says for what.
    let half = "reservations: { memory: 10G }, limits: { memory: 10G }";
    let _ = cluster
        .deploy(
            "half",
            &huge(half).replace("    deploy:", "    command: [sleep, \"1000\"]\n    deploy:"),
            &[],
        )
        .ok();
    let output = cluster.deploy("other", &huge(half), &["--timeout", "2s"]).ended(1);
    let _ = output.says(&["memory", "lattice node"]);
    assert_eq!(cluster.allocations("other"), []);
    let _ = cluster.lattice(&["ps"]).ok().says(&["other/web#1", "pending", "memory"]);
    let _ = cluster.lattice(&["rm", "half", "other"]).ok();
    cluster.is_empty();
}

#[test]
fn names_and_ports_that_are_taken() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    // A port that another stack has.
    let port = free_port();
    let with_port = web("").replace("\"8080\"", &format!("\"{port}:8080\""));
    let _ = cluster.deploy("first", &with_port, &[]).ok();
    let second = cluster.deploy("second", &with_port, &["--timeout", "2s"]).ended(1);
    let _ = second.says(&[&format!("port {port}"), "lattice"]);
    assert_eq!(cluster.allocations("second"), []);
    let _ = cluster.lattice(&["rm", "first"]).ok();
    // It waited, and now gets it.
    cluster.serving("second", 1);
    let address = cluster.published("second", "web", 8080);
    assert_eq!(address.port(), port);
    assert_eq!(http(address).unwrap().0, 200);
    let _ = cluster.lattice(&["rm", "second"]).ok();

    // A port that somebody else on the machine has.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let with_port = web("").replace("\"8080\"", &format!("\"{port}:8080\""));
    let _ = cluster.deploy("third", &with_port, &["--timeout", "20s"]).ended(1).says(&[&port.to_string()]);
    let reason = cluster.allocations("third")[0].status.reason.clone();
    assert!(reason.is_some_and(|reason| reason.contains(&port.to_string())));
    drop(other);
    cluster.serving("third", 1);

    // A name that is taken.
    let run = ["run", "--name", "third", BUSYBOX, "true"];
    let _ = cluster.lattice(&run).failed().says(&["third"]);
    assert_eq!(cluster.allocations("third").len(), 1);
    let stacks = cluster.ask(cluster.client().stacks(&StackQuery::default())).unwrap().items;
    assert_eq!(stacks.len(), 1);
}

#[test]
fn missing_image() {
    let cluster = Cluster::start();
    let agent = cluster.join("a");
    let image = Registry::start().missing_image();
    let text = web("") + &format!("  lost:\n    image: {image}\n");
    let output = cluster.deploy("s", &text, &["--timeout", "30s"]).ended(1);
    let _ = output.says(&["lost", &image, "lattice"]);
    let all = cluster.allocations("s");
    let lost = all.iter().find(|a| a.workload.as_str() == "lost").unwrap();
    assert!(lost.status.reason.as_ref().is_some_and(|reason| reason.contains(&image)), "{lost:#?}");
    assert_ne!(lost.status.state, AllocationState::Running);
    let _ = cluster.lattice(&["ps", "s"]).ok().says(&["lost", "image"]);
    let _ = cluster.lattice(&["explain", "s/lost"]).ok().says(&[&image]);
    // The other service does not suffer, and a corrected file heals it.
    until("web serves all the same", lattice_e2e::PATIENCE, || {
        let all = cluster.allocations("s");
        if all.iter().any(|a| a.workload.as_str() == "web" && a.is_serving()) { Ok(()) } else { Err(all) }
    });
    let healed = web("") + &sleepers(&[("lost", "")])["services:\n".len()..];
    let _ = cluster.deploy("s", &healed, &[]).ok();
    cluster.serving("s", 2);
    assert_eq!(agent.made().0.len(), 2);
}

#[test]
fn what_the_owner_does_not_allow() {
    let cluster = Cluster::start();
    // An address beyond loopback is refused by the node itself: it is the owner's to allow.
    let agent = cluster.join("a");
    let beyond = web("")
        .replace("\"8080\"", "\"0.0.0.0:0:8080\"")
        .replace(":0:8080", &format!(":{}:8080", free_port()));
    let _ = cluster.deploy("wide", &beyond, &["--timeout", "10s"]).ended(1).says(&["loopback", "owner"]);
    let running = cluster.engine.docker(&[
        "ps",
        "--quiet",
        "--filter",
        &format!("label=lattice.node={}", agent.node()),
    ]);
    assert_eq!(running.ok().text(), "", "it never ran");
}
