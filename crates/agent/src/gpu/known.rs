//! What was read of GPUs, made into what is told of them. No clock and no I/O but that of the kept proofs.

use lattice_converge::health::GpuSample;
use lattice_gpu::{GpuError, GpuReading, Method};
use lattice_identity::keyfile;
use lattice_model::machine::{GpuFacts, GpuState, GpuVendor};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// How often in a row a GPU has to be missing before it is lost: a driver that is put in anew misses all for a while.
const MISSES: u32 = 3;

/// What containers made of the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Proofs {
    /// Engine and driver that they hold for.
    pub(super) key: String,
    /// The way in which containers get GPUs here.
    pub(super) method: Option<Method>,
    /// By the ids of GPUs and instances: nothing where it was used, else why not.
    pub(super) verdicts: BTreeMap<String, Option<String>>,
    /// Why there is no way at all.
    pub(super) no_way: Option<String>,
    /// Whether the engine has a way that no proof has spoken about.
    #[serde(skip)]
    pub(super) configured: bool,
}

impl Proofs {
    /// Those that were kept; none where they cannot be read.
    pub(super) fn load(file: &Path) -> Self {
        let bytes = keyfile::load(file).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps them. Where the disk does not take them, they are made again after the next start.
    pub(super) fn save(&self, file: &Path) {
        let saved = serde_json::to_vec(self).map_err(|error| error.to_string());
        if let Err(error) =
            saved.and_then(|bytes| keyfile::replace(file, &bytes).map_err(|error| error.to_string()))
        {
            tracing::warn!(
                error,
                "the proofs of GPUs are not kept; they are made again after the next start"
            );
        }
    }
}

/// What was read last, and what was seen before.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    reading: Option<GpuReading>,
    /// Why the driver tells nothing.
    trouble: Option<GpuError>,
    /// By the kernel's files.
    files: Vec<GpuFacts>,
    /// Every GPU that was ever there, and how often it was missing since.
    seen: BTreeMap<String, (GpuFacts, u32)>,
    /// Errors of memory when each was seen first.
    errors: BTreeMap<String, (u64, u64)>,
}

impl Known {
    /// Takes in a look. A driver that hangs leaves what it said before.
    pub(super) fn look(&mut self, reading: Result<GpuReading, GpuError>, files: Vec<GpuFacts>) {
        self.files = files;
        match reading {
            Ok(reading) => {
                for card in &reading.cards {
                    if let Some(now) = card.memory_errors {
                        let counts = self.errors.entry(card.facts.id.clone()).or_insert((now, now));
                        // A driver that was loaded anew counts from nothing.
                        *counts = (counts.0.min(now), now);
                    }
                }
                (self.reading, self.trouble) = (Some(reading), None);
            }
            Err(error @ GpuError::Hung(_)) => {
                self.trouble = Some(error);
                return;
            }
            Err(error) => (self.reading, self.trouble) = (None, Some(error)),
        }
        let present = self.present();
        for (_, misses) in self.seen.values_mut() {
            *misses = misses.saturating_add(1);
        }
        for gpu in present {
            self.seen.insert(gpu.id.clone(), (gpu, 0));
        }
    }

    pub(super) fn reading(&self) -> Option<&GpuReading> {
        self.reading.as_ref()
    }

    pub(super) fn trouble(&self) -> Option<&GpuError> {
        self.trouble.as_ref()
    }

    /// What answers now: NVIDIA's by its library where that tells, the others by the kernel's files.
    fn present(&self) -> Vec<GpuFacts> {
        let mut gpus: Vec<GpuFacts> = match &self.reading {
            Some(reading) => {
                reading.cards.iter().filter(|card| !card.lost).map(|card| card.facts.clone()).collect()
            }
            None => self.files.iter().filter(|gpu| gpu.vendor == GpuVendor::Nvidia).cloned().collect(),
        };
        gpus.extend(self.files.iter().filter(|gpu| gpu.vendor != GpuVendor::Nvidia).cloned());
        gpus
    }

    /// Every GPU with how far it has come, none lent.
    pub(super) fn facts(&self, proofs: &Proofs) -> Vec<GpuFacts> {
        let mut gpus: Vec<GpuFacts> =
            self.seen.values().map(|(gpu, misses)| self.told(gpu, *misses, proofs)).collect();
        gpus.sort_by(|a, b| (a.vendor, a.index, &a.id).cmp(&(b.vendor, b.index, &b.id)));
        gpus
    }

