//! Which version each slot is to have while a new one takes over.
//!
//! States of an update: *by turns* (every slot is to have the new version), *on trial* (a canary, or the whole set of
//! a blue-green update, runs beside the old ones, which go on until it is promoted), *paused* by a person (each slot
//! keeps the version that it has). A slot that is held back keeps its replica, and one that has to be placed anew
//! gets the former version again, so that a lost node makes no trial larger.
//!
//! Nothing of this is stored but what somebody decided ([`Rollout`](lattice_model::resource::Rollout)): who is on trial follows from what is there.

use crate::{
    cluster::{Cluster, Row},
    home::is_connected,
    progress::{policy_of, settles_at},
    rollout::{former, wanted_replicas},
    slots::{is_available, is_current, slots},
};
use lattice_model::{
    Duration, Timestamp,
    resource::{Allocation, Superseded, Workload},
    spec::{BlueGreen, Canary, Mode, Promote, Share, UpdateStrategy},
};
use std::collections::BTreeSet;

/// What is tried beside the old ones, and on what it is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) first: Share,
    pub(crate) bake: Duration,
    pub(crate) promote: Promote,
}

/// The terms of a trial, while the new version is on trial.
pub(crate) fn terms_of(workload: &Workload) -> Option<Terms> {
    let promoted = workload.present_rollout().is_some_and(|rollout| rollout.promoted.is_some());
    if !workload.is_under_way() || promoted {
        return None;
    }
    match policy_of(workload).strategy {
        UpdateStrategy::Rolling => None,
        UpdateStrategy::Canary(Canary { first, bake, promote }) => Some(Terms { first, bake, promote }),
        UpdateStrategy::BlueGreen(BlueGreen { bake, promote, keep: _ }) => {
            Some(Terms { first: Share::Percent(100), bake, promote })
        }
    }
}

/// Until when the old set of a blue-green update is kept; `None` where none is.
pub fn kept_until(workload: &Workload) -> Option<Timestamp> {
    let at = workload.present_rollout()?.promoted?;
    match policy_of(workload).strategy {
        UpdateStrategy::BlueGreen(BlueGreen { keep, .. }) if keep.0 > 0 => Some(at + keep),
        _ => None,
    }
}

/// Which slots are to have which version.
#[derive(Clone, Debug)]
pub(crate) struct Versions {
    /// The slots that may have the new version; `None` is all.
    new: Option<BTreeSet<u32>>,
    /// Whether the new version is on trial.
    trial: bool,
    /// Whether a person holds the rollout where it is.
    paused: bool,
    /// The version before, as a workload, where it is kept and what it needs is there.
    former: Option<Workload>,
}

impl Versions {
    pub(crate) fn of(cluster: &Cluster, workload: &Workload) -> Self {
        let terms = terms_of(workload);
        let paused = workload.is_under_way()
            && workload.present_rollout().is_some_and(|rollout| rollout.paused.is_some());
        let trial = terms.is_some();
        let new = match (terms, paused) {
            (None, false) => None,
            (_, true) => Some(who(cluster, workload, 0)),
            (Some(terms), false) => {
                let wanted = wanted_replicas(cluster, workload);
                Some(who(cluster, workload, terms.first.of(wanted) as usize))
            }
        };
        let former = new.as_ref().and_then(|_| before(cluster, workload));
        Self { new, trial, paused, former }
    }

    /// Whether a slot keeps the version that it has.
    pub(crate) fn holds(&self, slot: u32) -> bool {
        self.new.as_ref().is_some_and(|new| !new.contains(&slot))
    }

    /// Whether the old ones beside the new ones go on, whatever the new ones do.
    pub(crate) const fn keeps_both(&self) -> bool {
        self.trial || self.paused
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) const fn is_trial(&self) -> bool {
        self.trial
    }

    /// The slots on trial, where there is a trial that goes on.
    pub(crate) fn on_trial(&self) -> Option<&BTreeSet<u32>> {
        self.new.as_ref().filter(|_| self.trial && !self.paused)
    }

    /// What a slot is to run.
    pub(crate) fn target<'a>(&'a self, workload: &'a Workload, slot: u32) -> &'a Workload {
        match &self.former {
            Some(former) if self.holds(slot) => former,
            _ => workload,
        }
    }

