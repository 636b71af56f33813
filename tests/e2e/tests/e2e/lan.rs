//! Containers reach their own stack and the internet, and nothing of the owner's network: a neighbour, a router but
//! for its name server, this host, IPv6, a VPN; also after somebody flushed the firewall, after the engine restarted,
//! while no agent runs. Each is reached first while the network is open, so that what is closed is closed by the rules.

use super::sleepers;
use lattice_e2e::{BUSYBOX, Bed, PATIENCE, eventually, until};
use lattice_model::machine::LanState;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A probe, and a server that it shares a network with.
fn house() -> String {
    format!(
        "services:\n  probe:\n    image: {BUSYBOX}\n    stop_grace_period: 1s\n    \
         command: [sh, -c, \"trap 'exit 0' TERM; sleep 100000 & wait\"]\n  \
         web:\n    image: {BUSYBOX}\n    stop_grace_period: 1s\n    ports: [\"8080\"]\n    \
         command: [sh, -c, \"mkdir -p /tmp/w && echo own >/tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w\"]\n"
    )
}

const INTERNET: [&str; 2] = ["http://203.0.113.10/", "http://internet.test/"];
const NEIGHBOUR: &str = "http://10.77.0.202/";
const VPN: &str = "http://198.51.100.7/";

/// What belongs to the owner: who, and where a container would ask.
const OWNERS: [(&str, &str); 6] = [
    ("the neighbour", NEIGHBOUR),
    ("the neighbour's database", "http://10.77.0.202:5432/"),
    ("the router", "http://10.77.0.201/"),
    ("the metadata service", "http://169.254.169.254/"),
    ("this host on the LAN", "http://10.77.0.11:8099/"),
    ("a network behind a VPN", VPN),
];
const OWNERS_6: [(&str, &str); 3] = [
    ("the neighbour", "http://[2001:db8:77:1::2]/"),
    ("this host on the LAN", "http://[2001:db8:77:1::11]:8099/"),
    ("this host on the bridge", "http://[2001:db8:172::1]:8099/"),
];

