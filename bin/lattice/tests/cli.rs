//! The command as it is typed, against a small real server on the socket of its home: what comes
//! on stdout and on stderr, and how it ends.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use lattice_api::{
    AllocationView, Change, ChangeKind, ChangedThing, DeployResult, List, StackDetail, StackView,
    VolumeState, VolumeView, WorkloadView,
};
use lattice_model::{
    AllocationId, NodeId, NodeName, OwnerName, StackId, Timestamp, VolumeId,
    goal::DesiredState,
    report::{AllocationState, AllocationStatus},
    resource::{Intent, Workload},
    spec::WorkloadSpec,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};
use tempfile::TempDir;

/// What was asked: "METHOD path?query" and the body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

struct World {
    home: TempDir,
    asked: Asked,
}

impl World {
    /// A server that answers with what `answer` makes of "METHOD path?query" and how often that was asked before.
    fn new(answer: impl Fn(&str, usize) -> (u16, String) + Send + Sync + 'static) -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join("server")).unwrap();
        let listener = UnixListener::bind(home.path().join("server/lattice.sock")).unwrap();
        let asked = Asked::default();
        let (answer, log) = (Arc::new(answer), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, log) = (answer.clone(), log.clone());
                thread::spawn(move || serve(&stream.unwrap(), &*answer, &log));
            }
        });
        Self { home, asked }
    }

    fn run(&self, line: &str) -> Ended {
        self.run_with(line, "")
    }

    fn run_with(&self, line: &str, input: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lattice"));
        for name in
            ["LATTICE_SERVER", "LATTICE_TOKEN", "LATTICE_TOKEN_FILE", "LATTICE_PROJECT", "LATTICE_LOG"]
        {
            command.env_remove(name);
        }
        command.env("LATTICE_HOME", self.home.path()).env("TZ", "UTC").current_dir(self.home.path());
        command.args(line.split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who does not read it closes it, which is no fault.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        Ended {
            code: status.code().unwrap(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }
}

#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn serve(stream: &UnixStream, answer: &dyn Fn(&str, usize) -> (u16, String), log: &Asked) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = first.rsplit_once(' ').unwrap().0.to_owned();
    let mut log = log.lock().unwrap();
    let before = log.iter().filter(|(former, _)| *former == request).count();
    log.push((request.clone(), String::from_utf8(body).unwrap()));
    drop(log);
    let (status, body) = answer(&request, before);
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

fn ok(value: impl Serialize) -> (u16, String) {
    (200, serde_json::to_string(&value).unwrap())
}

fn list<T>(items: Vec<T>) -> List<T> {
    List { items, revision: 1 }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, json!({"code": code, "message": "it cannot be", "hint": "do something else"}).to_string())
}

fn allocation(key: &str, slot: u32, state: AllocationState) -> AllocationView {
    let parts: Vec<_> = key.split('/').collect();
    AllocationView {
        id: AllocationId::from_random(u128::from(slot) << 96 | key.len() as u128),
        project: parts[0].parse().unwrap(),
        stack: parts[1].parse().unwrap(),
        workload: parts[2].parse().unwrap(),
        slot,
        node_id: NodeId::from_random(1),
        node: NodeName::new("laptop").unwrap(),
        generation: 1,
        restart: 0,
        due: None,
        image: "nginx".into(),
        intent: Intent::Run,
        superseded: None,
        node_lost: false,
        status: AllocationStatus::new(state),
        gpus: Vec::new(),
        placed_at: Timestamp(0),
        explanation: "most free memory".into(),
    }
}

fn workload(key: &str, allocations: Vec<AllocationView>) -> WorkloadView {
    let row = Workload {
        key: key.parse().unwrap(),
        spec: WorkloadSpec::of_image("nginx").into(),
        generation: 1,
        replicas: u32::try_from(allocations.len()).unwrap(),
        desired: DesiredState::Run,
        restart: 0,
        alike: Vec::new(),
        settled: 0,
        rolled_back: None,
        rollout: None,
        moved_at: None,
        timetable: None,
    };
    WorkloadView::of(&row, row.replicas, allocations, vec![])
}

fn stack(name: &str, workloads: Vec<WorkloadView>, volumes: &[&str]) -> StackDetail {
    let volume = |name: &&str| VolumeView {
        id: VolumeId::from_random(1),
        project: "default".parse().unwrap(),
        stack: "shop".parse().unwrap(),
        name: name.parse().unwrap(),
        node: None,
        state: VolumeState::New,
        used_by: vec![],
        epoch: 0,
        created_at: Timestamp(0),
    };
    StackDetail {
        stack: StackView {
            id: StackId::from_random(1),
            project: "default".parse().unwrap(),
            name: name.parse().unwrap(),
            owner: OwnerName::admin(),
            version: 1,
            deployed_at: Timestamp(0),
            deleting: false,
            workloads: 1,
            settled: 0,
        },
        workloads,
        volumes: volumes.iter().map(volume).collect(),
        networks: BTreeMap::new(),
        source: None,
    }
}

#[test]
fn nobody_there() {
    let world = World::new(|_, _| refused(404, "not_found"));
    fs::remove_file(world.home.path().join("server/lattice.sock")).unwrap();
    let ended = world.run("ps");
    assert_eq!((ended.code, ended.out.as_str()), (4, ""));
    assert!(ended.err.contains("lattice.sock; is `lattice up` running?"), "{}", ended.err);
    assert!(ended.err.contains("because: "), "{}", ended.err);
}

#[test]
fn errors_say_what_and_what_next() {
    let world = World::new(|request, _| match request {
        "GET /v1/status" => refused(503, "unavailable"),
        _ => refused(404, "not_found"),
    });
    let ended = world.run("status");
    assert_eq!((ended.code, ended.err.as_str()), (1, "error: it cannot be\ndo something else\n"));
    assert_eq!(world.run("node show x").code, 3);
    assert_eq!(world.run("ps --server http://example.org").code, 2);
    assert_eq!(world.run("ps --nonsense").code, 2);
}

#[test]
fn json_is_what_the_server_said() {
    let world =
        World::new(|_, _| ok(json!({"items": [{"id": 1, "from_the_future": [true]}], "revision": 5})));
    let ended = world.run("ps -o json");
    assert_eq!(ended.code, 0, "{ended:?}");
    let value: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(value, json!([{"id": 1, "from_the_future": [true]}]));
    assert_eq!(ended.err, "");
}

#[test]
fn tokens_go_to_stdout_alone() {
    let world = World::new(|_, _| {
        ok(json!({"id": "6f9619ff-8b86-4011-b42d-00c04fc964ff", "token": "lj_secret", "expires_at": 0}))
    });
    let ended = world.run("token create --pool lab --ttl 30m --uses 3");
    assert_eq!((ended.code, ended.out.as_str()), (0, "lj_secret\n"));
    assert!(!ended.err.contains("lj_secret") && ended.err.contains("1970-01-01 00:00:00"), "{}", ended.err);
    let body: Value = serde_json::from_str(&world.asked()[0].1).unwrap();
    assert_eq!(body, json!({"pool": "lab", "ttl_ms": 1_800_000, "uses": 3, "auto_approve": false}));
}

#[test]
fn names_are_resolved_before_anything_is_done() {
    let world = World::new(|request, _| {
        let web = |stack: &str| {
            let key = format!("default/{stack}/web");
            workload(&key, vec![allocation(&key, 1, AllocationState::Running)])
        };
        match request {
            "GET /v1/workloads" => ok(list(vec![web("blog"), web("shop")])),
            "POST /v1/projects/default/stacks/shop/workloads/web/scale" => ok(web("shop")),
            _ => refused(404, "not_found"),
        }
    });
    let ended = world.run("scale shop/web=3 web=2");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("default/blog/web, default/shop/web"), "{}", ended.err);
    assert_eq!(world.asked().len(), 1, "nothing was scaled");
    let ended = world.run("scale shop/web=3");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(world.asked()[2].1, r#"{"replicas":3}"#);
    assert_eq!(world.run("stop cache").code, 3);
}

const COMPOSE: &str = "services:\n  web:\n    image: nginx\n";

fn deployed(changes: Vec<Change>) -> DeployResult {
    DeployResult {
        project: "default".parse().unwrap(),
        stack: "shop".parse().unwrap(),
        version: 1,
        revision: 7,
        dry_run: false,
        changes,
        placements: vec![],
        pending: vec![],
        warnings: vec![],
    }
}

#[test]
fn a_deployment_is_followed_until_it_runs() {
    let key = "default/shop/web";
    let world = World::new(move |request, before| {
        let state = if before == 0 { AllocationState::Pulling } else { AllocationState::Running };
        match request {
            "PUT /v1/projects/default/stacks/shop?dry_run=false" => ok(deployed(vec![Change {
                kind: ChangeKind::Create,
                what: ChangedThing::Workload,
                name: "web".into(),
                details: vec![],
            }])),
            "GET /v1/projects/default/stacks/shop" => {
                ok(stack("shop", vec![workload(key, vec![allocation(key, 1, state)])], &[]))
            }
            "GET /v1/watch?from=7&kinds=workload%2Callocation" => {
                let object = serde_json::to_value(allocation(key, 1, AllocationState::Running)).unwrap();
                let event =
                    json!({"revision": 8, "kind": "allocation", "id": "x", "op": "put", "object": object});
                (200, format!("event: change\ndata: {event}\n\n"))
            }
            _ => refused(404, "not_found"),
        }
    });
    fs::write(world.home.path().join("compose.yaml"), COMPOSE).unwrap();
    let ended = world.run("deploy --name shop");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.out, "SERVICE  NODE    STATE    PORTS\nweb      laptop  running  -\n");
    for part in
        ["default/shop is version 1", "+ service web", "0/1 progressing  pulling on laptop", "1/1 running"]
    {
        assert!(ended.err.contains(part), "{part} is not in:\n{}", ended.err);
    }
    let body: Value = serde_json::from_str(&world.asked()[0].1).unwrap();
    assert_eq!(body["spec"]["workloads"]["web"]["image"], "nginx");
    assert_eq!(body["source"], COMPOSE);
}

