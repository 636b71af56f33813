//! How containers of an engine get GPUs, and what is to be done where they do not: facts in, steps out, each with a
//! reason and the command. Nothing is run here.
//!
//! Three ways lead there, and the first that a container then proves is taken:
//!
//! 1. `runtime`: the engine has NVIDIA's runtime, and is asked as by `docker run --gpus`;
//! 2. `cdi`: the engine knows descriptions of devices (Docker 28.2 and newer; 25 where it is enabled), and NVIDIA's
//!    toolkit has written one that names the GPUs;
//! 3. `direct`: Lattice gives the device nodes and the driver's files itself ([`crate::direct`]). Nothing has to be
//!    installed for this; instances (MIG) cannot be given so.

use crate::{direct::DirectAccess, error::GpuError, reading::GpuReading};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// A way in which containers get GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The engine has NVIDIA's runtime.
    Runtime,
    /// The engine reads descriptions of devices.
    Cdi,
    /// Lattice gives what is needed itself.
    Direct,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runtime => "NVIDIA's runtime",
            Self::Cdi => "CDI",
            Self::Direct => "device nodes and the driver's files, given by Lattice",
        })
    }
}

/// What installs software here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageManager {
    /// Debian's family.
    Apt,
    /// Fedora's family.
    Dnf,
    /// SUSE's.
    Zypper,
    /// Arch's.
    Pacman,
}

/// NVIDIA's container toolkit here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolkitPackage {
    /// `nvidia-ctk` is there.
    Installed,
    /// It is not, and the package manager knows it.
    Known,
    /// It is not, and no configured source of packages has it.
    #[default]
    Unknown,
}

/// What an engine can do for GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineWays {
    /// Its version.
    pub version: String,
    /// Whether it has a runtime named `nvidia`.
    pub nvidia_runtime: bool,
    /// Where it looks for descriptions of devices; empty where it knows nothing of that.
    pub cdi_dirs: Vec<String>,
    /// Whether it lives in a virtual machine of its own.
    pub in_vm: bool,
    /// Whether it runs without root's rights.
    pub rootless: bool,
}

/// What a plan is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupFacts {
    /// What NVIDIA's driver tells.
    pub nvidia: Result<GpuReading, GpuError>,
    /// The engine, where it answers.
    pub engine: Option<EngineWays>,
    /// NVIDIA's devices that are described to engines.
    pub cdi: BTreeSet<String>,
    /// Whether Lattice can give devices itself.
    pub direct: Result<DirectAccess, String>,
    /// What installs software here.
    pub packages: Option<PackageManager>,
    /// NVIDIA's container toolkit.
    pub toolkit: ToolkitPackage,
    /// Whether systemd runs services here.
    pub systemd: bool,
    /// Whether the machine shows a GPU of NVIDIA's on its bus, with a driver or without.
    pub on_bus: bool,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    pub what: String,
    /// Why.
    pub why: String,
    /// Program and arguments; empty where a person has to do it.
    pub command: Vec<String>,
    /// Whether containers that run are stopped by it.
    pub interrupts: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuPlan {
    /// The ways that the engine has now, the best first.
    pub ways: Vec<Method>,
    /// What stands in the way of each other one, for people.
    pub missing: Vec<String>,
    /// What brings a way where there is none, or instances where they cannot be given.
    pub steps: Vec<Step>,
}

impl GpuPlan {
    /// By what was found.
    pub fn new(facts: &SetupFacts) -> Self {
        let mut plan = Self::default();
        let reading = match &facts.nvidia {
            Ok(reading) => reading,
            Err(error) => {
                plan.no_driver(facts, error);
                return plan;
            }
        };
        if let Some(old) = reading.too_old() {
            plan.by_hand("install a newer driver of NVIDIA's", &old);
            plan.missing.push(old);
            return plan;
        }
        if reading.cards.iter().all(|card| card.lost) {
            plan.missing.push("the driver sees no GPU that answers".to_owned());
            return plan;
        }
        let Some(engine) = &facts.engine else {
            plan.missing.push("no container engine answers; start it and ask again".to_owned());
            return plan;
        };
        if engine.in_vm {
            let why = "the container engine runs in a virtual machine of its own, which has no GPU";
            plan.missing.push(why.to_owned());
            plan.by_hand(
                "use Docker's engine on this machine itself, and name its socket in agent.toml (docker_host)",
                why,
            );
            return plan;
        }
        plan.ways_of(facts, engine, reading);
        let mig = reading.cards.iter().any(|card| card.facts.mig);
        let by_toolkit = plan.ways.iter().any(|way| *way != Method::Direct);
        if !by_toolkit && (plan.ways.is_empty() || mig) {
            plan.toolkit(facts, engine, mig);
        }
        plan
    }

    fn by_hand(&mut self, what: &str, why: &str) {
        self.step(what, why, &[], false);
    }

