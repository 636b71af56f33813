//! `deploy-latency`: from just before the request that deploys a stack is sent until its container runs, by the
//! `State.StartedAt` that Docker gives it. The image is there; the stack has one service on a network of its own.
//!
//! The reference is what Docker itself takes for the same: network, container, start, with the same host
//! configuration, called directly, in turns with Lattice. What Docker Swarm takes for the same is said beside it.

use super::{
    direct::{Made, Recipe},
    swarm,
};
use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::{Cluster, idle_stack},
    engine::{Event, Events, millis, now},
    lab::Lab,
    progress::{Progress, say},
    select::Wanted,
    stats::{median, percentile},
};
use async_trait::async_trait;
use std::time::Duration;

const ROUNDS: usize = 40;
const WARM_UP: usize = 5;
/// Between two rounds, so that the end of one is not part of the next.
const PAUSE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct DeployLatency;

/// When things happened in one round, in milliseconds since its begin.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// The server's answer, with Lattice alone.
    accepted: f64,
    network: f64,
    created: f64,
    connected: f64,
    started: f64,
}

#[async_trait]
impl Benchmark for DeployLatency {
    fn about(&self) -> &'static str {
        "a stack is deployed until its container runs, against direct calls to Docker"
    }

    fn figures(&self) -> &'static [Figure] {
        &[
            Figure { name: "deploy-latency/median", unit: "ms", target: Target::RatioAtMost(1.2) },
            Figure { name: "deploy-latency/p95", unit: "ms", target: Target::RatioAtMost(1.2) },
        ]
    }

    async fn measure(&self, lab: &Lab, _: &Wanted) -> anyhow::Result<Outcome> {
        let cluster = lab.cluster().await?;
        let mut events = lab.engine().events().await?;
        let recipe = warm_up(lab, &cluster, &mut events).await?;
        let (mut lattice, mut raw) = (Vec::new(), Vec::new());
        let mut progress = Progress::new("rounds", ROUNDS);
        for round in 0..ROUNDS {
            // Whoever comes first changes with each round.
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    lattice.push(by_lattice(&cluster, &mut events, &format!("r{round}")).await?);
                } else {
                    raw.push(by_hand(lab, &recipe, &mut events, &format!("r{round}")).await?);
                }
                tokio::time::sleep(PAUSE).await;
            }
            let last = |times: &[Times]| times.last().map_or(0.0, |times| times.started);
            progress.step(&format!("Lattice {:.0} ms, directly {:.0} ms", last(&lattice), last(&raw)));
        }

        let mut outcome = Outcome::default();
        let started = |times: &[Times]| times.iter().map(|times| times.started).collect::<Vec<_>>();
        let (ours, theirs) = (started(&lattice), started(&raw));
        outcome.compare("deploy-latency/median", median(&ours), median(&theirs));
        outcome.compare("deploy-latency/p95", percentile(&ours, 0.95), percentile(&theirs, 0.95));
        let since = |times: &Times| times.started - times.accepted;
        let since: Vec<_> = lattice.iter().map(since).collect();
        outcome.note(format!("from the server's answer until it runs: median {:.0} ms", median(&since)));
        outcome.note(format!("medians, ms since the begin: Lattice {}", phases(&lattice)));
        outcome.note(format!("medians, ms since the begin: directly {}", phases(&raw)));

        tokio::time::sleep(PAUSE).await;
        match swarm::measure(lab, &mut events).await {
            Ok(times) => outcome.note(format!(
                "Docker Swarm, same run: median {:.0} ms, p95 {:.0} ms; ratio to direct calls {:.2} ({} rounds, own network)",
                median(&times),
                percentile(&times, 0.95),
                median(&times) / median(&theirs),
                times.len(),
            )),
            Err(error) => say(&format!("Docker Swarm is left out: {error:#}")),
        }
        Ok(outcome)
    }
}

/// Both ways some times, until caches are warm. The recipe is of the last stack that Lattice made.
async fn warm_up(lab: &Lab, cluster: &Cluster, events: &mut Events) -> anyhow::Result<Recipe> {
    let key = cluster.stack("recipe")?;
    cluster.deploy(&key, &idle_stack(1)?).await?;
    let ids = cluster.started(events, &key, 1).await?;
    let recipe = Recipe::of(lab, &ids[0]).await?;
    cluster.remove(&key).await?;
    for round in 0..WARM_UP {
        by_lattice(cluster, events, &format!("w{round}")).await?;
        by_hand(lab, &recipe, events, &format!("w{round}")).await?;
    }
    Ok(recipe)
}

async fn by_lattice(cluster: &Cluster, events: &mut Events, name: &str) -> anyhow::Result<Times> {
    let (key, spec) = (cluster.stack(name)?, idle_stack(1)?);
    let stack = key.to_string();
    events.drain();
    let begin = now();
    cluster.deploy(&key, &spec).await?;
    let accepted = millis(begin, now());
    let fits =
        |event: &Event| event.is("container", "start") && event.attribute("lattice.stack") == Some(&stack);
    let seen = events.until(&format!("the start of {stack}"), PATIENCE, fits).await;
    let seen = seen.map_err(|error| error.context(cluster.logs()))?;
    let times = times(cluster.engine(), begin, &seen).await?;
    cluster.remove(&key).await?;
    Ok(Times { accepted, ..times })
}

async fn by_hand(lab: &Lab, recipe: &Recipe, events: &mut Events, name: &str) -> anyhow::Result<Times> {
    let name = format!("bench-{}-{name}", lab.run());
    events.drain();
    let begin = now();
    let made: Made = recipe.run(lab.engine(), &name).await?;
    let fits = |event: &Event| event.is("container", "start") && event.actor.id == made.container;
    let seen = events.until(&format!("the start of {name}"), PATIENCE, fits).await?;
    let times = times(lab.engine(), begin, &seen).await?;
    made.remove(lab.engine()).await?;
    Ok(times)
}

/// Of the container whose start is the last of these events.
async fn times(engine: &crate::engine::Engine, begin: i128, seen: &[Event]) -> anyhow::Result<Times> {
    let id = seen.last().map(|event| event.actor.id.clone()).unwrap_or_default();
    let at = |fits: &dyn Fn(&Event) -> bool| {
        seen.iter().find(|event| fits(event)).map_or(f64::NAN, |event| millis(begin, event.at))
    };
    let joins = |event: &Event| event.is("network", "connect") && event.attribute("container") == Some(&id);
    let network = seen.iter().find(|event| joins(event)).map(|event| event.actor.id.clone());
    Ok(Times {
        accepted: 0.0,
        network: at(&|event| event.is("network", "create") && Some(&event.actor.id) == network.as_ref()),
        created: at(&|event| event.is("container", "create") && event.actor.id == id),
        connected: at(&joins),
        started: millis(begin, engine.started_at(&id).await?),
    })
}

fn phases(times: &[Times]) -> String {
    let of = |part: fn(&Times) -> f64| median(&times.iter().map(part).collect::<Vec<_>>());
    format!(
        "accepted {:.1}, network made {:.1}, container made {:.1}, network joined {:.1}, runs {:.1}",
        of(|t| t.accepted),
        of(|t| t.network),
        of(|t| t.created),
        of(|t| t.connected),
        of(|t| t.started)
    )
}
