//! Metrics: the one catalogue of what is measured of nodes, of allocations and of the server.
//!
//! Enter at [`Metric`]. Its number travels from agents and stands in files, so a number that was used once is never
//! used for something else; its names are stable for whoever has dashboards. A metric that is removed leaves a gap.
//!
//! A value is kept as a whole number of steps ([`Scale`]): what is finer than anybody looks at is noise, and noise is
//! what history is large by. Quantities that may be anything from bytes to terabytes have steps that grow with the
//! value, 1/256 of it at the most; others have one step throughout.
//!
//! Counters travel as they stand, so that Prometheus gets counters; history keeps what they rose by in a second.
//!
//! Rejected: names that agents make up, which would let one node fill the memory of the server and of every
//! Prometheus behind it.

use crate::{AllocationId, NodeId};

/// What is measured of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A node.
    Node,
    /// One placed instance of a service.
    Allocation,
    /// The server itself.
    Server,
}

impl Scope {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Allocation => "allocation",
            Self::Server => "server",
        }
    }
}

/// What a series is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// A node.
    Node(NodeId),
    /// One placed instance of a service.
    Allocation(AllocationId),
    /// A server.
    Server,
}

impl Entity {
    /// Its kind.
    pub const fn scope(&self) -> Scope {
        match self {
            Self::Node(_) => Scope::Node,
            Self::Allocation(_) => Scope::Allocation,
            Self::Server => Scope::Server,
        }
    }
}

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It rises, and begins anew after a restart. History keeps how fast it rises, a second.
    Counter,
    /// The same, and history keeps it as it stands: it rises seldom, and each time matters.
    Tally,
}

/// What a value is counted in. Base units throughout, as Prometheus wants them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// From 0 to 1.
    Ratio,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Degrees Celsius.
    Celsius,
    /// Watts.
    Watts,
    /// Things.
    Count,
}

impl Unit {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Celsius => "celsius",
            Self::Watts => "watts",
            Self::Count => "count",
        }
    }

    /// What a counter of it rises in.
    pub const fn rate(self) -> &'static str {
        match self {
            Self::Bytes => "bytes_per_second",
            // Seconds of work in a second: cores, or a share of one thing's time.
            Self::Seconds => "seconds_per_second",
            _ => "per_second",
        }
    }
}

/// How values become whole numbers, and back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// So many steps in one unit.
    Even(f64),
    /// The same near zero; beyond 256 steps they grow, and a value is off by 1/512 of itself at the most.
    Growing(f64),
}

/// Steps of [`Scale::Growing`] until they double.
const OCTAVE: u64 = 256;

impl Scale {
    /// The step that is next to a value. Rising: what is more gets no lower step.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "casts of floats stop at the ends"
    )]
    pub fn code(self, value: f64) -> i32 {
        match self {
            Self::Even(steps) => {
                (value * steps).round().clamp(-f64::from(i32::MAX), f64::from(i32::MAX)) as i32
            }
            Self::Growing(steps) => {
                let magnitude = value.abs() * steps;
                // Of a u64, more than any bound of the catalogue.
                let octave = (magnitude as u64).max(1).ilog2().saturating_sub(OCTAVE.ilog2());
                // What rounds up to the next octave is its first step by the same formula.
                let top = (magnitude / 2f64.powi(octave as i32)).round().min(2.0 * OCTAVE as f64) as i32;
                let code = octave as i32 * OCTAVE as i32 + top;
                if value < 0.0 { -code } else { code }
            }
        }
    }

    /// The value of a step.
    #[allow(clippy::cast_precision_loss)]
    pub fn value(self, code: i32) -> f64 {
        match self {
            Self::Even(steps) => f64::from(code) / steps,
            Self::Growing(steps) => {
                let magnitude = u64::from(code.unsigned_abs());
                let n = if magnitude < OCTAVE {
                    magnitude as f64
                } else {
                    let shift = magnitude / OCTAVE - 1;
                    (OCTAVE + magnitude % OCTAVE) as f64 * 2f64.powi(i32::try_from(shift).unwrap_or(i32::MAX))
                };
                if code < 0 { -n / steps } else { n / steps }
            }
        }
    }
}

