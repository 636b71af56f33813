//! After a reset everything on a machine is as it was before the join: whoever ran there, whatever was
//! broken, and however often the reset itself was killed.

use lattice_e2e::{Agent, BUSYBOX, Cluster, Engine, Output, PATIENCE, eventually, until};
use rustix::process::Signal;
use std::{collections::BTreeMap, fs, path::Path, process::Stdio, sync::Arc};

/// Where the registry listens, on the engine's own machine.
const REGISTRY: &str = "127.0.0.1:5555";

/// Everything that Lattice could have changed there.
fn machine(engine: &Engine, folder: &Path) -> BTreeMap<&'static str, Vec<String>> {
    let list = |args: &[&str]| sorted(&engine.docker(args).ok().stdout);
    let tables = Output::of(engine.command_inside("nft").args(["list", "tables"]), b"").ok();
    let bridges = bridges(engine);
    let mut files = Vec::new();
    walk(folder, &mut files);
    files.sort();
    let system =
        ["/etc", "/etc/systemd/system", "/var/lib"].iter().flat_map(fs::read_dir).flatten().flatten();
    let system = system.map(|entry| entry.path().display().to_string());
    let system: Vec<String> = system.filter(|path| path.contains("lattice")).collect();
    [
        ("containers", list(&["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"])),
        ("volumes", list(&["volume", "ls", "--format", "{{.Name}}"])),
        ("networks", list(&["network", "ls", "--format", "{{.Name}}"])),
        (
            "images",
            list(&[
                "image",
                "ls",
                "--all",
                "--no-trunc",
                "--digests",
                "--format",
                "{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}}",
            ]),
        ),
        ("firewall", sorted(&tables.stdout)),
        ("bridges", bridges),
        ("files", files),
        ("system", system),
        ("users", sorted(&fs::read_to_string("/etc/passwd").unwrap())),
        ("processes", processes(folder)),
    ]
    .into()
}

/// The bridges beside the engine.
fn bridges(engine: &Engine) -> Vec<String> {
    let shown =
        Output::of(engine.command_inside("ip").args(["-o", "link", "show", "type", "bridge"]), b"").ok();
    let name = |line: &str| Some(line.split(':').nth(1)?.trim().to_owned());
    sorted(&shown.stdout.lines().filter_map(name).collect::<Vec<_>>().join("\n"))
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // What this test itself wrote beside the agent's folder.
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        }
        found.push(entry.path().display().to_string());
    }
}

/// Programs of Lattice that were told of this folder.
fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(&folder).then_some(line)
    });
    all.collect()
}

/// A registry beside the engine; it ends with the test.
struct Registry(
    std::process::Child,
    #[expect(dead_code, reason = "it goes with the registry")] tempfile::TempDir,
);

