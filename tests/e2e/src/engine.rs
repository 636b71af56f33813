//! The container engine: the machine's own, which is everybody's, or a private one that a test may kill.

use crate::{
    home::Home,
    process::{Output, Process},
    programs::tied,
    wait::{PATIENCE, until},
};
use serde_json::Value;
use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

/// A small image with a shell and a web server, built by `scripts/images.sh`.
pub const BUSYBOX: &str = "lattice-test/busybox:1";
/// PostgreSQL 15, built by `scripts/images.sh`.
pub const POSTGRES: &str = "lattice-test/postgres:15";

/// A Docker engine.
#[derive(Debug)]
pub struct Engine {
    socket: String,
    private: Option<Private>,
}

/// An engine of this test alone, in namespaces of its own: its bridge, its ports and its mounts are in nobody's way,
/// and go with the namespaces.
#[derive(Debug)]
struct Private {
    home: Home,
    /// Keeps the namespaces while the engine is away.
    holder: Process,
    daemon: Mutex<Option<Process>>,
}

impl Engine {
    /// The machine's engine: `DOCKER_HOST` where that is a socket, else the usual one.
    ///
    /// # Panics
    /// When it does not answer or has not got the test images: a skipped test proves nothing.
    pub fn shared() -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
        let engine = Self { socket, private: None };
        let answer = engine.docker(&["version", "--format", "{{.Server.Version}}"]);
        assert_eq!(
            answer.code, 0,
            "no Docker engine answers; `make test` starts one, as does scripts/engine.sh: {answer}"
        );
        for image in [BUSYBOX, POSTGRES] {
            let there = engine.docker(&["image", "inspect", "--format", "{{.Id}}", image]);
            assert_eq!(
                there.code, 0,
                "no image {image}; `make test` makes it, as does `make images`: {there}"
            );
        }
        engine
    }

    /// An engine of one's own, with the small test image.
    ///
    /// # Panics
    /// When it does not start, which takes root or sudo without a question.
    pub fn private() -> Self {
        let shared = Self::shared();
        let home = Home::new();
        // `slave`: memory folders that an agent makes later are seen inside, and nothing inside is seen here. An empty
        // /run/containerd, so that dockerd starts a containerd of its own and never uses the machine's. The shell is
        // the first process in there: it reaps what loses its parent, and all ends with it.
        let script = "ip link set lo up; if [ -d /run/containerd ]; then mount -t tmpfs none /run/containerd; fi; \
                      : >\"$1\"; while :; do sleep 1000 & wait $!; done";
        let mut command = rooted("unshare");
        command.args([
            "--net",
            "--mount",
            "--propagation",
            "slave",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command.args(["sh", "-c", script, "sh"]).arg(home.join("ready"));
        let holder =
            Process::start("the namespaces' keeper", command.stdin(Stdio::null()), &home.join("keeper.log"));
        until("the namespaces are there", PATIENCE, || match home.join("ready").exists() {
            true => Ok(()),
            false => Err(holder.log()),
        });
        let socket = home.join("docker.sock").display().to_string();
        let engine = Self { socket, private: Some(Private { home, holder, daemon: Mutex::new(None) }) };
        engine.start();
        let image = Command::new("docker")
            .args(["-H", &shared.host(), "save", BUSYBOX])
            .output()
            .expect("docker save");
        assert!(image.status.success(), "docker save: {}", String::from_utf8_lossy(&image.stderr));
        let mut load = Command::new("docker")
            .args(["-H", &engine.host(), "load", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker load");
        load.stdin.take().expect("a pipe").write_all(&image.stdout).expect("docker load");
        assert!(load.wait().expect("docker load").success(), "docker load");
        engine
    }

    fn own(&self) -> &Private {
        self.private.as_ref().expect("a private engine; the machine's own is not to be disturbed")
    }

    /// Starts a private engine again.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub fn start(&self) {
        let Private { home, holder, daemon } = self.own();
        let mut command = inside(holder);
        // No iptables: published ports on loopback are carried by the engine's own proxy, and nothing else is needed.
        command.args(["dockerd", "--iptables=false", "--ip6tables=false", "--ip-masq=false"]);
        command.arg("--data-root").arg(home.join("data")).arg("--exec-root").arg(home.join("exec"));
        command.arg("--pidfile").arg(home.join("docker.pid")).arg("--host").arg(self.host());
        command.args(["--group", &rustix::process::getgid().as_raw().to_string()]);
        // The default search path of an ordinary user has no sbin.
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).stdin(Stdio::null());
        let mut started = Process::start("dockerd", &mut command, &home.join("dockerd.log"));
        until("the private engine answers", PATIENCE, || {
            assert!(!started.has_ended(), "dockerd ended by itself:\n{}", started.log());
            let answer = self.docker(&["version", "--format", "{{.Server.Version}}"]);
            if answer.code == 0 { Ok(()) } else { Err(answer.stderr) }
        });
        *daemon.lock().expect("nobody panicked") = Some(started);
    }

    /// kill -9 of a private engine.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self) {
        let own = self.own();
        let mut daemon = own.daemon.lock().expect("nobody panicked").take().expect("it runs");
        own.signal("KILL");
        daemon.wait(PATIENCE);
    }

    /// The socket's path.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket)
    }

    /// A `docker` command.
    pub fn docker(&self, args: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.arg("-H").arg(self.host()).args(args).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        Output::of(&command, b"")
    }

    /// What the engine says about a thing: `container`, `volume`, `network` or `image`.
    ///
    /// # Panics
    /// When there is no such thing.
    #[track_caller]
    pub fn inspect(&self, kind: &str, name: &str) -> Value {
        let list: Vec<Value> = self.docker(&[kind, "inspect", name]).ok().json();
        list.into_iter().next().expect("one thing")
    }

    /// The ids of containers with a label, those that have ended included.
    pub fn labelled(&self, label: &str) -> Vec<String> {
        let filter = format!("label={label}");
        lines(&self.docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).ok())
    }

    /// The names of networks or volumes with a label.
    pub fn named(&self, kind: &str, label: &str) -> Vec<String> {
        let filter = format!("label={label}");
        lines(&self.docker(&[kind, "ls", "--format", "{{.Name}}", "--filter", &filter]).ok())
    }

    /// When a container was started last, as the engine writes it.
    #[track_caller]
    pub fn started_at(&self, container: &str) -> String {
        self.inspect("container", container)["State"]["StartedAt"].as_str().expect("a time").to_owned()
    }

    /// kill -9 inside a container's first process.
    #[track_caller]
    pub fn kill_container(&self, container: &str) {
        let _ = self.docker(&["kill", "--signal", "KILL", container]).ok();
    }

    /// Removes what a node's agent made: containers, networks, volumes. Nothing else is looked at.
    pub(crate) fn clean(&self, node: &str) {
        let filter = format!("label=lattice.node={node}");
        let kinds: [(&[&str], &[&str]); 3] = [
            (&["ps", "--all", "--quiet"], &["rm", "--force", "--volumes"]),
            (&["network", "ls", "--quiet"], &["network", "rm"]),
            (&["volume", "ls", "--quiet"], &["volume", "rm", "--force"]),
        ];
        // What a killed agent had asked for may still be made a moment later.
        for _ in 0..5 {
            let mut left = 0;
            for (list, remove) in kinds {
                let things = lines(&self.docker(&[list, &["--filter", &filter]].concat()));
                left += things.len();
                if !things.is_empty() {
                    let things: Vec<_> = things.iter().map(String::as_str).collect();
                    self.docker(&[remove, &things].concat());
                }
            }
            if left == 0 {
                return;
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(own) = &mut self.private else { return };
        let Some(mut running) = own.daemon.get_mut().ok().and_then(Option::take) else { return };
        let all = lines(&Output::of(
            Command::new("docker").args(["-H", &format!("unix://{}", self.socket), "ps", "--all", "--quiet"]),
            b"",
        ));
        if !all.is_empty() {
            let args: Vec<_> = ["-H", &format!("unix://{}", self.socket), "rm", "--force"]
                .into_iter()
                .map(ToOwned::to_owned)
                .chain(all)
                .collect();
            Output::of(Command::new("docker").args(args), b"");
        }
        own.signal("TERM");
        let begun = std::time::Instant::now();
        while !running.has_ended() && begun.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(50));
        }
        // What is left goes with the namespaces' first process.
    }
}