/// All that is fixed about a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// As it travels and is stored.
    pub id: u16,
    /// As people and the API name it.
    pub name: &'static str,
    /// As Prometheus names it.
    pub prometheus: &'static str,
    /// Of what it is.
    pub scope: Scope,
    /// What its number means.
    pub kind: Kind,
    /// What it is counted in.
    pub unit: Unit,
    /// What tells several of one entity apart, where there are several.
    pub label: Option<&'static str>,
    /// How it is kept.
    pub scale: Scale,
    /// The least that is believed of a node.
    pub min: f64,
    /// The most that is believed of a node.
    pub max: f64,
    /// A sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $prometheus:literal, $scope:ident, $kind:ident, $unit:ident, $label:expr, $scale:expr, $min:expr, $max:expr, $help:literal;)+) => {
        /// Something that is measured.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $help] $(#[$doc])* $variant = $id,)+
        }

        impl Metric {
            /// All of them, by rising number.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// All that is fixed about it.
            pub const fn spec(self) -> &'static Spec {
                match self {
                    $(Self::$variant => &Spec {
                        id: $id, name: $name, prometheus: $prometheus, scope: Scope::$scope, kind: Kind::$kind,
                        unit: Unit::$unit, label: $label, scale: $scale, min: $min, max: $max, help: $help,
                    },)+
                }
            }

            /// The one of a number; none of a newer version's.
            pub const fn of_id(id: u16) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The one of a name.
            pub fn of_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

/// A thousandth.
const PERMILLE: Scale = Scale::Even(1000.0);
/// Whole ones.
const ONES: Scale = Scale::Even(1.0);
/// Of bytes: whole KiB, and beyond 256 of them steps that grow.
const KIB: Scale = Scale::Growing(1.0 / 1024.0);
/// Of seconds: tenths of a millisecond, and beyond 25 ms steps that grow.
const SPAN: Scale = Scale::Growing(10_000.0);
/// A thousandth, and beyond a quarter steps that grow.
const SHARE: Scale = Scale::Growing(1000.0);
/// An exabyte: more is a mistake or a lie.
const EXA: f64 = 1e18;
/// A year in seconds, likewise.
const YEAR: f64 = 366.0 * 86_400.0;
/// Counters of a machine that is on for long.
const EVER: f64 = 1e15;

