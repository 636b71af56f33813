//! `lattice import` as it is typed, against a small engine that has what the test says: what is found,
//! what is refused, and that nothing is asked of the engine that would change it.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};
use tempfile::TempDir;

struct Engine {
    home: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn container(folder: &Path, project: &str, service: &str, running: bool, mounts: &[(&str, &str)]) -> Value {
    let label = |name: &str| format!("com.docker.compose.{name}");
    let mounts: Vec<Value> = mounts
        .iter()
        .map(|(name, target)| json!({"Type": "volume", "Name": name, "Source": "/x", "Destination": target, "RW": true}))
        .collect();
    json!({
        "Id": format!("{project}{service}"), "Name": format!("/{project}-{service}-1"), "Image": "sha256:00",
        "State": {"Status": if running { "running" } else { "exited" }},
        "HostConfig": {"RestartPolicy": {"Name": "no"}}, "Mounts": mounts,
        "Config": {"Image": "nginx", "Env": ["SECRET=hush"], "Labels": {
            label("project"): project, label("service"): service, label("container-number"): "1",
            label("oneoff"): "False", label("project.working_dir"): folder.join(project),
            label("project.config_files"): folder.join(project).join("compose.yaml"),
        }},
    })
}

impl Engine {
    fn with(containers: impl FnOnce(&Path) -> Vec<Value>, volumes: &[(&str, &str, &str, u64)]) -> Self {
        let home = TempDir::new().unwrap();
        let containers = containers(home.path());
        let listed: Vec<Value> = containers.iter().map(|one| json!({"Id": one["Id"]})).collect();
        let made: Vec<Value> = volumes
            .iter()
            .map(|(name, project, key, _)| {
                json!({"Name": name, "Labels": {"com.docker.compose.project": project, "com.docker.compose.volume": key}})
            })
            .collect();
        let sizes: Vec<Value> = volumes
            .iter()
            .map(|(name, _, _, size)| json!({"Name": name, "UsageData": {"Size": size, "RefCount": 1}}))
            .collect();
        let listener = UnixListener::bind(home.path().join("engine.sock")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let line = head(&stream);
                let path = line
                    .split(' ')
                    .nth(1)
                    .unwrap_or_default()
                    .split('?')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                log.lock().unwrap().push(line.clone());
                let one = path.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json"));
                let answer = match (path.as_str(), one) {
                    (path, _) if path.ends_with("/_ping") => json!("OK"),
                    ("/containers/json", _) if line.contains("volume") => json!([]),
                    ("/containers/json", _) => json!(listed),
                    ("/volumes", _) => json!({ "Volumes": made }),
                    ("/system/df", _) => json!({ "Volumes": sizes }),
                    (_, Some(id)) => {
                        containers.iter().find(|one| one["Id"] == *id).cloned().unwrap_or_default()
                    }
                    _ => Value::Null,
                };
                reply(stream, &answer);
            }
        });
        Self { home, asked }
    }

    fn run(&self, line: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lattice"));
        for name in
            ["LATTICE_SERVER", "LATTICE_TOKEN", "LATTICE_TOKEN_FILE", "LATTICE_PROJECT", "DOCKER_HOST"]
        {
            command.env_remove(name);
        }
        command.env("LATTICE_HOME", self.home.path()).env("NO_COLOR", "1").current_dir(self.home.path());
        command.arg("import").args(line.split_whitespace()).stdin(Stdio::null());
        let output = command.arg("--engine").arg(self.home.path().join("engine.sock")).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        let ended = Ended { code, out: text(output.stdout), err: text(output.stderr) };
        // Looks alone: nothing of a project is changed by any of this.
        for asked in self.asked.lock().unwrap().iter() {
            assert!(asked.starts_with("GET ") || asked.starts_with("HEAD "), "{asked}");
        }
        assert!(
            !format!("{}{}", ended.out, ended.err).contains("hush"),
            "the environment is nobody's to see"
        );
        ended
    }

    fn file(&self, project: &str, text: &str) {
        let folder = self.home.path().join(project);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("compose.yaml"), text).unwrap();
    }
}

