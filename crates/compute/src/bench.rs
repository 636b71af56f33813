//! The work on one device.

use crate::{
    raw::{Arg, ComputeError, Raw, Words},
    which::{Kind, Which},
};
use lattice_measure::{
    CHUNKS, Told, Words as Sums, check_gpu, check_gpu_memory,
    gpu::{BLOCKS, GROUPS, LANES, MAX_PASSES, MAX_SEGMENTS, ROUNDS, begin, next},
    memory::words,
};
use std::time::{Duration, Instant};

const KERNELS: [&str; 7] = ["segment", "fold", "fill", "pass", "lanes", "sums", "next"];
/// Items of a chunk of memory.
const ITEMS: usize = 1024;
/// What `fold` leaves of all lanes.
const FOLDED: usize = LANES as usize / 16;
/// The longest that a part runs, whatever is asked.
const PART: Duration = Duration::from_millis(500);
/// Passes that are started before it is looked how long they took.
const BATCH: usize = 8;

/// A GPU that is ready for work.
pub struct Bench {
    raw: Raw,
    lanes: Words,
    folded: Words,
    keys: Words,
    parts: Words,
    eights: Words,
    sums: Words,
    /// What it has of memory for a block, in bytes.
    bytes: u64,
    block: Option<Words>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Bench {
    /// Finds the device, builds the work for it, and sees that it computes what a processor does.
    ///
    /// # Errors
    /// [`ComputeError`] says why it cannot be measured.
    pub fn open(which: &Which, kind: Kind) -> Result<Self, ComputeError> {
        let device = which.find(kind)?;
        // An eighth of it, and of what one allocation may have all: the rest is for whoever uses it.
        let most = (device.global_mem_size()? / 8).min(device.max_mem_alloc_size()?);
        let mut bytes = *BLOCKS.end();
        while bytes > most {
            bytes /= 2;
        }
        if bytes < *BLOCKS.start() {
            return Err(ComputeError::Small);
        }
        let raw = Raw::open(&device, &KERNELS)?;
        let mut bench = Self {
            lanes: raw.words(LANES as usize)?,
            folded: raw.words(FOLDED)?,
            keys: raw.words(MAX_PASSES + 1)?,
            parts: raw.words(CHUNKS * ITEMS)?,
            eights: raw.words(CHUNKS * 8)?,
            sums: raw.words(MAX_PASSES * CHUNKS)?,
            raw,
            bytes,
            block: None,
        };
        bench.try_out()?;
        Ok(bench)
    }

    /// The bytes of its block.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It computes what a processor does; the compiler of a driver has its say only now, too.
    fn try_out(&mut self) -> Result<(), ComputeError> {
        const SEED: u64 = 0x6c61_7474_6963_6521;
        let known = |checked: Result<u64, lattice_measure::Wrong>| match checked {
            Ok(_) => Ok(()),
            Err(_) => Err(ComputeError::Differs),
        };
        let Told::Gpu { sums, .. } = self.compute(SEED, 2, Duration::ZERO)? else {
            return Err(ComputeError::Turn);
        };
        let mut group = 0;
        let draw = || {
            group += 21;
            group
        };
        known(check_gpu(SEED, 2, &sums, 3, draw))?;
        self.fill(SEED)?;
        let Told::GpuPassed { sums, .. } = self.pass(SEED, Duration::ZERO)? else {
            return Err(ComputeError::Turn);
        };
        known(check_gpu_memory(SEED, self.bytes, SEED, &sums, 37))
    }

    /// Segments one after the other, until the time is over or there are enough; at least one.
    ///
    /// # Errors
    /// [`ComputeError::Failed`].
    pub fn compute(&self, seed: u64, rounds: u32, time: Duration) -> Result<Told, ComputeError> {
        let (rounds, time) = (rounds.clamp(*ROUNDS.start(), *ROUNDS.end()), time.min(PART));
        let (began, mut key) = (Instant::now(), begin(seed));
        let mut all = Vec::new();
        let mut folded = vec![0; FOLDED];
        while all.is_empty() || (all.len() < MAX_SEGMENTS && began.elapsed() < time) {
            let args = [Arg::Long(key), Arg::Int(rounds), Arg::Words(&self.lanes)];
            self.raw.start("segment", LANES as usize, &args)?;
            self.raw.start("fold", FOLDED, &[Arg::Words(&self.lanes), Arg::Words(&self.folded)])?;
            self.raw.read(&self.folded, &mut folded)?;
            let sum = |group: &[u64]| group.iter().fold(0u64, |sum, part| sum.wrapping_add(*part));
            let sums: Vec<u64> = folded.chunks(FOLDED / GROUPS).map(sum).collect();
            key = next(key, &sums);
            all.push(Sums(sums));
        }
        Ok(Told::Gpu { sums: all, micros: micros(began) })
    }

    /// Makes the block.
    ///
    /// # Errors
    /// [`ComputeError::Failed`].
    pub fn fill(&mut self, seed: u64) -> Result<Told, ComputeError> {
        let len = words(self.bytes);
        let block = match self.block.take() {
            Some(block) => block,
            None => self.raw.words(len * CHUNKS)?,
        };
        let args = [Arg::Words(&block), Arg::Int(len as u32), Arg::Long(seed)];
        self.raw.start("fill", CHUNKS * ITEMS, &args)?;
        self.raw.finish()?;
        self.block = Some(block);
        Ok(Told::GpuFilled { bytes: self.bytes })
    }

    /// Passes over the block that was made, until the time is over or there are enough; at least one. The block is spent.
    ///
    /// # Errors
    /// [`ComputeError::Turn`] without a block; [`ComputeError::Failed`].
    pub fn pass(&mut self, key: u64, time: Duration) -> Result<Told, ComputeError> {
        let block = self.block.take().ok_or(ComputeError::Turn)?;
        let (len, time) = (words(self.bytes) as u32, time.min(PART));
        let began = Instant::now();
        self.raw.write(&mut self.keys, &[key])?;
        let mut done = 0;
        while done == 0 || (done < MAX_PASSES && began.elapsed() < time) {
            let batch = if done == 0 { 1 } else { done.min(BATCH) };
            for at in (done..MAX_PASSES).take(batch) {
                self.one_pass(&block, len, at as u32)?;
                done += 1;
            }
            self.raw.finish()?;
        }
        let mut sums = vec![0; done * CHUNKS];
        self.raw.read(&self.sums, &mut sums)?;
        let micros = micros(began);
        Ok(Told::GpuPassed { sums: sums.chunks(CHUNKS).map(|pass| Sums(pass.to_vec())).collect(), micros })
    }

    fn one_pass(&self, block: &Words, len: u32, at: u32) -> Result<(), ComputeError> {
        let (keys, parts) = (&self.keys, &self.parts);
        let (eights, sums) = (&self.eights, &self.sums);
        let args = [Arg::Words(block), Arg::Int(len), Arg::Words(keys), Arg::Int(at), Arg::Words(parts)];
        self.raw.start("pass", CHUNKS * ITEMS, &args)?;
        let args = [Arg::Words(parts), Arg::Words(keys), Arg::Int(at), Arg::Words(eights)];
        self.raw.start("lanes", CHUNKS * 8, &args)?;
        self.raw.start("sums", CHUNKS, &[Arg::Words(eights), Arg::Int(at), Arg::Words(sums)])?;
        self.raw.start("next", 1, &[Arg::Words(keys), Arg::Int(at), Arg::Words(sums)])
    }
}
