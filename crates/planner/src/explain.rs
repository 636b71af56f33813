//! Why the replicas of a workload are where they are, and where another one would go: [`explain`].

use crate::{
    ask::Ask,
    cluster::Cluster,
    group::groups,
    home::{Home, home_of},
    ledger::Ledger,
    planning::Planning,
    policy::Policy,
};
use lattice_model::{AllocationId, Timestamp, WorkloadKey, resource::Intent};
use lattice_scheduler::{Refusal, fleet::Account};

/// The most allocations of a workload that are explained.
const MOST: usize = 100;

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explained {
    /// Why all of it is bound to a node, where that is so.
    pub bound: Option<String>,
    /// Where one more replica would go, or why nowhere.
    pub another: Account,
    /// For each that is there: what the nodes are to it, without itself.
    pub allocations: Vec<(AllocationId, Account)>,
}

/// Explains a workload; none where there is no such.
pub fn explain(
    ledger: &mut Ledger,
    cluster: &Cluster,
    policy: &Policy,
    now: Timestamp,
    key: &WorkloadKey,
) -> Option<Explained> {
    let workload = cluster.workloads().get(key)?;
    // Nothing is placed, so nothing is named.
    let mut random = || 0;
    let planning = Planning::new(ledger, cluster, policy, now, &mut random);
    let all = groups(cluster.workloads_of(&key.stack_key()).map(|row| &*row.value));
    let group = all.into_iter().find(|group| group.iter().any(|one| one.key == *key))?;
    let (bound, only) = match home_of(&planning, &group) {
        Home::Pinned(node, why) => (Some(format!("{}: {why}", planning.name(node))), Some(node)),
        Home::Away { why, .. } | Home::Blocked { why, .. } | Home::Full { why, .. } => (Some(why), None),
        Home::Free | Home::Each => (None, None),
    };
    let ask = planning.ledger().ask(workload);
    let account = |ask: &Ask, leaves: Option<AllocationId>| {
        let accepts = |node| match only {
            Some(home) if home != node => Err(Refusal::Pinned),
            _ => Ok(()),
        };
        match planning.find(ask, leaves, &accepts) {
            Ok(found) => found.account,
            Err(account) => Account { changes: planning.ledger().would_do(ask), ..*account },
        }
    };
    let there = cluster.allocations_of(key).filter(|row| row.intent != Intent::Remove).take(MOST);
    let allocations = there.map(|row| (row.id, account(&ask, Some(row.id)))).collect();
    Some(Explained { bound, another: account(&ask, None), allocations })
}
