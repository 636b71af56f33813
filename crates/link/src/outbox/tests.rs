//! Order, exactly-once, the bound, and numbers that never return.

use super::*;
use crate::{Dedup, Verdict};
use lattice_model::{
    AllocationId,
    report::{AllocationState, AllocationStatus},
};
use proptest::prelude::*;

const ID: OutboxId = OutboxId(1);

fn status(n: u128, state: AllocationState) -> ReportKind {
    ReportKind::Allocation { id: AllocationId::from_random(n), status: AllocationStatus::new(state) }
}

fn open(dir: &tempfile::TempDir, bound: Bound) -> Outbox {
    Outbox::open(&dir.path().join("outbox.db"), ID, bound).unwrap()
}

#[test]
fn reports_wait_in_order_and_numbers_never_return() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(&dir, Bound::default());
    assert_eq!(outbox.mark().unwrap(), OutboxMark { id: ID, first: 1, next: 1 });
    let kinds = [ReportKind::RuntimeBack, status(1, AllocationState::Running)];
    assert_eq!(outbox.push_all(kinds, Timestamp(5)).unwrap(), Pushed { seq: 2, dropped: 0 });
    let waiting = outbox.unacked(0, 10).unwrap();
    assert_eq!(waiting.iter().map(Reported::seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(outbox.unacked(1, 10).unwrap(), waiting[1..]);
    assert_eq!(outbox.ack(2).unwrap(), 2);
    assert_eq!((outbox.len(), outbox.bytes()), (0, 0));
    drop(outbox);
    // Another id is offered, and the old one stays.
    let mut outbox = Outbox::open(&dir.path().join("outbox.db"), OutboxId(99), Bound::default()).unwrap();
    assert_eq!(outbox.mark().unwrap(), OutboxMark { id: ID, first: 3, next: 3 });
    assert_eq!(outbox.push(ReportKind::RuntimeBack, Timestamp(6)).unwrap().seq, 3);
    assert!(matches!(outbox.ack(4), Err(OutboxError::NeverSent { acked: 4, last: 3 })));
    assert_eq!(outbox.len(), 1);
}

#[test]
fn one_overflow_is_one_report_until_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(&dir, Bound { reports: 20, bytes: 1 << 20 });
    let mut dropped = 0;
    let mut push = |outbox: &mut Outbox, n: u128| {
        dropped += outbox.push(status(n, AllocationState::Running), Timestamp(0)).unwrap().dropped;
        assert!(outbox.len() <= 20, "{}", outbox.len());
        dropped
    };
    for n in 0..50 {
        push(&mut outbox, n);
    }
    let overflows = |outbox: &mut Outbox| -> Vec<u64> {
        let all = outbox.unacked(0, 1000).unwrap();
        assert!(all.windows(2).all(|w| w[0].seq() < w[1].seq()));
        all.iter()
            .filter_map(|report| match report {
                Reported::Known(Report { kind: ReportKind::OutboxOverflowed { dropped }, .. }) => {
                    Some(*dropped)
                }
                _ => None,
            })
            .collect()
    };
    let counted = push(&mut outbox, 50);
    assert_eq!(overflows(&mut outbox), [counted]);
    let mut total = counted;
    for n in 51..100 {
        total = push(&mut outbox, n);
    }
    let seen = overflows(&mut outbox);
    assert_eq!(seen.len(), 2, "what was sent does not change any more");
    assert_eq!(seen.iter().sum::<u64>(), total);
    // The state that the store keeps agrees with the one in memory.
    let (len, bytes) = (outbox.len(), outbox.bytes());
    drop(outbox);
    let outbox = open(&dir, Bound::default());
    assert_eq!((outbox.len(), outbox.bytes()), (len, bytes));
}