    /// Whether a replica has the version that its slot is to have. What is held back and serves is left alone,
    /// whichever former version it is.
    pub(crate) fn is_right(&self, workload: &Workload, row: &Allocation) -> bool {
        let held = self.holds(row.slot);
        is_current(self.target(workload, row.slot), row) || (held && row.status.is_serving())
    }
}

/// The slots that have the new version, and as many besides as make `most`: first those whose old one would be beside
/// it. Nodes that are away are not waited for.
fn who(cluster: &Cluster, workload: &Workload, most: usize) -> BTreeSet<u32> {
    let all = slots(cluster, &workload.key);
    let own = |slot: &u32| all.get(slot).and_then(|there| there.own.as_ref());
    let wanted: Vec<u32> = match workload.spec.mode {
        Mode::Replicated => (1..=workload.replicas).collect(),
        Mode::Global => all.keys().copied().collect(),
    };
    let has = |slot: &&u32| own(slot).is_some_and(|row| is_current(workload, row));
    let mut new: BTreeSet<u32> = wanted.iter().filter(has).copied().collect();
    let may = |slot: &&u32| own(slot).is_none_or(|row| is_connected(cluster, row.node));
    let mut others: Vec<u32> = wanted.iter().filter(|slot| !has(slot) && may(slot)).copied().collect();
    others.sort_by_key(|slot| (own(slot).is_none(), *slot));
    let more = most.saturating_sub(new.len());
    new.extend(others.into_iter().take(more));
    new
}

/// The version that came up last, as a workload, where it could still be run.
fn before(cluster: &Cluster, workload: &Workload) -> Option<Workload> {
    let kept = former(cluster, &workload.key, workload.settled)?;
    let stack = workload.key.stack_key();
    let networks = cluster.stacks.get(&stack).map(|row| &row.networks);
    let there = kept.spec.networks.keys().all(|name| networks.is_none_or(|all| all.contains_key(name)))
        && kept.spec.mounts.iter().all(|m| cluster.volumes.contains_key(&stack.volume(m.volume.clone())));
    there.then(|| Workload {
        spec: kept.spec,
        generation: kept.generation,
        alike: Vec::new(),
        rolled_back: None,
        ..workload.clone()
    })
}

/// How the trial of a new version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The slots in which it is tried.
    pub slots: BTreeSet<u32>,
    /// How many of them serve.
    pub serving: u32,
    /// When it has been baked, where all of them serve.
    pub baked_at: Option<Timestamp>,
    /// How long it is to be.
    pub bake: Duration,
    /// Who lets it take over.
    pub promote: Promote,
    /// Whether nothing old is left that it could be tried against.
    pub(crate) alone: bool,
}

/// How the trial of a new version stands; `None` where none is going on.
pub fn trial(cluster: &Cluster, workload: &Workload) -> Option<Trial> {
    let terms = terms_of(workload)?;
    let policy = policy_of(workload);
    let chosen = who(cluster, workload, terms.first.of(wanted_replicas(cluster, workload)) as usize);
    let all = slots(cluster, &workload.key);
    let new = |slot: &u32| {
        let own = all.get(slot).and_then(|there| there.own.as_ref());
        own.filter(|row| is_current(workload, row) && is_available(cluster, row))
    };
    let serving: Vec<&Row<Allocation>> = chosen.iter().filter_map(new).collect();
    let baked_at = match serving.len() == chosen.len() && !chosen.is_empty() {
        true => serving.iter().filter_map(|row| settles_at(row, terms.bake.max(policy.monitor))).max(),
        false => None,
    };
    let old = |there: &crate::slots::Slot| {
        there.own.as_ref().is_some_and(|row| !is_current(workload, row))
            || there
                .aside
                .iter()
                .any(|row| row.superseded == Some(Superseded::Handover) && !is_current(workload, row))
    };
    Some(Trial {
        serving: u32::try_from(serving.len()).unwrap_or(u32::MAX),
        baked_at,
        bake: terms.bake,
        promote: terms.promote,
        alone: !all.values().any(old),
        slots: chosen,
    })
}
