//! A Docker Compose project of the machine becomes a stack with its data; and whatever goes wrong on the
//! way, the project runs again. The projects are made by hand, with Docker Compose's labels: that is all
//! that an import goes by.

use lattice_api::{AllocationView, VolumeView};
use lattice_e2e::{BUSYBOX, Bed, Engine, Output, PATIENCE, Process, Up, free_port, until};
use rustix::process::Signal;
use serde_json::Value;
use std::{fs, process::Stdio};

const WAIT: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

/// Everything that can be seen of what is in a volume.
const LISTING: &str = "cd /v && find . -exec stat -c '%n|%a|%u|%g|%F|%h|%Y' {} + | sort && \
    find . -type l -exec readlink {} + && find . -type f -exec md5sum {} + | sort";

/// A project on the machine's engine. Dropping it removes what it made.
struct Project {
    name: String,
    engine: Engine,
    folder: tempfile::TempDir,
}

impl Project {
    /// Two services, of which `web` depends on `db`, and the volume `data`; running.
    fn start(web: &str, script: &str) -> Self {
        let name = format!("imported{}", free_port());
        let project = Self { name, engine: Engine::shared(), folder: tempfile::tempdir().unwrap() };
        let write = |file: &str, text: &str| fs::write(project.folder.path().join(file), text).unwrap();
        // The image of `web` is one that was built once; building it again would fail.
        write("Dockerfile", "FROM nothing-of-this-name\n");
        let limits = "deploy: { resources: { limits: { cpus: \"0.25\", memory: 32M } } }";
        write(
            "compose.yaml",
            &format!(
                "services:\n  db:\n    image: {BUSYBOX}\n    command: [sh, -c, \"{WAIT}\"]\n    environment: {{WORD: \"${{WORD}}\"}}\n    \
                 stop_grace_period: 2s\n    volumes: [\"data:/data\"]\n    {limits}\n  \
                 web:\n    build: .\n    command: [sh, -c, \"{web}\"]\n    depends_on: [db]\n    \
                 stop_grace_period: 2s\n    restart: \"no\"\n    volumes: [\"data:/data:ro\", \"/cache\"]\n    read_only: true\n    {limits}\n\
                 volumes: {{data: {{}}}}\n"
            ),
        );
        write(".env", "WORD=blue\n");
        let volume = project.volume();
        let label = format!("com.docker.compose.project={}", project.name);
        let docker = |args: &[&str]| project.engine.docker(args).ok();
        let _ = docker(&[
            "volume",
            "create",
            "--label",
            &label,
            "--label",
            "com.docker.compose.volume=data",
            &volume,
        ]);
        let mount = format!("{volume}:/data");
        let _ = docker(&["run", "--rm", "-v", &mount, BUSYBOX, "sh", "-ec", script]);
        project.run("db", "", "always", &["-v", &mount, "-e", "WORD=blue"]);
        project.run("web", "db:service_started:false", "no", &["-v", &format!("{mount}:ro"), "-v", "/cache"]);
        project
    }