#[test]
fn a_deployment_that_fails_says_why() {
    let key = "default/shop/web";
    let world = World::new(move |request, _| match request {
        "PUT /v1/projects/default/stacks/shop?dry_run=false" => ok(deployed(vec![])),
        "GET /v1/projects/default/stacks/shop" => {
            let mut failed = allocation(key, 1, AllocationState::Failed);
            failed.status = failed.status.because("there is no image nginx:0");
            ok(stack("shop", vec![workload(key, vec![failed])], &[]))
        }
        _ => refused(404, "not_found"),
    });
    fs::write(world.home.path().join("compose.yaml"), COMPOSE).unwrap();
    let ended = world.run("deploy --name shop");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("web: there is no image nginx:0"), "{}", ended.err);
    assert!(ended.err.contains("`lattice logs shop/web`"), "{}", ended.err);
    assert!(ended.out.contains("failed: there is no image nginx:0"), "{}", ended.out);
}

#[test]
fn a_bad_compose_file_is_shown_with_its_line() {
    let world = World::new(|_, _| refused(404, "not_found"));
    fs::write(world.home.path().join("compose.yaml"), format!("{COMPOSE}    privileged: true\n")).unwrap();
    let ended = world.run("deploy --name shop");
    assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
    assert!(ended.err.contains("compose.yaml:4:5: "), "{}", ended.err);
    assert!(ended.err.contains(" 4 |     privileged: true"), "{}", ended.err);
    assert!(ended.err.contains("nothing was deployed"), "{}", ended.err);
    assert!(world.asked().is_empty());
    let ended = world.run("deploy -f nowhere.yaml");
    assert_eq!(ended.code, 3, "{ended:?}");
}

