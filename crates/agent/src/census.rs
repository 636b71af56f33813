//! Looks now and then whether the machine is still what the server was told, and tells it when not: a disk
//! came, the engine is another version, a card was put in. Numbers that change all the time are no news.

use crate::{
    engine::EngineStatus,
    event::Event,
    facts::{self, Machine},
    gpu::Gpus,
    lan::LanStatus,
    owner::Lent,
    way::Way,
};
use lattice_model::{
    Bytes, Cpu,
    report::ReportKind,
    resource::{Capacity, NodeFacts},
};
use lattice_runtime::Runtime;
use parking_lot::Mutex;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::info;

/// Between two looks, besides those when the engine came up or a session began.
const LOOK: Duration = Duration::from_secs(600);

/// What the server knows of the machine, without what changes all the time.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    known: Arc<Mutex<Option<Known>>>,
    lan: watch::Receiver<LanStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    facts: NodeFacts,
    cpu: Cpu,
    memory: Bytes,
}

impl Known {
    fn of(facts: &NodeFacts, capacity: &Capacity) -> Self {
        let facts = NodeFacts { machine: facts.machine.steady(), ..facts.clone() };
        Self { facts, cpu: capacity.cpu, memory: capacity.memory }
    }
}

impl Told {
    pub(crate) fn new(lan: watch::Receiver<LanStatus>) -> Self {
        Self { known: Arc::default(), lan }
    }

    /// What there is to tell of a machine.
    pub(crate) fn facts(&self, machine: &Machine, lent: &Lent) -> NodeFacts {
        let mut facts = machine.told(lent);
        facts.machine.lan = self.lan.borrow().state;
        facts
    }

    /// The server was told so by a hello.
    pub(crate) fn by_hello(&self, facts: &NodeFacts, capacity: &Capacity) {
        *self.known.lock() = Some(Known::of(facts, capacity));
    }

    /// What waits to be told may say something older after the hello.
    pub(crate) fn is_doubtful(&self) {
        *self.known.lock() = None;
    }

    /// Whether this is news; from now on it is told.
    fn is_news(&self, facts: &NodeFacts, capacity: &Capacity) -> bool {
        let known = Some(Known::of(facts, capacity));
        let mut told = self.known.lock();
        let news = *told != known;
        *told = known;
        news
    }
}

/// The task that looks.
pub(crate) struct Census {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) home: PathBuf,
    pub(crate) gpus: Gpus,
    pub(crate) lent: watch::Receiver<Arc<Lent>>,
    pub(crate) machine: watch::Sender<Machine>,
    pub(crate) told: Told,
    pub(crate) way: Way,
    pub(crate) lan: watch::Receiver<LanStatus>,
    pub(crate) engine: watch::Receiver<EngineStatus>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Census {
    /// Looks for ever; ends when nobody takes events any more.
    pub(crate) async fn run(mut self) {
        let mut measured = self.machine.subscribe();
        loop {
            tokio::select! {
                // A session began, which measures by itself.
                changed = measured.changed() => if changed.is_err() { return },
                changed = self.engine.changed() => {
                    if changed.is_err() { return }
                    if !self.engine.borrow_and_update().ok { continue }
                    self.measure(&mut measured).await;
                }
                // The owner's network was closed, or opened.
                changed = self.lan.changed() => if changed.is_err() { return },
                // The owner lends more or less than before.
                changed = self.lent.changed() => if changed.is_err() { return },
                // The link was measured.
                () = self.way.changed() => {}
                () = sleep(LOOK) => self.measure(&mut measured).await,
            }
            let machine = measured.borrow_and_update().clone();
            let lent = Arc::clone(&self.lent.borrow_and_update());
            let (mut facts, capacity) = (self.told.facts(&machine, &lent), lent.capacity(&machine));
            facts.machine.network = self.way.facts();
            if self.told.is_news(&facts, &capacity) {
                info!("the machine is another than the server knows; it is told");
                let report = ReportKind::Facts { facts: Box::new(facts), capacity };
                if self.events.send(Event::Tell(report)).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn measure(&self, measured: &mut watch::Receiver<Machine>) {
        let machine = facts::measure_with(&*self.runtime, &self.home, &self.gpus).await;
        self.machine.send_replace(machine);
        measured.mark_unchanged();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lattice_model::machine::{DiskFacts, MachineFacts};

    #[test]
    fn what_drifts_is_no_news_and_what_comes_is() {
        let told = Told::new(watch::channel(LanStatus::default()).1);
        let disk = |name: &str, free| DiskFacts {
            name: name.into(),
            free: Some(Bytes(free)),
            ..DiskFacts::default()
        };
        let facts = |disks: Vec<DiskFacts>| NodeFacts {
            machine: MachineFacts { disks, ..MachineFacts::default() },
            ..NodeFacts::default()
        };
        let capacity = |disk| Capacity { disk: Bytes(disk), ..Capacity::default() };
        told.by_hello(&facts(vec![disk("sda", 9)]), &capacity(9));
        assert!(!told.is_news(&facts(vec![disk("sda", 8)]), &capacity(8)));
        assert!(told.is_news(&facts(vec![disk("sda", 8), disk("sdb", 1)]), &capacity(8)));
        assert!(!told.is_news(&facts(vec![disk("sda", 8), disk("sdb", 1)]), &capacity(8)));
        told.is_doubtful();
        assert!(told.is_news(&facts(vec![disk("sda", 8), disk("sdb", 1)]), &capacity(8)));
    }
}
