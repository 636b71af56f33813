//! The agent on a real engine, against a server that the test scripts over the real link.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use lattice_agent_core::{
    AgentConfig, AgentError, Docker, Home, JoinOptions, LinkState, PendingJoin, join, measure,
};
use lattice_link::{
    Refusal,
    message::{BulkEnd, BulkFrame, ExecRequest, LogsRequest, StreamRequest, channel},
};
use lattice_model::{
    Duration, NodeId,
    container::{ContainerState, LABEL_ALLOCATION, LABEL_NODE},
    goal::SecretValue,
    report::{AllocationState, ReportKind},
    spec::SecretMount,
};
use std::{
    sync::Arc,
    time::{Duration as StdDuration, Instant},
};
use support::{Node, Server, clear, docker, enrol, goal, id, random, socket};
use tokio::net::{UnixListener, UnixStream};

const SLEEP: &str = "sleep 3600";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_waits_for_approval_runs_a_goal_and_reports_it() {
    let server = Server::start().await;
    server.fake.approved.send_replace(false);
    let folder = tempfile::tempdir().unwrap();
    // 1. It asks, is killed while it waits, and goes on with the same key and the sealed token.
    let home = Home::open(folder.path()).unwrap();
    let machine = measure(&*docker(), folder.path()).await;
    let pending = PendingJoin { token: server.token(), name: None };
    let config = AgentConfig::default();
    let (options, mut silent) = (JoinOptions::default(), |_| {});
    {
        let asking = join(&home, &pending, &machine, &config, options, &mut silent);
        tokio::select! {
            result = asking => panic!("nobody approved: {result:?}"),
            () = server.until("a join", |seen| (seen.joins > 0).then_some(())) => {}
        }
    }
    drop(home);
    let home = Home::open(folder.path()).unwrap();
    let pending = home.pending_join().unwrap().expect("the join is remembered");
    server.fake.approved.send_replace(true);
    let key = server.fake.seen.lock().key.clone();
    let identity = join(&home, &pending, &machine, &config, options, &mut silent).await.unwrap();
    assert_eq!(key, server.fake.seen.lock().key);
    assert!(home.pending_join().unwrap().is_none());
    let again = join(&home, &pending, &machine, &config, options, &mut silent).await;
    assert!(matches!(again, Err(AgentError::AlreadyJoined { .. })));
    drop(home);
    // 2. It runs a goal.
    let mut node = Node::joined(&server).await;
    assert_eq!(node.node, identity.node);
    node.start().await;
    let web = id();
    let given = server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    server.until("the goal is accepted", |seen| seen.accepted.contains(&given).then_some(())).await;
    let status =
        node.says("all is acknowledged", |s| s.outbox == 0 && s.link.state == LinkState::Connected).await;
    assert_eq!(status.goal.as_deref(), Some("1.1"));
    assert!(status.engine.ok && status.certificate_until.is_some(), "{status:?}");
    let beat = server
        .until("a heartbeat that counts", |seen| seen.heartbeats.iter().find(|b| b.running == 1).cloned())
        .await;
    assert!(beat.memory_bytes > 0 && beat.disk_free_bytes > 0);
    let container = node.container(web).await.unwrap();
    // 3. What the goal no longer has, goes, and its end is told.
    let mut empty = goal([]);
    empty.remove.insert(web);
    server.give(2, &empty);
    let gone = |kind: &ReportKind| matches!(kind, ReportKind::AllocationGone { id } if *id == web);
    server.until("it is gone", |seen| seen.reports.iter().any(|(_, k)| gone(k)).then_some(())).await;
    assert_eq!(node.runtime.inspect(&container.id).await.unwrap(), None);
    // 4. An older goal is refused, and the reason told.
    let old = server.give(1, &goal([(web, SLEEP)]));
    server
        .until("a refusal", |seen| {
            seen.reports
                .iter()
                .any(|(_, k)| matches!(k, ReportKind::GoalRefused { goal, .. } if *goal == old))
                .then_some(())
        })
        .await;
    assert_eq!(node.container(web).await, None);
    node.stop().await;
    assert!(node.status().await.is_none());
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adopts_what_runs_after_a_kill_and_replaces_what_is_killed_within_a_second() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    let before = node.container(web).await.unwrap();
    node.kill().await;
    node.start().await;
    server.until("a second session", |seen| (seen.hellos.len() > 1).then_some(())).await;
    let status = node.says("adopted", |s| s.engine.ok && !s.allocations.is_empty()).await;
    assert_eq!(status.allocations[0].status.state, AllocationState::Running);
    let after = node.container(web).await.unwrap();
    assert_eq!((&before.id, before.started_at), (&after.id, after.started_at));
    // Killed behind the agent's back; the first restart is at once.
    let killed = Instant::now();
    node.runtime.kill(&after.id, "SIGKILL").await.unwrap();
    server
        .until("a restart", |seen| {
            seen.status(web).filter(|s| s.state == AllocationState::Running && s.restarts == 1).map(drop)
        })
        .await;
    let took = killed.elapsed();
    println!("restart latency, report included: {took:?}");
    assert!(took < StdDuration::from_secs(5), "{took:?}");
    let replaced = node.container(web).await.unwrap();
    assert!(replaced.state == ContainerState::Running && replaced.started_at > after.started_at);
    let ran = replaced.started_at.unwrap().since(replaced.finished_at.unwrap());
    println!("from death to running by the engine's clock: {ran}");
    // The target is a second; a busy machine of a test may take more.
    assert!(ran < Duration::from_secs(3), "{ran}");
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_changes_nothing_and_reports_arrive_once_and_in_order() {
    let mut server = Server::start().await;
    let mut node = Node::running(&server).await;
    let (web, stays) = (id(), id());
    server.give(1, &goal([(web, SLEEP), (stays, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    server.state(stays, AllocationState::Running).await;
    let calm = node.container(stays).await.unwrap();
    server.down().await;
    node.says("the link is cut", |s| s.link.state != LinkState::Connected).await;
    for n in 1..=2u32 {
        let container = node.container(web).await.unwrap();
        node.runtime.kill(&container.id, "SIGKILL").await.unwrap();
        node.says("it is restarted offline", |s| {
            s.allocations
                .iter()
                .any(|a| a.id == web && a.status.restarts == n && a.status.state == AllocationState::Running)
        })
        .await;
    }
    let waiting = node.says("reports wait", |s| s.outbox >= 2).await;
    assert!(waiting.link.why.is_some(), "{waiting:?}");
    // The agent is killed as well: what waits is on disk.
    node.kill().await;
    node.start().await;
    server.up().await;
    server
        .until("the story of the meantime", |seen| {
            seen.status(web).filter(|s| s.restarts == 2 && s.state == AllocationState::Running).map(drop)
        })
        .await;
    node.says("nothing waits", |s| s.outbox == 0).await;
    {
        let seen = server.fake.seen.lock();
        assert_eq!(seen.gaps, 0);
        let numbers: Vec<u64> = seen.reports.iter().map(|(seq, _)| *seq).collect();
        assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
        let restarts: Vec<u32> = seen
            .reports
            .iter()
            .filter_map(|(_, kind)| match kind {
                ReportKind::Allocation { id, status } if *id == web => Some(status.restarts),
                _ => None,
            })
            .collect();
        assert!(restarts.is_sorted(), "{restarts:?}");
    }
    let after = node.container(stays).await.unwrap();
    assert_eq!((calm.id, calm.started_at), (after.id, after.started_at), "no false restart");
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_engine_is_told_and_sought_and_what_died_meanwhile_is_replaced() {
    let server = Server::start().await;
    let mut node = Node::joined(&server).await;
    // An engine whose socket the test can take away.
    let door = node.folder.path().join("engine.sock");
    let open = |door: std::path::PathBuf| {
        let listener = UnixListener::bind(&door).unwrap();
        tokio::spawn(async move {
            let mut pipes = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                pipes.spawn(async move {
                    let mut far = UnixStream::connect(socket()).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        })
    };
    let engine = open(door.clone());
    node.start_on(Arc::new(Docker::new(door.to_str().unwrap()).unwrap())).await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    engine.abort();
    let _ = engine.await;
    std::fs::remove_file(&door).unwrap();
    let told = |wanted: fn(&ReportKind) -> bool| {
        move |seen: &mut support::Seen| seen.reports.iter().any(|(_, kind)| wanted(kind)).then_some(())
    };
    server.until("the loss is told", told(|k| matches!(k, ReportKind::RuntimeLost { .. }))).await;
    assert!(!node.says("it is shown", |s| !s.engine.ok).await.engine.reason.unwrap().is_empty());
    let container = node.container(web).await.unwrap();
    node.runtime.kill(&container.id, "SIGKILL").await.unwrap();
    let engine = open(door.clone());
    server.until("the return is told", told(|k| matches!(k, ReportKind::RuntimeBack))).await;
    server
        .until("it is replaced", |seen| {
            seen.status(web).filter(|s| s.restarts == 1 && s.state == AllocationState::Running).map(drop)
        })
        .await;
    // Events come again.
    let container = node.container(web).await.unwrap();
    node.runtime.remove(&container.id, true).await.unwrap();
    server
        .until("it is made anew", |seen| {
            let status = seen.status(web)?;
            (status.state == AllocationState::Running && status.started_at > container.started_at)
                .then_some(())
        })
        .await;
    node.clear().await;
    engine.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_files_in_memory_and_nowhere_else() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let (web, value) = (id(), format!("hush-{:x}", random()));
    let mut wanted = goal([(
        web,
        "stat -c '%a' /run/secrets/pass; cat /run/secrets/pass; grep /run/secrets/pass /proc/mounts; sleep 3600",
    )]);
    let allocation = wanted.allocations.get_mut(&web).unwrap();
    let mut spec = (*allocation.spec).clone();
    let name = "pass".parse().unwrap();
    spec.secrets.push(SecretMount {
        secret: name,
        target: "/run/secrets/pass".into(),
        mode: 0o440,
        uid: None,
        gid: None,
    });
    allocation.spec = spec.into();
    allocation.secrets.insert("pass".parse().unwrap(), SecretValue::new(value.clone().into_bytes()));
    server.give(1, &wanted);
    server.state(web, AllocationState::Running).await;
    let output = logs(&server, web, |text| text.contains("tmpfs")).await;
    assert!(output.starts_with("440\n") && output.contains(&value), "{output}");
    // Neither the engine's description nor the agent's disk has it.
    let container = node.container(web).await.unwrap();
    let inspect = std::process::Command::new("docker")
        .args(["-H", &format!("unix://{}", socket()), "inspect", &container.id.0])
        .output()
        .unwrap();
    assert!(inspect.status.success());
    assert!(!String::from_utf8_lossy(&inspect.stdout).contains(&value));
    let needle = value.as_bytes();
    for file in std::fs::read_dir(node.folder.path().join("agent")).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(needle.len()).any(|w| w == needle), "{} has the secret", path.display());
    }
    let mut empty = goal([]);
    empty.remove.insert(web);
    server.give(2, &empty);
    server
        .until("it is gone", |seen| {
            seen.reports.iter().any(|(_, k)| matches!(k, ReportKind::AllocationGone { .. })).then_some(())
        })
        .await;
    for base in ["/run", "/dev/shm"] {
        let left = std::path::Path::new(base).join(format!("lattice-agent-{}/secrets/{web}", node.node));
        assert!(!left.exists());
    }
    node.clear().await;
    for base in ["/run", "/dev/shm"] {
        let _ = std::fs::remove_dir_all(format!("{base}/lattice-agent-{}", node.node));
    }
}

/// Reads a container's output until it satisfies `enough`.
async fn logs(
    server: &Server,
    allocation: lattice_model::AllocationId,
    enough: impl Fn(&str) -> bool,
) -> String {
    let request = LogsRequest { allocation, follow: true, tail: None, since: None, timestamps: false };
    let mut stream = server.open(StreamRequest::Logs(request)).await;
    let mut text = String::new();
    while !enough(&text) {
        match tokio::time::timeout(support::LIMIT, stream.recv.recv()).await.unwrap().unwrap() {
            Some(BulkFrame::Data { bytes, .. }) => text.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} after {text:?}"),
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_commands_reach_containers_of_the_goal_alone() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let web = id();
    server.give(1, &goal([(web, "echo one; echo two >&2; sleep 3600")]));
    server.state(web, AllocationState::Running).await;
    logs(&server, web, |text| text.contains("one") && text.contains("two")).await;
    // A command with input, both outputs, and its exit code.
    let exec = |allocation, command: &str, stdin| {
        let command = ["sh", "-c", command].map(str::to_owned).to_vec();
        let (user, workdir, size) = (None, Some("/tmp".to_owned()), None);
        StreamRequest::Exec(ExecRequest {
            allocation,
            command,
            tty: false,
            stdin,
            size,
            user,
            workdir,
            env: Default::default(),
        })
    };
    let mut stream = server.open(exec(web, "cat; pwd; echo bad >&2; exit 7", true)).await;
    stream.send.data(channel::STDIN, "typed\n".into()).await.unwrap();
    stream.send.end(channel::STDIN).await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = loop {
        match tokio::time::timeout(support::LIMIT, stream.recv.recv()).await.unwrap().unwrap().unwrap() {
            BulkFrame::Data { channel: channel::STDOUT, bytes } => out.extend_from_slice(&bytes),
            BulkFrame::Data { channel: channel::STDERR, bytes } => err.extend_from_slice(&bytes),
            BulkFrame::Close(end) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((&*out, &*err, end), (&b"typed\n/tmp\n"[..], &b"bad\n"[..], BulkEnd::Exit(7)));
    // A container that carries this node's label and is not of the goal is not reached.
    let mut stream = server.open(exec(id(), "true", false)).await;
    let end = stream.recv.recv().await.unwrap();
    assert!(
        matches!(&end, Some(BulkFrame::Close(BulkEnd::Failed(r))) if r.code == "no_container"),
        "{end:?}"
    );
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_others_are_untouched() {
    let server = Server::start().await;
    let mut node = Node::joined(&server).await;
    let other = NodeId::from_random(random());
    let name = format!("lattice-test-other-{}", other.short());
    let labels = [format!("{LABEL_NODE}={other}"), format!("{LABEL_ALLOCATION}={}", id())];
    let run = std::process::Command::new("docker")
        .args([
            "-H",
            &format!("unix://{}", socket()),
            "run",
            "-d",
            "--name",
            &name,
            "--label",
            &labels[0],
            "--label",
            &labels[1],
            IMAGE_SLEEP[0],
            IMAGE_SLEEP[1],
            IMAGE_SLEEP[2],
        ])
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    let before = node.runtime.list(other).await.unwrap();
    node.start().await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    server.give(2, &goal([]));
    let began = Instant::now();
    while node.container(web).await.is_some() {
        assert!(began.elapsed() < support::LIMIT);
        tokio::time::sleep(StdDuration::from_millis(50)).await;
    }
    node.stop().await;
    let home = Home::open(node.folder.path()).unwrap();
    let none = lattice_agent_core::NoFirewall(String::new());
    lattice_agent_core::remove_belongings(&home, &*node.runtime, &none, node.node, true).await.unwrap();
    assert_eq!(node.runtime.list(other).await.unwrap(), before);
    clear(&*node.runtime, other).await;
    node.clear().await;
}

const IMAGE_SLEEP: [&str; 3] = [support::IMAGE, "sleep", "3600"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_wrong_authority_is_refused_with_an_explanation() {
    let (real, mut false_one) = (Server::start().await, Server::start().await);
    let folder = tempfile::tempdir().unwrap();
    // The token of one server, the address of another.
    let home = Home::open(folder.path()).unwrap();
    let servers = vec![false_one.addr.to_string().parse().unwrap()];
    let token = real.token();
    let token =
        lattice_identity::JoinToken::new(servers, token.root(), token.id(), token.secret().clone()).unwrap();
    let pending = PendingJoin { token, name: None };
    let machine = measure(&*docker(), folder.path()).await;
    let refused =
        join(&home, &pending, &machine, &AgentConfig::default(), JoinOptions::default(), &mut |_| {}).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, AgentError::Untrusted { .. }), "{error:?}");
    assert!(error.to_string().contains("another Lattice cluster"), "{error}");
    assert_eq!(false_one.fake.seen.lock().joins, 0, "the token's secret was not shown");
    drop(home);
    // A node that joined meets another server at its address.
    let mut real = real;
    let mut node = Node::running(&real).await;
    node.says("connected", |s| s.link.state == LinkState::Connected).await;
    real.down().await;
    false_one.down().await;
    false_one.addr = real.addr;
    false_one.up().await;
    let status =
        node.says("it is explained", |s| s.link.code.as_deref() == Some("tls_wrong_authority")).await;
    assert!(status.link.why.unwrap().contains("another Lattice cluster"));
    assert!(false_one.fake.seen.lock().hellos.is_empty());
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_said_and_workloads_run_on() {
    let mut server = Server::start().await;
    server.fake.seen.lock().refuse =
        Some(Refusal::new("token_expired", "the token has expired", "make a new one"));
    let folder = tempfile::tempdir().unwrap();
    let error = enrol(&server, folder.path()).await.unwrap_err();
    assert!(matches!(&error, AgentError::Refused(r) if r.code == "token_expired"), "{error:?}");
    assert!(error.to_string().contains("make a new one"), "{error}");
    server.fake.seen.lock().refuse = None;
    let mut node = Node::running(&server).await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    let before = node.container(web).await.unwrap();
    server.down().await;
    server.fake.seen.lock().refuse = Some(Refusal::new("node_revoked", "thrown out", "ask the operator"));
    server.up().await;
    let status = node.says("it is refused", |s| s.link.state == LinkState::Refused).await;
    assert_eq!(status.link.code.as_deref(), Some("node_revoked"));
    assert!(status.link.why.unwrap().contains("ask the operator"));
    assert_eq!(node.container(web).await.unwrap().started_at, before.started_at);
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_in_time_and_long_after_their_end() {
    let server = Server::start().await;
    // It ended three months ago.
    *server.fake.issued_ago.lock() = Duration::from_secs(90 * 86_400);
    let mut node = Node::running(&server).await;
    server
        .until("it comes back by its key", |seen| {
            (seen.renewals == 1 && seen.hellos.len() == 1).then_some(())
        })
        .await;
    let first = node.says("connected", |s| s.link.state == LinkState::Connected).await.certificate_until;
    // One of six seconds is renewed after three, once, and the next session shows the new one.
    *server.fake.validity.lock() = Duration::from_secs(6);
    node.kill().await;
    std::fs::remove_file(node.folder.path().join("agent/node.crt")).unwrap();
    node.start().await;
    server
        .until("its certificate is lost", |seen| (seen.renewals == 2 && seen.hellos.len() == 2).then_some(()))
        .await;
    let began = Instant::now();
    server
        .until("the short one is renewed", |seen| {
            (seen.renewals >= 3 && seen.hellos.len() >= 3).then_some(())
        })
        .await;
    assert!(began.elapsed() > StdDuration::from_secs(2), "renewed after {:?}", began.elapsed());
    let second =
        node.says("connected again", |s| s.link.state == LinkState::Connected).await.certificate_until;
    assert_ne!(first, second);
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_has_names_ports_and_data() {
    use lattice_model::{
        GoalNetwork, GoalVolume, NetworkId, VolumeId,
        spec::{ContainerPort, MountSpec, PortSpec},
    };
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let (db, web) = (id(), id());
    let mut wanted = goal([
        (db, "echo kept >> /data/index.html; httpd -f -p 8080 -h /data"),
        (web, "until wget -qO- http://s0:8080/index.html; do sleep 0.1; done; sleep 3600"),
    ]);
    let (network, volume) = (NetworkId::from_random(random()), VolumeId::from_random(random()));
    let stack = || "default/agent-test".parse().unwrap();
    wanted.networks.insert(
        network,
        GoalNetwork { stack: stack(), name: "default".parse().unwrap(), spec: Default::default() },
    );
    let key = "default/agent-test/data".parse().unwrap();
    wanted.volumes.insert(volume, GoalVolume { key, exists: false, epoch: 1, delete: false, missing: false });
    for allocation in wanted.allocations.values_mut() {
        let mut spec = (*allocation.spec).clone();
        spec.networks.insert("default".parse().unwrap(), Default::default());
        allocation.networks.insert("default".parse().unwrap(), network);
        allocation.spec = spec.into();
    }
    let allocation = wanted.allocations.get_mut(&db).unwrap();
    let mut spec = (*allocation.spec).clone();
    spec.mounts.push(MountSpec { volume: "data".parse().unwrap(), target: "/data".into(), read_only: false });
    allocation.volumes.insert("data".parse().unwrap(), volume);
    let target = ContainerPort { port: 8080, protocol: Default::default() };
    spec.ports.push(PortSpec { target, published: None, published_to: None, host_ip: None });
    allocation.spec = spec.into();
    server.give(1, &wanted);
    let status = server.state(db, AllocationState::Running).await;
    server.state(web, AllocationState::Running).await;
    logs(&server, web, |text| text.contains("kept")).await;
    let created = |k: &ReportKind| matches!(k, ReportKind::VolumeCreated { id } if *id == volume);
    server
        .until("the volume is told", |seen| seen.reports.iter().any(|(_, k)| created(k)).then_some(()))
        .await;
    // The port is of loopback, answers, and stays over a restart of agent and container.
    let [port] = &status.ports[..] else { panic!("{status:?}") };
    assert!(port.host_ip.is_loopback());
    tokio::net::TcpStream::connect((port.host_ip, port.host_port)).await.unwrap();
    node.kill().await;
    let container = node.container(db).await.unwrap();
    node.runtime.kill(&container.id, "SIGKILL").await.unwrap();
    node.start().await;
    let again = server
        .until("it is started again", |seen| {
            seen.status(db).filter(|s| s.restarts == 1 && s.state == AllocationState::Running).cloned()
        })
        .await;
    assert_eq!(again.ports, status.ports);
    // What the goal no longer has, goes; data never does by itself.
    server.give(2, &goal([]));
    let began = Instant::now();
    while !node.runtime.list_networks(node.node).await.unwrap().is_empty() {
        assert!(began.elapsed() < support::LIMIT);
        tokio::time::sleep(StdDuration::from_millis(50)).await;
    }
    assert!(node.runtime.list(node.node).await.unwrap().is_empty());
    assert_eq!(node.runtime.list_volumes(node.node).await.unwrap().len(), 1);
    node.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owners_word_counts_while_the_agent_runs() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    let file = node.folder.path().join("agent/agent.toml");
    std::fs::write(&file, "projects = [\"other\"]").unwrap();
    let status = server.state(web, AllocationState::Failed).await;
    assert!(status.reason.unwrap().contains("does not run work of project default"));
    assert_eq!(node.container(web).await.unwrap().state, ContainerState::Exited);
    std::fs::remove_file(&file).unwrap();
    server.state(web, AllocationState::Running).await;
    node.clear().await;
}
