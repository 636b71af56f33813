//! Makes the choices behind a finding fewer and plainer, as long as it is one. bolero's own shrinking works on what
//! its generators drew; here the bytes are the choices, so that one way serves every engine and every subject.

use std::time::{Duration, Instant};

/// How long it may take.
const TIME: Duration = Duration::from_secs(10);

/// The plainest choices that were found for which `fails` holds, beginning with some for which it does.
pub(crate) fn shrink(choices: &[u8], mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let (began, mut best) = (Instant::now(), choices.to_vec());
    loop {
        let before = best.clone();
        let mut size = best.len().max(1);
        while size > 0 {
            let mut at = 0;
            while at < best.len() {
                if began.elapsed() > TIME {
                    return best;
                }
                let end = best.len().min(at + size);
                let without = [&best[..at], &best[end..]].concat();
                if fails(&without) {
                    best = without;
                    continue;
                }
                for plainer in [|_: u8| 0, |byte: u8| byte / 2, |byte: u8| byte.saturating_sub(1)] {
                    let mut other = best.clone();
                    other[at..end].iter_mut().for_each(|byte| *byte = plainer(*byte));
                    if other != best && fails(&other) {
                        best = other;
                    }
                }
                at += size;
            }
            size /= 2;
        }
        if best == before {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_plainer_is_left() {
        let choices: Vec<u8> = (0..200).collect();
        let fails = |choices: &[u8]| choices.iter().filter(|byte| **byte >= 100).count() >= 2;
        assert_eq!(shrink(&choices, fails), [100, 100]);
        assert!(shrink(&choices, |_| true).is_empty());
    }
}