    fn run(&self, service: &str, depends_on: &str, restart: &str, more: &[&str]) {
        let folder = self.folder.path().display().to_string();
        let labels = [
            ("project", self.name.as_str()),
            ("project.working_dir", &folder),
            ("project.config_files", &format!("{folder}/compose.yaml")),
            ("service", service),
            ("container-number", "1"),
            ("oneoff", "False"),
            ("depends_on", depends_on),
        ]
        .map(|(key, value)| format!("--label=com.docker.compose.{key}={value}"));
        let name = self.container(service);
        let mut args = vec!["run", "--detach", "--name", &name, "--stop-timeout", "2", "--restart", restart];
        args.extend(labels.iter().map(String::as_str));
        args.extend(more);
        args.extend([BUSYBOX, "sh", "-c", WAIT]);
        let _ = self.engine.docker(&args).ok();
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    fn volume(&self) -> String {
        format!("{}_data", self.name)
    }

    /// Whether both containers run, and how `db` is started again.
    fn is_up(&self) -> (bool, bool, String) {
        let seen = |service| self.engine.inspect("container", &self.container(service));
        let runs = |seen: &Value| seen["State"]["Running"] == true;
        let (db, web) = (seen("db"), seen("web"));
        (runs(&db), runs(&web), db["HostConfig"]["RestartPolicy"]["Name"].as_str().unwrap().to_owned())
    }

    /// Everything in a volume that can be seen of it.
    fn listing(&self, volume: &str) -> String {
        self.engine
            .docker(&["run", "--rm", "-v", &format!("{volume}:/v:ro"), BUSYBOX, "sh", "-ec", LISTING])
            .ok()
            .stdout
    }

    /// What the node made for a volume of the stack.
    fn new_volume(&self, name: &str) -> String {
        let found = self.engine.named("volume", &format!("lattice.stack=default/{}", self.name));
        let mut found: Vec<_> =
            found.into_iter().filter(|volume| volume.contains(&format!("_{name}_"))).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// Nothing of Lattice is left, and nothing of what carries data.
    fn is_untouched(&self, up: &Up) {
        assert_eq!(self.is_up(), (true, true, "always".to_owned()));
        let left: Vec<AllocationView> = command(up, &["ps", "-a", "-o", "json"]).ok().json();
        assert!(left.is_empty(), "{left:#?}");
        let volumes: Vec<VolumeView> = command(up, &["volume", "ls", "-o", "json"]).ok().json();
        assert!(volumes.is_empty(), "{volumes:#?}");
        self.nothing_carries();
    }

    fn nothing_carries(&self) {
        let carriers = self.engine.labelled(&format!("lattice.porter={}", self.volume()));
        assert!(carriers.is_empty(), "{carriers:?}");
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let label = format!("com.docker.compose.project={}", self.name);
        for container in self.engine.labelled(&label) {
            self.engine.docker(&["rm", "--force", "--volumes", &container]);
        }
        for container in self.engine.labelled(&format!("lattice.porter={}", self.volume())) {
            self.engine.docker(&["rm", "--force", &container]);
        }
        for volume in self.engine.named("volume", &label) {
            self.engine.docker(&["volume", "rm", &volume]);
        }
    }
}

fn command(up: &Up, args: &[&str]) -> Output {
    let mut command = up.command(args);
    command.env("DOCKER_HOST", format!("unix://{}", up.engine().socket()));
    Output::of(&command, b"")
}

/// Odd owners, modes and names, links of both kinds, an empty folder, old times, and something large.
const ODD: &str = "cd /data; mkdir -p 'with space/deep' empty; echo secret >'with space/deep/f i l e'; \
    chown 70:71 'with space/deep/f i l e'; chmod 4640 'with space/deep/f i l e'; echo é >'with space/größe'; \
    ln -s ../nowhere 'with space/link'; ln 'with space/größe' hard; mkfifo pipe; chmod 1777 empty; \
    dd if=/dev/urandom of=big bs=1M count=20 2>/dev/null; chown 999:998 . big; chmod 700 .; \
    touch -d '2001-02-03 04:05:06' big empty 'with space/deep/f i l e'";

#[test]
fn a_compose_project_comes_with_its_data() {
    let project = Project::start(WAIT, ODD);
    let name = project.name.as_str();
    let mut up = Up::new();
    up.start();
    let list = command(&up, &["import"]).ok();
    let line = list.stdout.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{list}"));
    assert!(line.contains("running") && line.contains("compose.yaml"), "{list}");
    let listed: Vec<Value> = command(&up, &["import", "-o", "json"]).ok().json();
    let listed = listed.iter().find(|listed| listed["project"] == name).unwrap();
    assert_eq!((&listed["running"], &listed["files"][0]["exists"]), (&2.into(), &true.into()), "{listed:#}");
    let _ = command(&up, &["import", "nothing-of-this-name"]).ended(3).says(&[name]);
    let _ = command(&up, &["import", name, "--undo"]).ended(1).says(&["nothing to take back"]);
    // Without somebody to ask, and in a dry run, nothing is done.
    let _ = command(&up, &["import", name]).ended(2).says(&["--yes"]);
    let planned = command(&up, &["import", name, "--dry-run"]).ok();
    for words in [
        &format!("stops {}, then {}", project.container("web"), project.container("db")),
        &format!("copies {} (", project.volume()),
        "into the volume data",
        "into the volume web-cache",
        "web: lattice/imported",
        "+ service db",
    ] {
        assert!(planned.text().contains(words), "{words}: {planned}");
    }
    assert!(!planned.text().contains("gets other variables"), ".env is read: {planned}");
    project.is_untouched(&up);

    let before = project.listing(&project.volume());
    let done = command(&up, &["import", name, "--yes"]).ok();
    done.clone().says(&["are the same on both sides", "runs as default/", "the way back"]);
    assert_eq!(project.listing(&project.new_volume("data")), before, "{done}");
    assert_eq!(project.listing(&project.volume()), before, "the old data stays as it was");
    let all: Vec<AllocationView> = command(&up, &["ps", "-o", "json", name]).ok().json();
    assert!(all.len() == 2 && all.iter().all(AllocationView::is_serving), "{all:#?}");
    let owner =
        command(&up, &["exec", &format!("{name}/db"), "sh", "-c", "stat -c '%u %a' /data; echo $WORD"]).ok();
    assert_eq!(owner.text(), "999 700\nblue");
    // The old ones stay, and do not come back by themselves with the engine.
    assert_eq!(project.is_up(), (false, false, "unless-stopped".to_owned()));
    project.nothing_carries();
    let _ = command(&up, &["import", name, "--yes"]).failed().says(&["already"]);
    let _ = command(&up, &["rm", "-y", "--volumes", name]).ok();
}

#[test]
fn a_service_that_does_not_run_takes_the_import_back() {
    let project = Project::start("echo last words; exit 3", "echo kept >/data/file");
    let name = project.name.as_str();
    let mut up = Up::new();
    up.start();
    let before = project.listing(&project.volume());
    let failed = command(&up, &["import", name, "--yes"]).ended(1);
    failed.says(&["last words", "is taken back", "it runs as before"]);
    project.is_untouched(&up);
    assert_eq!(project.listing(&project.volume()), before);

    // What the Compose file may not say is named, all of it, before anything is done.
    let file = project.folder.path().join("compose.yaml");
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("stop_grace_period: 2s", "privileged: true\n    network_mode: host");
    fs::write(&file, text).unwrap();
    let refused = command(&up, &["import", name, "--yes"]).ended(1);
    refused.says(&[
        "services.db.privileged",
        "services.web.privileged",
        "services.db.network_mode",
        "4 problems",
    ]);
    project.is_untouched(&up);
    // Somebody else's container writes to its volume.
    let other = format!("{name}-other");
    let mount = format!("{}:/data", project.volume());
    let label = format!("com.docker.compose.project={name}-other");
    let _ = project
        .engine
        .docker(&["run", "-d", "--name", &other, "-l", &label, "-v", &mount, BUSYBOX, "sleep", "1000"])
        .ok();
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("privileged: true\n    network_mode: host", "stop_grace_period: 2s");
    fs::write(&file, text).unwrap();
    let refused = command(&up, &["import", name, "--yes"]);
    let _ = project.engine.docker(&["rm", "-f", &other]).ok();
    refused.ended(1).says(&[&format!("docker stop {other}")]);
    project.is_untouched(&up);
}

#[test]
fn an_import_that_is_interrupted_is_taken_back_or_begun_anew() {
    let script = "head -c 150000000 /dev/zero >/data/large; echo kept >/data/file";
    let project = Project::start(WAIT, script);
    let name = project.name.as_str();
    let mut up = Up::new();
    up.start();
    let import = |log: &str| {
        let mut command = up.command(&["import", name, "--yes"]);
        command.env("DOCKER_HOST", format!("unix://{}", up.engine().socket())).stdin(Stdio::null());
        let process = Process::start("lattice import", &mut command, &up.home().join(log));
        until("the last container is stopped", PATIENCE, || {
            let stops = format!("stops {} ", project.container("db"));
            if process.log().contains(&stops) { Ok(()) } else { Err(process.log()) }
        });
        process
    };
    let mut pressed = import("pressed.log");
    pressed.signal(Signal::INT);
    assert_eq!(pressed.wait(PATIENCE).code(), Some(130), "{}", pressed.log());
    assert!(pressed.log().contains("it runs as before"), "{}", pressed.log());
    project.is_untouched(&up);

    // Nobody can say good-bye after kill -9; whoever comes next knows all the same.
    import("killed.log").kill();
    let list = command(&up, &["import"]).ok();
    assert!(list.stdout.contains("an import was interrupted"), "{list}");
    let _ = command(&up, &["import", name, "--dry-run"]).ok().says(&["was interrupted while", "--undo"]);
    let _ = command(&up, &["import", name, "--undo"]).ok().says(&["is started again", "is taken back"]);
    project.is_untouched(&up);

    import("again.log").kill();
    let before = project.listing(&project.volume());
    let done = command(&up, &["import", name, "--yes"]).ok();
    done.says(&["was interrupted while", "begins anew", "runs as default/"]);
    assert_eq!(project.listing(&project.new_volume("data")), before);
    assert_eq!(project.is_up(), (false, false, "unless-stopped".to_owned()));
    project.nothing_carries();
    let _ = command(&up, &["rm", "-y", "--volumes", name]).ok();
}

/// The node that gets the data is another machine with an engine of its own: it goes there by the server.
#[test]
fn data_goes_to_whichever_machine_the_stack_is_placed_on() {
    let project = Project::start(WAIT, ODD);
    let name = project.name.as_str();
    // An image that is here alone would bind it to a node of this machine, and there is none.
    let file = project.folder.path().join("compose.yaml");
    let text = fs::read_to_string(&file).unwrap().replace("build: .", &format!("image: {BUSYBOX}"));
    fs::write(&file, text).unwrap();
    let bed = Bed::up(2, &[]);
    let before = project.listing(&project.volume());
    let done = bed.lattice(&["import", name, "--yes", "--engine", project.engine.socket()]).ok();
    done.says(&["are the same on both sides", "runs as default/"]);
    let node = bed.serving(name, 2)[0].node.to_string();
    let label = format!("label=lattice.stack=default/{name}");
    let volumes = bed.docker(&node, &["volume", "ls", "--format", "{{.Name}}", "--filter", &label]);
    let volume =
        volumes.lines().find(|volume| volume.contains("_data_")).unwrap_or_else(|| panic!("{volumes}"));
    let there =
        bed.docker(&node, &["run", "--rm", "-v", &format!("{volume}:/v:ro"), BUSYBOX, "sh", "-ec", LISTING]);
    assert_eq!(there.trim(), before.trim());
    assert_eq!(project.is_up(), (false, false, "unless-stopped".to_owned()));
}
