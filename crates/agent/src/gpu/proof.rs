//! The proof: a container of this engine that uses the GPUs, and goes.
//!
//! It runs the agent's own program, which asks CUDA to write to each GPU and read it back ([`lattice_gpu::probe`]), on
//! an image without a single program: the agent's file and the few libraries that it is linked to are bound
//! read-only. So nothing is fetched, the proof works without a network, and whatever the engine adds to a container
//! is what is tried. It has the walls of any container of Lattice, no network and a minute.
//!
//! Rejected: an image with `nvidia-smi` from a registry, which a machine may not reach, and which shows less; files
//! below `/proc/driver/nvidia`, which every container sees, with a GPU or without.
//!
//! What a killed agent leaves carries the node's label and [`LABEL_PROBE`]: the next proof, `leave` and `reset` remove it.

use crate::error::chain;
use futures::StreamExt as _;
use lattice_gpu::{PROBE_VARIABLE, ProbeReport};
use lattice_model::{
    Bytes, Cpu, Duration, NodeId,
    container::{
        ContainerConfig, ContainerId, ContainerMount, ContainerState, GpuAccess, LABEL_NODE, MountSource,
    },
    spec::{LogSpec, NamingSpec, ProcessSpec, SandboxSpec},
};
use lattice_runtime::{LogOptions, LogStream, Runtime};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tokio::time::{sleep, timeout};

/// On the container and the image.
pub(super) const LABEL_PROBE: &str = "lattice.gpu-probe";
/// An image without programs, which is made here.
const IMAGE: &str = "lattice/gpu-probe:1";
/// How long a container has.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
/// Between two looks whether it has ended.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);
/// The most output that is read.
const MOST_OUTPUT: usize = 64 << 10;
/// Where the agent's program is in the container.
const PLACE: &str = "/lattice";
/// What the agent's program and CUDA's library are linked to. A libc before 2.34 has them apart.
const LIBRARIES: [&str; 6] =
    ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1"];
#[cfg(target_arch = "aarch64")]
const LOADER: &str = "ld-linux-aarch64.so.1";
#[cfg(not(target_arch = "aarch64"))]
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Has a container use what `access` gives it.
///
/// # Errors
/// Why it could not even be started, or said nothing.
pub(super) async fn prove(
    runtime: &dyn Runtime,
    node: NodeId,
    access: GpuAccess,
    agent: &Path,
) -> std::result::Result<ProbeReport, String> {
    let mounts = program(agent)
        .map_err(|error| format!("the agent's own program cannot be shown to a container: {error}"))?;
    remove_leftovers(runtime, node).await;
    let result = match timeout(LIMIT, run(runtime, config(node, access, mounts))).await {
        Ok(result) => result,
        Err(_) => Err(format!("the container that tries it had not ended after {} s", LIMIT.as_secs())),
    };
    remove_leftovers(runtime, node).await;
    result
}

/// Removes what a proof left behind: its container, and its image.
pub(crate) async fn remove_leftovers(runtime: &dyn Runtime, node: NodeId) {
    let Ok(containers) = runtime.list(node).await else { return };
    for seen in containers.into_iter().filter(|seen| seen.labels.contains_key(LABEL_PROBE)) {
        if let Err(error) = runtime.remove(&seen.id, true).await {
            tracing::warn!(
                container = seen.name,
                error = chain(&error),
                "the container that tries GPUs stays behind"
            );
        }
    }
    remove_image(runtime).await;
}

/// Removes the image. Two agents on one engine may share it; who needs it makes it again.
pub(crate) async fn remove_image(runtime: &dyn Runtime) {
    let _ = runtime.remove_image(IMAGE).await;
}

