//! What a simulated runtime does too.

use super::Stage;
use crate::{EngineEventKind, ExecConfig, LogChunk, LogOptions, LogStream, Runtime, RuntimeError};
use futures::{StreamExt as _, TryStreamExt as _};
use lattice_model::{
    Bytes, Cpu, Duration,
    container::{ContainerConfig, ContainerId, ContainerState, LABEL_NODE},
    report::{Health, PublishedPort},
    spec::{ContainerPort, HealthCheck, Protocol},
};
use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};
use tokio::io::AsyncWriteExt as _;

/// Created, started, killed, removed; each step may be repeated.
pub async fn a_container_lives_and_goes(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let runtime = &stage.runtime;
        let config = stage.config("a", &["sleep", "1000"]);
        let id = runtime.create(&config).await.unwrap();
        let seen = stage.listed(&id).await.unwrap();
        assert_eq!((seen.state, &seen.name), (ContainerState::Created, &config.name));
        assert_eq!((seen.started_at, seen.exit_code), (None, None));
        assert!(config.labels.iter().all(|(key, value)| seen.labels.get(key) == Some(value)));
        assert_eq!(seen.node(), Some(stage.node));

        runtime.start(&id).await.unwrap();
        runtime.start(&id).await.expect("starting what runs is fine");
        let seen = stage.listed(&id).await.unwrap();
        assert_eq!((seen.state, seen.exit_code), (ContainerState::Running, None));
        assert!(seen.started_at.is_some());
        assert!(
            matches!(runtime.remove(&id, false).await, Err(RuntimeError::Conflict { .. })),
            "one that runs stays"
        );

        runtime.kill(&id, "SIGKILL").await.unwrap();
        let seen = stage.ended(&id).await;
        assert_eq!(seen.exit_code, Some(137));
        assert!(seen.finished_at >= seen.started_at && !seen.out_of_memory);
        runtime.kill(&id, "SIGKILL").await.expect("killing what has ended is fine");
        runtime.stop(&id, Duration::from_secs(1)).await.expect("stopping what has ended is fine");

        runtime.remove(&id, false).await.unwrap();
        assert_eq!(runtime.inspect(&id).await.unwrap(), None);
        assert_eq!(runtime.list(stage.node).await.unwrap(), []);
        runtime.remove(&id, true).await.expect("removing what is gone is fine");
        runtime.stop(&id, Duration::from_secs(1)).await.expect("stopping what is gone is fine");
        runtime.kill(&id, "SIGTERM").await.expect("killing what is gone is fine");
        assert!(matches!(runtime.start(&id).await, Err(RuntimeError::NotFound { .. })));
        let again = runtime.create(&config).await.expect("its name is free at once");
        runtime.remove(&again, true).await.unwrap();
    })
    .await;
}

/// Started, died with its code, removed: told once each, in order, of this node alone.
pub async fn events_tell_what_happened(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let mut events = stage.runtime.events(stage.node).await.unwrap();
        // Somebody else's container makes no event here.
        let mut foreign = stage.config("foreign", &["sh", "-c", "exit 4"]);
        foreign.labels.insert(LABEL_NODE.to_owned(), stage.other.to_string());
        let foreign = stage.start(&foreign).await;
        let config = stage.config("a", &["sh", "-c", "exit 3"]);
        let id = stage.start(&config).await;
        let seen = stage.ended(&id).await;
        assert_eq!(seen.exit_code, Some(3));
        stage.runtime.remove(&id, false).await.unwrap();

        let mut told = Vec::new();
        while told.last() != Some(&EngineEventKind::Destroyed) {
            let event = events.next().await.unwrap().unwrap();
            assert_ne!(event.id, foreign);
            assert_eq!((&event.id, event.allocation), (&id, seen.allocation()));
            assert!(event.at.0 > 0);
            told.push(event.kind);
        }
        assert_eq!(
            told,
            [EngineEventKind::Started, EngineEventKind::Died { exit_code: 3 }, EngineEventKind::Destroyed]
        );
    })
    .await;
}

/// The same container, with another start.
pub async fn a_restart_keeps_the_id(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let id = stage.start(&stage.config("a", &["sleep", "1000"])).await;
        let before = stage.listed(&id).await.unwrap();
        stage.runtime.restart(&id, Duration(0)).await.unwrap();
        let after = stage.listed(&id).await.expect("it has the same id");
        assert_eq!(after.state, ContainerState::Running);
        assert!(after.started_at > before.started_at, "{before:?} {after:?}");
        let gone = ContainerId("0".repeat(64));
        assert!(matches!(
            stage.runtime.restart(&gone, Duration(0)).await,
            Err(RuntimeError::NotFound { .. })
        ));
    })
    .await;
}

