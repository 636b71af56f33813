//! Secrets: files in memory that change while a container runs, under keys that change too; and found nowhere else.

use super::sleepers;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use lattice_e2e::{Agent, Cluster, Home, Options, Output, PATIENCE, eventually, until};
use lattice_model::{ProjectName, SecretName};
use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const FIRST: &str = "planted-4f81c6d2-the-first-value";
const SECOND: &str = "planted-b07e95a3-the-second-and-longer-value";
const THIRD: &str = "planted-e62d1f48-third";
const PLANTED: [&str; 3] = [FIRST, SECOND, THIRD];

/// A value as it might be written down: as it is, in hexadecimal, as a list of numbers, and in base64 at each of its
/// three offsets.
fn forms(value: &str) -> Vec<String> {
    let list = |by: &str| value.bytes().take(12).map(|b| b.to_string()).collect::<Vec<_>>().join(by);
    let hex: String = value.bytes().map(|b| format!("{b:02x}")).collect();
    let mut forms = vec![value.to_owned(), hex.to_uppercase(), hex, list(","), list(", ")];
    forms.extend((0..3).map(|skip| BASE64_STANDARD.encode(&value.as_bytes()[skip..])[..16].to_owned()));
    forms
}

fn find(place: &str, text: &str, found: &mut Vec<String>) {
    for value in PLANTED {
        for form in forms(value).iter().filter(|form| text.contains(*form)) {
            found.push(format!("{form} in {place}"));
        }
    }
}

fn find_below(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            find_below(&path, found);
        } else if kind.is_file()
            && let Ok(bytes) = fs::read(&path)
        {
            find(&path.display().to_string(), &String::from_utf8_lossy(&bytes), found);
        }
    }
}

/// Looks at what every process of the machine was started with, all the time.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Watch {
    fn begin() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut found = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    for name in ["cmdline", "environ"] {
                        // Processes end, and some are somebody else's.
                        if let Ok(bytes) = fs::read(entry.path().join(name)) {
                            let text = String::from_utf8_lossy(&bytes);
                            found.extend(
                                PLANTED
                                    .iter()
                                    .filter(|value| text.contains(**value))
                                    .map(|value| format!("{value} in {name} of {text}")),
                            );
                        }
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
            found
        });
        Self { stop, thread }
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// The containers of a service that read this value.
fn reading(cluster: &Cluster, service: &str, value: &str) -> Vec<String> {
    let all = cluster.allocations("s");
    let ids = all.iter().filter(|a| a.workload.as_str() == service && a.is_serving());
    let containers = ids.flat_map(|a| cluster.engine.labelled(&format!("lattice.allocation={}", a.id)));
    let reads = |id: &String| {
        let read = cluster.engine.docker(&["exec", id, "cat", "/run/secrets/pw"]);
        read.code == 0 && read.stdout == value
    };
    containers.filter(reads).collect()
}

#[track_caller]
fn comes_to_read(cluster: &Cluster, service: &str, value: &str) -> String {
    until(&format!("{service} reads {value}"), PATIENCE, || {
        reading(cluster, service, value).pop().ok_or_else(|| cluster.allocations("s"))
    })
}

fn start_of(cluster: &Cluster, container: &str) -> (String, String) {
    (container.to_owned(), cluster.engine.started_at(container))
}