#[test]
fn replaced_states_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(&dir, Bound { reports: 20, bytes: 1 << 20 });
    outbox.push(ReportKind::RuntimeBack, Timestamp(0)).unwrap();
    for _ in 0..40 {
        outbox.push(status(7, AllocationState::BackingOff), Timestamp(0)).unwrap();
    }
    outbox.push(status(7, AllocationState::Running), Timestamp(0)).unwrap();
    let all = outbox.unacked(0, 100).unwrap();
    assert_eq!(all[0].seq(), 1, "what nothing replaces is still there");
    let last = all.last().unwrap();
    assert!(
        matches!(last, Reported::Known(Report { kind: ReportKind::Allocation { status, .. }, .. }) if status.state == AllocationState::Running)
    );
}

#[test]
fn long_texts_are_cut_and_strange_files_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(&dir, Bound::default());
    outbox.push(ReportKind::RuntimeLost { reason: "é".repeat(100_000) }, Timestamp(0)).unwrap();
    assert!(outbox.bytes() < 2 * MAX_REASON);
    drop(outbox);
    let db = Connection::open(dir.path().join("outbox.db")).unwrap();
    db.execute_batch("PRAGMA user_version = 9").unwrap();
    drop(db);
    let newer = Outbox::open(&dir.path().join("outbox.db"), ID, Bound::default());
    assert!(matches!(newer, Err(OutboxError::TooNew(9))));
    let junk = dir.path().join("junk");
    std::fs::write(&junk, "not a database, not a database, not a database").unwrap();
    assert!(matches!(Outbox::open(&junk, ID, Bound::default()), Err(OutboxError::Storage(_))));
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    /// Send from the last acknowledgement, so many; the server takes a part of them.
    Send(usize, usize),
    /// The server's acknowledgement arrives.
    Ack,
    /// The agent is killed and starts again from what was on disk at that moment.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u8..4).prop_map(Step::Push),
        3 => (1usize..6, 0usize..6).prop_map(|(limit, taken)| Step::Send(limit, taken)),
        2 => Just(Step::Ack),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_report_takes_effect_once_and_in_order(steps in prop::collection::vec(step(), 0..40)) {
        let mut dir = tempfile::tempdir().unwrap();
        let mut outbox = open(&dir, Bound::default());
        let mut server = Dedup::resume(None, &outbox.mark().unwrap());
        let (mut pushed, mut effects) = (Vec::new(), Vec::new());
        let take = |server: &mut Dedup, effects: &mut Vec<_>, reports: Vec<Reported>| {
            for report in reports {
                match server.accept(report.seq()) {
                    Verdict::New => effects.push(report),
                    Verdict::Duplicate => {}
                    Verdict::Gap { missing } => panic!("{missing} reports are lost"),
                }
            }
        };
        for step in steps {
            match step {
                Step::Push(count) => {
                    let kinds: Vec<_> = (0..count).map(|n| ReportKind::GoalRefused {
                        goal: lattice_model::GoalId { incarnation: pushed.len() as u64, revision: n.into() },
                        reason: String::new(),
                    }).collect();
                    outbox.push_all(kinds.clone(), Timestamp(1)).unwrap();
                    pushed.extend(kinds);
                }
                Step::Send(limit, taken) => {
                    let mut reports = outbox.unacked(0, limit).unwrap();
                    reports.truncate(taken);
                    take(&mut server, &mut effects, reports);
                }
                Step::Ack => { outbox.ack(server.last).unwrap(); }
                Step::Crash => {
                    // Closing would tidy up; a copy of the files while it is open is what kill -9 leaves.
                    let after = tempfile::tempdir().unwrap();
                    for file in std::fs::read_dir(dir.path()).unwrap() {
                        let file = file.unwrap();
                        std::fs::copy(file.path(), after.path().join(file.file_name())).unwrap();
                    }
                    drop(outbox);
                    dir = after;
                    outbox = open(&dir, Bound::default());
                }
            }
        }
        loop {
            let rest = outbox.unacked(server.last, 7).unwrap();
            if rest.is_empty() { break; }
            take(&mut server, &mut effects, rest);
        }
        outbox.ack(server.last).unwrap();
        prop_assert!(outbox.is_empty());
        let kinds: Vec<_> = effects.into_iter().map(|report| match report {
            Reported::Known(report) => report.kind,
            Reported::Unknown { .. } => unreachable!(),
        }).collect();
        prop_assert_eq!(kinds, pushed);
    }
}
