//! The engine in memory: the suite that every part passes, and what only it promises.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use lattice_model::Timestamp;
use lattice_runtime::{
    Runtime,
    simulated::{Program, Settings, Simulated},
};
use std::sync::Arc;

const IMAGE: &str = "lattice-test/busybox:1";

fn settings() -> Settings {
    Settings::new(7, Timestamp(1_700_000_000_000)).with_image(IMAGE, Program::new())
}

fn runtime() -> Arc<dyn Runtime> {
    Arc::new(Simulated::new(settings()))
}

mod core {
    use super::{IMAGE, runtime};
    lattice_runtime::runtime_conformance!(runtime(), IMAGE, core);
}

mod alone {
    use super::{IMAGE, settings};
    use futures::StreamExt as _;
    use lattice_model::{
        AllocationId, Bytes, Cpu, Duration, NodeId, Timestamp,
        container::{ContainerConfig, ContainerId, ContainerState, LABEL_ALLOCATION, LABEL_NODE},
        report::Health,
        spec::{LogSpec, NamingSpec, ProcessSpec, SandboxSpec},
    };
    use lattice_runtime::{
        EngineEventKind, LogOptions, PullProgress, Runtime, RuntimeError,
        simulated::{Delays, Faults, Program, RegistryFault, Simulated, Step},
    };
    use std::{
        collections::{BTreeMap, BTreeSet},
        time::Duration as Std,
    };
    use tokio::{
        sync::watch,
        time::{Instant, sleep},
    };

    fn node() -> NodeId {
        NodeId::from_random(1)
    }

    fn config(name: &str, image: &str) -> ContainerConfig {
        let labels = [
            (LABEL_NODE.to_owned(), node().to_string()),
            (LABEL_ALLOCATION.to_owned(), AllocationId::from_random(7).to_string()),
        ];
        ContainerConfig {
            name: name.to_owned(),
            image: image.to_owned(),
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            labels: labels.into(),
            mounts: Vec::new(),
            networks: BTreeMap::new(),
            ports: Vec::new(),
            healthcheck: None,
            cpu_limit: Cpu(100),
            memory_limit: Bytes::from_mib(64),
            pids_limit: 10,
            capabilities: BTreeSet::new(),
            stop_grace_period: Duration::from_secs(10),
            platform: None,
            process: ProcessSpec::default(),
            sandbox: SandboxSpec::default(),
            naming: NamingSpec::default(),
            logs: LogSpec::default(),
            gpus: None,
            gpu_access: None,
        }
    }

    async fn pull(engine: &Simulated, image: &str) -> Result<(), RuntimeError> {
        engine.pull(image, None, None, watch::channel(PullProgress::default()).0).await
    }

    async fn started(engine: &Simulated, name: &str, image: &str) -> ContainerId {
        let id = engine.create(&config(name, image)).await.unwrap();
        engine.start(&id).await.unwrap();
        id
    }

