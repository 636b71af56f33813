//! What is lent: `agent.toml` says the most, and the rules no more than that. Where both name projects or
//! GPUs, both have to.

use crate::{config::AgentConfig, facts::Machine};
use lattice_converge::{GpuOffer, NodePolicy};
use lattice_model::{
    Bytes, Cpu,
    machine::{Bandwidth, GpuFacts, GpuState, GpuUnit},
    resource::Capacity,
};
use lattice_rules::{Caps, Consent, Gpus, LanRule, Rules, Share, Word};
use std::collections::BTreeMap;

/// Both files together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lent {
    config: AgentConfig,
    caps: Caps,
    consent: Consent,
    lan: LanRule,
}

impl Lent {
    /// Of rules that cannot be read, nothing runs anyway.
    pub(crate) fn new(config: AgentConfig, word: &Word) -> Self {
        let rules = match word {
            Word::Rules(rules) => rules.rules().clone(),
            Word::Broken(_) => Rules::default(),
        };
        Self { config, caps: rules.caps, consent: rules.consent, lan: rules.lan }
    }

    pub(crate) const fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// What containers may reach of the owner's network; of rules that cannot be read, nothing.
    pub(crate) const fn lan(&self) -> &LanRule {
        &self.lan
    }

    /// How fast work may send and receive. Of rules that cannot be read nothing runs anyway.
    pub(crate) fn bandwidth(&self) -> Bandwidth {
        self.caps.bandwidth.unwrap_or_default().0
    }

    /// Whether commands may be run in containers, and files copied.
    pub(crate) fn exec(&self) -> bool {
        self.consent.exec.unwrap_or(true)
    }

    /// Whether images may be built here for others.
    pub(crate) fn builds(&self) -> bool {
        self.consent.builds.unwrap_or(true)
    }

    /// Whether this machine may be measured.
    pub(crate) fn benchmarks(&self) -> bool {
        self.consent.benchmarks.unwrap_or(true)
    }

    /// The most that images may take on disk, where the owner says how much disk is lent.
    pub(crate) fn disk(&self, machine: &Machine) -> Option<Bytes> {
        self.caps.disk.map(|share| Bytes(share.of(machine.disk_free.0)))
    }

    /// What is told to the server.
    pub(crate) fn capacity(&self, machine: &Machine) -> Capacity {
        let Capacity { cpu, memory, disk } = self.config.lent(machine);
        let cores = self.caps.cpu.map(|share| match share {
            Share::Percent(_) => {
                Cpu(u32::try_from(share.of(u64::from(machine.cpus) * 1000)).unwrap_or(u32::MAX))
            }
            Share::Amount(cores) => Cpu((cores * 1000.0).min(4_000_000.0) as u32),
        });
        let bytes = |share: Option<Share>, all: Bytes| share.map(|share| Bytes(share.of(all.0)));
        Capacity {
            cpu: cores.map_or(cpu, |cap| cpu.min(cap)),
            memory: bytes(self.caps.memory, machine.memory).map_or(memory, |cap| memory.min(cap)),
            disk: bytes(self.caps.disk, machine.disk_free).map_or(disk, |cap| disk.min(cap)),
        }
    }

    /// Whether the owner lends the GPU of this name: by both files.
    pub(crate) fn lends_gpu(&self, name: &str) -> bool {
        self.config.lends_gpu(name)
            && match &self.caps.gpus {
                None => true,
                Some(Gpus::Word(word)) => word == "all",
                Some(Gpus::Ids(ids)) => ids.iter().any(|id| id == name),
            }
    }

    /// The machine's GPUs, with what is lent of them.
    pub(crate) fn gpus(&self, machine: &Machine) -> Vec<GpuFacts> {
        let mut gpus = machine.facts.machine.gpus.clone();
        gpus.iter_mut().for_each(|gpu| gpu.lend(&|name| self.lends_gpu(name)));
        gpus
    }

