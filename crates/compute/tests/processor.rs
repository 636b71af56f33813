//! The work on a real device of OpenCL: this machine's processor, by pocl. What it gives is what the checker computes.

#![allow(clippy::unwrap_used)]

use lattice_compute::{Bench, ComputeError, Kind, Which};
use lattice_measure::{
    Told, Words, check_gpu, check_gpu_memory,
    gpu::{BLOCKS, GROUPS, MAX_SEGMENTS, steps},
};
use std::time::{Duration, Instant};

fn bench() -> Bench {
    let opened = Bench::open(&Which::default(), Kind::Processor);
    opened
        .unwrap_or_else(|error| panic!("{error}\nThese tests need pocl-opencl-icd; `make deps` installs it."))
}

fn chance() -> impl FnMut() -> u64 {
    let mut n = 0u64;
    move || {
        n += 1;
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11
    }
}

#[test]
fn what_a_device_computes_is_what_is_checked() {
    let bench = bench();
    for (seed, rounds) in [(1, 1), (2, 3), (u64::MAX, 8)] {
        let Told::Gpu { sums, micros } = bench.compute(seed, rounds, Duration::from_millis(50)).unwrap()
        else {
            panic!()
        };
        assert!(micros > 0 && (1..=MAX_SEGMENTS).contains(&sums.len()));
        // Every group of the first and of the last segment.
        let mut at = 0..;
        let every = sums.len().min(2) * GROUPS;
        let mut next = || at.next().unwrap();
        assert_eq!(check_gpu(seed, rounds, &sums, every, &mut next), Ok(sums.len() as u64 * steps(rounds)));
        assert_eq!(check_gpu(seed, rounds, &sums, 30, chance()), Ok(sums.len() as u64 * steps(rounds)));
        assert!(check_gpu(seed ^ 1, rounds, &sums, 1, chance()).is_err());
        // One group that was left out: with so many picks among so few it is found.
        let mut lazy = sums[..1].to_vec();
        lazy[0].0[7] = 0;
        assert!(check_gpu(seed, rounds, &lazy, 600, chance()).is_err());
    }
    // However long is asked for, it ends.
    let began = Instant::now();
    assert!(bench.compute(1, 1, Duration::from_secs(3600)).is_ok());
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn what_a_device_does_with_its_memory_is_what_is_checked() {
    let mut bench = bench();
    let bytes = bench.bytes();
    assert!(BLOCKS.contains(&bytes) && bytes.is_power_of_two());
    assert_eq!(bench.pass(1, Duration::ZERO), Err(ComputeError::Turn), "there is no block yet");
    assert_eq!(bench.fill(5), Ok(Told::GpuFilled { bytes }));
    let Told::GpuPassed { mut sums, .. } = bench.pass(6, Duration::from_millis(300)).unwrap() else {
        panic!()
    };
    for chunk in [0, 31, 63] {
        assert_eq!(check_gpu_memory(5, bytes, 6, &sums, chunk), Ok(sums.len() as u64));
    }
    assert!(check_gpu_memory(5, bytes, 7, &sums, 0).is_err());
    assert!(check_gpu_memory(4, bytes, 6, &sums, 0).is_err());
    // Left out at the end, it is fewer passes; made up, it is found out.
    let passes = sums.len() as u64;
    sums.push(Words(vec![1; 64]));
    assert!(check_gpu_memory(5, bytes, 6, &sums, 0).is_err(), "after {passes} passes");
    assert_eq!(bench.pass(1, Duration::ZERO), Err(ComputeError::Turn), "a block is spent");
}

#[test]
fn a_processor_is_no_gpu() {
    // Where there is a GPU, it is not called this.
    let which = Which { id: "GPU-none".into(), model: "None".into(), ..Which::default() };
    let error = Bench::open(&which, Kind::Gpu).unwrap_err();
    assert!(matches!(error, ComputeError::NoDevice(_)), "{error}");
}
