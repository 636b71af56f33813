//! Work for memory: passes that read and write every word of a block.
//!
//! The key of a pass depends on the sums of all chunks in the pass before, so that nobody finishes one chunk while it is
//! in the cache and goes on to the next. A checker that is told the sums can play one chunk alone.

use crate::{CHUNKS, GOLDEN, mix};

/// One chunk of a block or of a file.
#[derive(Debug)]
pub struct Chunk<'a>(pub &'a mut [u64]);

impl Chunk<'_> {
    /// Fills it with what chunk `n` of `seed` begins with.
    pub fn fill(&mut self, seed: u64, n: usize) {
        let base = mix(seed ^ mix(n as u64));
        for (i, word) in (0u64..).zip(self.0.iter_mut()) {
            *word = mix(base.wrapping_add(i.wrapping_mul(GOLDEN)));
        }
    }

    /// Reads and writes each word once; gives their sum.
    pub fn pass(&mut self, key: u64) -> u64 {
        // Lanes that do not wait for each other, so that memory is what is waited for.
        let mut lanes = [key; 8];
        let (eights, rest) = self.0.as_chunks_mut::<8>();
        for eight in eights {
            for (word, lane) in eight.iter_mut().zip(&mut lanes) {
                *word = (*word ^ key).wrapping_add(GOLDEN);
                *lane = lane.wrapping_add(*word);
            }
        }
        for word in rest {
            *word = (*word ^ key).wrapping_add(GOLDEN);
            lanes[0] = lanes[0].wrapping_add(*word);
        }
        lanes.iter().fold(0, |sum, lane| mix(sum ^ lane))
    }

    /// The sum of what is there, without a change.
    pub fn sum(&self, key: u64) -> u64 {
        self.0.iter().fold(key, |sum, word| sum.rotate_left(7).wrapping_add(*word))
    }
}

/// The key of the next pass.
pub fn next_key(key: u64, sums: &[u64]) -> u64 {
    sums.iter().fold(mix(key), |key, sum| mix(key ^ sum))
}

/// How many words a chunk of a block of so many bytes has.
pub const fn words(bytes: u64) -> usize {
    (bytes / CHUNKS as u64 / 8) as usize
}
