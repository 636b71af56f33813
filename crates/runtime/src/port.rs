//! The port: what an agent asks of a container engine, in the words of `lattice_model`.
//!
//! Everything is safe to repeat: what is there already, or already gone, is not an error.
//! Rejected: one call that "ensures" a container, since that would decide.

use crate::error::{Result, RuntimeError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lattice_model::{
    AllocationId, Cpu, Duration, NodeId, Timestamp,
    container::{ContainerConfig, ContainerId, ContainerSeen, NetworkSeen, VolumeSeen},
    goal::RegistryLogin,
    report::Health,
    spec::ImageDigest,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    pin::Pin,
};
use tokio::{io::AsyncWrite, sync::watch};

/// A container engine. Held as `Arc<dyn Runtime>`.
///
/// Every call may fail with [`Unreachable`](crate::RuntimeError::Unreachable) or
/// [`Timeout`](crate::RuntimeError::Timeout), after which its outcome is unknown.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// What the engine is.
    async fn info(&self) -> Result<EngineInfo>;

    /// Whether it answers.
    async fn ping(&self) -> Result<()>;

    /// All containers with this node's label, ordered by name. Cheap enough to be polled.
    async fn list(&self, node: NodeId) -> Result<Vec<ContainerSeen>>;

    /// One container as it is now; `None` when there is none.
    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerSeen>>;

    /// Whether the image is on the engine.
    async fn has_image(&self, image: &str) -> Result<bool>;

    /// Fetches an image, telling how far it is; without a tag it is `latest`, without a platform
    /// (`os/arch` or `os/arch/variant`) the engine's own. Fails with `ImageMissing`,
    /// `Unauthorised`, `RegistryUnreachable` (also when the registry falls silent) or `DiskFull`.
    async fn pull(
        &self,
        image: &str,
        platform: Option<&str>,
        login: Option<&RegistryLogin>,
        progress: watch::Sender<PullProgress>,
    ) -> Result<()>;

    /// An image as the engine has it, by name or id; `None` when it is not there.
    async fn image(&self, image: &str) -> Result<Option<ImageSeen>>;

    /// The images that the engine has, the newest first, at most [`MAX_IMAGES`] of them: for what
    /// it need not be given again.
    async fn images(&self) -> Result<Vec<ImageSeen>>;

    /// Takes in an archive as `docker save` writes it. One that breaks off, or whose layers are not
    /// what its configuration says, is `Refused`. `DiskFull` as the engine says it.
    async fn load(&self, archive: BoxStream<'static, io::Result<Bytes>>) -> Result<()>;

    /// Takes a name from an image, and with the last name the image itself. Whether there was one;
    /// `Conflict` where a container uses it.
    async fn remove_image(&self, image: &str) -> Result<bool>;

    /// Builds an image of an archive with a Dockerfile, by the engine's own builder. The news end with
    /// [`BuildNews::Built`] or [`BuildNews::Failed`]; dropping them ends the build. The Dockerfile sets
    /// [`LABEL_BUILD`](lattice_model::container::LABEL_BUILD) in each stage to `config.node`, or what is left is
    /// not found by [`Runtime::builds_left`].
    async fn build(
        &self,
        config: &BuildConfig,
        context: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<BoxStream<'static, Result<BuildNews>>> {
        let (_, _) = (config, context);
        Err(no_builds())
    }

    /// An image as an archive, as `docker save` writes it.
    async fn save(&self, image: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let _ = image;
        Err(no_builds())
    }

    /// What builds of this node left: containers of steps, and images without a name.
    async fn builds_left(&self, node: NodeId) -> Result<BuildLeft> {
        let _ = node;
        Ok(BuildLeft::default())
    }

    /// Removes that, with the networks that were made for builds. A build that runs is ended by it.
    async fn clear_builds(&self, node: NodeId) -> Result<()> {
        let _ = node;
        Ok(())
    }

    /// What a name stands for in its registry now, asked by the engine. Fails as [`Runtime::pull`].
    async fn resolve(&self, image: &str, login: Option<&RegistryLogin>) -> Result<ImageResolved>;

    /// Makes a hardened container and does not start it. Fails with `ImageMissing` (also where the
    /// image is there for another platform), with `Conflict` when the name is taken, and with
    /// `Refused` when a limit is missing.
    ///
    /// The volumes that it mounts must exist: Docker would create an empty one under a name
    /// that it does not know.
    async fn create(&self, config: &ContainerConfig) -> Result<ContainerId>;

    /// Starts it; one that runs is left alone. Fails with `PortInUse`, or `NotFound` when it or
    /// a network of it is gone.
    async fn start(&self, id: &ContainerId) -> Result<()>;

    /// Asks it to end and kills it after `grace` (rounded up to seconds); returns when it has
    /// ended. One that does not run, or is gone, is fine.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()>;

    /// Sends a signal such as `SIGKILL`. One that does not run, or is gone, is fine.
    async fn kill(&self, id: &ContainerId, signal: &str) -> Result<()>;

    /// Stops it as [`Runtime::stop`] does and starts it again under the same id.
    async fn restart(&self, id: &ContainerId, grace: Duration) -> Result<()>;

    /// Removes it with its anonymous volumes and returns when it is gone; named volumes stay.
    /// One that runs is a `Conflict` unless `force`. One that is gone is fine.
    async fn remove(&self, id: &ContainerId, force: bool) -> Result<()>;

    /// All networks with this node's label, ordered by name.
    async fn list_networks(&self, node: NodeId) -> Result<Vec<NetworkSeen>>;

    /// Makes a bridge network. One of that name with the same node's label is fine, one of
    /// somebody else is `Refused`. `labels` must name the node.
    async fn create_network(
        &self,
        name: &str,
        internal: bool,
        labels: &BTreeMap<String, String>,
    ) -> Result<()>;

    /// Removes a network of this node. One that is gone is fine, one that is used a `Conflict`,
    /// one of somebody else `Refused`.
    async fn remove_network(&self, node: NodeId, name: &str) -> Result<()>;

    /// All volumes with this node's label, ordered by name.
    async fn list_volumes(&self, node: NodeId) -> Result<Vec<VolumeSeen>>;

    /// Makes an empty local volume. One of that name with the same node's label stays as it is,
    /// one of somebody else is `Refused`. `labels` must name the node.
    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()>;

    /// Whether this node's volume is there. One of somebody else under that name is `Refused`.
    async fn volume_exists(&self, node: NodeId, name: &str) -> Result<bool>;

    /// Removes a volume of this node **with its data**. One that is gone is fine, one that is
    /// used a `Conflict`, one of somebody else `Refused`.
    async fn remove_volume(&self, node: NodeId, name: &str) -> Result<()>;

    /// Every node that has containers, networks or volumes here, whosever they are: for who cleans up
    /// and does not know any more which node this machine was.
    async fn nodes(&self) -> Result<BTreeSet<NodeId>>;

    /// How much this node's volumes take on disk, as far as the engine says it soon.
    async fn volume_sizes(&self, node: NodeId) -> Result<BTreeMap<String, lattice_model::Bytes>>;

    /// What happens to this node's containers from the moment of this call on, so that a listing
    /// that begins after it returned leaves no gap. The stream ends with an error when the engine
    /// goes away; an engine may drop events of a reader that is too slow, so list now and then.
    async fn events(&self, node: NodeId) -> Result<BoxStream<'static, Result<EngineEvent>>>;

    /// The output of a container, also of one that has ended.
    async fn logs(
        &self,
        id: &ContainerId,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogChunk>>>;

    /// Runs a command in a running container, under the container's own restrictions.
    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecSession>;

    /// Whether a path of a container, running or not, is a folder; `None` when nothing is there.
    async fn is_folder(&self, id: &ContainerId, path: &str) -> Result<Option<bool>> {
        let _ = path;
        Err(no_files(id))
    }

    /// A file or folder of a container, running or not, as a tar archive whose names begin with
    /// the last part of `path`. `NotFound` when nothing is there.
    async fn read_files(&self, id: &ContainerId, path: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let _ = path;
        Err(no_files(id))
    }

    /// Unpacks a tar archive in a folder of a container, running or not. `NotFound` when there is
    /// no such folder, `Refused` when it is read-only.
    async fn write_files(
        &self,
        id: &ContainerId,
        folder: &str,
        archive: BoxStream<'static, Bytes>,
    ) -> Result<()> {
        let (_, _) = (folder, archive);
        Err(no_files(id))
    }

    /// All of a volume of this node as a tar archive; names begin with `volume/`, and the first
    /// entry is the volume's own folder. `NotFound` when it is gone. What a container that runs
    /// writes meanwhile may be torn.
    async fn read_volume(&self, node: NodeId, name: &str) -> Result<BoxStream<'static, Result<Bytes>>> {
        let _ = node;
        Err(no_volume_files(name))
    }

    /// Unpacks such an archive in a volume of this node, over what is there. `Conflict` while a
    /// container that mounts it runs, `NotFound` when it is gone, `DiskFull`.
    async fn write_volume(&self, node: NodeId, name: &str, archive: BoxStream<'static, Bytes>) -> Result<()> {
        let (_, _) = (node, archive);
        Err(no_volume_files(name))
    }

    /// What a running container uses now. `NotFound` when it is gone.
    async fn usage(&self, id: &ContainerId) -> Result<Usage>;
}

fn no_files(id: &ContainerId) -> RuntimeError {
    RuntimeError::Refused {
        what: format!("files of container {}", id.0),
        message: "this engine copies no files".to_owned(),
    }
}

fn no_builds() -> RuntimeError {
    RuntimeError::Refused { what: "a build".to_owned(), message: "this engine builds no images".to_owned() }
}

fn no_volume_files(name: &str) -> RuntimeError {
    RuntimeError::Refused {
        what: format!("files of volume {name}"),
        message: "this engine copies no files".to_owned(),
    }
}

/// What a container engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its version, e.g. `28.2.2`.
    pub version: String,
    /// The newest version of its API, e.g. `1.50`.
    pub api_version: String,
    /// The operating system that containers see: `linux`.
    pub os: String,
    /// The architecture as Docker names images for it: `amd64`, `arm64`.
    pub arch: String,
    /// Processors that it sees.
    pub cpus: u32,
    /// Memory that it sees.
    pub memory: lattice_model::Bytes,
    /// Where it keeps images and volumes, by its own file system.
    pub data_root: String,
    /// As it names them: `name=seccomp,profile=default`.
    pub security_options: Vec<String>,
    /// Whether it runs without root's rights.
    pub rootless: bool,
    /// 1 or 2, where it says so.
    pub cgroup_version: Option<u8>,
    /// Whether it seems to live in a virtual machine of its own (Docker Desktop, WSL2, an
    /// engine of another system than this program's). A guess, for hints alone.
    pub in_vm_guess: bool,
    /// Whether it is Podman behind Docker's API.
    pub podman: bool,
    /// The limits that it cannot hold a container to: `memory`, `cpu`, `pids`.
    pub missing_limits: Vec<&'static str>,
    /// How it keeps layers: `overlay2` …
    pub storage_driver: String,
    /// What runs containers there, by its names: `runc`, `nvidia` …
    pub runtimes: BTreeSet<String>,
    /// The one that runs what asks for none.
    pub default_runtime: String,
    /// Where it looks for descriptions of devices (CDI); empty where it knows nothing of that.
    pub cdi_dirs: Vec<String>,
}

