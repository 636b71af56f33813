//! The control plane is saved, its machine destroyed, and it comes back elsewhere: the runbook, command by command.

use super::{sleepers, web};
use lattice_e2e::{Agent, Cluster, Engine, Home, Options, PATIENCE, eventually, repository, until};
use std::{
    fs,
    path::{Path, PathBuf},
};

const WORDS: &str = "correct horse battery staple\n";

/// The command lines of a document's part, as they stand there, with what this machine has in place of the
/// document's names.
fn runbook(part: &str, names: &[(&str, &Path)]) -> Vec<Vec<String>> {
    let text = fs::read_to_string(repository().join("docs/backup.md")).unwrap();
    let part = text.split(&format!("\n## {part}\n")).nth(1).unwrap_or_else(|| panic!("no part {part:?}"));
    let block = part.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let place = |word: &str| {
        let found = names.iter().find(|(name, _)| *name == word);
        found.map_or_else(|| word.to_owned(), |(_, path)| path.display().to_string())
    };
    let lines: Vec<Vec<String>> = block
        .lines()
        .map(|line| line.strip_prefix("lattice ").unwrap_or_else(|| panic!("not a command: {line}")))
        .map(|line| line.split(' ').map(place).collect())
        .collect();
    assert!(!lines.is_empty());
    lines
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// A cluster whose store goes with its machine.
fn embedded() -> Cluster {
    Cluster::with(Options { home: Some(Home::new()), ..Options::default() })
}

struct Vault {
    passphrase: PathBuf,
    folder: Home,
}

impl Vault {
    fn new() -> Self {
        let folder = Home::new();
        let passphrase = folder.join("passphrase");
        fs::write(&passphrase, WORDS).unwrap();
        Self { passphrase, folder }
    }

    fn place(&self) -> PathBuf {
        self.folder.join("vault")
    }

    fn args<'a>(&'a self, verb: &'a str, place: &'a str) -> [&'a str; 6] {
        ["backup", verb, "--place", place, "--passphrase-file", self.passphrase.to_str().unwrap()]
    }

    /// The files of whole and of half backups.
    fn files(&self) -> Vec<String> {
        let read = fs::read_dir(self.place())
            .map(|entries| entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect());
        read.unwrap_or_default()
    }
}

/// The issue's story: agents come back by themselves and every container has its old start time.
#[test]
fn the_servers_machine_is_destroyed() {
    let vault = Vault::new();
    let place = vault.place();
    let names = [("/mnt/backups", place.as_path()), ("passphrase", vault.passphrase.as_path())];
    let mut cluster = embedded();
    let mut agents = vec![cluster.join("a"), cluster.join_on("b", Engine::private())];
    let _ = cluster.lattice_with_input(&["secret", "set", "word"], b"sesame").ok();
    let _ = cluster.deploy("two", &(web("") + &sleepers(&[("other", "")])["services:\n".len()..]), &[]).ok();
    let _ = cluster.deploy("more", &sleepers(&[("one", ""), ("two", ""), ("three", "")]), &[]).ok();
    cluster.serving("two", 2);
    cluster.serving("more", 3);
    let starts = |cluster: &Cluster, agents: &[Agent]| {
        let all = cluster.allocations("two").into_iter().chain(cluster.allocations("more"));
        let mut all: Vec<_> = all
            .map(|a| {
                let engine = agents.iter().find(|agent| agent.name() == a.node.as_str()).unwrap().engine();
                let found = engine.labelled(&format!("lattice.allocation={}", a.id));
                assert_eq!(found.len(), 1, "{found:?}");
                (a.workload.to_string(), a.node.to_string(), engine.started_at(&found[0]))
            })
            .collect();
        all.sort();
        all
    };
    let before = starts(&cluster, &agents);
    assert_eq!(before.len(), 5);

    for line in runbook("By hand", &names) {
        let _ = cluster.lattice(&words(&line)).ok();
    }
    // Life goes on: sessions and reports that no backup knows.
    for agent in &mut agents {
        agent.kill();
        agent.start();
    }
    cluster.connected("a");
    cluster.connected("b");
    let late = cluster.deploy("late", &sleepers(&[("one", "")]), &["--no-wait"]);
    let _ = late.ok();
    cluster.serving("late", 1);

    // Destroyed: the process, its home, its configuration.
    cluster.kill_server();
    let config = cluster.move_to(Home::new());
    assert!(!config.exists());
    let names = [names[0], names[1], ("server.toml", config.as_path())];
    let lines = runbook("The server's machine is gone", &names);
    assert_eq!(lines.len(), 2, "restore, then start");
    let restored = cluster.lattice(&words(&lines[0])).ok();
    let _ = restored.says(&["incarnation is 2", "Agents come back by themselves"]);
    assert_eq!(lines[1][..2], ["server", "--config"]);
    cluster.start_server();

    cluster.connected("a");
    cluster.connected("b");
    cluster.serving("two", 2);
    cluster.serving("more", 3);
    assert_eq!(starts(&cluster, &agents), before, "nothing that runs was restarted");
    let _ = cluster.lattice(&["status"]).ok().says(&["incarnation 2"]);
    let _ = cluster.lattice(&["secret", "ls"]).ok().says(&["word"]);
    // What no backup knows is gone, as the runbook says; and the server is in charge.
    eventually("what was deployed later is stopped", || {
        agents.iter().map(|agent| agent.made().0.len()).sum::<usize>() == 5
    });
    let _ = cluster.deploy("late", &sleepers(&[("one", "")]), &[]).ok();
    cluster.serving("late", 1);
    assert_eq!(starts(&cluster, &agents), before);
}

