//! The Docker part against a real engine: the whole conformance suite, pulls from a registry that
//! lives in the test, an engine that goes and comes back, and what the port costs.
//!
//! `DOCKER_HOST` names another engine than the usual socket (a `unix://` address, as `make test`
//! gives it). Without an engine these tests fail and say so: a skipped test proves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod registry;

use futures::StreamExt as _;
use lattice_model::{
    NetworkId,
    container::{ContainerId, LABEL_NETWORK, bridge_prefix, labelled_bridge},
};
use lattice_runtime::{PullProgress, Runtime, RuntimeError, conformance::Stage, docker::Docker};
use registry::Registry;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::watch,
};

const IMAGE: &str = "lattice-test/busybox:1";

fn socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned()
}

fn docker() -> Arc<dyn Runtime> {
    Arc::new(Docker::new(&socket()).unwrap())
}

mod core {
    use super::{IMAGE, docker};
    lattice_runtime::runtime_conformance!(docker(), IMAGE, core);
}

mod linux {
    use super::{IMAGE, docker};
    lattice_runtime::runtime_conformance!(docker(), IMAGE, linux);
}

mod keys {
    use super::{IMAGE, docker};
    lattice_runtime::runtime_conformance!(docker(), IMAGE, keys);
}

mod builds {
    use super::{IMAGE, docker};
    lattice_runtime::runtime_conformance!(docker(), IMAGE, builds);
}

/// One request by hand, as small as a request can be.
async fn raw(method: &str, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket()).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_engine_tells_what_it_is() {
    let info = docker().info().await.expect("a container engine; `make test` starts one");
    assert!(!info.version.is_empty() && info.api_version.starts_with("1."), "{info:?}");
    assert_eq!(info.os, "linux");
    assert!(info.cpus > 0 && info.memory.0 > 0 && !info.data_root.is_empty(), "{info:?}");
    assert!(matches!(info.cgroup_version, Some(1 | 2)), "{info:?}");
}

#[tokio::test]
async fn an_image_is_pulled_with_progress() {
    let registry = Registry::start().await;
    let image = format!("{}/team/app:1", registry.address);
    let (progress, seen) = watch::channel(PullProgress::default());
    docker().pull(&image, None, None, progress).await.unwrap();
    let there = docker().has_image(&image).await.unwrap();
    raw("DELETE", &format!("/images/{image}?force=1"), "").await;
    assert!(there);
    let last = *seen.borrow();
    assert_eq!((last.layers, last.layers_done), (1, 1), "{last:?}");
    assert!(last.total > 0 && last.current == last.total, "{last:?}");
}

#[tokio::test]
async fn an_image_is_resolved_seen_and_removed_by_its_name() {
    let registry = Registry::start().await;
    let (engine, image) = (docker(), format!("{}/team/app:1", registry.address));
    let found = engine.resolve(&image, None).await.unwrap();
    assert_eq!(found.platforms, ["linux/amd64".to_owned()].into());
    let missing = engine.resolve(&format!("{}/team/app:2", registry.address), None).await.unwrap_err();
    assert!(matches!(missing, RuntimeError::ImageMissing { .. }), "{missing:?}");
    assert_eq!(engine.image(&image).await.unwrap(), None);
    let pinned = format!("{}/team/app@{}", registry.address, found.digest);
    engine.pull(&pinned, None, None, watch::channel(PullProgress::default()).0).await.unwrap();
    let seen = engine.image(&pinned).await.unwrap().expect("it was pulled");
    assert!(seen.digests.contains(&pinned) && seen.tags.is_empty() && seen.layers.len() == 1, "{seen:?}");
    assert!(seen.size.0 >= 8 << 20 && seen.platform == "linux/amd64", "{seen:?}");
    let listed = engine.images().await.unwrap();
    assert!(listed.iter().any(|other| other.id == seen.id && other.layers == seen.layers));
    assert!(engine.remove_image(&pinned).await.unwrap());
    assert!(!engine.remove_image(&pinned).await.unwrap(), "it is gone");
    assert_eq!(engine.image(&seen.id).await.unwrap(), None);
}