fn mounted_from(cluster: &Cluster, container: &str) -> String {
    let seen = cluster.engine.inspect("container", container);
    let mounts = seen["Mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["Destination"] == "/run/secrets/pw").unwrap();
    mount["Source"].as_str().unwrap().to_owned()
}

/// Everything that anybody can ask for, as a program gets it.
fn asked(cluster: &Cluster, agent: &Agent) -> Vec<Output> {
    let mut all: Vec<Output> = [
        &["secret", "ls"][..],
        &["secret", "versions", "pw"],
        &["ps", "-a"],
        &["events", "-n", "1000"],
        &["audit"],
        &["status"],
        &["node", "ls"],
        &["node", "show", "a"],
        &["explain", "s/still"],
        &["rollout", "status", "s"],
        &["pool", "ls"],
        &["project", "ls"],
        &["whoami"],
    ]
    .iter()
    .map(|args| cluster.lattice(&[args, &["-o", "json"][..]].concat()).ok())
    .collect();
    all.push(cluster.lattice(&["logs", "s/still"]).ok());
    all.push(agent.lattice_agent(&["status"], b"").ok());
    all.push(agent.lattice_agent(&["doctor"], b""));
    for container in agent.made().0 {
        all.push(agent.engine().docker(&["inspect", &container]).ok());
        all.push(agent.engine().docker(&["logs", &container]).ok());
    }
    all
}

#[test]
fn a_value_reaches_its_containers_changes_in_place_and_is_nowhere_else() {
    let watch = Watch::begin();
    // Everything is logged that can be.
    let cluster = Cluster::with(Options { log: Some("trace"), ..Options::default() });
    let mut agent = cluster.join("a");
    let set = |value: &str| {
        let typed = cluster.lattice_with_input(&["secret", "set", "pw", "-o", "json"], value.as_bytes());
        typed.ok()
    };
    let mut said = vec![set(FIRST)];
    let services = [
        ("still", "    secrets: [pw]\n"),
        ("anew", "    secrets: [pw]\n    x-lattice: { restart_on_secret: true }\n"),
    ];
    let text = sleepers(&services) + "secrets:\n  pw: { external: true }\n";
    said.push(cluster.deploy("s", &text, &[]).ok());
    let still = comes_to_read(&cluster, "still", FIRST);
    let first = comes_to_read(&cluster, "anew", FIRST);
    let begun = start_of(&cluster, &still);

    // A file in memory.
    let mounts = cluster.engine.docker(&["exec", &still, "grep", " /run/secrets/pw ", "/proc/mounts"]).ok();
    assert!(mounts.stdout.starts_with("tmpfs "), "{mounts}");
    let source = mounted_from(&cluster, &still);
    let disk = Output::of(Command::new("stat").args(["-f", "-c", "%T", &source]), b"").ok();
    assert!(["tmpfs", "ramfs"].contains(&disk.text()), "{disk}");
    // The search finds what there is to find: this very file.
    let (mut found, folder) = (Vec::new(), Path::new(&source).parent().unwrap().to_owned());
    find_below(&folder, &mut found);
    assert_eq!(found.len(), 1, "{found:?}");

    // A new value: one goes on with it, the other is replaced.
    said.push(set(SECOND));
    assert_eq!(comes_to_read(&cluster, "still", SECOND), still);
    let second = comes_to_read(&cluster, "anew", SECOND);
    assert_ne!(first, second, "it asked to be replaced");
    cluster.serving("s", 2);
    assert_eq!(start_of(&cluster, &still), begun, "it runs on");

    // One that is set while nobody is there to write it.
    agent.kill();
    said.push(set(THIRD));
    agent.start();
    assert_eq!(comes_to_read(&cluster, "still", THIRD), still);
    let third = comes_to_read(&cluster, "anew", THIRD);
    assert_ne!(second, third);
    cluster.serving("s", 2);

    // Back to the first; and the same again changes nothing.
    let back = cluster.lattice(&["secret", "rollback", "pw", "1", "-o", "json"]).ok();
    assert_eq!(back.json::<serde_json::Value>()["version"], 4);
    said.push(back);
    assert_eq!(comes_to_read(&cluster, "still", FIRST), still);
    comes_to_read(&cluster, "anew", FIRST);
    let settled = cluster.serving("s", 2);
    assert_eq!(set(FIRST).json::<serde_json::Value>()["changed"], false);
    said.push(cluster.lattice(&["secret", "rotate-key", "-o", "json"]).ok());
    said.push(set(FIRST));
    assert_eq!(start_of(&cluster, &still), begun);
    let ids = |all: &[lattice_api::AllocationView]| all.iter().map(|a| a.id).collect::<Vec<_>>();
    assert_eq!(ids(&cluster.serving("s", 2)), ids(&settled));

    said.extend(asked(&cluster, &agent));
    let mut found = Vec::new();
    for output in &said {
        find(&output.command, &output.to_string(), &mut found);
    }
    // The server's home and its log, its database, the agent's home and its log.
    for folder in cluster.folders() {
        find_below(&folder, &mut found);
    }
    find_below(agent.folder().parent().unwrap(), &mut found);
    found.extend(watch.end());
    assert!(found.is_empty(), "{found:#?}");
    assert!(agent.log().contains("TRACE") && cluster.server_log().contains("TRACE"));

    let _ = cluster.lattice(&["rm", "-y", "s"]).ok();
    eventually("its file goes with it", || !Path::new(&source).exists());
}

#[test]
fn a_rotation_that_is_killed_loses_nothing_and_is_finished_by_another() {
    const MANY: usize = 250;
    let mut cluster = Cluster::with(Options { home: Some(Home::new()), ..Options::default() });
    let project = ProjectName::default_project();
    let name = |n: usize| -> SecretName { format!("s{n}").parse().unwrap() };
    let set = |cluster: &Cluster, n: usize| {
        let value = format!("value {n}").into_bytes();
        cluster.ask(cluster.client().set_secret(&project, &name(n), value)).unwrap()
    };
    // The value that is there makes no version: the server opened it, and compared.
    let all_open = |cluster: &Cluster| {
        for n in 0..MANY {
            let view = set(cluster, n);
            assert_eq!((view.version, view.changed), (1, Some(false)), "{view:?}");
        }
    };
    for n in 0..MANY {
        set(&cluster, n);
    }
    let ring = |cluster: &Cluster| fs::read_to_string(cluster.home().join("server/master.key")).unwrap();
    for round in 0..5 {
        let before = ring(&cluster);
        let child = cluster.command(&["secret", "rotate-key"]).spawn().unwrap();
        eventually("the new key is on the disk", || ring(&cluster) != before);
        thread::sleep(Duration::from_millis(round * 4));
        cluster.kill_server();
        let _ = { child }.wait().unwrap();
        assert!(ring(&cluster).ends_with(&before), "the older keys are kept");
        cluster.start_server();
        all_open(&cluster);
    }
    let done = cluster.lattice(&["secret", "rotate-key"]).ok().says(&["master.key", "backup"]);
    assert!(!done.stderr.contains("not yet"), "{done}");

    // Now everything is under the newest, and a backup of that comes back.
    let vault = Home::new();
    let (place, words) = (vault.join("vault"), vault.join("passphrase"));
    fs::write(&words, "correct horse battery staple\n").unwrap();
    let args = |verb| {
        ["backup", verb, "--place", place.to_str().unwrap(), "--passphrase-file", words.to_str().unwrap()]
    };
    let _ = cluster.lattice(&args("create")).ok();
    assert!(cluster.stop_server().success());
    let newest = ring(&cluster).lines().next().unwrap().to_owned() + "\n";
    fs::write(cluster.home().join("server/master.key"), newest).unwrap();
    cluster.start_server();
    all_open(&cluster);
    cluster.kill_server();
    let config = cluster.move_to(Home::new());
    let restore = [&args("restore")[..], &["--config", config.to_str().unwrap()]].concat();
    let _ = cluster.lattice(&restore).ok();
    cluster.start_server();
    all_open(&cluster);
}