#[rustfmt::skip]
metrics! {
    NodeCpu = 1, "node.cpu", "lattice_node_cpu_ratio", Node, Gauge, Ratio, None, PERMILLE, 0.0, 1.0, "Share of all processors in use by everything on the machine.";
    NodeMemoryUsed = 2, "node.memory.used", "lattice_node_memory_used_bytes", Node, Gauge, Bytes, None, KIB, 0.0, EXA, "Memory in use by everything on the machine.";
    NodeMemoryTotal = 3, "node.memory.total", "lattice_node_memory_total_bytes", Node, Gauge, Bytes, None, KIB, 0.0, EXA, "All memory of the machine.";
    NodeSwapUsed = 4, "node.swap.used", "lattice_node_swap_used_bytes", Node, Gauge, Bytes, None, KIB, 0.0, EXA, "Memory that was moved to disk.";
    NodeLoad = 5, "node.load", "lattice_node_load1", Node, Gauge, Count, None, Scale::Growing(100.0), 0.0, 1e6, "Processes that run or wait for a processor or a disk, averaged over a minute.";
    NodeCpuPressure = 6, "node.cpu.pressure", "lattice_node_cpu_pressure_ratio", Node, Gauge, Ratio, None, PERMILLE, 0.0, 1.0, "Share of the last minute in which some process waited for a processor.";
    NodeMemoryPressure = 7, "node.memory.pressure", "lattice_node_memory_pressure_ratio", Node, Gauge, Ratio, None, PERMILLE, 0.0, 1.0, "Share of the last ten seconds in which every process waited for memory.";
    NodeDiskFree = 8, "node.disk.free", "lattice_node_disk_free_bytes", Node, Gauge, Bytes, None, KIB, 0.0, EXA, "Disk space that is free where the engine keeps its data.";
    NodeDiskTotal = 9, "node.disk.total", "lattice_node_disk_total_bytes", Node, Gauge, Bytes, None, KIB, 0.0, EXA, "Size of the disk where the engine keeps its data.";
    NodeDiskRead = 10, "node.disk.read", "lattice_node_disk_read_bytes_total", Node, Counter, Bytes, Some("device"), KIB, 0.0, EXA, "Bytes read from a disk.";
    NodeDiskWritten = 11, "node.disk.written", "lattice_node_disk_written_bytes_total", Node, Counter, Bytes, Some("device"), KIB, 0.0, EXA, "Bytes written to a disk.";
    NodeDiskBusy = 12, "node.disk.busy", "lattice_node_disk_busy_seconds_total", Node, Counter, Seconds, Some("device"), PERMILLE, 0.0, EVER, "Time in which a disk had something to do.";
    NodeNetReceived = 13, "node.network.received", "lattice_node_network_received_bytes_total", Node, Counter, Bytes, Some("device"), KIB, 0.0, EXA, "Bytes received by a network port of the machine.";
    NodeNetSent = 14, "node.network.sent", "lattice_node_network_sent_bytes_total", Node, Counter, Bytes, Some("device"), KIB, 0.0, EXA, "Bytes sent by a network port of the machine.";
    NodeNetErrors = 15, "node.network.errors", "lattice_node_network_errors_total", Node, Counter, Count, Some("device"), Scale::Growing(10.0), 0.0, EVER, "Packets that a network port of the machine lost or could not read.";
    NodeTemperature = 16, "node.temperature", "lattice_node_temperature_celsius", Node, Gauge, Celsius, None, ONES, -60.0, 200.0, "The hottest part of the machine.";
    NodeBattery = 17, "node.battery", "lattice_node_battery_ratio", Node, Gauge, Ratio, None, Scale::Even(100.0), 0.0, 1.0, "Charge of the battery.";
    NodeMains = 18, "node.mains", "lattice_node_mains_connected", Node, Gauge, Count, None, ONES, 0.0, 1.0, "1 on mains, 0 on battery.";
    NodeGpuBusy = 19, "node.gpu.busy", "lattice_node_gpu_busy_ratio", Node, Gauge, Ratio, Some("gpu"), PERMILLE, 0.0, 1.0, "Share of time in which a GPU computed.";
    NodeGpuMemoryUsed = 20, "node.gpu.memory.used", "lattice_node_gpu_memory_used_bytes", Node, Gauge, Bytes, Some("gpu"), KIB, 0.0, EXA, "Memory of a GPU in use.";
    NodeGpuMemoryTotal = 21, "node.gpu.memory.total", "lattice_node_gpu_memory_total_bytes", Node, Gauge, Bytes, Some("gpu"), KIB, 0.0, EXA, "All memory of a GPU.";
    NodeGpuTemperature = 22, "node.gpu.temperature", "lattice_node_gpu_temperature_celsius", Node, Gauge, Celsius, Some("gpu"), ONES, -60.0, 200.0, "Temperature of a GPU.";
    NodeGpuPower = 23, "node.gpu.power", "lattice_node_gpu_power_watts", Node, Gauge, Watts, Some("gpu"), ONES, 0.0, 1e5, "Power that a GPU draws.";
    NodeEngineLatency = 24, "node.engine.latency", "lattice_node_engine_latency_seconds", Node, Gauge, Seconds, None, SPAN, 0.0, YEAR, "How long the container engine took to answer.";
    NodeContainers = 25, "node.containers", "lattice_node_containers", Node, Gauge, Count, None, ONES, 0.0, 1e6, "Containers of Lattice's that run on the machine.";
    NodeClockAhead = 26, "node.clock.ahead", "lattice_node_clock_ahead_seconds", Node, Gauge, Seconds, None, Scale::Growing(1000.0), -YEAR * 100.0, YEAR * 100.0, "How far the machine's clock is ahead of the server's.";
    NodeLinkLatency = 27, "node.link.latency", "lattice_node_link_latency_seconds", Node, Gauge, Seconds, None, SPAN, 0.0, YEAR, "How long the server took to answer the node.";
    NodeAgentMemory = 28, "node.agent.memory", "lattice_node_agent_memory_bytes", Node, Gauge, Bytes, None, KIB, 0.0, EXA, "Memory of the agent.";
    NodeAgentCpu = 29, "node.agent.cpu", "lattice_node_agent_cpu_seconds_total", Node, Counter, Seconds, None, SPAN, 0.0, EVER, "Processor time of the agent.";
    NodeUp = 30, "node.up", "lattice_node_up", Node, Gauge, Count, None, ONES, 0.0, 1.0, "1 while the node has a link to the server, 0 while it has none.";
    NodeMetricsDropped = 31, "node.metrics.dropped", "lattice_node_samples_dropped_total", Node, Tally, Count, None, ONES, 0.0, 1e9, "Samples that the agent dropped since its start, since it had no link for too long.";

    AllocationCpu = 64, "allocation.cpu", "lattice_allocation_cpu_seconds_total", Allocation, Counter, Seconds, None, SHARE, 0.0, EVER, "Processor time of an instance.";
    AllocationMemory = 65, "allocation.memory", "lattice_allocation_memory_used_bytes", Allocation, Gauge, Bytes, None, KIB, 0.0, EXA, "Memory of an instance, without what can be dropped at once.";
    AllocationMemoryLimit = 66, "allocation.memory.limit", "lattice_allocation_memory_limit_bytes", Allocation, Gauge, Bytes, None, KIB, 0.0, EXA, "The most memory that an instance may use.";
    AllocationNetReceived = 67, "allocation.network.received", "lattice_allocation_network_received_bytes_total", Allocation, Counter, Bytes, None, KIB, 0.0, EXA, "Bytes received by an instance.";
    AllocationNetSent = 68, "allocation.network.sent", "lattice_allocation_network_sent_bytes_total", Allocation, Counter, Bytes, None, KIB, 0.0, EXA, "Bytes sent by an instance.";
    AllocationDiskRead = 69, "allocation.disk.read", "lattice_allocation_disk_read_bytes_total", Allocation, Counter, Bytes, None, KIB, 0.0, EXA, "Bytes that an instance read from disks.";
    AllocationDiskWritten = 70, "allocation.disk.written", "lattice_allocation_disk_written_bytes_total", Allocation, Counter, Bytes, None, KIB, 0.0, EXA, "Bytes that an instance wrote to disks.";
    AllocationRestarts = 71, "allocation.restarts", "lattice_allocation_restarts_total", Allocation, Tally, Count, None, ONES, 0.0, 1e9, "How often an instance was started again.";
    AllocationProcesses = 72, "allocation.processes", "lattice_allocation_processes", Allocation, Gauge, Count, None, Scale::Growing(1.0), 0.0, 1e7, "Processes and threads of an instance.";

    ServerLinks = 128, "server.links", "lattice_server_links", Server, Gauge, Count, None, ONES, 0.0, 1e7, "Nodes that have a link to this server.";
    ServerCpu = 129, "server.cpu", "lattice_server_cpu_seconds_total", Server, Counter, Seconds, None, SHARE, 0.0, EVER, "Processor time of the server.";
    ServerMemory = 130, "server.memory", "lattice_server_memory_bytes", Server, Gauge, Bytes, None, KIB, 0.0, EXA, "Memory of the server.";
    ServerDiskFree = 131, "server.disk.free", "lattice_server_disk_free_bytes", Server, Gauge, Bytes, None, KIB, 0.0, EXA, "Disk space that is free where the server keeps its data.";
    ServerPlannerRuns = 132, "server.planner.runs", "lattice_server_planner_runs_total", Server, Counter, Count, None, Scale::Growing(100.0), 0.0, EVER, "How often the planner ran.";
    ServerPlannerTime = 133, "server.planner.time", "lattice_server_planner_seconds_total", Server, Counter, Seconds, None, SHARE, 0.0, EVER, "Time that the planner took.";
    ServerPlannerBacklog = 134, "server.planner.backlog", "lattice_server_planner_backlog", Server, Gauge, Count, None, ONES, 0.0, 1e7, "Stacks that wait to be planned.";
    ServerStoreWrites = 135, "server.store.writes", "lattice_server_store_writes_total", Server, Counter, Count, None, Scale::Growing(100.0), 0.0, EVER, "Transactions that the store took.";
    ServerStoreOps = 136, "server.store.operations", "lattice_server_store_operations_total", Server, Counter, Count, None, Scale::Growing(100.0), 0.0, EVER, "Operations in the transactions that the store took.";
    ServerStoreTime = 137, "server.store.time", "lattice_server_store_write_seconds_total", Server, Counter, Seconds, None, SHARE, 0.0, EVER, "Time from a transaction to the store's answer, summed.";
    ServerRequests = 138, "server.requests", "lattice_server_requests_total", Server, Counter, Count, Some("status"), Scale::Growing(100.0), 0.0, EVER, "Requests to the API, by the class of their answer.";
    ServerRequestTime = 139, "server.requests.time", "lattice_server_request_seconds_total", Server, Counter, Seconds, None, SHARE, 0.0, EVER, "Time until the API answered, summed.";
    ServerStreams = 140, "server.streams", "lattice_server_streams", Server, Gauge, Count, None, ONES, 0.0, 1e7, "Streams of the API that are open: watches, followed logs, commands.";
    ServerBackupAge = 141, "server.backup.age", "lattice_server_backup_age_seconds", Server, Gauge, Seconds, None, Scale::Growing(1.0), 0.0, YEAR * 100.0, "Time since the last backup that succeeded.";
    ServerSeries = 142, "server.metrics.series", "lattice_server_metrics_series", Server, Gauge, Count, None, Scale::Growing(1.0), 0.0, 1e9, "Series of the history that got a value lately.";
    ServerHistoryBytes = 143, "server.metrics.bytes", "lattice_server_metrics_history_bytes", Server, Gauge, Bytes, None, KIB, 0.0, EXA, "Disk space of the history.";
    ServerSamplesRefused = 144, "server.metrics.refused", "lattice_server_metrics_refused_total", Server, Tally, Count, None, Scale::Growing(1.0), 0.0, EVER, "Values from nodes that were not taken: not theirs, too old, or beyond the bounds.";
}

