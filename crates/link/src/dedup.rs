//! The server's counterpart of the outbox: each report once. Pure.

use crate::message::{OutboxId, OutboxMark};
use serde::{Deserialize, Serialize};

/// What a report's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next one.
    New,
    /// Seen before: acknowledge it again, and do nothing else.
    Duplicate,
    /// A new one, and so many before it will never come: the agent's outbox overflowed, which a
    /// report says, or was lost. Take it.
    Gap {
        /// How many.
        missing: u64,
    },
}

/// The last report taken from a node's outbox. Keep it in the same transaction as the effect of
/// the report; then each takes effect exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    /// Whose numbers these are.
    pub outbox: OutboxId,
    /// The highest number taken; what [`crate::message::Welcome`] and acks say.
    pub last: u64,
}

impl Dedup {
    /// At hello: goes on after what was kept, or begins anew when the agent has another outbox. One
    /// that has not given the last number yet is an older state of itself (a restored image): what
    /// it says now is new though its numbers are not, and would otherwise vanish as duplicates.
    pub fn resume(kept: Option<Self>, hello: &OutboxMark) -> Self {
        match kept {
            Some(kept) if kept.outbox == hello.id && kept.last < hello.next => kept,
            Some(kept) if kept.outbox == hello.id => Self { last: hello.first.saturating_sub(1), ..kept },
            _ => Self { outbox: hello.id, last: 0 },
        }
    }

    /// Judges a number and moves on when it is new.
    pub const fn accept(&mut self, seq: u64) -> Verdict {
        if seq <= self.last {
            return Verdict::Duplicate;
        }
        let missing = seq - self.last - 1;
        self.last = seq;
        if missing == 0 { Verdict::New } else { Verdict::Gap { missing } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_number_is_taken_once_and_in_order(seqs in prop::collection::vec(1u64..30, 0..80)) {
            let id = OutboxId(7);
            let mut dedup = Dedup { outbox: id, last: 0 };
            let mut taken = Vec::new();
            for seq in seqs {
                let before = dedup.last;
                match dedup.accept(seq) {
                    Verdict::Duplicate => prop_assert_eq!(dedup.last, before),
                    Verdict::New => { prop_assert_eq!(seq, before + 1); taken.push(seq); }
                    Verdict::Gap { missing } => { prop_assert_eq!(seq, before + missing + 1); taken.push(seq); }
                }
            }
            prop_assert!(taken.windows(2).all(|w| w[0] < w[1]));
        }
    }

    #[test]
    fn another_outbox_begins_anew() {
        let kept = Dedup { outbox: OutboxId(1), last: 500 };
        let mark = |id, first, next| OutboxMark { id: OutboxId(id), first, next };
        assert_eq!(Dedup::resume(Some(kept), &mark(1, 501, 501)).last, 500);
        assert_eq!(Dedup::resume(Some(kept), &mark(1, 490, 503)).last, 500);
        assert_eq!(Dedup::resume(Some(kept), &mark(2, 1, 2)).last, 0);
        // An image from before: its reports are new, whatever their numbers.
        let mut back = Dedup::resume(Some(kept), &mark(1, 40, 50));
        assert_eq!((back.last, back.accept(40)), (39, Verdict::New));
    }
}
