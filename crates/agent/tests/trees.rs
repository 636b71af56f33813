//! Files that travel with a deployment, on a real engine.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_model::{
    report::AllocationState,
    spec::{TreeDigest, TreeMount},
};
use lattice_tree::Packer;
use std::{fs, path::Path, sync::Arc};
use support::{Node, Server, goal, id};

fn mount(tree: TreeDigest, path: &str, target: &str) -> TreeMount {
    TreeMount { tree, path: path.into(), target: target.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_mounts_files_that_were_fetched_read_only_and_for_every_user() {
    let server = Server::start().await;
    let mut packer = Packer::new();
    packer.file(Path::new("conf/app.conf"), 0o644, (0, 0), b"greeting=hello").unwrap();
    packer.file(Path::new("conf/run.sh"), 0o755, (0, 0), b"#!/bin/sh\necho ran").unwrap();
    packer.file(Path::new("conf/own"), 0o400, (1234, 1234), b"mine").unwrap();
    packer.file(Path::new("large"), 0o644, (0, 0), &[7; 300_000]).unwrap();
    packer.link(Path::new("current"), Path::new("conf/app.conf")).unwrap();
    let tree = packer.finish().unwrap();
    server.fake.seen.lock().trees.insert(tree.digest, (tree.archive.clone(), 0));
    let mut node = Node::running(&server).await;
    let (web, lost, astray) = (id(), id(), id());
    let script = "set -e; id -u; cat /etc/app/app.conf /etc/current; /etc/app/run.sh; test $(wc -c </srv/large) = 300000; \
                  if touch /etc/app/x 2>/dev/null; then exit 9; fi; if [ $(id -u) = 1234 ]; then cat /etc/app/own; fi; sleep 3600";
    let mut wanted = goal([(web, script), (lost, "sleep 3600"), (astray, "sleep 3600")]);
    let trees = |goal: &mut lattice_model::Goal, id, mounts: Vec<TreeMount>| {
        let allocation = goal.allocations.get_mut(&id).unwrap();
        let spec = Arc::make_mut(&mut allocation.spec);
        spec.trees = mounts;
        if rustix::process::geteuid().is_root() {
            spec.process.user = Some("1234:1234".into());
        }
    };
    let mounts = vec![
        mount(tree.digest, "conf", "/etc/app"),
        mount(tree.digest, "current", "/etc/current"),
        mount(tree.digest, "", "/srv"),
    ];
    trees(&mut wanted, web, mounts);
    trees(&mut wanted, lost, vec![mount(TreeDigest::of(b"nowhere"), "", "/x")]);
    trees(&mut wanted, astray, vec![mount(tree.digest, "conf/absent", "/x")]);
    server.give(1, &wanted);
    let running = server.state(web, AllocationState::Running).await;
    assert_eq!(running.restarts, 0);
    // It broke off once and went on where it was.
    let asked = server.fake.seen.lock().trees[&tree.digest].1;
    assert_eq!(asked, 2);
    let told = server.state(lost, AllocationState::BackingOff).await;
    assert!(told.reason.as_ref().unwrap().contains("there are no such files"), "{told:?}");
    let told = server.state(astray, AllocationState::BackingOff).await;
    assert!(told.reason.as_ref().unwrap().contains("conf/absent"), "{told:?}");
    let unpacked = node.folder.path().join("agent/trees").join(tree.digest.to_string());
    assert_eq!(fs::read(unpacked.join("current")).unwrap(), b"greeting=hello");
    assert_eq!(fs::read_dir(unpacked.parent().unwrap()).unwrap().count(), 1, "nothing half done is left");
    // The agent ends and comes back: what runs has its files, and nothing is fetched again.
    node.kill().await;
    node.start().await;
    server.until("it is back", |seen| (seen.hellos.len() > 1).then_some(())).await;
    node.says("its container runs on", |status| {
        status.allocations.iter().any(|line| line.id == web && line.status.state == AllocationState::Running)
    })
    .await;
    assert_eq!(server.fake.seen.lock().trees[&tree.digest].1, 2);
    let container = node.container(web).await.unwrap();
    assert_eq!(container.state, lattice_model::container::ContainerState::Running);
    node.clear().await;
    let home = loop {
        match lattice_agent_core::Home::open(node.folder.path()) {
            Ok(home) => break home,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    home.forget().unwrap();
    assert!(!unpacked.exists(), "who leaves takes them along");
}
