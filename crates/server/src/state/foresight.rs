//! What the planner is told that no row of the cluster says: whether nodes will stay, and how they rank. [`Foresight`] looks at their histories once a
//! minute, in coarse steps and with a dead band, so that plans do not flutter; and keeps a [`Ledger`] for those who ask
//! what a plan would be, so that it need not be made anew for each.

use super::Snapshot;
use imbl::OrdMap;
use lattice_model::{Duration, NodeId, Timestamp, resource::PresenceState};
use lattice_planner::{Cluster, Ledger, Outlook};
use parking_lot::{Mutex, MutexGuard};

/// How old an outlook may be.
const EVERY: Duration = Duration::from_secs(60);
/// The step of a chance, in percent.
const STEP: u8 = 5;

/// What is expected of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Foresight {
    known: Mutex<(Option<Timestamp>, OrdMap<NodeId, Outlook>)>,
    ledger: Mutex<Ledger>,
}

impl Foresight {
    /// The cluster with what is expected of its nodes.
    pub(crate) fn on(&self, snapshot: &Snapshot, now: Timestamp) -> Cluster {
        let mut known = self.known.lock();
        let (at, outlooks) = &mut *known;
        if at.is_none_or(|at| now.since(at) >= EVERY || at > now) {
            *outlooks = look(snapshot, outlooks, now);
            *at = Some(now);
        }
        let mut cluster = snapshot.cluster.clone();
        cluster.outlooks = outlooks.clone();
        cluster
    }

    /// For questions: what would be planned.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }
}

fn look(snapshot: &Snapshot, known: &OrdMap<NodeId, Outlook>, now: Timestamp) -> OrdMap<NodeId, Outlook> {
    let mut found = OrdMap::new();
    for node in snapshot.cluster.nodes.values() {
        let there = node.presence.state == PresenceState::Connected && !node.standing.stands_still();
        let Some(row) = snapshot.availability.get(&node.id).filter(|_| there) else { continue };
        let Some(outlook) = row.track.outlook(&snapshot.population, now) else { continue };
        let outlook = outlook.leaving(node.standing.until);
        let before = known.get(&node.id);
        let (rank, gpu_rank) = snapshot
            .identities
            .get(&node.id)
            .and_then(|identity| snapshot.ranking.get(&identity.fingerprint))
            .map_or((0, 0), |row| (row.weight, row.weight_gpu));
        let leaves = node.standing.until.map(hour_of_week);
        let mut next = Outlook { leaves, rank, gpu_rank, ..Outlook::default() };
        for (at, minutes) in Outlook::TIMES.into_iter().enumerate() {
            let chance = outlook.stays(Duration::from_secs(u64::from(minutes) * 60));
            next.stays[at] = coarse(chance, before.map(|before| before.stays[at]));
        }
        found.insert(node.id, next);
    }
    // What did not change is shared, so that nobody looks at it again.
    if found == *known { known.clone() } else { found }
}

/// A chance in steps; what moves by less than a step stays where it was.
fn coarse(chance: f64, before: Option<u8>) -> u8 {
    let percent = (chance.clamp(0.0, 1.0) * 100.0) as u8;
    match before {
        Some(before) if before.abs_diff(percent) < STEP => before,
        _ => percent / STEP * STEP,
    }
}

/// The hour of the week, in UTC; 0 is the first of a Monday.
fn hour_of_week(at: Timestamp) -> u8 {
    // The epoch was a Thursday.
    ((at.0.div_euclid(3_600_000) + 3 * 24).rem_euclid(168)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_moves_in_steps_and_does_not_flutter() {
        assert_eq!((coarse(0.97, None), coarse(1.0, None), coarse(0.0, None)), (95, 100, 0));
        assert_eq!((coarse(0.91, Some(95)), coarse(0.99, Some(95)), coarse(0.89, Some(95))), (95, 95, 85));
        assert_eq!(hour_of_week(Timestamp(0)), 72);
        // 2026-11-23, a Monday, 17:00 UTC.
        assert_eq!(hour_of_week(Timestamp(1_795_453_200_000)), 17);
    }
}
