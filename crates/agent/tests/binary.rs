//! The program itself: joined by its standard input, killed with -9, ended by a signal, and what
//! it costs with ten containers. Run with `LATTICE_AGENT_BIN=…/lattice-agent`, `--run-ignored all`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use lattice_agent_core::HomePaths;
use lattice_model::report::AllocationState;
use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use support::{Server, clear, docker, goal, id};

const SLEEP: &str = "sleep 3600";
/// How long the idle agent is watched.
const WATCH: Duration = Duration::from_secs(60);

fn start(binary: &Path, home: &Path, token: Option<&str>) -> Child {
    let mut command = Command::new(binary);
    command.arg("run").arg("--home").arg(home).arg("--docker-host").arg(support::socket());
    if token.is_some() {
        command.arg("--join-token-stdin").stdin(Stdio::piped());
    }
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    if let (Some(token), Some(mut stdin)) = (token, child.stdin.take()) {
        stdin.write_all(token.as_bytes()).unwrap();
    }
    child
}

fn field(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// User and system ticks; a hundred are a second of one core.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    rest[11].parse::<u64>().unwrap() + rest[12].parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the built program in LATTICE_AGENT_BIN"]
async fn the_program_joins_survives_kill_9_and_is_small() {
    let binary = std::env::var_os("LATTICE_AGENT_BIN").expect("LATTICE_AGENT_BIN names the program");
    let binary = Path::new(&binary);
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = server.token().reveal().to_string();
    let mut agent = start(binary, folder.path(), Some(&token));
    let ids: [_; 10] = std::array::from_fn(|_| id());
    server.give(1, &goal(ids.map(|id| (id, SLEEP))));
    for id in ids {
        server.state(id, AllocationState::Running).await;
    }
    let node = server.fake.seen.lock().node.unwrap();
    let runtime = docker();
    let before = runtime.list(node).await.unwrap();
    assert_eq!(before.len(), 10);
    // kill -9, and a new process: nothing that runs is touched.
    agent.kill().unwrap();
    agent.wait().unwrap();
    let mut agent = start(binary, folder.path(), None);
    server.until("a second session", |seen| (seen.hellos.len() == 2).then_some(())).await;
    assert_eq!(runtime.list(node).await.unwrap(), before);
    // How fast is one replaced?
    let mut spans = Vec::new();
    for id in &ids[..5] {
        let container =
            runtime.list(node).await.unwrap().into_iter().find(|c| c.allocation() == Some(*id)).unwrap();
        runtime.kill(&container.id, "SIGKILL").await.unwrap();
        let dead = Instant::now();
        server
            .until("it is replaced", |seen| {
                seen.status(*id).filter(|s| s.restarts == 1 && s.state == AllocationState::Running).map(drop)
            })
            .await;
        let told = dead.elapsed();
        let again = runtime.inspect(&container.id).await.unwrap().unwrap();
        spans.push((again.started_at.unwrap().since(again.finished_at.unwrap()), told));
    }
    println!("restart (death to running by the engine, killed to told): {spans:?}");
    // How long from a goal to a container that runs, against the engine alone?
    let mut spans = Vec::new();
    for revision in 2..7 {
        let (extra, mut wanted) = (id(), goal(ids.map(|id| (id, SLEEP))));
        let mut one = goal([(extra, SLEEP)]);
        // Of another service each time: a successor in the same slot waits for its predecessor's end.
        let key = format!("default/agent-test/x{revision}").parse().unwrap();
        one.allocations.get_mut(&extra).unwrap().workload = key;
        wanted.allocations.extend(one.allocations);
        let began = Instant::now();
        server.give(revision, &wanted);
        server.state(extra, AllocationState::Running).await;
        let told = began.elapsed();
        let raw = {
            let all = runtime.list(node).await.unwrap();
            let seen = all.into_iter().find(|c| c.allocation() == Some(extra)).unwrap();
            let config = lattice_model::container::ContainerConfig {
                name: format!("lattice-test-raw-{}", extra.short()),
                image: support::IMAGE.into(),
                entrypoint: None,
                command: Some(["sh", "-c", SLEEP].map(str::to_owned).to_vec()),
                environment: Default::default(),
                labels: seen.labels,
                mounts: vec![],
                networks: Default::default(),
                ports: vec![],
                healthcheck: None,
                cpu_limit: lattice_model::Cpu(1000),
                memory_limit: lattice_model::Bytes::GIB,
                pids_limit: 2048,
                capabilities: Default::default(),
                stop_grace_period: lattice_model::Duration::from_secs(1),
            };
            let mut config = config;
            config.labels.remove(lattice_model::container::LABEL_ALLOCATION);
            let began = Instant::now();
            let raw = runtime.create(&config).await.unwrap();
            runtime.start(&raw).await.unwrap();
            let took = began.elapsed();
            runtime.remove(&raw, true).await.unwrap();
            took
        };
        spans.push((told, raw));
    }
    println!("goal given to running told, against create and start alone: {spans:?}");
    server.give(9, &goal(ids.map(|id| (id, SLEEP))));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (began, first) = (Instant::now(), ticks(agent.id()));
    tokio::time::sleep(WATCH).await;
    let used = (ticks(agent.id()) - first) as f64 / 100.0 / began.elapsed().as_secs_f64();
    let rss = field(agent.id(), "VmRSS");
    println!(
        "rss {rss} KiB (anonymous {} KiB, file {} KiB), cpu {:.2} % of a core, threads {}",
        field(agent.id(), "RssAnon"),
        field(agent.id(), "RssFile"),
        used * 100.0,
        field(agent.id(), "Threads")
    );
    let status = lattice_agent_core::ask_status(&HomePaths::new(folder.path())).await.unwrap().unwrap();
    assert_eq!((status.pid, status.allocations.len(), status.outbox), (agent.id(), 10, 0));
    // SIGTERM: a clean end, and the workloads run on.
    let killed = Command::new("kill").arg(agent.id().to_string()).status().unwrap();
    assert!(killed.success() && agent.wait().unwrap().success());
    let left = runtime.list(node).await.unwrap();
    clear(&*runtime, node).await;
    assert_eq!(
        left.iter().filter(|c| c.state == lattice_model::container::ContainerState::Running).count(),
        10
    );
    assert!(rss < 20 << 10, "{rss} KiB");
}