impl Private {
    /// Signals the engine by the number that it wrote down itself, which counts in its namespace.
    fn signal(&self, signal: &str) {
        let script = "kill -s \"$1\" \"$(cat \"$2\")\"";
        let pid = self.home.join("docker.pid");
        let status = inside(&self.holder).args(["sh", "-c", script, "sh", signal]).arg(pid).status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "dockerd gets no {signal}: {status:?}"
        );
    }
}

/// The beginning of a command in the namespaces that a process keeps.
fn inside(holder: &Process) -> Command {
    let pid = inner(holder);
    let mut command = rooted("nsenter");
    for (name, file) in [("net", "net"), ("mount", "mnt"), ("pid", "pid")] {
        command.arg(format!("--{name}=/proc/{pid}/ns/{file}"));
    }
    command
}

/// The process that has the namespaces: the shell below the process started, be that sudo or not.
fn inner(holder: &Process) -> u32 {
    until("the namespaces are there", PATIENCE, || {
        let mut pid = u32::try_from(holder.pid().as_raw_nonzero().get()).expect("a pid");
        loop {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.trim() == "sh" {
                return Ok(pid);
            }
            let children =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            match children.split_whitespace().next().and_then(|child| child.parse().ok()) {
                Some(child) => pid = child,
                None => return Err(comm),
            }
        }
    })
}

/// A command as root that dies with this process.
fn rooted(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return tied(program);
    }
    let mut command = tied("sudo");
    command.args(["--non-interactive", "--preserve-env=PATH", "--", program]);
    command
}

fn lines(output: &Output) -> Vec<String> {
    output.stdout.lines().map(str::trim).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}
