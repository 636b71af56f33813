//! A server that means harm, over the real link, to a real agent on a real engine: what it asks for is refused with
//! a reason, and what is not Lattice's stays as it was. Goals are written here byte by byte, since the types of the
//! project cannot say most of this.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use lattice_agent_core::{HomePaths, LinkState, Reply, Request, ask};
use lattice_link::message::{
    BuildRequest, BulkEnd, BulkFrame, Copying, ExecRequest, FilesRequest, LogsRequest, StreamRequest,
    VolumeRequest, channel,
};
use lattice_measure::{Ask, BLOCKS, Told, check_cpu};
use lattice_model::{
    AllocationId, Goal, GoalId, GoalVolume, NodeId, SealedGoal, VolumeId,
    container::{LABEL_ALLOCATION, LABEL_NODE},
    report::{AllocationState, ReportKind},
    spec::{MountSpec, TreeDigest, TreeMount},
};
use lattice_tree::Packer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{path::Path, process::Command};
use support::{IMAGE, Node, Server, goal, id, random, socket};

const SLEEP: &str = "sleep 3600";

fn docker(args: &[&str]) -> String {
    let host = format!("unix://{}", socket());
    let output = Command::new("docker").arg("-H").arg(host).args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Sends any bytes as a goal.
fn give(server: &Server, revision: u64, body: &Value) -> GoalId {
    let (id, body) = (GoalId { incarnation: 1, revision }, serde_json::to_vec(body).unwrap());
    let sealed = SealedGoal::from_parts(id, Sha256::digest(&body).into(), body.into()).unwrap();
    server.fake.goal.send_replace(Some(sealed));
    id
}

async fn refusal(server: &Server, what: &str, goal: GoalId) -> String {
    server
        .until(&format!("{what} is refused"), |seen| {
            seen.reports.iter().find_map(|(_, kind)| match kind {
                ReportKind::GoalRefused { goal: refused, reason } if *refused == goal => Some(reason.clone()),
                _ => None,
            })
        })
        .await
}

/// The goal as a value, and the way to the one allocation's specification.
fn written(goal: &Goal) -> Value {
    serde_json::to_value(goal).unwrap()
}

fn spec(goal: &mut Value) -> &mut Value {
    let allocations = goal["allocations"].as_object_mut().unwrap();
    &mut allocations.values_mut().next().unwrap()["spec"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_never_run_cannot_be_asked_for() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let web = id();
    server.give(1, &goal([(web, SLEEP)]));
    server.state(web, AllocationState::Running).await;
    let before = node.container(web).await.unwrap();
    let plain = goal([(web, SLEEP)]);
    let mut revision = 1;
    // 1. What a container must not have, wherever a specification has room for it.
    for (place, key, value) in [
        ("", "privileged", json!(true)),
        ("", "network_mode", json!("host")),
        ("", "pid", json!("host")),
        ("", "ipc", json!("host")),
        ("", "userns_mode", json!("host")),
        ("", "uts", json!("host")),
        ("", "cgroup_parent", json!("/")),
        ("", "devices", json!(["/dev/sda:/dev/sda"])),
        ("", "device_cgroup_rules", json!(["a *:* rwm"])),
        ("", "binds", json!(["/:/host"])),
        ("", "volumes_from", json!(["precious"])),
        ("", "runtime", json!("io.containerd.runc.v2")),
        ("", "restart_engine", json!("always")),
        ("sandbox", "privileged", json!(true)),
        ("sandbox", "security_opt", json!(["seccomp=unconfined"])),
        ("sandbox", "apparmor", json!("unconfined")),
        ("sandbox", "no_new_privileges", json!(false)),
        ("process", "privileged", json!(true)),
        ("process", "pid", json!("host")),
        ("resources", "devices", json!(["/dev/kvm"])),
        ("naming", "network_mode", json!("host")),
        ("logs", "path", json!("/etc/cron.d/x")),
    ] {
        revision += 1;
        let mut body = written(&plain);
        let mut at = spec(&mut body);
        if !place.is_empty() {
            if at[place].is_null() {
                at[place] = json!({});
            }
            at = &mut at[place];
        }
        at[key] = value;
        let sent = give(&server, revision, &body);
        let reason = refusal(&server, key, sent).await;
        assert!(reason.contains(key), "{key}: {reason}");
    }
    // 2. Mounts of the host, the engine's socket among them, and names that lead elsewhere.
    for (what, part, value) in [
        ("a host path", "mounts", json!([{"source": "/", "target": "/host"}])),
        ("the engine's socket", "mounts", json!([{"volume": "/var/run/docker.sock", "target": "/s"}])),
        ("a path for a volume", "mounts", json!([{"volume": "../../etc", "target": "/etc"}])),
        ("a bind of a tree", "trees", json!([{"tree": "../../../../etc", "target": "/e"}])),
        ("a secret's name", "secrets", json!([{"secret": "../../node.key", "target": "/k"}])),
        ("a memory that is no number", "resources", json!({"memory_limit": "-1"})),
        ("a digest that is none", "pin", json!({"from": "server", "digest": "latest"})),
    ] {
        revision += 1;
        let mut body = written(&plain);
        spec(&mut body)[part] = value;
        let sent = give(&server, revision, &body);
        assert!(!refusal(&server, what, sent).await.is_empty());
    }
    // 3. Beside the specification.
    for (what, change) in [
        ("an unknown part", json!({"hooks": ["rm -rf /"]})),
        ("foreign containers to stop", json!({"stop": ["precious"]})),
        ("a removal by name", json!({"remove": ["precious"]})),
        ("another node", json!({"node": NodeId::from_random(random())})),
    ] {
        revision += 1;
        let mut body = written(&plain);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let sent = give(&server, revision, &body);
        assert!(!refusal(&server, what, sent).await.is_empty());
    }
    // 4. Something that is no goal at all, and one that is older than what the node has seen.
    let sent = give(&server, 9000, &json!([{"deep": vec![[[[0]]]; 5000]}]));
    assert!(!refusal(&server, "a list", sent).await.is_empty());
    let newer = server.give(9001, &plain);
    server.until("the newer goal", |seen| seen.accepted.contains(&newer).then_some(())).await;
    let old = server.give(8999, &goal([]));
    assert!(refusal(&server, "an older goal", old).await.contains("newer"));
    // Through all of it what ran goes on, and nothing else came.
    let after = node.container(web).await.unwrap();
    assert_eq!((before.id, before.started_at), (after.id, after.started_at));
    assert_eq!(node.runtime.list(node.node).await.unwrap().len(), 1);
    node.clear().await;
}

/// What the words of a goal can say and the owner does not allow: the allocation is refused, by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_owner_does_not_allow_is_refused() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let rules =
        "[consent]\nprojects = [\"default\"]\nimages = [\"docker.io/lattice-test/*\"]\nexec = false\n";
    let paths = HomePaths::new(node.folder.path());
    node.says("it listens", |_| true).await;
    let set = ask(&paths, &Request::SetRules { text: rules.into() }).await.unwrap();
    assert!(matches!(set, Some(Reply::Owner(_))), "{set:?}");
    let image = docker(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
    let (hex, short) = (image.strip_prefix("sha256:").unwrap(), &image[7..19]);
    let server_pin = json!({"from": "server", "digest": image});
    for (n, (part, value, word)) in [
        ("sandbox", json!({"cap_add": ["SYS_ADMIN"]}), "capability SYS_ADMIN"),
        ("sandbox", json!({"cap_add": ["NET_ADMIN"]}), "capability NET_ADMIN"),
        ("sandbox", json!({"sysctls": {"kernel.core_pattern": "|/x"}}), "kernel.core_pattern"),
        ("sandbox", json!({"sysctls": {"vm.overcommit_memory": "1"}}), "vm.overcommit_memory"),
        ("sandbox", json!({"ulimits": {"nofile": {"soft": -1, "hard": -1}}}), "ulimit nofile"),
        ("gpus", json!({"count": "all"}), "the server names none"),
        ("gpus", json!({"count": {"exactly": 1}, "ids": ["GPU-1"]}), "no such GPU"),
        ("process", json!({"oom_score_adj": -1000}), "oom_score_adj"),
        ("resources", json!({"memory_limit": 1u64 << 50}), "owner lends"),
        ("resources", json!({"cpu_limit": 4_000_000}), "owner lends"),
        ("logs", json!({"max_size": 1u64 << 40, "max_files": 1000}), "max_log"),
        (
            "ports",
            json!([{"target": {"port": 80, "protocol": "tcp"}, "host_ip": "0.0.0.0", "published": 7}]),
            "beyond loopback",
        ),
        // The owner's list of images cannot be slipped by: not by a name, an id, or what an upload calls itself.
        ("image", json!("docker.io/library/postgres:15"), "consent.images"),
        ("image", json!("evil.example/docker.io/lattice-test/busybox:1"), "consent.images"),
        ("image", json!(image), "consent.images"),
        ("image", json!(hex), "consent.images"),
        ("image", json!(short), "consent.images"),
        ("pin", server_pin, "uploaded/lattice-test/busybox:1"),
    ]
    .into_iter()
    .enumerate()
    {
        let (bad, revision) = (id(), n as u64 + 1);
        let mut body = written(&goal([(bad, SLEEP)]));
        spec(&mut body)[part] = value;
        give(&server, revision, &body);
        let status = server.state(bad, AllocationState::Failed).await;
        let reason = status.reason.unwrap_or_default();
        assert!(reason.contains(word), "{part}: {reason}");
        assert!(node.container(bad).await.is_none(), "{part}");
    }
    // Another project's work.
    let foreign = id();
    let mut other = goal([(foreign, SLEEP)]);
    other.allocations.get_mut(&foreign).unwrap().workload = "other/agent-test/web".parse().unwrap();
    server.give(100, &other);
    let status = server.state(foreign, AllocationState::Failed).await;
    assert!(status.reason.unwrap_or_default().contains("project other"));
    // A volume of more than a node has is no container, nor is one with labels of somebody else's: ours win.
    let web = id();
    let mut body = written(&goal([(web, SLEEP)]));
    let stranger = NodeId::from_random(random());
    spec(&mut body)["labels"] =
        json!({LABEL_NODE: stranger, LABEL_ALLOCATION: id(), "com.docker.compose.project": "x"});
    give(&server, 101, &body);
    server.state(web, AllocationState::Running).await;
    assert!(node.container(web).await.is_some());
    assert!(node.runtime.list(stranger).await.unwrap().is_empty());
    assert!(!fails(&server, exec(web), "owner_forbids").await.is_empty());
    node.clear().await;
}

fn exec(allocation: AllocationId) -> StreamRequest {
    StreamRequest::Exec(ExecRequest {
        allocation,
        command: vec!["true".into()],
        tty: false,
        stdin: false,
        size: None,
        user: None,
        workdir: None,
        env: Default::default(),
    })
}

/// Asks for a stream, which is to be refused; gives the message.
async fn fails(server: &Server, request: StreamRequest, code: &str) -> String {
    let mut stream = server.open(request).await;
    loop {
        match tokio::time::timeout(support::LIMIT, stream.recv.recv()).await.unwrap().unwrap() {
            Some(BulkFrame::Close(BulkEnd::Failed(refusal))) if refusal.code == code => {
                return refusal.message;
            }
            Some(BulkFrame::Close(end)) => panic!("{end:?} and not {code}"),
            Some(BulkFrame::Data { bytes, .. }) => panic!("{bytes:?} and not {code}"),
            Some(_) => {}
            None => panic!("no end"),
        }
    }
}

/// Asks for a build of this archive, which is to be refused; gives the message.
async fn builds_not(server: &Server, request: BuildRequest, archive: &[u8], code: &str) -> String {
    let channel = server.open(StreamRequest::Build(request)).await;
    let (send, mut recv) = channel.split();
    // It may be refused before all of it is there.
    let _ = send.data(channel::STDIN, archive.to_vec().into()).await;
    let _ = send.end(channel::STDIN).await;
    loop {
        match tokio::time::timeout(support::LIMIT, recv.recv()).await.unwrap().unwrap() {
            Some(BulkFrame::Close(BulkEnd::Failed(refusal))) if refusal.code == code => {
                return refusal.message;
            }
            Some(BulkFrame::Close(end)) => panic!("{end:?} and not {code}"),
            Some(BulkFrame::Data { bytes, .. }) => panic!("{bytes:?} and not {code}"),
            Some(_) => {}
            None => panic!("no end"),
        }
    }
}

/// Nothing is built of what leads out, is another thing than was said, or begins from what the owner does not run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_reaches_nothing_but_its_own_files() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let request = |archive: &[u8]| BuildRequest {
        project: "default".parse().unwrap(),
        context: TreeDigest::of(archive),
        bytes: archive.len() as u64,
        dockerfile: "Dockerfile".into(),
        target: None,
        args: Default::default(),
        labels: Default::default(),
        platform: None,
        network: true,
        extra_hosts: Vec::new(),
        shm: None,
        pull: false,
        cpu: lattice_model::Cpu(1000),
        memory: lattice_model::Bytes::from_mib(64),
        logins: Default::default(),
    };
    let packed = |text: &str| {
        let mut packer = Packer::new();
        packer.file(Path::new("Dockerfile"), 0o644, (0, 0), text.as_bytes()).unwrap();
        packer.finish().unwrap().archive
    };
    let fine = packed(&format!("FROM {IMAGE}\n"));
    let sent = server.give(1, &Goal::default());
    server.until("it is connected", |seen| seen.accepted.contains(&sent).then_some(())).await;
    // 1. More than was said, or something else.
    let small = BuildRequest { bytes: 100, ..request(&fine) };
    builds_not(&server, small, &fine, "too_large").await;
    let huge = BuildRequest { bytes: u64::MAX, ..request(&fine) };
    builds_not(&server, huge, &vec![0; 70 << 20], "too_large").await;
    let other = BuildRequest { context: TreeDigest::of(b"x"), ..request(&fine) };
    builds_not(&server, other, &fine, "mismatch").await;
    // 2. What leads out, by name, by a link, or by the Dockerfile's own name.
    let raw = |kind: tar::EntryType, name: &str, target: &str| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(0);
        if !target.is_empty() {
            header.set_link_name(target).unwrap();
        }
        for set in [tar::Header::set_uid, tar::Header::set_gid] {
            set(&mut header, 0);
        }
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend_from_slice(&fine);
        archive
    };
    for archive in [
        raw(tar::EntryType::Regular, "../out", ""),
        raw(tar::EntryType::Regular, "/out", ""),
        raw(tar::EntryType::Symlink, "out", "/etc"),
        raw(tar::EntryType::Link, "out", "Dockerfile"),
        raw(tar::EntryType::Char, "out", ""),
        b"no archive".to_vec(),
    ] {
        builds_not(&server, request(&archive), &archive, "build_refused").await;
    }
    let outside = BuildRequest { dockerfile: "../../../../etc/hostname".into(), ..request(&fine) };
    builds_not(&server, outside, &fine, "build_refused").await;
    // 3. An image of the owner's by its id, and what could hide one.
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
    for text in [format!("FROM {id}"), "# escape=`\nFROM x:1".to_owned(), "FROM x:1\nRUN <<E\nE".to_owned()] {
        let archive = packed(&text);
        builds_not(&server, request(&archive), &archive, "build_refused").await;
    }
    // 4. What the owner does not allow.
    for (rules, word) in [
        ("[consent]\nbuilds = false", "build images"),
        ("[consent]\nprojects = [\"other\"]", "project default"),
        ("[consent]\nimages = [\"docker.io/library/*\"]", "consent.images"),
    ] {
        let set = ask(&HomePaths::new(node.folder.path()), &Request::SetRules { text: rules.into() }).await;
        assert!(matches!(set.unwrap(), Some(Reply::Owner(_))), "{rules}");
        let said = builds_not(&server, request(&fine), &fine, "owner_forbids").await;
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(node.runtime.builds_left(node.node).await.unwrap(), lattice_runtime::BuildLeft::default());
    assert!(node.runtime.list_networks(node.node).await.unwrap().is_empty());
    node.clear().await;
}