    fn step(&mut self, what: &str, why: &str, command: &[&str], interrupts: bool) {
        let command = command.iter().map(ToString::to_string).collect();
        self.steps.push(Step { what: what.to_owned(), why: why.to_owned(), command, interrupts });
    }

    fn no_driver(&mut self, facts: &SetupFacts, error: &GpuError) {
        if *error == GpuError::NoLibrary && !facts.on_bus {
            self.missing.push("this machine has no GPU of NVIDIA's".to_owned());
            return;
        }
        self.missing.push(error.to_string());
        let what = match error {
            GpuError::NoLibrary => {
                "install NVIDIA's driver as this system's documentation says, and restart the machine"
            }
            GpuError::NotLoaded | GpuError::Mismatch | GpuError::Hung(_) => "restart the machine",
            GpuError::Refused(_) => "look what `nvidia-smi` says",
        };
        self.by_hand(what, "Lattice changes no driver: a wrong one leaves a machine without a picture");
    }

    fn ways_of(&mut self, facts: &SetupFacts, engine: &EngineWays, reading: &GpuReading) {
        if engine.nvidia_runtime {
            self.ways.push(Method::Runtime);
        } else {
            self.missing.push(format!("Docker {} has no runtime named nvidia", engine.version));
        }
        let described =
            |id: &str, index: u32| facts.cdi.contains(id) || facts.cdi.contains(&index.to_string());
        let all = reading.cards.iter().filter(|card| !card.lost).all(|card| match card.facts.mig {
            false => described(&card.facts.id, card.facts.index),
            true => card.facts.instances.iter().all(|one| facts.cdi.contains(&one.id)),
        });
        match (engine.cdi_dirs.is_empty(), facts.cdi.is_empty()) {
            (true, _) => self.missing.push(format!(
                "Docker {} does not read descriptions of devices (CDI); 28.2 and newer do",
                engine.version
            )),
            (false, true) => {
                self.missing.push("no description of NVIDIA's devices is there for the engine (CDI)".to_owned());
            }
            (false, false) if !all => self.missing.push(
                "the description of NVIDIA's devices (CDI) does not name all of them; it was written for others".to_owned(),
            ),
            (false, false) => self.ways.push(Method::Cdi),
        }
        match &facts.direct {
            Ok(access) if !access.devices.is_empty() => self.ways.push(Method::Direct),
            Ok(_) => self.missing.push(
                "Lattice itself cannot give instances of GPUs (MIG): that takes NVIDIA's container toolkit"
                    .to_owned(),
            ),
            Err(why) => self.missing.push(why.clone()),
        }
    }

    /// NVIDIA's container toolkit, from the sources of packages that this machine has.
    fn toolkit(&mut self, facts: &SetupFacts, engine: &EngineWays, mig: bool) {
        let why = if mig { "instances of GPUs are given by it alone" } else { "it gives GPUs to containers" };
        let package = "nvidia-container-toolkit";
        let installed = match (facts.toolkit, facts.packages) {
            (ToolkitPackage::Installed, _) => true,
            (ToolkitPackage::Known, Some(manager)) => {
                let command: &[&str] = match manager {
                    PackageManager::Apt => &["apt-get", "install", "-y", package],
                    PackageManager::Dnf => &["dnf", "install", "-y", package],
                    PackageManager::Zypper => &["zypper", "--non-interactive", "install", package],
                    PackageManager::Pacman => &["pacman", "-S", "--noconfirm", package],
                };
                self.step("install NVIDIA's container toolkit", why, command, false);
                true
            }
            _ => {
                self.by_hand(
                    "add NVIDIA's source of packages for this system, install nvidia-container-toolkit from it, and ask again",
                    "no source of packages on this machine has it, and Lattice adds none: whoever is added there may change this machine",
                );
                false
            }
        };
        if !installed {
            return;
        }
        if !engine.cdi_dirs.is_empty() {
            let out = "--output=/etc/cdi/nvidia.yaml";
            let strategies = ["--device-name-strategy=uuid", "--device-name-strategy=index"];
            self.step(
                "describe the GPUs to the engine",
                "the engine reads descriptions of devices (CDI); this has to be done again after a change of the driver",
                &["nvidia-ctk", "cdi", "generate", out, strategies[0], strategies[1]],
                false,
            );
            return;
        }
        self.step(
            "give the engine NVIDIA's runtime",
            "the engine does not read descriptions of devices; daemon.json gets an entry, and what is in it stays",
            &["nvidia-ctk", "runtime", "configure", "--runtime=docker"],
            false,
        );
        match facts.systemd && !engine.rootless {
            true => self.step(
                "restart the engine",
                "it reads its settings when it starts; containers stop and are started again by their agents",
                &["systemctl", "restart", "docker"],
                true,
            ),
            false => self.by_hand("restart the engine", "it reads its settings when it starts"),
        }
    }
}

