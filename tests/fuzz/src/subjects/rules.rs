//! Rules of placement, as people may write them to the API: whatever services ask for, each plan keeps what every plan
//! keeps, and planning again comes to an end.

use crate::{Draw, Subject, json};
use lattice_model::{
    BitRate, Bytes, Cpu, Duration, NodeId, StackKey, Timestamp, WorkloadKey,
    goal::DesiredState,
    machine::{Bandwidth, GpuFacts, GpuState},
    resource::{Eligibility, Node, TaintEffect, Workload},
    spec::{GpuCount, WorkloadSpec},
};
use lattice_planner::{Cluster, Ledger, ManyNodes, Outlook, Policy, Row, Strategy, invariants};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// Nodes, and what services of a stack are to be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rules {
    nodes: Vec<Machine>,
    services: Vec<Value>,
}

/// A node, in few words.
#[derive(Debug, Serialize, Deserialize)]
struct Machine {
    cores: u32,
    gib: u64,
    gpus: u8,
    site: Option<String>,
    leaves: Option<u8>,
    avoided: bool,
    closed: bool,
}

const CONSTRAINTS: &[&str] = &[
    "node.site == a",
    "node.site != b",
    "node.site in (a, b)",
    "node.site not in (a, c)",
    "node.labels.none does not exist",
    "node.site exists",
    "node.cpu > 2",
    "node.memory <= 8g",
    "node.disk >= 10g",
    "node.gpu.count >= 1",
    "node.gpu.model == L4",
    "node.gpu.memory < 30g",
    "node.battery == no",
];
/// Whether a service publishes a port of the node twice.
fn publishes_twice(spec: &WorkloadSpec) -> bool {
    let ports: Vec<_> = spec.ports.iter().map(|port| (port.published, port.target.protocol)).collect();
    ports.iter().enumerate().any(|(at, port)| port.0.is_some() && ports[..at].contains(port))
}

/// More replicas than these only take time.
const REPLICAS: u32 = 8;
/// So many plans are enough to come to an end, where no node does anything.
const PLANS: usize = 40;

impl Subject for Rules {
    const NAME: &'static str = "rules";

    fn draw(draw: &mut dyn Draw) -> Self {
        let nodes = (0..draw.between(1, 5)).map(|_| machine(draw)).collect();
        let services = (0..draw.between(1, 4))
            .map(|_| {
                let mut service = service(draw);
                if draw.one_in(3) {
                    json::alter(draw, &mut service, &[]);
                }
                service
            })
            .collect();
        Self { nodes, services }
    }

    fn check(&self) -> Result<(), String> {
        let mut cluster = Cluster::default();
        for (n, machine) in self.nodes.iter().enumerate() {
            let node = machine.node(n);
            let outlook = Outlook { leaves: machine.leaves, ..Outlook::default() };
            cluster.outlooks.insert(node.id, outlook);
            cluster.nodes.insert(node.id, Row { revision: 1, value: Arc::new(node) });
        }
        let stack: StackKey = "default/fuzz".parse().map_err(|_| "a stack has a name")?;
        for (service, name) in self.services.iter().zip(["a", "b", "c", "d"]) {
            // As the API reads it: from bytes. What it refuses by its bounds is not planned.
            let Ok(spec) = serde_json::from_str::<WorkloadSpec>(&service.to_string()) else { continue };
            if spec.replicas > REPLICAS
                || spec.gpus.as_ref().is_some_and(|gpus| gpus.count == GpuCount::Exactly(0))
                || publishes_twice(&spec)
            {
                continue;
            }
            let name = name.parse().map_err(|_| "a service has a name")?;
            let workload = workload(stack.workload(name), spec);
            cluster.put_workload(Row { revision: 2, value: Arc::new(workload) });
        }
        let policy = Policy {
            node_loss_after: Duration::from_secs(10),
            many_nodes: ManyNodes { least: 3, percent: 50 },
            strategy: Strategy::Spread,
            rebalance: None,
        };
        let (mut ledger, mut random) = (Ledger::default(), 0_u128);
        for revision in 3..3 + PLANS as u64 {
            let mut draw = || {
                random += 1;
                random
            };
            let stacks = BTreeSet::from([stack.clone()]);
            let (plan, report) = ledger.plan(&cluster, &stacks, &policy, Timestamp(7), &mut draw);
            let broken = invariants::broken(&cluster, &plan);
            if !broken.is_empty() {
                return Err(broken.join("; "));
            }
            if report.pending.iter().any(|pending| pending.why.is_empty()) {
                return Err("something waits, and nobody says why".to_owned());
            }
            if plan.steps.is_empty() {
                return Ok(());
            }
            cluster = invariants::apply(&cluster, &plan, revision);
        }
        Err("planning again goes on for ever".to_owned())
    }
}

