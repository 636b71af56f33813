//! What a plan is made of on this machine, and the owner's three commands: show, set up, prove. They work with and
//! without an agent that runs.

use super::{Gpus, keeper};
use crate::{
    config::AgentConfig,
    error::{Result, chain},
    home::HomePaths,
    machine::Roots,
    owner::{self, Lent},
};
use lattice_gpu::{
    EngineWays, GpuError, GpuPlan, Method, PackageManager, SetupFacts, Step, ToolkitPackage, cdi_devices,
    direct,
};
use lattice_model::{NodeId, machine::GpuFacts};
use lattice_runtime::{EngineInfo, Runtime};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// How long a question to a package manager may take.
const ASKING: Duration = Duration::from_secs(30);
/// How long a step may take: a package is fetched.
const DOING: Duration = Duration::from_secs(1800);

/// What this machine's GPUs are and what they lack.
#[derive(Clone, Debug, Serialize)]
pub struct GpuReport {
    /// The GPUs, with what is lent of them.
    pub gpus: Vec<GpuFacts>,
    /// How containers get them, once that is proven.
    pub method: Option<Method>,
    /// The ways that there are, what is missing, and what to do.
    pub plan: GpuPlan,
}

/// Looks, and changes nothing.
///
/// # Errors
/// What cannot be read of the agent's folder.
pub async fn gpu_report(paths: &HomePaths, runtime: &dyn Runtime) -> Result<GpuReport> {
    let (gpus, info, lent) = look(paths, runtime).await?;
    let plan = GpuPlan::new(&facts(&gpus, info.as_ref()).await);
    {
        let mut state = gpus.state.lock();
        state.proofs.configured = !plan.ways.is_empty();
        state.proofs.no_way = plan.missing.last().cloned();
    }
    let method = gpus.state.lock().proofs.method;
    let mut told = gpus.facts();
    told.iter_mut().for_each(|gpu| gpu.lend(&|name| lent.lends_gpu(name)));
    Ok(GpuReport { gpus: told, method, plan })
}

/// Has a container use every GPU of NVIDIA's, lent or not, since the owner asks.
///
/// # Errors
/// What cannot be read of the agent's folder.
pub async fn gpu_prove(paths: &HomePaths, runtime: &dyn Runtime) -> Result<GpuReport> {
    let (gpus, info, _) = look(paths, runtime).await?;
    if let Some(info) = &info {
        let node = paths.identity()?.map_or_else(|| NodeId::from_random(0), |identity| identity.node);
        let all = keeper::lent_ids(&gpus, &|_| true);
        keeper::prove(&gpus, runtime, node, info, &all, true).await;
    }
    gpu_report(paths, runtime).await
}

/// Carries out the steps of a plan, telling of each; the first that fails ends it.
///
/// # Errors
/// The step, and what its program said.
pub async fn gpu_setup(steps: &[Step], tell: &dyn Fn(&str)) -> std::result::Result<(), String> {
    for Step { what, command, .. } in steps {
        let Some((program, arguments)) = command.split_first() else {
            return Err(format!("this is for a person to do: {what}"));
        };
        tell(&format!("{what}: {}", command.join(" ")));
        let mut child = Command::new(program);
        child
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .env("DEBIAN_FRONTEND", "noninteractive");
        let output = match timeout(DOING, child.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("{what}: {program} cannot be run: {error}")),
            Err(_) => {
                return Err(format!(
                    "{what}: {program} had not ended after {} minutes",
                    DOING.as_secs() / 60
                ));
            }
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last =
                said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
            return Err(format!("{what}: {program} ended with {}, and said: {last}", output.status));
        }
    }
    Ok(())
}

async fn look(paths: &HomePaths, runtime: &dyn Runtime) -> Result<(Gpus, Option<EngineInfo>, Lent)> {
    let config = AgentConfig::load(&paths.config())?;
    let lent = Lent::new(config, &owner::word(paths));
    let gpus = Gpus::new(Roots::here(), paths.gpus());
    gpus.look().await;
    let info = match timeout(ASKING, runtime.info()).await {
        Ok(Ok(info)) => Some(info),
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "the container engine does not say what it can do");
            None
        }
        Err(_) => None,
    };
    Ok((gpus, info, lent))
}

/// What a plan is made of.
pub(super) async fn facts(gpus: &Gpus, info: Option<&EngineInfo>) -> SetupFacts {
    let roots = gpus.roots.clone();
    let nvidia = {
        let state = gpus.state.lock();
        match (state.known.trouble(), state.known.reading()) {
            (Some(trouble), _) => Err(trouble.clone()),
            (None, Some(reading)) => Ok(reading.clone()),
            (None, None) => Err(GpuError::NoLibrary),
        }
    };
    let engine = info.map(|info| EngineWays {
        version: info.version.clone(),
        nvidia_runtime: info.runtimes.contains("nvidia"),
        cdi_dirs: info.cdi_dirs.clone(),
        in_vm: info.in_vm_guess,
        rootless: info.rootless,
    });
    let root = roots.path("");
    let dirs = engine.as_ref().map(|engine| engine.cdi_dirs.clone()).unwrap_or_default();
    let direct = match &nvidia {
        Ok(reading) => direct(&root, reading),
        Err(error) => Err(error.to_string()),
    };
    let packages = package_manager(&root);
    // Nobody needs to know it where containers get GPUs without.
    let needed = nvidia.is_ok() && direct.is_err()
        || nvidia.as_ref().is_ok_and(|reading| reading.cards.iter().any(|card| card.facts.mig));
    let toolkit = match packages {
        _ if !needed => ToolkitPackage::Unknown,
        _ if on_path("nvidia-ctk").is_some() => ToolkitPackage::Installed,
        Some(manager) if knows_toolkit(manager).await => ToolkitPackage::Known,
        _ => ToolkitPackage::Unknown,
    };
    SetupFacts {
        nvidia,
        engine,
        cdi: cdi_devices(&root, &dirs),
        direct,
        packages,
        toolkit,
        systemd: root.join("run/systemd/system").exists(),
        on_bus: on_bus(&roots),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn package_manager(root: &Path) -> Option<PackageManager> {
    let has = |program: &str| root.join("usr/bin").join(program).exists();
    [
        ("apt-get", PackageManager::Apt),
        ("dnf", PackageManager::Dnf),
        ("zypper", PackageManager::Zypper),
        ("pacman", PackageManager::Pacman),
    ]
    .into_iter()
    .find_map(|(program, manager)| has(program).then_some(manager))
}

/// By its own cache: nothing is fetched.
async fn knows_toolkit(manager: PackageManager) -> bool {
    let (program, arguments): (&str, &[&str]) = match manager {
        PackageManager::Apt => ("apt-cache", &["show", "--no-all-versions", "nvidia-container-toolkit"]),
        PackageManager::Dnf => ("dnf", &["-q", "-C", "info", "nvidia-container-toolkit"]),
        PackageManager::Zypper => {
            ("zypper", &["-q", "--no-refresh", "search", "-x", "nvidia-container-toolkit"])
        }
        PackageManager::Pacman => ("pacman", &["-Si", "nvidia-container-toolkit"]),
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    matches!(timeout(ASKING, command.status()).await, Ok(Ok(status)) if status.success())
}

/// Whether a display or 3D controller of NVIDIA's is there, with a driver or without.
fn on_bus(roots: &Roots) -> bool {
    let folder = "sys/bus/pci/devices";
    roots.names(folder).iter().any(|address| {
        let of = |what: &str| roots.read(&format!("{folder}/{address}/{what}"));
        of("vendor") == "0x10de" && of("class").starts_with("0x03")
    })
}