impl EngineInfo {
    /// Why workloads must not run on it, and what to do; nothing where it is fit.
    pub fn unfit(&self) -> Option<String> {
        if self.os != "linux" {
            return Some(format!("its containers are of {}; switch it to Linux containers", self.os));
        }
        if self.podman {
            // Seen with 4.3: a removal of what runs succeeds, the end of a container is not told, a
            // container that could not start does not say why, and followed logs do not begin.
            return Some(format!(
                "it is Podman {}, whose Docker API differs where Lattice relies on it (removals, events, health \
                 checks); use Docker, with or without root, and name its socket as docker_host in agent.toml",
                self.version
            ));
        }
        if !self.missing_limits.is_empty() {
            let how = if self.rootless {
                "it runs without root and needs cgroup 2 with these controllers delegated to its user \
                 (systemd: Delegate=cpu cpuset io memory pids in user@.service, then log in again)"
            } else {
                "enable these controllers in the kernel's command line, or boot with cgroup 2"
            };
            return Some(format!(
                "it cannot limit {}, and nothing runs here without limits; {how}",
                self.missing_limits.join(", ")
            ));
        }
        None
    }
}

/// The most images that [`Runtime::images`] looks at.
pub const MAX_IMAGES: usize = 512;

/// An image as an engine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSeen {
    /// The engine's id: the digest of its configuration, or with images in containerd of its manifest.
    pub id: String,
    /// Its names with tags.
    pub tags: Vec<String>,
    /// Its names with digests; those of an image that was built or loaded are none.
    pub digests: Vec<String>,
    /// Its layers, the lowest first, by the digests of their unpacked archives.
    pub layers: Vec<ImageDigest>,
    /// What it is made for, as `os/arch` or `os/arch/variant`.
    pub platform: String,
    /// Bytes on the engine's disk, those that others share counted too.
    pub size: lattice_model::Bytes,
}