/// One question and its answer.
async fn measured(stream: &mut lattice_link::BulkChannel, ask: &Ask) -> Told {
    let json = serde_json::to_vec(ask).unwrap();
    stream.send.data(channel::CONTROL, json.into()).await.unwrap();
    let mut said = Vec::new();
    loop {
        match tokio::time::timeout(support::LIMIT, stream.recv.recv()).await.unwrap().unwrap() {
            Some(BulkFrame::Data { channel: channel::CONTROL, bytes }) => said.extend_from_slice(&bytes),
            other => panic!("{other:?}"),
        }
        if let Ok(told) = serde_json::from_slice(&said) {
            return told;
        }
    }
}

/// A machine is measured once, within what its owner lends, and not at all where he does not want it or needs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_measurement_takes_no_more_than_the_owner_allows() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let paths = HomePaths::new(node.folder.path());
    node.says("connected", |status| status.link.state == LinkState::Connected).await;
    let set = async |text: &str| {
        let set = ask(&paths, &Request::SetRules { text: text.into() }).await;
        assert!(matches!(set.unwrap(), Some(Reply::Owner(_))), "{text}");
    };
    set("[consent]\nbenchmarks = false").await;
    let said = fails(&server, StreamRequest::Measure, "owner_forbids").await;
    assert!(said.contains("be measured"), "{said}");
    set("[caps]\ncpu = 1\n").await;
    let paused = ask(&paths, &Request::Pause { span_ms: None }).await;
    assert!(matches!(paused.unwrap(), Some(Reply::Owner(_))));
    fails(&server, StreamRequest::Measure, "not_now").await;
    ask(&paths, &Request::Resume {}).await.unwrap();

    let mut stream = server.open(StreamRequest::Measure).await;
    assert_eq!(measured(&mut stream, &Ask::Ping { nonce: 7 }).await, Told::Pong { nonce: 7 });
    let began = std::time::Instant::now();
    let Told::Cpu { lanes, .. } =
        measured(&mut stream, &Ask::Cpu { seed: 1, lanes: u16::MAX, millis: u16::MAX }).await
    else {
        panic!()
    };
    assert_eq!(lanes.len(), 1, "one core is lent");
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "however long the server wants");
    assert!(check_cpu(1, 1, &lanes, 1, || 0).is_ok());
    let Told::Filled { bytes } = measured(&mut stream, &Ask::Fill { seed: 1, bytes: u64::MAX }).await else {
        panic!()
    };
    assert!(bytes == 0 || BLOCKS.contains(&bytes), "{bytes}");
    // A GPU that nobody lends, or that is not there, is not measured, and no process is started for it.
    let ready = Ask::GpuReady { gpu: "GPU-1".into() };
    assert!(
        matches!(measured(&mut stream, &ready).await, Told::GpuNot { why } if why.contains("does not lend"))
    );
    // While it is measured, and for long afterwards, it is not measured anew.
    fails(&server, StreamRequest::Measure, "busy").await;
    for nonce in 0.. {
        let ask = serde_json::to_vec(&Ask::Ping { nonce }).unwrap();
        if stream.send.data(channel::CONTROL, ask.into()).await.is_err() {
            break;
        }
        match tokio::time::timeout(support::LIMIT, stream.recv.recv()).await.unwrap().unwrap() {
            Some(BulkFrame::Data { .. }) => assert!(nonce < 100, "it answers for ever"),
            Some(BulkFrame::Close(BulkEnd::Failed(_))) | None => break,
            other => panic!("{other:?}"),
        }
    }
    fails(&server, StreamRequest::Measure, "busy").await;
    node.stop().await;
    node.clear().await;
}

