//! Looks at the machine every five seconds, has [`lattice_converge::health`] judge what it sees, and tells the
//! server and the owner when a condition changed.
//!
//! The engine is asked beside the rest, so that one that hangs delays nothing: a call that is not answered in
//! [`DEADLINE`] while its socket took it is what makes it *hung*. Each answer counts once. From the hang to the
//! condition it takes at most twice the deadline and two pauses, 30 seconds.

use crate::{
    clock::{self, ServerClock},
    error::chain,
    event::Event,
    facts::Machine,
    gpu::Gpus,
    images::Images,
    machine::{Readings, Roots, space},
    owner::Lent,
    session::{LinkState, LinkStatus},
    way::Way,
};
use futures::{StreamExt as _, stream};
use lattice_converge::{
    Pressure,
    health::{
        Assessor, ClockSample, CpuSample, DiskErrors, DiskSample, DockerSample, MemorySample, NetworkSample,
        Sample, TemperatureSample, enough_disk,
    },
    images::Want,
};
use lattice_model::{
    AllocationId, Bytes, Duration, NodeId, Timestamp,
    container::{ContainerSeen, ContainerState},
    health::{Condition, ConditionKind, Level},
    report::ReportKind,
};
use lattice_runtime::{Runtime, RuntimeError};
use lattice_sense::{Reading, Sensors as _, System};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

/// Between two looks, and between an answer of the engine and the next question.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);
/// Between two collections of images while the disk is full.
const COLLECTIONS: std::time::Duration = std::time::Duration::from_secs(120);
/// Between two evictions.
const EVICTIONS: std::time::Duration = std::time::Duration::from_secs(20);
/// How long the engine has to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// How this machine is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// When it was looked at, by this machine's clock.
    pub at: Timestamp,
    /// Its conditions, as the server is told.
    pub conditions: Vec<Condition>,
    /// Processors in use, in thousandths of all.
    pub cpu_busy_permille: Option<u32>,
    /// Memory that programs may have without anybody losing something.
    pub memory_available: Option<Bytes>,
    /// All memory.
    pub memory_total: Option<Bytes>,
    /// Disk space that is free where the engine keeps its data.
    pub disk_free: Option<Bytes>,
    /// All of that disk.
    pub disk_total: Option<Bytes>,
    /// How far this machine's clock is ahead of the server's, in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// The hottest part, in degrees Celsius.
    pub celsius: Option<i32>,
    /// How long the server takes to answer, in milliseconds.
    #[serde(default)]
    pub round_trip_ms: Option<u64>,
}

impl Health {
    /// What is not good, a sentence each; or one sentence that all is.
    pub fn sentences(&self) -> Vec<String> {
        let troubles = self.conditions.iter().filter(|one| one.level != Level::Good);
        let mut sentences: Vec<String> = troubles.map(ToString::to_string).collect();
        if sentences.is_empty() {
            let all = if self.conditions.is_empty() { "not looked at yet" } else { "good" };
            sentences.push(all.to_owned());
        }
        sentences
    }

    /// As the local API gives it.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// The task that looks.
pub(crate) struct Monitor {
    pub(crate) node: NodeId,
    pub(crate) roots: Roots,
    pub(crate) home: PathBuf,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: Arc<Images>,
    pub(crate) gpus: Gpus,
    pub(crate) lent: watch::Receiver<Arc<Lent>>,
    pub(crate) machine: watch::Receiver<Machine>,
    pub(crate) link: watch::Receiver<LinkStatus>,
    pub(crate) clock: ServerClock,
    pub(crate) way: Way,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) health: watch::Sender<Health>,
}

