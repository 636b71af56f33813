//! The container engine: the machine's own, which is everybody's, or a private one that a test may kill.

use crate::process::Output;
use lattice_model::container::bridge_prefix;
use lattice_testbed::rooted;
use serde_json::Value;
use std::process::Command;

/// A small image with a shell and a web server, built by `scripts/images.sh`.
pub const BUSYBOX: &str = "lattice-test/busybox:1";
/// PostgreSQL 15, built by `scripts/images.sh`.
pub const POSTGRES: &str = "lattice-test/postgres:15";

/// A Docker engine.
#[derive(Debug)]
pub struct Engine {
    socket: String,
    private: Option<lattice_testbed::Engine>,
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

    /// An engine of one's own, on a machine of its own, with the small test image.
    ///
    /// # Panics
    /// When it does not start, which takes root or sudo without a question.
    pub fn private() -> Self {
        let shared = Self::shared();
        let private = lattice_testbed::Engine::alone().unwrap_or_else(|error| panic!("{error}"));
        let archive = tempfile::NamedTempFile::new_in(private.machine().folder()).expect("a file");
        let path = archive.path().to_str().expect("a path");
        let _ = shared.docker(&["save", "--output", path, BUSYBOX]).ok();
        private.load(archive.path()).unwrap_or_else(|error| panic!("{error}"));
        Self { socket: private.socket().display().to_string(), private: Some(private) }
    }

    fn own(&self) -> &lattice_testbed::Engine {
        self.private.as_ref().expect("a private engine; the machine's own is not to be disturbed")
    }

    /// Starts a private engine again.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub fn start(&self) {
        let own = self.own();
        own.start().and_then(|()| own.ready()).unwrap_or_else(|error| panic!("{error}"));
    }

    /// kill -9 of a private engine.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self) {
        self.own().kill().unwrap_or_else(|error| panic!("{error}"));
    }

    /// A command on a private engine's machine, where its loopback is.
    ///
    /// # Panics
    /// When the machine is off.
    pub fn command_inside(&self, program: &str) -> Command {
        self.own().machine().command(program).unwrap_or_else(|error| panic!("{error}"))
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
                break;
            }
        }
        // And the table by which it kept containers out of the network. One that is in the namespace of a private engine
        // goes with it.
        if let Ok(id) = node.parse() {
            let tag = bridge_prefix(id);
            let table = format!("lattice_{}", tag.trim_start_matches("lt"));
            let _ = rooted("nft").args(["delete", "table", "inet", &table]).output();
        }
    }
}

fn lines(output: &Output) -> Vec<String> {
    output.stdout.lines().map(str::trim).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}
