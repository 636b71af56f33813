//! What a benchmark works with, and the promise that nothing of it stays: every cluster, container, network and
//! folder that was made here is written down when it is made, and undone in the opposite order at the end of the
//! benchmark, after a failure, and after Ctrl-C.

use crate::{cluster::Cluster, engine::Engine};
use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The image of all containers; `scripts/images.sh` makes it.
pub(crate) const IMAGE: &str = "lattice-test/busybox:1";
/// On all that a reference makes in the engine.
pub(crate) const LABEL: &str = "bench.run";

/// Something to undo.
#[derive(Debug)]
enum Undo {
    Cluster(Arc<Cluster>),
    Labelled(String),
    Swarm {
        /// Whether the network that Swarm leaves behind was there before.
        had_bridge: bool,
    },
}

/// Where a benchmark works.
#[derive(Debug)]
pub(crate) struct Lab {
    engine: Engine,
    bin_dir: PathBuf,
    target_dir: PathBuf,
    folder: PathBuf,
    run: String,
    keep: bool,
    homes: AtomicUsize,
    undo: Mutex<Vec<Undo>>,
}

impl Lab {
    /// A lab with a folder of its own. Programs are looked for in `LATTICE_BIN_DIR`, else beside this one.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn open(keep: bool) -> anyhow::Result<Self> {
        let beside = std::env::current_exe()?.parent().context("this program is in no folder")?.to_owned();
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let bin_dir = set("LATTICE_BIN_DIR").unwrap_or_else(|| beside.clone());
        let target_dir = match set("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder)?,
            None => beside.parent().unwrap_or(&beside).to_owned(),
        };
        if bin_dir.ends_with("debug") {
            eprintln!("warning: {} holds a debug build; its figures say nothing", bin_dir.display());
        }
        let run = format!("{:08x}", getrandom::u32()?);
        // On the disk of the build, since a folder in memory would make every sync free. The path of a Unix socket
        // has to fit into 108 bytes.
        let mut folder = target_dir.join("bench").join(&run);
        if folder.as_os_str().len() > 70 {
            folder = std::env::temp_dir().join(format!("lattice-bench-{run}"));
        }
        fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self {
            engine: Engine::local(),
            bin_dir,
            target_dir,
            folder,
            run,
            keep,
            homes: AtomicUsize::new(0),
            undo: Mutex::default(),
        })
    }

    /// The Docker engine of this machine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target_dir(&self) -> &Path {
        &self.target_dir
    }

    /// This run's own folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Eight digits that no other run has; part of every name that others could have too.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// A program of the release build.
    ///
    /// # Errors
    /// When it was not built.
    pub(crate) fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.bin_dir.join(name);
        if !path.is_file() {
            bail!("{} is not there; run: cargo build --release -p {name}", path.display());
        }
        Ok(path)
    }

    /// `lattice up` in a home of its own, ready, with this machine as its node.
    ///
    /// # Errors
    /// When it does not become ready; the message has the end of its logs.
    pub(crate) async fn cluster(&self) -> anyhow::Result<Arc<Cluster>> {
        self.engine.image(IMAGE).await?;
        // Never one that another cluster had: its node would look for that one's server.
        let home = self.folder.join(format!("home{}", self.homes.fetch_add(1, Ordering::Relaxed)));
        let cluster = Arc::new(Cluster::new(self, home)?);
        self.undo.lock().push(Undo::Cluster(Arc::clone(&cluster)));
        cluster.start().await?;
        Ok(cluster)
    }

    /// The label (`key=value`) for what a reference makes; what has it is removed at the end.
    pub(crate) fn label(&self) -> (String, String) {
        let label = format!("{LABEL}={}", self.run);
        let mut undo = self.undo.lock();
        if !undo.iter().any(|undo| matches!(undo, Undo::Labelled(known) if *known == label)) {
            undo.push(Undo::Labelled(label));
        }
        (LABEL.to_owned(), self.run.clone())
    }

    /// The engine is in a swarm from now on, and leaves it at the end.
    pub(crate) fn in_swarm(&self, had_bridge: bool) {
        self.undo.lock().push(Undo::Swarm { had_bridge });
    }

    /// Undoes what the last benchmark did.
    pub(crate) async fn clean_benchmark(&self) {
        loop {
            let Some(undo) = self.undo.lock().pop() else { return };
            match undo {
                Undo::Cluster(cluster) => cluster.destroy().await,
                Undo::Labelled(label) => self.engine.remove_labelled(&label).await,
                Undo::Swarm { had_bridge } => {
                    if let Err(error) = self.engine.post("/swarm/leave?force=1", None).await {
                        eprintln!("    cleaning: {error:#}");
                    }
                    if !had_bridge {
                        let _ = self.engine.delete("/networks/docker_gwbridge").await;
                    }
                }
            }
        }
    }

    /// Undoes everything.
    pub(crate) async fn clean(&self) {
        self.clean_benchmark().await;
        if self.keep {
            eprintln!("    the logs of this run are in {}", self.folder.display());
        } else if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("    cleaning: {}: {error}", self.folder.display());
        }
    }
}
