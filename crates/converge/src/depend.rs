//! What an allocation waits for of other services, and what it follows.

use crate::decide::Case;
use lattice_model::{
    AllocationId, GoalAllocation, WorkloadName,
    report::{AllocationState, AllocationStatus, Health},
    spec::DependencyCondition,
};
use std::collections::BTreeMap;

impl Case<'_> {
    /// The first dependency that is not met, in words.
    pub(crate) fn unmet_dependency(&self) -> Option<String> {
        let stack = self.wanted.workload.stack_key();
        self.wanted.spec.depends_on.iter().find_map(|(name, dependency)| {
            let key = stack.workload(name.clone());
            let statuses: Vec<Option<&AllocationStatus>> = self
                .goal
                .allocations
                .iter()
                .filter(|(_, other)| other.workload == key)
                .map(|(id, _)| self.reconciler.tracked.get(id).and_then(|t| t.record.reported.as_ref()))
                .collect();
            if statuses.is_empty() {
                return dependency
                    .required
                    .then(|| format!("waits for {name}, which has no replica on this machine"));
            }
            let all = |met: &dyn Fn(&AllocationStatus) -> bool| {
                statuses.iter().all(|status| status.is_some_and(met))
            };
            let ran = |s: &AllocationStatus| {
                s.state == AllocationState::Running || s.state == AllocationState::Completed
            };
            match dependency.condition {
                DependencyCondition::ServiceStarted if all(&ran) => None,
                DependencyCondition::ServiceStarted => Some(format!("waits for {name} to start")),
                DependencyCondition::ServiceHealthy if all(&|s| s.health == Health::Healthy) => None,
                DependencyCondition::ServiceHealthy
                    if all(&|s| s.state == AllocationState::Running && s.health == Health::None) =>
                {
                    Some(format!(
                        "waits for {name} to be healthy, but {name} has no health check; give it one"
                    ))
                }
                DependencyCondition::ServiceHealthy => Some(format!("waits for {name} to be healthy")),
                DependencyCondition::ServiceCompletedSuccessfully
                    if all(&|s| s.state == AllocationState::Completed) =>
                {
                    None
                }
                DependencyCondition::ServiceCompletedSuccessfully => {
                    Some(format!("waits for {name} to end with exit code 0"))
                }
            }
        })
    }

    fn replicas(&self, name: &WorkloadName) -> impl Iterator<Item = (&AllocationId, &GoalAllocation)> {
        let key = self.wanted.workload.stack_key().workload(name.clone());
        self.goal.allocations.iter().filter(move |(_, other)| other.workload == key)
    }

    /// The services that it follows, as they are wanted now.
    fn follows(&self) -> BTreeMap<WorkloadName, BTreeMap<u32, (AllocationId, u64)>> {
        let follows = self.wanted.spec.depends_on.iter().filter(|(_, dependency)| dependency.restart);
        let slots = |name: &WorkloadName| {
            let slot = |(id, other): (&AllocationId, &GoalAllocation)| {
                let of_its_own = self.reconciler.tracked.get(id).map_or(0, |t| t.record.following);
                (other.slot, (*id, other.restart + of_its_own))
            };
            self.replicas(name).map(slot).collect()
        };
        follows.map(|(name, _)| (name.clone(), slots(name))).collect()
    }

    /// A service that it follows and that was restarted or replaced since it was started. More or
    /// fewer replicas are neither.
    pub(crate) fn moved_dependency(&self) -> Option<WorkloadName> {
        self.follows().into_iter().find_map(|(name, slots)| {
            let before = self.record.followed.get(&name)?;
            let moved = slots.iter().any(|(slot, now)| before.get(slot).is_some_and(|then| then != now));
            moved.then_some(name)
        })
    }

    /// Remembers them as they are. A slot that is empty now is kept: who fills it is another one.
    pub(crate) fn note_dependencies(&mut self) {
        let mut before = std::mem::take(&mut self.record.followed);
        for (name, slots) in self.follows() {
            let mut known = before.remove(&name).unwrap_or_default();
            known.extend(slots);
            self.record.followed.insert(name, known);
        }
    }

    /// Whether every replica has been restarted as it was asked for, and runs.
    pub(crate) fn have_come_back(&self, name: &WorkloadName) -> bool {
        self.replicas(name).all(|(id, other)| {
            self.reconciler.tracked.get(id).is_some_and(|tracked| {
                let record = &tracked.record;
                tracked.busy.is_none() && !record.stopped && record.honoured_restart >= other.restart
            })
        })
    }
}
