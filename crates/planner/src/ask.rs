//! What workloads ask for, in the scheduler's words: [`rules_of`] for what has to hold of a node, [`ask_of`] and
//! [`group_ask`] for all of it.
//!
//! The weights are in tiers, so that what counts more is never outweighed by many of what counts less: who may go to
//! several pools takes the first that has room; then replicas are spread over the attributes that people named, then over
//! nodes; what people prefer is as much as a few replicas; then over the hours in which their nodes leave; then a node that
//! stays, one that ranks well, and last how full it is. That replicas leave together counts less than that they are on one
//! node: that a node leaves is announced and its work moves before, that it breaks is not.

use crate::{cluster::Cluster, home::pools_of, planning::claims};
use lattice_model::{
    Bytes, NodeId, PoolName, ProjectName, WorkloadKey,
    machine::{GpuFacts, GpuState, GpuUnit},
    resource::{Capacity, Node, Workload},
    spec::{
        Affinity, Constraint, GpuCount, GpuRequest, Neighbour, NodeAttribute, RestartPolicy, Test,
        WorkloadSpec,
    },
    taint::borne_by_both,
};
use lattice_scheduler::{
    Rule,
    fleet::{Crowd, GpuNeed, Lasts, Near, Need, Outlook, Over, Pull, Room, Spread, Tags},
    is_such,
};
use std::{collections::BTreeMap, iter::repeat_n, sync::Arc};

/// How much a pool that is named earlier counts, for each place.
const POOL: i32 = 200_000_000;
/// How much a replica that is under the same value of the first attribute counts; under the next one a tenth.
const SPREAD: i32 = 100_000;
/// How long a service should find its node there, in minutes.
const SERVICE: u64 = 480;
/// How long a job that does not say how long it takes should, in minutes.
const JOB: u64 = 120;
/// How much each point of what people wish counts.
const WISH: i32 = 10;
/// How much a replica on the same node counts.
const CROWD: i32 = 1_000;
/// How much a replica on a node that leaves in the same hour of the week counts.
const LEAVING: i32 = 300;
/// How much it counts that a node stays.
const STAYS: i32 = 200;
/// How much the rank of a node counts.
const MERIT: i32 = 50;

/// What is asked of the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) need: Arc<Need>,
    /// What it is known by.
    pub(crate) tags: Tags,
    /// All GPUs that it needs, where those are for several containers.
    pub(crate) gpus: Option<(Vec<GpuRequest>, Vec<Constraint>)>,
}

impl Ask {
    /// The same on one node alone.
    pub(crate) fn only_on(&self, node: NodeId) -> Self {
        let mut need = (*self.need).clone();
        let test = Test::In([node.to_string()].into());
        need.rules.push(Rule::Constraint(Constraint { attribute: NodeAttribute::Id, test }));
        Self { need: Arc::new(need), ..self.clone() }
    }
}

/// The kinds of GPU that there are, by the name that the fleet knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds(BTreeMap<String, (GpuFacts, Bytes)>);

impl Kinds {
    /// The name of a unit's kind.
    pub(crate) fn name(&mut self, unit: &GpuUnit<'_>) -> String {
        let name = format!("{} {} {}", unit.gpu.vendor.as_str(), unit.gpu.model, unit.memory.0);
        if !self.0.contains_key(&name) {
            self.0.insert(name.clone(), (unit.gpu.clone(), unit.memory));
        }
        name
    }

    /// What a replica asks for that others may be in the way of: what the usual mix of asks consists of.
    pub(crate) fn gpus_and_room(&self, spec: &WorkloadSpec) -> Need {
        let gpus = spec.gpus.as_ref().map(|request| gpus_of(request, &spec.placement.constraints, self));
        Need { room: room_of(spec, 1), gpus, ..Need::default() }
    }

    /// Those that are what is asked for.
    fn such(&self, request: &GpuRequest, constraints: &[Constraint]) -> Vec<String> {
        let is = |(gpu, memory): &(GpuFacts, Bytes)| {
            let unit = GpuUnit { id: &gpu.id, gpu, memory: *memory, lent: true, state: GpuState::Proven };
            is_such(&unit, request, constraints)
        };
        let such: Vec<String> =
            self.0.iter().filter(|(_, kind)| is(kind)).map(|(name, _)| name.clone()).collect();
        // An empty list would be any of them.
        if such.is_empty() { vec![String::new()] } else { such }
    }
}