fn head(stream: &UnixStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap() == 0 || header.trim().is_empty() {
            return first.trim().to_owned();
        }
    }
}

fn reply(mut stream: UnixStream, answer: &Value) {
    let status = if answer.is_null() { 404 } else { 200 };
    let body =
        if answer.is_null() { json!({"message": "no such thing"}) } else { answer.clone() }.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\napi-version: 1.41\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

fn two() -> Engine {
    let volumes = [
        ("shop_data", "shop", "data", 3 << 20),
        ("old_data", "old", "data", 100),
        ("shop_unused", "shop", "unused", 5),
    ];
    Engine::with(
        |folder| {
            vec![
                container(folder, "shop", "db", true, &[("shop_data", "/data")]),
                container(folder, "shop", "web", false, &[]),
                container(folder, "blog", "web", true, &[]),
            ]
        },
        &volumes,
    )
}

#[test]
fn projects_are_listed_with_their_state() {
    let engine = two();
    engine.file("shop", "services: {}");
    let ended = engine.run("");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let line = |name: &str| {
        ended.out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{}", ended.out))
    };
    assert!(line("shop").contains("1 of 2 run") && line("shop").contains("2 (3 MiB)"), "{}", ended.out);
    assert!(line("blog").contains("running") && line("blog").contains("is not there"), "{}", ended.out);
    assert!(line("old").contains("only volumes"), "{}", ended.out);
    assert!(ended.err.contains("lattice import blog --dry-run"), "{}", ended.err);
    let json: Vec<Value> = serde_json::from_str(&engine.run("-o json").out).unwrap();
    assert_eq!(
        json.iter().map(|one| one["project"].as_str().unwrap()).collect::<Vec<_>>(),
        ["blog", "old", "shop"]
    );
    assert_eq!(json[2]["volumes"][0], json!({"name": "shop_data", "bytes": 3 << 20}));
    assert_eq!(json[0]["files"][0]["exists"], false);
}

#[test]
fn what_cannot_be_imported_says_why_and_what_to_do() {
    let engine = two();
    let unknown = engine.run("shpo");
    assert!(unknown.code == 3 && unknown.err.contains("there are blog, old, shop"), "{}", unknown.err);
    let gone = engine.run("blog");
    assert!(
        gone.code == 2 && gone.err.contains("not there any more") && gone.err.contains("-f compose.yaml"),
        "{}",
        gone.err
    );
    let volumes = engine.run("old");
    assert!(volumes.code == 2 && volumes.err.contains("do not say which Compose files"), "{}", volumes.err);
    let undo = engine.run("shop --undo");
    assert!(undo.code == 1 && undo.err.contains("nothing to take back"), "{}", undo.err);
    assert_eq!(engine.run("--undo").code, 2, "of which project?");
    assert_eq!(engine.run("shop --undo --dry-run").code, 2);
    // All that a stack cannot have is named at once.
    engine.file(
        "shop",
        "services:\n  db:\n    image: nginx\n    privileged: true\n    volumes: ['data:/data', '/etc:/etc']\n  web:\n    image: nginx\n    network_mode: host\nvolumes:\n  data: {external: true}\n",
    );
    let refused = engine.run("shop --yes");
    assert_eq!(refused.code, 1);
    for words in ["privileged", "network_mode", "external", "/etc", "4 problems"] {
        assert!(refused.err.contains(words), "{words}: {}", refused.err);
    }
}

#[test]
fn no_engine_is_said_to_be_none() {
    let home = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lattice"));
    command.env("LATTICE_HOME", home.path()).args(["import", "--engine", "/nowhere/docker.sock"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && text.contains("--engine") && text.contains("/nowhere/docker.sock"),
        "{text}"
    );
}
