//! What the batcher is asked, and where the answers go.

use super::batch::Batch;
use crate::{
    Applied, ApplyError, ClusterMeta, ImportError, Key, Lease, LeaseError, Op, Revision, StoreDump,
    StoreError, Transaction, lease::LeaseOp,
};
use lattice_model::RequestId;
use std::collections::BTreeSet;
use tokio::sync::oneshot;
use uuid::Uuid;

/// What the batcher is asked, with where the answer goes.
pub(super) enum Command {
    Apply(Transaction, oneshot::Sender<Result<Applied, ApplyError>>),
    Lease(LeaseOp, oneshot::Sender<Result<Option<Lease>, LeaseError>>),
    RaiseIncarnation(oneshot::Sender<Result<ClusterMeta, StoreError>>),
    Compact(Revision, oneshot::Sender<Result<Revision, StoreError>>),
    Import(StoreDump, oneshot::Sender<Result<(), ImportError>>),
    Stop(oneshot::Sender<()>),
}

/// An answer, before it is known to be durable.
pub(super) enum Output {
    Applied(Result<Applied, ApplyError>),
    Lease(Result<Option<Lease>, LeaseError>),
    Cluster(ClusterMeta),
    /// Answered by itself.
    Nothing,
}

/// What a batch has to read, each once and in one order for all servers.
#[derive(Default)]
pub(super) struct Asked<'a> {
    pub(super) kinds: Vec<&'a str>,
    pub(super) ids: Vec<&'a str>,
    pub(super) requests: Vec<Uuid>,
    pub(super) leases: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(commands: &'a [Command]) -> Self {
        let (mut keys, mut requests, mut leases) =
            (BTreeSet::<&Key>::new(), BTreeSet::<RequestId>::new(), BTreeSet::new());
        for command in commands {
            match command {
                Command::Apply(transaction, _) => {
                    let Transaction { request, guard, ops } = transaction;
                    keys.extend(ops.iter().map(Op::key));
                    requests.extend(request);
                    leases.extend(guard.iter().map(|guard| guard.lease.as_str()));
                }
                Command::Lease(op, _) => drop(leases.insert(op.name())),
                Command::RaiseIncarnation(_)
                | Command::Compact(..)
                | Command::Import(..)
                | Command::Stop(_) => {}
            }
        }
        Self {
            kinds: keys.iter().map(|key| key.kind.as_str()).collect(),
            ids: keys.iter().map(|key| &*key.id).collect(),
            requests: requests.into_iter().map(RequestId::uuid).collect(),
            leases: leases.into_iter().collect(),
        }
    }
}

impl Command {
    /// What comes of it in a batch.
    pub(super) fn judge(&self, batch: &mut Batch) -> Output {
        match self {
            Self::Apply(transaction, _) => Output::Applied(batch.apply(transaction)),
            Self::Lease(op, _) => Output::Lease(batch.ask(op)),
            Self::RaiseIncarnation(_) => Output::Cluster(batch.raise()),
            Self::Compact(..) | Self::Import(..) | Self::Stop(_) => Output::Nothing,
        }
    }

    /// Nobody hears it when the asker has gone; what was done stays done.
    pub(super) fn answer(self, output: Output) {
        match (self, output) {
            (Self::Apply(_, reply), Output::Applied(answer)) => drop(reply.send(answer)),
            (Self::Lease(_, reply), Output::Lease(answer)) => drop(reply.send(answer)),
            (Self::RaiseIncarnation(reply), Output::Cluster(answer)) => drop(reply.send(Ok(answer))),
            _ => {}
        }
    }

    pub(super) fn fail(self, error: &StoreError) {
        let error = error.clone();
        match self {
            Self::Apply(_, reply) => drop(reply.send(Err(error.into()))),
            Self::Lease(_, reply) => drop(reply.send(Err(error.into()))),
            Self::RaiseIncarnation(reply) => drop(reply.send(Err(error))),
            Self::Compact(_, reply) => drop(reply.send(Err(error))),
            Self::Import(_, reply) => drop(reply.send(Err(error.into()))),
            Self::Stop(reply) => drop(reply.send(())),
        }
    }
}
