//! Which of OpenCL's devices a GPU of the machine is: by the id that its driver tells to both, by its place on the bus,
//! and only where a driver tells OpenCL neither by its name.

use crate::raw::ComputeError;
use opencl3::{
    device::{CL_DEVICE_TYPE_CPU, CL_DEVICE_TYPE_GPU, Device},
    platform::get_platforms,
};
use serde::{Deserialize, Serialize};

/// Set for the process that measures, a processor counts as the GPU that is asked for, whatever its name. It is for
/// tests on machines without one: on its word nothing is believed that a processor could not do.
pub const CPU_VARIABLE: &str = "LATTICE_GPU_MEASURE_CPU";

// Of extensions that the makers register with Khronos; absent values are answered with an error.
const UUID_KHR: u32 = 0x106A;
const PCI_BUS_NV: u32 = 0x4008;
const PCI_SLOT_NV: u32 = 0x4009;
const PCI_DOMAIN_NV: u32 = 0x400A;
const TOPOLOGY_AMD: u32 = 0x4037;
const PCI_INFO_KHR: u32 = 0x410F;

/// What counts as a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GPUs.
    Gpu,
    /// A processor, whatever is asked for: for tests.
    Processor,
}

impl Kind {
    /// By [`CPU_VARIABLE`].
    pub fn of_environment() -> Self {
        if std::env::var_os(CPU_VARIABLE).is_some() { Self::Processor } else { Self::Gpu }
    }
}

/// A GPU of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Which {
    /// As its driver names it: `GPU-5f3c…`, or its address on the bus.
    pub id: String,
    /// Its address on the bus, as the kernel writes it: `0000:3b:00.0`; empty where that is not known.
    pub address: String,
    /// Its name.
    pub model: String,
}

/// What a device says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    uuid: Option<String>,
    address: Option<String>,
    name: String,
}

impl Which {
    /// Which of these it is.
    fn among(&self, all: &[Said]) -> Option<usize> {
        let bare = self.id.trim_start_matches("GPU-").replace('-', "").to_ascii_lowercase();
        let address = |said: &str| !said.is_empty() && (self.id == said || self.address == said);
        let by_id = all.iter().position(|said| said.uuid.as_ref() == Some(&bare));
        let by_address = || all.iter().position(|said| said.address.as_deref().is_some_and(address));
        let by_name = || {
            let mut named = all
                .iter()
                .enumerate()
                .filter(|(_, said)| said.uuid.is_none() && said.address.is_none() && said.name == self.model);
            match (named.next(), named.next()) {
                (Some((at, _)), None) => Some(at),
                _ => None,
            }
        };
        by_id.or_else(by_address).or_else(by_name)
    }

    pub(crate) fn find(&self, kind: Kind) -> Result<Device, ComputeError> {
        let cpu = kind == Kind::Processor;
        let kind = if cpu { CL_DEVICE_TYPE_CPU } else { CL_DEVICE_TYPE_GPU };
        let platforms = get_platforms().map_err(|error| ComputeError::NoOpenCl(error.to_string()))?;
        // One that has none of this kind says so as an error.
        let devices: Vec<Device> = platforms
            .iter()
            .flat_map(|platform| platform.get_devices(kind).unwrap_or_default())
            .map(Device::new)
            .filter(|device| {
                device.available().unwrap_or(false) && device.compiler_available().unwrap_or(false)
            })
            .collect();
        let all: Vec<Said> = devices.iter().map(said).collect();
        let at = if cpu { (!devices.is_empty()).then_some(0) } else { self.among(&all) };
        let found = at.and_then(|at| devices.get(at).copied());
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|said| said.name.as_str()).collect();
            let knows = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            ComputeError::NoDevice(format!("{} is asked for; it knows {knows}", self.id))
        })
    }
}

fn said(device: &Device) -> Said {
    let bytes = |what: u32| device.get_data(what).ok();
    let words = |what: u32| {
        let bytes = bytes(what)?;
        let (words, rest) = bytes.as_chunks::<4>();
        rest.is_empty().then(|| words.iter().map(|word| u32::from_ne_bytes(*word)).collect::<Vec<_>>())
    };
    let word = |what: u32| words(what)?.first().copied();
    let uuid = bytes(UUID_KHR).filter(|bytes| bytes.len() == 16 && bytes.iter().any(|byte| *byte != 0));
    let khr = || match words(PCI_INFO_KHR)?.as_slice() {
        [domain, bus, device, function] => Some((*domain, *bus, *device, *function)),
        _ => None,
    };
    let nvidia = || {
        let slot = word(PCI_SLOT_NV)?;
        Some((word(PCI_DOMAIN_NV).unwrap_or(0), word(PCI_BUS_NV)?, slot >> 3, slot & 7))
    };
    let amd = || match bytes(TOPOLOGY_AMD)?.get(21..24)? {
        [bus, device, function] => Some((0, u32::from(*bus), u32::from(*device), u32::from(*function))),
        _ => None,
    };
    let address = khr().or_else(nvidia).or_else(amd);
    Said {
        uuid: uuid.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        address: address.map(|(domain, bus, device, function)| {
            format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
        }),
        name: device.name().unwrap_or_default().trim_matches(['\0', ' ']).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(uuid: Option<&str>, address: Option<&str>, name: &str) -> Said {
        Said { uuid: uuid.map(Into::into), address: address.map(Into::into), name: name.into() }
    }

    #[test]
    fn a_gpu_is_known_by_its_id_its_place_or_its_name_alone() {
        let which = |id: &str, address: &str, model: &str| Which {
            id: id.into(),
            address: address.into(),
            model: model.into(),
        };
        let two = [
            card(Some("5f3c0000000000000000000000000001"), Some("0000:01:00.0"), "A"),
            card(Some("5f3c0000000000000000000000000002"), Some("0000:3b:00.0"), "A"),
        ];
        let id = "GPU-5F3C0000-0000-0000-0000-000000000002";
        assert_eq!(which(id, "", "A").among(&two), Some(1));
        assert_eq!(which("GPU-x", "0000:01:00.0", "A").among(&two), Some(0));
        assert_eq!(which("0000:3b:00.0", "", "A").among(&two), Some(1));
        // One that says who it is, and is somebody else, is not taken for its name.
        assert_eq!(which("GPU-x", "", "A").among(&two), None);
        let named = [card(None, None, "A"), card(None, None, "B")];
        assert_eq!(which("GPU-x", "", "B").among(&named), Some(1));
        assert_eq!(which("GPU-x", "", "C").among(&named), None);
        let twins = [card(None, None, "A"), card(None, None, "A")];
        assert_eq!(which("GPU-x", "", "A").among(&twins), None);
        assert_eq!(which("", "", "").among(&two), None);
    }
}