impl Machine {
    fn node(&self, n: usize) -> Node {
        let mut node = Node::blank(NodeId::from_random(n as u128 + 1));
        node.capacity.cpu = Cpu::from_cores(self.cores);
        node.capacity.memory = Bytes(self.gib.saturating_mul(1 << 30));
        node.capacity.disk = Bytes(20 << 30);
        node.labels.extend(self.site.clone().map(|site| ("site".to_owned(), site)));
        if self.avoided {
            let effect = if self.leaves.is_some() { TaintEffect::Refuse } else { TaintEffect::Avoid };
            let taint = lattice_model::resource::Taint { key: "night".into(), value: String::new(), effect };
            node.taints.insert(taint);
        }
        if self.closed {
            node.eligibility = Eligibility::Cordoned;
        }
        let facts = &mut node.facts.machine;
        let lent = (n.is_multiple_of(2)).then_some(BitRate(50_000_000));
        facts.bandwidth = Bandwidth { up: lent, down: lent };
        facts.gpus = (0..self.gpus.min(4))
            .map(|at| GpuFacts {
                id: format!("GPU-{n}{at}"),
                index: at.into(),
                model: "NVIDIA L4".into(),
                memory: Bytes(23 << 30),
                lent: true,
                state: GpuState::Proven,
                ..GpuFacts::default()
            })
            .collect();
        node
    }
}

fn workload(key: WorkloadKey, spec: WorkloadSpec) -> Workload {
    Workload {
        key,
        generation: 1,
        replicas: spec.replicas,
        desired: DesiredState::Run,
        restart: 0,
        settled: 0,
        alike: Vec::new(),
        rolled_back: None,
        rollout: None,
        timetable: None,
        moved_at: None,
        spec: Arc::new(spec),
    }
}

fn machine(draw: &mut dyn Draw) -> Machine {
    Machine {
        cores: *draw.of(&[4, 1, 2, 8, 16]),
        gib: *draw.of(&[8, 1, 2, 4, 64]),
        gpus: *draw.of(&[0, 0, 1, 2, 4]),
        site: (*draw.of(&[Some("a"), Some("b"), None])).map(str::to_owned),
        leaves: *draw.of(&[None, Some(8), Some(18)]),
        avoided: draw.one_in(5),
        closed: draw.one_in(10),
    }
}

/// A service that says much about where it goes.
fn service(draw: &mut dyn Draw) -> Value {
    let mut constraints =
        |most: usize| -> Vec<&str> { (0..draw.below(most)).map(|_| *draw.of(CONSTRAINTS)).collect() };
    let (needs, prefers) = (constraints(3), constraints(3));
    let mut placement = json!({ "constraints": needs });
    if !prefers.is_empty() {
        let of = |node: &&str| json!({ "node": node, "weight": 20 });
        placement["prefers"] = prefers.iter().map(of).collect();
    }
    let mut others = |draw: &mut dyn Draw, key: &str| {
        if draw.one_in(4) {
            let mut one = json!({ "to": draw.of(&["a", "b", "tier=x", "other/c"]) });
            if draw.one_in(2) {
                one["over"] = json!("node.site");
            }
            if draw.one_in(2) {
                one["weight"] = json!(draw.between(1, 100));
            }
            placement[key] = json!([one]);
        }
    };
    others(draw, "near");
    others(draw, "apart");
    if draw.one_in(3) {
        placement["spread"] = json!([draw.of(&["node.site", "node.labels.none", "node.cpu"])]);
        placement["max_skew"] = json!(draw.of(&[None, Some(1), Some(2)]));
    }
    if draw.one_in(4) {
        placement["max_per_node"] = json!(draw.between(1, 3));
    }
    placement["priority"] = json!(draw.of(&[0, 0, 5, -5]));
    placement["gang"] = json!(draw.one_in(3));
    if draw.one_in(4) {
        placement["tolerations"] = json!([{ "key": "night" }]);
    }
    let mut service = json!({
        "image": "img",
        "replicas": draw.below(REPLICAS as usize + 1),
        "placement": placement,
        "restart": draw.of(&["always", "never"]),
        "labels": { "tier": draw.of(&["x", "y"]) },
        "resources": {
            "reserved_cpu": draw.of(&[100, 500, 2000]),
            "reserved_memory": u64::from(*draw.of(&[64_u32, 512, 3000])) << 20,
        },
    });
    if draw.one_in(3) {
        service["resources"]["reserved_disk"] = json!(*draw.of(&[1_u64, 8, 30]) << 30);
    }
    if draw.one_in(4) {
        service["resources"]["reserved_bandwidth"] = json!(draw.of(&[1_000_000, 30_000_000]));
    }
    match draw.below(6) {
        0 => service["gpus"] = json!({ "count": { "exactly": 1 }, "share": draw.of(&[250, 400, 1000]) }),
        1 => service["gpus"] = json!({ "count": { "exactly": draw.between(1, 3) }, "memory": 20_u64 << 30 }),
        2 => service["gpus"] = json!({ "count": "all" }),
        _ => {}
    }
    if draw.one_in(4) {
        service["ports"] = json!([{ "target": { "port": 80 }, "published": draw.between(80, 82) }]);
    }
    if draw.one_in(4) {
        service["networks"] = json!({ "default": {} });
        if draw.one_in(2) {
            service["rendezvous"] = json!({ "port": 4000 });
        }
    }
    service
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that is refused at once tries nothing.
    #[test]
    fn what_is_drawn_is_read() {
        struct Counted(u64);
        impl Draw for Counted {
            fn below(&mut self, bound: usize) -> usize {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (self.0 >> 33) as usize % bound.max(1)
            }

            fn bits(&mut self) -> u64 {
                self.0
            }
        }
        let mut draw = Counted(7);
        for _ in 0..300 {
            let service = service(&mut draw).to_string();
            if let Err(error) = serde_json::from_str::<WorkloadSpec>(&service) {
                panic!("{error}: {service}");
            }
        }
    }
}
