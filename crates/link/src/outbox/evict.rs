//! What goes when the outbox is full. Pure.

use lattice_model::{AllocationId, report::ReportKind};
use std::collections::HashSet;

/// How much an outbox holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Reports.
    pub reports: usize,
    /// Their bytes, [`Entry::OVERHEAD`] included.
    pub bytes: usize,
}

impl Default for Bound {
    /// Days of a busy node.
    fn default() -> Self {
        Self { reports: 50_000, bytes: 16 << 20 }
    }
}

impl Bound {
    /// Whether so much is too much.
    pub const fn is_hit(self, reports: usize, bytes: usize) -> bool {
        reports > self.reports || bytes > self.bytes
    }

    /// Where eviction stops: a tenth below, so that a full outbox is not searched at each push.
    const fn low(self) -> Self {
        Self { reports: self.reports - self.reports / 10, bytes: self.bytes - self.bytes / 10 }
    }
}

/// What a report is about, as far as a later one can replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The state of an allocation: replaced by any later report of the same allocation.
    State(AllocationId),
    /// The end of an allocation: replaces, and is not replaced.
    Gone(AllocationId),
    /// Anything else.
    Other,
}

impl Subject {
    /// Of a report.
    pub const fn of(kind: &ReportKind) -> Self {
        match kind {
            ReportKind::Allocation { id, status: _ } => Self::State(*id),
            ReportKind::AllocationGone { id } => Self::Gone(*id),
            _ => Self::Other,
        }
    }
}

/// One report that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// What it counts against [`Bound::bytes`].
    pub bytes: usize,
    /// What it is about.
    pub subject: Subject,
    /// The count of an overflow report.
    pub dropped: Option<u64>,
}

impl Entry {
    /// What a report costs besides its JSON, in bytes.
    pub const OVERHEAD: usize = 64;
    /// Room for the overflow report itself.
    const NOTE: usize = 64 + Self::OVERHEAD;
}

/// Picks what goes from a queue in rising order of `seq`, so that `incoming` bytes and an
/// overflow report fit: replaced states first, oldest first; then whatever is oldest, overflow
/// reports last.
pub fn evict(queue: &[Entry], bound: Bound, incoming: usize) -> Vec<Entry> {
    let low = bound.low();
    let mut reports = queue.len() + 2;
    let mut bytes = queue.iter().map(|entry| entry.bytes).sum::<usize>() + incoming + Entry::NOTE;
    let mut seen = HashSet::new();
    let mut replaced = vec![false; queue.len()];
    for (entry, replaced) in queue.iter().zip(&mut replaced).rev() {
        *replaced = match entry.subject {
            Subject::State(id) => !seen.insert(id),
            Subject::Gone(id) => {
                seen.insert(id);
                false
            }
            Subject::Other => false,
        };
    }
    let rank = |at: usize| (!replaced[at], queue[at].dropped.is_some(), queue[at].seq);
    let mut order: Vec<usize> = (0..queue.len()).collect();
    order.sort_unstable_by_key(|at| rank(*at));
    let mut gone = Vec::new();
    for at in order {
        if !low.is_hit(reports, bytes) {
            break;
        }
        reports -= 1;
        bytes -= queue[at].bytes;
        gone.push(queue[at]);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        (0u128..6, 0u8..4, 100usize..400).prop_map(|(id, what, bytes)| {
            let id = AllocationId::from_random(id);
            Entry {
                seq: 0,
                bytes,
                subject: match what {
                    0 | 1 => Subject::State(id),
                    2 => Subject::Gone(id),
                    _ => Subject::Other,
                },
                dropped: None,
            }
        })
    }

    proptest! {
        #[test]
        fn what_goes_is_replaced_or_the_oldest(mut queue in prop::collection::vec(entry(), 0..60), reports in 5usize..50, bytes in 2000usize..12_000) {
            for (n, entry) in queue.iter_mut().enumerate() { entry.seq = n as u64 + 1; }
            let bound = Bound { reports, bytes };
            let gone: Vec<u64> = evict(&queue, bound, 300).iter().map(|e| e.seq).collect();
            let left: Vec<_> = queue.iter().filter(|e| !gone.contains(&e.seq)).copied().collect();
            prop_assert!(left.is_empty() || !bound.is_hit(left.len() + 1, left.iter().map(|e| e.bytes).sum::<usize>() + 300));
            let replaced = |e: &Entry| match e.subject {
                Subject::State(id) => queue.iter().any(|l| l.seq > e.seq && matches!(l.subject, Subject::State(i) | Subject::Gone(i) if i == id)),
                _ => false,
            };
            let hard = queue.iter().filter(|e| gone.contains(&e.seq) && !replaced(e)).map(|e| e.seq).max();
            if let Some(hard) = hard {
                prop_assert!(!left.iter().any(replaced), "something was lost although something replaced was left");
                prop_assert!(left.iter().all(|e| e.seq > hard), "a younger report went before an older one");
            }
        }
    }
}
