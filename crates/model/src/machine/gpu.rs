//! GPUs of a machine, and what of them is handed out: whole ones, or the instances that one is cut into (MIG).

use super::{LONG_FACT, MAX_LIST, fact, long_fact, set};
use crate::unit::Bytes;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// A GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct GpuFacts {
    /// As its driver names it, for ever: `GPU-5f3c…`; a device's address where the driver gives no name.
    pub id: String,
    /// Its number at present, as `nvidia-smi` counts.
    pub index: u32,
    /// Who made it.
    pub vendor: GpuVendor,
    /// Its name.
    pub model: String,
    /// Memory of its own.
    pub memory: Bytes,
    /// The driver's version.
    pub driver: String,
    /// The newest CUDA that the driver can do, `13.0`; empty where that is not told.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cuda: String,
    /// Whether it is cut into instances (MIG). Then these are handed out, and never the whole.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mig: bool,
    /// The instances that it is cut into; each can be lent alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<GpuInstance>,
    /// The GPUs of the machine that it reaches by NVLink, by their ids.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub links: BTreeSet<String>,
    /// Whether its owner lends it.
    pub lent: bool,
    /// Whether containers can use it. Of one that is cut, the worst of its instances.
    pub state: GpuState,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// An instance that a GPU is cut into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct GpuInstance {
    /// As its driver names it: `MIG-5f3c…`. It has another name when it is made anew.
    pub id: String,
    /// Its size, as the driver names it: `MIG 1g.10gb`.
    pub profile: String,
    /// Its share of the memory.
    pub memory: Bytes,
    /// Whether its owner lends it.
    pub lent: bool,
    /// Whether containers can use it.
    pub state: GpuState,
}

/// What is handed out: a GPU, or an instance of one.
#[derive(Clone, Copy, Debug)]
pub struct GpuUnit<'a> {
    /// Its name.
    pub id: &'a str,
    /// The GPU that it is, or is a part of.
    pub gpu: &'a GpuFacts,
    /// The memory that comes with it.
    pub memory: Bytes,
    /// Whether its owner lends it.
    pub lent: bool,
    /// Whether containers can use it.
    pub state: GpuState,
}

impl GpuUnit<'_> {
    /// Whether work may be given to it: its owner lends it and a container has seen it.
    pub fn is_usable(&self) -> bool {
        self.lent && self.state == GpuState::Proven
    }

    /// Whether this is one of its names: its own, and of a whole one its number.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || (self.id == self.gpu.id && self.gpu.index.to_string() == name)
    }
}

impl GpuFacts {
    /// What of it is handed out.
    pub fn units(&self) -> Vec<GpuUnit<'_>> {
        if !self.mig {
            let Self { id, memory, lent, state, .. } = self;
            return vec![GpuUnit { id, gpu: self, memory: *memory, lent: *lent, state: *state }];
        }
        let unit = |one: &'_ GpuInstance| (one.memory, one.lent, one.state);
        self.instances
            .iter()
            .map(|one| {
                let (memory, lent, state) = unit(one);
                GpuUnit { id: &one.id, gpu: self, memory, lent, state }
            })
            .collect()
    }

    /// Lends it, and what it is cut into: all of it, or what is called one of these names.
    pub fn lend(&mut self, lends: &dyn Fn(&str) -> bool) {
        self.lent = lends(&self.id) || lends(&self.index.to_string());
        for one in &mut self.instances {
            one.lent = self.lent || lends(&one.id);
        }
    }

    /// Whether this means its model: the name, or whole words of it that stand together, in any case. `H100` means
    /// `NVIDIA H100 80GB HBM3`.
    pub fn is_model(&self, wanted: &str) -> bool {
        let words = |text: &str| {
            text.split(|c: char| c.is_whitespace() || c == '-')
                .filter(|word| !word.is_empty())
                .map(str::to_ascii_lowercase)
                .collect::<Vec<_>>()
        };
        let (own, wanted) = (words(&self.model), words(wanted));
        !wanted.is_empty() && own.windows(wanted.len()).any(|part| part == wanted)
    }

    pub(super) fn bound(&mut self) {
        let Self {
            id,
            index: _,
            vendor: _,
            model,
            memory: _,
            driver,
            cuda,
            mig: _,
            instances,
            links,
            lent: _,
            state: _,
            why,
        } = self;
        [id, model, driver, cuda].into_iter().for_each(fact);
        why.iter_mut().for_each(|why| long_fact(why, LONG_FACT));
        instances.truncate(MAX_LIST);
        for GpuInstance { id, profile, memory: _, lent: _, state: _ } in instances {
            [id, profile].into_iter().for_each(fact);
        }
        set(links);
    }
}

