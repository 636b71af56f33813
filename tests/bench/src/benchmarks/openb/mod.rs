//! How well GPUs are packed on a public trace: `openb`.
//!
//! The trace is given as a folder with `openb_node_list_gpu_node.csv` and a file of tasks; it is no part of the
//! project. It is replayed as the FGD paper does ("Beware of Fragmentation", USENIX ATC 2023), under ten seeds: by rules
//! whose results are published, which shows that the replay is right, and by the scheduler of the product.

mod baselines;
mod replay;
mod trace;

use crate::{
    benchmark::{Argument, Benchmark, Figure, Outcome, Target},
    lab::Lab,
    select::Wanted,
};
use anyhow::Context as _;
use async_trait::async_trait;
use baselines::Baseline;
use replay::{Shares, by_baseline, by_lattice};
use std::sync::Arc;
use trace::Trace;

/// How often, each with another order of tasks and nodes.
const SEEDS: u64 = 10;

const FIGURES: &[Figure] = &[
    Figure { name: "openb/80", unit: "% of GPUs", target: Target::AtLeast(79.9) },
    Figure { name: "openb/90", unit: "% of GPUs", target: Target::AtLeast(89.8) },
    Figure { name: "openb/100", unit: "% of GPUs", target: Target::AtLeast(94.93) },
    Figure { name: "openb/130", unit: "% of GPUs", target: Target::AtLeast(95.09) },
];

const ARGUMENTS: &[Argument] = &[
    Argument { name: "DATA", about: "the folder with openb_node_list_gpu_node.csv" },
    Argument { name: "PODS", about: "the file of tasks, in that folder or anywhere" },
];

/// The packing of a trace of GPU work.
pub(crate) struct Openb;

#[async_trait]
impl Benchmark for Openb {
    fn about(&self) -> &'static str {
        "share of GPUs that is allocated when so much of a trace has arrived, beside FGD that knows the mix"
    }

    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn arguments(&self) -> &'static [Argument] {
        ARGUMENTS
    }

    async fn measure(&self, _lab: &Lab, _wanted: &Wanted) -> anyhow::Result<Outcome> {
        let given = |at: usize| ARGUMENTS[at].value().unwrap_or_default();
        let (folder, tasks) = (given(0), given(1));
        tokio::task::spawn_blocking(move || measure(&folder, &tasks)).await.context("the replay broke off")?
    }
}

fn measure(folder: &str, tasks: &str) -> anyhow::Result<Outcome> {
    let trace = Arc::new(Trace::read(folder, tasks)?);
    let mut outcome = Outcome::default();
    let mut fgd = None;
    for (name, baseline) in [
        ("random", Some(Baseline::Random)),
        ("first fit", Some(Baseline::FirstFit)),
        ("best fit", Some(Baseline::BestFit)),
        ("FGD, told the mix", Some(Baseline::Fgd)),
        ("Lattice, which learns it", None),
    ] {
        let runs = all(&trace, baseline);
        anyhow::ensure!(runs.len() as u64 == SEEDS, "a replay by {name} broke off");
        let shares = Mean::of(&runs);
        let per = shares.allocated.map(|(mean, deviation)| format!("{mean:.2} ({deviation:.2})")).join(" / ");
        let left = trace.capacity() as f64 / 100_000.0 * (100.0 - shares.allocated[3].0);
        outcome.note(format!(
            "{name}: {per} allocated at 80 / 90 / 100 / 130 % arrived (deviation over {SEEDS} seeds), first refusal at {:.2} %, {left:.0} GPUs left",
            shares.first_refusal
        ));
        match baseline {
            Some(Baseline::Fgd) => fgd = Some(shares),
            Some(_) => {}
            None => {
                for (at, figure) in FIGURES.iter().enumerate() {
                    let reference = fgd.as_ref().map_or(0.0, |fgd| fgd.allocated[at].0);
                    outcome.compare(figure.name, shares.allocated[at].0, reference);
                }
            }
        }
    }
    Ok(outcome)
}

/// All seeds, on as many threads as there are processors.
fn all(trace: &Arc<Trace>, baseline: Option<Baseline>) -> Vec<Shares> {
    let one = |trace: &Trace, seed| match baseline {
        Some(baseline) => by_baseline(trace, seed, baseline),
        None => by_lattice(trace, seed),
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut runs: Vec<(u64, Shares)> = std::thread::scope(|scope| {
        let work = |thread: u64| {
            let seeds = (0..SEEDS).filter(move |seed| seed % threads == thread);
            scope.spawn(move || seeds.map(|seed| (seed, one(trace, seed))).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..threads).map(work).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    runs.sort_by_key(|(seed, _)| *seed);
    runs.into_iter().map(|(_, shares)| shares).collect()
}

/// Over all seeds.
struct Mean {
    /// Mean and standard deviation at each mark.
    allocated: [(f64, f64); 4],
    first_refusal: f64,
}

impl Mean {
    fn of(runs: &[Shares]) -> Self {
        let n = runs.len().max(1) as f64;
        let mean = |of: &dyn Fn(&Shares) -> f64| runs.iter().map(of).sum::<f64>() / n;
        let both = |at: usize| {
            let middle = mean(&|run| run.allocated[at]);
            let squares = mean(&|run| (run.allocated[at] - middle).powi(2));
            (middle, (squares * n / (n - 1.0).max(1.0)).sqrt())
        };
        Self {
            allocated: [both(0), both(1), both(2), both(3)],
            first_refusal: mean(&|run| run.first_refusal),
        }
    }
}
