//! `availability`: how many jobs finish before their host leaves. A fleet of made-up hosts (or, with `TRACE=<file>`, a
//! recorded one: host, up from, up to, in hours) plays the same comings, goings and jobs to three policies: best fit,
//! which knows nothing of availability; Lattice, which learns while it goes; and one that is told each host's true
//! distribution and hours, but not the future. The figure is Lattice's gain over best fit as a share of what the
//! informed one gains.

use crate::{
    benchmark::{Argument, Benchmark, Figure, Outcome, Target},
    lab::Lab,
    progress::Progress,
    select::Wanted,
};
use anyhow::Context as _;
use async_trait::async_trait;
use lattice_availability::simulation::{Host, Policy, Tally, Work, fleet, recorded, run};

const HOSTS: u32 = 300;
const WEEKS: u32 = 12;
const SEEDS: u64 = 3;
const TRACE: Argument =
    Argument { name: "TRACE", about: "a recorded series: host, up from, up to, in hours" };

pub(super) struct Availability;

#[async_trait]
impl Benchmark for Availability {
    fn about(&self) -> &'static str {
        "jobs that finish before their host leaves, by what is known of hosts"
    }

    fn figures(&self) -> &'static [Figure] {
        &[Figure { name: "availability", unit: "of the informed gain", target: Target::AtLeast(0.9) }]
    }

    async fn measure(&self, _: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let text = match TRACE.value() {
            Some(path) => {
                Some(std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?)
            }
            None => None,
        };
        tokio::task::spawn_blocking(move || play(text.as_deref())).await?
    }
}

fn play(series: Option<&str>) -> anyhow::Result<Outcome> {
    let recorded = series.map(recorded).transpose().map_err(anyhow::Error::msg)?;
    let mut outcome = Outcome::default();
    let mut sums = [0.0; 3];
    let mut progress = Progress::new("seeds", SEEDS as usize);
    for seed in 1..=SEEDS {
        let made;
        let hosts: &[Host] = match &recorded {
            Some(hosts) => hosts,
            None => {
                made = fleet(HOSTS, WEEKS, seed);
                &made
            }
        };
        // What is recorded may be short: learning is part of it then.
        let from_week = if recorded.is_some() { 0 } else { 4 };
        let work = Work { seed, from_week, ..Work::default() };
        let play = |policy| run(hosts, &work, policy);
        let tallies = [play(Policy::BestFit), play(Policy::Learned), play(Policy::Informed)];
        for (sum, tally) in sums.iter_mut().zip(&tallies) {
            *sum += tally.share() / SEEDS as f64;
        }
        let [blind, learned, informed] = tallies.map(|tally| 100.0 * tally.share());
        progress.step(&format!("best fit {blind:.2} %, learned {learned:.2} %, informed {informed:.2} %"));
        let Tally { placed, refused, .. } = tallies[1];
        outcome.note(format!(
            "availability, seed {seed}: {} hosts, {placed} jobs placed, {refused} without room; finished {blind:.2} % \
             with best fit, {learned:.2} % with what was learned, {informed:.2} % informed",
            hosts.len()
        ));
    }
    let [blind, learned, informed] = sums;
    anyhow::ensure!(
        informed > blind,
        "knowing the hosts gains nothing on this series ({blind:.4} of the jobs finish with best fit, {informed:.4} \
         informed), so that no share of it can be told; take a series in which hosts leave"
    );
    outcome.add("availability", (learned - blind) / (informed - blind));
    Ok(outcome)
}
