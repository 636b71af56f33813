//! Trees of files: fetched before the first container that mounts one, kept for a while after the last.

use crate::{
    reconciler::Reconciler,
    words::{Effect, Operation},
};
use lattice_model::{Duration, Goal, Timestamp, spec::TreeDigest};
use std::collections::{BTreeMap, BTreeSet};

/// How long a tree stays that nothing mounts: whoever goes back to it soon need not fetch it again.
const KEEP: Duration = Duration::from_secs(3600);

/// What is remembered of trees besides which are there.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    /// Unpacked since the last listing: the next one may have begun before, and lack them.
    made: BTreeSet<TreeDigest>,
    /// Since when nothing mounts them.
    unused: BTreeMap<TreeDigest, Timestamp>,
}

impl Trees {
    /// What is there after a listing.
    pub(crate) fn listed(&mut self, listed: BTreeSet<TreeDigest>) -> BTreeSet<TreeDigest> {
        listed.into_iter().chain(std::mem::take(&mut self.made)).collect()
    }

    /// When the next one is to be removed.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        self.unused.values().min().map(|since| *since + KEEP)
    }
}

impl Reconciler {
    pub(crate) fn tree_arrived(&mut self, tree: TreeDigest) {
        self.trees.made.insert(tree);
        if let Some(view) = &mut self.view {
            view.trees.insert(tree);
        }
    }

    pub(crate) fn tree_left(&mut self, tree: TreeDigest) {
        self.trees.made.remove(&tree);
        self.trees.unused.remove(&tree);
        if let Some(view) = &mut self.view {
            view.trees.remove(&tree);
        }
    }

    /// Does not wait for the pause after a failure.
    pub(crate) fn retry_trees(&mut self, now: Timestamp, which: impl Fn(&TreeDigest) -> bool) {
        let wanted = |subject: &str| subject.strip_prefix("tree ").and_then(|digest| digest.parse().ok());
        for (subject, trouble) in &mut self.troubles {
            if wanted(subject).is_some_and(|tree| which(&tree)) {
                trouble.retry_at = now;
            }
        }
    }

    /// Trees that nothing mounts any more. What leaves may still have one mounted, so nothing is
    /// removed before it has left.
    pub(crate) fn surplus_trees(&mut self, goal: &Goal, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        let leaving = view.containers.keys().any(|id| !goal.allocations.contains_key(id));
        let mounts = goal.allocations.values().flat_map(|allocation| &allocation.spec.trees);
        let used: BTreeSet<TreeDigest> = mounts.map(|mount| mount.tree).collect();
        let unused: Vec<TreeDigest> = view.trees.difference(&used).copied().collect();
        self.trees.unused.retain(|tree, _| view.trees.contains(tree) && !used.contains(tree));
        for tree in unused {
            let since = *self.trees.unused.entry(tree).or_insert(now);
            if !leaving && since + KEEP <= now {
                self.launch(Operation::RemoveTree { tree }, now, effects);
            }
        }
    }
}
