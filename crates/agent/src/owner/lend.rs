//! What is lent: `agent.toml` says the most, and the rules no more than that. Where both name projects or
//! GPUs, both have to.

use crate::{config::AgentConfig, facts::Machine};
use lattice_converge::{LentGpus, NodePolicy};
use lattice_model::{Bytes, Cpu, resource::Capacity};
use lattice_rules::{Caps, Consent, Gpus, LanRule, Rules, Share, Word};

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

    /// Whether commands may be run in containers, and files copied.
    pub(crate) fn exec(&self) -> bool {
        self.consent.exec.unwrap_or(true)
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
        policy.gpus = match (policy.gpus, &self.caps.gpus) {
            (lent, None) => lent,
            (lent, Some(Gpus::Word(word))) if word == "all" => lent,
            (_, Some(Gpus::Word(_))) => LentGpus::None,
            (LentGpus::None, Some(Gpus::Ids(_))) => LentGpus::None,
            (LentGpus::All, Some(Gpus::Ids(ids))) => LentGpus::Only(ids.clone()),
            (LentGpus::Only(lent), Some(Gpus::Ids(ids))) => {
                LentGpus::Only(lent.into_iter().filter(|id| ids.contains(id)).collect())
            }
        };
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
        let gpus = |config, rules| lent(config, rules).policy(&machine).gpus;
        assert_eq!(gpus("", "[caps]\ngpus = \"all\""), LentGpus::None, "the configuration lends none");
        assert_eq!(gpus("gpus = \"all\"", "[caps]\ngpus = [\"1\"]"), LentGpus::Only(vec!["1".into()]));
        assert_eq!(gpus("gpus = [\"0\"]", "[caps]\ngpus = \"none\""), LentGpus::None);
        assert!(lent("", "").exec() && !lent("", "[consent]\nexec = false").exec());
    }
}
