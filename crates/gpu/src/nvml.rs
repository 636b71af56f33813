//! NVIDIA's management library, loaded when it is there, as `nvidia-smi` does.
//!
//! What a card cannot tell (links of one that has none, errors where memory has no correction) is left out. Links go
//! to other cards directly, or to a switch: cards with a link to something that is no card reach each other by it.
//!
//! The library is loaded for each reading until it is there, and then kept: a driver that is installed later is seen,
//! and its library stays mapped until the agent ends.

use crate::{
    error::{GpuError, Result},
    reading::{Card, GpuDriver, GpuReading},
};
use lattice_model::{
    Bytes,
    machine::{GpuFacts, GpuInstance, GpuState, GpuVendor},
};
use nvml_wrapper::{
    Device, Nvml as Library,
    enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor},
    error::NvmlError,
};
use std::collections::{BTreeMap, BTreeSet};

/// The most links of a card that are looked at; NVLink has 18 in its fourth generation.
const LINKS: u32 = 36;
/// The most instances of a card.
const INSTANCES: u32 = 16;

/// NVIDIA's GPUs.
#[derive(Default)]
pub struct Nvml {
    library: Option<Library>,
}

impl std::fmt::Debug for Nvml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nvml").field("loaded", &self.library.is_some()).finish()
    }
}

impl GpuDriver for Nvml {
    fn read(&mut self) -> Result<GpuReading> {
        let library = match self.library.take() {
            Some(library) => library,
            None => Library::init().map_err(error)?,
        };
        let reading = read(&library);
        match &reading {
            // A driver that was taken out and put in again is another one.
            Err(NvmlError::Uninitialized | NvmlError::DriverNotLoaded) => {}
            _ => self.library = Some(library),
        }
        reading.map_err(error)
    }
}

fn error(error: NvmlError) -> GpuError {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => GpuError::NoLibrary,
        NvmlError::DriverNotLoaded => GpuError::NotLoaded,
        NvmlError::LibRmVersionMismatch => GpuError::Mismatch,
        other => GpuError::Refused(other.to_string()),
    }
}

/// Addresses as the kernel writes them: four digits of the domain, in lower case.
fn address(bus_id: &str) -> String {
    let lower = bus_id.to_ascii_lowercase();
    match lower.split_once(':') {
        Some((domain, rest)) if domain.len() > 4 => format!("{}:{rest}", &domain[domain.len() - 4..]),
        _ => lower,
    }
}

fn read(library: &Library) -> std::result::Result<GpuReading, NvmlError> {
    let driver = library.sys_driver_version()?;
    let cuda = library
        .sys_cuda_driver_version()
        .map_or_else(|_| String::new(), |version| format!("{}.{}", version / 1000, version % 1000 / 10));
    let mut cards = Vec::new();
    // The addresses at the other ends of each card's links.
    let mut ends: Vec<BTreeSet<String>> = Vec::new();
    for index in 0..library.device_count()? {
        match library.device_by_index(index) {
            Ok(device) => {
                let (card, links) = card(&device, index, &driver, &cuda);
                cards.push(card);
                ends.push(links);
            }
            // It has no name any more; what it was called is known to whoever saw it before.
            Err(NvmlError::GpuLost) => {
                let facts = GpuFacts { index, vendor: GpuVendor::Nvidia, ..GpuFacts::default() };
                cards.push(Card { facts, lost: true, ..Card::default() });
                ends.push(BTreeSet::new());
            }
            Err(other) => return Err(other),
        }
    }
    join(&mut cards, &ends);
    Ok(GpuReading { driver, cuda, cards })
}

/// Which cards reach each other, by the addresses at the ends of their links.
fn join(cards: &mut [Card], ends: &[BTreeSet<String>]) {
    let by_address: BTreeMap<String, String> =
        cards.iter().map(|card| (card.address.clone(), card.facts.id.clone())).collect();
    let switched = |links: &BTreeSet<String>| links.iter().any(|end| !by_address.contains_key(end));
    let behind: Vec<&String> =
        cards.iter().zip(ends).filter(|(_, links)| switched(links)).map(|(card, _)| &card.facts.id).collect();
    let behind: BTreeSet<String> = behind.into_iter().cloned().collect();
    for (card, links) in cards.iter_mut().zip(ends) {
        let mut reached: BTreeSet<String> =
            links.iter().filter_map(|end| by_address.get(end).cloned()).collect();
        if switched(links) {
            reached.extend(behind.iter().cloned());
        }
        reached.remove(&card.facts.id);
        card.facts.links = reached;
    }
}