#[tokio::test]
async fn an_archive_that_is_none_or_breaks_off_is_refused() {
    let engine = docker();
    let noise = futures::stream::iter([Ok(bytes::Bytes::from_static(b"no archive"))]).boxed();
    let refused = engine.load(noise).await.unwrap_err();
    assert!(matches!(refused, RuntimeError::Refused { .. }), "{refused:?}");
    let broken = futures::stream::iter([
        Ok(bytes::Bytes::from(vec![0; 512])),
        Err(std::io::Error::other("the link broke")),
    ]);
    assert!(engine.load(broken.boxed()).await.is_err());
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_given_up_and_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let image = format!("{}/team/app:1", listener.local_addr().unwrap());
    let deaf = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    let engine = Docker::new(&socket()).unwrap().with_pull_silence(lattice_model::Duration::from_secs(2));
    let begun = Instant::now();
    let pull = engine.pull(&image, None, None, watch::channel(PullProgress::default()).0).await;
    deaf.abort();
    match pull.unwrap_err() {
        RuntimeError::RegistryUnreachable { image: named, .. } => assert_eq!(named, image),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_pull_that_fails_says_why() {
    let registry = Registry::start().await;
    let pull = async |image: String| {
        docker().pull(&image, None, None, watch::channel(PullProgress::default()).0).await.unwrap_err()
    };
    let missing = pull(format!("{}/team/app:2", registry.address)).await;
    assert!(matches!(missing, RuntimeError::ImageMissing { .. }), "{missing:?}");
    let private = pull(format!("{}/private/app:1", registry.address)).await;
    assert!(matches!(private, RuntimeError::Unauthorised { .. }), "{private:?}");
    let dead = pull("127.0.0.1:1/team/app:1".to_owned()).await;
    assert!(matches!(dead, RuntimeError::RegistryUnreachable { .. }), "{dead:?}");
    let nonsense = pull("no image at all".to_owned()).await;
    assert!(matches!(nonsense, RuntimeError::Refused { .. }), "{nonsense:?}");
}

#[tokio::test]
async fn nobody_at_the_socket_is_said_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    match Docker::connect(path.to_str().unwrap()).await {
        Err(RuntimeError::Unreachable { socket, hint, .. }) => {
            assert!(path.ends_with(&socket) && hint.contains("install"), "{socket} {hint}");
        }
        other => panic!("{other:?}"),
    }
    drop(UnixListener::bind(&path).unwrap());
    match Docker::connect(path.to_str().unwrap()).await {
        Err(RuntimeError::Unreachable { hint, .. }) => assert!(hint.contains("start"), "{hint}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(Docker::new("tcp://10.0.0.1:2375"), Err(RuntimeError::Refused { .. })));
}

/// An engine that goes away ends streams with an error, and is used again once it is back.
#[tokio::test]
async fn an_engine_goes_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let serve = || {
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut there = UnixStream::connect(socket()).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                });
            }
        })
    };
    let engine = serve();
    let docker: Arc<dyn Runtime> = Arc::new(Docker::connect(path.to_str().unwrap()).await.unwrap());
    Stage::run(Arc::clone(&docker), IMAGE, async |stage| {
        let id = stage.start(&stage.config("a", &["sleep", "1000"])).await;
        let mut events = docker.events(stage.node).await.unwrap();
        let mut logs = docker
            .logs(&id, lattice_runtime::LogOptions { follow: true, ..Default::default() })
            .await
            .unwrap();
        engine.abort();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(events.next().await, Some(Err(RuntimeError::Unreachable { .. }))));
        assert!(events.next().await.is_none());
        assert!(matches!(logs.next().await, Some(Err(RuntimeError::Unreachable { .. }))));
        assert!(matches!(docker.list(stage.node).await, Err(RuntimeError::Unreachable { .. })));

        let back = serve();
        assert_eq!(stage.listed(&id).await.unwrap().id, id);
        let mut events = docker.events(stage.node).await.unwrap();
        docker.kill(&id, "SIGKILL").await.unwrap();
        assert!(events.next().await.unwrap().is_ok());
        docker.remove(&id, true).await.unwrap();
        back.abort();
    })
    .await;
}

