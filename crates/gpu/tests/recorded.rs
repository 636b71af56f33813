//! Readings that were taken on real machines, or written after the library's documentation where there was none:
//! they are read back, and lead to a plan.

#![allow(clippy::unwrap_used)]

use lattice_gpu::{
    DirectAccess, EngineWays, GpuDriver as _, GpuError, GpuPlan, GpuReading, Method, PackageManager,
    Recorded, SetupFacts, ToolkitPackage, Watched,
};
use lattice_model::machine::GpuUnit;
use std::time::Duration;

/// Taken by NVML on a machine with one H100 (driver 580, open kernel module).
const H100: &str = include_str!("recorded/h100.json");

#[test]
fn an_h100_is_known_by_its_model_and_memory() {
    let reading: GpuReading = serde_json::from_str(H100).unwrap();
    assert_eq!(reading.too_old(), None);
    let gpu = &reading.cards[0].facts;
    assert!(gpu.is_model("H100") && gpu.is_model("nvidia h100 80GB HBM3") && !gpu.is_model("H10"));
    let [GpuUnit { id, memory, .. }] = gpu.units()[..] else { panic!("{gpu:?}") };
    assert_eq!(
        (id, memory.to_string()),
        ("GPU-5f3c1d2e-0a1b-4c2d-8e3f-112233445566", gpu.memory.to_string())
    );
    // As it is told and read again.
    let again: GpuReading = serde_json::from_str(&serde_json::to_string(&reading).unwrap()).unwrap();
    assert_eq!(again, reading);
}

#[test]
fn the_engine_of_that_machine_needs_nothing_installed() {
    let reading: GpuReading = serde_json::from_str(H100).unwrap();
    let devices = [(reading.cards[0].facts.id.clone(), vec!["/dev/nvidia0".to_owned()])].into();
    let facts = SetupFacts {
        nvidia: Ok(reading),
        engine: Some(EngineWays { version: "20.10.24".into(), ..EngineWays::default() }),
        cdi: Default::default(),
        direct: Ok(DirectAccess { devices, ..DirectAccess::default() }),
        packages: Some(PackageManager::Apt),
        toolkit: ToolkitPackage::Unknown,
        systemd: false,
        on_bus: true,
    };
    let plan = GpuPlan::new(&facts);
    assert_eq!((plan.ways, plan.steps), (vec![Method::Direct], vec![]));
}

#[test]
fn a_driver_that_goes_and_comes_is_followed() {
    let reading: GpuReading = serde_json::from_str(H100).unwrap();
    let mut recorded = Recorded::new([Ok(reading.clone()), Err(GpuError::NotLoaded), Ok(reading.clone())]);
    assert!(recorded.read().is_ok());
    let watched = Watched::new(recorded);
    let limit = Duration::from_secs(60);
    assert_eq!(watched.read(limit), Err(GpuError::NotLoaded));
    assert_eq!(watched.read(limit), Ok(reading.clone()));
    assert_eq!(watched.read(limit), Ok(reading), "the last one stays");
}
