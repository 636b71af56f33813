//! `agent-footprint`: what the agent costs its owner while ten containers run and nothing happens: resident memory,
//! processor time over a minute, and the size of its program.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::idle_stack,
    lab::Lab,
    proc, progress,
    select::Wanted,
};
use anyhow::Context as _;
use async_trait::async_trait;
use std::time::Instant;

const CONTAINERS: u32 = 10;
/// After the last start, until what that brought about is over.
const SETTLE_SECS: u64 = 15;
const MEASURE_SECS: u64 = 60;

pub(super) struct AgentFootprint;

#[async_trait]
impl Benchmark for AgentFootprint {
    fn about(&self) -> &'static str {
        "the agent's memory, processor time and size, idle with ten containers"
    }

    fn figures(&self) -> &'static [Figure] {
        &[
            Figure { name: "agent-footprint/rss", unit: "MiB", target: Target::AtMost(20.0) },
            Figure { name: "agent-footprint/cpu", unit: "% of a core", target: Target::AtMost(0.5) },
            Figure { name: "agent-footprint/size", unit: "MiB", target: Target::AtMost(15.0) },
        ]
    }

    async fn measure(&self, lab: &Lab, wanted: &Wanted) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let bytes = std::fs::metadata(lab.program("lattice-agent")?)?.len();
        outcome.add("agent-footprint/size", bytes as f64 / f64::from(1 << 20));
        let cpu = wanted.has("agent-footprint/cpu");
        if !cpu && !wanted.has("agent-footprint/rss") {
            return Ok(outcome);
        }
        let cluster = lab.cluster().await?;
        let mut events = lab.engine().events().await?;
        let key = cluster.stack("idle")?;
        cluster.deploy(&key, &idle_stack(CONTAINERS)?).await?;
        cluster.started(&mut events, &key, CONTAINERS as usize).await?;
        progress::wait("seconds until it is calm", SETTLE_SECS).await;
        let pid = cluster.agent_pid().context("the agent does not say its process")?;
        if cpu {
            let (before, begun) = (proc::cpu_seconds(pid)?, Instant::now());
            progress::wait("seconds of idling", MEASURE_SECS).await;
            let used = proc::cpu_seconds(pid)? - before;
            outcome.add("agent-footprint/cpu", 100.0 * used / begun.elapsed().as_secs_f64());
        }
        outcome.add("agent-footprint/rss", proc::rss_mib(pid)?);
        Ok(outcome)
    }
}