impl Monitor {
    /// Looks for ever; ends when nobody takes events any more.
    pub(crate) async fn run(self) {
        let mut assessor = Assessor::default();
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = Box::pin(ask(Arc::clone(&self.runtime), std::time::Duration::ZERO));
        // Ticks at the last look.
        let mut last = None;
        let (mut pressed, mut next_eviction) = (Pressure::default(), Instant::now());
        let mut next_collection = Instant::now();
        loop {
            let sample = tokio::select! {
                docker = &mut asked => {
                    asked.set(ask(Arc::clone(&self.runtime), LOOK));
                    Sample { docker: Some(docker), ..Sample::default() }
                }
                _ = tick.tick() => {
                    let Some(look) = self.look().await else { continue };
                    let sample = self.sample(&look, &mut last);
                    self.publish(&look, &sample);
                    sample
                }
            };
            let before = assessor.conditions();
            if assessor.step(&sample, clock::boot(), clock::now()) {
                let conditions = assessor.conditions();
                note(&before, &conditions);
                self.health.send_modify(|health| health.conditions.clone_from(&conditions));
                if self.events.send(Event::Tell(ReportKind::Health { conditions })).await.is_err() {
                    return;
                }
            }
            let mut pressure = pressure_of(&assessor);
            if pressure.disk.is_some() && Instant::now() >= next_collection {
                next_collection = Instant::now() + COLLECTIONS;
                self.collect();
            }
            // One at a time: what it leaves behind has to be seen before another one goes.
            let evicts = pressure.memory.is_some() && Instant::now() >= next_eviction;
            if !evicts && pressure == pressed {
                continue;
            }
            pressed.clone_from(&pressure);
            if evicts {
                pressure.used = self.used().await;
                pressure.evict = true;
                next_eviction = Instant::now() + EVICTIONS;
            }
            if self.events.send(Event::Pressure(pressure)).await.is_err() {
                return;
            }
        }
    }

    /// Removes images that Lattice brought and nothing uses, beside everything else.
    fn collect(&self) {
        let missing = {
            let health = self.health.borrow();
            let (free, total) = (health.disk_free.unwrap_or_default(), health.disk_total.unwrap_or_default());
            Bytes(enough_disk(total).0.saturating_sub(free.0))
        };
        let images = Arc::clone(&self.images);
        // It ends with its last removal, or when the agent takes no events any more.
        tokio::spawn(async move {
            match images.collect(Want::pressure(missing)).await {
                Ok(collected) => {
                    info!(images = collected.removed.len(), bytes = %collected.bytes, "the disk is nearly full; what nothing uses went");
                }
                Err(error) => {
                    warn!(error = chain(&error), "the disk is nearly full, and nothing could be removed")
                }
            }
        });
    }

    /// What each container of this node uses of memory, as far as the engine tells soon.
    async fn used(&self) -> BTreeMap<AllocationId, Bytes> {
        let ask = async {
            let containers = self.runtime.list(self.node).await.unwrap_or_default();
            let running = containers.into_iter().filter(|seen| seen.state == ContainerState::Running);
            let usage = |seen: ContainerSeen| async move {
                Some((seen.allocation()?, self.runtime.usage(&seen.id).await.ok()?.memory))
            };
            let used: Vec<_> = stream::iter(running.map(usage)).buffer_unordered(8).collect().await;
            used.into_iter().flatten().collect()
        };
        timeout(DEADLINE.as_std(), ask).await.unwrap_or_default()
    }

    /// Reads what there is to read.
    async fn look(&self) -> Option<Look> {
        let data = self.machine.borrow().data_root.clone().map(PathBuf::from);
        // An engine in a virtual machine names a folder of its own.
        let data = data.filter(|data| data.exists()).unwrap_or_else(|| self.home.clone());
        let (roots, gpu_celsius) = (self.roots.clone(), self.gpus.celsius());
        let read = move || {
            let readings = Readings::take(&roots, &data, &space);
            let heat = System::below(roots.path("")).heat();
            let celsius = match heat.hottest {
                Reading::Known(sensor) => Some(sensor.celsius),
                Reading::Unknown(_) => None,
            };
            // NVIDIA's driver tells the kernel nothing of heat.
            let celsius = celsius.max(gpu_celsius);
            Look { readings, celsius }
        };
        // A file system over the network may hang, and then nothing is known for a while.
        timeout(DEADLINE.as_std(), tokio::task::spawn_blocking(read)).await.ok()?.ok()
    }

