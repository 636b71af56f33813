//! The registry. A new benchmark is a file here and a line in [`ALL`]; `docs/benchmarks.md` describes it.

mod agent_footprint;
mod agent_load;
mod agent_wake;
mod api_rates;
mod availability;
mod deploy_latency;
mod direct;
mod image_share;
mod openb;
mod reset_time;
mod restart_latency;
mod rolling;
mod scale;
mod scheduler_memory;
mod scheduler_perf;
mod scheduler_scale;
mod server_footprint;
mod store_writes;
mod swarm;

use crate::benchmark::Benchmark;

/// Every benchmark, in the order in which they run.
pub(crate) const ALL: &[&dyn Benchmark] = &[
    &store_writes::StoreWrites,
    &api_rates::ApiReads,
    &api_rates::ApiWrites,
    &deploy_latency::DeployLatency,
    &restart_latency::RestartLatency,
    &scale::Scale50,
    &rolling::RollingUpdate,
    &agent_footprint::AgentFootprint,
    &agent_load::AgentLoad,
    &server_footprint::ServerFootprint,
    &image_share::ImageShare,
    &reset_time::ResetTime,
    &agent_wake::AgentWake,
    &availability::Availability,
    &openb::Openb,
    &scheduler_perf::SchedulerPerf,
    &scheduler_memory::SchedulerMemory,
    &scheduler_scale::SchedulerScale,
];