/// What a name stands for in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageResolved {
    /// The digest of the manifest, or of the index over several platforms.
    pub digest: ImageDigest,
    /// What it is made for, as `os/arch` or `os/arch/variant`; empty where the registry does not say.
    pub platforms: BTreeSet<String>,
}

/// How an image is built.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildConfig {
    /// The node that builds.
    pub node: NodeId,
    /// The name of the Dockerfile in the archive.
    pub dockerfile: String,
    /// The stage that is wanted; the last one unless said.
    pub target: Option<String>,
    /// Variables of the build. They may be confidential.
    pub args: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// What it is made for, as `os/arch`; the engine's own unless said.
    pub platform: Option<String>,
    /// The network of its steps; without one they have none.
    pub network: Option<String>,
    /// Further names in `/etc/hosts`, as `name:address`.
    pub extra_hosts: Vec<String>,
    /// Processor that a step may have.
    pub cpu: Cpu,
    /// Memory that a step may have.
    pub memory: lattice_model::Bytes,
    /// Processes that a step may have.
    pub pids: u32,
    /// The size of `/dev/shm`.
    pub shm: Option<lattice_model::Bytes>,
    /// Whether nothing that was built before is used.
    pub no_cache: bool,
}

impl BuildConfig {
    /// Of the archive's Dockerfile, with a core, a gibibyte and no network.
    pub fn of(node: NodeId, dockerfile: &str) -> Self {
        Self {
            node,
            dockerfile: dockerfile.to_owned(),
            target: None,
            args: BTreeMap::new(),
            labels: BTreeMap::new(),
            platform: None,
            network: None,
            extra_hosts: Vec::new(),
            cpu: Cpu(1000),
            memory: lattice_model::Bytes(1 << 30),
            pids: 512,
            shm: None,
            no_cache: false,
        }
    }
}

