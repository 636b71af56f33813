//! Who may be a node, and who is cut off.

use super::sleepers;
use lattice_api::NodeView;
use lattice_e2e::{Agent, Cluster, Engine, Home, Options, PATIENCE, eventually, expired_certificate, until};
use lattice_identity::{
    Fingerprint,
    token::{JoinToken, TokenSecret},
};
use lattice_model::resource::{Approval, PresenceState};
use std::sync::Arc;

fn machine(cluster: &Cluster, name: &str) -> Agent {
    Agent::new(name, Arc::clone(&cluster.engine))
}

fn only_node(cluster: &Cluster, is: impl Fn(&NodeView) -> bool) -> NodeView {
    until("there is one node", PATIENCE, || match cluster.ask(cluster.client().nodes()) {
        Ok(list) if list.items.len() == 1 && is(&list.items[0]) => Ok(list.items[0].clone()),
        other => Err(other),
    })
}

#[test]
fn nothing_before_approval() {
    let cluster = Cluster::start();
    let mut agent = machine(&cluster, "new");
    let mut joining = agent.join_and_wait(&cluster.token(1, false));
    let node = only_node(&cluster, |node| node.approval == Approval::Pending);
    assert_eq!(node.name.as_str(), "new");
    let table = cluster.lattice(&["node", "ls"]).ok();
    let _ = table.says(&["new", "pending approval", "lattice node approve"]);

    // A stack waits, and says for what.
    let deployed = cluster.deploy("s", &sleepers(&[("one", "")]), &["--timeout", "1s"]);
    let _ = deployed.ended(1).says(&["not approved", "lattice node"]);
    let _ = cluster.lattice(&["ps"]).ok().says(&["pending", "not approved"]);
    let _ = cluster.lattice(&["explain", "s/one"]).ok().says(&["not approved"]);
    assert_eq!(cluster.allocations("s"), []);
    until("join says what it waits for", PATIENCE, || {
        let log = joining.log();
        if log.contains("lattice node approve") { Ok(()) } else { Err(log) }
    });

    // Approval rests on evidence: another fingerprint is refused.
    let wrong = "0".repeat(64);
    let _ =
        cluster.lattice(&["node", "approve", "new", "--fingerprint", &wrong]).failed().says(&["fingerprint"]);
    let _ = cluster.lattice(&["node", "approve", "new"]).ended(2).says(&["--yes"]);
    let _ = cluster.lattice(&["node", "approve", "new", "--yes"]).ok();
    assert!(joining.wait(PATIENCE).success(), "{}", joining.log());
    agent.start();
    cluster.serving("s", 1);
    assert_eq!(agent.node(), node.id.to_string());
}

#[test]
fn rejected() {
    let cluster = Cluster::start();
    let agent = machine(&cluster, "unwanted");
    let mut joining = agent.join_and_wait(&cluster.token(1, false));
    only_node(&cluster, |node| node.approval == Approval::Pending);
    let _ = cluster.lattice(&["node", "reject", "unwanted", "--reason", "unknown laptop"]).ok();
    assert!(!joining.wait(PATIENCE).success());
    let log = joining.log();
    assert!(log.contains("turned away") && log.contains("unknown laptop"), "{log}");
    // Trying again with the same key changes nothing, even with a good token.
    let _ = agent.join(&cluster.token(1, true)).failed().says(&["turned away"]);
    only_node(&cluster, |node| node.approval == Approval::Rejected);
}

#[test]
fn revoked() {
    let cluster = Cluster::start();
    let mut agent = cluster.join("a");
    let _ = cluster.deploy("s", &sleepers(&[("one", "")]), &[]).ok();
    let there = agent.made().0;
    let begun = cluster.engine.started_at(&there[0]);
    let _ = cluster.lattice(&["node", "revoke", "a", "--reason", "sold"]).ok();
    cluster.node_is("a", "cut", |node| {
        node.approval == Approval::Revoked && node.presence.state == PresenceState::Disconnected
    });
    until("the agent knows why", PATIENCE, || {
        let log = agent.log();
        if log.contains("thrown out") && log.contains("sold") { Ok(()) } else { Err(log) }
    });
    // What it ran is placed elsewhere as soon as there is somewhere else; by itself it changes nothing here.
    let other = cluster.join_on("b", Engine::private());
    cluster.all_are("s", 1, "running on b", |a| a.node.as_str() == "b" && a.is_serving());
    assert_eq!(other.made().0.len(), 1);
    assert_eq!(cluster.engine.started_at(&there[0]), begun, "what runs on a machine is its owner's business");
    // Started again, it still gets nothing: its certificate is good by the clock, and worth nothing.
    agent.kill();
    agent.start();
    until("the agent is told again", PATIENCE, || {
        let log = agent.log();
        if log.matches("thrown out").count() > 1 { Ok(()) } else { Err(log) }
    });
    assert_eq!(cluster.ask(cluster.client().node("a")).unwrap().presence.state, PresenceState::Disconnected);
}