impl Metric {
    /// A value within what is believed; none that is no number.
    pub fn believed(self, value: f64) -> Option<f64> {
        let Spec { min, max, .. } = self.spec();
        value.is_finite().then(|| value.clamp(*min, *max))
    }

    /// What history counts it in.
    pub const fn unit(self) -> &'static str {
        let spec = self.spec();
        match spec.kind {
            Kind::Counter => spec.unit.rate(),
            Kind::Gauge | Kind::Tally => spec.unit.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_catalogue_is_sound() {
        let unique =
            |key: fn(&Spec) -> &str| Metric::ALL.iter().map(|m| key(m.spec())).collect::<BTreeSet<_>>();
        assert_eq!(unique(|spec| spec.name).len(), Metric::ALL.len());
        assert_eq!(unique(|spec| spec.prometheus).len(), Metric::ALL.len());
        assert!(Metric::ALL.windows(2).all(|pair| pair[0].spec().id < pair[1].spec().id));
        for metric in Metric::ALL {
            let Spec { id, name, prometheus, scope, kind, unit, help, .. } = *metric.spec();
            assert_eq!((Metric::of_id(id), Metric::of_name(name)), (Some(*metric), Some(*metric)));
            assert!(name.starts_with(scope.as_str()), "{name}");
            assert!(prometheus.starts_with(&format!("lattice_{}_", scope.as_str())), "{prometheus}");
            assert_eq!(prometheus.ends_with("_total"), kind != Kind::Gauge, "{prometheus}");
            let stem = prometheus.trim_end_matches("_total");
            let suffix = match unit {
                Unit::Ratio | Unit::Bytes | Unit::Seconds | Unit::Celsius | Unit::Watts => unit.as_str(),
                Unit::Count => "",
            };
            assert!(stem.ends_with(suffix), "{prometheus} does not end in its unit");
            assert!(help.ends_with('.') && help.len() < 120, "{name}");
        }
        assert_eq!((Metric::of_id(0), Metric::of_name("")), (None, None));
    }

    #[test]
    fn what_is_no_number_is_not_believed() {
        assert_eq!(Metric::NodeCpu.believed(f64::NAN), None);
        assert_eq!(Metric::NodeCpu.believed(f64::INFINITY), None);
        assert_eq!(Metric::NodeCpu.believed(3.0), Some(1.0));
        assert_eq!(Metric::NodeTemperature.believed(-300.0), Some(-60.0));
    }

    proptest! {
            /// What was kept is within half a step of what was said, and what is more is kept as no less.
            #[test]
            fn values_are_kept_nearly(a in -1e15f64..1e15, b in -1e15f64..1e15, small in -1000f64..1000.0) {
                for scale in [KIB, SPAN, Scale::Growing(1.0)] {
                    let (Scale::Growing(steps) | Scale::Even(steps)) = scale;
                    for value in [a, b, small, small / 1e3] {
                        let kept = scale.value(scale.code(value));
                        prop_assert!((kept - value).abs() <= (value.abs() / 511.9).max(0.500_000_1 / steps), "{value} {kept}");
                        prop_assert_eq!(scale.code(kept), scale.code(value));
                    }
    prop_assert!(a >= b || scale.code(a) <= scale.code(b), "{a} {b}");
                }
                let kept = PERMILLE.value(PERMILLE.code(small));
                prop_assert!((kept - small).abs() <= 0.000_501);
            }
        }
}
