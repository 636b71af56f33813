//! Pools: named groups of nodes, what they promise, and whom their rules take.
//!
//! A node is in one pool at a time; what it may be trusted with hangs on that. Beginning: [`Pool`]. A pool's
//! [`Rule`] says which nodes belong to it; who moves them, and when, is the planner's. Rejected: pools that overlap,
//! since trust, quotas and promises would then be several at once.

use crate::{
    name::{PoolName, ProjectName},
    quota::grown,
    resource::Capacity,
    spec::{Constraint, GpuCount, GpuRequest, InvalidConstraint, NodeAttribute, WorkloadSpec},
    taint::Taint,
    time::Timestamp,
    unit::{Bytes, Cpu, Gpus},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// A group of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For people and programs.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether volumes and secrets may go to its nodes, whose owners can read them.
    pub trusted: bool,
    /// The projects that may use it; `None` is all.
    #[serde(default)]
    pub projects: Option<BTreeSet<ProjectName>>,
    /// Taints that its nodes have besides their own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taints: BTreeSet<Taint>,
    /// Which nodes belong to it by themselves; `None` is that people say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<PoolRule>,
    /// What a project may use there at the most.
    #[serde(default, skip_serializing_if = "PoolQuotas::is_empty")]
    pub quotas: PoolQuotas,
    /// How much of its nodes is promised.
    #[serde(default, skip_serializing_if = "Oversubscription::is_default")]
    pub oversubscription: Oversubscription,
    /// When it was made, by the server's clock.
    pub created_at: Timestamp,
}

impl Pool {
    /// The pool that is always there: trusted, for all projects.
    pub fn default_pool(now: Timestamp) -> Self {
        Self {
            name: PoolName::default_pool(),
            description: "nodes that were told no other pool".into(),
            labels: BTreeMap::new(),
            trusted: true,
            projects: None,
            taints: BTreeSet::new(),
            rule: None,
            quotas: PoolQuotas::default(),
            oversubscription: Oversubscription::default(),
            created_at: now,
        }
    }

    /// Whether a project may use it.
    pub fn takes(&self, project: &ProjectName) -> bool {
        self.projects.as_ref().is_none_or(|projects| projects.contains(project))
    }

    /// What may be promised of a node that lends so much.
    #[must_use]
    pub fn promised(&self, lent: &Capacity) -> Capacity {
        self.oversubscription.of(lent)
    }
}

/// By which rule nodes belong to a pool, and before which others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PoolRule {
    /// What has to hold of a node.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub rule: Rule,
    /// Of several rules that hold of a node that of the highest priority counts; of equals the first by the pool's name.
    #[serde(default)]
    pub priority: i16,
    /// An operator said that facts which a node states itself suffice although the pool is trusted.
    #[serde(default)]
    pub trusts_claims: bool,
}

/// Constraints that all have to hold of a node: `node.gpu.memory >= 40g and node.region == eu`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule(Vec<Constraint>);

/// Why a text is no rule of a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// There is nothing in it, or too much.
    #[error("a rule has {0} constraints; write 1 to 20, with `and` between them")]
    Count(usize),
    /// It speaks of pools.
    #[error("a rule that says who is in which pool cannot ask for node.pool; name what the node is or has")]
    Pool,
    /// One of them is none.
    #[error(transparent)]
    Constraint(#[from] InvalidConstraint),
}

impl Rule {
    /// The most constraints of a rule.
    pub const MOST: usize = 20;

    /// A rule of these.
    ///
    /// # Errors
    /// When there are none or too many, or one is about pools.
    pub fn new(constraints: Vec<Constraint>) -> Result<Self, InvalidRule> {
        if !(1..=Self::MOST).contains(&constraints.len()) {
            return Err(InvalidRule::Count(constraints.len()));
        }
        match constraints.iter().any(|constraint| constraint.attribute == NodeAttribute::Pool) {
            true => Err(InvalidRule::Pool),
            false => Ok(Self(constraints)),
        }
    }

    /// What has to hold.
    pub fn constraints(&self) -> &[Constraint] {
        &self.0
    }
}

