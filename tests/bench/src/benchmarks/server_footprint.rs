//! `server-footprint`: what the control plane costs with one node and a workload: resident memory of `lattice up`, and
//! how long it takes from its start, on a home that exists, until its node can be given work.

use crate::{
    benchmark::{Benchmark, Figure, Outcome, Target},
    cluster::idle_stack,
    lab::Lab,
    proc,
    progress::{self, Progress},
    select::Wanted,
    stats::median,
};
use async_trait::async_trait;

const SETTLE_SECS: u64 = 15;
const STARTS: usize = 5;

pub(super) struct ServerFootprint;

#[async_trait]
impl Benchmark for ServerFootprint {
    fn about(&self) -> &'static str {
        "the server's memory with one node, and `lattice up` until that is ready"
    }

    fn figures(&self) -> &'static [Figure] {
        &[
            Figure { name: "server-footprint/rss", unit: "MiB", target: Target::AtMost(60.0) },
            Figure { name: "server-footprint/ready", unit: "ms", target: Target::AtMost(1000.0) },
        ]
    }

    async fn measure(&self, lab: &Lab, wanted: &Wanted) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let cluster = lab.cluster().await?;
        let mut events = lab.engine().events().await?;
        let key = cluster.stack("one")?;
        cluster.deploy(&key, &idle_stack(1)?).await?;
        cluster.started(&mut events, &key, 1).await?;
        if wanted.has("server-footprint/rss") {
            progress::wait("seconds until it is calm", SETTLE_SECS).await;
            outcome.add("server-footprint/rss", proc::rss_mib(cluster.server_pid().await?)?);
        }
        if wanted.has("server-footprint/ready") {
            let (mut servers, mut nodes) = (Vec::new(), Vec::new());
            let mut progress = Progress::new("starts", STARTS);
            for _ in 0..STARTS {
                cluster.stop().await?;
                let (server, node) = cluster.start().await?;
                servers.push(server.as_secs_f64() * 1000.0);
                nodes.push(node.as_secs_f64() * 1000.0);
                progress.step(&format!("server {} ms, node {} ms", server.as_millis(), node.as_millis()));
            }
            outcome.add("server-footprint/ready", median(&nodes));
            outcome.note(format!("of /ready, until the API is ready: median {:.0} ms", median(&servers)));
        }
        Ok(outcome)
    }
}