    /// Which of them containers get, and why not.
    fn offers(&self, machine: &Machine) -> BTreeMap<String, GpuOffer> {
        let offer = |unit: GpuUnit<'_>| {
            let because = |what: &str| match &unit.gpu.why {
                Some(why) => GpuOffer::Kept(format!("{what}: {why}")),
                None => GpuOffer::Kept(what.to_owned()),
            };
            let offer = match unit.state {
                _ if !unit.lent => GpuOffer::Kept("the owner of this machine does not lend it (gpus in agent.toml, caps.gpus in rules.toml)".into()),
                GpuState::Proven => GpuOffer::Given,
                GpuState::Lost => because("it is gone"),
                GpuState::Failed => because("no container can use it"),
                GpuState::Found | GpuState::Configured => because("no container has used it yet"),
            };
            (unit.id.to_owned(), offer)
        };
        self.gpus(machine).iter().flat_map(GpuFacts::units).map(offer).collect()
    }

    /// What may run.
    pub(crate) fn policy(&self, machine: &Machine) -> NodePolicy {
        let mut policy = self.config.policy(machine);
        let Capacity { cpu, memory, disk: _ } = self.capacity(machine);
        (policy.cpu, policy.memory) = (cpu, memory);
        policy.projects = match (policy.projects.take(), self.consent.projects.clone()) {
            (Some(one), Some(other)) => Some(one.intersection(&other).cloned().collect()),
            (one, other) => one.or(other),
        };
        policy.images.clone_from(&self.consent.images);
        policy.gpus = self.offers(machine);
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::ProjectName;

    #[test]
    fn the_stricter_of_two_files_counts() {
        let machine = Machine {
            cpus: 8,
            memory: Bytes::from_mib(10_000),
            disk_free: Bytes(100 << 30),
            ..Machine::default()
        };
        let lent = |config: &str, rules: &str| {
            let word = Word::Rules(Box::new(Rules::parse(rules).unwrap().check(None).unwrap()));
            Lent::new(AgentConfig::parse(config).unwrap(), &word)
        };
        let quarter = lent("", "[caps]\ncpu = \"25%\"\nmemory = \"25%\"\ndisk = \"10g\"").capacity(&machine);
        assert_eq!(
            (quarter.cpu, quarter.memory, quarter.disk),
            (Cpu(2000), Bytes::from_mib(2500), Bytes(10 << 30))
        );
        assert_eq!(lent("", "[caps]\ndisk = \"10g\"").disk(&machine), Some(Bytes(10 << 30)));
        assert_eq!(lent("", "").disk(&machine), None);
        let cores = lent("cpu = 3", "[caps]\ncpu = 2.5").capacity(&machine);
        assert_eq!((cores.cpu, cores.memory), (Cpu(2500), Bytes::from_mib(8000)));
        assert_eq!(lent("cpu = 1", "[caps]\ncpu = 2.5").policy(&machine).cpu, Cpu(1000));
        let names = |lent: Lent| {
            let projects = lent.policy(&machine).projects.unwrap();
            projects.iter().map(ProjectName::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(lent("projects = [\"a\", \"b\"]", "[consent]\nprojects = [\"b\", \"c\"]")), "b");
        assert_eq!(names(lent("", "[consent]\nprojects = [\"c\"]")), "c");
        let mut with_gpus = machine.clone();
        with_gpus.facts.machine.gpus = (0..3)
            .map(|n| GpuFacts {
                id: format!("GPU-{n}"),
                index: n,
                state: if n == 2 { GpuState::Failed } else { GpuState::Proven },
                why: (n == 2).then(|| "it is broken".to_owned()),
                ..GpuFacts::default()
            })
            .collect();
        let gpus = |config, rules| {
            let offers = lent(config, rules).policy(&with_gpus).gpus;
            let given = offers.iter().filter(|(_, offer)| **offer == GpuOffer::Given);
            given.map(|(id, _)| id.trim_start_matches("GPU-").to_owned()).collect::<String>()
        };
        assert_eq!(gpus("", "[caps]\ngpus = \"all\""), "", "the configuration lends none");
        assert_eq!(gpus("gpus = \"all\"", ""), "01", "the third is broken");
        assert_eq!(gpus("gpus = \"all\"", "[caps]\ngpus = [\"1\"]"), "1");
        assert_eq!(gpus("gpus = [\"0\"]", "[caps]\ngpus = \"none\""), "");
        assert_eq!(gpus("gpus = [\"GPU-0\", \"2\"]", ""), "0");
        let why = lent("gpus = \"all\"", "").policy(&with_gpus).gpus.remove("GPU-2");
        assert_eq!(why, Some(GpuOffer::Kept("no container can use it: it is broken".into())));
        assert!(lent("", "").exec() && !lent("", "[consent]\nexec = false").exec());
        assert!(lent("", "").builds() && !lent("", "[consent]\nbuilds = false").builds());
        assert!(lent("", "").benchmarks() && !lent("", "[consent]\nbenchmarks = false").benchmarks());
    }
}