impl fmt::Debug for BuildConfig {
    /// Shows the names of the arguments alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildConfig")
            .field("node", &self.node)
            .field("dockerfile", &self.dockerfile)
            .field("target", &self.target)
            .field("args", &self.args.keys().collect::<Vec<_>>())
            .field("platform", &self.platform)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// What a build says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildNews {
    /// Some output, of the builder or of a step.
    Said(Bytes),
    /// The image is there, under this id.
    Built(String),
    /// It failed.
    Failed {
        /// The exit code of the step, where one failed.
        code: Option<i64>,
        /// The builder's words.
        message: String,
    },
}

/// What builds left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildLeft {
    /// Containers of steps.
    pub containers: Vec<ContainerId>,
    /// Images without a name, by id, with what each takes.
    pub images: Vec<(String, lattice_model::Bytes)>,
}

/// How far a pull is. The bytes grow as layers become known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Layers known so far.
    pub layers: u32,
    /// Layers that are there.
    pub layers_done: u32,
    /// Bytes fetched, of layers whose size is known.
    pub current: u64,
    /// Bytes of the layers whose size is known.
    pub total: u64,
}

/// Something that happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    /// The container.
    pub id: ContainerId,
    /// The allocation that its label names.
    pub allocation: Option<AllocationId>,
    /// When, by the engine's clock.
    pub at: Timestamp,
    /// What.
    pub kind: EngineEventKind,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineEventKind {
    /// It was started.
    Started,
    /// It ended.
    Died {
        /// 128 and the signal where a signal ended it.
        exit_code: i64,
    },
    /// Its health check says something else than before.
    Health(Health),
    /// It was removed.
    Destroyed,
    /// The kernel killed a process of it for want of memory.
    OutOfMemory,
    /// It was frozen.
    Paused,
    /// It was thawed.
    Unpaused,
}