/// Another node's container is not listed, its network and volume neither taken nor removed.
pub async fn what_is_not_ours_stays_untouched(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let runtime = &stage.runtime;
        let mut config = stage.config("foreign", &["sleep", "1000"]);
        config.labels.insert(LABEL_NODE.to_owned(), stage.other.to_string());
        let id = stage.start(&config).await;
        assert_eq!(runtime.list(stage.node).await.unwrap(), []);
        assert_eq!(runtime.list(stage.other).await.unwrap().len(), 1);

        let (network, volume) = (stage.name("net"), stage.name("vol"));
        let (ours, theirs) = (stage.labels(stage.node), stage.labels(stage.other));
        runtime.create_network(&network, false, &theirs).await.unwrap();
        runtime.create_volume(&volume, &theirs).await.unwrap();
        let refused = |result| matches!(result, Err(RuntimeError::Refused { .. }));
        assert!(refused(runtime.create_network(&network, false, &ours).await));
        assert!(refused(runtime.remove_network(stage.node, &network).await));
        assert!(refused(runtime.create_volume(&volume, &ours).await));
        assert!(refused(runtime.remove_volume(stage.node, &volume).await));
        assert!(refused(runtime.volume_exists(stage.node, &volume).await.map(drop)));
        assert!(refused(runtime.create_volume(&stage.name("unlabelled"), &Default::default()).await));
        assert!(refused(runtime.create_network(&stage.name("unlabelled"), false, &Default::default()).await));
        assert_eq!(runtime.list_networks(stage.node).await.unwrap(), []);
        assert_eq!(runtime.list_volumes(stage.node).await.unwrap(), []);
        assert_eq!(runtime.list_networks(stage.other).await.unwrap().len(), 1);
        assert_eq!(runtime.list_volumes(stage.other).await.unwrap().len(), 1);
        let nodes = runtime.nodes().await.unwrap();
        assert!(nodes.contains(&stage.other) && !nodes.contains(&stage.node));
        let sizes = runtime.volume_sizes(stage.other).await.unwrap();
        assert!(sizes.keys().all(|name| *name == volume), "{sizes:?}");
        assert!(runtime.volume_sizes(stage.node).await.unwrap().is_empty());
        assert_eq!(runtime.inspect(&id).await.unwrap().unwrap().state, ContainerState::Running);
    })
    .await;
}

/// A taken name, a missing image, a missing limit, a name that is a path.
pub async fn errors_have_kinds(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let runtime = &stage.runtime;
        let config = stage.config("a", &["sleep", "1000"]);
        runtime.create(&config).await.unwrap();
        assert!(matches!(runtime.create(&config).await, Err(RuntimeError::Conflict { .. })));

        let mut missing = stage.config("b", &["sleep", "1000"]);
        missing.image = "lattice-test/no-such-image:1".to_owned();
        match runtime.create(&missing).await {
            Err(RuntimeError::ImageMissing { image, .. }) => assert_eq!(image, missing.image),
            other => panic!("{other:?}"),
        }
        assert!(!runtime.has_image(&missing.image).await.unwrap());
        assert!(runtime.has_image(&stage.image).await.unwrap());

        for unlimited in 0..3 {
            let mut config = stage.config("c", &["sleep", "1000"]);
            match unlimited {
                0 => config.memory_limit = Bytes(0),
                1 => config.cpu_limit = Cpu(0),
                _ => config.pids_limit = 0,
            }
            assert!(matches!(runtime.create(&config).await, Err(RuntimeError::Refused { .. })));
        }
        assert!(runtime.remove_volume(stage.node, "../containers/a").await.is_err());
        assert_eq!(runtime.list(stage.node).await.unwrap().len(), 1, "nothing half done");
    })
    .await;
}

