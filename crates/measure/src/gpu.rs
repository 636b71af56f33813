//! Work for a GPU: many lanes at once, each of chained floating point and integers.
//!
//! A *segment* is what all lanes do for so many rounds. Lanes begin from the segment's key; what the lanes of a group
//! gave is summed up, and the next segment's key depends on all sums, so that segments follow one another as passes over
//! memory do ([`crate::memory`]). A checker that is told the sums plays one group of one segment alone.
//!
//! All of it is exact: a fused multiply-add is rounded once, by IEEE 754 and by OpenCL's `fma` alike. Its numbers are
//! chosen so that a product and a sum of double precision hold every bit of it, which each processor does in its lanes;
//! none of them is denormal, which GPUs may make zero. Each step takes the low bits of the fraction up, by which small
//! differences grow four times and more: the end of a round cannot be had without its middle. What a fraction loses at
//! its upper end, the words of the next round have taken in.
//!
//! Rejected: integers alone (GPUs are bought for floating point); the known maps of chaos, as the logistic one (of 2^23
//! fractions there is a table); half precision and matrix units (not exact, or not in OpenCL).

use crate::{GOLDEN, memory::next_key, mix};

/// Lanes of a segment.
pub const LANES: u32 = 1 << 16;
/// Groups of lanes, of which each has a sum.
pub const GROUPS: usize = 64;
/// The most segments of an answer: what is faster ends earlier.
pub const MAX_SEGMENTS: usize = 96;
/// The rounds that a segment may have.
pub const ROUNDS: std::ops::RangeInclusive<u32> = 1..=8192;
/// The most passes over a block of a GPU's memory.
pub const MAX_PASSES: usize = 128;
/// The smallest block of a GPU's memory, and the largest, in bytes.
pub const BLOCKS: std::ops::RangeInclusive<u64> = (16 << 20)..=(256 << 20);

/// Fractions that a lane has.
const CHAINS: usize = 4;
/// Steps of each in a round. One is two fused multiply-adds, a shift, and a mask.
const STEPS: usize = 16;
/// Lanes that are played side by side, for the processor's own.
const WIDE: usize = 8;

/// Steps of a segment of so many rounds, over all lanes.
pub const fn steps(rounds: u32) -> u64 {
    LANES as u64 * rounds as u64 * (CHAINS * STEPS) as u64
}

/// The key of the first segment.
pub const fn begin(seed: u64) -> u64 {
    mix(seed ^ GOLDEN)
}

/// The key of the segment after one that gave these sums.
pub fn next(key: u64, sums: &[u64]) -> u64 {
    next_key(key, sums)
}

/// A number from 1 to below 2, of the upper bits.
fn unit(word: u32) -> f32 {
    f32::from_bits((word >> 9) | 0x3f80_0000)
}

/// `x · y + z`, rounded once. For `x` and `z` from 1 to below 2 or 6, and `y` and `z` below 2, a double holds each bit.
fn fma(x: f32, y: f32, z: f32) -> f32 {
    (f64::from(x) * f64::from(y) + f64::from(z)) as f32
}

/// The sum of a group of a segment.
pub fn group(key: u64, group: usize, rounds: u32) -> u64 {
    let each = LANES / GROUPS as u32;
    let first = u32::try_from(group % GROUPS).unwrap_or(0) * each;
    (0..each / WIDE as u32)
        .map(|n| lanes(key, first + n * WIDE as u32, rounds))
        .fold(0, |sum, of_some| sum.wrapping_add(of_some))
}

/// Some lanes side by side; the sum of what they give.
fn lanes(key: u64, first: u32, rounds: u32) -> u64 {
    let (mut a, mut b) = ([0u32; WIDE], [0u32; WIDE]);
    let mut x = [[0f32; WIDE]; CHAINS];
    for (n, (a, b)) in (first..).zip(a.iter_mut().zip(&mut b)) {
        let state = mix(key.wrapping_add(GOLDEN.wrapping_mul(u64::from(n) + 1)));
        (*a, *b) = (state as u32, (state >> 32) as u32);
    }
    for (j, chain) in (0u32..).zip(&mut x) {
        for (x, (a, b)) in chain.iter_mut().zip(a.iter().zip(&b)) {
            *x = unit(a.rotate_left(8 * j) ^ b);
        }
    }
    for _ in 0..rounds {
        // Four numbers of this round, of the words.
        let mut f = [[0f32; WIDE]; CHAINS];
        for l in 0..WIDE {
            a[l] = a[l].wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let w = ((a[l] >> ((a[l] >> 28) + 4)) ^ a[l]).wrapping_mul(277_803_737);
            let w = (w >> 22) ^ w;
            b[l] = (b[l].rotate_left(13) ^ w).wrapping_mul(0x9e37_79b1);
            (f[0][l], f[1][l]) = (unit(w), unit(b[l]));
            (f[2][l], f[3][l]) = (unit(w.wrapping_add(b[l])), unit(w ^ b[l].rotate_left(16)));
        }
        for _ in 0..STEPS {
            for j in 0..CHAINS {
                let (m, c, p, q) = (&f[j], &f[(j + 1) % 4], &f[(j + 2) % 4], &f[(j + 3) % 4]);
                for l in 0..WIDE {
                    let z = fma(fma(x[j][l], m[l], c[l]), p[l], q[l]);
                    x[j][l] = f32::from_bits(((z.to_bits() << 5) & 0x007f_ffff) | 0x3f80_0000);
                }
            }
        }
        for l in 0..WIDE {
            let bits = |j: usize| x[j][l].to_bits();
            a[l] ^= bits(0).wrapping_add(bits(1).rotate_left(11));
            b[l] = b[l].wrapping_add(bits(2) ^ bits(3).rotate_left(17));
        }
    }
    (0..WIDE).fold(0, |sum, l| sum.wrapping_add(mix(u64::from(a[l]) << 32 | u64::from(b[l]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is computed in double precision is the fused operation, for all numbers that occur.
        #[test]
        fn double_precision_holds_every_bit(words in any::<[u32; 5]>()) {
            let [x, m, c, p, q] = words.map(unit);
            let y = fma(x, m, c);
            prop_assert_eq!(y.to_bits(), x.mul_add(m, c).to_bits());
            prop_assert_eq!(fma(y, p, q).to_bits(), y.mul_add(p, q).to_bits());
        }

        /// A lane is another one for each key, each lane and each round.
        #[test]
        fn nothing_can_be_left_out(key in any::<u64>(), group in 0usize..GROUPS, rounds in 1u32..4) {
            let own = super::group(key, group, rounds);
            prop_assert_ne!(own, super::group(key, (group + 1) % GROUPS, rounds));
            prop_assert_ne!(own, super::group(key ^ 1, group, rounds));
            prop_assert_ne!(own, super::group(key, group, rounds + 1));
        }
    }

    #[test]
    fn every_machine_gets_the_same() {
        assert_eq!(group(begin(1), 0, 3), EXPECTED);
        assert_eq!(steps(1), 65_536 * 64);
    }

    /// Computed by another program as well, with fused operations.
    const EXPECTED: u64 = 875_843_423_024_195_450;
}
