//! What gives way when the machine is short of something: its owner's programs come first.
//!
//! *Disk*: no image and no files are fetched. *Memory*: one allocation after the other is evicted, that of the
//! lowest priority first, among equals the one that is furthest over what was set aside for it. A job that
//! may not be started again is left alone: the kernel takes it where nothing else helps. An evicted one is started
//! again when there is memory again and its time is over, a minute after the first eviction and twice as long
//! after each further one, half an hour at the most; unless the server, which is told, placed it elsewhere.

use crate::{
    decide::{Case, Next, is},
    reconciler::Reconciler,
};
use lattice_model::{
    AllocationId, Bytes, Duration, Timestamp,
    container::{ContainerSeen, ContainerState},
    goal::DesiredState,
    report::{AllocationState, AllocationStatus},
    spec::RestartPolicy,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest that an evicted container may take to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long the first eviction lasts, at least.
const FIRST: Duration = Duration::from_secs(60);
/// How long any lasts at least, at the most.
const LONGEST: Duration = Duration::from_secs(1800);

/// What the machine is short of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Disk space; the sentence of its condition.
    pub disk: Option<String>,
    /// Memory; the sentence of its condition.
    pub memory: Option<String>,
    /// Whether somebody has to make way for want of memory.
    pub evict: bool,
    /// What each container uses of memory, where that was asked.
    pub used: BTreeMap<AllocationId, Bytes>,
}

/// That an allocation had to make way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eviction {
    /// Why, in a sentence.
    pub why: String,
    /// It is not started again before.
    pub until: Timestamp,
}

impl Reconciler {
    /// Takes in what the machine is short of, and evicts where it has to.
    pub(crate) fn take_pressure(&mut self, pressure: Pressure, now: Timestamp) {
        if let Some(why) = pressure.memory.as_ref().filter(|_| pressure.evict)
            && let Some((id, over)) = self.victim(&pressure.used)
            && let Some(tracked) = self.tracked.get_mut(&id)
        {
            let times = tracked.record.evictions;
            let pause = Duration((FIRST.0 << times.min(10)).min(LONGEST.0));
            let over = match over {
                Bytes(0) => String::new(),
                over => format!(", and it uses {over} more than was set aside for it"),
            };
            tracked.record.evictions = times.saturating_add(1);
            tracked.record.evicted = Some(Eviction {
                why: format!("it made way since this machine needs its memory: {why}{over}"),
                until: now + pause,
            });
        }
        self.pressure = Pressure { evict: false, used: BTreeMap::new(), ..pressure };
    }

    /// Who goes next, and by how much it is over what was set aside for it; nobody while one is on its way.
    fn victim(&self, used: &BTreeMap<AllocationId, Bytes>) -> Option<(AllocationId, Bytes)> {
        let (_, goal) = self.goal.as_ref()?;
        let view = self.view.as_ref()?;
        let runs = |id: &AllocationId| {
            view.containers
                .get(id)
                .is_some_and(|all| all.values().any(|seen| seen.state == ContainerState::Running))
        };
        let leaving =
            |id: &AllocationId| self.tracked.get(id).is_some_and(|tracked| tracked.record.evicted.is_some());
        if view.containers.keys().any(|id| leaving(id) && runs(id)) {
            return None;
        }
        goal.allocations
            .iter()
            .filter(|(id, wanted)| {
                wanted.desired == DesiredState::Run
                    && wanted.spec.restart != RestartPolicy::Never
                    && runs(id)
                    && !leaving(id)
                    && self.tracked.get(id).is_some_and(|tracked| tracked.busy.is_none())
            })
            .map(|(id, wanted)| {
                let (_, reserved) = wanted.spec.resources.reserved();
                let over = used.get(id).map_or(0, |used| used.0.saturating_sub(reserved.0));
                (wanted.spec.placement.priority, std::cmp::Reverse(over), *id)
            })
            .min()
            .map(|(_, over, id)| (id, Bytes(over.0)))
    }

    /// When somebody who was evicted may be started again, should there be memory then.
    pub(crate) fn eviction_ends(&self) -> impl Iterator<Item = Timestamp> {
        self.tracked.values().filter_map(|tracked| Some(tracked.record.evicted.as_ref()?.until))
    }
}

impl Case<'_> {
    /// What becomes of one that was evicted, as long as that lasts.
    pub(crate) fn evicted(
        &mut self,
        seen: Option<&ContainerSeen>,
        runs: bool,
    ) -> Option<(Next, AllocationStatus)> {
        let eviction = self.record.evicted.clone()?;
        let over = self.now >= eviction.until && self.reconciler.pressure.memory.is_none();
        if over || self.wanted.desired != DesiredState::Run {
            self.record.evicted = None;
            return None;
        }
        // It is no end of its own: it goes on once it may again.
        self.record.stopped = true;
        Some(match seen.filter(|_| runs) {
            Some(seen) => {
                let grace = self.wanted.spec.stop_grace_period.min(GRACE);
                (self.stop_within(seen, grace), displaced(AllocationState::Stopping, &eviction.why))
            }
            None => (Next::Nothing, displaced(AllocationState::BackingOff, &eviction.why)),
        })
    }

    /// What to say instead of fetching something, while the disk is full.
    pub(crate) fn no_room(&self, what: &str) -> Option<(Next, AllocationStatus)> {
        let why = self.reconciler.pressure.disk.as_ref()?;
        let why = format!("{what} is not fetched while this machine is short of disk space: {why}");
        Some((Next::Nothing, displaced(AllocationState::Waiting, &why)))
    }
}

/// A status that asks for another place.
fn displaced(state: AllocationState, why: &str) -> AllocationStatus {
    AllocationStatus { displaced: true, ..is(state).because(why) }
}