/// What two agents, one of them killed, can leave behind on an engine that makes networks in two steps.
#[tokio::test]
async fn of_two_networks_of_one_name_one_is_left() {
    Stage::run(docker(), IMAGE, async |stage| {
        let name = stage.name("twice");
        let labels = stage.labels(stage.node);
        let body = serde_json::json!({"Name": name, "Driver": "bridge", "Labels": labels}).to_string();
        assert!(raw("POST", "/networks/create", &body).await.contains(" 201 "));
        let second = raw("POST", "/networks/create", &body).await;
        // A newer engine refuses the second.
        assert!(second.contains(" 201 ") || second.contains(" 409 "), "{second}");
        let mut config = stage.config("uses-it", &["sleep", "1000"]);
        config.networks.insert(name.clone(), Default::default());
        let id = stage.runtime.create(&config).await.unwrap();
        if second.contains(" 201 ") {
            let refused = stage.runtime.start(&id).await.unwrap_err();
            assert!(matches!(refused, RuntimeError::NotFound { .. }), "{refused:?}");
        }
        assert_eq!(stage.runtime.list_networks(stage.node).await.unwrap().len(), 1);
        stage.runtime.start(&id).await.unwrap();
        // The one in use stays, whatever comes.
        assert_eq!(stage.runtime.list_networks(stage.node).await.unwrap().len(), 1);
        stage.runtime.remove(&id, true).await.unwrap();
        stage.runtime.remove_network(stage.node, &name).await.unwrap();
        assert!(stage.runtime.list_networks(stage.node).await.unwrap().is_empty());
    })
    .await;
}

/// The port against the same requests by hand, in turns, on the same engine.
///
/// The bound is loose, since the engine itself varies by more than the port costs; run it with
/// `--no-capture` to see the figures.
#[tokio::test]
async fn the_port_costs_next_to_nothing() {
    const ROUNDS: usize = 8;
    Stage::run(docker(), IMAGE, async |stage| {
        let (mut port, mut by_hand) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let config = stage.config(&format!("port-{round}"), &["sleep", "1000"]);
            let begin = Instant::now();
            let id = stage.start(&config).await;
            port.push(begin.elapsed());
            stage.runtime.remove(&id, true).await.unwrap();

            let name = stage.name(&format!("raw-{round}"));
            let body = serde_json::json!({
                "Image": IMAGE, "Cmd": ["sleep", "1000"], "Labels": stage.labels(stage.node),
                "HostConfig": {
                    "NetworkMode": "none", "Memory": 64 << 20, "MemorySwap": 64 << 20, "NanoCpus": 500_000_000,
                    "PidsLimit": 64, "CapDrop": ["ALL"], "CapAdd": config.capabilities,
                    "SecurityOpt": ["no-new-privileges"],
                    "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
                },
            });
            let begin = Instant::now();
            let created = raw("POST", &format!("/containers/create?name={name}"), &body.to_string()).await;
            assert!(created.contains(" 201 "), "{created}");
            let started = raw("POST", &format!("/containers/{name}/start"), "").await;
            assert!(started.contains(" 204 "), "{started}");
            by_hand.push(begin.elapsed());
            stage.runtime.remove(&ContainerId(name), true).await.unwrap();
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort();
            times[times.len() / 2]
        };
        let (port, by_hand) = (median(&mut port), median(&mut by_hand));
        eprintln!("create + start: {port:?} by the port, {by_hand:?} by hand (medians of {ROUNDS})");
        assert!(port < by_hand * 3 / 2 + Duration::from_millis(100), "{port:?} against {by_hand:?}");
    })
    .await;
}

#[tokio::test]
async fn a_network_whose_bridge_is_taken_gets_another_of_the_same_beginning() {
    let engine = docker();
    Stage::run(Arc::clone(&engine), IMAGE, async |stage| {
        let (name, foreign) = (stage.name("bridged"), stage.name("foreign"));
        let mut labels = stage.labels(stage.node);
        // The node's id is random: so is the network's.
        labels.insert(LABEL_NETWORK.into(), NetworkId::from_random(stage.node.uuid().as_u128()).to_string());
        let bridge = labelled_bridge(&labels, 0).unwrap();
        // What an engine does that forgot a network, and remembers its bridge.
        let body = format!(
            r#"{{"Name":"{foreign}","Driver":"bridge","Options":{{"com.docker.network.bridge.name":"{bridge}"}}}}"#
        );
        let made = raw("POST", "/networks/create", &body).await;
        let created = engine.create_network(&name, false, &labels).await;
        raw("DELETE", &format!("/networks/{foreign}"), "").await;
        assert!(made.contains("201 Created"), "{made}");
        created.unwrap();
        let seen = engine.list_networks(stage.node).await.unwrap();
        let given = seen.into_iter().find(|one| one.name == name).unwrap().bridge.unwrap();
        assert_eq!(Some(&given), labelled_bridge(&labels, 1).as_ref());
        assert!(given.starts_with(&bridge_prefix(stage.node)) && given != bridge && given.len() <= 15);
    })
    .await;
}
