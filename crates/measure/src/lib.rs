//! The work by which a machine is measured: what it computes, what it says, and how that is checked.
//!
//! A server gives a machine work that grows from a number which it drew a moment ago. The machine hands back what it
//! computed on the way, and the server computes a small part of it anew, drawn by chance *afterwards*: an answer that
//! was made up, or of which a part was left out, is found out. How long it took is not asked but seen: the server's own
//! clock runs from the moment in which the number leaves. Enter at [`Ask`] and [`Told`], which is all that is said, and
//! at [`check_cpu`], [`check_memory`], [`check_disk`], [`check_gpu`] and [`check_gpu_memory`].
//!
//! | part | work | what is proven |
//! |---|---|---|
//! | processor ([`cpu`]) | a chain of segments; each begins with what the last one gave | that so many segments were computed, on so many lanes at once |
//! | memory ([`memory`]) | passes over a block; the key of each pass depends on all of the pass before | that so much memory was read and written so often, in that order |
//! | GPU ([`gpu`]) | segments of many lanes, each of which begins with what all lanes of the last one gave | that so much was computed, in that order; by what, its speed alone shows |
//! | memory of a GPU ([`memory`]) | as memory | the same |
//! | disk ([`memory::Chunk`], as a file) | a file is written, kept and read | that its content was there; not that a disk was: see `docs/ranking.md` |
//!
//! The chains are the idea of sequential work with checkpoints (Mahmoody, Moran, Vadhan, "Publicly verifiable proofs of
//! sequential work", ITCS 2013) in its plainest form, without a hash tree: a few kilobytes travel, and a machine that
//! left out a share f of the work is found out with 1 − (1 − f)^k by k segments.
//!
//! Rejected: the machine's own clock alone (it would say what it likes); well-known programs such as CoreMark (results
//! known beforehand need no machine); hash functions as the work (some processors have instructions for them, and they
//! tell little about programs).

pub mod cpu;
pub mod gpu;
pub mod memory;
mod talk;
mod verify;

pub use talk::{Ask, Told, Words};
pub use verify::{Wrong, check_cpu, check_disk, check_gpu, check_gpu_memory, check_memory};

/// The capability of an agent that can be measured.
pub const MEASURES: &str = "measure";
/// The capability of one whose GPUs can be, too.
pub const MEASURES_GPUS: &str = "measure-gpus";
/// The most lanes of a processor that are measured at once.
pub const MAX_LANES: u16 = 64;
/// The most segments of a lane: what is faster ends earlier.
pub const MAX_SEGMENTS: usize = 40;
/// The most passes over a block of memory.
pub const MAX_PASSES: usize = 8;
/// The chunks that a block of memory, and a file, consists of.
pub const CHUNKS: usize = 64;
/// The smallest block of memory, and the largest, in bytes.
pub const BLOCKS: std::ops::RangeInclusive<u64> = (64 << 20)..=(1 << 30);
/// The bytes of the file.
pub const FILE: u64 = 16 << 20;
/// How often a piece of it is written and waited for.
pub const SYNCS: u32 = 8;

/// The well-known mixer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA
/// 2014).
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the generator steps by.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