async fn run(runtime: &dyn Runtime, config: ContainerConfig) -> std::result::Result<ProbeReport, String> {
    let engine = |error: lattice_runtime::RuntimeError| chain(&error);
    if !runtime.has_image(IMAGE).await.map_err(engine)? {
        let archive = image().map_err(|error| error.to_string())?;
        let chunks = futures::stream::iter([Ok(bytes::Bytes::from(archive))]);
        runtime.load(chunks.boxed()).await.map_err(engine)?;
    }
    let id = runtime.create(&config).await.map_err(engine)?;
    runtime.start(&id).await.map_err(engine)?;
    let code = loop {
        match runtime.inspect(&id).await.map_err(engine)? {
            None => return Err("somebody removed the container that tries it".to_owned()),
            Some(seen) if matches!(seen.state, ContainerState::Exited | ContainerState::Dead) => {
                break seen.exit_code;
            }
            Some(_) => sleep(LOOK).await,
        }
    };
    let (out, err) = output(runtime, &id).await.map_err(engine)?;
    match out.lines().rev().find_map(|line| serde_json::from_str(line).ok()) {
        Some(report) => Ok(report),
        None => Err(format!(
            "the container that tries it ended with {} and said: {}",
            code.map_or_else(|| "nothing".to_owned(), |code| format!("exit code {code}")),
            last_words(&err)
        )),
    }
}

/// The last line that says something, cut.
fn last_words(text: &str) -> String {
    // What the library that loads CUDA's says at length where there is none.
    if text.contains("Unable to dynamically load") {
        return "the driver's library of CUDA (libcuda.so.1) did not reach the container".to_owned();
    }
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("note:"));
    line.unwrap_or("nothing").chars().take(200).collect()
}

async fn output(runtime: &dyn Runtime, id: &ContainerId) -> lattice_runtime::Result<(String, String)> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut logs = runtime.logs(id, LogOptions::default()).await?;
    while let Some(chunk) = logs.next().await {
        let chunk = chunk?;
        let into = if chunk.stream == LogStream::Stdout { &mut out } else { &mut err };
        if into.len() < MOST_OUTPUT {
            into.extend_from_slice(&chunk.bytes);
        }
    }
    Ok((String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned()))
}

fn config(node: NodeId, access: GpuAccess, mounts: Vec<ContainerMount>) -> ContainerConfig {
    let lib = format!("{PLACE}/lib");
    // Where toolkits and Lattice put the driver's files.
    let path = format!("{lib}:/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu:/usr/lib64:/usr/lib");
    let words = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect());
    ContainerConfig {
        name: format!("lattice_gpu_probe_{}", node.short()),
        image: IMAGE.to_owned(),
        // By the loader itself: the image has none where programs look for it.
        entrypoint: words(&[&format!("{lib}/{LOADER}"), "--library-path", &path, &format!("{PLACE}/agent")]),
        command: Some(Vec::new()),
        environment: [(PROBE_VARIABLE.to_owned(), "1".to_owned()), ("HOME".to_owned(), "/tmp".to_owned())]
            .into(),
        labels: [(LABEL_NODE.to_owned(), node.to_string()), (LABEL_PROBE.to_owned(), "1".to_owned())].into(),
        mounts,
        networks: BTreeMap::new(),
        ports: Vec::new(),
        healthcheck: None,
        cpu_limit: Cpu::from_cores(1),
        // CUDA asks for more than a small program; page tables of a large GPU among it.
        memory_limit: Bytes::GIB,
        pids_limit: 256,
        capabilities: Default::default(),
        stop_grace_period: Duration::from_secs(1),
        platform: None,
        process: ProcessSpec::default(),
        sandbox: SandboxSpec { read_only: true, ..SandboxSpec::default() },
        naming: NamingSpec::default(),
        logs: LogSpec::default(),
        gpus: None,
        gpu_access: Some(access),
    }
}

/// The agent's program and what it is linked to.
fn program(agent: &Path) -> std::io::Result<Vec<ContainerMount>> {
    let bind = |source: &Path, target: String| ContainerMount {
        source: MountSource::Tree(source.display().to_string()),
        target,
        read_only: true,
    };
    let own = agent.canonicalize()?;
    let mut mounts = vec![bind(&own, format!("{PLACE}/agent"))];
    for name in LIBRARIES.into_iter().chain([LOADER]) {
        match library(name) {
            Some(path) => mounts.push(bind(&path, format!("{PLACE}/lib/{name}"))),
            None if matches!(name, "libc.so.6" | LOADER) => {
                return Err(std::io::Error::other(format!("{name} is not found on this machine")));
            }
            None => {}
        }
    }
    Ok(mounts)
}

