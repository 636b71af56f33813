//! GPUs on this node: what the machine has, whether a container of its engine can use them, and how a container gets
//! those that the server named.
//!
//! | file | what |
//! |---|---|
//! | `known` | what was read, made into what is told: pure |
//! | `proof` | a container that uses them, and goes |
//! | `setup` | what of the machine a plan is made of, and carrying one out |
//! | `keeper` | the task that looks, and has them proven |
//! | `bench` | the process in which one is measured |
//!
//! A GPU goes from *found* (the engine has no way to give it) over *configured* (it has one) to *proven* (a container
//! used it). A proof holds for one engine, one driver and one GPU, also over restarts of the agent, and is made anew
//! when one of these is another. Only what the owner lends is proven: the rest is nobody's business.

mod bench;
mod keeper;
mod known;
mod proof;
mod setup;

pub(crate) use bench::Bench;
pub(crate) use keeper::Keeper;
pub(crate) use proof::{remove_image, remove_leftovers};
pub use setup::{GpuReport, gpu_prove, gpu_report, gpu_setup};

use crate::machine::Roots;
use known::{Known, Proofs};
use lattice_converge::health::GpuSample;
use lattice_gpu::{Card, GpuReading, Method, Nvml, Recorded, Watched};
use lattice_model::{
    container::{BoundFile, GpuAccess},
    machine::{GpuFacts, GpuState},
    spec::GpuRequest,
};
use parking_lot::Mutex;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How long a driver has to answer.
const DRIVER: Duration = Duration::from_secs(10);

/// What is known of this machine's GPUs, shared by all that ask.
#[derive(Clone, Debug)]
pub(crate) struct Gpus {
    driver: Arc<Watched>,
    roots: Roots,
    /// Where proofs are kept.
    file: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    proofs: Proofs,
}

impl Gpus {
    /// Of the machine below `roots`; a library is asked only of the machine that this runs on.
    pub(crate) fn new(roots: Roots, file: PathBuf) -> Self {
        let driver = match roots == Roots::default() {
            true => Watched::new(Nvml::default()),
            false => Watched::new(Recorded::new([])),
        };
        let state = State { proofs: Proofs::load(&file), ..State::default() };
        Self { driver: Arc::new(driver), roots, file, state: Arc::new(Mutex::new(state)) }
    }

    /// Asks the driver and the kernel's files.
    pub(crate) async fn look(&self) {
        let this = self.clone();
        let look = move || {
            let reading = this.driver.read(DRIVER);
            let files = crate::machine::gpus(&this.roots);
            this.state.lock().known.look(reading, files);
        };
        // Its own limit ends it.
        let _ = tokio::task::spawn_blocking(look).await;
    }

    /// As they are told, none lent.
    pub(crate) fn facts(&self) -> Vec<GpuFacts> {
        let state = self.state.lock();
        state.known.facts(&state.proofs)
    }

    /// For the machine's condition.
    pub(crate) fn sample(&self, lends: &dyn Fn(&str) -> bool) -> Option<GpuSample> {
        let state = self.state.lock();
        state.known.sample(&state.proofs, lends)
    }

    /// The hottest, in degrees Celsius.
    pub(crate) fn celsius(&self) -> Option<i32> {
        self.state.lock().known.reading()?.cards.iter().filter_map(|card| card.celsius).max()
    }

    /// One that is there now, with what changes all the time as far as its driver tells.
    pub(crate) fn card(&self, id: &str) -> Option<Card> {
        let state = self.state.lock();
        let told =
            state.known.reading().and_then(|reading| reading.cards.iter().find(|card| card.facts.id == id));
        told.filter(|card| !card.lost).cloned().or_else(|| {
            let found = state.known.facts(&state.proofs).into_iter().find(|gpu| gpu.id == id)?;
            (found.state != GpuState::Lost).then(|| Card { facts: found, ..Card::default() })
        })
    }

    fn reading(&self) -> Option<GpuReading> {
        self.state.lock().known.reading().cloned()
    }

    /// How a container gets what the server named. That it is lent and proven was checked before.
    pub(crate) fn access(&self, request: &GpuRequest) -> Result<GpuAccess, String> {
        let state = self.state.lock();
        let method = state
            .proofs
            .method
            .ok_or("no container has used a GPU here yet, so how one gets it is not known")?;
        let reading = state.known.reading().ok_or("the driver of the GPUs does not answer")?;
        access(method, &self.roots, reading, &request.ids, request)
    }
}

/// How a container gets these GPUs in one way.
fn access(
    method: Method,
    roots: &Roots,
    reading: &GpuReading,
    ids: &[String],
    request: &GpuRequest,
) -> Result<GpuAccess, String> {
    match method {
        Method::Runtime => {
            let usual = || ["compute", "utility"].map(str::to_owned).into();
            let asked = &request.capabilities;
            let capabilities = if asked.is_empty() { usual() } else { asked.clone() };
            Ok(GpuAccess::Runtime { ids: ids.to_vec(), capabilities })
        }
        Method::Cdi => {
            let devices = lattice_gpu::cdi_devices(&roots.path(""), &[]);
            let name = |id: &String| {
                let index = reading
                    .cards
                    .iter()
                    .find(|card| card.facts.id == *id)
                    .map(|card| card.facts.index.to_string());
                let name =
                    [Some(id.clone()), index].into_iter().flatten().find(|name| devices.contains(name));
                name.map(|name| format!("nvidia.com/gpu={name}"))
                    .ok_or_else(|| format!("the description of devices for the engine (CDI) does not name the GPU {id}; `lattice-agent gpu setup` writes it anew"))
            };
            Ok(GpuAccess::Cdi { names: ids.iter().map(name).collect::<Result<_, String>>()? })
        }
        Method::Direct => {
            let direct = lattice_gpu::direct(&roots.path(""), reading)?;
            let mut devices = direct.common;
            for id in ids {
                let own = direct
                    .devices
                    .get(id)
                    .ok_or_else(|| format!("the device node of the GPU {id} is missing"))?;
                devices.extend(own.iter().cloned());
            }
            let file = |file: lattice_gpu::DriverFile| BoundFile { source: file.source, target: file.target };
            Ok(GpuAccess::Direct { devices, files: direct.files.into_iter().map(file).collect() })
        }
    }
}
