//! `rolling-update`: ten replicas that end as soon as they are told to are replaced by those of a new version, one at
//! a time, the old one first, as the policy has it unless told otherwise. From just before the `PUT` of the new version
//! until the last new container runs (`all-new`, by the `State.StartedAt` that Docker gives it), and until the API says
//! that the update is done (`told`), as `lattice rollout status` would. The image and the network are there.
//!
//! The reference is what Docker itself takes for the same steps in the same order: for each of ten containers it is
//! stopped, removed, and one with the same host configuration is created and started in its place.

use super::direct::Recipe;
use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::{Cluster, idle_stack},
    engine::{Engine, Events, millis, now},
    lab::Lab,
    progress::Progress,
    select::Wanted,
    stats::median,
};
use anyhow::{Context as _, bail};
use async_trait::async_trait;
use lattice_api::RolloutState;
use lattice_model::{StackKey, spec::StackSpec};
use std::time::Duration;

const REPLICAS: u32 = 10;
const ROUNDS: usize = 5;
/// Between two rounds, so that the end of one is not part of the next.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the API is asked; short, since it is part of what is measured.
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct RollingUpdate;

#[async_trait]
impl Benchmark for RollingUpdate {
    fn about(&self) -> &'static str {
        "ten replicas are replaced by a new version one at a time, against the same calls to Docker"
    }

    fn figures(&self) -> &'static [Figure] {
        &[
            Figure { name: "rolling-update/all-new", unit: "ms", target: Target::RatioAtMost(1.2) },
            Figure { name: "rolling-update/told", unit: "ms", target: Target::RatioAtMost(1.2) },
        ]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let cluster = lab.cluster().await?;
        let mut events = lab.engine().events().await?;
        let key = cluster.stack("rolling")?;
        cluster.deploy(&key, &version(0)?).await?;
        let ids = cluster.started(&mut events, &key, REPLICAS as usize).await?;
        done(&cluster, &key).await?;
        let recipe = Recipe::of(lab, &ids[0]).await?;
        let mut progress = Progress::new("updates", ROUNDS);
        let (mut new, mut told, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // Whoever comes first changes with each round.
            for turn in 0..2 {
                tokio::time::sleep(PAUSE).await;
                if (round + turn) % 2 == 0 {
                    let times = by_lattice(&cluster, &mut events, &key, round + 1).await?;
                    new.push(times.0);
                    told.push(times.1);
                } else {
                    raw.push(by_hand(lab, &recipe, &format!("u{round}")).await?);
                }
            }
            let last = |times: &[f64]| times.last().copied().unwrap_or_default();
            progress.step(&format!(
                "Lattice {:.0} ms, told after {:.0} ms; directly {:.0} ms",
                last(&new),
                last(&told),
                last(&raw)
            ));
        }
        cluster.remove(&key).await?;
        let mut outcome = Outcome::default();
        outcome.compare("rolling-update/all-new", median(&new), median(&raw));
        outcome.compare("rolling-update/told", median(&told), median(&raw));
        Ok(outcome)
    }
}

/// The stack, in which a variable of the environment tells the versions apart.
fn version(n: usize) -> anyhow::Result<StackSpec> {
    let mut spec = idle_stack(REPLICAS)?;
    for service in spec.workloads.values_mut() {
        service.environment.insert("VERSION".into(), n.to_string());
    }
    Ok(spec)
}

/// Until all are new, and until the API says so; in milliseconds.
async fn by_lattice(
    cluster: &Cluster,
    events: &mut Events,
    key: &StackKey,
    n: usize,
) -> anyhow::Result<(f64, f64)> {
    events.drain();
    let begin = now();
    cluster.deploy(key, &version(n)?).await?;
    let told = done(cluster, key).await?;
    let ids = cluster.started(events, key, REPLICAS as usize).await?;
    Ok((last_start(cluster.engine(), begin, &ids).await?, millis(begin, told)))
}

/// When the API first says that nothing of the stack's last deployment is to come.
async fn done(cluster: &Cluster, key: &StackKey) -> anyhow::Result<i128> {
    let asking = async {
        loop {
            let rollout = cluster.client().rollout(key).await.context("asking how the update fares")?;
            let done =
                |w: &lattice_api::RolloutWorkload| w.state == RolloutState::Done && w.updated == w.replicas;
            if rollout.workloads.iter().all(done) {
                return anyhow::Ok(now());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(told) => told,
        Err(_) => bail!("the update is not done after {} s{}", PATIENCE.as_secs(), cluster.logs()),
    }
}

/// The same, by direct calls; in milliseconds.
async fn by_hand(lab: &Lab, recipe: &Recipe, name: &str) -> anyhow::Result<f64> {
    let (engine, name) = (lab.engine(), format!("bench-{}-{name}", lab.run()));
    let first = recipe.run(engine, &name).await?;
    let mut old = vec![first.container.clone()];
    for n in 1..REPLICAS {
        old.push(recipe.another(engine, &name, format!("{name}-{n}")).await?);
    }
    tokio::time::sleep(PAUSE).await;
    let (begin, mut new) = (now(), Vec::new());
    for (n, id) in old.iter().enumerate() {
        engine.post(&format!("/containers/{id}/stop?t=1"), None).await?;
        engine.delete(&format!("/containers/{id}")).await?;
        new.push(recipe.another(engine, &name, format!("{name}-new-{n}")).await?);
    }
    let took = last_start(engine, begin, &new).await?;
    for id in &new {
        engine.remove(id).await?;
    }
    engine.delete(&format!("/networks/{}", first.network)).await?;
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