/// A shell on the node.
#[track_caller]
pub(super) fn on_node(bed: &Bed, text: &str) -> String {
    let mut command = bed.node("n1").machine().command("sh").unwrap();
    let output = command.args(["-euc", &format!("PATH=$PATH:/usr/sbin:/sbin; {text}")]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{text}: {words}{}", String::from_utf8_lossy(&output.stderr));
    words
}

/// The owner changes the rules of the node.
#[track_caller]
pub(super) fn rules(bed: &Bed, changes: &[&str]) {
    let args: Vec<&str> = ["rules", "set"].iter().chain(changes).copied().collect();
    let output = bed.node("n1").agent_command(&args).unwrap().output().unwrap();
    assert!(output.status.success(), "{changes:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn status(bed: &Bed) -> Value {
    let output = bed.node("n1").agent_command(&["status", "-o", "json"]).unwrap().output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The running container of a service.
#[track_caller]
pub(super) fn container(bed: &Bed, stack: &str, service: &str) -> String {
    until(&format!("a container of {stack}/{service} runs"), PATIENCE, || {
        let filter = format!("label=lattice.workload=default/{stack}/{service}");
        let ids = bed.docker("n1", &["ps", "--quiet", "--no-trunc", "--filter", &filter]);
        ids.lines().next().map(str::to_owned).ok_or(ids.clone())
    })
}

/// What a container gets from there; nothing where it is refused or nobody answers.
fn fetch(bed: &Bed, container: &str, url: &str) -> Option<String> {
    // The applet ends by a fault where it is given a time.
    let args = ["exec", container, "timeout", "4", "wget", "-q", "-O", "-", url];
    let said = bed.node("n1").engine().docker(&args).unwrap_or_else(|error| panic!("{error}"));
    (said.code == 0).then_some(said.stdout)
}

#[track_caller]
fn comes_to_reach(bed: &Bed, container: &str, who: &str, url: &str) {
    until(&format!("{who} is reached at {url}"), PATIENCE, || fetch(bed, container, url).ok_or("no answer"));
}

#[track_caller]
fn comes_to_miss(bed: &Bed, container: &str, who: &str, url: &str) {
    until(&format!("{who} is closed at {url}"), PATIENCE, || match fetch(bed, container, url) {
        None => Ok(()),
        Some(text) => Err(text),
    });
}

#[track_caller]
fn is_closed_and_the_internet_open(bed: &Bed, container: &str, when: &str) {
    for (who, url) in OWNERS {
        let began = Instant::now();
        assert_eq!(fetch(bed, container, url), None, "{when}: {who} at {url}");
        // A refusal is told, and not waited for.
        assert!(began.elapsed() < Duration::from_secs(20), "{when}: {who} took {:?}", began.elapsed());
    }
    for url in INTERNET {
        comes_to_reach(bed, container, &format!("{when}: the internet"), url);
    }
    comes_to_reach(bed, container, &format!("{when}: its own stack"), "http://web:8080/");
}

/// Gives a container what an engine with IPv6 would: an address, and a way out.
fn give_ipv6(bed: &Bed, container: &str) {
    let pid = bed.docker("n1", &["inspect", "-f", "{{.State.Pid}}", container]);
    let network = bed.docker("n1", &["network", "ls", "--filter", "label=lattice.stack=default/house", "-q"]);
    let option = "{{index .Options \"com.docker.network.bridge.name\"}}";
    let bridge = bed.docker("n1", &["network", "inspect", "-f", option, &network]);
    on_node(
        bed,
        &format!(
            "sysctl -qw net.ipv6.conf.{bridge}.disable_ipv6=0; ip -6 address add 2001:db8:172::1/64 dev {bridge} nodad
             nsenter --net=/proc/{pid}/ns/net sh -euc 'sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0
               ip -6 address add 2001:db8:172::2/64 dev eth0 nodad; ip -6 route add default via 2001:db8:172::1'"
        ),
    );
}

#[test]
fn containers_reach_their_stack_and_the_internet_and_nothing_of_the_owners() {
    let bed = Bed::up(1, &[]);
    let _house = bed.house();
    on_node(&bed, "ip route add 198.51.100.0/24 via 10.77.0.202");
    let _ = bed.deploy("house", &house(), &[]).ok();
    let _ = bed.deploy("other", &sleepers(&[("o", "")]), &[]).ok();
    bed.serving("house", 2);
    bed.serving("other", 1);
    let probe = container(&bed, "house", "probe");
    give_ipv6(&bed, &probe);
    let gateway = bed
        .docker("n1", &["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", &probe]);
    let on_bridge = format!("http://{gateway}:8099/");

    // Open, by the owner's word: everything is there to be reached.
    rules(&bed, &["lan.access=open"]);
    for (who, url) in OWNERS.iter().chain(&OWNERS_6).copied().chain([("this host", on_bridge.as_str())]) {
        comes_to_reach(&bed, &probe, who, url);
    }
    let node = bed.node_is("n1", "open", |node| node.facts.machine.lan == LanState::Open);
    assert_eq!(node.facts.machine.lan, LanState::Open);

    // Closed, as it is without a word.
    rules(&bed, &["lan.access="]);
    comes_to_miss(&bed, &probe, "the neighbour", NEIGHBOUR);
    is_closed_and_the_internet_open(&bed, &probe, "closed");
    for (who, url) in OWNERS_6.iter().copied().chain([("this host on its bridge", on_bridge.as_str())]) {
        assert_eq!(fetch(&bed, &probe, url), None, "{who} at {url}");
    }
    assert_eq!(fetch(&bed, &probe, "http://[2001:db8:ffff::10]/").as_deref(), Some("internet"));
    // The router tells names, its neighbour's name server does not.
    let lookup = |server: &str| {
        let args = ["exec", &probe, "timeout", "5", "nslookup", "internet.test", server];
        bed.node("n1").engine().docker(&args).unwrap().stdout.contains("203.0.113.10")
    };
    assert!(lookup("10.77.0.201") && !lookup("10.77.0.202"), "port 53 of the resolver, and of nobody else");
    // Another stack of the same node is not its own.
    let other = container(&bed, "other", "o");
    let address = bed.docker(
        "n1",
        &[
            "inspect",
            "-f",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            &container(&bed, "house", "web"),
        ],
    );
    assert_eq!(fetch(&bed, &other, &format!("http://{address}:8080/")), None);
    assert_eq!(fetch(&bed, &probe, &format!("http://{address}:8080/")).as_deref(), Some("own\n"));
    // Who runs the machine reaches what is published.
    let published = bed.published("house", "web", 8080);
    assert!(
        on_node(&bed, &format!("wget -q -O - http://{published}/ || curl -sf http://{published}/"))
            .contains("own")
    );
    bed.node_is("n1", "closed", |node| node.facts.machine.lan == LanState::Closed);
    let _ = bed.lattice(&["node", "show", "n1"]).ok().says(&["closed"]);

    // A route that comes is closed with it, in whichever table.
    on_node(
        &bed,
        "ip route del 198.51.100.0/24; ip route add 198.51.100.0/24 via 10.77.0.202 table 77; ip rule add to 198.51.100.0/24 lookup 77",
    );
    comes_to_miss(&bed, &probe, "a VPN's network by a policy", VPN);
    assert_eq!(fetch(&bed, &probe, VPN), None);

    // What the owner allows is open at once, and no more than that.
    rules(&bed, &["lan.allow=[\"10.77.0.202:80/tcp\", \"host:8099\"]"]);
    comes_to_reach(&bed, &probe, "the neighbour, as allowed", NEIGHBOUR);
    comes_to_reach(&bed, &probe, "this host, as allowed", &on_bridge);
    assert_eq!(fetch(&bed, &probe, "http://10.77.0.202:5432/"), None);
    assert_eq!(status(&bed)["lan"]["allow"][0], "host:8099", "{}", status(&bed)["lan"]);
    rules(&bed, &["lan.allow="]);
    comes_to_miss(&bed, &probe, "the neighbour, not allowed any more", NEIGHBOUR);

    // Somebody takes the rules away, or some of them.
    let table = status(&bed)["lan"]["table"].as_str().unwrap_or_default().to_owned();
    assert!(table.starts_with("inet lattice_"), "{table}");
    for hurt in [
        format!("nft delete table {table}"),
        format!("nft flush table {table}"),
        format!("nft flush chain {table} forward"),
    ] {
        let before = status(&bed)["lan"]["restored"].as_u64();
        on_node(&bed, &hurt);
        until(&format!("{hurt} is made good"), PATIENCE, || {
            let now = status(&bed)["lan"]["restored"].as_u64();
            if now > before { Ok(()) } else { Err(now) }
        });
        is_closed_and_the_internet_open(&bed, &probe, &hurt);
    }
    on_node(&bed, "nft flush ruleset");
    eventually("all rules were flushed, and ours are back", || {
        on_node(&bed, &format!("nft list table {table} 2>/dev/null || true")).contains("closed4")
    });
    // The engine's own rules come with the engine.
    bed.node("n1").restart_engine().unwrap();
    bed.serving("house", 2);
    let probe = container(&bed, "house", "probe");
    comes_to_reach(&bed, &probe, "the internet", INTERNET[0]);
    is_closed_and_the_internet_open(&bed, &probe, "after the engine's restart");

    // Without an agent the rules stay, as containers do.
    bed.node("n1").kill_agent().unwrap();
    is_closed_and_the_internet_open(&bed, &probe, "without an agent");
    bed.node("n1").start_agent().unwrap();
    eventually("the agent is back", || status(&bed)["lan"]["state"] == "closed");
    is_closed_and_the_internet_open(&bed, &probe, "after the agent's kill");

    // Whoever leaves takes the table with it.
    let output = bed.node("n1").agent_command(&["leave", "--remove"]).unwrap().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eventually("no table is left", || !on_node(&bed, "nft list tables").contains("lattice_"));
}

#[test]
fn nothing_runs_where_the_network_cannot_be_closed() {
    let bed = Bed::up(1, &[]);
    let _ = bed.deploy("a", &sleepers(&[("a", "")]), &[]).ok();
    bed.serving("a", 1);
    let nft = on_node(&bed, "command -v nft");
    // The engine's own tables stay: without them it makes no network.
    on_node(
        &bed,
        &format!(
            "{nft} delete table inet $({nft} list tables | sed -n 's/.*inet \\(lattice_.*\\)/\\1/p')
             mount --bind /dev/null $(readlink -f {nft})"
        ),
    );
    // What runs is stopped after a moment, and the server knows why.
    until("the node is suspended", PATIENCE, || {
        let shown = bed.lattice(&["node", "show", "n1"]).ok().stdout;
        if shown.contains("lan_not_closed") || shown.contains("cannot be closed") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    eventually("nothing runs", || bed.running("a").is_empty());
    let status = status(&bed);
    assert_eq!(status["lan"]["state"], "unfenced", "{}", status["lan"]);
    assert_eq!(status["owner"]["verdict"]["suspended"]["reason"], "lan_not_closed", "{}", status["owner"]);
    // Nor does anything new.
    let path = bed.compose("b", &sleepers(&[("b", "")]));
    let _ = bed.lattice(&["deploy", "--name", "b", "-f", path.to_str().unwrap(), "--no-wait"]);
    assert!(bed.running("b").is_empty());
    // The owner may open it; or mends it, and all goes on behind closed doors.
    rules(&bed, &["lan.access=open"]);
    bed.serving("a", 1);
    bed.serving("b", 1);
    on_node(&bed, &format!("umount $(readlink -f {nft})"));
    rules(&bed, &["lan.access="]);
    bed.node_is("n1", "closed", |node| node.facts.machine.lan == LanState::Closed);
    bed.serving("a", 1);
    assert!(on_node(&bed, "nft list tables").contains("lattice_"));
}