/// Foreign things that have the very names and labels that Lattice would give them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_lattices_is_neither_reached_nor_taken() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let (web, other) = (id(), NodeId::from_random(random()));
    let volume = VolumeId::from_random(random());
    let mut wanted = goal([(web, SLEEP)]);
    let given = GoalVolume {
        key: "default/agent-test/data".parse().unwrap(),
        exists: false,
        epoch: 1,
        delete: false,
        missing: false,
    };
    let name = given.engine_name(volume);
    wanted.volumes.insert(volume, given.clone());
    {
        let allocation = wanted.allocations.get_mut(&web).unwrap();
        let mut spec = (*allocation.spec).clone();
        spec.mounts =
            vec![MountSpec { volume: "data".parse().unwrap(), target: "/d".into(), read_only: false }];
        allocation.volumes.insert("data".parse().unwrap(), volume);
        allocation.spec = spec.into();
    }
    // 1. A volume of that name that somebody else made, and a container of another node with an allocation's label.
    docker(&["volume", "create", &name]);
    let foreign = id();
    let container = format!("lattice_hostile_{}", other.short());
    let labels = [format!("--label={LABEL_NODE}={other}"), format!("--label={LABEL_ALLOCATION}={foreign}")];
    let mount = format!("{name}:/d");
    docker(&[
        "run",
        "-d",
        "--name",
        &container,
        &labels[0],
        &labels[1],
        "-v",
        &mount,
        IMAGE,
        "sh",
        "-c",
        "echo precious >/d/word; sleep 3600",
    ]);
    let before = docker(&["inspect", &container]);
    server.give(1, &wanted);
    let refused = |seen: &mut support::Seen| {
        let status = seen.status(web)?;
        let reason = status.reason.clone().unwrap_or_default();
        (status.state != AllocationState::Running && reason.contains("is not this node's")).then_some(())
    };
    server.until("the volume is not taken", refused).await;
    // 2. Nor is it deleted, nor the container removed, whoever is named.
    let mut remove = Goal { remove: [foreign, web].into(), ..Goal::default() };
    remove.volumes.insert(volume, GoalVolume { delete: true, ..given });
    let sent = server.give(2, &remove);
    server.until("it is taken", |seen| seen.accepted.contains(&sent).then_some(())).await;
    let gone = |wanted: AllocationId| {
        move |seen: &mut support::Seen| {
            let told = |(_, kind): &(u64, ReportKind)| matches!(kind, ReportKind::AllocationGone { id } if *id == wanted);
            seen.reports.iter().any(told).then_some(())
        }
    };
    server.until("the foreign allocation is not here", gone(foreign)).await;
    server.until("the own one is gone", gone(web)).await;
    // 3. No stream reaches it.
    let logs = LogsRequest { allocation: foreign, follow: false, tail: None, since: None, timestamps: false };
    let files = FilesRequest { allocation: foreign, path: "/etc/passwd".into(), copy: Copying::Out };
    let carried = VolumeRequest { allocation: foreign, volume: "data".parse().unwrap(), copy: Copying::Out };
    for request in [StreamRequest::Logs(logs), exec(foreign), StreamRequest::Files(files)] {
        assert!(!fails(&server, request, "no_container").await.is_empty());
    }
    assert!(!fails(&server, StreamRequest::Volume(carried), "no_volume").await.is_empty());
    assert_eq!(docker(&["inspect", &container]), before);
    assert_eq!(docker(&["exec", &container, "cat", "/d/word"]), "precious");
    docker(&["rm", "--force", &container]);
    docker(&["volume", "rm", &name]);
    node.clear().await;
}