    fn sample(&self, look: &Look, last: &mut Option<(u64, u64)>) -> Sample {
        let Look { readings, celsius } = look;
        let lent = Arc::clone(&self.lent.borrow());
        let before = std::mem::replace(last, readings.jiffies);
        let busy = readings.jiffies.zip(before).and_then(|((busy, total), (busy_then, total_then))| {
            let span = total.checked_sub(total_then).filter(|span| *span > 0)?;
            u32::try_from(busy.saturating_sub(busy_then) * 1000 / span).ok()
        });
        let linked = self.link.borrow().state == LinkState::Connected;
        let (packets, wrong) = readings.packets;
        Sample {
            docker: None,
            cpu: busy.map(|busy_permille| CpuSample { busy_permille, waited: readings.cpu_waited }),
            memory: readings.memory.map(|(available, total)| MemorySample {
                available,
                total,
                stalled: readings.memory_stalled,
            }),
            disk: readings.space.map(|space| DiskSample {
                free: space.free,
                total: space.total,
                inodes_free_permille: space.inodes_free_permille,
            }),
            disk_errors: Some(DiskErrors {
                read_only: readings.read_only,
                counts: readings.disk_errors.clone(),
                degraded: readings.degraded.clone(),
            }),
            network: Some(NetworkSample {
                way_out: readings.way_out,
                linked,
                round_trip: self.way.round_trip(Instant::now()),
                packets,
                wrong,
            }),
            clock: self.clock.ahead().map(|(ahead_ms, uncertain_ms)| ClockSample { ahead_ms, uncertain_ms }),
            gpu: self.gpus.sample(&|name| lent.lends_gpu(name)),
            temperature: celsius.map(|celsius| TemperatureSample { hottest: celsius }),
        }
    }

    fn publish(&self, look: &Look, sample: &Sample) {
        self.health.send_modify(|health| {
            *health = Health {
                at: clock::now(),
                conditions: std::mem::take(&mut health.conditions),
                cpu_busy_permille: sample.cpu.map(|cpu| cpu.busy_permille).or(health.cpu_busy_permille),
                memory_available: sample.memory.map(|memory| memory.available),
                memory_total: sample.memory.map(|memory| memory.total),
                disk_free: sample.disk.map(|disk| disk.free),
                disk_total: sample.disk.map(|disk| disk.total),
                clock_ahead_ms: sample.clock.map(|clock| clock.ahead_ms),
                celsius: look.celsius,
                round_trip_ms: sample.network.and_then(|network| network.round_trip).map(|trip| trip.0),
            };
        });
    }
}

/// What the machine is so short of that something has to be done.
fn pressure_of(assessor: &Assessor) -> Pressure {
    let bad = |kind| {
        let condition = assessor.condition(kind).filter(|condition| condition.level == Level::Bad)?;
        Some(condition.message.clone())
    };
    Pressure { disk: bad(ConditionKind::Disk), memory: bad(ConditionKind::Memory), ..Pressure::default() }
}

/// What was read at one moment.
struct Look {
    readings: Readings,
    celsius: Option<i32>,
}

/// How the engine takes a call, asked after a pause.
async fn ask(runtime: Arc<dyn Runtime>, pause: std::time::Duration) -> DockerSample {
    sleep(pause).await;
    let began = Instant::now();
    match timeout(DEADLINE.as_std(), runtime.ping()).await {
        Ok(Ok(())) => {
            DockerSample::Answered(Duration(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))
        }
        Err(_) | Ok(Err(RuntimeError::Timeout { .. })) => DockerSample::NoAnswer(DEADLINE),
        Ok(Err(error @ RuntimeError::Unreachable { .. })) => DockerSample::Unreachable(chain(&error)),
        Ok(Err(error)) => DockerSample::Refused(chain(&error)),
    }
}

/// For the log: what became worse, or well again.
fn note(before: &[Condition], now: &[Condition]) {
    for one in now {
        let was = before.iter().find(|was| was.kind == one.kind);
        if was.map(|was| (was.level, was.reason)) == Some((one.level, one.reason)) {
            continue;
        }
        let (condition, level, reason, message) =
            (one.kind.as_str(), one.level.as_str(), one.reason.as_str(), &one.message);
        match one.level {
            Level::Warning | Level::Bad => {
                warn!(condition, level, reason, message, "the machine's condition changed")
            }
            _ if was.is_some() => info!(condition, level, reason, message, "the machine's condition changed"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::health::Reason;

    #[test]
    fn it_is_told_as_json() {
        let condition = Condition {
            kind: ConditionKind::Docker,
            level: Level::Bad,
            since: Timestamp(7),
            reason: Reason::Hung,
            message: "m".into(),
        };
        let health = Health { conditions: vec![condition], disk_free: Some(Bytes(5)), ..Health::default() };
        let json: serde_json::Value = serde_json::from_str(&health.json()).unwrap();
        assert_eq!(json["conditions"][0]["reason"], "hung");
        assert_eq!(json["disk_free"], 5);
        assert_eq!(serde_json::from_value::<Health>(json).unwrap(), health);
    }
}