/// What has to hold of a node, whatever it has left, for work of a project.
pub(crate) fn rules_of(cluster: &Cluster, project: &ProjectName, spec: &WorkloadSpec) -> Vec<Rule> {
    let mut rules = vec![Rule::Pools(pools_of(cluster, project, spec))];
    rules.extend(spec.placement.constraints.iter().cloned().map(Rule::Constraint));
    rules.extend(spec.platform.clone().map(Rule::Platform));
    rules.extend(spec.pin.as_ref().map(|pin| Rule::Image(pin.platforms.clone())));
    rules.extend(
        spec.gpus.clone().map(|request| Rule::Gpus(vec![request], spec.placement.constraints.clone())),
    );
    rules
}

fn gpus_of(request: &GpuRequest, constraints: &[Constraint], kinds: &Kinds) -> GpuNeed {
    let count = match request.count {
        GpuCount::All => GpuNeed::ALL,
        GpuCount::Exactly(count) => u16::try_from(count).unwrap_or(GpuNeed::ALL - 1),
    };
    GpuNeed {
        models: kinds.such(request, constraints),
        ids: request.ids.clone(),
        share: request.each(),
        ..GpuNeed::whole(count)
    }
}

/// What a workload's allocations are known by.
pub(crate) fn tag_of(key: &WorkloadKey) -> String {
    key.to_string()
}

/// All that its allocations are known by: by name, and by labels within the project.
pub(crate) fn tags_of(key: &WorkloadKey, spec: &WorkloadSpec) -> Tags {
    let labels = spec.labels.iter().map(|(name, value)| label_tag(key, name, value).into());
    labels.chain([tag_of(key).into()]).collect()
}

fn label_tag(key: &WorkloadKey, name: &str, value: &str) -> String {
    format!("{}#{name}={value}", key.project)
}

/// Whom a workload wants near, and whom not.
pub(crate) fn neighbours(key: &WorkloadKey, spec: &WorkloadSpec) -> Vec<Near> {
    let near = |one: &Affinity, pull: Pull, sign: i32| {
        let tag = match &one.to {
            Neighbour::Service(service) => tag_of(&key.stack_key().workload(service.clone())),
            Neighbour::Of(stack, service) => {
                let key = WorkloadKey {
                    project: key.project.clone(),
                    stack: stack.clone(),
                    workload: service.clone(),
                };
                tag_of(&key)
            }
            Neighbour::Label(name, value) => label_tag(key, name, value),
        };
        let pull = one.weight.map_or(pull, |weight| Pull::Prefers(sign * WISH * i32::from(weight)));
        Near { tag, over: one.over.clone().map(Over::Attribute), pull }
    };
    let wanted = spec.placement.near.iter().map(|one| near(one, Pull::Must, 1));
    wanted.chain(spec.placement.apart.iter().map(|one| near(one, Pull::MustNot, -1))).collect()
}

fn preferences(spec: &WorkloadSpec) -> Vec<(Constraint, i32)> {
    let of = spec.placement.prefers.iter();
    let wishes = of.map(|one| (one.node.clone(), WISH * i32::from(one.weight)));
    in_order(&spec.pool.names()).chain(wishes).collect()
}

/// That pools are better the earlier they are named.
pub(crate) fn in_order(pools: &[PoolName]) -> impl Iterator<Item = (Constraint, i32)> {
    // The last one gets nothing for it, so who names one alone asks nothing of the sort.
    pools.iter().rev().zip(0..).skip(1).map(|(pool, ahead)| {
        let test = Test::In([pool.to_string()].into());
        (Constraint { attribute: NodeAttribute::Pool, test }, POOL * ahead)
    })
}

/// For how long a node should stay: as long as what ends takes, else a good while.
fn lasts(spec: &WorkloadSpec) -> Lasts {
    let minutes = match spec.placement.lasts {
        Some(span) => span.0.div_ceil(60_000),
        None if spec.restart == RestartPolicy::Always => SERVICE,
        None => JOB,
    };
    Lasts { time: Outlook::time_for(minutes), weight: STAYS }
}

/// What is set aside for so many replicas.
pub(crate) fn room_of(spec: &WorkloadSpec, replicas: u32) -> Room {
    let ((cpu, memory), (disk, bandwidth)) = (spec.resources.reserved(), spec.resources.reserved_besides());
    let times = u64::from(replicas);
    Room {
        cpu: u64::from(cpu.0).saturating_mul(times),
        memory: memory.0.saturating_mul(times),
        disk: disk.0.saturating_mul(times),
        bandwidth: bandwidth.0.saturating_mul(times),
        slots: times,
    }
}