/// Making what is there and removing what is gone is fine; what is used stays.
pub async fn networks_and_volumes_are_made_once(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let (runtime, node, labels) = (&stage.runtime, stage.node, stage.labels(stage.node));
        let (network, volume) = (stage.name("net"), stage.name("vol"));
        assert!(!runtime.volume_exists(node, &volume).await.unwrap());
        for _ in 0..2 {
            let (a, b) = tokio::join!(
                runtime.create_network(&network, true, &labels),
                runtime.create_network(&network, true, &labels)
            );
            a.and(b).unwrap();
            runtime.create_volume(&volume, &labels).await.unwrap();
        }
        let networks = runtime.list_networks(node).await.unwrap();
        assert_eq!(networks.len(), 1, "{networks:?}");
        assert_eq!((&networks[0].name, &networks[0].labels), (&network, &labels));
        let volumes = runtime.list_volumes(node).await.unwrap();
        assert_eq!(volumes.len(), 1, "{volumes:?}");
        assert_eq!((&volumes[0].name, &volumes[0].labels), (&volume, &labels));
        assert!(runtime.volume_exists(node, &volume).await.unwrap());

        let mut config = stage.config("a", &["sleep", "1000"]);
        config.networks.insert(network.clone(), Default::default());
        config.mounts.push(lattice_model::container::ContainerMount {
            source: lattice_model::container::MountSource::Volume(volume.clone()),
            target: "/data".to_owned(),
            read_only: false,
        });
        let id = stage.start(&config).await;
        let used = |result| matches!(result, Err(RuntimeError::Conflict { .. }));
        assert!(used(runtime.remove_network(node, &network).await));
        assert!(used(runtime.remove_volume(node, &volume).await));
        runtime.remove(&id, true).await.unwrap();
        for _ in 0..2 {
            runtime.remove_network(node, &network).await.unwrap();
            runtime.remove_volume(node, &volume).await.unwrap();
        }
        assert_eq!(runtime.list_networks(node).await.unwrap(), []);
        // An engine left to itself would make an empty one, without labels.
        assert!(matches!(runtime.create(&config).await, Err(RuntimeError::NotFound { .. })));
        assert!(!runtime.volume_exists(node, &volume).await.unwrap());
    })
    .await;
}

/// `sleep` is deaf to SIGTERM as process 1.
pub async fn a_stop_kills_after_its_grace(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let id = stage.start(&stage.config("a", &["sleep", "1000"])).await;
        stage.runtime.stop(&id, Duration::from_secs(1)).await.unwrap();
        let seen = stage.listed(&id).await.unwrap();
        assert_eq!((seen.state, seen.exit_code), (ContainerState::Exited, Some(137)));
        let ran = seen.finished_at.unwrap().since(seen.started_at.unwrap());
        assert!(ran >= Duration::from_millis(900), "it was killed after {ran}");
    })
    .await;
}

/// More containers than are inspected at once, listed in the order of their names.
pub async fn many_containers_are_listed(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        for n in 0..12 {
            stage.runtime.create(&stage.config(&format!("{n:02}"), &["sleep", "1000"])).await.unwrap();
        }
        for _ in 0..2 {
            let names: Vec<_> =
                stage.runtime.list(stage.node).await.unwrap().into_iter().map(|seen| seen.name).collect();
            assert_eq!(names, (0..12).map(|n| stage.name(&format!("{n:02}"))).collect::<Vec<_>>());
        }
    })
    .await;
}

/// Named when somebody else has it, and the same container starts once it is free.
pub async fn a_taken_port_is_named(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        // One that was free a moment ago.
        let port =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut first = stage.config("first", &["sleep", "1000"]);
        first.networks = [(stage.network("net").await, BTreeSet::new())].into();
        first.ports = vec![PublishedPort {
            target: ContainerPort { port: 80, protocol: Protocol::Tcp },
            host_ip: Ipv4Addr::LOCALHOST.into(),
            host_port: port,
        }];
        let id = stage.start(&first).await;
        assert_eq!(stage.listed(&id).await.unwrap().ports, first.ports);
        let second =
            stage.runtime.create(&ContainerConfig { name: stage.name("second"), ..first }).await.unwrap();
        match stage.runtime.start(&second).await {
            Err(RuntimeError::PortInUse { port: named, .. }) => assert_eq!(named, Some(port)),
            other => panic!("{other:?}"),
        }
        let seen = stage.listed(&second).await.unwrap();
        assert_ne!(seen.state, ContainerState::Running);
        assert!(seen.error.is_some(), "{seen:?}");
        stage.runtime.remove(&id, true).await.unwrap();
        stage.runtime.start(&second).await.unwrap();
        assert_eq!(stage.listed(&second).await.unwrap().error, None);
    })
    .await;
}