#[test]
fn bad_tokens_are_refused_each_with_its_reason() {
    let cluster = Cluster::start();
    let good = cluster.token(1, true);
    let parsed = JoinToken::parse(&good).unwrap();
    let with = |root, id, secret: TokenSecret| {
        JoinToken::new(parsed.servers().to_vec(), root, id, secret).unwrap().reveal().to_string()
    };
    let refused = |token: &str, words: &[&str]| {
        let agent = machine(&cluster, "x");
        let _ = agent.join(token).failed().says(words);
    };
    // Another secret.
    refused(
        &with(parsed.root(), parsed.id(), TokenSecret::from_bytes([7; 32])),
        &["altered", "lattice token create"],
    );
    // Another root: the agent does not trust this server, and tells it nothing.
    refused(
        &with(Fingerprint::of(b"another"), parsed.id(), parsed.secret().clone()),
        &["another", "cluster"],
    );
    // A token of another cluster that names this one's root and address.
    let elsewhere = Cluster::start();
    let foreign = JoinToken::parse(&elsewhere.token(1, true)).unwrap();
    refused(
        &with(parsed.root(), foreign.id(), foreign.secret().clone()),
        &["does not know", "lattice token create"],
    );
    drop(elsewhere);
    // A typo, half a token, and something else altogether.
    let typo = format!("{}{}{}", &good[..20], if &good[20..21] == "A" { "B" } else { "A" }, &good[21..]);
    refused(&typo, &["typo"]);
    refused(&good[..good.len() / 2], &["incomplete"]);
    refused("hello", &["not a join token"]);

    let short = cluster.lattice(&["token", "create", "--ttl", "250ms"]).ok();
    let expires = "expired";
    until("the token has expired", PATIENCE, || {
        let list = cluster.lattice(&["token", "ls"]).ok();
        if list.stdout.contains(expires) { Ok(()) } else { Err(list.stdout) }
    });
    refused(short.text(), &["expired", "lattice token create"]);

    let deleted = cluster.lattice(&["token", "create", "-o", "json"]).ok().json::<serde_json::Value>();
    let _ = cluster.lattice(&["token", "rm", deleted["id"].as_str().unwrap()]).ok();
    refused(deleted["token"].as_str().unwrap(), &["does not know"]);

    // None of them used up the good one, and nobody joined.
    assert_eq!(cluster.ask(cluster.client().nodes()).unwrap().items, []);
    let first = machine(&cluster, "first");
    let _ = first.join(&good).ok();
    refused(&good, &["used as often as it allows", "lattice token create"]);
    only_node(&cluster, |node| node.name.as_str() == "first");
}

#[test]
fn an_agent_refuses_another_server() {
    // A home with all state in it, so that another home is another cluster.
    let mut cluster = Cluster::with(Options { home: Some(Home::new()), ..Options::default() });
    let mut agent = cluster.join("a");
    let _ = cluster.deploy("s", &sleepers(&[("one", "")]), &[]).ok();
    let before = cluster.starts("s");
    // Somebody sets up a new server at the same address.
    cluster.stop_server();
    let home = cluster.home().join("server");
    std::fs::rename(&home, cluster.home().join("server.true")).unwrap();
    let seen = agent.log().len();
    cluster.start_server();
    until("the agent says whose server that is", PATIENCE, || {
        let log = agent.log()[seen..].to_owned();
        if log.contains("another Lattice cluster") { Ok(()) } else { Err(log) }
    });
    assert_eq!(cluster.ask(cluster.client().nodes()).unwrap().items, []);
    // The true one comes back.
    cluster.stop_server();
    std::fs::remove_dir_all(&home).unwrap();
    std::fs::rename(cluster.home().join("server.true"), &home).unwrap();
    cluster.start_server();
    // It may have decided to wait for long; a new start tries at once.
    agent.kill();
    agent.start();
    cluster.connected("a");
    assert_eq!(cluster.starts("s"), before);
}

#[test]
fn a_certificate_that_ended_long_ago() {
    let mut cluster = Cluster::start();
    let mut agent = cluster.join("a");
    let _ = cluster.deploy("s", &sleepers(&[("one", "")]), &[]).ok();
    let before = cluster.starts("s");
    assert!(agent.stop().success());
    assert!(cluster.stop_server().success());
    expired_certificate(&cluster, &agent, 700);
    cluster.start_server();
    let gone = cluster.node_is("a", "away", |node| node.presence.state == PresenceState::Disconnected);
    agent.start();
    let back = cluster.connected("a");
    assert!(back.certificate_expires_at > gone.certificate_expires_at, "{gone:#?} {back:#?}");
    assert_eq!(cluster.starts("s"), before);
    let _ = cluster.deploy("t", &sleepers(&[("one", "")]), &[]).ok();
}

#[test]
fn a_copied_node_is_noticed() {
    let cluster = Cluster::start();
    let mut agent = cluster.join("a");
    let _ = cluster.deploy("s", &sleepers(&[("one", "")]), &[]).ok();
    let before = cluster.starts("s");
    let mut copy = agent.copied();
    copy.start();
    let node = cluster.node_is("a", "set apart", |node| node.approval == Approval::Quarantined);
    assert!(node.clone_warning.is_some(), "{node:#?}");
    let _ = cluster.lattice(&["node", "show", "a"]).ok().says(&[
        "quarantined",
        "it is a copy",
        "lattice node approve",
    ]);
    let events = cluster.lattice(&["events", "-n", "100"]).ok();
    let _ = events.says(&["lattice node approve a"]);
    // Neither is served.
    let _ =
        cluster.deploy("t", &sleepers(&[("one", "")]), &["--timeout", "1s"]).ended(1).says(&["not approved"]);
    assert_eq!(cluster.starts("s"), before, "what runs runs on");

    copy.kill();
    let _ = cluster.lattice(&["node", "approve", "a", "--yes"]).ok();
    agent.kill();
    agent.start();
    cluster.connected("a");
    cluster.serving("t", 1);
    assert_eq!(cluster.starts("s"), before);
    // The copy, once more, is noticed once more.
    copy.start();
    cluster.node_is("a", "set apart again", |node| node.approval == Approval::Quarantined);
    copy.kill();
    // Keeps the copy's end from removing what is the node's.
    std::fs::remove_dir_all(copy.folder()).unwrap();
    eventually("the workload runs on", || cluster.starts("s") == before);
}