/// Which output is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many lines from the end; `None` is all.
    pub tail: Option<u32>,
    /// Only what came at this instant or later.
    pub since: Option<Timestamp>,
    /// Begin each line with its time (RFC 3339 and a space).
    pub timestamps: bool,
}

/// Where a program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output, and everything on a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Some output; a chunk may end inside a line or a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Where it was written.
    pub stream: LogStream,
    /// What was written.
    pub bytes: Bytes,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// A command to run in a container.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExecConfig {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Give it a terminal; output then is one stream.
    pub tty: bool,
    /// Whether it gets input; without, it reads an end at once.
    pub stdin: bool,
    /// Environment variables besides the container's.
    pub env: BTreeMap<String, String>,
    /// `user`, `user:group` or ids; `None` is the container's own.
    pub user: Option<String>,
    /// Where it begins, an absolute path; `None` is the container's own.
    pub workdir: Option<String>,
    /// The terminal's size at the start.
    pub size: Option<TerminalSize>,
}

impl fmt::Debug for ExecConfig {
    /// Without arguments and values: both may carry secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecConfig")
            .field("program", &self.argv.first())
            .field("tty", &self.tty)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// A command that runs in a container. Dropping all parts closes its input and output; what it
/// does then is its own affair, as with Docker.
pub struct ExecSession {
    /// Its input; shutting it down is an end of file.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its output; ends when the command has ended. Nothing is read ahead, so a reader that
    /// stops reading stops the command's writing.
    pub output: BoxStream<'static, Result<LogChunk>>,
    /// The rest.
    pub control: Box<dyn ExecControl>,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession").finish_non_exhaustive()
    }
}

/// What can be asked of a running command besides its input and output.
#[async_trait]
pub trait ExecControl: Send + Sync {
    /// Changes the terminal's size.
    async fn resize(&self, size: TerminalSize) -> Result<()>;

    /// The exit code, to be asked once the output has ended: engines set it a moment later,
    /// which is waited for. `Timeout` when the command still runs after ten seconds.
    async fn exit_code(&self) -> Result<i64>;
}

/// What a container uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since its start, in nanoseconds; two samples make a rate.
    pub cpu_nanos: u64,
    /// Memory without the page cache that can be dropped at once.
    pub memory: lattice_model::Bytes,
    /// The most memory that it may use.
    pub memory_limit: lattice_model::Bytes,
    /// Processes and threads.
    pub pids: u64,
}