#[test]
fn data_is_not_deleted_without_an_answer() {
    let world = World::new(|request, before| match request {
        "GET /v1/stacks" => ok(list(vec![stack("shop", vec![], &[]).stack])),
        // Gone at the third look: one before each `rm`, one after.
        "GET /v1/projects/default/stacks/shop" if before >= 2 => refused(404, "not_found"),
        "GET /v1/projects/default/stacks/shop" => ok(stack("shop", vec![], &["data"])),
        "DELETE /v1/projects/default/stacks/shop?volumes=true" => ok(stack("shop", vec![], &[]).stack),
        _ => refused(500, "internal"),
    });
    let ended = world.run_with("rm shop --volumes", "shop\n");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("data of default/shop for ever: data"), "{}", ended.err);
    assert!(!world.asked().iter().any(|(request, _)| request.starts_with("DELETE")));
    let ended = world.run("rm shop --volumes --yes");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(world.asked().iter().any(|(request, _)| request.starts_with("DELETE")));
}

#[test]
fn secrets_come_by_stdin() {
    let world = World::new(|request, _| {
        assert_eq!(request, "PUT /v1/projects/lab/secrets/db");
        ok(json!({"project": "lab", "name": "db", "version": 2, "updated_at": 0, "updated_by": "admin"}))
    });
    let ended = world.run_with("secret set db --project lab", "hunter2");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(world.asked()[0].1, "hunter2");
    assert!(!ended.err.contains("hunter2"));
    assert_eq!(world.run_with("secret set db --project lab", "").code, 2, "an empty one is refused");
}

#[test]
fn logs_of_replicas_are_told_apart() {
    let world = World::new(|request, _| {
        let web = |slot| allocation("default/shop/web", slot, AllocationState::Running);
        let all: Vec<_> = vec![web(1), web(2)];
        if request == "GET /v1/allocations?all=true" {
            return ok(list(all));
        }
        let which = all.iter().find(|a| request.contains(&a.id.to_string())).unwrap();
        assert!(request.ends_with("/logs?follow=false&tail=5&timestamps=false"), "{request}");
        let (out, err) = (format!("hello from {}\n", which.slot), "oops");
        let lines = [json!({"stream": "stdout", "text": out}), json!({"stream": "stderr", "text": err})];
        (200, format!("{}\n{}\n", lines[0], lines[1]))
    });
    let ended = world.run("logs -n 5 web");
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut lines: Vec<_> = ended.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["web#1 | hello from 1", "web#2 | hello from 2"]);
    assert!(ended.err.contains("web#2 | oops\n"), "{}", ended.err);
    assert_eq!(world.run("logs -n 5 web#2").out, "hello from 2\n");
}
