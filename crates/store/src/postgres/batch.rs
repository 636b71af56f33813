//! Judging a batch: what the database has said about it goes in ([`Batch::new`] and the fields),
//! answers and what is to be written come out. No I/O, and each transaction sees what those before
//! it in the batch have done.

use crate::{
    Applied, ApplyError, Change, ChangeEvent, ClusterMeta, EventKind, Key, Lease, LeaseError, Op, Prior,
    Record, Revision, Transaction,
    lease::{LeaseOp, LeaseRow, judge},
};
use lattice_model::{Duration, RequestId};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// A row as the batch has it so far.
#[derive(Debug, Default)]
struct Slot {
    /// Whether the database has one.
    stored: bool,
    /// What it is without its body; `None`: absent.
    now: Option<Prior>,
    /// What the batch made of it; `None`: nothing.
    written: Option<Written>,
}

#[derive(Debug)]
enum Written {
    Put(Arc<Record>),
    Gone,
}

/// A batch on the state that the lock holds still.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) cluster: ClusterMeta,
    /// The revision before it.
    pub(super) base: Revision,
    head: Revision,
    /// By the database's clock, since 1970.
    now: Duration,
    // Ordered, so that two servers that lock rows lock them in one order.
    rows: BTreeMap<Key, Slot>,
    kept: HashMap<RequestId, Revision>,
    /// Those that the batch keeps, in order.
    keep: Vec<(RequestId, Revision)>,
    leases: HashMap<String, LeaseRow>,
    held: HashSet<String>,
    pub(super) changes: Vec<Arc<Change>>,
    raised: bool,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Writes<'a> {
    pub(super) insert: Vec<&'a Record>,
    pub(super) update: Vec<&'a Record>,
    pub(super) delete: Vec<&'a Key>,
    pub(super) log: Vec<(i64, &'a ChangeEvent)>,
    pub(super) keep: &'a [(RequestId, Revision)],
    pub(super) leases: Vec<(&'a str, &'a LeaseRow)>,
    pub(super) head: Revision,
    pub(super) incarnation: u64,
}

impl Batch {
    /// On the state after `base`.
    pub(super) fn new(cluster: ClusterMeta, base: Revision, now: Duration) -> Self {
        Self {
            cluster,
            base,
            head: base,
            now,
            rows: BTreeMap::new(),
            kept: HashMap::new(),
            keep: Vec::new(),
            leases: HashMap::new(),
            held: HashSet::new(),
            changes: Vec::new(),
            raised: false,
        }
    }

    /// A row that the database has.
    pub(super) fn row(&mut self, key: Key, prior: Prior) {
        self.rows.insert(key, Slot { stored: true, now: Some(prior), written: None });
    }

    /// A request id that the database has.
    pub(super) fn request(&mut self, id: RequestId, revision: Revision) {
        self.kept.insert(id, revision);
    }

    /// A lease that the database has. Its end is no further away than its length, however the
    /// clock was set.
    pub(super) fn lease(&mut self, name: String, row: LeaseRow) {
        let ends = row.ends.min(Duration(self.now.0.saturating_add(row.ttl.0)));
        self.leases.insert(name, LeaseRow { ends, ..row });
    }

    /// One that is held now, with its holder.
    pub(super) fn any_lease(&self) -> Option<(String, String)> {
        let mut live = self.leases.iter().filter(|(_, row)| row.live(self.now));
        live.next().map(|(name, row)| (name.clone(), row.holder.clone()))
    }

    /// What a lease is asked.
    pub(super) fn ask(&mut self, op: &LeaseOp) -> Result<Option<Lease>, LeaseError> {
        let (answer, row) = judge(op, self.leases.get(op.name()), self.now);
        if let Some(row) = row {
            self.held.insert(op.name().to_owned());
            self.leases.insert(op.name().to_owned(), row);
        }
        answer
    }

    /// A restore.
    pub(super) fn raise(&mut self) -> ClusterMeta {
        self.cluster.incarnation += 1;
        self.raised = true;
        self.cluster
    }