impl fmt::Display for GpuPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for way in &self.ways {
            writeln!(f, "a way there is: {way}")?;
        }
        for missing in &self.missing {
            writeln!(f, "in the way: {missing}")?;
        }
        for (at, Step { what, why, command, interrupts }) in self.steps.iter().enumerate() {
            writeln!(f, "{}. {what}: {why}", at + 1)?;
            if !command.is_empty() {
                writeln!(f, "   {}", command.join(" "))?;
            }
            if *interrupts {
                writeln!(f, "   (containers that run are stopped)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Card;
    use lattice_model::machine::{GpuFacts, GpuInstance};

    fn reading(mig: bool) -> GpuReading {
        let one = |id: &str| GpuInstance { id: id.into(), ..GpuInstance::default() };
        let instances = if mig { vec![one("MIG-1"), one("MIG-2")] } else { vec![] };
        let facts = GpuFacts { id: "GPU-1".into(), mig, instances, ..GpuFacts::default() };
        GpuReading {
            driver: "580.159.04".into(),
            cuda: "13.0".into(),
            cards: vec![Card { facts, minor: Some(0), ..Card::default() }],
        }
    }

    fn engine(version: &str, cdi: bool, runtime: bool) -> EngineWays {
        EngineWays {
            version: version.into(),
            nvidia_runtime: runtime,
            cdi_dirs: if cdi { vec!["/etc/cdi".into(), "/var/run/cdi".into()] } else { vec![] },
            ..EngineWays::default()
        }
    }

    fn facts() -> SetupFacts {
        let devices = [("GPU-1".to_owned(), vec!["/dev/nvidia0".to_owned()])].into();
        SetupFacts {
            nvidia: Ok(reading(false)),
            engine: Some(engine("20.10.24", false, false)),
            cdi: BTreeSet::new(),
            direct: Ok(DirectAccess { devices, ..DirectAccess::default() }),
            packages: Some(PackageManager::Apt),
            toolkit: ToolkitPackage::Unknown,
            systemd: true,
            on_bus: true,
        }
    }

    #[test]
    fn plans_for_people() {
        let no_uvm = || Err("/dev/nvidia-uvm is missing: run `nvidia-modprobe -u -c 0` as root".to_owned());
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let mut text = String::new();
        let mut told = |title: &str, facts: SetupFacts| {
            text += &format!("## {title}\n{}\n", GpuPlan::new(&facts));
        };
        told("an old engine and nothing else", facts());
        told("the runtime", SetupFacts { engine: Some(engine("24.0.7", false, true)), ..facts() });
        told(
            "CDI",
            SetupFacts { engine: Some(engine("28.2.2", true, false)), cdi: names(&["0", "all"]), ..facts() },
        );
        told(
            "CDI for other GPUs",
            SetupFacts { engine: Some(engine("28.2.2", true, false)), cdi: names(&["GPU-7"]), ..facts() },
        );
        told(
            "nothing leads there, the package manager knows the toolkit",
            SetupFacts { direct: no_uvm(), toolkit: ToolkitPackage::Known, ..facts() },
        );
        told(
            "nothing leads there, an engine with CDI, Fedora",
            SetupFacts {
                direct: no_uvm(),
                engine: Some(engine("28.2.2", true, false)),
                toolkit: ToolkitPackage::Known,
                packages: Some(PackageManager::Dnf),
                ..facts()
            },
        );
        told("nothing leads there, and nobody has the toolkit", SetupFacts { direct: no_uvm(), ..facts() });
        told(
            "instances",
            SetupFacts {
                nvidia: Ok(reading(true)),
                direct: Ok(DirectAccess::default()),
                engine: Some(engine("28.2.2", true, false)),
                toolkit: ToolkitPackage::Installed,
                ..facts()
            },
        );
        told(
            "an engine in a virtual machine",
            SetupFacts {
                engine: Some(EngineWays { in_vm: true, ..engine("28.2.2", true, false) }),
                ..facts()
            },
        );
        told("no engine", SetupFacts { engine: None, ..facts() });
        let old = GpuReading { driver: "390.157".into(), ..reading(false) };
        told("an old driver", SetupFacts { nvidia: Ok(old), ..facts() });
        told("no driver", SetupFacts { nvidia: Err(GpuError::NoLibrary), ..facts() });
        told("no GPU", SetupFacts { nvidia: Err(GpuError::NoLibrary), on_bus: false, ..facts() });
        told("a driver that hangs", SetupFacts { nvidia: Err(GpuError::Hung(10)), ..facts() });
        let mut lost = reading(false);
        lost.cards[0].lost = true;
        told("a GPU off the bus", SetupFacts { nvidia: Ok(lost), ..facts() });
        insta::assert_snapshot!(text);
    }
}
