//! Work for a processor: multiplications, loads from a small table, branches that nobody foresees, and floating point.
//!
//! All of it is exact: IEEE 754 says what each addition and multiplication gives, and the compiler neither reorders nor
//! fuses them, so that every machine gets the same.

use crate::{GOLDEN, mix};

/// Rounds of one segment: some milliseconds.
const ROUNDS: u32 = 1 << 20;
/// Words of the table: 16 KiB, which each processor's first cache holds.
const TABLE: usize = 2048;

/// Where a lane begins.
pub const fn begin(seed: u64, lane: u16) -> u64 {
    mix(seed.wrapping_add(GOLDEN.wrapping_mul(lane as u64 + 1)))
}

/// One segment: what the last one gave, or [`begin`], to what this one gives.
pub fn segment(from: u64) -> u64 {
    let mut state = from;
    let mut next = || {
        state = state.wrapping_add(GOLDEN);
        mix(state)
    };
    let mut table = [0u64; TABLE];
    table.iter_mut().for_each(|word| *word = next());
    let (mut a, mut b, mut c) = (next(), next(), next());
    let mut x = 1.0f64;
    for _ in 0..ROUNDS {
        let at = (a >> 17) as usize % TABLE;
        let word = table[at];
        a = a.rotate_left(23).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ word;
        if a & 4 == 0 {
            b = b.wrapping_add(a ^ (c >> 29));
        } else {
            c = c.rotate_left(11) ^ a;
        }
        // Stays far from infinity: a geometric series.
        x = x * 0.999_9 + (word >> 40) as f64 * 1e-6;
        table[at] = word.wrapping_add(b ^ c);
    }
    mix(a ^ mix(b ^ mix(c ^ x.to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_gets_the_same() {
        // Computed by another program as well, in Python: another architecture or optimisation has to agree.
        assert_eq!(segment(begin(1, 0)), EXPECTED);
        assert_ne!(begin(1, 0), begin(1, 1));
        assert_ne!(segment(begin(1, 0)), segment(begin(2, 0)));
    }

    const EXPECTED: u64 = 4_305_083_001_208_385_666;
}
