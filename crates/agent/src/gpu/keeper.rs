//! The task that looks at the GPUs, and has them proven when something is another than at the last proof.

use super::{Gpus, setup};
use crate::{engine::EngineStatus, facts::Machine, owner::Lent};
use lattice_gpu::{GpuPlan, Method};
use lattice_model::{
    NodeId,
    spec::{GpuCount, GpuRequest},
};
use lattice_runtime::{EngineInfo, Runtime};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{info, warn};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(20);
/// Between two attempts to prove what could not be used.
const AGAIN: Duration = Duration::from_secs(600);

/// The task's state.
pub(crate) struct Keeper {
    pub(crate) node: NodeId,
    pub(crate) gpus: Gpus,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) lent: watch::Receiver<Arc<Lent>>,
    pub(crate) engine: watch::Receiver<EngineStatus>,
    /// Its GPUs are put in here when they are others, and whoever tells the server hears of it.
    pub(crate) machine: watch::Sender<Machine>,
}

impl Keeper {
    /// Looks for ever; ends with the agent.
    pub(crate) async fn run(mut self) {
        let mut next_attempt = Instant::now();
        let mut tried = None;
        loop {
            self.gpus.look().await;
            let lent = self.lent.borrow_and_update().clone();
            if !self.gpus.facts().is_empty() && self.engine.borrow_and_update().ok {
                let wanted = lent_ids(&self.gpus, &|name| lent.lends_gpu(name));
                // What could not be used is tried again at its time, and at once when something changed.
                let now = (wanted.clone(), self.gpus.reading().map(|reading| reading.driver));
                let due = tried.as_ref() != Some(&now) || Instant::now() >= next_attempt;
                if due && let Ok(info) = self.runtime.info().await {
                    if prove(&self.gpus, &*self.runtime, self.node, &info, &wanted, false).await {
                        next_attempt = Instant::now() + AGAIN;
                    }
                    tried = Some(now);
                }
            }
            let facts = self.gpus.facts();
            self.machine.send_if_modified(|machine| {
                let news = machine.facts.machine.gpus != facts;
                machine.facts.machine.gpus.clone_from(&facts);
                news
            });
            tokio::select! {
                () = sleep(LOOK) => {}
                changed = self.lent.changed() => if changed.is_err() { return },
                changed = self.engine.changed() => {
                    if changed.is_err() { return }
                    // Another engine may have come up.
                    tried = None;
                }
            }
        }
    }
}

/// The ids of what is lent of NVIDIA's: whole GPUs, or instances.
pub(super) fn lent_ids(gpus: &Gpus, lends: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut ids = Vec::new();
    for mut gpu in gpus.facts() {
        gpu.lend(lends);
        ids.extend(gpu.units().iter().filter(|unit| unit.lent).map(|unit| unit.id.to_owned()));
    }
    let known = gpus.reading().unwrap_or_default();
    let there = |id: &String| {
        known.cards.iter().any(|card| !card.lost && card.facts.units().iter().any(|unit| unit.id == id))
    };
    ids.retain(there);
    ids
}

/// Has a container use each of `wanted` that has no proof for this engine and driver, by each way that the engine
/// has until one leads there. Whether something was tried.
pub(super) async fn prove(
    gpus: &Gpus,
    runtime: &dyn Runtime,
    node: NodeId,
    info: &EngineInfo,
    wanted: &[String],
    anew: bool,
) -> bool {
    let facts = setup::facts(gpus, Some(info)).await;
    let plan = GpuPlan::new(&facts);
    let Some(reading) = gpus.reading() else { return false };
    let key = format!(
        "engine {} {} {}, driver {}, ways {:?}",
        info.version, info.data_root, info.default_runtime, reading.driver, plan.ways
    );
    let missing: Vec<String> = {
        let mut state = gpus.state.lock();
        let proofs = &mut state.proofs;
        (proofs.configured, proofs.no_way) = (!plan.ways.is_empty(), plan.missing.last().cloned());
        if proofs.key != key || anew {
            // What was proven stays so until it is tried again: what runs there is not stopped by a newer engine.
            proofs.key.clone_from(&key);
            wanted.to_vec()
        } else {
            wanted.iter().filter(|id| !matches!(proofs.verdicts.get(*id), Some(None))).cloned().collect()
        }
    };
    if missing.is_empty() || plan.ways.is_empty() {
        return false;
    }
    info!(gpus = missing.len(), ways = ?plan.ways, "a container tries the GPUs");
    let mut verdicts: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut method = None;
    for way in &plan.ways {
        verdicts = by(gpus, runtime, node, *way, &missing).await;
        if verdicts.values().any(Option::is_none) {
            method = Some(*way);
            break;
        }
    }
    for (id, why) in &verdicts {
        match why {
            None => info!(gpu = id, "a container used it"),
            Some(why) => warn!(gpu = id, why, "no container can use it"),
        }
    }
    let mut state = gpus.state.lock();
    state.proofs.method = method.or(state.proofs.method);
    state.proofs.verdicts.extend(verdicts);
    state.proofs.save(&gpus.file);
    true
}

/// What one way makes of them: nothing where it was used, else why not.
async fn by(
    gpus: &Gpus,
    runtime: &dyn Runtime,
    node: NodeId,
    way: Method,
    ids: &[String],
) -> BTreeMap<String, Option<String>> {
    let reading = gpus.reading().unwrap_or_default();
    // CUDA sees one instance at a time, so each is tried alone.
    let (instances, whole): (Vec<String>, Vec<String>) =
        ids.iter().cloned().partition(|id| id.starts_with("MIG-"));
    let mut sets: Vec<Vec<String>> = instances.into_iter().map(|id| vec![id]).collect();
    if !whole.is_empty() {
        sets.push(whole);
    }
    let mut verdicts = BTreeMap::new();
    for set in sets {
        let request = GpuRequest::any(GpuCount::All);
        let report = match super::access(way, &gpus.roots, &reading, &set, &request) {
            Ok(access) => match std::env::current_exe() {
                Ok(agent) => super::proof::prove(runtime, node, access, &agent).await,
                Err(error) => Err(format!("the agent's own program is not found: {error}")),
            },
            Err(why) => Err(why),
        };
        for id in set {
            let verdict = match &report {
                Ok(report) => report.used(&id).err(),
                Err(why) => Some(why.clone()),
            };
            verdicts.insert(id, verdict.map(|why| format!("{way}: {why}")));
        }
    }
    verdicts
}