/// Both outputs apart, input until its end, the exit code; and none in a container that has ended.
pub async fn commands_run_inside(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let id = stage.start(&stage.config("a", &["sleep", "1000"])).await;
        let said = stage.exec(&id, &["sh", "-c", "echo one; echo two >&2; exit 5"]).await;
        assert_eq!(said, ("one\n".to_owned(), "two\n".to_owned(), 5));
        assert_eq!(stage.exec(&id, &["false"]).await.2, 1);
        assert_eq!(stage.exec(&id, &["cat"]).await, (String::new(), String::new(), 0), "no input is an end");
        let config = ExecConfig { argv: vec!["cat".to_owned()], stdin: true, ..ExecConfig::default() };
        let mut session = stage.runtime.exec(&id, config).await.unwrap();
        session.input.write_all(b"there and back").await.unwrap();
        session.input.shutdown().await.unwrap();
        let back: Vec<LogChunk> = session.output.try_collect().await.unwrap();
        let back: Vec<u8> = back.into_iter().flat_map(|chunk| chunk.bytes).collect();
        assert_eq!(String::from_utf8(back).unwrap(), "there and back");
        assert_eq!(session.control.exit_code().await.unwrap(), 0);
        let again = || ExecConfig { argv: vec!["true".to_owned()], ..ExecConfig::default() };
        stage.runtime.kill(&id, "SIGKILL").await.unwrap();
        stage.ended(&id).await;
        assert!(stage.runtime.exec(&id, again()).await.is_err());
        let gone = ContainerId("0".repeat(64));
        assert!(matches!(stage.runtime.exec(&gone, again()).await, Err(RuntimeError::NotFound { .. })));
    })
    .await;
}

/// SIGTERM comes first, and who heeds it is not killed.
pub async fn a_stop_lets_it_end(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";
        let id = stage.start(&stage.config("a", &["sh", "-c", script])).await;
        stage.says(&id, "ready").await;
        stage.runtime.stop(&id, Duration::from_secs(60)).await.unwrap();
        let seen = stage.listed(&id).await.unwrap();
        assert_eq!((seen.state, seen.exit_code), (ContainerState::Exited, Some(7)));
    })
    .await;
}

/// Kept after the end, by lines from the end, and followed until the end.
pub async fn logs_are_kept_and_followed(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let script = "echo one; echo two >&2; sleep 1; echo three";
        let id = stage.start(&stage.config("a", &["sh", "-c", script])).await;
        let read = async |options: LogOptions| {
            let chunks: Vec<LogChunk> =
                stage.runtime.logs(&id, options).await.unwrap().try_collect().await.unwrap();
            let of = |stream| {
                let bytes: Vec<u8> =
                    chunks.iter().filter(|c| c.stream == stream).flat_map(|c| c.bytes.clone()).collect();
                String::from_utf8(bytes).unwrap()
            };
            (of(LogStream::Stdout), of(LogStream::Stderr))
        };
        let all = ("one\nthree\n".to_owned(), "two\n".to_owned());
        assert_eq!(read(LogOptions { follow: true, ..Default::default() }).await, all);
        assert_eq!(stage.ended(&id).await.exit_code, Some(0));
        assert_eq!(read(LogOptions::default()).await, all);
        assert_eq!(read(LogOptions { tail: Some(1), ..Default::default() }).await.0, "three\n");
        let (timed, _) = read(LogOptions { tail: Some(1), timestamps: true, ..Default::default() }).await;
        let (time, line) = timed.split_once(' ').unwrap();
        assert_eq!(line, "three\n");
        let at = time.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let since = Some(lattice_model::Timestamp(at - 100));
        assert_eq!(
            read(LogOptions { since, ..Default::default() }).await,
            ("three\n".to_owned(), String::new())
        );
        let gone = ContainerId("0".repeat(64));
        let result = stage.runtime.logs(&gone, LogOptions::default()).await;
        assert!(matches!(result.err(), Some(RuntimeError::NotFound { .. })));
    })
    .await;
}

/// By an event and by listings.
pub async fn health_is_told(runtime: Arc<dyn Runtime>, image: &str) {
    Stage::run(runtime, image, async |stage| {
        let mut events = stage.runtime.events(stage.node).await.unwrap();
        let mut config = stage.config("a", &["sleep", "1000"]);
        config.healthcheck = Some(HealthCheck {
            test: ["CMD-SHELL", "test -f /tmp/well"].map(str::to_owned).into(),
            interval: Some(Duration::from_millis(300)),
            timeout: Some(Duration::from_secs(20)),
            retries: Some(2),
            start_period: None,
            start_interval: None,
        });
        let id = stage.start(&config).await;
        assert_ne!(stage.listed(&id).await.unwrap().health, Health::None);
        for (step, health) in [
            ("true", Health::Unhealthy),
            ("touch /tmp/well", Health::Healthy),
            ("rm /tmp/well", Health::Unhealthy),
        ] {
            stage.exec(&id, &["sh", "-c", step]).await;
            stage.event(&mut events, &id, |kind| kind == EngineEventKind::Health(health)).await;
            assert_eq!(stage.listed(&id).await.unwrap().health, health);
        }
    })
    .await;
}
