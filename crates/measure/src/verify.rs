//! Whether an answer is what the work gives: some of it is computed anew.

use crate::{
    CHUNKS, FILE, MAX_PASSES, MAX_SEGMENTS, Words, cpu, gpu,
    memory::{Chunk, next_key, words},
};

/// An answer that the work does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It has not the form that was asked for.
    #[error("the answer has {what}, which nobody asked for")]
    Form {
        /// What about it.
        what: &'static str,
    },
    /// A part that was computed anew gives something else.
    #[error("the answer was not computed: {part} gives something else")]
    Made {
        /// Which part.
        part: &'static str,
    },
}

/// Checks what lanes computed; gives the segments of all together. `draw` gives chance; `picks` segments are computed
/// anew.
///
/// # Errors
/// [`Wrong`].
pub fn check_cpu(
    seed: u64,
    asked: u16,
    lanes: &[Words],
    picks: usize,
    mut draw: impl FnMut() -> u64,
) -> Result<u64, Wrong> {
    if lanes.is_empty() || lanes.len() > usize::from(asked) {
        return Err(Wrong::Form { what: "another number of lanes" });
    }
    if lanes.iter().any(|lane| lane.0.is_empty() || lane.0.len() > MAX_SEGMENTS) {
        return Err(Wrong::Form { what: "another number of segments" });
    }
    let all: u64 = lanes.iter().map(|lane| lane.0.len() as u64).sum();
    for _ in 0..picks {
        let mut at = draw() % all;
        for (n, lane) in (0u16..).zip(lanes) {
            let len = lane.0.len() as u64;
            if at >= len {
                at -= len;
                continue;
            }
            let at = at as usize;
            let from = if at == 0 { cpu::begin(seed, n) } else { lane.0[at - 1] };
            if cpu::segment(from) != lane.0[at] {
                return Err(Wrong::Made { part: "a segment" });
            }
            break;
        }
    }
    Ok(all)
}

/// Checks passes over a block; gives how many there were. One chunk is played anew.
///
/// # Errors
/// [`Wrong`].
pub fn check_memory(seed: u64, bytes: u64, key: u64, sums: &[Words], draw: u64) -> Result<u64, Wrong> {
    check_passes(seed, bytes, key, sums, MAX_PASSES, draw)
}

/// Checks what a GPU computed; gives the steps of all segments. `draw` gives chance; `picks` groups of lanes are computed
/// anew, each of a segment.
///
/// # Errors
/// [`Wrong`].
pub fn check_gpu(
    seed: u64,
    rounds: u32,
    segments: &[Words],
    picks: usize,
    mut draw: impl FnMut() -> u64,
) -> Result<u64, Wrong> {
    if segments.is_empty() || segments.len() > gpu::MAX_SEGMENTS {
        return Err(Wrong::Form { what: "another number of segments" });
    }
    if segments.iter().any(|sums| sums.0.len() != gpu::GROUPS) {
        return Err(Wrong::Form { what: "another number of groups" });
    }
    let mut keys = vec![gpu::begin(seed)];
    for sums in segments {
        let key = *keys.last().unwrap_or(&0);
        keys.push(gpu::next(key, &sums.0));
    }
    for _ in 0..picks {
        let at = draw() % (segments.len() * gpu::GROUPS) as u64;
        let (segment, group) = (at as usize / gpu::GROUPS, at as usize % gpu::GROUPS);
        if gpu::group(keys[segment], group, rounds) != segments[segment].0[group] {
            return Err(Wrong::Made { part: "a group of a GPU's lanes" });
        }
    }
    Ok(segments.len() as u64 * gpu::steps(rounds))
}

/// Checks passes over a block of a GPU's memory; gives how many there were. One chunk is played anew.
///
/// # Errors
/// [`Wrong`].
pub fn check_gpu_memory(seed: u64, bytes: u64, key: u64, sums: &[Words], draw: u64) -> Result<u64, Wrong> {
    check_passes(seed, bytes, key, sums, gpu::MAX_PASSES, draw)
}

