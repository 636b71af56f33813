//! The best of many whose scores change one at a time: a tournament, in which a change costs the logarithm.

use std::collections::BinaryHeap;

/// The score of what cannot be.
pub(crate) const NEVER: i64 = i64::MIN;

/// A tournament over positions `0..len`. The winner has the highest score; of equals, that with the lowest rank.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// The winners: of two neighbours at `2n` and `2n + 1` one is at `n`; leaves are at `len..2 * len`.
    winners: Vec<u32>,
    scores: Vec<i64>,
}

impl Tree {
    /// All at once. `rank` says who is first among equals, and differs for all.
    pub(crate) fn new<R: Ord>(scores: Vec<i64>, rank: impl Fn(usize) -> R) -> Self {
        let len = scores.len();
        let mut tree = Self { winners: vec![0; 2 * len], scores };
        for at in 0..len {
            tree.winners[len + at] = at as u32;
        }
        for at in (1..len).rev() {
            tree.winners[at] = tree.better(tree.winners[2 * at], tree.winners[2 * at + 1], &rank);
        }
        tree
    }

    fn better<R: Ord>(&self, a: u32, b: u32, rank: &impl Fn(usize) -> R) -> u32 {
        let (one, other) = (self.scores[a as usize], self.scores[b as usize]);
        match one.cmp(&other) {
            std::cmp::Ordering::Greater => a,
            std::cmp::Ordering::Less => b,
            // Whoever cannot be is first of nobody.
            std::cmp::Ordering::Equal if one == NEVER => a,
            std::cmp::Ordering::Equal => {
                if rank(a as usize) < rank(b as usize) {
                    a
                } else {
                    b
                }
            }
        }
    }

    /// One score is now this.
    pub(crate) fn set<R: Ord>(&mut self, at: usize, score: i64, rank: impl Fn(usize) -> R) {
        if std::mem::replace(&mut self.scores[at], score) == score {
            return;
        }
        let mut above = (self.scores.len() + at) / 2;
        while above > 0 {
            self.winners[above] = self.better(self.winners[2 * above], self.winners[2 * above + 1], &rank);
            above /= 2;
        }
    }

    /// The winner and its score.
    pub(crate) fn best(&self) -> Option<(usize, i64)> {
        let at = *self.winners.get(1).or(self.winners.first())? as usize;
        let score = *self.scores.get(at)?;
        (score != NEVER).then_some((at, score))
    }

    /// The best `many`, best first, with their scores.
    pub(crate) fn top<R: Ord + Copy>(&self, many: usize, rank: impl Fn(usize) -> R) -> Vec<(usize, i64)> {
        let len = self.scores.len();
        let entry = |node: usize| {
            let at = self.winners[node] as usize;
            (self.scores[at], std::cmp::Reverse(rank(at)), node)
        };
        let mut open: BinaryHeap<_> = BinaryHeap::new();
        if len > 0 {
            open.push(entry(1.min(2 * len - 1)));
        }
        let mut found = Vec::with_capacity(many);
        while let Some((score, _, node)) = open.pop().filter(|(score, ..)| *score != NEVER)
            && found.len() < many
        {
            let winner = self.winners[node];
            found.push((winner as usize, score));
            // Whoever it beat on its way up from its leaf may be next.
            let mut below = len + winner as usize;
            while below > node {
                open.push(entry(below ^ 1));
                below /= 2;
            }
        }
        found
    }

    pub(crate) fn score(&self, at: usize) -> i64 {
        self.scores[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The winner is the first of the best, whatever changed.
        #[test]
        fn the_winner_is_the_first_of_the_best(
            start in prop::collection::vec(-3i64..3, 1..20),
            changes in prop::collection::vec((0usize..20, -4i64..4), 0..40),
        ) {
            let mut scores: Vec<i64> = start;
            let mut tree = Tree::new(scores.clone(), |at| at);
            for (at, score) in changes {
                let (at, score) = (at % scores.len(), if score == -4 { NEVER } else { score });
                scores[at] = score;
                tree.set(at, score, |at| at);
                let best = scores.iter().copied().max().filter(|best| *best != NEVER);
                let expected = best.map(|best| (scores.iter().position(|s| *s == best).unwrap(), best));
                prop_assert_eq!(tree.best(), expected);
                let mut all: Vec<(usize, i64)> = scores.iter().copied().enumerate().collect();
                all.retain(|(_, score)| *score != NEVER);
                all.sort_by_key(|(at, score)| (std::cmp::Reverse(*score), *at));
                all.truncate(3);
                prop_assert_eq!(tree.top(3, |at| at), all);
            }
        }
    }
}
