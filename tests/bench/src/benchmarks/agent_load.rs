//! `agent-load`: what the agent costs its owner under load: fifty containers with a health check every five seconds
//! each, every condition of the machine looked at, heartbeats that say how busy it is and its link measured.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::idle_stack,
    lab::Lab,
    proc, progress,
    select::Wanted,
};
use anyhow::Context as _;
use async_trait::async_trait;
use lattice_model::{Duration as Span, spec::HealthCheck};
use std::time::Instant;

const CONTAINERS: u32 = 50;
/// After the last start, until what that brought about is over.
const SETTLE_SECS: u64 = 30;
const MEASURE_SECS: u64 = 60;

pub(super) struct AgentLoad;

#[async_trait]
impl Benchmark for AgentLoad {
    fn about(&self) -> &'static str {
        "the agent's memory and processor time with fifty containers, all health and metrics on"
    }

    fn figures(&self) -> &'static [Figure] {
        &[
            Figure { name: "agent-load/rss", unit: "MiB", target: Target::AtMost(30.0) },
            Figure { name: "agent-load/cpu", unit: "% of a core", target: Target::AtMost(2.0) },
        ]
    }

    async fn measure(&self, lab: &Lab, wanted: &Wanted) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let cluster = lab.cluster().await?;
        let mut events = lab.engine().events().await?;
        let key = cluster.stack("load")?;
        let mut stack = idle_stack(CONTAINERS)?;
        for service in stack.workloads.values_mut() {
            service.healthcheck = Some(HealthCheck {
                test: ["CMD", "true"].map(String::from).into(),
                interval: Some(Span::from_secs(5)),
                timeout: Some(Span::from_secs(10)),
                retries: None,
                start_period: None,
                start_interval: None,
            });
        }
        cluster.deploy(&key, &stack).await?;
        cluster.started(&mut events, &key, CONTAINERS as usize).await?;
        progress::wait("seconds until it is calm", SETTLE_SECS).await;
        let pid = cluster.agent_pid().context("the agent does not say its process")?;
        let (before, begun) = (proc::cpu_seconds(pid)?, Instant::now());
        progress::wait("seconds of looking at fifty containers", MEASURE_SECS).await;
        let used = proc::cpu_seconds(pid)? - before;
        if wanted.has("agent-load/cpu") {
            outcome.add("agent-load/cpu", 100.0 * used / begun.elapsed().as_secs_f64());
        }
        if wanted.has("agent-load/rss") {
            outcome.add("agent-load/rss", proc::rss_mib(pid)?);
        }
        Ok(outcome)
    }
}