/// The parts between the word `and`, where it stands outside of parentheses.
fn conjuncts(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0u32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && c.is_whitespace() => {
                let word = text.get(at + c.len_utf8()..at + c.len_utf8() + 3);
                let after = text[at..].chars().nth(4);
                if word.is_some_and(|word| word.eq_ignore_ascii_case("and"))
                    && after.is_some_and(char::is_whitespace)
                    && at >= begin
                {
                    parts.push(&text[begin..at]);
                    begin = at + c.len_utf8() + 3;
                }
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        if text.trim().is_empty() {
            return Err(InvalidRule::Count(0));
        }
        let parts = conjuncts(text);
        if parts.len() > Self::MOST {
            return Err(InvalidRule::Count(parts.len()));
        }
        Self::new(parts.into_iter().map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl TryFrom<String> for Rule {
    type Error = InvalidRule;

    fn try_from(text: String) -> Result<Self, InvalidRule> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, constraint) in self.0.iter().enumerate() {
            write!(f, "{}{constraint}", if n == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

/// How much of what nodes lend is promised to replicas, in per cent: more than 100 where they seldom need all that they
/// ask for, less to keep something back. Containers keep their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Oversubscription {
    /// Of the processors.
    #[serde(default = "hundred")]
    pub cpu_percent: u16,
    /// Of the memory.
    #[serde(default = "hundred")]
    pub memory_percent: u16,
}

const fn hundred() -> u16 {
    100
}

impl Default for Oversubscription {
    fn default() -> Self {
        Self { cpu_percent: 100, memory_percent: 100 }
    }
}

impl Oversubscription {
    /// What it may be.
    pub const RANGE: std::ops::RangeInclusive<u16> = 10..=1000;

    /// Whether exactly what is lent is promised.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether both are in [`Self::RANGE`].
    pub fn is_valid(&self) -> bool {
        Self::RANGE.contains(&self.cpu_percent) && Self::RANGE.contains(&self.memory_percent)
    }

    /// What is promised of a node that lends so much.
    #[must_use]
    pub fn of(&self, lent: &Capacity) -> Capacity {
        let cpu = u64::from(lent.cpu.0) * u64::from(self.cpu_percent) / 100;
        let memory = u128::from(lent.memory.0) * u128::from(self.memory_percent) / 100;
        Capacity {
            cpu: Cpu(u32::try_from(cpu).unwrap_or(u32::MAX)),
            memory: Bytes(u64::try_from(memory).unwrap_or(u64::MAX)),
            disk: lent.disk,
        }
    }
}

/// What a project may use in a pool at the most; without a number there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PoolQuota {
    /// Processors that its replicas ask for together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory that its replicas ask for together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// GPUs that its replicas ask for together; `all` of a node counts as one, and a share as what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Replicas of all services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocations: Option<u32>,
}

/// The quotas of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PoolQuotas {
    /// Of each project that has none of its own.
    #[serde(default, skip_serializing_if = "PoolQuota::is_empty")]
    pub each: PoolQuota,
    /// Of single projects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub projects: BTreeMap<ProjectName, PoolQuota>,
}

impl PoolQuotas {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// That of a project.
    pub fn of(&self, project: &ProjectName) -> PoolQuota {
        self.projects.get(project).copied().unwrap_or(self.each)
    }
}

/// What a project uses in a pool, counted as [`PoolQuota`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PoolUsage {
    /// Processors that its replicas ask for together, whether they run or are stopped.
    pub cpu: Cpu,
    /// Memory that its replicas ask for together.
    pub memory: Bytes,
    /// GPUs that its replicas ask for together, with shares of them.
    pub gpus: Gpus,
    /// Replicas of all services.
    pub allocations: u32,
}

impl PoolUsage {
    /// Counts so many replicas.
    pub fn add(&mut self, replicas: u32, spec: &WorkloadSpec) {
        let (cpu, memory) = spec.resources.reserved();
        let gpus = spec.gpus.as_ref().map_or(0, |request| match request.count {
            GpuCount::All => u32::from(GpuRequest::WHOLE),
            GpuCount::Exactly(n) => n.saturating_mul(request.each().into()),
        });
        self.cpu = Cpu(self.cpu.0.saturating_add(cpu.0.saturating_mul(replicas)));
        self.memory = Bytes(self.memory.0.saturating_add(memory.0.saturating_mul(replicas.into())));
        self.gpus = Gpus(self.gpus.0.saturating_add(gpus.saturating_mul(replicas)));
        self.allocations = self.allocations.saturating_add(replicas);
    }
}

impl PoolQuota {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a change would use beyond the bounds: what it is, how much then, how much now, and the bound.
    /// A change that uses no more of something than before passes, however low the bound has become.
    pub fn exceeded(&self, before: &PoolUsage, after: &PoolUsage) -> Vec<String> {
        let Self { cpu, memory, gpus, allocations } = *self;
        let found = [
            grown("processors", cpu, before.cpu, after.cpu),
            grown("memory", memory, before.memory, after.memory),
            grown("GPUs", gpus.map(Gpus::whole), before.gpus, after.gpus),
            grown("replicas", allocations, before.allocations, after.allocations),
        ];
        found.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_back_as_they_were() {
        for text in [
            "node.labels.env == prod",
            "node.gpu.memory >= 40g and node.labels.region == eu",
            "node.labels.a in (x and y, z) and node.battery does not exist",
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule, "{text}");
        }
        let rule: Rule =
            "node.region == eu AND\n  node.cpu >= 4 and node.owner in (ann, ben)".parse().unwrap();
        assert_eq!(rule.constraints().len(), 3, "{rule}");
        assert!(matches!("node.pool == a".parse::<Rule>(), Err(InvalidRule::Pool)));
        for text in ["", " ", "node.cpu >= 4 and", "and node.cpu >= 4", "node.cpu >= 4 and and node.cpu >= 4"]
        {
            assert!(text.parse::<Rule>().is_err(), "{text:?}");
        }
        let many = vec!["node.battery exists"; 21].join(" and ");
        assert!(matches!(many.parse::<Rule>(), Err(InvalidRule::Count(21))));
    }

    #[test]
    fn more_or_less_than_is_lent_is_promised() {
        let lent = Capacity { cpu: Cpu::from_cores(4), memory: Bytes::from_mib(1000), disk: Bytes::GIB };
        assert_eq!(Oversubscription::default().of(&lent), lent);
        let policy = Oversubscription { cpu_percent: 250, memory_percent: 90 };
        let promised = policy.of(&lent);
        assert_eq!((promised.cpu, promised.memory), (Cpu::from_cores(10), Bytes::from_mib(900)));
        let all = Capacity { cpu: Cpu(u32::MAX), memory: Bytes(u64::MAX), disk: Bytes(0) };
        assert_eq!(policy.of(&all).cpu, Cpu(u32::MAX), "it saturates");
        assert!(!Oversubscription { cpu_percent: 9, ..policy }.is_valid());
    }

    #[test]
    fn a_bound_holds_what_grows_and_a_project_may_have_its_own() {
        let small = PoolQuota { allocations: Some(2), gpus: Some(1), ..PoolQuota::default() };
        let lab: ProjectName = "lab".parse().unwrap();
        let quotas = PoolQuotas { each: small, projects: [(lab.clone(), PoolQuota::default())].into() };
        assert_eq!((quotas.of(&lab), quotas.of(&"shop".parse().unwrap())), (PoolQuota::default(), small));
        let of = |replicas| {
            let mut usage = PoolUsage::default();
            usage.add(replicas, &WorkloadSpec::of_image("img"));
            usage
        };
        assert!(small.exceeded(&of(0), &of(2)).is_empty() && small.exceeded(&of(5), &of(4)).is_empty());
        let over = small.exceeded(&of(2), &of(3));
        assert_eq!(over, ["replicas: 3 would be used, 2 are used now, the limit is 2"]);
        // Four quarters are one GPU, and a fifth is beyond it, however they came together.
        let quarters = |replicas| {
            let mut usage = PoolUsage::default();
            let quarter = GpuRequest { share: Some(250), ..GpuRequest::any(GpuCount::Exactly(1)) };
            usage.add(replicas, &WorkloadSpec { gpus: Some(quarter), ..WorkloadSpec::of_image("img") });
            usage
        };
        let one = PoolQuota { gpus: Some(1), ..PoolQuota::default() };
        assert!(one.exceeded(&quarters(0), &quarters(4)).is_empty());
        let over = one.exceeded(&quarters(5), &quarters(6));
        assert_eq!(over, ["GPUs: 1.5 would be used, 1.25 are used now, the limit is 1"]);
        assert_eq!(serde_json::to_value(quarters(5)).unwrap()["gpus"], 1.25);
    }
}