/// Who made a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GpuVendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Apple: containers of a Linux machine inside cannot use it.
    Apple,
    /// Somebody else.
    #[default]
    #[serde(other)]
    Other,
}

impl GpuVendor {
    /// As requests name its driver.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia",
            Self::Amd => "amd",
            Self::Apple => "apple",
            Self::Other => "other",
        }
    }
}

/// How far a GPU has come to be used by containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum GpuState {
    /// It was there, and is not any more.
    Lost,
    /// A container was started to see it and did not.
    Failed,
    /// The machine has it, and the engine has no way to give it to a container.
    #[default]
    Found,
    /// The engine has a way, and no container has seen it yet.
    Configured,
    /// A container used it.
    Proven,
}

impl GpuState {
    /// As it is written in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Found => "found",
            Self::Configured => "configured",
            Self::Proven => "proven",
        }
    }
}

impl fmt::Display for GpuFacts {
    /// `0: NVIDIA L4, 22.5 GiB, driver 550.54.15: proven, lent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.index, self.model)?;
        if self.memory.0 > 0 {
            write!(f, ", {}", self.memory)?;
        }
        if !self.driver.is_empty() {
            write!(f, ", driver {}", self.driver)?;
        }
        if self.mig {
            let names =
                self.instances.iter().map(|one| one.profile.trim_start_matches("MIG ")).collect::<Vec<_>>();
            write!(f, ", cut into {}", if names.is_empty() { "nothing".into() } else { names.join(" ") })?;
        }
        if !self.links.is_empty() {
            write!(f, ", NVLink to {}", self.links.iter().cloned().collect::<Vec<_>>().join(" "))?;
        }
        let lent = match (self.lent, self.instances.iter().filter(|one| one.lent).count()) {
            (true, _) => "lent".to_owned(),
            (false, 0) => "not lent".to_owned(),
            (false, some) => format!("{some} of it lent"),
        };
        write!(f, ": {}, {lent}", self.state.as_str())?;
        match &self.why {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_whole_words() {
        let gpu = GpuFacts { model: "NVIDIA GeForce RTX 4090".into(), ..GpuFacts::default() };
        for (wanted, is) in [
            ("RTX 4090", true),
            ("rtx-4090", true),
            ("nvidia geforce rtx 4090", true),
            ("4090", true),
            ("409", false),
            ("RTX 4090 Ti", false),
            ("NVIDIA 4090", false),
            ("", false),
        ] {
            assert_eq!(gpu.is_model(wanted), is, "{wanted}");
        }
    }

    #[test]
    fn one_that_is_cut_is_lent_in_parts() {
        let part =
            |id: &str| GpuInstance { id: id.into(), state: GpuState::Proven, ..GpuInstance::default() };
        let mut gpu = GpuFacts {
            id: "GPU-1".into(),
            mig: true,
            instances: vec![part("MIG-1"), part("MIG-2")],
            state: GpuState::Proven,
            ..GpuFacts::default()
        };
        let usable = |gpu: &GpuFacts| {
            gpu.units().iter().filter(|u| u.is_usable()).map(|u| u.id.to_owned()).collect::<Vec<_>>()
        };
        assert!(usable(&gpu).is_empty());
        gpu.lend(&|name| name == "MIG-2");
        assert_eq!(usable(&gpu), ["MIG-2"]);
        gpu.lend(&|name| name == "0");
        assert_eq!(usable(&gpu), ["MIG-1", "MIG-2"]);
        gpu.instances.clear();
        assert!(usable(&gpu).is_empty(), "the whole of one that is cut is nobody's");
        gpu.mig = false;
        assert_eq!(usable(&gpu), ["GPU-1"]);
    }
}
