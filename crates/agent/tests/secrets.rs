//! Secrets on a real engine: files of their user, that change while a container runs, and that are
//! found nowhere else.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use lattice_link::message::{BulkFrame, ExecRequest, StreamRequest, channel};
use lattice_model::{Goal, goal::SecretValue, report::AllocationState, spec::SecretMount};
use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
};
use support::{Node, Server, goal, id};

const PLANTED: [&str; 2] = ["planted-5d1e-first", "planted-5d1e-then"];

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn on_disk(folder: &Path, all: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            on_disk(&path, all);
        } else if path.is_file() {
            all.extend(std::fs::read(path).unwrap_or_default());
        }
    }
}

/// Raw, hexadecimal, as a list of numbers, and base64 at each of its three offsets.
fn forms(value: &str) -> Vec<String> {
    use base64::Engine as _;
    let mut forms = vec![value.to_owned(), value.bytes().map(|b| format!("{b:02x}")).collect()];
    for separator in [",", ", "] {
        forms.push(value.bytes().map(|b| b.to_string()).collect::<Vec<_>>().join(separator));
    }
    for skip in 0..3 {
        let whole = base64::prelude::BASE64_STANDARD.encode(&value.as_bytes()[skip..]);
        forms.push(whole[..16].to_owned());
    }
    forms
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_has_secrets_as_files_that_change_and_nobody_else_has_them() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let _ = tracing::subscriber::set_global_default(subscriber.with_writer(move || writer.clone()).finish());
    let server = Server::start().await;
    let mut node = Node::running(&server).await;
    let web = id();
    let root = rustix::process::geteuid().is_root();
    let wanted = |value: &str| -> Goal {
        let mut goal = goal([(web, "sleep 3600")]);
        let allocation = goal.allocations.get_mut(&web).unwrap();
        let spec = Arc::make_mut(&mut allocation.spec);
        let mut mount = SecretMount {
            secret: "pw".parse().unwrap(),
            target: "/run/secrets/pw".into(),
            mode: 0o444,
            uid: None,
            gid: None,
        };
        if root {
            (mount.mode, mount.uid, mount.gid) = (0o440, Some(1234), Some(4321));
            spec.process.user = Some("1234:1234".into());
        }
        spec.secrets.push(mount);
        allocation.secrets.insert("pw".parse().unwrap(), SecretValue::new(value.as_bytes().to_vec()));
        goal
    };
    let read = async || {
        let script = "cat /run/secrets/pw; stat -c ' %u:%g %a' /run/secrets/pw";
        let request = ExecRequest {
            allocation: web,
            command: ["sh", "-c", script].map(String::from).to_vec(),
            tty: false,
            stdin: false,
            size: None,
            user: None,
            workdir: None,
            env: Default::default(),
        };
        let mut stream = server.open(StreamRequest::Exec(request)).await;
        let mut text = Vec::new();
        while let Some(frame) = stream.recv.recv().await.unwrap() {
            if let BulkFrame::Data { channel: channel::STDOUT, bytes } = frame {
                text.extend_from_slice(&bytes);
            }
        }
        String::from_utf8(text).unwrap()
    };
    server.give(1, &wanted(PLANTED[0]));
    server.state(web, AllocationState::Running).await;
    let first = read().await;
    assert!(first.starts_with(PLANTED[0]), "{first}");
    if root {
        assert!(first.contains("1234:4321 440"), "{first}");
    }
    let started = node.container(web).await.unwrap().started_at;
    server.give(2, &wanted(PLANTED[1]));
    let limit = std::time::Instant::now() + support::LIMIT;
    loop {
        let now = read().await;
        if now.starts_with(&format!("{} ", PLANTED[1])) {
            break;
        }
        assert!(std::time::Instant::now() < limit, "{now}");
    }
    assert_eq!(node.container(web).await.unwrap().started_at, started, "it runs on");
    let mut all = Vec::new();
    on_disk(node.folder.path(), &mut all);
    all.extend(format!("{:?}", wanted(PLANTED[1])).into_bytes());
    all.extend(format!("{:?}", server.fake.seen.lock().reports).into_bytes());
    all.extend(format!("{:?}", node.status().await).into_bytes());
    let logged = log.0.lock().unwrap().clone();
    assert!(logged.len() > 1000, "the log is heard");
    all.extend(logged);
    for value in PLANTED {
        for form in forms(value) {
            let found = all.windows(form.len()).position(|window| window == form.as_bytes());
            let around =
                found.map(|at| String::from_utf8_lossy(&all[at.saturating_sub(200)..at]).into_owned());
            assert_eq!(around, None, "{form} is where it should not be");
        }
    }
    node.clear().await;
}
