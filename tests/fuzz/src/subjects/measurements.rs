//! What a machine says while it is measured: whatever it is, it is judged in bounded time, and more is never counted than
//! a machine may do.

use crate::{Draw, Subject, json};
use lattice_measure::{
    BLOCKS, CHUNKS, MAX_PASSES, MAX_SEGMENTS, Told, Words, check_cpu, check_disk, check_gpu,
    check_gpu_memory, check_memory, cpu, gpu,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::LazyLock;

const SEED: u64 = 7;
const LANES: u16 = 3;

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measurement {
    told: Value,
    chance: u64,
}

/// Good answers, of which the first is what the work gives.
static GOOD: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let lane = |n| Words(vec![cpu::segment(cpu::begin(SEED, n))]);
    let sums = || Words((0..CHUNKS as u64).collect());
    [
        Told::Cpu { lanes: (0..LANES).map(lane).collect(), micros: 1000 },
        Told::Pong { nonce: SEED },
        Told::Filled { bytes: *BLOCKS.start() },
        Told::Passed { sums: vec![sums(), sums()], micros: 1000 },
        Told::Disk { sums: sums(), write: 1000, sync: 10, read: 100 },
        Told::Gpu { sums: vec![sums(), sums()], micros: 1000 },
        Told::GpuReady { bytes: *gpu::BLOCKS.start() },
        Told::GpuPassed { sums: vec![sums(), sums()], micros: 1000 },
    ]
    .iter()
    .filter_map(|told| serde_json::to_value(told).ok())
    .collect()
});

impl Subject for Measurement {
    const NAME: &'static str = "measurements";

    fn draw(draw: &mut dyn Draw) -> Self {
        let mut told = draw.of(&GOOD).clone();
        if !draw.one_in(8) {
            json::alter(draw, &mut told, &GOOD);
        }
        Self { told, chance: draw.below(1 << 16) as u64 }
    }

    fn check(&self) -> Result<(), String> {
        let Ok(told) = serde_json::from_value::<Told>(self.told.clone()) else { return Ok(()) };
        let mut chance = self.chance;
        let draw = || {
            chance = chance.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
            chance
        };
        let counted = |counted: u64, most: usize| match counted <= most as u64 {
            true => Ok(()),
            false => Err(format!("{counted} are counted, of {most} at the most")),
        };
        match &told {
            Told::Cpu { lanes, .. } => match check_cpu(SEED, LANES, lanes, 3, draw) {
                Ok(segments) => counted(segments, usize::from(LANES) * MAX_SEGMENTS),
                Err(_) if self.told == GOOD[0] => Err("what was computed is not believed".into()),
                Err(_) => Ok(()),
            },
            Told::Passed { sums, .. } => match check_memory(SEED, *BLOCKS.start(), 1, sums, self.chance) {
                Ok(passes) => counted(passes, MAX_PASSES),
                Err(_) => Ok(()),
            },
            Told::Disk { sums, .. } => match check_disk(SEED, 1, sums, draw) {
                Ok(()) => Err("sums that nobody computed are believed".into()),
                Err(_) => Ok(()),
            },
            Told::Gpu { sums, .. } => match check_gpu(SEED, 1, sums, 3, draw) {
                Ok(_) => Err("what no GPU computed is believed".into()),
                Err(_) => Ok(()),
            },
            Told::GpuPassed { sums, .. } => {
                match check_gpu_memory(SEED, *gpu::BLOCKS.start(), 1, sums, self.chance) {
                    Ok(passes) => counted(passes, gpu::MAX_PASSES),
                    Err(_) => Ok(()),
                }
            }
            Told::Pong { .. }
            | Told::Filled { .. }
            | Told::GpuReady { .. }
            | Told::GpuNot { .. }
            | Told::GpuFilled { .. } => Ok(()),
        }
    }
}