/// Files of a deployment do not lead out of their own folder: not by dots, not by links.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_deployment_lead_nowhere_else() {
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let mut packer = Packer::new();
    packer.file(Path::new("word"), 0o444, (0, 0), b"inside").unwrap();
    let packed = packer.finish().unwrap();
    server.fake.seen.lock().trees.insert(packed.digest, (packed.archive.clone(), 1));
    for (n, path) in ["../../identity.json", "../../../../../etc/passwd", "..", "word/../../../node.key"]
        .iter()
        .enumerate()
    {
        let web = id();
        let mut wanted = goal([(web, SLEEP)]);
        let allocation = wanted.allocations.get_mut(&web).unwrap();
        let mut spec = (*allocation.spec).clone();
        spec.trees = vec![TreeMount { tree: packed.digest, path: (*path).into(), target: "/x".into() }];
        allocation.spec = spec.into();
        server.give(n as u64 + 1, &wanted);
        let said = |seen: &mut support::Seen| {
            let reason = seen.status(web)?.reason.clone()?;
            reason.contains("travelled with the deployment have no").then_some(())
        };
        server.until(&format!("{path} is refused"), said).await;
        assert!(node.container(web).await.is_none(), "{path}");
    }
    // An archive that is another one than the goal names.
    let web = id();
    let mut wanted = goal([(web, SLEEP)]);
    let named = TreeDigest::of(b"another");
    server.fake.seen.lock().trees.insert(named, (packed.archive, 1));
    let allocation = wanted.allocations.get_mut(&web).unwrap();
    let mut spec = (*allocation.spec).clone();
    spec.trees = vec![TreeMount { tree: named, path: String::new(), target: "/x".into() }];
    allocation.spec = spec.into();
    server.give(50, &wanted);
    let said = |seen: &mut support::Seen| {
        seen.status(web)?.reason.clone()?.contains("another digest than the goal names").then_some(())
    };
    server.until("another archive is refused", said).await;
    node.clear().await;
}