/// What may be promised of a node: what its owner lends, by the policy of its pool; of its network what is known.
pub(crate) fn capacity_of(cluster: &Cluster, node: &Node) -> Room {
    let Capacity { cpu, memory, disk } = cluster.promised(node);
    let bandwidth = node.facts.machine.promised_bandwidth().unwrap_or_default();
    Room { cpu: cpu.0.into(), memory: memory.0, disk: disk.0, bandwidth: bandwidth.0, ..Room::UNLIMITED }
}

/// What one replica asks for.
pub(crate) fn ask_of(cluster: &Cluster, workload: &Workload, kinds: &Kinds) -> Ask {
    let spec = &workload.spec;
    let placement = &spec.placement;
    let tag = tag_of(&workload.key);
    let several = workload.replicas > 1 || placement.max_per_node.is_some();
    let spread = |(at, over): (usize, &NodeAttribute)| Spread {
        tag: tag.clone(),
        over: Over::Attribute(over.clone()),
        max_skew: placement.max_skew,
        weight: SPREAD / 10i32.pow(at.min(5) as u32),
    };
    let spreads = placement.spread.iter().enumerate().map(spread);
    let leaving = Spread { tag: tag.clone(), over: Over::Leaving, max_skew: None, weight: LEAVING };
    let need = Need {
        room: room_of(spec, 1),
        gpus: spec.gpus.as_ref().map(|request| gpus_of(request, &placement.constraints, kinds)),
        ports: claims(spec).collect(),
        rules: rules_of(cluster, &workload.key.project, spec),
        prefers: preferences(spec),
        tolerates: placement.tolerations.clone(),
        near: neighbours(&workload.key, spec),
        spread: spreads.chain([leaving]).filter(|_| several).collect(),
        crowd: several.then(|| Crowd { tag: tag.clone(), most: placement.max_per_node, weight: CROWD }),
        lasts: Some(lasts(spec)),
        merit: MERIT,
        priority: placement.priority,
    };
    Ask { need: Arc::new(need), tags: tags_of(&workload.key, spec), gpus: None }
}

/// What workloads that must share a node ask for together, with so many replicas of each.
pub(crate) fn group_ask(
    cluster: &Cluster,
    wanted: &[&Workload],
    replicas: &dyn Fn(&Workload) -> u32,
    kinds: &Kinds,
) -> Ask {
    let mut need = Need {
        lasts: Some(Lasts { time: Outlook::time_for(SERVICE), weight: STAYS }),
        merit: MERIT,
        ..Need::default()
    };
    let (mut requests, mut constraints): (Vec<GpuRequest>, Vec<Constraint>) = (Vec::new(), Vec::new());
    for (at, workload) in wanted.iter().enumerate() {
        let (spec, placement) = (&workload.spec, &workload.spec.placement);
        let replicas = replicas(workload).min(placement.max_per_node.unwrap_or(u32::MAX));
        need.room = need.room.plus(&room_of(spec, replicas));
        need.ports.extend(claims(spec));
        need.tolerates = match at {
            0 => placement.tolerations.clone(),
            _ => borne_by_both(&need.tolerates, &placement.tolerations),
        };
        let rules = rules_of(cluster, &workload.key.project, spec);
        for rule in rules.into_iter().filter(|rule| !matches!(rule, Rule::Gpus(..))) {
            if !need.rules.contains(&rule) {
                need.rules.push(rule);
            }
        }
        need.priority = need.priority.max(placement.priority);
        need.prefers.extend(preferences(spec));
        // Those within the group are near each other anyway, or cannot be told apart.
        let others = |near: &Near| !wanted.iter().any(|one| tag_of(&one.key) == near.tag);
        need.near.extend(neighbours(&workload.key, spec).into_iter().filter(others));
        constraints.extend(placement.constraints.iter().cloned());
        requests.extend(spec.gpus.iter().flat_map(|one| repeat_n(one.clone(), replicas as usize)));
    }
    let size = |request: &&GpuRequest| match request.count {
        GpuCount::All => u32::MAX,
        GpuCount::Exactly(count) => count,
    };
    if let Some(largest) = requests.iter().max_by_key(size) {
        need.gpus = Some(gpus_of(largest, &constraints, kinds));
        need.rules.push(Rule::Gpus(requests.clone(), constraints.clone()));
    }
    let gpus = (requests.len() > 1).then_some((requests, constraints));
    Ask { need: Arc::new(need), tags: Tags::new(), gpus }
}
