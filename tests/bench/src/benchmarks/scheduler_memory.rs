//! How many decisions a second the scheduler makes in memory, on one core: `scheduler-memory/<case>`.
//!
//! In the shape of Kubernetes' scheduler_perf: 5,000 nodes of 4 processors, 32 GiB and 110 slots; each ask is a
//! submission of its own, decided and taken in before the next one. The references are the lower limits of Kubernetes'
//! own continuous integration for the same cases, which include its API server: a bound for orientation, not a
//! comparison of like with like.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    lab::Lab,
    select::Wanted,
};
use anyhow::Context as _;
use async_trait::async_trait;
use lattice_model::{AllocationId, NodeId};
use lattice_scheduler::{
    Rule, Strategy,
    fleet::{Fleet, Machine, Near, Need, Over, Pull, Room, Spread, Tags},
};
use std::{sync::Arc, time::Instant};

const NODES: usize = 5_000;

const FIGURES: &[Figure] = &[
    figure("scheduler-memory/basic", 50_000.0),
    figure("scheduler-memory/churn", 7_100.0),
    figure("scheduler-memory/preemption", 5_700.0),
    figure("scheduler-memory/spread", 4_600.0),
    figure("scheduler-memory/affinity", 2_200.0),
    figure("scheduler-memory/anti-affinity", 600.0),
];

const fn figure(name: &'static str, least: f64) -> Figure {
    Figure { name, unit: "decisions/s", target: Target::AtLeast(least) }
}

/// Decisions a second, without a store.
pub(crate) struct SchedulerMemory;

#[async_trait]
impl Benchmark for SchedulerMemory {
    fn about(&self) -> &'static str {
        "decisions a second in memory on one core, 5,000 nodes, in the shape of Kubernetes' scheduler_perf"
    }

    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    async fn measure(&self, _lab: &Lab, wanted: &Wanted) -> anyhow::Result<Outcome> {
        let wanted: Vec<&'static str> =
            FIGURES.iter().map(|figure| figure.name).filter(|name| wanted.has(name)).collect();
        tokio::task::spawn_blocking(move || measure(&wanted)).await.context("a case broke off")?
    }
}

fn measure(wanted: &[&'static str]) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    for name in wanted {
        let case = name.rsplit('/').next().unwrap_or_default();
        let (asked, seconds) = run(case, NODES)?;
        outcome.add(name, asked as f64 / seconds);
        outcome.note(format!("{case}: {asked} decisions in {:.1} ms", seconds * 1000.0));
    }
    Ok(outcome)
}

pub(crate) fn node(at: usize) -> NodeId {
    NodeId::from_random((at as u128) << 80)
}

pub(crate) fn key(at: usize) -> AllocationId {
    AllocationId::from_random((at as u128) << 80)
}

/// Nodes of three zones.
pub(crate) fn fleet(nodes: usize) -> Fleet {
    let mut fleet = Fleet::new(Strategy::Spread);
    let room = Room { cpu: 4_000, memory: 32 << 30, slots: 110, ..Room::UNLIMITED };
    for at in 0..nodes {
        let mut machine = Machine::new(node(at), room);
        let labels = &mut Arc::make_mut(&mut machine.node).labels;
        labels.insert("zone".into(), format!("zone-{}", at % 3));
        labels.insert("site".into(), format!("site-{}", at % 500));
        fleet.put_node(machine);
    }
    fleet
}

/// 100 thousandths of a core, 500 MiB, a slot.
pub(crate) fn small() -> Need {
    Need { room: Room { cpu: 100, memory: 500 << 20, slots: 1, ..Room::default() }, ..Need::default() }
}

fn tags(tag: &str) -> Tags {
    Tags::from([tag.into()])
}

/// How many were decided, and in how many seconds.
fn run(case: &str, nodes: usize) -> anyhow::Result<(usize, f64)> {
    let mut fleet = fleet(nodes);
    let share = |n: usize| n * nodes / NODES;
    // What is there before.
    let before = match case {
        "basic" => 10_000,
        "preemption" => 20_000,
        "anti-affinity" => 1_000,
        _ => 5_000,
    };
    let (need, tags) = match case {
        "spread" => {
            let spread =
                Spread { tag: "blue".into(), over: Over::label("zone"), max_skew: Some(5), weight: 0 };
            (Need { spread: vec![spread], ..small() }, tags("blue"))
        }
        "affinity" => {
            let zones = Rule::Constraint("node.labels.zone in (zone-0, zone-1)".parse()?);
            (Need { rules: vec![zones], ..small() }, Tags::new())
        }
        "anti-affinity" => {
            let near = Near { tag: "green".into(), over: None, pull: Pull::MustNot };
            (Need { near: vec![near], ..small() }, tags("green"))
        }
        "preemption" => {
            let room = Room { cpu: 3_000, ..small().room };
            (Need { room, priority: 10, ..small() }, Tags::new())
        }
        _ => (small(), Tags::new()),
    };
    let need = Arc::new(need);
    let first = match case {
        "preemption" => Arc::new(Need { room: Room { cpu: 900, ..small().room }, ..small() }),
        _ => Arc::clone(&need),
    };
    let mut next = 0;
    for _ in 0..share(before) {
        next += 1;
        fleet.learn(&first);
        fleet.place(key(next), &first, &tags).context("what is there before does not fit")?;
    }
    let asked = share(match case {
        "basic" => 50_000,
        "preemption" => 5_000,
        "anti-affinity" => 3_000,
        _ => 10_000,
    });
    let begun = Instant::now();
    for at in 0..asked {
        next += 1;
        fleet.learn(&need);
        match case {
            "preemption" => {
                let way = fleet.make_way(&need, &tags).context("nobody makes way")?;
                anyhow::ensure!(!way.victims.is_empty(), "there was room without anybody going");
                for victim in way.victims {
                    fleet.release(victim);
                }
            }
            "churn" => {
                // One goes for each that comes, and now and then a node leaves and another comes.
                fleet.release(key(next - share(before)));
                if at % 100 == 99 {
                    let room = fleet.nodes() + at;
                    fleet.remove_node(node(at));
                    let capacity = Room { cpu: 4_000, memory: 32 << 30, slots: 110, ..Room::UNLIMITED };
                    fleet.put_node(Machine::new(node(room), capacity));
                }
            }
            _ => {}
        }
        fleet.place(key(next), &need, &tags).with_context(|| format!("{case}: ask {at} was refused"))?;
    }
    Ok((asked, begun.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_runs_to_its_end() {
        for figure in FIGURES {
            let case = figure.name.rsplit('/').next().unwrap();
            let (asked, seconds) = run(case, 50).unwrap();
            assert!(asked > 0 && seconds > 0.0, "{case}");
        }
    }
}