    fn told(&self, gpu: &GpuFacts, misses: u32, proofs: &Proofs) -> GpuFacts {
        let mut gpu = gpu.clone();
        (gpu.state, gpu.why) = match gpu.vendor {
            _ if misses >= MISSES => (
                GpuState::Lost,
                Some("it was there and is not any more; the machine may have to be restarted".into()),
            ),
            GpuVendor::Nvidia => self.verdict(&gpu.id, proofs),
            GpuVendor::Amd => {
                (GpuState::Found, Some("Lattice gives NVIDIA's GPUs alone to containers so far".into()))
            }
            GpuVendor::Apple => (GpuState::Found, Some(lattice_gpu::apple::WHY.into())),
            GpuVendor::Other => (GpuState::Found, None),
        };
        if gpu.mig && gpu.state != GpuState::Lost {
            let mut worst = GpuState::Proven;
            gpu.why = None;
            for one in &mut gpu.instances {
                let (state, why) = self.verdict(&one.id, proofs);
                one.state = state;
                if state < worst {
                    (worst, gpu.why) = (state, why);
                }
            }
            gpu.state = if gpu.instances.is_empty() { GpuState::Found } else { worst };
            if gpu.instances.is_empty() {
                gpu.why = Some(
                    "it is to be cut into instances (MIG) and has none; make some with `nvidia-smi mig -cgi`"
                        .into(),
                );
            }
        }
        gpu
    }

    fn verdict(&self, id: &str, proofs: &Proofs) -> (GpuState, Option<String>) {
        match (proofs.verdicts.get(id), &self.reading) {
            (Some(None), _) => (GpuState::Proven, None),
            (Some(Some(why)), _) => (GpuState::Failed, Some(why.clone())),
            (None, None) => (GpuState::Found, self.trouble.as_ref().map(ToString::to_string)),
            (None, Some(_)) if proofs.configured => (GpuState::Configured, None),
            (None, Some(reading)) => (GpuState::Found, reading.too_old().or_else(|| proofs.no_way.clone())),
        }
    }

