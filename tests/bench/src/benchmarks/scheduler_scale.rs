//! What one decision costs in a large cluster, and what the cluster costs in memory: `scheduler-scale`.
//!
//! 10,000 nodes and 100,000 allocations, then asks of a hundred kinds by turns, with rules and without, while others
//! go; each is timed by itself. The same with 100 and 1,000 nodes shows how it grows. Memory is what the process has
//! more than before.

use super::scheduler_memory::{fleet, key, small};
use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    lab::Lab,
    proc,
    select::Wanted,
};
use anyhow::Context as _;
use async_trait::async_trait;
use lattice_scheduler::{
    Rule,
    fleet::{Fleet, Need, Over, Room, Spread, Tags},
};
use std::{sync::Arc, time::Instant};

const FIGURES: &[Figure] = &[
    Figure { name: "scheduler-scale/p99", unit: "ms", target: Target::AtMost(2.0) },
    Figure { name: "scheduler-scale/rss", unit: "MiB", target: Target::AtMost(500.0) },
];
/// How many nodes; each has ten times as many allocations.
const SIZES: [usize; 3] = [100, 1_000, 10_000];
/// Decisions that are timed.
const ROUNDS: usize = 20_000;
/// How many kinds of ask there are.
const KINDS: usize = 100;

/// One decision in a large cluster.
pub(crate) struct SchedulerScale;

#[async_trait]
impl Benchmark for SchedulerScale {
    fn about(&self) -> &'static str {
        "one decision among 10,000 nodes with 100,000 allocations, and the memory that these take"
    }

    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    async fn measure(&self, _lab: &Lab, _wanted: &Wanted) -> anyhow::Result<Outcome> {
        tokio::task::spawn_blocking(measure).await.context("it broke off")?
    }
}

fn measure() -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    for nodes in SIZES {
        let before = resident()?;
        let mut fleet = filled(nodes)?;
        let mut times = decide(&mut fleet, nodes, ROUNDS)?;
        let refused = refuse(&mut fleet, nodes)?;
        let used = (resident()? - before).max(0.0);
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        outcome.note(format!(
            "{nodes} nodes, {} allocations: median {:.1} µs, p99 {:.1} µs, longest {:.1} µs; a refusal with its account {:.1} µs; {used:.0} MiB",
            nodes * 10,
            at(0.5) * 1e6,
            at(0.99) * 1e6,
            at(1.0) * 1e6,
            refused * 1e6
        ));
        if nodes == SIZES[2] {
            outcome.add("scheduler-scale/p99", at(0.99) * 1e3);
            outcome.add("scheduler-scale/rss", used);
        }
    }
    Ok(outcome)
}

fn resident() -> anyhow::Result<f64> {
    proc::rss_mib(std::process::id())
}

/// Asks of different sizes, some with rules.
fn kinds() -> Vec<Arc<Need>> {
    let kind = |at: usize| {
        let room = Room { cpu: 20 + 5 * (at as u64 % 20), memory: (100 + at as u64) << 20, ..small().room };
        let mut need = Need { room, ..small() };
        if at % 4 == 1 {
            let zone = format!("node.labels.zone == zone-{}", at % 3);
            need.rules.extend(zone.parse().map(Rule::Constraint));
        }
        if at % 4 == 2 {
            let tag = format!("service-{at}");
            need.spread.push(Spread { tag, over: Over::label("zone"), max_skew: Some(3), weight: 1 });
        }
        if at % 4 == 3 {
            let tag = format!("service-{at}");
            need.spread.push(Spread { tag, over: Over::label("site"), max_skew: None, weight: 1 });
        }
        Arc::new(need)
    };
    (0..KINDS).map(kind).collect()
}

fn tags(at: usize) -> Tags {
    Tags::from([format!("service-{}", at % KINDS).as_str().into()])
}

/// Ten on each node.
fn filled(nodes: usize) -> anyhow::Result<Fleet> {
    let (mut fleet, kinds) = (fleet(nodes), kinds());
    for at in 0..nodes * 10 {
        fleet.place(key(at), &kinds[at % KINDS], &tags(at)).context("it does not fit")?;
    }
    Ok(fleet)
}

/// Seconds that each decision took; one goes for each that comes.
fn decide(fleet: &mut Fleet, nodes: usize, rounds: usize) -> anyhow::Result<Vec<f64>> {
    let kinds = kinds();
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        fleet.release(key(round));
        let (kind, tags) = (&kinds[round % KINDS], tags(round));
        let begun = Instant::now();
        let placed = fleet.place(key(nodes * 10 + round), kind, &tags);
        times.push(begun.elapsed().as_secs_f64());
        placed.context("it does not fit")?;
    }
    Ok(times)
}

/// Seconds that it takes to say why an ask fits nowhere; the median.
fn refuse(fleet: &mut Fleet, nodes: usize) -> anyhow::Result<f64> {
    let need = Arc::new(Need { room: Room { cpu: 1 << 40, ..small().room }, ..small() });
    let mut times = Vec::new();
    for round in 0..100 {
        let begun = Instant::now();
        let placed = fleet.place(key(nodes * 10 + ROUNDS + round), &need, &Tags::new());
        times.push(begun.elapsed().as_secs_f64());
        anyhow::ensure!(placed.is_err(), "it fits where it cannot");
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_one_is_decided() {
        let mut fleet = filled(30).unwrap();
        assert_eq!(decide(&mut fleet, 30, 200).unwrap().len(), 200);
        assert_eq!(fleet.allocations(), 300);
    }
}
