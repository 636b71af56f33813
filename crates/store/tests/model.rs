//! The store against a model of it that is small enough to be read: any transactions, guards,
//! request ids, compactions and restarts give the same answers, rows and changes.

#![allow(clippy::unwrap_used)]

use lattice_model::{Duration, RequestId, Timestamp};
use lattice_store::{
    ApplyError, EventKind, Guard, Key, Kind, LeaseError, ManualClock, Op, Revision, SqliteOptions,
    SqliteStore, Store, Transaction, WatchError,
};
use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, sync::Arc};

const KINDS: [Kind; 2] = [Kind::new("one"), Kind::new("two")];
const TTL: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug)]
enum Expect {
    /// What is there now.
    Actual,
    /// Nothing.
    Absent,
    /// Some other revision.
    Stale,
}

#[derive(Clone, Debug)]
enum Step {
    Apply { request: Option<u8>, guard: Option<u64>, ops: Vec<(u8, u8, Expect)> },
    Acquire(u8),
    Pass(u64),
    Compact(u64),
    Restart,
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![6 => Just(Expect::Actual), 1 => Just(Expect::Absent), 1 => Just(Expect::Stale)]
}

fn step() -> impl Strategy<Value = Step> {
    let request = prop::option::weighted(0.3, 0..4_u8);
    // The epoch is counted back from the newest.
    let guard = prop::option::weighted(0.3, 0..2_u64);
    let apply = (request, guard, vec((0..5_u8, 0..6_u8, expect()), 0..5));
    prop_oneof![
        12 => apply.prop_map(|(request, guard, ops)| Step::Apply { request, guard, ops }),
        2 => (0..2_u8).prop_map(Step::Acquire),
        1 => (1..12_u64).prop_map(Step::Pass),
        1 => (0..20_u64).prop_map(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    revision: u64,
    created: u64,
    project: Option<String>,
    body: String,
}

/// A refusal or the answer, as far as the model tells them apart.
#[derive(Debug, PartialEq)]
enum Answer {
    Applied { revision: u64, replayed: bool },
    Conflict(Key, Option<u64>, Option<u64>),
    Fenced(Option<u64>),
    Invalid,
}

#[derive(Default)]
struct Model {
    rows: BTreeMap<Key, Row>,
    /// What each revision changed.
    log: Vec<Vec<(Key, Option<Row>)>>,
    compacted: u64,
    requests: BTreeMap<RequestId, u64>,
    /// Epoch, holder and end of the one lease.
    lease: (u64, u8, u64),
    now: u64,
}

impl Model {
    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    fn held(&self) -> Option<u64> {
        (self.now < self.lease.2).then_some(self.lease.0)
    }

    fn apply(&mut self, transaction: &Transaction) -> Answer {
        let mut written: Vec<_> =
            transaction.ops.iter().filter(|op| !matches!(op, Op::Check { .. })).map(Op::key).collect();
        written.sort();
        if written.windows(2).any(|pair| pair[0] == pair[1]) {
            return Answer::Invalid;
        }
        if let Some(revision) = transaction.request.and_then(|id| self.requests.get(&id)) {
            return Answer::Applied { revision: *revision, replayed: true };
        }
        if transaction.guard.as_ref().is_some_and(|guard| self.held() != Some(guard.epoch)) {
            return Answer::Fenced(self.held());
        }
        for op in &transaction.ops {
            let actual = self.rows.get(op.key()).map(|row| row.revision);
            let expected = match op {
                Op::Create { .. } => None,
                Op::Update { expected, .. } => Some(expected.0),
                Op::Put { .. } | Op::Delete { expected: None, .. } => continue,
                Op::Delete { expected, .. } | Op::Check { expected, .. } => {
                    expected.map(|revision| revision.0)
                }
            };
            if expected != actual {
                return Answer::Conflict(op.key().clone(), expected, actual);
            }
        }
        let revision = self.head() + 1;
        let mut events = Vec::new();
        for op in &transaction.ops {
            let old = self.rows.get(op.key()).cloned();
            let created = old.as_ref().map_or(revision, |row| row.created);
            let new = match (op, old) {
                (Op::Check { .. }, _) | (Op::Delete { .. }, None) => continue,
                (Op::Delete { .. }, Some(_)) => None,
                (Op::Update { body, .. }, old) => Some(Row {
                    revision,
                    created,
                    project: old.and_then(|row| row.project),
                    body: body.to_string(),
                }),
                (Op::Create { project, body, .. } | Op::Put { project, body, .. }, _) => {
                    let project = project.as_ref().map(ToString::to_string);
                    Some(Row { revision, created, project, body: body.to_string() })
                }
            };
            match &new {
                Some(row) => self.rows.insert(op.key().clone(), row.clone()),
                None => self.rows.remove(op.key()),
            };
            events.push((op.key().clone(), new));
        }
        if events.is_empty() {
            return Answer::Applied { revision: self.head(), replayed: false };
        }
        self.log.push(events);
        if let Some(request) = transaction.request {
            self.requests.insert(request, revision);
        }
        Answer::Applied { revision, replayed: false }
    }

    /// The transaction that a step means in this state.
    fn transaction(
        &self,
        at: usize,
        request: Option<u8>,
        guard: Option<u64>,
        ops: &[(u8, u8, Expect)],
    ) -> Transaction {
        let ops = ops.iter().enumerate().map(|(n, (what, id, expect))| {
            let key = Key::new(KINDS[usize::from(id % 2)], id.to_string());
            let actual = self.rows.get(&key).map(|row| row.revision);
            let expected = match expect {
                Expect::Actual => actual,
                Expect::Absent => None,
                Expect::Stale => Some(actual.map_or(1, |revision| revision - 1)),
            };
            let (expected, body) = (expected.map(Revision), Arc::from(format!("{at}.{n}")));
            let project = (n % 2 == 0).then(|| Arc::from(format!("p{}", id % 3)));
            match what {
                0 => Op::Create { key, project, owner: None, body },
                1 => Op::Update { key, expected: expected.unwrap_or(Revision(1)), body },
                2 => Op::Put { key, project, owner: None, body },
                3 => Op::Delete { key, expected },
                _ => Op::Check { key, expected },
            }
        });
        let mut transaction = Transaction::new(ops);
        transaction.request = request.map(|n| RequestId::from_random(n.into()));
        let epoch = |back| self.lease.0.saturating_sub(back);
        transaction.guard = guard.map(|back| Guard { lease: "leader".to_owned(), epoch: epoch(back) });
        transaction
    }
}

fn answer(result: Result<lattice_store::Applied, ApplyError>) -> Answer {
    let plain = |revision: Option<Revision>| revision.map(|revision| revision.0);
    match result {
        Ok(applied) => Answer::Applied { revision: applied.revision.0, replayed: applied.replayed },
        Err(ApplyError::Conflict { key, expected, actual }) => {
            Answer::Conflict(key, plain(expected), plain(actual))
        }
        Err(ApplyError::Fenced { actual, .. }) => Answer::Fenced(actual),
        Err(ApplyError::Invalid { .. }) => Answer::Invalid,
        Err(other) => panic!("{other}"),
    }
}

fn row(record: &lattice_store::Record) -> Row {
    let lattice_store::Record { key: _, revision, created, project, owner, body } = record;
    assert!(owner.is_none());
    let project = project.as_ref().map(ToString::to_string);
    Row { revision: revision.0, created: created.0, project, body: body.to_string() }
}

async fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let options = || SqliteOptions { clock: clock.clone(), ..SqliteOptions::default() };
    let path = folder.path().join("store.db");
    let mut store = SqliteStore::open(&path, options()).unwrap();
    let mut live = store.watch(Revision::ZERO).await.unwrap();
    let mut model = Model::default();
    for (at, step) in steps.into_iter().enumerate() {
        match step {
            Step::Apply { request, guard, ops } => {
                let transaction = model.transaction(at, request, guard, &ops);
                let got = answer(store.apply(transaction.clone()).await);
                assert_eq!(got, model.apply(&transaction), "step {at}: {transaction:?}");
            }
            Step::Acquire(holder) => {
                let got = store.acquire_lease("leader", &holder.to_string(), TTL).await;
                match (model.held(), got) {
                    (Some(_), Err(LeaseError::Held { by, remaining, .. })) if model.lease.1 != holder => {
                        assert_eq!((by, remaining.0), (model.lease.1.to_string(), model.lease.2 - model.now));
                    }
                    (_, Ok(lease)) => {
                        model.lease = (model.lease.0 + 1, holder, model.now + TTL.0);
                        assert_eq!((lease.epoch, lease.expires_in), (model.lease.0, TTL));
                    }
                    other => panic!("step {at}: {other:?}"),
                }
            }
            Step::Pass(seconds) => {
                clock.pass(Duration::from_secs(seconds));
                model.now += seconds * 1000;
            }
            Step::Compact(to) => {
                model.compacted = model.compacted.max(to.min(model.head()));
                assert_eq!(store.compact(Revision(to)).await.unwrap().0, model.compacted);
            }
            Step::Restart => {
                store.close().await;
                store = SqliteStore::open(&path, options()).unwrap();
                let from = live.position().0.max(model.compacted);
                live = store.watch(Revision(from)).await.unwrap();
            }
        }
        // Often enough that the live watch is read in the middle, and seldom enough that it lags.
        if at % 5 == 4 && live.position().0 < model.head() {
            let before = live.position().0;
            match live.next().await.unwrap() {
                Ok(change) => assert_eq!(change.revision.0, before + 1),
                // It lagged, and after a restart only the log could have helped it.
                Err(WatchError::TooOld { from, oldest }) => {
                    assert_eq!((from.0, oldest.0), (before, model.compacted));
                    assert!(before < model.compacted);
                    live = store.watch(oldest).await.unwrap();
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    let listing = store.list_all().await.unwrap();
    let rows: BTreeMap<_, _> =
        listing.records.iter().map(|record| (record.key.clone(), row(record))).collect();
    assert_eq!((listing.revision.0, rows), (model.head(), model.rows.clone()));
    for (kind, project) in [(KINDS[0], "p0"), (KINDS[1], "p1"), (KINDS[0], "p2")] {
        let expected = model
            .rows
            .iter()
            .filter(|(key, row)| key.kind == kind && row.project.as_deref() == Some(project));
        let found = store.list(kind, Some(project)).await.unwrap().records;
        assert!(expected.map(|(key, _)| key).eq(found.iter().map(|record| &record.key)));
    }
    for from in 0..model.compacted {
        assert!(matches!(store.watch(Revision(from)).await, Err(WatchError::TooOld { .. })));
    }
    let mut watch = store.watch(Revision(model.compacted)).await.unwrap();
    for expected in &model.log[model.compacted as usize..] {
        let change = watch.next().await.unwrap().unwrap();
        let events = change.events.iter().map(|event| match &event.kind {
            EventKind::Put(record) => (event.key.clone(), Some(row(record))),
            EventKind::Delete(_) => (event.key.clone(), None),
        });
        assert_eq!(&events.collect::<Vec<_>>(), expected, "revision {}", change.revision);
    }
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_says(steps in vec(step(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(steps));
    }
}