    /// For the machine's condition; nothing where there never was a GPU.
    pub(super) fn sample(&self, proofs: &Proofs, lends: &dyn Fn(&str) -> bool) -> Option<GpuSample> {
        if self.seen.is_empty() {
            return None;
        }
        let facts = self.facts(proofs);
        let lost = facts.iter().filter(|gpu| gpu.state == GpuState::Lost).map(|gpu| gpu.id.clone()).collect();
        let mut unproven = None;
        for gpu in facts.iter().filter(|gpu| matches!(gpu.state, GpuState::Failed | GpuState::Found)) {
            let mut lent = gpu.clone();
            lent.lend(lends);
            if gpu.vendor == GpuVendor::Nvidia && lent.units().iter().any(|unit| unit.lent) {
                let why = gpu.why.clone().unwrap_or_else(|| "no container has used it yet".into());
                unproven.get_or_insert((gpu.id.clone(), why));
            }
        }
        let errors = self.errors.iter().filter(|(_, (first, now))| now > first);
        Some(GpuSample {
            lost,
            hung: matches!(self.trouble, Some(GpuError::Hung(_))),
            errors: errors.map(|(id, (first, now))| (id.clone(), now - first)).collect(),
            unproven,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_gpu::Card;
    use lattice_model::machine::GpuInstance;

    fn card(n: u32) -> Card {
        let facts =
            GpuFacts { id: format!("GPU-{n}"), index: n, vendor: GpuVendor::Nvidia, ..GpuFacts::default() };
        Card { facts, memory_errors: Some(5), ..Card::default() }
    }

    fn reading(cards: Vec<Card>) -> Result<GpuReading, GpuError> {
        Ok(GpuReading { driver: "580.1".into(), cuda: "13.0".into(), cards })
    }

    fn states(known: &Known, proofs: &Proofs) -> Vec<&'static str> {
        known.facts(proofs).iter().map(|gpu| gpu.state.as_str()).collect()
    }

    #[test]
    fn found_configured_proven() {
        let (mut known, mut proofs) = (Known::default(), Proofs::default());
        known.look(reading(vec![card(0), card(1)]), vec![]);
        proofs.no_way = Some("nothing gives it".into());
        assert_eq!(states(&known, &proofs), ["found", "found"]);
        assert_eq!(known.facts(&proofs)[0].why.as_deref(), Some("nothing gives it"));
        proofs.configured = true;
        assert_eq!(states(&known, &proofs), ["configured", "configured"]);
        proofs.verdicts = [("GPU-0".into(), None), ("GPU-1".into(), Some("broken".into()))].into();
        assert_eq!(states(&known, &proofs), ["proven", "failed"]);
        let sample = |lends: &dyn Fn(&str) -> bool| known.sample(&proofs, lends).unwrap().unproven;
        assert_eq!(sample(&|_| true), Some(("GPU-1".into(), "broken".into())));
        assert_eq!(sample(&|name| name == "0"), None, "what is not lent is nobody's trouble");
    }

    #[test]
    fn one_that_falls_off_the_bus_is_lost_and_comes_back() {
        let (mut known, proofs) = (Known::default(), Proofs { configured: true, ..Proofs::default() });
        known.look(reading(vec![card(0), card(1)]), vec![]);
        let fallen = || {
            let gone =
                Card { lost: true, facts: GpuFacts { index: 1, ..GpuFacts::default() }, ..Card::default() };
            reading(vec![card(0), gone])
        };
        known.look(fallen(), vec![]);
        assert_eq!(states(&known, &proofs), ["configured", "configured"], "once may be chance");
        known.look(fallen(), vec![]);
        known.look(fallen(), vec![]);
        assert_eq!(states(&known, &proofs), ["configured", "lost"]);
        assert_eq!(known.sample(&proofs, &|_| true).unwrap().lost, ["GPU-1"]);
        known.look(reading(vec![card(0), card(1)]), vec![]);
        assert_eq!(states(&known, &proofs), ["configured", "configured"]);
    }

    #[test]
    fn a_driver_that_hangs_changes_nothing_but_is_told() {
        let (mut known, proofs) =
            (Known::default(), Proofs { verdicts: [("GPU-0".into(), None)].into(), ..Proofs::default() });
        known.look(reading(vec![card(0)]), vec![]);
        for _ in 0..9 {
            known.look(Err(GpuError::Hung(10)), vec![]);
        }
        assert_eq!(states(&known, &proofs), ["proven"]);
        assert!(known.sample(&proofs, &|_| true).unwrap().hung);
    }

    #[test]
    fn without_a_library_the_kernels_files_count_and_say_why_not() {
        let (mut known, proofs) = (Known::default(), Proofs::default());
        let amd = GpuFacts { id: "amd".into(), vendor: GpuVendor::Amd, ..GpuFacts::default() };
        known.look(Err(GpuError::NoLibrary), vec![card(0).facts, amd]);
        assert_eq!(states(&known, &proofs), ["found", "found"]);
        assert!(known.facts(&proofs)[0].why.as_deref().unwrap().contains("libnvidia-ml"));
        let mut old = reading(vec![card(0)]).unwrap();
        old.driver = "390.1".into();
        known.look(Ok(old), vec![]);
        assert!(known.facts(&proofs)[0].why.as_deref().unwrap().contains("too old"));
        assert_eq!(Known::default().sample(&proofs, &|_| true), None);
    }

    #[test]
    fn of_one_that_is_cut_each_instance_is_proven() {
        let mut cut = card(0);
        cut.facts.mig = true;
        let (mut known, mut proofs) = (Known::default(), Proofs { configured: true, ..Proofs::default() });
        known.look(reading(vec![cut.clone()]), vec![]);
        assert!(known.facts(&proofs)[0].why.as_deref().unwrap().contains("nvidia-smi mig"));
        cut.facts.instances =
            ["MIG-1", "MIG-2"].map(|id| GpuInstance { id: id.into(), ..GpuInstance::default() }).into();
        known.look(reading(vec![cut]), vec![]);
        proofs.verdicts = [("MIG-1".into(), None)].into();
        let gpu = &known.facts(&proofs)[0];
        assert_eq!(
            (gpu.state, gpu.instances[0].state, gpu.instances[1].state),
            (GpuState::Configured, GpuState::Proven, GpuState::Configured)
        );
    }

    #[test]
    fn new_errors_of_memory_are_counted() {
        let (mut known, proofs) = (Known::default(), Proofs::default());
        known.look(reading(vec![card(0)]), vec![]);
        assert!(known.sample(&proofs, &|_| true).unwrap().errors.is_empty(), "old ones are no news");
        let mut worse = card(0);
        worse.memory_errors = Some(7);
        known.look(reading(vec![worse]), vec![]);
        assert_eq!(known.sample(&proofs, &|_| true).unwrap().errors["GPU-0"], 2);
    }
}