impl Registry {
    fn start(engine: &Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let data = folder.path().join("data");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{REGISTRY}\"}}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = engine.command_inside("docker-registry");
        let child = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let registry =
            Self(child.expect("Debian's docker-registry; scripts/deps.sh test installs it"), folder);
        let name = format!("{REGISTRY}/pulled:1");
        let mut build = std::process::Command::new("docker");
        build.args(["-H", &format!("unix://{}", engine.socket()), "build", "--quiet", "--tag", &name, "-"]);
        let _ = Output::of(&build, format!("FROM {BUSYBOX}\nENV PULLED=1\n").as_bytes()).ok();
        until("the registry takes an image", PATIENCE, || match engine.docker(&["push", "--quiet", &name]) {
            Output { code: 0, .. } => Ok(()),
            other => Err(other),
        });
        let _ = engine.docker(&["rmi", &name]).ok();
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the owner has on his machine.
fn own_things(engine: &Engine) {
    let _ = engine.docker(&["network", "create", "mine"]).ok();
    let _ = engine.docker(&["volume", "create", "mine"]).ok();
    let run =
        ["run", "-d", "--name", "mine", "--network", "mine", "-v", "mine:/data", BUSYBOX, "sleep", "100000"];
    let _ = engine.docker(&run).ok();
    let _ = engine.docker(&["tag", BUSYBOX, "mine:1"]).ok();
}

/// A stack with all that there is: an image that was built, one that was pulled, one that was there, a volume,
/// a secret, a file, a network.
fn deploy(cluster: &Cluster) {
    let _ = cluster.lattice_with_input(&["secret", "set", "word"], b"not-a-real-secret").ok();
    let text = format!(
        "services:\n  built:\n    build: .\n    networks: [back]\n  pulled:\n    image: {REGISTRY}/pulled:1\n    command: [sleep, \"100000\"]\n    \
         volumes: [\"data:/data\"]\n    networks: [back]\n    secrets: [word]\n  there:\n    image: {BUSYBOX}\n    command: [sleep, \"100000\"]\n    \
         networks: [back]\n    configs: [{{source: page, target: /page}}]\n\
         networks: {{back: {{}}}}\nvolumes: {{data: {{}}}}\nsecrets: {{word: {{external: true}}}}\nconfigs: {{page: {{file: ./page}}}}\n"
    );
    let folder = cluster.compose("all", &text);
    let folder = folder.parent().unwrap();
    let dockerfile = format!("FROM {BUSYBOX}\nCOPY page /built\nCMD [\"sleep\", \"100000\"]\n");
    fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    fs::write(folder.join("page"), format!("{:?}", std::time::SystemTime::now())).unwrap();
    let _ = cluster.deploy("all", &text, &[]).ok();
    cluster.serving("all", 3);
}

fn join(cluster: &Cluster, agent: &mut Agent, host: &str, log: &str, called: &str) {
    let token = agent.home().join("token").display().to_string();
    fs::write(&token, cluster.token(1, true)).unwrap();
    let name = agent.name().to_owned();
    let args = ["join", "--name", &name, "--token-file", &token, "--docker-host", host];
    let _ = agent.lattice_agent(&args, b"").ok();
    agent.start_with(&["--docker-host", host, "--log-file", log]);
    cluster.connected(called);
    fs::remove_file(token).unwrap();
}

fn same(before: &BTreeMap<&'static str, Vec<String>>, engine: &Engine, folder: &Path) {
    for (what, now) in machine(engine, folder) {
        assert_eq!(before[what], now, "{what}");
    }
}

/// A machine that has no folder of Lattice's, with an engine that has things of its owner.
fn fresh(cluster: &Cluster, name: &str) -> (Agent, String, String) {
    own_things(&cluster.engine);
    let agent = Agent::new(name, Arc::clone(&cluster.engine));
    fs::remove_dir_all(agent.folder()).unwrap();
    fs::create_dir(agent.home().join("logs")).unwrap();
    let log = agent.home().join("logs/agent.log").display().to_string();
    // The file that the kit itself writes.
    fs::write(agent.home().join("agent.log"), "").unwrap();
    fs::write(agent.home().join("reset.log"), "").unwrap();
    (agent, cluster.engine.socket().to_owned(), log)
}

#[test]
fn everything_is_as_it_was_before_the_join() {
    let cluster = Cluster::on_private_engine();
    let engine = Arc::clone(&cluster.engine);
    let _registry = Registry::start(&engine);
    let (mut agent, host, log) = fresh(&cluster, "a");
    let home = agent.home().to_owned();
    let before = machine(&engine, &home);

    join(&cluster, &mut agent, &host, &log, "a");
    deploy(&cluster);
    let node = agent.node();
    assert!(!before["images"].iter().any(|image| image.contains("pulled")));
    // What is shown is all of it, and nothing changes.
    let shown = agent.lattice_agent(&["reset"], b"").ok();
    let shown = shown.says(&[
        "container  ",
        "network    ",
        "volume     ",
        "data of whoever's work",
        "lattice/all-built:",
        "/pulled@sha256:",
    ]);
    let shown = shown.says(&["secrets    /", &node, &log, "folder     ", "add --yes"]);
    assert!(!shown.stdout.contains("mine"), "{shown}");
    cluster.serving("all", 3);
    // 1. The agent is asked to end; the reset is killed while it works.
    let reset = agent.begin(&["reset", "--yes"]);
    eventually("it has begun", || reset.log().contains("removed  container"));
    reset.kill();
    assert!(agent.wait().success());
    // 2. Begun again it goes on, with no agent and no word about the engine.
    let done = agent.lattice_agent(&["reset", "--yes"], b"").ok();
    done.says(&["removed  image", "removed  folder", "lattice node rm"]);
    same(&before, &engine, &home);
    let secrets = ["/run", "/dev/shm"].map(|base| Path::new(base).join(format!("lattice-agent-{node}")));
    assert!(secrets.iter().all(|folder| !folder.exists()));
    // 3. Once more is harmless, and so is an agent that somebody starts.
    agent
        .lattice_agent(&["reset", "--yes"], b"")
        .ok()
        .says(&["nothing of Lattice's agent is on this machine"]);
    assert_ne!(agent.lattice_agent(&["run", "--docker-host", &host], b"").code, 0);
    same(&before, &engine, &home);
    // 4. The machine may join again, leave, and be reset then: what it brought is still known.
    join(&cluster, &mut agent, &host, &log, "a-2");
    let text =
        format!("services:\n  pulled:\n    image: {REGISTRY}/pulled:1\n    command: [sleep, \"100000\"]\n");
    let _ = cluster.deploy("again", &text, &[]).ok();
    cluster.serving("again", 1);
    let _ = agent.lattice_agent(&["leave"], b"").ok();
    assert!(agent.wait().success());
    let _ = agent.lattice_agent(&["reset", "--yes"], b"").ok();
    same(&before, &engine, &home);
}

#[test]
fn a_broken_agent_is_taken_away_too() {
    let cluster = Cluster::on_private_engine();
    let engine = Arc::clone(&cluster.engine);
    let _registry = Registry::start(&engine);
    let (mut agent, host, log) = fresh(&cluster, "a");
    let home = agent.home().to_owned();
    let before = machine(&engine, &home);
    join(&cluster, &mut agent, &host, &log, "a");
    deploy(&cluster);
    let node = agent.node();
    let folder = agent.folder();
    // 1. One that hangs: how to end it is said, and nothing is touched.
    let pid = agent.process().pid().as_raw_nonzero().to_string();
    agent.process().signal(Signal::STOP);
    let refused = agent.lattice_agent(&["reset", "--yes"], b"");
    assert_eq!(refused.code, 1, "{refused}");
    refused.says(&[&format!("kill -9 {pid}"), "does not answer"]);
    // What is there can be seen all the same.
    agent.lattice_agent(&["reset"], b"").ok().says(&["container  ", &node]);
    agent.process().signal(Signal::CONT);
    agent.kill();
    // 2. Nothing in its folder can be read any more, and the engine is away.
    for name in ["identity.json", "node.crt", "node.key", "seal.key", "agent.db", "agent.toml", "rules.toml"]
    {
        fs::write(folder.join(name), "{ rubbish = ").unwrap();
    }
    engine.kill();
    let partly = agent.lattice_agent(&["reset", "--yes"], b"");
    assert_eq!(partly.code, 1, "{partly}");
    partly.says(&["does not answer", &format!("label=lattice.node={node}"), "by hand"]);
    assert!(!folder.join("node.key").exists() && folder.join("former-nodes").exists());
    // 3. With the engine back the rest goes, whatever killed engines revive.
    engine.start();
    let _ = engine.docker(&["start", "mine"]).ok();
    // A bridge whose network it has forgotten is there, too.
    let bridge = bridges(&engine).into_iter().find(|name| name.starts_with("lt")).unwrap();
    let forgotten = format!("{}00000000", &bridge[..7]);
    let add = ["link", "add", &forgotten, "type", "bridge"];
    let _ = Output::of(engine.command_inside("ip").args(add), b"").ok();
    // Somebody else has come to use an image of Lattice's and to sit in one of its networks.
    let image = format!("{REGISTRY}/pulled:1");
    let digest = engine.docker(&["image", "ls", "--digests", "--format", "{{.Repository}}@{{.Digest}}"]).ok();
    let pulled =
        digest.stdout.lines().find(|line| line.starts_with(image.trim_end_matches(":1"))).unwrap().to_owned();
    let network = engine.named("network", &format!("lattice.node={node}"))[0].clone();
    let guest = ["run", "-d", "--name", "guest", "--network", &network, &pulled, "sleep", "100000"];
    let _ = engine.docker(&guest).ok();
    let partly = agent.lattice_agent(&["reset", "--yes"], b"");
    assert_eq!(partly.code, 1, "{partly}");
    partly.says(&[
        "removed  container",
        &format!("removed  bridge     {forgotten}"),
        "a container that is not Lattice's uses it",
        &format!("network rm {network}"),
    ]);
    assert_eq!(engine.inspect("container", "guest")["State"]["Running"], true);
    let _ = engine.docker(&["rm", "--force", "guest"]).ok();
    let _ = agent.lattice_agent(&["reset", "--yes"], b"").ok();
    same(&before, &engine, &home);
}

/// Volumes may stay, and a machine that has forgotten everything may be told which node it was.
#[test]
fn data_may_stay_and_a_forgotten_node_may_be_named() {
    let cluster = Cluster::on_private_engine();
    let engine = Arc::clone(&cluster.engine);
    let _registry = Registry::start(&engine);
    let (mut agent, host, log) = fresh(&cluster, "a");
    let home = agent.home().to_owned();
    let before = machine(&engine, &home);
    join(&cluster, &mut agent, &host, &log, "a");
    deploy(&cluster);
    let node = agent.node();
    let done = agent.lattice_agent(&["reset", "--yes", "--keep-data"], b"").ok();
    done.says(&["kept     volume"]);
    assert!(agent.wait().success());
    let left = engine.named("volume", &format!("lattice.node={node}"));
    assert_eq!(left.len(), 1, "{left:?}");
    // No folder knows of it; the node's own name does.
    let host = ["--docker-host", &host];
    let seen = agent.lattice_agent(&[&["reset"], &host[..]].concat(), b"").ok();
    seen.says(&[&format!("reset --node {node}")]);
    let _ = agent.lattice_agent(&[&["reset", "--yes", "--node", &node], &host[..]].concat(), b"").ok();
    same(&before, &engine, &home);
}