/// Where a library is that this process has, or that lies beside one.
fn library(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mapped = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let mapped = mapped.filter(|path| path.starts_with('/') && path.contains(".so"));
    let folders = mapped.filter_map(|path| Path::new(path).parent().map(Path::to_owned));
    let usual =
        ["/lib64", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/lib"];
    let mut all = folders.chain(usual.map(PathBuf::from)).map(|folder| folder.join(name));
    all.find_map(|path| path.canonicalize().ok().filter(|path| path.is_file()))
}

/// An archive as `docker save` writes it, of an image with a few folders.
fn image() -> std::io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for folder in [
        "etc/",
        "tmp/",
        "proc/",
        "sys/",
        "dev/",
        "lattice/",
        "lattice/lib/",
        "usr/",
        "usr/lib/",
        "usr/lib64/",
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        layer.append_data(&mut header, folder, std::io::empty())?;
    }
    // Toolkits have the loader's cache written anew, which reads this.
    put(&mut layer, "etc/ld.so.conf", b"")?;
    let layer = layer.into_inner()?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Labels": {LABEL_PROBE: "1"}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
    });
    let config = serde_json::to_vec(&config)?;
    let name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest = serde_json::json!([{"Config": name, "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    put(&mut archive, "layer.tar", &layer)?;
    put(&mut archive, &name, &config)?;
    put(&mut archive, "manifest.json", &serde_json::to_vec(&manifest)?)?;
    archive.into_inner()
}

fn put(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_and_its_libraries_are_found_here() {
        let mounts = program(&std::env::current_exe().unwrap()).unwrap();
        let targets: Vec<&str> = mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert!(
            targets.contains(&"/lattice/agent") && targets.contains(&"/lattice/lib/libc.so.6"),
            "{targets:?}"
        );
        assert!(mounts.iter().all(|mount| mount.read_only));
    }

    /// Without a driver nothing can be used, and all else of the proof is as with one: the image that is made here,
    /// the agent's program in it, what it says, and that nothing is left.
    #[tokio::test]
    async fn docker_runs_the_agents_program_in_an_empty_image() {
        let folder = std::env::var_os("LATTICE_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
            std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned()
        });
        let agent = folder.join("lattice-agent");
        assert!(agent.exists(), "{} is not built: cargo build -p lattice-agent", agent.display());
        let runtime = lattice_runtime::docker::Docker::new(crate::DOCKER_SOCKET).unwrap();
        let node = NodeId::from_random(0x6710_0b0e);
        let access = GpuAccess::Direct { devices: vec![], files: vec![] };
        let why = prove(&runtime, node, access, &agent).await.unwrap_err();
        assert!(why.contains("exit code 101") && why.contains("libcuda.so.1"), "{why}");
        assert!(runtime.list(node).await.unwrap().is_empty());
        // An engine without the toolkit refuses, in its own words.
        let access =
            GpuAccess::Runtime { ids: vec!["GPU-1".into()], capabilities: ["compute".to_owned()].into() };
        if !runtime.info().await.unwrap().runtimes.contains("nvidia") {
            let why = prove(&runtime, node, access, &agent).await.unwrap_err();
            assert!(why.contains("device driver"), "{why}");
        }
        assert!(runtime.list(node).await.unwrap().is_empty());
    }

    #[test]
    fn the_last_words_are_what_is_told() {
        assert_eq!(last_words("a\nthread panicked\n\nnote: run with\n"), "thread panicked");
        assert_eq!(last_words(""), "nothing");
        assert!(
            last_words("x\nUnable to dynamically load the \"cuda\" shared library").contains("libcuda.so.1")
        );
    }
}
