//! `restart-latency`: from just before a container is killed until what replaces it runs. Each container is killed
//! once, so that no back-off is part of it.
//!
//! The reference is what Docker itself takes: the same kill, a wait until it has ended, and a start, called directly,
//! in turns with Lattice.

use super::direct::Recipe;
use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::idle_stack,
    engine::{Engine, Event, Events, millis, now},
    lab::Lab,
    progress::Progress,
    select::Wanted,
    stats::{median, percentile},
};
use anyhow::Context as _;
use async_trait::async_trait;
use std::time::Duration;

const ROUNDS: usize = 12;
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct RestartLatency;

#[async_trait]
impl Benchmark for RestartLatency {
    fn about(&self) -> &'static str {
        "a container is killed until what replaces it runs"
    }

    fn figures(&self) -> &'static [Figure] {
        &[Figure { name: "restart-latency", unit: "ms", target: Target::AtMost(1000.0) }]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let engine = lab.engine();
        let cluster = lab.cluster().await?;
        let mut events = engine.events().await?;
        let key = cluster.stack("restart")?;
        cluster.deploy(&key, &idle_stack(ROUNDS as u32)?).await?;
        let ids = cluster.started(&mut events, &key, ROUNDS).await?;
        let recipe = Recipe::of(lab, &ids[0]).await?;
        let name = |round| format!("bench-{}-k{round}", lab.run());
        let (mut lattice, mut raw) = (Vec::new(), Vec::new());
        let mut progress = Progress::new("kills", ROUNDS);
        for (round, id) in ids.iter().enumerate() {
            let made = recipe.run(engine, &name(round)).await?;
            tokio::time::sleep(PAUSE).await;
            raw.push(by_hand(engine, &made.container).await?);
            made.remove(engine).await?;
            tokio::time::sleep(PAUSE).await;
            let time = by_lattice(engine, &mut events, id).await;
            lattice.push(time.with_context(|| cluster.logs())?);
            progress.step(&format!("Lattice {:.0} ms, directly {:.0} ms", lattice[round], raw[round]));
        }
        let mut outcome = Outcome::default();
        outcome.compare("restart-latency", median(&lattice), median(&raw));
        outcome.note(format!(
            "slowest {:.0} ms; directly {:.0} ms",
            percentile(&lattice, 1.0),
            percentile(&raw, 1.0)
        ));
        Ok(outcome)
    }
}

/// Kills a container of Lattice's, and waits for a start of the same allocation.
async fn by_lattice(engine: &Engine, events: &mut Events, id: &str) -> anyhow::Result<f64> {
    let seen = engine.inspect(id).await?;
    let allocation =
        seen["Config"]["Labels"]["lattice.allocation"].as_str().context("no allocation")?.to_owned();
    events.drain();
    let begin = now();
    engine.post(&format!("/containers/{id}/kill?signal=KILL"), None).await?;
    let fits = |event: &Event| {
        event.is("container", "start") && event.attribute("lattice.allocation") == Some(&allocation)
    };
    let seen = events.until("the replacement's start", PATIENCE, fits).await?;
    let id = seen.last().map(|event| event.actor.id.clone()).unwrap_or_default();
    Ok(millis(begin, engine.started_at(&id).await?))
}

async fn by_hand(engine: &Engine, id: &str) -> anyhow::Result<f64> {
    let begin = now();
    engine.post(&format!("/containers/{id}/kill?signal=KILL"), None).await?;
    engine.post(&format!("/containers/{id}/wait?condition=not-running"), None).await?;
    engine.post(&format!("/containers/{id}/start"), None).await?;
    Ok(millis(begin, engine.started_at(id).await?))
}