fn card(device: &Device<'_>, index: u32, driver: &str, cuda: &str) -> (Card, BTreeSet<String>) {
    let uuid = device.uuid();
    let lost = matches!(uuid, Err(NvmlError::GpuLost));
    let memory = |device: &Device<'_>| device.memory_info().map_or(Bytes(0), |info| Bytes(info.total));
    let mig = device.mig_mode().is_ok_and(|mode| mode.current == 1);
    let address = device.pci_info().map(|info| address(&info.bus_id)).unwrap_or_default();
    let facts = GpuFacts {
        id: uuid.unwrap_or_else(|_| address.clone()),
        index,
        vendor: GpuVendor::Nvidia,
        model: device.name().unwrap_or_else(|_| "NVIDIA".to_owned()),
        memory: memory(device),
        driver: driver.to_owned(),
        cuda: cuda.to_owned(),
        mig,
        instances: if mig { instances(device, &memory) } else { Vec::new() },
        ..GpuFacts::default()
    };
    let links = (0..LINKS)
        .map(|link| device.link_wrapper_for(link))
        // Beyond its last link a card says that the argument is none.
        .map_while(|link| match link.is_active() {
            Err(NvmlError::InvalidArg | NvmlError::NotSupported | NvmlError::GpuLost) => None,
            Ok(true) => Some(link.remote_pci_info().ok().map(|info| self::address(&info.bus_id))),
            Ok(false) | Err(_) => Some(None),
        })
        .flatten()
        .collect();
    // The number of its device file, which only Unix has.
    #[cfg(unix)]
    let minor = device.minor_number().ok();
    #[cfg(not(unix))]
    let minor = None;
    let card = Card {
        facts,
        address,
        minor,
        lost,
        celsius: (device.temperature(TemperatureSensor::Gpu).ok())
            .and_then(|celsius| i32::try_from(celsius).ok()),
        memory_errors: device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok(),
        busy_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
    };
    (card, links)
}

fn instances(device: &Device<'_>, memory: &dyn Fn(&Device<'_>) -> Bytes) -> Vec<GpuInstance> {
    let most = device.mig_device_count().unwrap_or(0).min(INSTANCES);
    let one = |index| {
        let part = device.mig_device_by_index(index).ok()?;
        let name = part.name().unwrap_or_default();
        Some(GpuInstance {
            id: part.uuid().ok()?,
            // `NVIDIA A100-SXM4-40GB MIG 1g.5gb`
            profile: name.find("MIG ").map_or_else(|| "MIG".to_owned(), |at| name[at..].to_owned()),
            memory: memory(&part),
            lent: false,
            state: GpuState::Found,
        })
    };
    (0..most).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_kernels() {
        assert_eq!(address("00000000:3B:00.0"), "0000:3b:00.0");
        assert_eq!(address("0000:3b:00.0"), "0000:3b:00.0");
        assert_eq!(address(""), "");
    }

    #[test]
    fn links_lead_to_cards_or_to_a_switch() {
        let card = |n: u32| Card {
            facts: GpuFacts { id: format!("GPU-{n}"), ..GpuFacts::default() },
            address: format!("0000:0{n}:00.0"),
            ..Card::default()
        };
        let end = |ends: &[&str]| ends.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
        let links = |ends: &[BTreeSet<String>]| {
            let mut cards: Vec<Card> = (0..4).map(card).collect();
            join(&mut cards, ends);
            cards
                .iter()
                .map(|c| c.facts.links.iter().cloned().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        let none = end(&[]);
        assert_eq!(
            links(&[end(&["0000:01:00.0"]), end(&["0000:00:00.0"]), none.clone(), none.clone()]),
            ["GPU-1", "GPU-0", "", ""]
        );
        let switch = end(&["0000:f0:00.0"]);
        assert_eq!(
            links(&[switch.clone(), switch.clone(), switch, none]),
            ["GPU-1 GPU-2", "GPU-0 GPU-2", "GPU-0 GPU-1", ""]
        );
    }

    #[test]
    fn where_no_library_is_nothing_breaks() {
        // On a machine with a GPU this reads it; elsewhere it says what is missing.
        match Nvml::default().read() {
            Ok(reading) => assert!(!reading.driver.is_empty(), "{reading:?}"),
            Err(error) => assert_ne!(error, GpuError::Hung(0)),
        }
    }
}