    /// One transaction.
    pub(super) fn apply(&mut self, transaction: &Transaction) -> Result<Applied, ApplyError> {
        let Transaction { request, guard, ops } = transaction;
        if let Some(revision) = request.and_then(|id| self.kept.get(&id)) {
            return Ok(Applied { revision: *revision, replayed: true });
        }
        if let Some(guard) = guard {
            let live = self.leases.get(&guard.lease).filter(|row| row.live(self.now));
            let actual = live.map(|row| row.epoch);
            if actual != Some(guard.epoch) {
                let (lease, epoch) = (guard.lease.clone(), guard.epoch);
                return Err(ApplyError::Fenced { lease, epoch, actual });
            }
        }
        for op in ops {
            let now = self.rows.get(op.key()).and_then(|slot| slot.now.as_ref());
            op.judge(now.map(|prior| prior.revision))?;
        }
        let revision = self.head.next();
        let events: Vec<_> = ops.iter().filter_map(|op| self.write(op, revision)).collect();
        if events.is_empty() {
            return Ok(Applied { revision: self.head, replayed: false });
        }
        if let Some(request) = request {
            self.kept.insert(*request, revision);
            self.keep.push((*request, revision));
        }
        self.head = revision;
        self.changes.push(Arc::new(Change { revision, events }));
        Ok(Applied { revision, replayed: false })
    }

    fn write(&mut self, op: &Op, revision: Revision) -> Option<ChangeEvent> {
        let key = op.key().clone();
        let old = self.rows.get(&key).and_then(|slot| slot.now.clone());
        let created = old.as_ref().map_or(revision, |prior| prior.created);
        let (project, owner, body) = match (op, &old) {
            (Op::Create { project, owner, body, .. } | Op::Put { project, owner, body, .. }, _) => {
                (project.clone(), owner.clone(), Arc::clone(body))
            }
            (Op::Update { body, .. }, Some(prior)) => {
                (prior.project.clone(), prior.owner.clone(), Arc::clone(body))
            }
            (Op::Delete { .. }, Some(prior)) => {
                let kind = EventKind::Delete(prior.clone());
                let slot = self.rows.entry(key.clone()).or_default();
                (slot.now, slot.written) = (None, Some(Written::Gone));
                return Some(ChangeEvent { key, kind });
            }
            // Judging refused the first; the others change nothing.
            (Op::Update { .. } | Op::Delete { .. }, None) | (Op::Check { .. }, _) => return None,
        };
        let prior = Prior { revision, created, project: project.clone(), owner: owner.clone() };
        let record = Arc::new(Record { key: key.clone(), revision, created, project, owner, body });
        let slot = self.rows.entry(key.clone()).or_default();
        (slot.now, slot.written) = (Some(prior), Some(Written::Put(Arc::clone(&record))));
        Some(ChangeEvent { key, kind: EventKind::Put(record) })
    }

    /// What there is to write; `None`: nothing.
    pub(super) fn writes(&self) -> Option<Writes<'_>> {
        if self.changes.is_empty() && self.held.is_empty() && !self.raised {
            return None;
        }
        let mut writes = Writes {
            keep: &self.keep,
            head: self.head,
            incarnation: self.cluster.incarnation,
            ..Writes::default()
        };
        for (key, slot) in &self.rows {
            match (&slot.written, slot.stored) {
                (Some(Written::Put(record)), true) => writes.update.push(record),
                (Some(Written::Put(record)), false) => writes.insert.push(record),
                (Some(Written::Gone), true) => writes.delete.push(key),
                // Made and deleted in one batch, or only read.
                (Some(Written::Gone), false) | (None, _) => {}
            }
        }
        for change in &self.changes {
            let first = super::read::position(change.revision);
            writes.log.extend((first..).zip(&change.events));
        }
        writes.leases =
            self.held.iter().filter_map(|name| Some((name.as_str(), self.leases.get(name)?))).collect();
        Some(writes)
    }
}
