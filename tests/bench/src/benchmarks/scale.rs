//! `scale-50`: from just before a service of one replica is told to have fifty, until the last of them runs, by the
//! `State.StartedAt` that Docker gives it. The image and the network are there.
//!
//! The reference is what Docker itself takes for forty-nine more containers on that network, created and started
//! directly with the same host configuration, so many at a time as is best on this machine: each number in
//! [`PARALLEL`] is tried first, and the best one then takes turns with Lattice.

use super::direct::{Made, Recipe};
use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::{Cluster, idle_stack},
    engine::{Engine, Events, millis, now},
    lab::Lab,
    progress::{Progress, say},
    select::Wanted,
    stats::median,
};
use anyhow::Context as _;
use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lattice_api::Scale;
use std::time::Duration;

const REPLICAS: u32 = 50;
const ROUNDS: usize = 5;
/// How many containers are made at a time, directly.
const PARALLEL: [usize; 4] = [2, 4, 8, 16];
/// Between two rounds, so that the end of one is not part of the next.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Scale50;

#[async_trait]
impl Benchmark for Scale50 {
    fn about(&self) -> &'static str {
        "a service grows from 1 to 50 replicas on one node, against direct calls to Docker"
    }

    fn figures(&self) -> &'static [Figure] {
        &[Figure { name: "scale-50", unit: "ms", target: Target::RatioAtMost(1.25) }]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let cluster = lab.cluster().await?;
        let mut events = lab.engine().events().await?;
        let recipe = {
            let key = cluster.stack("recipe")?;
            cluster.deploy(&key, &idle_stack(1)?).await?;
            let ids = cluster.started(&mut events, &key, 1).await?;
            let recipe = Recipe::of(lab, &ids[0]).await?;
            cluster.remove(&key).await?;
            recipe
        };
        let mut progress = Progress::new("rounds", PARALLEL.len() + ROUNDS);
        let mut tried = Vec::new();
        for parallel in PARALLEL {
            let took = by_hand(lab, &recipe, parallel, &format!("p{parallel}")).await?;
            progress.step(&format!("directly, {parallel} at a time: {took:.0} ms"));
            tried.push((took, parallel));
            tokio::time::sleep(PAUSE).await;
        }
        let best = tried.iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1, |(_, parallel)| *parallel);
        let (mut lattice, mut raw) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // Whoever comes first changes with each round.
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    lattice.push(by_lattice(&cluster, &mut events, &format!("r{round}")).await?);
                } else {
                    raw.push(by_hand(lab, &recipe, best, &format!("r{round}")).await?);
                }
                tokio::time::sleep(PAUSE).await;
            }
            let last = |times: &[f64]| times.last().copied().unwrap_or_default();
            progress.step(&format!("Lattice {:.0} ms, directly {:.0} ms", last(&lattice), last(&raw)));
        }
        let mut outcome = Outcome::default();
        outcome.compare("scale-50", median(&lattice), median(&raw));
        let tried: Vec<String> =
            tried.iter().map(|(took, parallel)| format!("{parallel} at a time {took:.0} ms")).collect();
        outcome.note(format!("directly: {}; the best of them is the reference", tried.join(", ")));
        Ok(outcome)
    }
}

async fn by_lattice(cluster: &Cluster, events: &mut Events, name: &str) -> anyhow::Result<f64> {
    let key = cluster.stack(name)?;
    cluster.deploy(&key, &idle_stack(1)?).await?;
    let first = cluster.started(events, &key, 1).await?;
    tokio::time::sleep(PAUSE).await;
    events.drain();
    let begin = now();
    let scale = Scale { replicas: REPLICAS };
    cluster.client().scale(&key.workload("web".parse()?), &scale).await.context("scaling")?;
    let ids = cluster.started(events, &key, REPLICAS as usize - first.len()).await?;
    let took = last_start(cluster.engine(), begin, &ids).await?;
    if let Err(error) = cluster.remove(&key).await {
        // Engines up to 20.10 at times count an endpoint of a network that nobody has any more, when many
        // containers end at once, and keep that network until they are restarted. That is no part of this figure.
        let left = cluster.engine().labelled("containers", &format!("lattice.stack={key}")).await?;
        if !left.is_empty() {
            return Err(error);
        }
        say("the engine keeps an unused network; it goes on without it");
    }
    Ok(took)
}

async fn by_hand(lab: &Lab, recipe: &Recipe, parallel: usize, name: &str) -> anyhow::Result<f64> {
    let (engine, name) = (lab.engine(), format!("bench-{}-{name}", lab.run()));
    // The first one, and the network with it.
    let first: Made = recipe.run(engine, &name).await?;
    tokio::time::sleep(PAUSE).await;
    let begin = now();
    let one = |n: u32| recipe.another(engine, &name, format!("{name}-{n}"));
    let ids: Vec<String> =
        stream::iter(1..REPLICAS).map(one).buffer_unordered(parallel).try_collect().await?;
    let took = last_start(engine, begin, &ids).await?;
    let away = |id: String| async move { engine.remove(&id).await };
    stream::iter(ids).map(away).buffer_unordered(parallel).try_collect::<()>().await?;
    if let Err(error) = first.remove(engine).await {
        say(&format!("the engine keeps an unused network: {error:#}"));
    }
    Ok(took)
}

/// When the last of them was started, in milliseconds since `begin`.
async fn last_start(engine: &Engine, begin: i128, ids: &[String]) -> anyhow::Result<f64> {
    let mut last = begin;
    for id in ids {
        last = last.max(engine.started_at(id).await?);
    }
    Ok(millis(begin, last))
}
