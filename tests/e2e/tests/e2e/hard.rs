//! Days on which much goes wrong at once: what runs runs on, it is said what is wrong, and all goes on by itself.

use super::{nodes::pairs, sleepers};
use lattice_api::NodeView;
use lattice_e2e::{Agent, BUSYBOX, Bed, Clock, Cluster, How, PATIENCE, until};
use lattice_model::{
    health::{ConditionKind, Level, Reason},
    resource::PresenceState,
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// For what waits for several spans of hysteresis.
const LONG: Duration = Duration::from_secs(200);

fn is(node: &NodeView, kind: ConditionKind, level: Level, reason: Reason) -> bool {
    node.conditions.iter().any(|one| (one.kind, one.level, one.reason) == (kind, level, reason))
}

fn status(agent: &Agent) -> String {
    agent.lattice_agent(&["status"], b"").stdout
}

/// What the link of an agent is said to suffer from.
fn says(agent: &Agent, words: &[&str]) {
    until(&format!("its status says {words:?}"), PATIENCE, || {
        let text = status(agent);
        // Lines are broken where they are long.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.iter().all(|word| flat.contains(word)) { Ok(()) } else { Err(text) }
    });
}

/// A slow link is said, and each network's speed is measured once, without anybody asking.
#[test]
fn links_are_measured() {
    let bed = Bed::up(2, &[]);
    bed.node("n1").delay_packets(Duration::from_millis(700), Duration::ZERO).unwrap();
    let seen = |name: &str| bed.ask(bed.client().node(name)).unwrap();
    let measured = |name: &str| {
        until(&format!("the link of {name} is measured"), LONG, || {
            let node = seen(name);
            let network = node.facts.machine.network.clone().filter(|network| network.down.is_some());
            network.filter(|network| network.up.is_some()).ok_or(node.facts.machine.network)
        })
    };
    let (far, near) = (measured("n1"), measured("n2"));
    assert!(far.down < near.down && far.up < near.up, "{far:?} {near:?}");
    assert!(!near.metered && near.round_trip_us < 700_000, "{near:?}");
    until("the slow link is said", LONG, || {
        let node = seen("n1");
        let slow = is(&node, ConditionKind::Network, Level::Warning, Reason::SlowLink);
        if slow { Ok(()) } else { Err(node.conditions) }
    });
    assert!(
        is(&seen("n2"), ConditionKind::Network, Level::Good, Reason::Fine),
        "{:#?}",
        seen("n2").conditions
    );
    let _ = bed.lattice(&["node", "show", "n1"]).ok().says(&["ms there and back", "slow_link (warning)"]);
    // Known again after a restart, from the first word on.
    bed.node("n2").restart_agent().unwrap();
    let again = bed.connected("n2").facts.machine.network.unwrap();
    assert_eq!((again.down, again.at), (near.down, near.at), "measured once a day");
}

/// A laptop is carried into another network: the old address is gone with every connection on it.
#[test]
fn another_address_costs_seconds_and_no_container() {
    let bed = Bed::up(1, &[]);
    let _ = bed.deploy("s", &pairs(&["a"]), &[]).ok();
    bed.serving("s", 2);
    let before = bed.containers("s");
    let since = bed.connected("n1").presence.since;
    let began = Instant::now();
    bed.node("n1").move_address(200).unwrap();
    until("the agent says why", PATIENCE, || {
        let log = bed.node("n1").agent_log();
        if log.contains("this machine's address is another one now") { Ok(()) } else { Err("not yet") }
    });
    until("the link is back", PATIENCE, || {
        let log = bed.node("n1").agent_log();
        if log.matches(" connected").count() >= 2 {
            Ok(())
        } else {
            Err(log.lines().last().map(str::to_owned))
        }
    });
    // A heartbeat and a dial; that nobody answers is noticed only after fifteen seconds more.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let _ = bed.deploy("t", &sleepers(&[("one", "")]), &[]).ok();
    bed.serving("t", 1);
    assert_eq!(bed.containers("s"), before, "the same containers, never restarted");
    assert_eq!(bed.connected("n1").presence.since, since, "nobody was alarmed");
}

/// Answers everything with a redirect, as sign-in pages do: in plain HTTP, or with a certificate of its own.
fn portal(tls: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "portal.example".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let answer =
                b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\nConnection: close\r\n\r\n";
            if tls {
                let mut session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut secure = rustls::Stream::new(&mut session, &mut stream);
                let _ = secure.read(&mut [0; 1024]);
                let _ = secure.write_all(answer);
            } else {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer);
            }
        }
    });
    address
}

/// Somebody else answers in the server's place until a person has signed in. He is not believed, it is said what to
/// do, and after it the node is simply there again.
#[test]
fn a_captive_portal_is_named_and_not_trusted() {
    let cluster = Cluster::start();
    let agent = cluster.join("a");
    let _ = cluster.deploy("s", &sleepers(&[("one", "")]), &[]).ok();
    cluster.serving("s", 1);
    let starts = cluster.starts("s");
    for tls in [false, true] {
        let server = cluster.link.lead_to(portal(tls));
        says(
            &agent,
            &["open a browser and sign in", if tls { "in the server's place" } else { "captive portal" }],
        );
        cluster.node_is("a", "away", |node| node.presence.state != PresenceState::Connected);
        cluster.link.lead_to(server);
        cluster.connected("a");
    }
    assert_eq!(cluster.starts("s"), starts);
    cluster.serving("s", 1);
}