    #[tokio::test(start_paused = true)]
    async fn programs_run_by_the_clock() {
        let engine = Simulated::new(settings());
        engine.load("job", Program::exits(3, Duration::from_secs(3600)));
        engine.load("chatty", Program::says("tick", Duration::from_secs(60)));
        engine.load("greedy", Program::new().then(Step::Use(Bytes::GIB)).then(Step::Forever));
        engine.load("web", Program::service().well_after(Duration::from_secs(30)).busy(Cpu(500)));
        engine.load("shaky", Program::service().flaps(Duration::from_secs(10), Duration::from_secs(5)));
        let mut events = engine.events(node()).await.unwrap();
        let job = started(&engine, "job", "job:latest").await;
        let greedy = started(&engine, "greedy", "greedy").await;
        let [chatty, web, shaky] = [
            started(&engine, "chatty", "chatty").await,
            started(&engine, "web", "web").await,
            started(&engine, "shaky", "shaky").await,
        ];
        let seen = async |id: &ContainerId| engine.inspect(id).await.unwrap().unwrap();
        assert!(seen(&greedy).await.out_of_memory);
        assert_eq!(seen(&web).await.health, Health::Starting);
        sleep(Std::from_secs(35)).await;
        assert_eq!(seen(&web).await.health, Health::Healthy);
        assert_eq!(seen(&job).await.state, ContainerState::Running);
        sleep(Std::from_secs(3600)).await;
        let job = seen(&job).await;
        assert_eq!((job.state, job.exit_code), (ContainerState::Exited, Some(3)));
        assert_eq!(job.finished_at.unwrap().since(job.started_at.unwrap()), Duration::from_secs(3600));
        let lines =
            engine.logs(&chatty, LogOptions { tail: Some(1000), ..LogOptions::default() }).await.unwrap();
        assert_eq!(lines.count().await, 61);
        engine.stop(&web, Duration::from_secs(10)).await.unwrap();
        assert_eq!(seen(&web).await.exit_code, Some(0), "it heeds SIGTERM");
        let usage = engine.usage(&shaky).await.unwrap();
        assert_eq!((usage.pids, usage.memory_limit), (1, Bytes::from_mib(64)));
        engine.faults(|faults| faults.unreachable = true);
        let (mut turns, mut last) = (0, Health::Starting);
        while let Some(Ok(event)) = events.next().await {
            match event.kind {
                EngineEventKind::Health(health) if event.id == shaky => {
                    assert_ne!(health, last, "told when it changes");
                    (last, turns) = (health, turns + 1);
                }
                _ => {}
            }
        }
        assert!((460..=490).contains(&turns), "it turned {turns} times within an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_wrong_can_be_switched() {
        let engine = Simulated::new(settings());
        let id = started(&engine, "a", IMAGE).await;
        let mut events = engine.events(node()).await.unwrap();
        engine.faults(|f| f.unreachable = true);
        let off = |result| matches!(result, Err(RuntimeError::Unreachable { .. }));
        assert!(off(engine.ping().await) && off(engine.start(&id).await));
        assert!(matches!(events.next().await, Some(Err(RuntimeError::Unreachable { .. }))));
        assert!(events.next().await.is_none());

        engine.faults(|f| *f = Faults { slow: Duration::from_secs(30), ..Faults::default() });
        let begin = Instant::now();
        engine.ping().await.unwrap();
        assert!(begin.elapsed() >= Std::from_secs(30));
        engine.faults(|f| f.slow = Duration::from_secs(600));
        assert!(matches!(engine.ping().await, Err(RuntimeError::Timeout { .. })));

        engine.faults(|f| *f = Faults { disk_full: true, ..Faults::default() });
        assert!(matches!(engine.create(&config("b", IMAGE)).await, Err(RuntimeError::DiskFull { .. })));
        engine.faults(|f| *f = Faults { refused: 1000, ..Faults::default() });
        assert!(matches!(engine.create(&config("b", IMAGE)).await, Err(RuntimeError::Refused { .. })));
        engine.faults(|f| *f = Faults { lost: 1000, ..Faults::default() });
        assert!(off(engine.create(&config("b", IMAGE)).await.map(drop)));
        engine.faults(|f| *f = Faults::default());
        assert_eq!(engine.containers().len(), 2, "carried out, and the answer was lost");

        assert!(matches!(pull(&engine, "other:1").await, Err(RuntimeError::ImageMissing { .. })));
        engine.faults(|f| f.registry = Some(RegistryFault::Unreachable));
        assert!(matches!(pull(&engine, IMAGE).await, Err(RuntimeError::RegistryUnreachable { .. })));
        engine.faults(|f| f.registry = Some(RegistryFault::Unauthorised));
        assert!(matches!(pull(&engine, IMAGE).await, Err(RuntimeError::Unauthorised { .. })));
        engine.faults(|f| *f = Faults::default());
        pull(&engine, IMAGE).await.unwrap();
        engine.restart_engine();
        assert_eq!(engine.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_seed_gives_one_history() {
        let history = async |seed| {
            let engine = Simulated::new(lattice_runtime::simulated::Settings {
                seed,
                faults: Faults { refused: 200, lost: 200, ..Faults::default() },
                ..settings()
            });
            let (mut told, begin) = (Vec::new(), Instant::now());
            for n in 0..40 {
                let created = engine.create(&config(&n.to_string(), IMAGE)).await;
                told.push(format!("{created:?} after {:?}", begin.elapsed()));
            }
            told
        };
        assert_eq!(history(3).await, history(3).await);
        assert_ne!(history(3).await, history(4).await);
    }

    /// Ten thousand containers, half of them with something due, cost neither tasks nor much memory.
    #[tokio::test(start_paused = true)]
    async fn ten_thousand_containers_are_fine() {
        let mut settings = settings();
        settings.delays = Delays::none();
        settings.epoch = Timestamp(0);
        let engine = Simulated::new(settings);
        engine.load("job", Program::exits(0, Duration::from_secs(100)));
        engine.load("web", Program::service());
        for n in 0..10_000 {
            started(&engine, &n.to_string(), if n % 2 == 0 { "job" } else { "web" }).await;
        }
        assert_eq!((engine.running(), engine.list(node()).await.unwrap().len()), (10_000, 10_000));
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert!(tasks <= 2, "{tasks} tasks");
        sleep(Std::from_secs(101)).await;
        assert_eq!(engine.running(), 5000);
    }
}