#[test]
fn of_a_stopped_server_and_back_in_place() {
    let vault = Vault::new();
    let place = vault.place();
    let place = place.to_str().unwrap();
    let mut cluster = embedded();
    let _agent = cluster.join("a");
    let _ = cluster.deploy("s", &sleepers(&[("one", "")]), &[]).ok();
    let before = cluster.starts("s");
    assert!(cluster.stop_server().success());
    let config = cluster.home().join("server.toml");
    let made = cluster
        .lattice(&[&vault.args("create", place)[..], &["--config", config.to_str().unwrap()]].concat())
        .ok();
    let _ = made.says(&["the server does not run"]);
    // Not over what is there.
    let mut restore = vault.args("restore", place).to_vec();
    let _ = cluster.lattice(&restore).failed().says(&["not empty", "--replace"]);
    restore.push("--replace");
    let _ = cluster.lattice(&restore).ok().says(&["what was there is in"]);
    cluster.start_server();
    cluster.connected("a");
    cluster.serving("s", 1);
    assert_eq!(cluster.starts("s"), before);
    // A server that runs is not restored over.
    let _ = cluster.lattice(&restore).failed().says(&["a server runs"]);
}

#[test]
fn wrong_keys_full_disks_and_kills() {
    let vault = Vault::new();
    let place = vault.place();
    let place = place.to_str().unwrap();
    let cluster = embedded();
    for n in 0..60 {
        let _ = cluster.lattice_with_input(&["secret", "set", &format!("s{n}")], &noise(60_000)).ok();
    }
    // Nothing is written without a key, and none is taken from the command line.
    let _ = cluster.lattice(&["backup", "create", "--place", place]).ended(2).says(&["--passphrase-file"]);
    let short = cluster
        .lattice_with_input(&["backup", "create", "--place", place, "--passphrase-file", "-"], b"short\n");
    let _ = short.failed().says(&["12 characters"]);
    assert_eq!(vault.files(), Vec::<String>::new());

    // A disk that has no room for it.
    let small = Home::on_small_disk(1);
    let full = small.join("b");
    let _ = cluster.lattice(&vault.args("create", full.to_str().unwrap())).failed().says(&["room"]);
    let _ = cluster.lattice(&["backup", "ls", "--place", full.to_str().unwrap()]).ok();
    assert_eq!(fs::read_dir(&full).unwrap().count(), 0, "no half backup");

    fs::create_dir(vault.place()).unwrap();
    // Killed at one moment after another: what is listed as good is good.
    let mut good = 0;
    for round in 0..8 {
        let mut child = cluster.command(&vault.args("create", place)).spawn().unwrap();
        let began = vault.files().len();
        until("it has begun, or is done", PATIENCE, || {
            let ended = child.try_wait().unwrap().is_some();
            if ended || round < 2 || vault.files().len() > began { Ok(()) } else { Err("not yet") }
        });
        std::thread::sleep(std::time::Duration::from_millis(round * 15));
        let _ = child.kill();
        child.wait().unwrap();
        let list: Vec<serde_json::Value> =
            cluster.lattice(&["backup", "ls", "--place", place, "-o", "json"]).ok().json();
        for found in list.iter().filter(|found| found["state"] == "good") {
            let name = found["name"].as_str().unwrap();
            let mut verify = vault.args("verify", place).to_vec();
            verify.insert(2, name);
            let _ = cluster.lattice(&verify).ok();
        }
        good = list.iter().filter(|found| found["state"] == "good").count();
    }
    let _ = cluster.lattice(&[&vault.args("create", place)[..], &["--keep", "1"]].concat()).ok();
    let list: Vec<serde_json::Value> =
        cluster.lattice(&["backup", "ls", "--place", place, "-o", "json"]).ok().json();
    assert_eq!(
        list.iter().filter(|found| found["state"] == "good").count(),
        1,
        "of {good} one is kept: {list:#?}"
    );

    let wrong = ["backup", "verify", "--place", place, "--passphrase-file", "-"];
    let _ = cluster.lattice_with_input(&wrong, b"another long passphrase").failed().says(&["another one"]);
}

/// What does not compress.
fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_cluster_of_its_own_disk() {
    // The server's own section of the configuration: made by itself, and by `create` without a place.
    let vault = Vault::new();
    fs::set_permissions(&vault.passphrase, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let section = format!(
        "[backup]\nurl = \"{}\"\nevery = \"1h\"\nkeep = 2\npassphrase_file = \"{}\"\n",
        vault.place().display(),
        vault.passphrase.display()
    );
    let cluster = Cluster::with(Options { more_config: section, ..Options::default() });
    let name = cluster.lattice(&["backup", "create"]).ok().text().to_owned();
    let config = cluster.home().join("server.toml");
    let config = config.to_str().unwrap();
    let _ = cluster.lattice(&["backup", "ls", "--config", config]).ok().says(&[&name, "good"]);
    let _ = cluster.lattice(&["backup", "verify", &name, "--config", config]).ok().says(&["is good"]);
    let _ = cluster.lattice(&["status"]).ok().says(&["backup", "every 1h"]);
}