/// Kills the container of a service, and waits for the one in its place to run.
fn comes_back(cluster: &Cluster, stack: &str, service: &str) {
    let mine = |starts: Vec<(String, String, String)>| {
        starts.into_iter().find(|(name, _, _)| name.starts_with(service)).unwrap()
    };
    let (_, container, at) = mine(cluster.starts(stack));
    let _ = cluster.engine.docker(&["kill", &container]).ok();
    until("it runs again", PATIENCE, || {
        let (_, container, now) = mine(cluster.starts(stack));
        let running = cluster.engine.inspect("container", &container)["State"]["Running"] == true;
        if running && now != at { Ok(()) } else { Err(now) }
    });
}

/// A clock that goes an hour ahead, and one that goes an hour back: both are said, and nothing but what ended by
/// itself is started again.
#[test]
fn a_clock_that_jumps_restarts_nothing() {
    let cluster = Cluster::start();
    let clock = Clock::new();
    let mut agent = cluster.join("a");
    agent.stop();
    agent.goes_by(&clock);
    agent.start();
    cluster.connected("a");
    let _ = cluster.deploy("s", &sleepers(&[("calm", ""), ("hit", "")]), &[]).ok();
    cluster.serving("s", 2);
    let calm = |cluster: &Cluster| cluster.starts("s").into_iter().find(|(name, ..)| name == "calm#1");
    let before = calm(&cluster);
    let wrong = |node: &NodeView| is(node, ConditionKind::Clock, Level::Bad, Reason::Skewed);
    for hours in [1, -1] {
        clock.set(hours * 3600);
        cluster.node_is("a", "said to have a wrong clock", wrong);
        // Pauses before restarts are of the clock that nobody sets.
        comes_back(&cluster, "s", "hit");
        says(&agent, &["clock: skewed (bad)"]);
        // Its certificate is young, so that it has not begun by a clock that is behind.
        cluster.link.cut(How::Refused);
        cluster.node_is("a", "away", |node| node.presence.state != PresenceState::Connected);
        cluster.link.restore();
        if hours > 0 {
            cluster.connected("a");
        } else {
            says(&agent, &["this machine's clock says", "compare this machine's date and time"]);
        }
        assert_eq!(calm(&cluster), before, "{hours} h");
        clock.set(0);
        cluster.connected("a");
        cluster.node_is("a", "said to have a right clock", |node| {
            is(node, ConditionKind::Clock, Level::Good, Reason::Fine)
        });
    }
    cluster.serving("s", 2);
    assert_eq!(calm(&cluster), before);
    // What happened meanwhile was never later than now.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    for event in cluster.events("s") {
        assert!(u128::try_from(event.at.0).unwrap() <= now, "{event:?}");
    }
}

/// Hours are by the wall clock: one that jumps out of them stops the work, and one that jumps back begins it.
#[test]
fn hours_follow_the_clock_that_jumped() {
    let cluster = Cluster::start();
    let clock = Clock::new();
    let mut agent = cluster.join("a");
    let _ = cluster.deploy("s", &sleepers(&[("one", "")]), &[]).ok();
    cluster.serving("s", 1);
    agent.stop();
    agent.goes_by(&clock);
    agent.start();
    cluster.connected("a");
    // Of the day, three hours each way, and always in minutes that have two digits.
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 60 % 1440;
    let at = |minutes: u64| format!("{:02}:{:02}", minutes % 1440 / 60, minutes % 60);
    let hours =
        format!("time_zone = \"UTC\"\n[hours]\ndaily = [\"{}-{}\"]\n", at(now + 1440 - 180), at(now + 180));
    fs::write(agent.folder().join("rules.toml"), hours).unwrap();
    clock.set(5 * 3600);
    says(&agent, &["outside_hours"]);
    cluster.node_is("a", "suspended", |node| !node.standing.takes_work());
    clock.set(0);
    cluster.node_is("a", "at work", |node| node.standing.takes_work());
    cluster.serving("s", 1);
}