fn check_passes(
    seed: u64,
    bytes: u64,
    key: u64,
    sums: &[Words],
    most: usize,
    draw: u64,
) -> Result<u64, Wrong> {
    if sums.is_empty() || sums.len() > most {
        return Err(Wrong::Form { what: "another number of passes" });
    }
    if sums.iter().any(|pass| pass.0.len() != CHUNKS) {
        return Err(Wrong::Form { what: "another number of chunks" });
    }
    let n = (draw % CHUNKS as u64) as usize;
    let mut memory = vec![0; words(bytes)];
    let mut chunk = Chunk(&mut memory);
    chunk.fill(seed, n);
    let mut key = key;
    for pass in sums {
        if chunk.pass(key) != pass.0[n] {
            return Err(Wrong::Made { part: "a chunk of memory" });
        }
        key = next_key(key, &pass.0);
    }
    Ok(sums.len() as u64)
}

/// Checks the sums of a file. Some chunks are made anew.
///
/// # Errors
/// [`Wrong`].
pub fn check_disk(seed: u64, key: u64, sums: &Words, mut draw: impl FnMut() -> u64) -> Result<(), Wrong> {
    if sums.0.len() != CHUNKS {
        return Err(Wrong::Form { what: "another number of chunks" });
    }
    let mut memory = vec![0; words(FILE)];
    for _ in 0..4 {
        let n = (draw() % CHUNKS as u64) as usize;
        let mut chunk = Chunk(&mut memory);
        chunk.fill(seed, n);
        if chunk.sum(key) != sums.0[n] {
            return Err(Wrong::Made { part: "a piece of the file" });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BLOCKS, memory};
    use proptest::prelude::*;

    /// What an honest machine computes.
    fn honest(seed: u64, lanes: u16, segments: usize) -> Vec<Words> {
        let lane = |n| {
            let mut state = cpu::begin(seed, n);
            Words(
                (0..segments)
                    .map(|_| {
                        state = cpu::segment(state);
                        state
                    })
                    .collect(),
            )
        };
        (0..lanes).map(lane).collect()
    }

    fn passed(seed: u64, bytes: u64, key: u64, passes: usize) -> Vec<Words> {
        let mut block = vec![0; words(bytes) * CHUNKS];
        let len = words(bytes);
        for n in 0..CHUNKS {
            Chunk(&mut block[n * len..][..len]).fill(seed, n);
        }
        let mut key = key;
        let pass = |_| {
            let sums: Vec<u64> = block.chunks_mut(len).map(|chunk| Chunk(chunk).pass(key)).collect();
            key = memory::next_key(key, &sums);
            Words(sums)
        };
        (0..passes).map(pass).collect()
    }

    #[test]
    fn what_was_computed_is_believed_and_what_was_made_up_is_not() {
        let mut lanes = honest(7, 2, 3);
        let mut n = 0;
        let mut all = || {
            n += 1;
            n
        };
        assert_eq!(check_cpu(7, 2, &lanes, 6, &mut all), Ok(6));
        assert_eq!(check_cpu(8, 2, &lanes, 6, &mut all), Err(Wrong::Made { part: "a segment" }));
        assert!(matches!(check_cpu(7, 1, &lanes, 6, &mut all), Err(Wrong::Form { .. })));
        assert!(matches!(check_cpu(7, 2, &[], 6, &mut all), Err(Wrong::Form { .. })));
        lanes[1].0[1] ^= 1;
        assert_eq!(check_cpu(7, 2, &lanes, 6, &mut all), Err(Wrong::Made { part: "a segment" }));
        lanes[1].0 = vec![1; MAX_SEGMENTS + 1];
        assert!(matches!(check_cpu(7, 2, &lanes, 6, &mut all), Err(Wrong::Form { .. })));
    }

    #[test]
    fn memory_that_was_not_passed_is_found_out() {
        let bytes = CHUNKS as u64 * 8 * 100;
        let mut sums = passed(3, bytes, 9, 3);
        assert_eq!(check_memory(3, bytes, 9, &sums, 5), Ok(3));
        assert!(check_memory(3, bytes * 2, 9, &sums, 5).is_err());
        assert!(check_memory(4, bytes, 9, &sums, 5).is_err());
        // Another chunk of an earlier pass: the keys of all later ones are others.
        sums[0].0[0] ^= 1;
        assert!(check_memory(3, bytes, 9, &sums, 5).is_err());
        assert!(check_memory(3, bytes, 9, &[], 5).is_err());
        assert_eq!(words(*BLOCKS.start()) as u64 * 8 * CHUNKS as u64, *BLOCKS.start());
    }

    /// What an honest GPU computes.
    fn computed(seed: u64, rounds: u32, segments: usize) -> Vec<Words> {
        let mut key = gpu::begin(seed);
        let segment = |_| {
            let sums: Vec<u64> = (0..gpu::GROUPS).map(|group| gpu::group(key, group, rounds)).collect();
            key = gpu::next(key, &sums);
            Words(sums)
        };
        (0..segments).map(segment).collect()
    }

    #[test]
    fn a_gpus_work_is_believed_and_what_was_made_up_is_found_out_as_often_as_is_said() {
        let good = computed(5, 1, 2);
        let mut n = 0u64;
        let mut draw = || {
            n += 1;
            n.wrapping_mul(crate::GOLDEN) >> 20
        };
        assert_eq!(check_gpu(5, 1, &good, 20, &mut draw), Ok(2 * gpu::steps(1)));
        assert!(check_gpu(6, 1, &good, 1, &mut draw).is_err(), "of another seed");
        assert!(check_gpu(5, 2, &good, 1, &mut draw).is_err(), "of fewer rounds");
        assert!(matches!(check_gpu(5, 1, &[], 1, &mut draw), Err(Wrong::Form { .. })));
        assert!(matches!(check_gpu(5, 1, &[Words(vec![1])], 1, &mut draw), Err(Wrong::Form { .. })));
        let many = vec![good[0].clone(); gpu::MAX_SEGMENTS + 1];
        assert!(matches!(check_gpu(5, 1, &many, 1, &mut draw), Err(Wrong::Form { .. })));
        // A quarter of the last segment is left out: found out with 1 − (1 − 1/8)^3, a third, by three picks.
        let mut lazy = good;
        lazy[1].0[..16].fill(7);
        let found = (0..400).filter(|_| check_gpu(5, 1, &lazy, 3, &mut draw).is_err()).count();
        assert!((95..170).contains(&found), "{found} of 400, where 132 are to be expected");
        // Of the first one: all later keys are others, so that nearly nothing of the answer is right.
        let mut lazy = computed(5, 1, 2);
        lazy[0].0[0] ^= 1;
        let found = (0..100).filter(|_| check_gpu(5, 1, &lazy, 3, &mut draw).is_err()).count();
        assert!(found > 70, "{found} of 100");
    }

    #[test]
    fn a_file_that_was_not_read_is_found_out() {
        let mut memory = vec![0; words(FILE)];
        let sums = |key| {
            let mut sum = |n| {
                let mut chunk = Chunk(&mut memory);
                chunk.fill(1, n);
                chunk.sum(key)
            };
            Words((0..CHUNKS).map(&mut sum).collect())
        };
        let mut sums = sums;
        let good = sums(2);
        let mut n = 0;
        let mut draw = || {
            n += 1;
            n
        };
        assert_eq!(check_disk(1, 2, &good, &mut draw), Ok(()));
        assert!(check_disk(1, 3, &good, &mut draw).is_err());
        assert!(check_disk(1, 2, &Words(vec![0; 3]), &mut draw).is_err());
    }

    proptest! {
        #[test]
        fn numbers_travel(words in proptest::collection::vec(any::<u64>(), 0..64)) {
            let words = Words(words);
            let text = serde_json::to_string(&words).unwrap();
            prop_assert_eq!(serde_json::from_str::<Words>(&text).unwrap(), words);
        }

        #[test]
        fn what_is_no_number_is_refused(text in "[0-9a-fx+ ]{1,40}") {
            let json = serde_json::to_string(&text).unwrap();
            let good = text.len() % 16 == 0 && text.chars().all(|c| c.is_ascii_hexdigit());
            prop_assert_eq!(serde_json::from_str::<Words>(&json).is_ok(), good);
        }
    }
}