/// A program for another kind of processor behind an image that says nothing of it: it is said why, by the engine
/// that refuses to start it or by what the container wrote where the engine finds out later, in `lattice ps` and with
/// what happened, with pauses that grow, and nothing else suffers.
#[test]
fn a_foreign_program_is_named_without_a_storm() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    let folder = tempfile::tempdir().unwrap();
    let mut elf = vec![0u8; 256];
    elf[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0");
    let program = folder.path().join("program");
    fs::write(&program, elf).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY program /program\nCMD [\"/program\"]\n")
        .unwrap();
    let tag = format!("lattice-test/foreign:{}", std::process::id());
    let mut build = Command::new("docker");
    // Which every command line can do, with the plugin for the other builder and without.
    build.env("DOCKER_BUILDKIT", "0").args(["build", "--quiet", "--label", "lattice.test=1", "--tag", &tag]);
    let built = build.arg(folder.path()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let text = format!("services:\n  odd:\n    image: {tag}\n    pull_policy: never\n");
    let _ = cluster.deploy("odd", &text, &["--no-wait"]).ok();
    until("it is said why", PATIENCE, || {
        let said = cluster.lattice(&["ps", "-a", "-o", "json", "odd"]).ok().stdout;
        if said.contains("made for another kind of machine") { Ok(()) } else { Err(said) }
    });
    let told = cluster.events("odd");
    let why = |event: &lattice_api::EventView| {
        event.cause.as_deref().is_some_and(|why| why.contains("made for another kind of machine"))
    };
    assert!(told.iter().any(why), "{told:#?}");
    let _ = cluster.deploy("fine", &sleepers(&[("one", "")]), &[]).ok();
    cluster.serving("fine", 1);
    let began = Instant::now();
    until("some time passes", PATIENCE, || {
        if began.elapsed() > Duration::from_secs(12) { Ok(()) } else { Err("not yet") }
    });
    let tries = cluster.allocations("odd").iter().map(|one| one.status.restarts).max().unwrap();
    assert!(tries <= 8, "{tries} attempts in so short a time are a storm");
    let _ = cluster.lattice(&["rm", "-y", "odd"]).ok();
    let _ = Command::new("docker").args(["rmi", "--force", &tag]).output();
}

/// An image that says that it is for another kind of processor than any machine has is placed nowhere, and it is said why
/// and what to do.
#[test]
fn an_image_for_another_processor_is_placed_nowhere() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    // The small image with another word in its configuration; no program of another kind is needed for that.
    let folder = tempfile::tempdir().unwrap();
    let tag = format!("lattice-test/arm:{}", std::process::id());
    let script = "cd \"$1\"; docker save \"$2\" | tar x; rm -f repositories
        sed -i 's/\"architecture\":\"amd64\"/\"architecture\":\"arm64\"/' *.json
        sed -i \"s,$2,$3,\" manifest.json; tar c . | docker load";
    let mut remake = Command::new("sh");
    remake.args(["-euc", script, "sh"]).arg(folder.path()).args([BUSYBOX, &tag]);
    let remade = remake.output().unwrap();
    assert!(remade.status.success(), "{}", String::from_utf8_lossy(&remade.stderr));
    let text = "services:\n  odd:\n    build: .\n";
    let built = cluster.compose("arm", text);
    let dockerfile = format!("FROM {tag}\nLABEL lattice.test=1\nCMD [\"sleep\", \"1000\"]\n");
    fs::write(built.parent().unwrap().join("Dockerfile"), dockerfile).unwrap();
    let _ = cluster.deploy("arm", text, &["--no-wait"]).ok();
    until("it is said why it is placed nowhere", PATIENCE, || {
        let said = cluster.lattice(&["ps", "-a", "arm"]).ok().stdout;
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        if flat.contains("its image is for linux/arm64") { Ok(()) } else { Err(said) }
    });
    assert!(cluster.allocations("arm").is_empty(), "{:?}", cluster.allocations("arm"));
    let _ = cluster.lattice(&["rm", "-y", "arm"]).ok();
    let _ = Command::new("docker").args(["rmi", "--force", &tag]).output();
}

/// A registry that takes connections and never answers holds up its own image and nothing else.
#[test]
fn a_registry_that_hangs_holds_nobody_else_up() {
    let cluster = Cluster::start();
    let _agent = cluster.join("a");
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/team/app:1", deaf.local_addr().unwrap());
    let (held, stop) = std::sync::mpsc::channel::<()>();
    let listening = thread::spawn(move || {
        deaf.set_nonblocking(true).unwrap();
        let mut open = Vec::new();
        while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            open.extend(deaf.accept());
            thread::sleep(Duration::from_millis(20));
        }
    });
    let text = format!("services:\n  one:\n    image: {image}\n");
    let _ = cluster.deploy("deaf", &text, &["--no-wait"]).ok();
    until("it is being fetched", PATIENCE, || {
        let all = cluster.allocations("deaf");
        if all.iter().any(|one| format!("{:?}", one.status.state).contains("Pulling")) {
            Ok(())
        } else {
            Err(all)
        }
    });
    let began = Instant::now();
    let _ = cluster.deploy("fine", &sleepers(&[("one", ""), ("two", "")]), &[]).ok();
    cluster.serving("fine", 2);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    // Its machine says no at last, and that is said.
    drop(held);
    listening.join().unwrap();
    until("the registry is named", PATIENCE, || {
        let said = cluster.lattice(&["ps", "-a", "-o", "json", "deaf"]).ok().stdout;
        if said.contains("the registry of") { Ok(()) } else { Err(said) }
    });
    let _ = cluster.lattice(&["rm", "-y", "deaf"]).ok();
    cluster.serving("fine", 2);
}
